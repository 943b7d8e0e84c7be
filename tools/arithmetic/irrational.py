"""Irrational results through numexpr, with a bound on their error.

numexpr sees only the expressions written here, with float64 variables: never text from outside, never names of a caller
(its sanitizer lets single-quoted f-strings run code).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Literal

from agentkit.tools.arithmetic.exact import (
    HALF_ULP,
    Approximate,
    Real,
    approximate,
    exact_power,
    lost,
    negated,
    sign,
    too_large,
)
from agentkit.tools.arithmetic.refusal import refusal

Formula = Literal[
    "a ** b", "sqrt(a)", "exp(a)", "log(a)", "log10(a)", "log(a) / log(2.0)", "sin(a)", "cos(a)", "tan(a)",
    "arcsin(a)", "arccos(a)", "arctan(a)", "arctan2(a, b)", "sinh(a)", "cosh(a)", "tanh(a)", "arcsinh(a)", "arccosh(a)",
    "arctanh(a)",
]  # fmt: skip

STEEP, SMALL = 1e4, 1e-8  # up to where a first-order correction holds

PI = Approximate(math.pi, math.pi * HALF_ULP)
E = Approximate(math.e, math.e * HALF_ULP)
CONSTANTS = {"pi": PI, "e": E, "tau": Approximate(math.tau, math.tau * HALF_ULP)}


def float_of(formula: Formula, **variables: float) -> float:
    """One of our formulas for floats."""
    import numpy
    from numexpr.necompiler import evaluate

    scalars = {name: numpy.float64(value) for name, value in variables.items()}
    return float(evaluate(formula, local_dict=scalars, global_dict={}))


def of_one(formula: Formula, x: Real, slope: Callable[[float], float]) -> Approximate:
    """A function of one number; `slope` is its derivative, which is what it does to an error.

    What a fraction lost when it became a float is known, so it is put back (to first order).
    """
    a = approximate(x)
    value = float_of(formula, a=a.value)
    if not math.isfinite(value):
        raise too_large()
    steep = abs(slope(a.value)) if a.error else 0.0
    inherited = steep * a.error * 1.01 + a.error * a.error
    if isinstance(x, Fraction) and 0 < a.error < SMALL and steep < STEEP:
        value += slope(a.value) * float(x - Fraction(a.value))
        inherited = HALF_ULP * steep * a.error + a.error * a.error
    if value == 0.0 and x != 0:
        raise refusal("the result is too close to zero to be calculated; scale the numbers.")
    return Approximate(value, inherited + 2 * HALF_ULP * abs(value))


def exponential(x: Real) -> Real:
    """e to the power x."""
    if x == 0:
        return Fraction(1)
    return E if x == 1 else of_one("exp(a)", x, math.exp)


def power(base: Real, exponent: Real) -> Real:
    """`base ** exponent`, exact where it is rational."""
    if base == E:
        return exponential(exponent)
    if isinstance(base, Fraction) and isinstance(exponent, Fraction):
        exact = exact_power(base, exponent)
        if exact is not None:
            return exact
    if isinstance(exponent, Fraction) and exponent.denominator == 1 and sign(base) < 0:
        size = power(negated(base), exponent)
        return size if exponent % 2 == 0 else negated(size)
    if base == 0:
        return _power_of_zero(exponent)
    if sign(base) < 0:
        raise refusal("a negative number to a fractional power is no real number; use cbrt(x) or a positive base.")
    if exponent == 0:
        return Fraction(1)
    return _float_power(base, exponent)


def _power_of_zero(exponent: Real) -> Fraction:
    if sign(exponent) < 0:
        raise refusal("0 to a negative power is a division by zero; check the base.")
    return Fraction(0)


def _float_power(base: Real, exponent: Real) -> Approximate:
    """What exact operands lost when they became floats is put back, as in `of_one`."""
    a, b = approximate(base), approximate(exponent)
    if a.value <= a.error:
        raise lost()
    value = float_of("a ** b", a=a.value, b=b.value)
    if not math.isfinite(value):
        raise too_large()
    if value < 1e-290:
        raise refusal("the result is too close to zero to be calculated; scale the numbers.")
    from_base, from_exponent = b.value / (a.value - a.error), math.log(a.value)
    put_back = from_base * _residue(base, a) + from_exponent * _residue(exponent, b)
    relative = abs(put_back) * 1e-6 + put_back * put_back
    relative += abs(from_base) * a.error if isinstance(base, Approximate) else 0.0
    relative += abs(from_exponent) * b.error if isinstance(exponent, Approximate) else 0.0
    return Approximate(value * (1 + put_back), value * (relative * 1.01 + 2 * HALF_ULP))


def _residue(exact: Real, nearest: Approximate) -> float:
    return float(exact - Fraction(nearest.value)) if isinstance(exact, Fraction) and nearest.error else 0.0
