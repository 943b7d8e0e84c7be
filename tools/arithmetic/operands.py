"""The pieces an expression is made of: numbers, brackets, money, roots, lists and the calls of functions."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.tools.arithmetic.expression import Binary, Call, Constant, Group, Negative, Node, Number, Quantity
from agentkit.tools.arithmetic.functions import FUNCTIONS, ONE_NAME
from agentkit.tools.arithmetic.irrational import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import END, Token
from agentkit.tools.arithmetic.units import CURRENCY, known_unit
from agentkit.tools.arithmetic.wording import LISTS

DEEPEST = 40
COMPARISONS = {"=", "==", "!=", "<", ">", "<=", ">="}
MONEY = {known_unit(sign) for sign in CURRENCY}


class Operands:
    """Reads operands from tokens; the parser adds the signs between them.

    `surprising` is set where the expression should be shown as it was read.
    """

    def __init__(self, tokens: Sequence[Token]) -> None:
        self._tokens = [*tokens, END]
        self._place = 0
        self._depth = 0
        self.surprising = any(token.spoken for token in tokens)
        self.ignored_words = False
        self.readings: list[str] = []

    def _sum(self) -> Node:
        """A whole expression."""
        raise NotImplementedError

    def _signed(self) -> Node:
        """An operand with its signs, powers and units."""
        raise NotImplementedError

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
        if sign.spoken and self._next.kind == "word" and self._next.text.casefold() == "the":
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
        while self._next.is_sign(",") or (self._next.kind == "word" and self._next.text.casefold() == "and"):
            self._take()
            if self._next.kind == "word" and self._next.text.casefold() == "and":
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
