"""The functions an expression may call: how many arguments they take, and what they are for exact and other numbers."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from agentkit.tools.arithmetic.real import (
    HALF_ULP,
    LARGEST_ROOT,
    MOST_BITS,
    PI,
    Approximate,
    E,
    Formula,
    Real,
    approximate,
    bits,
    exact_root,
    exponential,
    float_of,
    of_one,
    power,
)
from agentkit.tools.arithmetic.refusal import refusal

LARGEST_FACTORIAL = 300
MOST_PLACES = 300
MANY = 200


@dataclass(frozen=True, slots=True)
class Function:
    """`note` says how the function was read, where that could surprise."""

    least: int
    most: int
    apply: Callable[..., Real | int]
    note: str = ""


def whole(value: Real, name: str) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise refusal(f"{name} takes whole numbers; give it integers.")
    return value.numerator


def factorial(x: Real) -> int:
    n = whole(x, "factorial")
    if not 0 <= n <= LARGEST_FACTORIAL:
        raise refusal(f"factorial takes whole numbers from 0 to {LARGEST_FACTORIAL}; use a smaller one.")
    return math.factorial(n)


def to_places(x: Real, places: Real = Fraction(0)) -> Real:
    """Rounded, halves away from zero."""
    n = whole(places, "round(x, places)")
    if abs(n) > MOST_PLACES:
        raise refusal(f"round takes up to {MOST_PLACES} places; use fewer.")
    if x < Fraction(0):
        return -to_places(-x, places)
    shift = Fraction(10) ** n
    return math.floor(x * shift + Fraction(1, 2)) / shift


# -- roots and logarithms --------------------------------------------------------------------------------------------


def root(x: Real, degree: Real) -> Real:
    n = whole(degree, "root(x, n)")
    if n < 1:
        raise refusal("root(x, n) takes a positive whole n; use ^ for other powers.")
    if x >= Fraction(0):
        return square_root(x) if n == 2 else power(x, Fraction(1, n))
    if n % 2 == 0:
        raise refusal("an even root of a negative number is no real number; check the sign.")
    return -power(-x, Fraction(1, n))


def square_root(x: Real) -> Real:
    if x < Fraction(0):
        raise refusal("the square root of a negative number is no real number; check the sign.")
    exact = exact_root(x, 2) if isinstance(x, Fraction) else None
    return of_one("sqrt(a)", x, lambda a: 0.5 / math.sqrt(a)) if exact is None else exact


def logarithm(x: Real, base: Real = E) -> Real:
    if x <= Fraction(0) or base <= Fraction(0):
        raise refusal("logarithms exist for positive numbers only; check the argument.")
    if base == 1:
        raise refusal("a logarithm to base 1 does not exist; use another base.")
    if x in (base, 1):
        return Fraction(x == base)
    if base == E:
        return of_one("log(a)", x, lambda a: 1 / a)
    if isinstance(x, Fraction) and isinstance(base, Fraction):
        if (exact := _exact_logarithm(x, base)) is not None:
            return exact
        if base in (2, 10):
            formula: Formula = "log10(a)" if base == 10 else "log(a) / log(2.0)"
            size = math.log(base)
            return of_one(formula, x, lambda a: 1 / (a * size))
    return logarithm(x) / logarithm(base)


def _exact_logarithm(x: Fraction, base: Fraction) -> Fraction | None:
    """A rational logarithm such as log2(8) or log(1/9, 27): a fraction near it that makes both powers equal."""
    size = math.log(base.numerator) - math.log(base.denominator)
    guess = (math.log(x.numerator) - math.log(x.denominator)) / size if size else math.inf
    if abs(guess) > MOST_BITS or bits(base) * abs(guess) > 2 * MOST_BITS:
        return None
    near = Fraction(guess).limit_denominator(LARGEST_ROOT)
    return near if base**near.numerator == x**near.denominator else None


# -- angles and hyperbolic functions ---------------------------------------------------------------------------------


_AT_ZERO = {0: Fraction(0)}


def _elementary(
    formula: Formula,
    slope: Callable[[float], float],
    exact: Mapping[int, Real] = _AT_ZERO,
    exists: Callable[[Real], bool] = lambda x: True,
    takes: str = "",
) -> Callable[[Real], Real]:
    """A function with its exact values; `takes` says where it exists."""

    def apply(x: Real) -> Real:
        if isinstance(x, Fraction) and x in exact:
            return exact[int(x)]
        if not exists(x):
            raise refusal(f"{takes}; check the argument.")
        return of_one(formula, x, slope)

    return apply


def _of_angle(formula: Formula, slope: Callable[[float], float], exact: Mapping[float, Real]) -> Callable[[Real], Real]:
    """sin, cos or tan, with its exact values at multiples of 15 degrees, by twelfths of a turn."""

    def apply(x: Real) -> Real:
        pis = Fraction(0) if x == 0 else x.pis if isinstance(x, Approximate) else None
        if pis is None:
            return of_one(formula, x, slope)
        twelfths = pis * 6 % 12
        if twelfths in exact:
            return exact[float(twelfths)]
        if formula == "tan(a)" and twelfths in (3, 9):
            raise refusal("the tangent of 90 degrees does not exist; check the angle.")
        return of_one(formula, twelfths * (PI / Fraction(6)), slope)

    return apply


_HALF, _QUARTER_TURN = Fraction(1, 2), PI / Fraction(2)
_SINES: dict[float, Real] = {
    0: Fraction(0), 1: _HALF, 3: Fraction(1), 5: _HALF, 6: Fraction(0), 7: -_HALF, 9: -Fraction(1), 11: -_HALF,
}  # fmt: skip
_COSINES: dict[float, Real] = {(place - 3) % 12: value for place, value in _SINES.items()}
_TANGENTS: dict[float, Real] = {
    0: Fraction(0), 1.5: Fraction(1), 4.5: -Fraction(1), 6: Fraction(0), 7.5: Fraction(1), 10.5: -Fraction(1),
}  # fmt: skip


def _side(a: float) -> float:
    return math.sqrt(max(1 - a * a, 1e-300))


def arctangent2(y: Real, x: Real) -> Real:
    if y == 0 and x > Fraction(0):
        return Fraction(0)
    if y == 0 and x == 0:
        raise refusal("atan2(0, 0) has no angle; check the arguments.")
    a, b = approximate(y), approximate(x)
    value = float_of("arctan2(a, b)", a=a.value, b=b.value)
    return Approximate(value, (a.error + b.error) / math.hypot(a.value, b.value) + 2 * HALF_ULP * abs(value))


# -- several numbers -------------------------------------------------------------------------------------------------


def total(*xs: Real) -> Real:
    return reduce(operator.add, xs)


def product(*xs: Real) -> Real:
    return reduce(operator.mul, xs)


def mean(*xs: Real) -> Real:
    return total(*xs) / Fraction(len(xs))


def median(*xs: Real) -> Real:
    return mean(*sorted(xs)[(len(xs) - 1) // 2 : len(xs) // 2 + 1])


def largest(*xs: Real) -> Real:
    return reduce(lambda a, b: a if a == b or a > b else b, xs)


def smallest(*xs: Real) -> Real:
    return reduce(lambda a, b: a if a == b or a < b else b, xs)


def _counting(count: Callable[[int, int], int]) -> Function:
    """comb or perm."""

    def apply(n: Real, k: Real) -> int:
        many, few = whole(n, "comb and perm"), whole(k, "comb and perm")
        if not (0 <= few <= many <= MOST_BITS):
            raise refusal(f"comb(n, k) and perm(n, k) take 0 <= k <= n <= {MOST_BITS}; check the arguments.")
        return count(many, few)

    return Function(2, 2, apply)


# -- the tables ------------------------------------------------------------------------------------------------------

RADIANS = "angles in radians"
NATURAL = "log read as the natural logarithm, log10 is base 10"


def _one(apply: Callable[[Real], Real | int], note: str = "") -> Function:
    return Function(1, 1, apply, note)


def _many(apply: Callable[..., Real | int]) -> Function:
    return Function(1, MANY, apply)


OPERATIONS: Mapping[str, Callable[..., Real | int]] = {
    "+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv, "^": power,
    "//": lambda a, b: math.floor(a / b), "mod": lambda a, b: a - b * Fraction(math.floor(a / b)),
    "neg": operator.neg, "%": lambda a: a / Fraction(100), "!": factorial,
}  # fmt: skip
_TABLE = {
    "sqrt": _one(square_root), "cbrt": _one(lambda x: root(x, Fraction(3))), "root": Function(2, 2, root),
    "abs fabs": _one(lambda x: x.__abs__()), "floor": _one(math.floor), "ceil ceiling": _one(math.ceil),
    "trunc int integer": _one(math.trunc), "round": Function(1, 2, to_places),
    "exp": _one(exponential), "ln": _one(logarithm), "log": Function(1, 2, logarithm, NATURAL),
    "log10 log_10": _one(lambda x: logarithm(x, Fraction(10))),
    "log2 log_2": _one(lambda x: logarithm(x, Fraction(2))),
    "sin": _one(_of_angle("sin(a)", math.cos, _SINES), RADIANS),
    "cos": _one(_of_angle("cos(a)", lambda a: -math.sin(a), _COSINES), RADIANS),
    "tan": _one(_of_angle("tan(a)", lambda a: 1 + math.tan(a) ** 2, _TANGENTS), RADIANS),
    "asin arcsin": _one(_elementary(
        "arcsin(a)", lambda a: 1 / _side(a), {0: Fraction(0), 1: _QUARTER_TURN, -1: -_QUARTER_TURN},
        lambda x: Fraction(-1) <= x <= Fraction(1), "arcsin takes numbers from -1 to 1"), RADIANS),
    "acos arccos": _one(_elementary(
        "arccos(a)", lambda a: -1 / _side(a), {0: _QUARTER_TURN, 1: Fraction(0), -1: PI},
        lambda x: Fraction(-1) <= x <= Fraction(1), "arccos takes numbers from -1 to 1"), RADIANS),
    "atan arctan": _one(_elementary(
        "arctan(a)", lambda a: 1 / (1 + a * a), {0: Fraction(0), 1: PI / Fraction(4), -1: PI / Fraction(-4)}), RADIANS),
    "atan2 arctan2": Function(2, 2, arctangent2, RADIANS),
    "sinh": _one(_elementary("sinh(a)", math.cosh)),
    "cosh": _one(_elementary("cosh(a)", math.sinh, {0: Fraction(1)})),
    "tanh": _one(_elementary("tanh(a)", lambda a: 1 - math.tanh(a) ** 2)),
    "asinh arcsinh": _one(_elementary("arcsinh(a)", lambda a: 1 / math.hypot(1, a))),
    "acosh arccosh": _one(_elementary(
        "arccosh(a)", lambda a: 1 / math.sqrt(a * a - 1), {1: Fraction(0)},
        lambda x: x > Fraction(1), "acosh takes numbers from 1 on")),
    "atanh arctanh": _one(_elementary(
        "arctanh(a)", lambda a: 1 / (1 - a * a), _AT_ZERO,
        lambda x: Fraction(-1) < x < Fraction(1), "atanh takes numbers between -1 and 1")),
    "degrees rad2deg": _one(lambda x: x / (PI / Fraction(180))),
    "radians deg2rad": _one(lambda x: x * (PI / Fraction(180))),
    "factorial fact": _one(factorial), "gcd": _many(lambda *xs: math.gcd(*(whole(x, "gcd") for x in xs))),
    "lcm": _many(lambda *xs: math.lcm(*(whole(x, "lcm") for x in xs))),
    "comb ncr binomial choose c": _counting(math.comb), "perm npr p": _counting(math.perm),
    "hypot": Function(2, 2, lambda a, b: square_root(a * a + b * b)), "pow power": Function(2, 2, power),
    "max maximum": _many(largest), "min minimum": _many(smallest), "sum add": _many(total),
    "product prod multiply": _many(product), "mean avg average": _many(mean), "median": _many(median),
    "subtract difference": Function(2, 2, operator.sub), "divide": Function(2, 2, operator.truediv),
    "mod modulo": Function(2, 2, OPERATIONS["mod"]),
}  # fmt: skip

FUNCTIONS = {name: function for names, function in _TABLE.items() for name in names.split()}
ONE_NAME = {name: names.split()[0] for names in _TABLE for name in names.split()}
DIMENSIONLESS = frozenset(
    """sin cos tan asin acos atan atan2 sinh cosh tanh asinh acosh atanh exp ln log log10 log2
degrees radians factorial comb perm gcd lcm""".split()
)
"""Functions whose value has no unit: cos(tan(30 degrees)) is the cosine of a plain number."""
TRIGONOMETRIC = frozenset({"sin", "cos", "tan"})
