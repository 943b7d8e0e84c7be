"""The functions an expression may call: how many arguments they take, and what they are for exact and other numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import reduce

from agentkit.tools.arithmetic import exact, irrational
from agentkit.tools.arithmetic.exact import (
    MOST_BITS,
    Approximate,
    Real,
    compare,
    divide,
    multiply,
    negated,
    sign,
    subtract,
)
from agentkit.tools.arithmetic.irrational import Formula, exponential, of_one, power
from agentkit.tools.arithmetic.refusal import refusal

LARGEST_FACTORIAL = 300
MOST_PLACES = 300
MANY = 200


@dataclass(frozen=True, slots=True)
class Function:
    """`note` says how the function was read, where that could surprise."""

    least: int
    most: int
    apply: Callable[..., Real]
    note: str = ""


def whole(value: Real, name: str) -> int:
    if not isinstance(value, Fraction) or value.denominator != 1:
        raise refusal(f"{name} takes whole numbers; give it integers.")
    return value.numerator


def factorial(x: Real) -> Fraction:
    n = whole(x, "factorial")
    if not 0 <= n <= LARGEST_FACTORIAL:
        raise refusal(f"factorial takes whole numbers from 0 to {LARGEST_FACTORIAL}; use a smaller one.")
    return Fraction(math.factorial(n))


def absolute(x: Real) -> Real:
    return abs(x) if isinstance(x, Fraction) else Approximate(abs(x.value), x.error)


def ceiling(x: Real) -> Fraction:
    return -exact.floor(negated(x))


def truncated(x: Real) -> Fraction:
    return exact.floor(x) if sign(x) >= 0 else ceiling(x)


def to_places(x: Real, places: Real = Fraction(0)) -> Real:
    """Rounded, halves away from zero."""
    n = whole(places, "round(x, places)")
    if abs(n) > MOST_PLACES:
        raise refusal(f"round takes up to {MOST_PLACES} places; use fewer.")
    shift = Fraction(10) ** n
    scaled = exact.add(absolute(multiply(x, shift)), Fraction(1, 2))
    size = exact.floor(scaled) / shift
    return size if sign(x) >= 0 else -size


def root(x: Real, degree: Real) -> Real:
    n = whole(degree, "root(x, n)")
    if n < 1:
        raise refusal("root(x, n) takes a positive whole n; use ^ for other powers.")
    if sign(x) >= 0:
        return square_root(x) if n == 2 else power(x, Fraction(1, n))
    if n % 2 == 0:
        raise refusal("an even root of a negative number is no real number; check the sign.")
    return negated(power(negated(x), Fraction(1, n)))


def square_root(x: Real) -> Real:
    if sign(x) < 0:
        raise refusal("the square root of a negative number is no real number; check the sign.")
    if isinstance(x, Fraction):
        found = exact.exact_root(x, 2)
        if found is not None:
            return found
    return of_one("sqrt(a)", x, lambda a: 0.5 / math.sqrt(a))


def logarithm(x: Real, base: Real | None = None) -> Real:
    return natural_log(x) if base is None else log_to(x, base)


def natural_log(x: Real) -> Real:
    _check_log(x)
    if x == 1:
        return Fraction(0)
    if x == irrational.E:
        return Fraction(1)
    return of_one("log(a)", x, lambda a: 1 / a)


def log_to(x: Real, base: Real) -> Real:
    _check_log(x)
    _check_log(base)
    if base == 1:
        raise refusal("a logarithm to base 1 does not exist; use another base.")
    if isinstance(x, Fraction) and isinstance(base, Fraction):
        if (found := _exact_log(x, base)) is not None:
            return found
        if base in (2, 10):
            formula: Formula = "log10(a)" if base == 10 else "log(a) / log(2.0)"
            size = math.log(base)
            return of_one(formula, x, lambda a: 1 / (a * size))
    return divide(natural_log(x), natural_log(base))


def _exact_log(x: Fraction, base: Fraction) -> Fraction | None:
    """A small rational logarithm such as log2(8) or log(1/9, 3), tried as an integer power of the base."""
    guess = (math.log(x.numerator) - math.log(x.denominator)) / (math.log(base.numerator) - math.log(base.denominator))
    if abs(guess) > MOST_BITS or exact.bits(base) * abs(guess) > 2 * MOST_BITS:
        return None
    near = round(guess)
    return Fraction(near) if base**near == x else None


def _check_log(x: Real) -> None:
    if sign(x) <= 0:
        raise refusal("logarithms exist for positive numbers only; check the argument.")


def within(formula: Formula, slope: Callable[[float], float]) -> Callable[[Real], Real]:
    """A function that exists from -1 to 1."""

    def apply(x: Real) -> Real:
        if x in (1, -1):
            return of_one(formula, x, slope)
        if compare(absolute(x), Fraction(1)) > 0:
            raise refusal(f"{formula.split('(')[0]} takes numbers from -1 to 1; check the argument.")
        return Fraction(0) if x == 0 and formula == "arcsin(a)" else of_one(formula, x, slope)

    return apply


def _side(a: float) -> float:
    return math.sqrt(max(1 - a * a, 1e-300))


def odd(formula: Formula, slope: Callable[[float], float]) -> Callable[[Real], Real]:
    """A function that is 0 at 0."""
    return lambda x: Fraction(0) if x == 0 else of_one(formula, x, slope)


def cosh(x: Real) -> Real:
    return Fraction(1) if x == 0 else of_one("cosh(a)", x, math.sinh)


def arcosh(x: Real) -> Real:
    if compare(x, Fraction(1)) <= 0:
        if x == 1:
            return Fraction(0)
        raise refusal("acosh takes numbers from 1 on; check the argument.")
    return of_one("arccosh(a)", x, lambda a: 1 / math.sqrt(a * a - 1))


def artanh(x: Real) -> Real:
    if compare(absolute(x), Fraction(1)) >= 0:
        raise refusal("atanh takes numbers between -1 and 1; check the argument.")
    return Fraction(0) if x == 0 else of_one("arctanh(a)", x, lambda a: 1 / (1 - a * a))


def arctan2(y: Real, x: Real) -> Real:
    if y == 0 and sign(x) > 0:
        return Fraction(0)
    if y == 0 and x == 0:
        raise refusal("atan2(0, 0) has no angle; check the arguments.")
    a, b = exact.approximate(y), exact.approximate(x)
    value = irrational.float_of("arctan2(a, b)", a=a.value, b=b.value)
    return Approximate(value, (a.error + b.error) / math.hypot(a.value, b.value) + 2 * exact.HALF_ULP * abs(value))


def total(*xs: Real) -> Real:
    return reduce(exact.add, xs)


def product(*xs: Real) -> Real:
    return reduce(multiply, xs)


def mean(*xs: Real) -> Real:
    return divide(total(*xs), Fraction(len(xs)))


def median(*xs: Real) -> Real:
    ordered: list[Real] = []
    for x in xs:
        place = next((i for i, other in enumerate(ordered) if compare(x, other) < 0), len(ordered))
        ordered.insert(place, x)
    return mean(*ordered[(len(xs) - 1) // 2 : len(xs) // 2 + 1])


def largest(*xs: Real) -> Real:
    return reduce(lambda a, b: a if a == b or compare(a, b) > 0 else b, xs)


def smallest(*xs: Real) -> Real:
    return reduce(lambda a, b: a if a == b or compare(a, b) < 0 else b, xs)


def common_divisor(*xs: Real) -> Real:
    return Fraction(math.gcd(*(whole(x, "gcd") for x in xs)))


def common_multiple(*xs: Real) -> Real:
    return reduce(lambda a, b: exact.settled(Fraction(math.lcm(whole(a, "lcm"), whole(b, "lcm")))), xs)


def combinations(n: Real, k: Real) -> Real:
    many, few = _n_and_k(n, k)
    return exact.settled(Fraction(math.comb(many, few)))


def permutations(n: Real, k: Real) -> Real:
    many, few = _n_and_k(n, k)
    return exact.settled(Fraction(math.perm(many, few)))


def _n_and_k(n: Real, k: Real) -> tuple[int, int]:
    many, few = whole(n, "comb and perm"), whole(k, "comb and perm")
    if not (0 <= few <= many <= MOST_BITS):
        raise refusal(f"comb(n, k) and perm(n, k) take 0 <= k <= n <= {MOST_BITS}; check the arguments.")
    return many, few


def hypotenuse(a: Real, b: Real) -> Real:
    return square_root(exact.add(multiply(a, a), multiply(b, b)))


RADIANS = "angles in radians"
NATURAL = "log read as the natural logarithm, log10 is base 10"
DEGREES_PER_RADIAN = divide(Fraction(180), irrational.PI)


def _one(apply: Callable[[Real], Real], note: str = "") -> Function:
    return Function(1, 1, apply, note)


_TABLE = {
    "sqrt": _one(square_root), "cbrt": _one(lambda x: root(x, Fraction(3))), "root": Function(2, 2, root),
    "abs fabs": _one(absolute), "floor": _one(exact.floor), "ceil ceiling": _one(ceiling),
    "trunc int integer": _one(truncated), "round": Function(1, 2, to_places),
    "exp": _one(exponential), "ln": _one(natural_log), "log": Function(1, 2, logarithm, NATURAL),
    "log10 log_10": _one(lambda x: log_to(x, Fraction(10))), "log2 log_2": _one(lambda x: log_to(x, Fraction(2))),
    "sin": _one(odd("sin(a)", math.cos), RADIANS),
    "cos": _one(lambda x: of_one("cos(a)", x, lambda a: -math.sin(a)), RADIANS),
    "tan": _one(odd("tan(a)", lambda a: 1 + math.tan(a) ** 2), RADIANS),
    "asin arcsin": _one(within("arcsin(a)", lambda a: 1 / _side(a)), RADIANS),
    "acos arccos": _one(within("arccos(a)", lambda a: -1 / _side(a)), RADIANS),
    "atan arctan": _one(odd("arctan(a)", lambda a: 1 / (1 + a * a)), RADIANS),
    "atan2 arctan2": Function(2, 2, arctan2, RADIANS),
    "sinh": _one(odd("sinh(a)", math.cosh)), "cosh": _one(cosh),
    "tanh": _one(odd("tanh(a)", lambda a: 1 - math.tanh(a) ** 2)),
    "asinh arcsinh": _one(odd("arcsinh(a)", lambda a: 1 / math.hypot(1, a))), "acosh arccosh": _one(arcosh),
    "atanh arctanh": _one(artanh),
    "degrees rad2deg": _one(lambda x: multiply(x, DEGREES_PER_RADIAN)),
    "radians deg2rad": _one(lambda x: divide(x, DEGREES_PER_RADIAN)),
    "factorial fact": _one(factorial), "gcd": Function(1, MANY, common_divisor),
    "lcm": Function(1, MANY, common_multiple),
    "comb ncr binomial choose": Function(2, 2, combinations), "perm npr": Function(2, 2, permutations),
    "hypot": Function(2, 2, hypotenuse), "pow power": Function(2, 2, power),
    "max maximum": Function(1, MANY, largest), "min minimum": Function(1, MANY, smallest),
    "sum add": Function(1, MANY, total), "product prod multiply": Function(1, MANY, product),
    "mean avg average": Function(1, MANY, mean), "median": Function(1, MANY, median),
    "subtract difference": Function(2, 2, subtract), "divide": Function(2, 2, divide),
}  # fmt: skip

FUNCTIONS = {name: function for names, function in _TABLE.items() for name in names.split()}
ONE_NAME = {name: names.split()[0] for names in _TABLE for name in names.split()}
TRIGONOMETRIC = frozenset({"sin", "cos", "tan"})
