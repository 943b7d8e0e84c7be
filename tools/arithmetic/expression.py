"""What an expression is once it is read: a tree of small values, the same tree as text, and what was read into it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import TypeGuard

Units = Mapping[str, int]
DEGREE, RADIAN = {"degree": 1}, {"radian": 1}
NO_UNITS: Units = MappingProxyType({})
LONGEST_READING = 120


@dataclass(frozen=True, slots=True)
class Number:
    """A number, exact, and how it was written (in digits)."""

    value: Fraction
    text: str


@dataclass(frozen=True, slots=True)
class Constant:
    """pi, e or tau."""

    name: str


@dataclass(frozen=True, slots=True)
class Quantity:
    """A value with units, such as `60 miles/hour`: exponents by unit name."""

    inner: Node
    units: Units


@dataclass(frozen=True, slots=True)
class Group:
    """Brackets, kept so that `(1+2)` and `1+2` print as written."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Operation:
    """`sign` is one of + - * / // mod ^ or a comparison with two parts, neg % or ! with one, or a function's name."""

    sign: str
    parts: tuple[Node, ...]


Node = Number | Constant | Quantity | Group | Operation

COMPARISONS = frozenset({"=", "==", "!=", "<", ">", "<=", ">="})
"""A single = is a claim about the left side's value."""

_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "mod": 2, "neg": 3, "^": 4}
_STRONGEST = 5


def binary(sign: str, left: Node, right: Node) -> Operation:
    return Operation(sign, (left, right))


def is_operation(node: Node, *signs: str) -> TypeGuard[Operation]:
    return isinstance(node, Operation) and node.sign in signs


def is_binary(node: Node) -> TypeGuard[Operation]:
    """Whether it is an operation with a sign between two parts."""
    return isinstance(node, Operation) and node.sign in _STRENGTH and node.sign != "neg"


def is_percentage(node: Node) -> bool:
    """Whether it is a percentage or a sum of such, which are added to each other."""
    match node:
        case Group(inner=inner) | Quantity(inner=inner) | Operation(sign="neg", parts=(inner,)):
            return is_percentage(inner)
        case Operation(sign="+" | "-", parts=parts):
            return all(map(is_percentage, parts))
        case _:
            return is_operation(node, "%")


def rendered(node: Node) -> str:
    """The expression as text, without words, with brackets wherever the order of operations could surprise."""
    match node:
        case Number(text=text) | Constant(name=text):
            return text
        case Quantity(inner=inner, units=units):
            return rendered(inner) + (" degrees" if units == DEGREE else "")
        case Group(inner=inner):
            return f"({rendered(inner)})"
        case Operation(sign="neg", parts=(inner,)):
            return f"-{_bracketed(inner, _strength(inner) < _STRONGEST)}"
        case Operation(sign="%" | "!" as sign, parts=(inner,)):
            return f"{_bracketed(inner, _strength(inner) < _STRONGEST)}{sign}"
        case Operation(sign=sign, parts=(left, right)) if strength := _STRENGTH.get(sign):
            weak_left = _strength(left) < (_STRONGEST if sign == "^" else strength)
            weak_left |= strength == _STRENGTH["mod"] and is_operation(left, "mod")  # 5 mod 3*2 would mislead
            weak_right = _strength(right) <= strength or _strength(right) == _STRENGTH["neg"]
            spaced = " mod " if sign == "mod" else sign
            return f"{_bracketed(left, weak_left)}{spaced}{_bracketed(right, weak_right)}"
        case Operation(sign=sign, parts=(left, right)) if sign in COMPARISONS:
            return f"{rendered(left)} {sign} {rendered(right)}"
        case Operation(sign=name, parts=arguments):
            return f"{name}({', '.join(map(rendered, arguments))})"


def _bracketed(node: Node, needed: bool) -> str:
    return f"({rendered(node)})" if needed else rendered(node)


def _strength(node: Node) -> int:
    """How tightly a node's text holds together; units are not printed."""
    while isinstance(node, Quantity) and node.units != DEGREE:
        node = node.inner
    return _STRENGTH.get(node.sign, _STRONGEST) if isinstance(node, Operation) else _STRONGEST


@dataclass(slots=True)
class Reading:
    """How an input was read, where that could surprise; noted on the way from its text to its value."""

    surprising: bool = False
    """The expression should be shown as it was read."""
    ignored_words: bool = False
    thousands: str = ""
    """`1,234 read as 1234`, which an expression that is shown says by itself."""
    notes: dict[str, None] = field(default_factory=dict)

    def note(self, text: str) -> None:
        self.notes[text] = None

    def stated(self, node: Node) -> tuple[str, ...]:
        """What to tell about it, the expression as it was read first."""
        shown = rendered(node) if self.surprising or self.ignored_words else ""
        first = [f"read as {shown}"] if 0 < len(shown) <= LONGEST_READING else []
        first += ["words ignored"] if self.ignored_words else []
        told = ", ".join(first) if shown else self.thousands
        return (*([told] if told else []), *self.notes)
