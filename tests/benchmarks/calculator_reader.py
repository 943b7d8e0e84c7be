"""Another reader of arithmetic, to compare the calculator with: strict, and with values from fractions and mpmath only.

What it cannot read for sure it refuses; mpmath works with the precision that the caller has set.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from fractions import Fraction

import mpmath

Value = Fraction | mpmath.mpf
LARGEST = mpmath.mpf("1e5000")
NOTHING = mpmath.mpf("1e-40")


class Undefined(Exception):
    """There is no real value, or no single reading."""


class WrongCount(Undefined):
    """A function does not take so many arguments."""


def real(value: Value) -> mpmath.mpf:
    return mpmath.mpf(value.numerator) / value.denominator if isinstance(value, Fraction) else value


def checked(value: mpmath.mpf) -> mpmath.mpf:
    if isinstance(value, mpmath.mpc) or not mpmath.isfinite(value) or abs(value) > LARGEST:
        raise Undefined
    return value


def total(a: Value, b: Value) -> Value:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return a + b
    a, b = real(a), real(b)
    return a + b if abs(a + b) > NOTHING * max(abs(a), abs(b)) else Fraction(0)


def difference(a: Value, b: Value) -> Value:
    return total(a, -b)


def product(a: Value, b: Value) -> Value:
    both = isinstance(a, Fraction) and isinstance(b, Fraction)
    return a * b if both else Fraction(0) if 0 in (a, b) else checked(real(a) * real(b))


def quotient(a: Value, b: Value) -> Value:
    if b == 0:
        raise Undefined
    both = isinstance(a, Fraction) and isinstance(b, Fraction)
    return a / b if both else Fraction(0) if a == 0 else checked(real(a) / real(b))


def floor(a: Value) -> Fraction:
    near = mpmath.nint(a) if not isinstance(a, Fraction) else None
    if near and a != near and abs(a - near) < mpmath.mpf("1e-30"):
        raise Undefined  # which side rounding hides
    return Fraction(math.floor(a) if isinstance(a, Fraction) else int(mpmath.floor(a)))


def remainder(a: Value, b: Value) -> Value:
    times = quotient(a, b)
    near = mpmath.nint(real(times))
    if near and not isinstance(times, Fraction) and abs(times - near) < NOTHING:  # as tau / pi
        return Fraction(0)
    return difference(a, product(b, floor(times)))


def power(a: Value, b: Value) -> Value:
    if a == 0:
        if real(b) < 0:
            raise Undefined
        return Fraction(b == 0)
    if isinstance(a, Fraction) and isinstance(b, Fraction) and b.denominator == 1:
        if abs(b) * (a.numerator.bit_length() + a.denominator.bit_length()) < 20_000:
            return a**b.numerator
        if abs(a) != 1 and abs(b) > 10**6:
            raise Undefined  # far too large or small
    if not isinstance(b, Fraction) and abs(b - mpmath.nint(b)) < NOTHING:  # as tau / pi
        b = Fraction(int(mpmath.nint(b)))
    if real(a) < 0 and not (isinstance(b, Fraction) and b.denominator == 1):
        raise Undefined
    if abs(real(b)) * abs(mpmath.log(abs(real(a)))) > 20_000:
        raise Undefined
    return checked(mpmath.power(real(a), real(b)))


def root(a: Value, degree: Value) -> Value:
    if not isinstance(degree, Fraction) or degree.denominator != 1 or degree < 1 or (real(a) < 0 and degree % 2 == 0):
        raise Undefined
    size = Fraction(0) if a == 0 else mpmath.root(abs(real(a)), int(degree))
    return -size if real(a) < 0 else size


def rounded(a: Value, places: Value = Fraction(0)) -> Value:
    shift = Fraction(10) ** whole(places)
    size = floor(total(product(abs(a), shift), Fraction(1, 2))) / shift
    return -size if real(a) < 0 else size


def whole(a: Value) -> int:
    if not isinstance(a, Fraction) or a.denominator != 1:
        raise Undefined
    return int(a)


def of_whole(function: Callable[..., int]) -> Callable[..., Value]:
    return lambda *parts: Fraction(function(*map(whole, parts)))


def of_real(function: Callable[..., mpmath.mpf]) -> Callable[..., Value]:
    def apply(*parts: Value) -> Value:
        if any(abs(real(part)) > 10**6 for part in parts) and function in (mpmath.exp, mpmath.sinh, mpmath.cosh):
            raise Undefined
        value = checked(function(*map(real, parts)))
        if value == 0:
            return Fraction(0)
        if function not in (mpmath.sin, mpmath.cos, mpmath.tan):
            return value
        if abs(value) > 1 / NOTHING:
            raise Undefined
        angle = abs(real(parts[0]))
        is_nothing = abs(value) < NOTHING * max(1, angle) and angle > NOTHING * 10**10  # of a multiple of pi
        return Fraction(0) if is_nothing else value

    return apply


def logarithm(a: Value, base: Value | None = None) -> Value:
    if real(a) <= 0 or (base is not None and (real(base) <= 0 or base == 1)):
        raise Undefined
    if a == 1:
        return Fraction(0)
    return mpmath.log(real(a)) if base is None else quotient(mpmath.log(real(a)), mpmath.log(real(base)))


FUNCTIONS: dict[str, Callable[..., Value]] = {
    "abs": lambda a: abs(a), "floor": floor, "ceil": lambda a: -floor(-a), "round": rounded,
    "trunc": lambda a: floor(a) if real(a) >= 0 else -floor(-a),
    "max": lambda *parts: max(parts, key=real), "min": lambda *parts: min(parts, key=real),
    "median": lambda *parts: _folded(total, tuple(sorted(parts, key=real)[(len(parts) - 1) // 2 : len(parts) // 2 + 1]))
    / (2 - len(parts) % 2),
    "sum": lambda *parts: _folded(total, parts),
    "product": lambda *parts: _folded(product, parts),
    "mean": lambda *parts: quotient(_folded(total, parts), Fraction(len(parts))),
    "gcd": of_whole(math.gcd), "lcm": of_whole(math.lcm), "comb": of_whole(lambda n, k: _counted(math.comb, n, k)),
    "C": of_whole(lambda n, k: _counted(math.comb, n, k)), "nPr": of_whole(lambda n, k: _counted(math.perm, n, k)),
    "factorial": of_whole(lambda n: math.factorial(n) if 0 <= n <= 400 else _undefined()), "mod": remainder,
    "sqrt": lambda a: root(a, Fraction(2)), "cbrt": lambda a: root(a, Fraction(3)), "root": root,
    "exp": of_real(mpmath.exp), "ln": logarithm, "log": logarithm, "log_of_base": logarithm,
    "log10": lambda a: logarithm(a, Fraction(10)), "log2": lambda a: logarithm(a, Fraction(2)),
    "degrees": lambda a: product(a, 180 / mpmath.pi), "radians": lambda a: product(a, mpmath.pi / 180),
    "hypot": of_real(mpmath.hypot), "pow": power,
    "atan2": of_real(lambda y, x: mpmath.atan2(y, x) if x or y else _undefined()),
    **{name: of_real(getattr(mpmath, name)) for name in
       "sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh".split()},
}  # fmt: skip


def _undefined() -> int:
    raise Undefined


def _counted(function: Callable[[int, int], int], n: int, k: int) -> int:
    return function(n, k) if 0 <= k <= n < 10**4 else _undefined()


def _folded(function: Callable[[Value, Value], Value], parts: tuple[Value, ...]) -> Value:
    value = parts[0]
    for part in parts[1:]:
        value = function(value, part)
    return value


# -- text ------------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(
    r"""\s*(?: (?P<number> (?:[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)|\d+(?:_\d+)*)(?:\.\d*)?(?:[eE][+-]?\d+)?
                         | \.\d+(?:[eE][+-]?\d+)?)
              | (?P<word>[xX](?=\s*[\d.(])|(?!log|atan)[A-Za-z]+(?=\d)|[A-Za-z][A-Za-z0-9]*)
              | (?P<raised>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)
              | (?P<sign>\*\*|//|==|!=|<=|>=|[-+*/^%!(),<>]))""",
    re.ASCII | re.VERBOSE,
)
SIGNS: dict[str, Callable[[Value, Value], Value]] = {
    "*": product, "/": quotient, "%": remainder, "//": lambda a, b: floor(quotient(a, b)),
}  # fmt: skip
_ONE = str.maketrans("−–—×·÷{}[]", "---**/()()")
_DIGITS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_VULGAR = {"½": "(1/2)", "¼": "(1/4)", "¾": "(3/4)", "⅓": "(1/3)", "⅔": "(2/3)", "⅕": "(1/5)", "⅛": "(1/8)"}


def read(text: str) -> Value:
    """The value of an expression in signs, numbers and calls."""
    return _Reader(text).value()


def _applied(name: str, *parts: Value) -> Value:
    try:
        return FUNCTIONS[name](*parts)
    except TypeError:
        raise WrongCount from None


class _Reader:
    def __init__(self, text: str) -> None:
        text = re.sub(r"(\d+)([½¼¾⅓⅔⅕⅛])", lambda m: f"({m[1]}+{_VULGAR[m[2]]})", text)
        text = (
            re.sub(r"[½¼¾⅓⅔⅕⅛]", lambda m: _VULGAR[m[0]], text)
            .translate(_ONE)
            .replace("π", " pi ")
            .replace("√", " sqrt ")
        )
        self.tokens: list[tuple[str, str]] = []
        text, place = text.strip().removesuffix("?").rstrip(" .;"), 0
        while place < len(text):
            match = _TOKEN.match(text, place)
            if not match:
                raise Undefined
            self.tokens.append((str(match.lastgroup), match[0].strip()))
            place = match.end()
        self.place = 0

    def next(self, ahead: int = 0) -> tuple[str, str]:
        place = self.place + ahead
        return self.tokens[place] if place < len(self.tokens) else ("end", "")

    def take(self, *signs: str) -> str:
        kind, text = self.next()
        if kind == "sign" and text in signs:
            self.place += 1
            return text
        return ""

    def value(self) -> Value:
        value, _ = self.sum()
        if sign := self.take("<", ">", "<=", ">=", "==", "!="):
            other, _ = self.sum()
            rest = difference(value, other)
            order = (real(rest) > 0) - (real(rest) < 0)
            value = Fraction({"<": order < 0, ">": order > 0, "<=": order <= 0, ">=": order >= 0, "==": order == 0,
                              "!=": order != 0}[sign])  # fmt: skip
        if self.next()[0] != "end":
            raise Undefined
        return value

    def sum(self) -> tuple[Value, bool]:
        value, percent = self.product()
        while sign := self.take("+", "-"):
            other, other_percent = self.product()
            if percent != other_percent and 1 not in (value, other):
                raise Undefined
            value, percent = (total if sign == "+" else difference)(value, other), percent and other_percent
        return value, percent

    def product(self) -> tuple[Value, bool]:
        value, percent = self.signed()
        last = ""
        while True:
            kind, text = self.next()
            if text in ("x", "X", "mod") and kind == "word":
                self.place += 1
                sign = "*" if text != "mod" else "%"
            else:
                sign = self.take("*", "/", "//", "%")
            if sign:
                other, _ = self.signed()
                value = SIGNS[sign](value, other)
            elif kind == "word" or text == "(":
                if last in ("/", "//", "%"):
                    raise Undefined
                sign, (other, _) = "*", self.power()
                value = product(value, other)
            else:
                return value, percent
            last, percent = sign, False

    def signed(self) -> tuple[Value, bool]:
        if self.take("-"):
            value, percent = self.signed()
            return -value, percent
        return self.signed() if self.take("+") else self.power()

    def power(self) -> tuple[Value, bool]:
        value, percent = self.postfix()
        kind, text = self.next()
        if kind == "raised":
            self.place += 1
            value, percent = power(value, Fraction(text.translate(_DIGITS))), False
            if self.next()[1] in ("^", "**", "!") or self.next()[0] == "raised":
                raise Undefined
            if self.next()[1] == "%" and not self.starts(1):
                self.place += 1
                value, percent = value / 100, True
        elif self.take("^", "**"):
            value, percent = power(value, self.signed()[0]), False
        return value, percent

    def postfix(self) -> tuple[Value, bool]:
        value, percent = self.primary()
        while True:
            if self.take("!"):
                value = FUNCTIONS["factorial"](value)
            elif self.next()[1] == "%" and not self.starts(1):
                self.place += 1
                value, percent = value / 100, True
            else:
                return value, percent

    def starts(self, ahead: int) -> bool:
        """Whether an operand stands there, which makes the % before it a remainder."""
        kind, text = self.next(ahead)
        return kind == "number" or text == "(" or (kind == "word" and text not in ("x", "X", "mod"))

    def primary(self) -> tuple[Value, bool]:
        kind, text = self.next()
        self.place += 1
        if kind == "number":
            exponent = re.search(r"[eE][-+]?0*(\d*)$", text)
            if exponent and len(exponent[1]) > 4:
                raise Undefined  # far too large or small, and long in the making
            return Fraction(text.replace(",", "").replace("_", "")), False
        if text == "(":
            inside = self.sum()
            self.close()
            return inside
        if text.casefold() in ("pi", "e", "tau") and text != "E":
            return {"pi": +mpmath.pi, "e": +mpmath.e, "tau": 2 * mpmath.pi}[text.casefold()], False
        name = {"c": "C", "npr": "nPr"}.get(text.casefold(), text.casefold())
        if kind != "word" or name not in FUNCTIONS:
            raise Undefined
        if not self.take("("):
            return _applied(name, self.primary()[0]), False
        start = self.place
        parts, end = self.arguments(), self.place
        try:
            return _applied(name, *parts), False
        except WrongCount:  # C(217,524): the comma stands between arguments
            self.tokens[start:end] = [piece for token in self.tokens[start:end] for piece in _pieces(*token)]
            self.place = start
        return _applied(name, *self.arguments()), False

    def arguments(self) -> list[Value]:
        parts = [self.sum()[0]]
        while self.take(","):
            parts.append(self.sum()[0])
        self.close()
        return parts

    def close(self) -> None:
        if not self.take(")"):
            raise Undefined


def _pieces(kind: str, text: str) -> list[tuple[str, str]]:
    """A number with commas as the numbers and commas in it."""
    if kind != "number":
        return [(kind, text)]
    first, *others = text.split(",")
    return [(kind, first), *(piece for other in others for piece in (("sign", ","), (kind, other)))]
