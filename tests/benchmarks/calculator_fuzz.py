"""Differential fuzz of the calculator: what it answers must be right, and it raises nothing but its refusal.

    python tests/benchmarks/calculator_fuzz.py [COUNT=1000000] [START=0]

Case n is made from the seed n, so a run goes on where another stopped. Values come from fractions and from mpmath with
60 digits; `calculator_reader.py` reads mutated strings without the calculator's parser.
"""

from __future__ import annotations

import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

import mpmath
from calculator_reader import (
    FUNCTIONS,
    Undefined,
    Value,
    difference,
    power,
    product,
    quotient,
    read,
    real,
    remainder,
    total,
)

from agentkit.errors import ToolError
from agentkit.tools.calculator import calculate

DIGITS = 60
CLOSE = mpmath.mpf("1e-9")  # of what rounding is known to have touched
EXACT = Fraction(1, 10**15)

DEPTHS = (3, 2, 2, 1, 1, 1)
SUM, PRODUCT, SIGNED, POWER, ATOM = range(1, 6)


class Case(NamedTuple):
    """A text and its value; None where only a refusal is right. `strength`: how tightly the text holds together."""

    text: str
    value: Value | None
    strength: int = ATOM


def bracketed(case: Case, least: int) -> str:
    return case.text if case.strength >= least else f"({case.text})"


def computed(function: Callable[..., Value], *parts: Case) -> Value | None:
    values = [part.value for part in parts]
    try:
        return None if None in values else function(*values)
    except (Undefined, ZeroDivisionError, OverflowError, ValueError):
        return None


# -- expressions -----------------------------------------------------------------------------------------------------

SIGNS = {
    "+": ("+", " + ", " plus "), "-": ("-", " - ", "−", " – ", " minus "),
    "*": ("*", " * ", "×", "·", " x ", " times ", r" \times "), "/": ("/", " / ", "÷", " divided by ", " over "),
    "^": ("^", "**", " ^ ", " to the power of "), "//": ("//", " // "), "mod": (" mod ", " mod ", " modulo "),
}  # fmt: skip
COMBINED = {"+": total, "-": difference, "*": product, "/": quotient, "^": power, "mod": remainder,
            "//": lambda a, b: FUNCTIONS["floor"](quotient(a, b))}  # fmt: skip
STRENGTHS = {"+": SUM, "-": SUM, "^": POWER}
SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
VULGAR = {"½": (1, 2), "¼": (1, 4), "¾": (3, 4), "⅓": (1, 3), "⅔": (2, 3), "⅕": (1, 5), "⅛": (1, 8)}
SMALL = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
seventeen eighteen nineteen""".split()
TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()


def spelled(number: int, rng: random.Random) -> str:
    if number < 20:
        return SMALL[number]
    if number < 100:
        return TENS[number // 10] + (rng.choice("- ") + SMALL[number % 10] if number % 10 else "")
    size, name = (1000, "thousand") if number >= 1000 else (100, "hundred")
    rest = spelled(number % size, rng)
    joined = " and " if number % size < 100 and rng.random() < 0.5 else " "
    return f"{spelled(number // size, rng)} {name}" + (joined + rest if number % size else "")


def number(rng: random.Random, words: bool = True) -> Case:
    whole = rng.choice((rng.randint(0, 12), rng.randint(0, 999), rng.randint(0, 10**7)))
    match rng.randint(0, 11) if words else rng.choice((0, 2, 3, 4, 6, 9)):
        case 0 | 1:
            text = f"{whole}.{rng.randint(0, 999):03}"
            return Case(text, Fraction(text))
        case 2:
            text = f"{rng.randint(1, 99)}{rng.choice(('', '.5'))}e{rng.choice(('', '-', '+'))}{rng.randint(0, 25)}"
            return Case(text, Fraction(text))
        case 3:
            return Case(rng.choice((f"{whole:,}", f"{whole:_}")), Fraction(whole))
        case 4:
            return Case(f"{whole}%", Fraction(whole, 100))
        case 5:
            return Case(spelled(whole % 10_000, rng), Fraction(whole % 10_000), PRODUCT)
        case 6:
            sign, parts = rng.choice(list(VULGAR.items()))
            count = rng.choice((0, rng.randint(1, 99)))
            return Case(f"{count or ''}{sign}", count + Fraction(*parts))
        case 7:
            size, factor = rng.choice((("k", 10**3), (" thousand", 10**3), (" million", 10**6), (" billion", 10**9)))
            return Case(f"{whole % 1000}{size}", Fraction(whole % 1000 * factor), PRODUCT)
        case _:
            return Case(str(whole), Fraction(whole))


def expression(rng: random.Random, depth: int, irrational: bool, words: bool = True) -> Case:
    roll = rng.random()
    if depth == 0 or roll < 0.15:
        if irrational and rng.random() < 0.3:
            return Case(*rng.choice((("pi", +mpmath.pi), ("e", +mpmath.e), ("tau", 2 * mpmath.pi), ("π", +mpmath.pi))))
        return number(rng, words)
    if roll < 0.60:
        sign = rng.choice(("+", "-", "*", "/", "+", "-", "*", "/", "//", "mod"))
        left, right = expression(rng, depth - 1, irrational, words), expression(rng, depth - 1, irrational, words)
        strength = STRENGTHS.get(sign, PRODUCT)
        before, after = bracketed(left, strength), bracketed(right, strength + 1)
        written = rng.choice(SIGNS[sign][: None if words else 2])
        if sign == "-" and before.endswith(tuple(TENS[2:])) and after.startswith(tuple(SMALL[1:10])):
            written = " - "  # thirty-four is 34
        text = before + written + after
        return Case(text, computed(COMBINED[sign], left, right), strength)
    if roll < 0.68:
        base, exponent = (
            expression(rng, depth - 1, irrational, words),
            expression(rng, rng.randint(0, 1), irrational, words),
        )
        small = Case(str(rng.randint(-4, 12)), Fraction(0))
        small = Case(small.text, Fraction(small.text), SIGNED)
        exponent = rng.choice((small, small, exponent))
        if exponent is small and rng.random() < 0.3:
            return Case(bracketed(base, ATOM) + small.text.translate(SUPERSCRIPTS), computed(power, base, small), POWER)
        text = bracketed(base, ATOM) + rng.choice(SIGNS["^"][: None if words else 2]) + bracketed(exponent, SIGNED)
        return Case(text, computed(power, base, exponent), POWER)
    if roll < 0.75:
        inner = expression(rng, depth - 1, irrational, words)
        return Case(f"-{bracketed(inner, SIGNED)}", computed(lambda a: -a, inner), SIGNED)
    if roll < 0.79:
        inner = number(rng, words)
        return Case(f"{bracketed(inner, ATOM)}!", computed(FUNCTIONS["factorial"], inner))
    if roll < 0.83:
        left, right = number(rng, words), expression(rng, depth - 1, irrational, words)
        return Case(f"{bracketed(left, ATOM)}({right.text})", computed(product, left, right), PRODUCT)
    return call(rng, depth, irrational, words)


EXACT_FUNCTIONS = dict.fromkeys("abs floor ceil round trunc factorial".split(), 1)
EXACT_FUNCTIONS |= dict.fromkeys("min mean gcd lcm comb C nPr mod product".split(), 2) | {
    "max": 3,
    "sum": 3,
    "median": 3,
}
REAL_FUNCTIONS = dict.fromkeys("sqrt cbrt exp ln log log10 log2 degrees radians sin cos tan sinh cosh tanh".split(), 1)
REAL_FUNCTIONS |= dict.fromkeys("asin acos atan asinh acosh atanh".split(), 1)
REAL_FUNCTIONS |= dict.fromkeys("hypot pow atan2 log_of_base root".split(), 2)


def call(rng: random.Random, depth: int, irrational: bool, words: bool) -> Case:
    name, count = rng.choice(list((EXACT_FUNCTIONS | REAL_FUNCTIONS if irrational else EXACT_FUNCTIONS).items()))
    small = name in ("factorial", "comb", "C", "nPr", "gcd", "lcm", "root")
    parts = [number(rng, words) if small else expression(rng, depth - 1, irrational, words) for _ in range(count)]
    if name == "root":
        parts[1] = Case(str(degree := rng.randint(1, 7)), Fraction(degree))
    value, name = computed(FUNCTIONS[name], *parts), name.removesuffix("_of_base")
    if name == "sqrt" and rng.random() < 0.4:
        return Case(f"√({parts[0].text})", value)
    degrees = name in ("sin", "cos", "tan") and words and rng.random() < 0.3
    if degrees:
        angle = rng.randint(-400, 400)
        return Case(f"{name}({angle}{rng.choice(('°', ' degrees'))})", computed(lambda: in_degrees(name, angle)))
    return Case(f"{name}({rng.choice((', ', ',  ')).join(part.text for part in parts)})", value)


def in_degrees(name: str, angle: int) -> Value:
    if name == "tan" and angle % 180 == 90:
        raise Undefined
    value = FUNCTIONS[name](mpmath.mpf(angle) * mpmath.pi / 180)
    return value if abs(real(value)) > mpmath.mpf("1e-40") else Fraction(0)


# -- what stands around them -----------------------------------------------------------------------------------------

WRAPPERS = """What is {}?|calculate {}|Calculate: {}|{} = ?|{} =|= {}|`{}`|print({})|total = {}|result: {}|({})
|{} please|x = {}|the value of {}|  {}  |$${}$$|eval({})|{}?|[{}]|What is the result of {}|"{}"
|{{"expression": "{}"}}|{{'input': '{}'}}
|Total cost: {}|please compute {}|{} = x|```python\n{}\n```|import math; {}|\\({}\\)|{}.""".replace("\n|", "|").split(
    "|"
)
CHANGING: dict[str, Callable[[Value], Value]] = {
    "half of ({})": lambda v: quotient(v, Fraction(2)), "minus ({})": lambda v: -v, "negative ({})": lambda v: -v,
    "({}) squared": lambda v: power(v, Fraction(2)), "({}) percent": lambda v: quotient(v, Fraction(100)),
    "10% of ({})": lambda v: quotient(v, Fraction(10)),
    "square root of ({})": FUNCTIONS["sqrt"], "1 over ({})": lambda v: quotient(Fraction(1), v),
    "ten-sqrt({})": lambda v: difference(Fraction(10), FUNCTIONS["sqrt"](v)),
    "ten-({})": lambda v: difference(Fraction(10), v), "({}) - - 3": lambda v: total(v, Fraction(3)),
    "pi-abs({})": lambda v: difference(+mpmath.pi, FUNCTIONS["abs"](v)),
}  # fmt: skip
REFUSED = """10 more than ({})|20% off ({})|about ({})|({}) in percent|({}) to 3 digits|not ({})|({}) or so
|two thirds of ({})|sum of 3 and ({})|twice ({})|ten percent less than ({})
|({}) dozens|({}) thousand|({}) 5|{} is|sin ({}) degrees|log base 2 of ({})|12:30 + {}
|3,5 * ({})|1 000 * ({})|1.234,5 + ({})|2024-05-17 + ({})|1/2/2024 - ({})|v1.2.3 + ({})|({}) & 3
|asin(0.5 * ({})) degrees|sin(({}) + 30°)|({}) km + 3 m|2²! + ({})|007 * ({})
|({}) choose 2|({}) mnus 3|10% + 5 * ({}) + 5%%""".replace("\n|", "|").split("|")
UNITS = """km m mile ft cm kg g lb oz hour minute s day week $ € CHF CAD kWh Wh kW W °C °F kelvin GB MB Mb GiB kPa bar
mmol mol L mL cup tsp acre ha apple orange person square^foot square^meter MHz GHz km/h mph $/hour""".split()


def wrapped(rng: random.Random) -> Case:
    inner = expression(rng, rng.choice(DEPTHS[1:]), rng.random() < 0.5)
    return Case(rng.choice(WRAPPERS).format(inner.text), inner.value)


def changed(rng: random.Random) -> Case:
    inner = expression(rng, rng.choice((0, 1, 1, 2)), rng.random() < 0.5)
    template = rng.choice((*CHANGING, *REFUSED))
    function = CHANGING.get(template)
    return Case(template.format(inner.text), function and computed(function, inner))


def with_units(rng: random.Random) -> Case:
    """The same unit in all parts of a sum has a value, two units have none."""
    first, second = rng.choice(UNITS), rng.choice(UNITS)
    second = rng.choice((first, second))
    sign = rng.choice("+-<>")
    a, b = rng.randint(1, 400), rng.randint(1, 400)
    text = f"{a} {first} {sign} {b} {second}".replace("^", " ")
    if first != second:
        return Case(text, None)
    return Case(text, Fraction({"+": a + b, "-": a - b, "<": a < b, ">": a > b}[sign]))


def mutated(rng: random.Random) -> Case:
    """One to three characters of an expression deleted, inserted or replaced, as the other reader reads it."""
    text = expression(rng, rng.choice(DEPTHS[1:]), rng.random() < 0.4, words=False).text
    for _ in range(rng.randint(1, 3)):
        place = rng.randint(0, len(text))
        piece = rng.choice(("", *"0123456789..,+-*/^%!()  x-–·²e"))
        text = text[:place] + piece + text[place + rng.choice((0, 1)) :]
    try:
        return Case(text, read(text))
    except (Undefined, ZeroDivisionError, OverflowError, ValueError):
        return Case(text, None)


JUNK = [*"0123456789+-*/^%!(),.=<>?$x {}[]'\"\n\x00:;e°½²√×−–"]
JUNK += " half of | percent| to the | and | hours| per | million|sqrt(|log(|max(|1e300|1e-300|__import__|\\frac{".split(
    "|"
)


def junk(rng: random.Random) -> Case:
    text = "".join(rng.choice(JUNK) for _ in range(rng.randint(1, rng.choice((6, 14, 40)))))
    try:
        return Case(text, read(text), 0)
    except (Undefined, ZeroDivisionError, OverflowError, ValueError):
        return Case(text, None, 0)


KINDS: dict[str, Callable[[random.Random], Case]] = {
    "exact": lambda rng: expression(rng, rng.choice(DEPTHS), irrational=False),
    "real": lambda rng: expression(rng, rng.choice(DEPTHS), irrational=True),
    "wrapped": wrapped, "changed": changed, "units": with_units, "mutated": mutated, "junk": junk,
}  # fmt: skip


def judged(case: Case, kind: str) -> str:
    """refused, right, or what is wrong; anything raised but the refusal is raised on."""
    try:
        result = calculate(case.text)
    except ToolError as refused:
        return "refused" if re.fullmatch(r"Error: [\x20-\x7e]+", str(refused)) else f"odd refusal: {refused}"
    readings = " ".join(result.readings)
    if (
        shown := re.match(r"read as ([^;]+?)(?:, words ignored)?$", result.readings[0] if result.readings else "")
    ) and ((again := once_more(shown[1])) != result.text and "can be read as a date" not in again):
        return f"{result} is not {again}"
    if case.value is None:
        return f"answered {result}" if kind != "junk" and "words ignored" not in readings else "unread"
    if isinstance(result.value, bool):
        return "right" if result.value == case.value else f"{result}, not {case.value}"
    return "right" if agrees(Decimal(result.text), case.value, readings) else f"{result}, not {case.value}"


def once_more(text: str) -> str:
    """What the calculator makes of its own reading."""
    try:
        return calculate(text).text
    except ToolError as refused:
        return str(refused)


def agrees(found: Decimal, value: Value, notes: str) -> bool:
    if isinstance(value, Fraction):
        error = abs(Fraction(found) - value)
        few = len(found.normalize().as_tuple().digits) < 13
        told = "round" in notes
        return error == 0 or (error <= EXACT * abs(value) * 10 and (not few or told)) or (told and error < 1e-12)
    if not found:
        return "zero as far" in notes and abs(value) < mpmath.mpf("1e-12")
    return abs(mpmath.mpf(str(found)) - value) <= CLOSE * abs(value)


def cases(start: int, count: int) -> Iterator[tuple[str, Case]]:
    names = list(KINDS)
    for seed in range(start, start + count):
        name = names[seed % len(names)]
        yield name, KINDS[name](random.Random(seed))


def main(count: int, start: int) -> int:
    counts: dict[str, Counter[str]] = {name: Counter() for name in KINDS}
    slowest, worst, wrong, began = 0.0, "", 0, time.monotonic()
    with mpmath.workdps(DIGITS):
        for place, (name, case) in enumerate(cases(start, count), 1):
            before = time.process_time()
            verdict = judged(case, name)
            if (seconds := time.process_time() - before) > slowest:
                slowest, worst = seconds, case.text
            good = verdict in ("right", "refused", "unread")
            counts[name][verdict if good else "wrong"] += 1
            if not good:
                wrong += 1
                print(f"{name} {start + place - 1}: {case.text!r}: {verdict}", flush=True)
            if place % 20_000 == 0:
                print(f"{place} cases in {time.monotonic() - began:.0f} s, {wrong} wrong", flush=True)
    for name, seen in counts.items():
        print(f"{name:8} " + ", ".join(f"{verdict} {number}" for verdict, number in sorted(seen.items())))
    print(f"{count} cases from {start}, {wrong} wrong; slowest {slowest * 1000:.1f} ms: {worst!r}")
    return 1 if wrong else 0


if __name__ == "__main__":
    arguments = [int(argument) for argument in sys.argv[1:]]
    sys.exit(main(*(arguments + [1_000_000, 0][len(arguments) :])))
