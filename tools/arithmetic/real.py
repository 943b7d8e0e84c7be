"""Real numbers: exact while they are rational, and with a known error where they are not.

Rational numbers are `Fraction`s. Irrational ones are floats with a bound on their error, which every further operation
carries along: digits that rounding has destroyed are noticed, not printed.

Their values come from numexpr, which sees only the formulas written here, with float64 variables: never text from
outside, never names of a caller (its sanitizer lets single-quoted f-strings run code).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import total_ordering
from typing import Literal

from agentkit.tools.arithmetic.refusal import refusal

MOST_BITS = 4096
HALF_ULP = 2.0**-53
LARGEST_ROOT = 64
SMALLEST = 1e-290
SMALLEST_FULL_FLOAT = sys.float_info.min  # below it floats have fewer digits
STEEP, SMALL = 1e4, 1e-8  # up to where a first-order correction holds

Formula = Literal[
    "a ** b", "sqrt(a)", "exp(a)", "log(a)", "log10(a)", "log(a) / log(2.0)", "sin(a)", "cos(a)", "tan(a)",
    "arcsin(a)", "arccos(a)", "arctan(a)", "arctan2(a, b)", "sinh(a)", "cosh(a)", "tanh(a)", "arcsinh(a)", "arccosh(a)",
    "arctanh(a)",
]  # fmt: skip


@total_ordering
@dataclass(frozen=True, slots=True)
class Approximate:
    """A real number within `error` of `value`; `pis` times pi, where it is exactly that."""

    value: float
    error: float
    pis: Fraction | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and math.isfinite(self.error)):
            raise too_large()

    def __neg__(self) -> Approximate:
        return Approximate(-self.value, self.error, None if self.pis is None else -self.pis)

    def __abs__(self) -> Approximate:
        return -self if self.value < 0 else self

    def __add__(self, other: Real) -> Real:
        if other == 0:
            return self
        b = approximate(other)
        pis = None if self.pis is None or b.pis is None else self.pis + b.pis
        return Fraction(0) if pis == 0 else _rounded(self.value + b.value, self.error + b.error, pis)

    __radd__ = __add__

    def __sub__(self, other: Real) -> Real:
        return self + -other

    def __rsub__(self, other: Fraction) -> Real:
        return -self + other

    def __mul__(self, other: Real) -> Real:
        if other == 0:
            return Fraction(0)
        b = approximate(other)
        product = self.value * b.value
        if abs(product) < SMALLEST and self.value and b.value:
            raise too_small()
        error = abs(self.value) * b.error + abs(b.value) * self.error + self.error * b.error
        return _rounded(product, error, self.pis * other if self.pis and isinstance(other, Fraction) else None)

    __rmul__ = __mul__

    def __truediv__(self, other: Real) -> Real:
        if other == 0:
            raise ZeroDivisionError
        if isinstance(other, Fraction):
            return _quotient(self, approximate(other), self.pis / other if self.pis else None)
        return self.pis / other.pis if self.pis and other.pis else _quotient(self, other)

    def __rtruediv__(self, other: Fraction) -> Real:
        quotient = _quotient(approximate(other), self)  # which refuses a divisor that may be 0
        return Fraction(0) if other == 0 else quotient

    def __lt__(self, other: Real) -> bool:
        """Refuses where rounding hides which is less."""
        difference = self - other
        if isinstance(difference, Fraction):
            return difference < 0
        if abs(difference.value) <= difference.error:
            raise lost()
        return difference.value < 0

    def __floor__(self) -> int:
        below = math.floor(self.value - self.error)
        if below != math.floor(self.value + self.error):
            raise refusal("the number is too close to a whole number to be rounded down or up; round it yourself.")
        return below

    def __ceil__(self) -> int:
        return -math.floor(-self)

    def __trunc__(self) -> int:
        return math.ceil(self) if self < Fraction(0) else math.floor(self)


Real = Fraction | Approximate


def _rounded(value: float, error: float, pis: Fraction | None = None) -> Approximate:
    """The float result of a basic operation: its own rounding added to the error it inherited."""
    return Approximate(value, error + abs(value) * HALF_ULP, pis)


def _quotient(a: Approximate, b: Approximate, pis: Fraction | None = None) -> Approximate:
    if abs(b.value) <= b.error:
        raise lost()
    quotient = a.value / b.value
    if abs(quotient) < SMALLEST and a.value:
        raise too_small()
    return _rounded(quotient, (a.error + abs(quotient) * b.error) / (abs(b.value) - b.error), pis)


def approximate(value: Real) -> Approximate:
    if isinstance(value, Approximate):
        return value
    try:
        nearest = float(value)
    except OverflowError:
        raise too_large() from None
    if value and abs(nearest) < SMALLEST:
        raise too_small()
    return Approximate(nearest, 0.0 if Fraction(nearest) == value else abs(nearest) * HALF_ULP)


def settled(value: Real | int) -> Real:
    """The value as it is, or where its fraction has grown too long as a float; a too long integer is refused."""
    if isinstance(value, Approximate):
        return value
    if bits(value) <= MOST_BITS:
        return value if isinstance(value, Fraction) else Fraction(value)
    if value.denominator == 1:
        raise too_large()
    return approximate(Fraction(value))


def bits(value: Fraction | int) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def too_large() -> Exception:
    return refusal("the result or a part of it is too large; calculate with smaller numbers or with logarithms.")


def too_small() -> Exception:
    return refusal("the result or a part of it is too close to zero to be calculated; scale the numbers.")


def lost() -> Exception:
    return refusal(
        "rounding has eaten the digits of this result; rearrange it so that nearly equal numbers do not cancel."
    )


# -- irrational results ----------------------------------------------------------------------------------------------

PI = Approximate(math.pi, math.pi * HALF_ULP, Fraction(1))
E = Approximate(math.e, math.e * HALF_ULP)
CONSTANTS = {"pi": PI, "e": E, "tau": Approximate(math.tau, math.tau * HALF_ULP, Fraction(2))}


def float_of(formula: Formula, **variables: float) -> float:
    """One of our formulas for floats."""
    import numpy
    from numexpr.necompiler import evaluate

    scalars = {name: numpy.float64(value) for name, value in variables.items()}
    value = float(evaluate(formula, local_dict=scalars, global_dict={}))
    if not math.isfinite(value):
        raise too_large()
    return value


def of_one(formula: Formula, x: Real, slope: Callable[[float], float]) -> Approximate:
    """A function of one number; `slope` is its derivative, which is what it does to an error.

    What a fraction lost when it became a float is known, so it is put back (to first order).
    """
    a = approximate(x)
    value = float_of(formula, a=a.value)
    try:
        steep = abs(slope(a.value)) if a.error else 0.0
    except ZeroDivisionError:  # at an end of where the function exists, as acosh(1 + 1e-20)
        raise lost() from None
    inherited = steep * a.error * 1.01 + a.error * a.error
    if isinstance(x, Fraction) and 0 < a.error < SMALL and steep < STEEP:
        value += slope(a.value) * _residue(x, a)
        inherited = HALF_ULP * steep * a.error + a.error * a.error
    if abs(value) < SMALLEST_FULL_FLOAT and x != 0:
        raise too_small()
    return Approximate(value, inherited + 2 * HALF_ULP * abs(value))


def _residue(exact: Real, nearest: Approximate) -> float:
    return float(exact - Fraction(nearest.value)) if isinstance(exact, Fraction) and nearest.error else 0.0


def exponential(x: Real) -> Real:
    """e to the power x. Its error is relative: an absolute one would swamp small results."""
    if x in (0, 1):
        return E if x == 1 else Fraction(1)
    a = approximate(x)
    value, put_back = float_of("exp(a)", a=a.value), _residue(x, a)
    if value < SMALLEST_FULL_FLOAT:
        raise too_small()
    if a.error > SMALL:
        raise lost()
    relative = put_back * put_back if isinstance(x, Fraction) else math.expm1(a.error)
    return Approximate(value * (1 + put_back), value * (relative * 1.01 + 2 * HALF_ULP))


def power(base: Real, exponent: Real) -> Real:
    """`base ** exponent`, exact where it is rational."""
    if base == E:
        return exponential(exponent)
    if base == 0 and exponent < Fraction(0):
        raise refusal("0 to a negative power is a division by zero; check the base.")
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        exact = _exact_power(base, exponent)
        if exact is not None:
            return exact
    if base == 0:
        return Fraction(0)
    if base < Fraction(0):
        if not isinstance(exponent, Fraction) or exponent.denominator != 1:
            raise refusal("a negative number to a fractional power is no real number; use cbrt(x) or a positive base.")
        size = power(-base, exponent)
        return size if exponent % 2 == 0 else -size
    return Fraction(1) if exponent == 0 else _float_power(base, exponent)


def _exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """The power where it is rational and of bearable length, else None."""
    root = base if exponent.denominator == 1 else exact_root(base, exponent.denominator)
    if root is None or (abs(root) not in (0, 1) and bits(root) * abs(exponent.numerator) > 2 * MOST_BITS):
        return None
    power = root**exponent.numerator
    return power if bits(power) <= MOST_BITS else None


def exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The real root where it is rational. Degrees above 64 are not tried: such roots are 1 or have long powers."""
    if value in (0, 1):
        return value
    if value < 0 or degree > LARGEST_ROOT:
        return None
    root = Fraction(_whole_root(value.numerator, degree), _whole_root(value.denominator, degree))
    return root if root**degree == value else None


def _whole_root(value: int, degree: int) -> int:
    """The largest integer whose power is not above `value` (Newton's method)."""
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def _float_power(base: Real, exponent: Real) -> Approximate:
    """What exact operands lost when they became floats is put back, as in `of_one`."""
    a, b = approximate(base), approximate(exponent)
    if a.value <= a.error:
        raise lost()
    value = float_of("a ** b", a=a.value, b=b.value)
    if value < SMALLEST:
        raise too_small()
    from_base, from_exponent = b.value / (a.value - a.error), math.log(a.value)
    put_back = from_base * _residue(base, a) + from_exponent * _residue(exponent, b)
    relative = abs(put_back) * 1e-6 + put_back * put_back
    relative += abs(from_base) * a.error if isinstance(base, Approximate) else 0.0
    relative += abs(from_exponent) * b.error if isinstance(exponent, Approximate) else 0.0
    return Approximate(value * (1 + put_back), value * (relative * 1.01 + 2 * HALF_ULP))
