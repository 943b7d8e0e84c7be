"""The value of an expression and its units, with notes of what could surprise on the way."""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from fractions import Fraction

from agentkit.tools.arithmetic import units
from agentkit.tools.arithmetic.expression import (
    COMPARISONS,
    DEGREE,
    NO_UNITS,
    RADIAN,
    Constant,
    Group,
    Node,
    Number,
    Operation,
    Quantity,
    Reading,
    Units,
    is_binary,
    is_percentage,
    rendered,
)
from agentkit.tools.arithmetic.functions import DIMENSIONLESS, FUNCTIONS, MOST_PLACES, OPERATIONS, TRIGONOMETRIC
from agentkit.tools.arithmetic.number_text import text_of
from agentkit.tools.arithmetic.real import CONSTANTS, PI, Approximate, Real, settled
from agentkit.tools.arithmetic.refusal import ambiguous, refusal

_ORDERS = {
    "=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, ">": operator.gt, "<=": operator.le,
    ">=": operator.ge,
}  # fmt: skip


def value_of(node: Node, reading: Reading) -> Real:
    match node:
        case Number(value=value):
            return settled(value)
        case Constant(name=name):
            return CONSTANTS[name]
        case Group(inner=inner):
            return value_of(inner, reading)
        case Quantity(inner=inner, units=own):
            if "degree" in own and _calls_function(inner):
                raise refusal("whether this angle is in degrees is not clear; functions give radians: use degrees(x).")
            return value_of(inner, reading)
        case Operation(sign=sign) if sign in COMPARISONS:
            raise refusal("a comparison cannot be part of a calculation; compare in a step of its own.")
        case Operation(sign=sign, parts=parts):
            values = [value_of(part, reading) for part in parts]
            if sign in ("+", "-") and (is_percentage(parts[0]) != is_percentage(parts[1])):
                _check_percent(node, *values)
            found = units_of(parts[0]) if sign in TRIGONOMETRIC else NO_UNITS
            if found and found != RADIAN:
                values = [_in_radians(values[0], found)]
            elif note := _surprise(sign, values):
                reading.note(note)
            apply = OPERATIONS.get(sign) or FUNCTIONS[sign].apply
            try:
                return settled(apply(*values))
            except ZeroDivisionError:
                raise refusal("division by zero; check the divisor.") from None


def holds(sign: str, left: Real, right: Real) -> bool:
    """Whether a comparison is true."""
    difference = left - right
    order = 0 if difference == 0 else -1 if difference < Fraction(0) else 1
    return bool(_ORDERS[sign](order, 0))


def _surprise(sign: str, values: list[Real]) -> str:
    """How an operation or a function was read, where that could surprise."""
    first, last = values[0], values[-1]
    if sign == "mod" and (first < Fraction(0) or last < Fraction(0)):
        return "the remainder has the sign of the divisor"
    if sign == "^" and first == 0 and last == 0:
        return "0^0 taken as 1"
    if sign == "round" and _is_tie(*values):
        return "halves rounded away from zero"
    exact_angle = sign in TRIGONOMETRIC and isinstance(first, Approximate) and first.pis is not None
    if sign not in FUNCTIONS or first == 0 or exact_angle or (sign == "log" and len(values) == 2):
        return ""
    return FUNCTIONS[sign].note


def _is_tie(number: Real, places: Real = Fraction(0)) -> bool:
    if not isinstance(number, Fraction) or not isinstance(places, Fraction) or abs(places) > MOST_PLACES:
        return False
    return (number * Fraction(10) ** int(places)) % 1 == Fraction(1, 2)


def _in_radians(angle: Real, found: Units) -> Real:
    if found != DEGREE:
        raise refusal("the angle is in a unit that is not understood; give plain degrees or radians.")
    turned = angle % 360 if isinstance(angle, Fraction) else angle
    return turned / Fraction(30) * (PI / Fraction(6))


def _check_percent(node: Operation, left: Real, right: Real) -> None:
    """Refuses `200 + 15%`, which is 230 or 200.15, and `15% + 200`; only to 1 may a percentage be added."""
    sign, apply = node.sign, OPERATIONS[node.sign]
    first, second = map(rendered, node.parts)
    written, alone = f"{first}{sign}{second}", text_of(settled(apply(left, right)))
    if is_percentage(node.parts[0]):
        if right != 1:
            both = text_of(settled(apply(left, right / Fraction(100))))
            raise ambiguous(written, f"{written}% = {both}", f"({first}){sign}{second} = {alone}")
    elif left != 1:
        bracketed = f"({first})" if is_binary(node.parts[0]) else first
        of_it = text_of(settled(apply(left, left * right)))
        plain = f"{second[:-1]}/100" if second.endswith("%") else f"({second})"
        raise ambiguous(written, f"{bracketed}*(1{sign}{second}) = {of_it}", f"{first}{sign}{plain} = {alone}")


def _calls_function(node: Node) -> bool:
    match node:
        case Group(inner=inner) | Quantity(inner=inner):
            return _calls_function(inner)
        case Operation(sign=sign, parts=parts):
            return sign in FUNCTIONS or any(map(_calls_function, parts))
        case _:
            return False


# -- units -----------------------------------------------------------------------------------------------------------


def units_of(node: Node) -> Units:
    """The units of a node's value; refuses sums and leftovers in which conversion was forgotten."""
    found = _units(node)
    units.check_cancelled(found, lambda: _quantities(node))
    return found


def _units(node: Node) -> Units:
    match node:
        case Quantity(inner=inner, units=own):
            return units.times(_units(inner), own)
        case Group(inner=inner) | Operation(sign="neg" | "%", parts=(inner,)):
            return _units(inner)
        case Operation(sign="*" | "/" as sign, parts=(left, right)):
            return units.times(_units(left), _units(right), 1 if sign == "*" else -1)
        case Operation(sign="^", parts=parts):
            below, above = map(units_of, parts)
            if above and not (isinstance(parts[1], Quantity) and not below):  # in 5^2 cm the words stand behind it
                raise refusal("an exponent has no unit; leave it out.")
            exponent = parts[1].value if isinstance(parts[1], Number) else Fraction(1)
            return above or {unit: power * int(exponent) for unit, power in below.items() if exponent.denominator == 1}
        case Operation(sign=sign, parts=parts):
            shared = _shared([units_of(part) for part in parts])
            return NO_UNITS if sign in DIMENSIONLESS else shared
        case _:
            return NO_UNITS


def _shared(all_units: Sequence[Units]) -> Units:
    """The units of things that are added, compared or given to a function. A plain number takes the others' unit."""
    shared = next(filter(None, all_units), NO_UNITS)
    for own in all_units:
        if own or "degree" in shared:  # in pi + 30 degrees it does not
            units.check_alike(shared, own)
    return shared


def _quantities(node: Node) -> Iterator[Units]:
    """The units of every number with units in an expression."""
    match node:
        case Quantity(inner=inner, units=own):
            yield own
            yield from _quantities(inner)
        case Group(inner=inner):
            yield from _quantities(inner)
        case Operation(parts=parts):
            for part in parts:
                yield from _quantities(part)
