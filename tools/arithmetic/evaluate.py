"""The value of an expression, its units, and the readings that were taken on the way."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from agentkit.tools.arithmetic import exact, units
from agentkit.tools.arithmetic.decimal_text import approximate_text, exact_text
from agentkit.tools.arithmetic.exact import Approximate, Real
from agentkit.tools.arithmetic.expression import (
    DEGREE,
    NO_UNITS,
    Binary,
    Call,
    Comparison,
    Constant,
    Factorial,
    Group,
    Negative,
    Node,
    Number,
    Percent,
    Quantity,
    Units,
    rendered,
)
from agentkit.tools.arithmetic.functions import FUNCTIONS, TRIGONOMETRIC, factorial
from agentkit.tools.arithmetic.irrational import CONSTANTS, PI, power
from agentkit.tools.arithmetic.refusal import ambiguous, refusal

TRUSTED = 1e-9  # largest relative error that is printed
_OPERATIONS = {
    "+": exact.add, "-": exact.subtract, "*": exact.multiply, "/": exact.divide, "^": power, "mod": exact.modulo,
    "//": exact.whole_quotient,
}  # fmt: skip
_SINES = {0: "0", 1: "1/2", 3: "1", 5: "1/2", 6: "0", 7: "-1/2", 9: "-1", 11: "-1/2"}


class Evaluation:
    """Evaluates one expression; `readings` collects what could surprise."""

    def __init__(self) -> None:
        self.readings: dict[str, None] = {}

    def value(self, node: Node) -> Real:
        match node:
            case Number(value=value):
                return exact.settled(value)
            case Constant(name=name):
                return CONSTANTS[name]
            case Quantity(inner=inner) | Group(inner=inner):
                return self.value(inner)
            case Negative(inner=inner):
                return exact.negated(self.value(inner))
            case Percent(inner=inner):
                return exact.divide(self.value(inner), Fraction(100))
            case Factorial(inner=inner):
                return factorial(self.value(inner))
            case Call():
                return self._call(node)
            case Binary():
                return self._binary(node)
            case Comparison():
                raise refusal("a comparison cannot be part of a calculation; compare in a step of its own.")

    def holds(self, node: Comparison) -> bool:
        units.check_alike(units_of(node.left), units_of(node.right))
        order = exact.compare(self.value(node.left), self.value(node.right))
        return {"=": order == 0, "==": order == 0, "!=": order != 0, "<": order < 0, ">": order > 0,
                "<=": order <= 0, ">=": order >= 0}[node.operator]  # fmt: skip

    def _binary(self, node: Binary) -> Real:
        chain = _chain(node)
        left = self.value(chain[0].left)
        for operation in chain:
            left = self._operation(operation, left, self.value(operation.right))
        return left

    def _operation(self, node: Binary, left: Real, right: Real) -> Real:
        if node.operator in "+-" and _is_percent(node.right) and not _has_percent(node.left) and left != 1:
            raise self._percent_of_what(node, left, right)
        if node.operator == "mod" and (exact.sign(left) < 0 or exact.sign(right) < 0):
            self.readings["the remainder has the sign of the divisor"] = None
        if node.operator == "^" and left == 0 and right == 0:
            self.readings["0^0 taken as 1"] = None
        return _OPERATIONS[node.operator](left, right)

    def _percent_of_what(self, node: Binary, left: Real, right: Real) -> Exception:
        first, sign, second = rendered(node.left), node.operator, rendered(node.right)
        of_it = _OPERATIONS[sign](left, exact.multiply(left, right))
        alone = _OPERATIONS[sign](left, right)
        bracketed = f"({first})" if isinstance(node.left, Binary) else first
        return ambiguous(
            f"{first}{sign}{second}",
            f"{bracketed}*(1{sign}{second}) = {text_of(of_it)}",
            f"{first}{sign}{second[:-1]}/100 = {text_of(alone)}",
        )

    def _call(self, node: Call) -> Real:
        function = FUNCTIONS[node.name]
        if node.name in TRIGONOMETRIC and (twelfths := self._twelfths(node.arguments[0])) is not None:
            return _of_angle(node.name, twelfths)
        arguments = [self.value(argument) for argument in node.arguments]
        if function.note and not (node.name == "log" and len(arguments) == 2) and arguments[0] != 0:
            self.readings[function.note] = None
        if node.name == "round" and _is_tie(arguments):
            self.readings["halves rounded away from zero"] = None
        return function.apply(*arguments)

    def _twelfths(self, node: Node) -> Real | None:
        """The angle in twelfths of a turn (30 degrees), where it is in degrees or exactly a rational times pi."""
        if "degree" in (found := units_of(node)):
            if dict(found) != DEGREE:
                raise refusal("the angle is in a strange unit; give plain degrees or radians.")
            return exact.divide(self.value(node), Fraction(30))
        ratio = _over_pi(node)
        return None if ratio is None else ratio * 6


def text_of(value: Real) -> str:
    """The value as the observation prints it; refuses what rounding has made unsure."""
    if isinstance(value, Fraction):
        return exact_text(value)
    if abs(value.value) <= value.error and value.error < 1e-12:
        return "0"
    if value.error > TRUSTED * abs(value.value):
        raise exact.lost()
    return approximate_text(value.value, value.error)


def is_rounded_to_zero(value: Real) -> bool:
    return isinstance(value, Approximate) and abs(value.value) <= value.error


def units_of(node: Node) -> Units:
    """The units of a node's value; refuses sums and leftovers in which conversion was forgotten."""
    found = _units(node)
    units.check_cancelled(found, lambda: _quantities(node))
    return found


def _units(node: Node) -> Units:
    match node:
        case Quantity(inner=inner, units=own):
            return units.times(_units(inner), own)
        case Negative(inner=inner) | Group(inner=inner) | Percent(inner=inner):
            return _units(inner)
        case Binary():
            chain = _chain(node)
            found = _units(chain[0].left)
            for operation in chain:
                found = _units_after(operation, found)
            return found
        case Call(arguments=arguments):
            return _shared([units_of(argument) for argument in arguments])
        case _:
            return NO_UNITS


def _units_after(node: Binary, left: Units) -> Units:
    right = _units(node.right)
    if node.operator in "*/":
        return units.times(left, right, 1 if node.operator == "*" else -1)
    units.check_cancelled(left, lambda: _quantities(node.left))
    units.check_cancelled(right, lambda: _quantities(node.right))
    if node.operator == "^":
        return left or right  # in 5^2 cm the words stand behind the exponent
    return _shared([left, right])


def _quantities(node: Node) -> Iterator[Units]:
    """The units of every number with units in an expression."""
    match node:
        case Quantity(inner=inner, units=own):
            yield own
            yield from _quantities(inner)
        case Negative(inner=inner) | Group(inner=inner) | Percent(inner=inner):
            yield from _quantities(inner)
        case Binary(left=left, right=right):
            yield from _quantities(left)
            yield from _quantities(right)


def _shared(all_units: list[Units]) -> Units:
    """The units of things that are added or compared."""
    shared: Units = NO_UNITS
    for own in all_units:
        units.check_alike(shared, own)
        shared = shared or own
    return shared


def _chain(node: Binary) -> list[Binary]:
    """The operations of `a+b+c`, first to last: long sums are no deep recursion."""
    chain = [node]
    while isinstance(chain[-1].left, Binary):
        chain.append(chain[-1].left)
    return chain[::-1]


def _is_percent(node: Node) -> bool:
    while isinstance(node, Group | Quantity):
        node = node.inner
    return isinstance(node, Percent)


def _has_percent(node: Node) -> bool:
    """Whether the left side of a sum is itself in percent, so that percents are added to percents."""
    if isinstance(node, Group | Quantity | Negative):
        return _has_percent(node.inner)
    if isinstance(node, Binary) and node.operator in "+-":
        return _has_percent(node.left) and _has_percent(node.right)
    return isinstance(node, Percent)


def _of_angle(name: str, twelfths: Real) -> Real:
    """sin, cos or tan of an angle in twelfths of a turn."""
    if isinstance(twelfths, Fraction):
        if (found := _known_angle(name, twelfths)) is not None:
            return found
        twelfths %= 12
    return FUNCTIONS[name].apply(exact.multiply(twelfths, exact.divide(PI, Fraction(6))))


def _over_pi(node: Node) -> Fraction | None:
    """c, where the node is exactly c times pi."""
    match node:
        case Constant(name="pi"):
            return Fraction(1)
        case Constant(name="tau"):
            return Fraction(2)
        case Group(inner=inner):
            return _over_pi(inner)
        case Negative(inner=inner):
            ratio = _over_pi(inner)
            return None if ratio is None else -ratio
        case Binary(operator="*" | "/" as operator, left=left, right=right):
            ratio, factor = _over_pi(left), right
            if ratio is None and operator == "*":
                ratio, factor = _over_pi(right), left
            if ratio is None or _mentions_pi(factor):
                return None
            value = Evaluation().value(factor)
            known = _OPERATIONS[operator](ratio, value)
            return known if isinstance(known, Fraction) else None
        case _:
            return None


def _mentions_pi(node: Node) -> bool:
    match node:
        case Constant():
            return True
        case Number():
            return False
        case Binary(left=left, right=right):
            return _mentions_pi(left) or _mentions_pi(right)
        case Group(inner=inner) | Negative(inner=inner):
            return _mentions_pi(inner)
        case _:
            return True


def _known_angle(name: str, twelfths: Fraction) -> Real | None:
    """sin, cos and tan where they are rational."""
    if twelfths.denominator == 2 and name == "tan" and twelfths % 6 in (Fraction(3, 2), Fraction(9, 2)):
        return Fraction(1 if twelfths % 6 == Fraction(3, 2) else -1)
    if twelfths.denominator != 1:
        return None
    place = int(twelfths) % 12
    sine, cosine = _SINES.get(place), _SINES.get((place + 3) % 12)
    if name == "tan" and cosine == "0":
        raise refusal("the tangent of 90 degrees does not exist; check the angle.")
    if name == "tan":
        return Fraction(0) if sine == "0" else None
    found = sine if name == "sin" else cosine
    return None if found is None else Fraction(found)


def _is_tie(arguments: list[Real]) -> bool:
    number, places = arguments[0], arguments[1] if len(arguments) > 1 else Fraction(0)
    if not isinstance(number, Fraction) or not isinstance(places, Fraction) or abs(places) > 300:
        return False
    return (number * Fraction(10) ** int(places)) % 1 == Fraction(1, 2)
