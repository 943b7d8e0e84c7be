"""What an expression is once it is read: a tree of small values, and the same tree as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType

Units = Mapping[str, int]
DEGREE = {"degree": 1}
NO_UNITS: Units = MappingProxyType({})


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
    units: Units = field(default_factory=lambda: NO_UNITS)


@dataclass(frozen=True, slots=True)
class Negative:
    inner: Node


@dataclass(frozen=True, slots=True)
class Group:
    """Brackets, kept so that `(1+2)` and `1+2` print as written."""

    inner: Node


@dataclass(frozen=True, slots=True)
class Percent:
    inner: Node


@dataclass(frozen=True, slots=True)
class Factorial:
    inner: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """`operator` is one of + - * / // mod ^."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """`operator` is one of = == != < > <= >=; a single = is a claim about the left side's value."""

    operator: str
    left: Node
    right: Node


Node = Number | Constant | Quantity | Negative | Group | Percent | Factorial | Binary | Call | Comparison

_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "mod": 2, "^": 4}


def rendered(node: Node) -> str:
    """The expression as text, without words, with brackets wherever the order of operations could surprise."""
    match node:
        case Number(text=text):
            return text
        case Constant(name=name):
            return name
        case Quantity(inner=inner, units=units) if dict(units) == DEGREE:
            return f"{rendered(inner)} degrees"
        case Quantity(inner=inner):
            return rendered(inner)
        case Group(inner=inner):
            return f"({rendered(inner)})"
        case Negative(inner=inner):
            return f"-{_bracketed(inner, isinstance(_bare(inner), Binary | Negative))}"
        case Percent(inner=inner):
            return f"{_bracketed(inner, isinstance(_bare(inner), Binary | Negative))}%"
        case Factorial(inner=inner):
            return f"{_bracketed(inner, isinstance(_bare(inner), Binary | Negative))}!"
        case Call(name=name, arguments=arguments):
            return f"{name}({', '.join(map(rendered, arguments))})"
        case Binary():
            return _binary(node)
        case Comparison(operator=operator, left=left, right=right):
            return f"{rendered(left)} {operator} {rendered(right)}"


def _binary(node: Binary) -> str:
    left, right = _bare(node.left), _bare(node.right)
    strength = _STRENGTH[node.operator]
    weak_left = isinstance(left, Binary) and (_STRENGTH[left.operator] < strength or node.operator == "^")
    weak_right = isinstance(right, Binary) and (_STRENGTH[right.operator] <= strength or node.operator == "^")
    weak_left = weak_left or (node.operator == "^" and isinstance(left, Negative))
    sign = f" {node.operator} " if node.operator == "mod" else node.operator
    return f"{_bracketed(left, weak_left)}{sign}{_bracketed(right, weak_right or isinstance(right, Negative))}"


def _bracketed(node: Node, needed: bool) -> str:
    return f"({rendered(node)})" if needed else rendered(node)


def _bare(node: Node) -> Node:
    """The node without its units, which are not printed."""
    while isinstance(node, Quantity) and dict(node.units) != DEGREE:
        node = node.inner
    return node
