"""Arithmetic that is exact as long as it can be, and knows its error where it cannot.

Rational numbers stay `Fraction`s. Irrational ones are floats with a bound on their error, which every further operation
carries along: digits that rounding has destroyed are noticed, not printed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

from agentkit.tools.arithmetic.refusal import refusal

MOST_BITS = 4096
HALF_ULP = 2.0**-53
LARGEST_ROOT = 64


@dataclass(frozen=True, slots=True)
class Approximate:
    """A real number within `error` of `value`."""

    value: float
    error: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.value) and math.isfinite(self.error)):
            raise too_large()


Real = Fraction | Approximate


def bits(value: Fraction) -> int:
    return value.numerator.bit_length() + value.denominator.bit_length()


def settled(value: Fraction) -> Real:
    """The value as it is, or where its fraction has grown too long as a float; a too long integer is refused."""
    if bits(value) <= MOST_BITS:
        return value
    if value.denominator == 1:
        raise too_large()
    return approximate(value)


def too_large() -> Exception:
    return refusal("the result or a part of it is too large; calculate with smaller numbers or with logarithms.")


def lost() -> Exception:
    return refusal(
        "rounding has eaten the digits of this result; rearrange it so that nearly equal numbers do not cancel."
    )


def approximate(value: Real) -> Approximate:
    if isinstance(value, Approximate):
        return value
    try:
        nearest = float(value)
    except OverflowError:
        raise too_large() from None
    if value and abs(nearest) < 1e-290:
        raise refusal("a part of the result is too close to zero to calculate with; scale the numbers.")
    return Approximate(nearest, 0.0 if Fraction(nearest) == value else abs(nearest) * HALF_ULP)


def rounded(value: float, error: float) -> Approximate:
    """The float result of a basic operation: its own rounding added to the error it inherited."""
    if not math.isfinite(value):
        raise too_large()
    return Approximate(value, error + abs(value) * HALF_ULP)


def negated(a: Real) -> Real:
    return -a if isinstance(a, Fraction) else Approximate(-a.value, a.error)


def add(a: Real, b: Real) -> Real:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return settled(a + b)
    if a == 0 or b == 0:
        return a if b == 0 else b
    x, y = approximate(a), approximate(b)
    return rounded(x.value + y.value, x.error + y.error)


def subtract(a: Real, b: Real) -> Real:
    return add(a, negated(b))


def multiply(a: Real, b: Real) -> Real:
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return settled(a * b)
    if a == 0 or b == 0:
        return Fraction(0)
    x, y = approximate(a), approximate(b)
    product = x.value * y.value
    _check_underflow(product, x.value, y.value)
    return rounded(product, abs(x.value) * y.error + abs(y.value) * x.error + x.error * y.error)


def divide(a: Real, b: Real) -> Real:
    if b == 0:
        raise refusal("division by zero; check the divisor.")
    if isinstance(a, Fraction) and isinstance(b, Fraction):
        return settled(a / b)
    if a == 0:
        return Fraction(0)
    x, y = approximate(a), approximate(b)
    if abs(y.value) <= y.error:
        raise lost()
    quotient = x.value / y.value
    _check_underflow(quotient, x.value)
    return rounded(quotient, (x.error + abs(quotient) * y.error) / (abs(y.value) - y.error))


def _check_underflow(result: float, *operands: float) -> None:
    if abs(result) < 1e-290 and all(operands):
        raise refusal("the result is too close to zero to be calculated; scale the numbers.")


def floor(a: Real) -> Fraction:
    if isinstance(a, Fraction):
        return Fraction(math.floor(a))
    below = math.floor(a.value - a.error)
    if below != math.floor(a.value + a.error):
        raise refusal("the number is too close to a whole number to be rounded down or up; round it yourself.")
    return Fraction(below)


def modulo(a: Real, b: Real) -> Real:
    """The remainder with the sign of the divisor."""
    return subtract(a, multiply(b, whole_quotient(a, b)))


def whole_quotient(a: Real, b: Real) -> Fraction:
    return floor(divide(a, b))


def sign(a: Real) -> int:
    """-1, 0 or 1; refuses where rounding hides which."""
    if isinstance(a, Fraction):
        return (a > 0) - (a < 0)
    if abs(a.value) <= a.error:
        raise lost()
    return 1 if a.value > 0 else -1


def compare(a: Real, b: Real) -> int:
    """-1, 0 or 1 for a less than, equal to or greater than b."""
    return sign(subtract(a, b))


def exact_power(base: Fraction, exponent: Fraction) -> Fraction | None:
    """`base ** exponent` where it is rational and of bearable length, else None."""
    if base == 0 and exponent < 0:
        raise refusal("0 to a negative power is a division by zero; check the base.")
    if exponent.denominator == 1 and base in (0, 1, -1):
        return base ** int(exponent % 2 or 2 if exponent else 0)
    root: Fraction | None = base
    if exponent.denominator != 1:
        root = exact_root(base, exponent.denominator)
    if root is None or (root not in (0, 1) and bits(root) * abs(exponent.numerator) > 2 * MOST_BITS):
        return None
    if root in (0, 1):
        return root
    power = root**exponent.numerator
    return power if bits(power) <= MOST_BITS else None


def exact_root(value: Fraction, degree: int) -> Fraction | None:
    """The real root where it is rational. Degrees above 64 are not tried: such roots are 1 or have long powers."""
    if value in (0, 1):
        return value
    if value < 0 or degree > LARGEST_ROOT:
        return None
    top, bottom = _whole_root(value.numerator, degree), _whole_root(value.denominator, degree)
    return Fraction(top, bottom) if top**degree == value.numerator and bottom**degree == value.denominator else None


def _whole_root(value: int, degree: int) -> int:
    """The largest integer whose power is not above `value` (Newton's method)."""
    if degree == 2:
        return math.isqrt(value)
    guess = 1 << -(-value.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + value // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better
