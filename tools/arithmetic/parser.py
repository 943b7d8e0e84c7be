"""Tokens to an expression: precedence, implicit products, units after numbers, and what is too ambiguous to read."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from agentkit.tools.arithmetic.expression import (
    COMPARISONS,
    DEGREE,
    Constant,
    Group,
    Node,
    Number,
    Operation,
    Quantity,
    Reading,
    binary,
    is_operation,
    is_percentage,
    rendered,
)
from agentkit.tools.arithmetic.functions import FUNCTIONS, ONE_NAME
from agentkit.tools.arithmetic.real import CONSTANTS
from agentkit.tools.arithmetic.refusal import ambiguous, quoted, refusal
from agentkit.tools.arithmetic.tokens import END, Token
from agentkit.tools.arithmetic.units import (
    CURRENCY,
    dimension_of,
    known_unit,
    not_understood,
    read_units,
)

DEEPEST = 40
MONEY = {known_unit(sign) for sign in CURRENCY}
_MISPLACED = {
    ":": "':' is no sign here (a ratio? a time of day?); write / or turn times into one unit first.",
    ",": "a comma has no place here; use a decimal point, or one expression at a time.",
    ";": "one expression at a time; give the second one to the calculator in a step of its own.",
}
_PRODUCTS = ("*", "/", "//", "mod")
_ROOTS = ("√", "sqrt", "cbrt")
_SIGNS = ("+", "-", *_PRODUCTS)
_ENDS = (")", ",", "?", *COMPARISONS)


class Parser:
    """One expression from its tokens, with notes of how it was read."""

    def __init__(self, tokens: Sequence[Token], reading: Reading) -> None:
        self._tokens = [*tokens, END]
        self._place = 0
        self._depth = 0
        self._reading = reading
        reading.surprising = any(token.spoken for token in tokens)

    def parse(self) -> Node:
        node = self._sum()
        if sign := self._accept(*COMPARISONS):
            node = binary(sign.text, node, self._sum())
        if self._next.kind != "end":
            raise self._unexpected()
        return node

    def _sum(self) -> Node:
        node = self._product()
        while sign := self._accept("+", "-"):
            node = binary(sign.text, node, self._product())
        return node

    def _product(self) -> Node:
        node, last = self._signed(), ""
        while True:
            if sign := self._accept(*_PRODUCTS):
                right = self._signed()
                self._check_scientific(node, sign, last, right)
                node, last = binary(sign.text, node, right), sign.text
            elif not is_operation(node, "%") and self._accept("%"):
                node, last = binary("mod", node, self._signed()), "mod"
                self._reading.note("% read as the remainder")
            elif self._accept("of"):
                node, last = self._of(node, last), "*"
            elif self._starts_factor():
                node = self._implicit(node, last)
            else:
                return node

    def _check_scientific(self, left: Node, sign: Token, last: str, right: Node) -> None:
        """Refuses `6 / 3x10^2`: people mean 6 / 300, calculators read 6 / 3 * 100."""
        ten = is_operation(right, "^") and _size(right.parts[0]) == 10
        if ten and last == "/" and isinstance(left, Operation) and sign.written in ("x", "X", "×", "·"):
            raise self._ambiguous_divisor(left, right)

    def _ambiguous_divisor(self, left: Operation, right: Node) -> Exception:
        """For `a / b` with `right` as a factor behind it."""
        together = binary(left.sign, left.parts[0], Group(binary("*", left.parts[1], right)))
        return ambiguous(self._source(), rendered(binary("*", left, right)), rendered(together))

    def _of(self, left: Node, last: str) -> Node:
        """`15% of 80`, `half of 60`, `1/2 of 60`."""
        share = _factor_before(left)
        fraction = is_operation(left, "/") and all(isinstance(p, Number) and _is_whole(p) for p in left.parts)
        part = is_operation(share, "%") or (isinstance(share, Number) and not _is_whole(share))
        if not (fraction or (part and last in ("", "*"))):
            raise refusal(
                f"'of' after {quoted(rendered(share))} is not understood; write * or another sign in its place."
            )
        self._reading.surprising = True
        return binary("*", left, self._signed())

    def _starts_factor(self) -> bool:
        """Whether the next token begins something that multiplies what stands before it without a sign."""
        token = self._next
        return token.is_sign("(", *_ROOTS) or token.word in FUNCTIONS or constant_named(token) is not None

    def _implicit(self, left: Node, last: str) -> Node:
        """`2(3+4)`, `2 pi`; but not `6/2(1+2)`, which people read in two ways."""
        factor = _factor_before(left)
        if isinstance(factor, Quantity):
            raise refusal(f"there is no sign between a unit and {quoted(self._next.written)}; write * between them.")
        if self._next.text == "e" and self._next.glued:
            raise refusal(f"{quoted(rendered(left) + 'e')} is not a number; write * before the constant e.")
        right = self._power()
        if last in ("/", "//", "mod") and isinstance(left, Operation):
            raise self._ambiguous_divisor(left, right)
        if is_operation(factor, "^") and isinstance(right, Group):
            grouped = binary("^", factor.parts[0], Group(binary("*", factor.parts[1], right)))
            raise ambiguous(self._source(), rendered(binary("*", factor, right)), rendered(grouped))
        self._reading.surprising = True
        return binary("*", left, right)

    def _signed(self) -> Node:
        self._depth += 1
        if self._depth > DEEPEST:
            raise refusal(f"the expression is nested more than {DEEPEST} deep; calculate in several steps.")
        if self._accept("-", "neg"):
            inner = self._signed()
            self._reading.surprising |= is_operation(inner, "^")
            node: Node = Operation("neg", (inner,))
        else:
            node = self._signed() if self._accept("+") else self._power()
        self._depth -= 1
        return node

    def _power(self) -> Node:
        base = self._postfix(self._factor())
        if not (sign := self._accept("^")):
            return base
        superscript = self._next.kind == "number" and sign.written not in ("^", "**") and not sign.spoken
        exponent = self._factor() if superscript else self._signed()
        if sign.spoken and is_operation(exponent, "^"):
            raise refusal("which power comes first is not clear; write them with ^ and brackets.")
        if is_operation(exponent, "%") or (is_operation(exponent, "neg") and is_operation(exponent.parts[0], "%")):
            below, above = rendered(base), rendered(exponent)
            raise ambiguous(f"{below}^{above}", f"{below}^({above})", f"({below}^{above[:-1]})%")
        if isinstance(base, Quantity) and _is_length(base) and _size(exponent) in (2, 3):
            return self._postfix(_length_power(base, exponent, sign))
        self._reading.surprising |= is_operation(exponent, "^")
        if sign.written in ("squared", "cubed") and known_unit(self._next.text):  # 5 squared metres
            raise refusal(f"whether {quoted(sign.written)} belongs to the unit is not clear; leave the units out.")
        return self._postfix(binary("^", base, exponent), after_power=True)

    def _postfix(self, node: Node, *, after_power: bool = False) -> Node:
        """Factorials, percent signs and units."""
        while True:
            mark = self._next.is_sign("!") or (self._next.is_sign("%") and self._is_percent())
            if mark and isinstance(node, Quantity):
                raise refusal(f"'{self._next.text}' after a unit is not understood; leave the unit out.")
            if not after_power and self._accept("!"):
                if is_operation(node, "!"):
                    raise refusal("'!!' can be read as a double factorial or as (n!)!; write the one you mean.")
                node = Operation("!", (node,))
            elif mark and self._next.is_sign("%"):
                self._take()
                if is_operation(node, "%"):
                    raise refusal("'%%' is not understood; write one % or a division by 100.")
                node = Operation("%", (node,))
            elif found := read_units(self._tokens, self._place, isinstance(node, Quantity)):
                named, end = found
                if is_percentage(node) and any(map(dimension_of, named)):
                    raise refusal("a unit after a percentage is not understood; leave the unit out.")
                words = any(word.kind == "word" for word in self._tokens[self._place : end])
                self._reading.ignored_words |= words and named != DEGREE
                node, self._place = Quantity(node, named), end
            else:
                return node

    def _is_percent(self) -> bool:
        """Whether the % that comes next means percent; followed by a number it is the remainder, if spaced alike."""
        token, after = self._next, self._after_next
        if token.spoken:
            return True
        if after.is_sign("-", "+") and not token.glued and not after.glued:
            follows = self._tokens[min(self._place + 2, len(self._tokens) - 1)]
            if follows.glued:
                raise ambiguous(
                    self._source(), "a percentage (write it as 10%)", "a remainder (write mod and brackets)"
                )
        named = after.word in FUNCTIONS or constant_named(after)
        starts = after.kind == "number" or after.is_sign("(", *_ROOTS) or named
        if starts and (after.is_sign("(") or (token.glued and not after.glued)):
            raise ambiguous(self._source(), "a percentage (write % *)", "a remainder (write mod)")
        return not starts

    # -- operands: numbers, brackets, money, roots, calls of functions

    def _factor(self) -> Node:
        token = self._next
        if token.kind == "number":
            self._take()
            return Number(token.value, token.text)
        if token.is_sign("("):
            return self._group()
        if token.is_sign(*CURRENCY):
            return self._money()
        if sign := self._accept(*_ROOTS):
            return self._root(sign)
        if token.kind == "word":
            return self._named()
        raise self._unexpected()

    def _group(self) -> Node:
        self._take()
        node = self._sum()
        self._close()
        return Group(node)

    def _money(self) -> Node:
        unit = known_unit(self._take().text) or "dollar"
        negative = self._accept("-")
        if not (self._next.kind == "number" or self._next.is_sign("(")):
            raise self._unexpected()
        node = Quantity(self._factor(), {unit: 1})
        if len(self._next.word) == 1:
            raise refusal(f"{quoted(self._next.text)} after an amount of money is not clear; write all its digits.")
        return Operation("neg", (node,)) if negative else node

    def _root(self, sign: Token) -> Node:
        if sign.spoken and self._next.word == "the":
            self._take()
        node = self._signed() if sign.spoken and self._next.is_sign(*_ROOTS) else self._factor()
        if not isinstance(node, Group):
            self._reading.surprising = True
            self._check_reach(sign.written, *(() if sign.spoken else _SIGNS))
        name = "cbrt" if sign.text == "cbrt" else "sqrt"
        return Operation(name, (node.inner if isinstance(node, Group) else node,))

    def _check_reach(self, name: str, *ends: str) -> None:
        """`square root of 16 + 9` is 7 or 5, `sin 2 pi` is 0 or 2.86: only what ends an operand may follow."""
        clear = self._next.kind == "end" or self._next.is_sign(*_ENDS, *ends)
        if not clear or self._next.written in ("x", "X"):
            raise refusal(f"how far {quoted(name)} reaches is not clear; use brackets, as in sqrt( ).")

    def _named(self) -> Node:
        token, name = self._next, self._next.word
        if name in FUNCTIONS and (self._after_next.is_sign("(", "√") or self._after_next.kind == "number"):
            return self._call()
        if (constant := constant_named(token)) is not None:
            self._take()
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
        name = ONE_NAME[self._next.word]
        self._reading.surprising |= len(self._take().text) == 1  # C(5, 2)
        if self._next.written == "[":
            raise refusal(f"{quoted(name + '[')} is not understood; use round brackets after a function.")
        if not self._accept("("):
            self._reading.surprising = True
            arguments = [self._factor()]
            self._check_reach(name, *_SIGNS)
        elif self._next.is_sign(")"):
            raise refusal(f"{name}() is empty; write a number between the brackets.")
        else:
            arguments = self._arguments()
        function, count = FUNCTIONS[name], len(arguments)
        if not function.least <= count <= function.most:
            takes = str(function.least) if function.least == function.most else f"{function.least} or more"
            raise refusal(
                f"{name} takes {takes} argument(s), got {count}; give it those in brackets, separated by commas."
            )
        return Operation(name, tuple(arguments))

    def _arguments(self) -> list[Node]:
        """What stands in the brackets of a call, `max(1, 2)` or `max([1, 2])`."""
        start = self._place
        if self._next.written == "[":
            self._take()
            items = self._until_closed()
            if self._accept(")"):
                return items
            self._place = start  # it goes on, as in max([1+2]*3, 4)
        return self._until_closed()

    def _until_closed(self) -> list[Node]:
        items = [self._sum()]
        while self._accept(","):
            items.append(self._sum())
        self._close()
        return items

    def _frac(self) -> Node:
        self._take()
        top = self._group()
        if self._next.written != "{":
            raise refusal(r"\frac takes two groups in braces; write it as (a)/(b).")
        return Group(binary("/", top, self._group()))

    # -- tokens, and what is wrong with them

    @property
    def _next(self) -> Token:
        return self._tokens[self._place]

    @property
    def _after_next(self) -> Token:
        return self._tokens[min(self._place + 1, len(self._tokens) - 1)]

    def _take(self) -> Token:
        token = self._next
        self._place = min(self._place + 1, len(self._tokens) - 1)
        return token

    def _accept(self, *signs: str) -> Token | None:
        """Takes the next token if it is one of these signs."""
        return self._take() if self._next.is_sign(*signs) else None

    def _close(self) -> None:
        if not self._accept(")"):
            raise self._unexpected()

    def _unexpected(self) -> Exception:
        token = self._next
        if token.kind == "end":
            return refusal("the expression ends where a number was expected; complete it.")
        if token.kind == "number":
            between = f"{quoted(self._tokens[self._place - 1].written)} and {quoted(token.written)}"
            return refusal(f"there is no sign between {between}; write + or * between them.")
        if token.kind == "word":
            return not_understood(token)
        if token.is_sign(*COMPARISONS):
            return refusal(f"{quoted(token.written)} has no place here; give one expression without it.")
        return refusal(
            _MISPLACED.get(token.text, f"did not expect {quoted(token.written)} here; check the expression around it.")
        )

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


def _length_power(base: Quantity, exponent: Node, sign: Token) -> Node:
    """`16 cm²` is an area; `16 cm^2` could be the square of 16 too."""
    if sign.written.isascii():  # ^, **, squared, to the power of
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
    return node.parts[1] if is_operation(node, *_PRODUCTS) else node


def _is_whole(number: Number) -> bool:
    return number.value.denominator == 1
