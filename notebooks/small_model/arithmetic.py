"""Calculator questions and their expressions, from templates/arithmetic.toml, and random bare expressions."""

from __future__ import annotations

import functools
import math
import re
from random import Random

from agentkit.number_words import ORDINALS, SMALL, TENS

from .names import SLOT, Names, load_templates

CHOICE = re.compile(r"<([^<>]*)>")
_OPENINGS = """What's|what is|Calculate|How much is|Compute|Tell me|Give me|Work out|Find|Determine|Figure out
I need to know|Let me know|Tell me what is|I need|whats"""
OPENINGS = tuple(f"{opening} " for line in _OPENINGS.split("\n") for opening in line.split("|"))


@functools.cache
def wordings(key: str) -> tuple[tuple[str, str], ...]:
    """(question, expression) templates of one group."""
    lines = load_templates("arithmetic")[key].strip().split("\n")
    return tuple((line.rsplit("|", 1)[0], line.rsplit("|", 1)[1]) for line in lines)


def in_words(number: int) -> str:
    """An English number word below 100."""
    if number < 20:
        return SMALL[number]
    tens, ones = divmod(number, 10)
    return TENS[tens - 2] + (f"-{SMALL[ones]}" if ones else "")


def plain_number(random: Random) -> str:
    """A number as the calculator reads it: mostly small, sometimes long or with decimals."""
    size = random.random()
    if size < 0.15:
        return f"{random.randint(0, 999)}.{random.choice((random.randint(1, 9), random.randint(11, 99)))}"
    if size < 0.55:
        return str(random.randint(2, 99))
    return str(random.randint(10, 10 ** random.choice((3, 3, 3, 4, 5, 6))))


def as_written(random: Random, number: str, *, words: float = 0.06) -> str:
    """The same number as a person may write it: 1,200 or twelve."""
    if number.isdigit() and int(number) < 100 and random.random() < words:
        return in_words(int(number))
    if number.isdigit() and int(number) > 999 and random.random() < 0.5:
        return f"{int(number):,}"
    return number


def _spelled(random: Random) -> tuple[str, str]:
    """A number and its words, up to 999; sometimes digits all the same."""
    number = random.choice(
        (random.randint(2, 20), random.randint(2, 99), random.randint(2, 99), random.randint(100, 999))
    )
    if number < 100:
        text = in_words(number)
    else:
        hundreds, rest = divmod(number, 100)
        text = f"{random.choice((SMALL[hundreds], 'a')) if hundreds == 1 else SMALL[hundreds]} hundred"
        text += f" and {in_words(rest)}" if rest else ""
    return str(number), text if random.random() < 0.85 else str(number)


def _slot(random: Random, name: str) -> str:
    """The value of one number slot."""
    if name in ("s", "s2"):
        return str(random.randint(2, 12 if random.random() < 0.8 else 40))
    if name == "p":
        return random.choice((str(random.randint(1, 99)), str(5 * random.randint(1, 19)), f"{random.randint(1, 20)}.5"))
    if name == "f":
        decimals = [
            f"0.{random.randint(1, 99)}",
            f"{random.randint(1, 4)}.{random.randint(1, 9)}",
            str(random.randint(2, 12)),
        ]
        return random.choice([d for d in decimals if d != "0.43"])
    if name == "m":
        return random.choice(
            (
                str(random.randint(2, 200)),
                f"{random.randint(0, 200)}.{random.randint(1, 9)}",
                f"{random.randint(0, 200)}.{random.randint(10, 99)}",
            )
        )
    if name == "big":
        return str(random.choice((random.randint(20, 300), 10 * random.randint(3, 200), random.randint(100, 5000))))
    return plain_number(random)


def fill_numbers(random: Random, question: str, expression: str, *, words: float = 0.06) -> tuple[str, str]:
    """Both templates with the same numbers; {x} is left alone."""
    while CHOICE.search(question):
        question = CHOICE.sub(lambda match: random.choice(match[1].split(";")), question)
    names, written, meant = Names(random), {}, {}
    for name in dict.fromkeys(SLOT.findall(question + expression)):
        if name in ("x", "sth"):
            continue
        if name in ("v", "w"):
            meant[name], written[name] = _spelled(random)
        elif name in ("a", "b", "c", "d", "s", "s2", "p", "f", "big", "m"):
            small = "{Name}" in question or "{things}" in question or "How many" in question
            value = str(random.randint(2, 99)) if small and name in "abcd" else _slot(random, name)
            meant[name] = value
            written[name] = as_written(random, value, words=words)
        else:
            written[name] = _story_word(names, name)
    if "ifference" in question and expression == "{a}-{b}" and float(meant["a"]) < float(meant["b"]):
        expression = "{b}-{a}"  # a difference has no sign
    if "sth" in question:
        meant["s"] = str(random.randint(2, 9))
        power = int(meant["s"])
        suffix = {2: "nd", 3: "rd"}.get(power, "th")
        written["sth"] = random.choice((f"{power}{suffix}", ORDINALS[power]))
    fill = lambda text, values: SLOT.sub(lambda m: values.get(m[1], m[0]), text)  # noqa: E731
    return fill(question, written), fill(expression, meant)


def _story_word(names: Names, name: str) -> str:
    if name in ("Name", "Name2"):
        return names.random.choice((names.draw("first"), names.draw("first"), names.draw("word")))
    if name in ("he", "his", "He"):
        return names.random.choice({"he": ("he", "she"), "his": ("his", "her"), "He": ("He", "She")}[name])
    return names.draw("things")


def bare(random: Random) -> tuple[str, str]:
    """A random expression as typed, and as the calculator gets it."""
    expression = _expression(random, random.choice((1, 2, 2, 3, 3, 4)))
    typed = expression
    if random.random() < 0.5:
        typed = re.sub(r"(?<=[\d)])([-+*/^])", r" \1 ", typed)
    if random.random() < 0.25:
        typed = typed.replace("*", random.choice("×x·×")).replace("/", random.choice("÷/:÷") if "/" in typed else "/")
        typed = typed.replace(":", "÷")
    if random.random() < 0.15:
        typed = typed.replace("^", "**")
    before = random.choice(
        (
            "",
            "",
            "",
            "",
            "What is ",
            "What's ",
            "Calculate ",
            "Compute ",
            "Evaluate ",
            "Solve ",
            "what is ",
            "How much is ",
            "Work out ",
            "Simplify ",
            "Tell me what ",
            "Please compute ",
            "Result of ",
            "calc ",
        )
    )
    after = " equals" if before == "Tell me what " else random.choice(("", "", "", "?", ".", " =", " = ?"))
    return before + typed + after, expression


def _expression(random: Random, operators: int) -> str:
    small = lambda: str(random.randint(1, random.choice((9, 20, 99, 99, 999))))  # noqa: E731
    if operators == 0:
        if random.random() < 0.06:
            return f"sqrt({random.randint(2, 400)})"
        return small() if random.random() < 0.88 else f"{random.randint(0, 30)}.{random.randint(1, 99)}"
    left = random.randint(0, operators - 1)
    sides = [_expression(random, left), _expression(random, operators - 1 - left)]
    sides = [f"({s})" if re.search(r"[-+*/^]", s) and random.random() < 0.6 else s for s in sides]
    operator = random.choice("+-*/+-*/^")
    if operator == "^":
        sides[1] = random.choice(("2", "2", "3", "4", "0.5", "1.5", "(1/2)", "(1/3)"))
    return sides[0] + operator + sides[1]


def reworded(random: Random, question: str) -> str:
    """The same question with another opening, where it begins with "What is"."""
    rest = question.removeprefix("What is ")
    loose = (" left ", " less ", "what percent", " apart ", " remains", " added to ")
    if rest == question or any(word in question for word in loose) or random.random() < 0.4:
        return question
    opening = random.choice(OPENINGS)
    if opening[0].isupper() and not opening.startswith(("What", "How")):
        rest = rest.rstrip("?") + ("." if rest.endswith("?") else "")
    return opening + rest


def one_step(random: Random) -> tuple[str, str]:
    """A one-step calculator question and its expression."""
    kind = random.random()
    if kind < 0.2:
        return bare(random)
    group = random.choices(("apply", "plain", "story", "stories", "spelled"), (27, 15, 10, 30, 5))[0]
    question, expression = random.choice(wordings(group))
    question, expression = fill_numbers(random, question, expression, words=0.1)
    if group == "apply":
        number = plain_number(random)
        if "sqrt" in expression and random.random() < 0.7:
            number = str(random.randint(2, 60) ** 2)
        question = question.replace("{x}", as_written(random, number))
        expression = expression.replace("{x}", number)
    return (question if group in ("story", "stories") else reworded(random, question)), expression


def calculated(expression: str) -> str | None:
    """What the calculator answers, None where it would not be an ordinary number."""
    try:
        value = eval(expression.replace("^", "**"), {"__builtins__": {}, "sqrt": math.sqrt})
        value = float(value)
    except (ArithmeticError, ValueError, TypeError):
        return None
    if not math.isfinite(value) or abs(value) >= 1e15 or 0 < abs(value) < 1e-4:
        return None
    return str(int(value)) if value == int(value) else repr(value)
