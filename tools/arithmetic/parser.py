"""Tokens to an expression: precedence, implicit products, units after numbers, and what is too ambiguous to read."""

from __future__ import annotations

from fractions import Fraction

from agentkit.tools.arithmetic.expression import (
    DEGREE,
    Binary,
    Comparison,
    Factorial,
    Group,
    Negative,
    Node,
    Number,
    Percent,
    Quantity,
    rendered,
)
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.operands import COMPARISONS, Operands, constant_named
from agentkit.tools.arithmetic.refusal import ambiguous, quoted, refusal
from agentkit.tools.arithmetic.tokens import Token
from agentkit.tools.arithmetic.unit_words import check_ignorable, read_units
from agentkit.tools.arithmetic.units import dimension_of

_SUMS = {"+", "-"}
_PRODUCTS = {"*", "/", "//", "mod"}


class Parser(Operands):
    """One expression from its tokens. `surprising` is set where the expression should be shown as it was read."""

    def parse(self) -> Node:
        node = self._sum()
        if self._next.is_sign(*COMPARISONS):
            operator = self._take().text
            node = Comparison(operator, node, self._sum())
        if self._next.kind != "end":
            raise self._unexpected()
        return node

    def _sum(self) -> Node:
        node = self._product()
        while self._next.is_sign(*_SUMS):
            operator = self._take().text
            node = Binary(operator, node, self._product())
        return node

    def _product(self) -> Node:
        node, last = self._signed(), ""
        while True:
            token = self._next
            if token.is_sign(*_PRODUCTS):
                self._take()
                right = self._signed()
                self._check_scientific(node, token, last, right)
                node, last = Binary(token.text, node, right), token.text
            elif token.is_sign("%"):
                node, last = self._remainder(node), "mod"
            elif token.is_sign("of"):
                node, last = self._of(node, last), "*"
            elif self._starts_factor():
                node = self._implicit(node, last)
            else:
                return node

    def _check_scientific(self, left: Node, sign: Token, last: str, right: Node) -> None:
        """Refuses `6 / 3x10^2`: people mean 6 / 300, calculators read 6 / 3 * 100."""
        ten = isinstance(right, Binary) and right.operator == "^" and _size(right.left) == 10
        if ten and last == "/" and sign.written in ("x", "X", "×", "·") and isinstance(left, Binary):
            together = Binary("/", left.left, Group(Binary("*", left.right, right)))
            raise ambiguous(self._source(), rendered(Binary("*", left, right)), rendered(together))

    def _remainder(self, left: Node) -> Node:
        self._take()
        right = self._signed()
        self.readings.append("% read as the remainder")
        return Binary("mod", left, right)

    def _of(self, left: Node, last: str) -> Node:
        """`15% of 80`, `half of 60`, `1/2 of 60`."""
        share = _factor_before(left)
        fraction = isinstance(left, Binary) and left.operator == "/" and _plain(left.left) and _plain(left.right)
        part = isinstance(share, Percent) or (isinstance(share, Number) and share.value.denominator != 1)
        if not (fraction or (part and last in ("", "*"))):
            raise refusal(
                f"'of' after {quoted(rendered(share))} is not understood; write * or another sign in its place."
            )
        self._take()
        self.surprising = True
        return Binary("*", left, self._signed())

    def _starts_factor(self) -> bool:
        """Whether the next token begins something that multiplies what stands before it without a sign."""
        token = self._next
        if token.kind == "word":
            return token.text.casefold() in FUNCTIONS or constant_named(token) is not None
        return token.is_sign("(", "√", "sqrt", "cbrt")

    def _implicit(self, left: Node, last: str) -> Node:
        """`2(3+4)`, `2 pi`; but not `6/2(1+2)`, which people read in two ways."""
        if isinstance(_factor_before(left), Quantity) and self._next.is_sign("(") and self.ignored_words:
            raise refusal("there is no sign between a unit and a bracket; write * between them.")
        if self._next.text == "e" and self._next.glued:
            raise refusal(f"{quoted(rendered(left) + 'e')} is not a number; write * before the constant e.")
        right = self._power()
        factor = _factor_before(left)
        if last in ("/", "//", "mod") and isinstance(left, Binary):
            first = Group(left) if last == "mod" else left
            raise ambiguous(
                self._source(),
                rendered(Binary("*", first, right)),
                rendered(Binary(left.operator, left.left, Group(Binary("*", left.right, right)))),
            )
        if isinstance(factor, Binary) and factor.operator == "^" and isinstance(right, Group):
            grouped = Binary("^", factor.left, Group(Binary("*", factor.right, right)))
            raise ambiguous(self._source(), rendered(Binary("*", factor, right)), rendered(grouped))
        self.surprising = True
        return Binary("*", left, right)

    def _signed(self) -> Node:
        self._enter()
        try:
            token = self._next
            if token.is_sign("-", "neg"):
                self._take()
                inner = self._signed()
                if isinstance(inner, Binary) and inner.operator == "^":
                    self.surprising = True
                return Negative(inner)
            if token.is_sign("+"):
                self._take()
                return self._signed()
            return self._power()
        finally:
            self._depth -= 1

    def _power(self) -> Node:
        base = self._postfix(self._factor())
        if not self._next.is_sign("^"):
            return base
        sign = self._take()
        exponent = self._signed()
        if isinstance(base, Quantity) and _is_length(base) and _size(exponent) in (2, 3):
            return self._postfix(_length_power(base, exponent, sign))
        if isinstance(exponent, Binary) and exponent.operator == "^":
            self.surprising = True
        return self._postfix(Binary("^", base, exponent), after_power=True)

    def _postfix(self, node: Node, *, after_power: bool = False) -> Node:
        """Factorials, percent signs and units."""
        while True:
            token = self._next
            if token.is_sign("!") and not after_power:
                self._take()
                if isinstance(node, Factorial):
                    raise refusal("'!!' can be read as a double factorial or as (n!)!; write the one you mean.")
                node = Factorial(node)
            elif token.is_sign("%") and self._is_percent():
                self._take()
                if isinstance(node, Percent):
                    raise refusal("'%%' is not understood; write one % or a division by 100.")
                node = Percent(node)
            elif found := read_units(self._tokens, self._place, isinstance(node, Quantity)):
                named, end = found
                words = any(word.kind == "word" for word in self._tokens[self._place : end])
                self.ignored_words |= words and named != DEGREE
                node, self._place = Quantity(node, named), end
            elif token.is_sign("(") and self._is_note():
                self._skip_note()
            else:
                return node

    def _is_percent(self) -> bool:
        """Whether the % that comes next means percent; followed by a number it is the remainder, if spaced alike."""
        token, after = self._next, self._after_next
        if token.spoken:
            return True
        starts = (
            after.kind == "number"
            or after.is_sign("(", "√")
            or constant_named(after)
            or after.text.casefold() in FUNCTIONS
        )
        if after.is_sign("-", "+") and not token.glued and not after.glued:
            follows = self._tokens[min(self._place + 2, len(self._tokens) - 1)]
            if follows.glued:
                raise ambiguous(
                    self._source(), "a percentage (write it as 10%)", "a remainder (write mod and brackets)"
                )
        if not starts:
            return True
        if after.is_sign("(") or (token.glued and not after.glued):
            raise ambiguous(self._source(), "a percentage (write % *)", "a remainder (write mod)")
        return False

    def _is_note(self) -> bool:
        """Whether the bracket that comes next holds only words, such as `(calculate)`."""
        place = self._place + 1
        while self._tokens[place].kind == "word" and constant_named(self._tokens[place]) is None:
            place += 1
        return place > self._place + 1 and self._tokens[place].is_sign(")")

    def _skip_note(self) -> None:
        self._take()
        while not self._next.is_sign(")"):
            check_ignorable(self._take())
        self._take()
        self.ignored_words = True


def _length_power(base: Quantity, exponent: Node, sign: Token) -> Node:
    """`16 cm²` is an area; `16 cm^2` could be the square of 16 too."""
    if sign.written in ("^", "**") or sign.spoken:
        number, power = rendered(base), rendered(exponent)
        raise refusal(f"'^{power}' after a unit can belong to the unit or to {number}; leave the units out.")
    return Quantity(base.inner, {unit: power * int(_size(exponent) or 1) for unit, power in base.units.items()})


def _is_length(node: Quantity) -> bool:
    return any(dimension_of(unit) == "length" for unit in node.units)


def _size(node: Node) -> Fraction | None:
    while isinstance(node, Quantity):
        node = node.inner
    return node.value if isinstance(node, Number) else None


def _factor_before(node: Node) -> Node:
    """The last factor of a product."""
    return node.right if isinstance(node, Binary) and node.operator in _PRODUCTS else node


def _plain(node: Node) -> bool:
    return isinstance(node, Number) and node.value.denominator == 1
