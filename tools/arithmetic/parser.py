"""Tokens to an expression: precedence, implicit products, units after numbers, and what is too ambiguous to read."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from agentkit.tools.arithmetic.expression import (
    DEGREE,
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
    rendered,
)
from agentkit.tools.arithmetic.functions import FUNCTIONS, ONE_NAME
from agentkit.tools.arithmetic.irrational import CONSTANTS
from agentkit.tools.arithmetic.refusal import ambiguous, quoted, refusal
from agentkit.tools.arithmetic.tokens import END, Token
from agentkit.tools.arithmetic.units import CURRENCY, check_ignorable, dimension_of, known_unit, read_units
from agentkit.tools.arithmetic.wording import LISTS

DEEPEST = 40
COMPARISONS = {"=", "==", "!=", "<", ">", "<=", ">="}
MONEY = {known_unit(sign) for sign in CURRENCY}
_SUMS = {"+", "-"}
_PRODUCTS = {"*", "/", "//", "mod"}


class Parser:
    """One expression from its tokens. `surprising` is set where the expression should be shown as it was read."""

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [*tokens, END]
        self._place = 0
        self._depth = 0
        self.surprising = any(token.spoken for token in tokens)
        self.ignored_words = False
        self.readings: list[str] = []

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

    # -- operands: numbers, brackets, money, roots, lists, calls of functions

    def _factor(self) -> Node:
        token = self._next
        if token.kind == "number":
            return self._number()
        if token.is_sign("("):
            return self._group()
        if token.is_sign(*CURRENCY):
            return self._money()
        if token.is_sign("√", "sqrt", "cbrt"):
            return self._root()
        if token.is_sign(*LISTS):
            return self._list()
        if token.kind == "word":
            return self._named()
        raise self._unexpected()

    def _number(self) -> Node:
        token = self._take()
        after = self._next
        if after.kind == "number":
            written = f"{token.written} {after.written}"
            raise refusal(f"there is no sign between the numbers {quoted(written)}; write + or * between them.")
        return Number(token.value, token.text)

    def _group(self) -> Node:
        self._take()
        self._enter()
        node = self._sum()
        self._depth -= 1
        if self._next.is_sign(","):
            raise refusal("a comma stands where a ) was expected; use a decimal point, or one expression at a time.")
        if not self._next.is_sign(")"):
            raise self._unexpected()
        self._take()
        if self._next.kind == "number":
            raise refusal(f"there is no sign between ) and {quoted(self._next.written)}; write * or + between them.")
        return Group(node)

    def _money(self) -> Node:
        unit = known_unit(self._take().text) or "dollar"
        sign = self._take().text if self._next.is_sign("-") else ""
        if not (self._next.kind == "number" or self._next.is_sign("(")):
            raise self._unexpected()
        node = self._factor()
        node = Quantity(node, {unit: 1})
        return Negative(node) if sign else node

    def _root(self) -> Node:
        sign = self._take()
        name = "cbrt" if sign.text == "cbrt" else "sqrt"
        if sign.spoken and self._next.word == "the":
            self._take()
        node = self._signed() if sign.spoken and self._next.is_sign("√", "sqrt", "cbrt") else self._factor()
        if not isinstance(node, Group):
            self.surprising = True
            self._check_end_of_operand(sign)
        return Call(name, (_inside(node),))

    def _check_end_of_operand(self, sign: Token) -> None:
        """`square root of 16 + 9` in words is 7 or 5."""
        if sign.spoken and self._next.kind == "sign" and not self._next.is_sign(")", ",", "?", *COMPARISONS):
            raise refusal(f"how far {quoted(sign.written)} reaches is not clear; use sqrt( ) with brackets.")

    def _list(self) -> Node:
        """`the sum of 3, 4 and 5`: plain numbers up to the end or a bracket."""
        sign = self._take()
        items = [self._signed()]
        while self._next.is_sign(",") or self._next.word == "and":
            self._take()
            if self._next.word == "and":
                self._take()
            items.append(self._signed())
        if len(items) < 2 or not (self._next.kind == "end" or self._next.is_sign(")", *COMPARISONS)):
            raise refusal(f"how far {quoted(sign.written)} reaches is not clear; write the calculation with signs.")
        name = {"difference": "subtract"}.get(sign.text, sign.text)
        if name == "subtract" and len(items) != 2:
            raise refusal("a difference is between two numbers; write the calculation with signs.")
        return Call(ONE_NAME[name], tuple(items))

    def _named(self) -> Node:
        token, name = self._next, self._next.text.casefold()
        if name in FUNCTIONS and (self._after_next.is_sign("(", "√") or self._after_next.kind == "number"):
            return self._call()
        if (constant := constant_named(token)) is not None:
            self._take()
            if self._next.kind == "number":
                raise refusal(f"there is no sign between {token.text} and {quoted(self._next.written)}; write one.")
            return Constant(constant)
        if name == "frac" and self._after_next.written == "{":
            return self._frac()
        if known_unit(token.text) in MONEY and self._after_next.kind == "number":
            return self._money()
        if self._after_next.is_sign("("):
            known = "sqrt, cbrt, abs, round, log, ln, log10, exp, sin, cos, tan, min, max, sum, mean, factorial"
            raise refusal(f"the function {quoted(token.text)} is not known; there are {known} and more.")
        raise refusal(f"expected a number, got the word {quoted(token.text)}; put the value in its place.")

    def _call(self) -> Node:
        name = ONE_NAME[self._take().text.casefold()]
        if not self._next.is_sign("("):
            self.surprising = True
            _check_count(name, 1)
            argument = self._factor()
            if known_unit(self._next.text) == "degree":
                raise refusal(f"how far {quoted(name)} reaches is not clear; write the angle in brackets.")
            return Call(name, (argument,))
        if self._next.written == "[":
            raise refusal(f"{quoted(name + '[')} is not understood; use round brackets after a function.")
        self._take()
        listed = self._next.written == "[" and self._list_ends_the_call()
        if listed:
            self._take()
        arguments = self._arguments(name)
        if listed:
            self._take()
        _check_count(name, len(arguments))
        return Call(name, tuple(arguments))

    def _list_ends_the_call(self) -> bool:
        depth = 0
        for place in range(self._place, len(self._tokens) - 1):
            depth += self._tokens[place].is_sign("(") - self._tokens[place].is_sign(")")
            if depth == 0:
                return self._tokens[place + 1].is_sign(")")
        return False

    def _arguments(self, name: str) -> list[Node]:
        if self._next.is_sign(")"):
            raise refusal(f"{name}() is empty; write a number between the brackets.")
        self._enter()
        arguments = [self._sum()]
        while self._next.is_sign(","):
            self._take()
            arguments.append(self._sum())
        self._depth -= 1
        if not self._next.is_sign(")"):
            raise self._unexpected()
        self._take()
        return arguments

    def _frac(self) -> Node:
        self._take()
        top = self._group()
        if self._next.written != "{":
            raise refusal(r"\frac takes two groups in braces; write it as (a)/(b).")
        return Group(Binary("/", top, self._group()))

    # -- tokens, and what is wrong with them

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    @property
    def _after_next(self) -> Token:
        return self._tokens[min(self._place + 1, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._tokens[self._place]
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _enter(self) -> None:
        self._depth += 1
        if self._depth > DEEPEST:
            raise refusal(f"the expression is nested more than {DEEPEST} deep; calculate in several steps.")

    def _unexpected(self) -> Exception:
        token = self._next
        if token.kind == "end":
            return refusal("the expression ends where a number was expected; complete it.")
        if token.is_sign(":"):
            return refusal("':' is no sign here (a ratio? a time of day?); write / or turn times into one unit first.")
        if token.is_sign(";"):
            return refusal("one expression at a time; give the second one to the calculator in a step of its own.")
        if token.kind == "number":
            return refusal(f"there is no sign before the number {quoted(token.written)}; write + or * before it.")
        if token.kind == "word":
            return refusal(
                f"the word {quoted(token.text)} is not understood here; write the calculation in signs and numbers."
            )
        if token.is_sign("=") or token.is_sign(*COMPARISONS):
            return refusal(f"{quoted(token.written)} has no place here; give one expression without it.")
        return refusal(f"did not expect {quoted(token.written)} here; check the expression around it.")

    def _source(self) -> str:
        """The expression as written, for an error."""
        pieces = [("" if token.glued or not i else " ") + token.written for i, token in enumerate(self._tokens[:-1])]
        return "".join(pieces)


def constant_named(token: Token) -> str | None:
    """pi in any case, e only small (E is an exponent or a variable)."""
    if token.kind != "word":
        return None
    name = token.text.casefold()
    return name if name in CONSTANTS and token.text != "E" else None


def _inside(node: Node) -> Node:
    return node.inner if isinstance(node, Group) else node


def _check_count(name: str, count: int) -> None:
    function = FUNCTIONS[name]
    if not function.least <= count <= function.most:
        takes = str(function.least) if function.least == function.most else f"{function.least} or more"
        raise refusal(f"{name} takes {takes} argument(s), got {count}; give it those in brackets, separated by commas.")


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
