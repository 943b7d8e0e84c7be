"""Numbers as text: exact where that is short, else the shortest text that is as true as the number itself."""

from __future__ import annotations

from decimal import Context, Decimal
from fractions import Fraction

from agentkit.tools.arithmetic.real import Approximate, Real, lost

TRUSTED = 1e-9  # largest relative error that is printed
MOST_DIGITS, FLOAT_DIGITS = 15, 17
LONGEST_ZEROS = 40
PLAIN_FROM, PLAIN_BELOW = Fraction(1, 10**7), 10**16
FLOAT_FROM, FLOAT_BELOW = Fraction(1, 10**300), 10**300


def text_of(value: Real) -> str:
    """The value as the observation prints it; refuses what rounding has made unsure."""
    if isinstance(value, Fraction):
        return exact_text(value)
    if is_rounded_to_zero(value) and value.error < 1e-12:
        return "0"
    if value.error > TRUSTED * abs(value.value):
        raise lost()
    return _approximate_text(value.value, value.error)


def is_rounded_to_zero(value: Real) -> bool:
    return isinstance(value, Approximate) and abs(value.value) <= value.error


def is_rounded(value: Real, text: str) -> bool:
    """Whether `text` looks like another, simpler number than the value is, or may be: 3, or 0.3333333333333334."""
    digits = len(Decimal(text).normalize().as_tuple().digits)
    if isinstance(value, Fraction):
        return digits < MOST_DIGITS and Fraction(text) != value
    exact = Fraction(value.value)
    is_ratio = value.error < 1e-12 and abs(exact - exact.limit_denominator(100)) <= value.error
    return (digits < 12 or is_ratio) and value.error < 1e-13 * abs(value.value)


def exact_text(value: Fraction) -> str:
    """Integers with all their digits; a decimal of up to 17 digits exactly; else as the nearest float prints.

    A longer decimal is written out where the float looks like another number: 1 + 1e-20 is not 1. Floats cannot hold
    what lies beyond 1e±300: 15 digits are given there.
    """
    if value.denominator == 1:
        return _whole_text(value.numerator)
    if FLOAT_FROM <= abs(value) < FLOAT_BELOW:
        text = _shortened(value, FLOAT_DIGITS) or repr(float(value))
        return _plain((is_rounded(value, text) and _shortened(value, LONGEST_ZEROS)) or text)
    quotient = Context(prec=MOST_DIGITS).divide(Decimal(value.numerator), Decimal(value.denominator))
    return _plain(str(quotient.normalize()))


def _whole_text(value: int) -> str:
    """All digits, unless they are nearly all zeros."""
    text = str(value)
    if len(text) <= LONGEST_ZEROS or len(text.rstrip("0")) > MOST_DIGITS:
        return text
    return _plain(text)


def _approximate_text(value: float, error: float) -> str:
    """The shortest text within half of `error`: what rounding has left of a float is not printed.

    One correctly rounded operation (error: one unit in the last place) prints as `repr` does.
    """
    for digits in range(1, 18):
        text = f"{value:.{digits}g}"
        if abs(float(text) - value) <= error / 2:
            return _plain(text)
    return _plain(repr(value))


def _plain(text: str) -> str:
    """`1e-05` as 0.00001 and `2.0` as 2, where that stays readable."""
    value = Decimal(text)
    if value == 0:
        return "0"
    if PLAIN_FROM <= abs(value) < PLAIN_BELOW:
        text = f"{value:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, _, exponent = f"{value:e}".partition("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    return f"{mantissa}e{exponent}"


def _shortened(value: Fraction, digits: int) -> str | None:
    """`value` in so many digits, where that loses nothing."""
    rounded = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
    return str(rounded) if Fraction(rounded) == value else None
