"""Irrational results through numexpr, with a bound on their error.

numexpr sees only the expressions written here, with float64 variables: never text from outside, never names of a caller
(its sanitizer lets single-quoted f-strings run code).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from agentkit.tools.exact import HALF_ULP, Approximate, Real, approximate, compare, exact_power, lost, too_large
from agentkit.tools.refusal import refusal

Formula = Literal[
    "a ** b", "sqrt(a)", "exp(a)", "log(a)", "log10(a)", "log(a) / log(2.0)", "sin(a)", "cos(a)", "tan(a)",
    "arcsin(a)", "arccos(a)", "arctan(a)", "arctan2(a, b)", "sinh(a)", "cosh(a)", "tanh(a)", "arcsinh(a)", "arccosh(a)",
    "arctanh(a)",
]  # fmt: skip

PI = Approximate(math.pi, math.pi * HALF_ULP)
E = Approximate(math.e, math.e * HALF_ULP)
CONSTANTS = {"pi": PI, "e": E, "tau": Approximate(math.tau, math.tau * HALF_ULP)}


def float_of(formula: Formula, **variables: float) -> float:
    """One of our formulas for floats."""
    import numexpr
    import numpy

    scalars = {name: numpy.float64(value) for name, value in variables.items()}
    return float(numexpr.evaluate(formula, local_dict=scalars, global_dict={}))


def of_one(formula: Formula, x: Real, slope: Callable[[float], float]) -> Approximate:
    """A function of one number; `slope` bounds its derivative near a point, which is what it does to an error."""
    a = approximate(x)
    value = float_of(formula, a=a.value)
    if not math.isfinite(value):
        raise too_large()
    if value == 0.0 and x != 0:
        raise refusal("the result is too close to zero to be calculated; scale the numbers.")
    inherited = abs(slope(a.value)) * a.error * 1.01 if a.error else 0.0
    return Approximate(value, inherited + 2 * HALF_ULP * abs(value))


def power(base: Real, exponent: Real) -> Real:
    """`base ** exponent`, exact where it is rational."""
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        exact = exact_power(base, exponent)
        if exact is not None:
            return exact
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and compare(base, Fraction(0)) < 0:
        size = power(-base if isinstance(base, Fraction) else Approximate(-base.value, base.error), exponent)
        return size if exponent % 2 == 0 else (-size if isinstance(size, Fraction) else Approximate(-size.value, size.error))
    if base == 0:
        return _power_of_zero(exponent)
    if compare(base, Fraction(0)) < 0:
        raise refusal("a negative number to a fractional power is no real number; use cbrt(x) or a positive base.")
    if exponent == 0:
        return Fraction(1)
    return _float_power(approximate(base), approximate(exponent))


def _power_of_zero(exponent: Real) -> Fraction:
    if compare(exponent, Fraction(0)) < 0:
        raise refusal("0 to a negative power is a division by zero; check the base.")
    return Fraction(0)


def _float_power(a: Approximate, b: Approximate) -> Approximate:
    if a.value <= a.error:
        raise lost()
    value = float_of("a ** b", a=a.value, b=b.value)
    if not math.isfinite(value):
        raise too_large()
    if value < 1e-290:
        raise refusal("the result is too close to zero to be calculated; scale the numbers.")
    relative = abs(b.value) * a.error / (a.value - a.error) + abs(math.log(a.value)) * b.error
    return Approximate(value, value * (relative * 1.01 + 2 * HALF_ULP))
