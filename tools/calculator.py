"""The Calculator tool: exact arithmetic on what models write, with every surprising reading stated.

Text becomes tokens, tokens an expression, the expression a number: nothing is ever evaluated as text. What could be
read in two ways is refused with both readings, and a word that could change the result is never dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from agentkit.errors import ToolError
from agentkit.tool import Result as ToolResult
from agentkit.tool import Tool
from agentkit.tools.arithmetic.equation import one_line, unwrapped, without_claim
from agentkit.tools.arithmetic.evaluate import holds, units_of, value_of
from agentkit.tools.arithmetic.expression import (
    COMPARISONS,
    Group,
    Node,
    Number,
    Operation,
    Quantity,
    Reading,
    is_operation,
    rendered,
)
from agentkit.tools.arithmetic.number_text import is_rounded, is_rounded_to_zero, text_of
from agentkit.tools.arithmetic.parser import Parser
from agentkit.tools.arithmetic.real import MOST_BITS, Real, bits, too_large
from agentkit.tools.arithmetic.refusal import refusal
from agentkit.tools.arithmetic.tokens import tokens_of
from agentkit.tools.arithmetic.units import dimension_of
from agentkit.tools.arithmetic.wording import spoken


@dataclass(frozen=True, slots=True)
class Result:
    """A number or a truth value, its text, and the readings that could surprise."""

    value: Fraction | float | bool
    text: str
    readings: tuple[str, ...] = ()

    @property
    def observation(self) -> str:
        """`Answer: 1050 (read as 150*7, words ignored)`."""
        return f"Answer: {self.text}" + (f" ({'; '.join(self.readings)})" if self.readings else "")

    def __str__(self) -> str:
        return self.observation


def calculate(expression: str) -> Result:
    """The result of one expression; raises `ToolError` with what to mend."""
    line = one_line(unwrapped(expression))
    if not line:
        raise refusal("expected an expression such as 25^0.43, got nothing; write one.")
    try:
        return _calculated(line)
    except RecursionError:
        raise refusal("the expression is too deeply nested; calculate in several steps.") from None


def _calculated(line: str) -> Result:
    reading = Reading()
    tokens = without_claim(spoken(tokens_of(line, reading)), reading)
    labelled = reading.ignored_words
    node = Parser(tokens, reading).parse()
    units_of(node)
    if is_operation(node, *COMPARISONS):
        return _compared(node, reading)
    _check_calculates(node, labelled)
    value = value_of(node, reading)
    text = text_of(value)
    if is_rounded_to_zero(value):
        reading.note("zero as far as rounding can tell")
    elif is_rounded(value, text):
        reading.note("rounded")
    return Result(_public(value), text, reading.stated(node))


def _check_calculates(node: Node, labelled: bool) -> None:
    """Refuses `1989 Nile`: a number with words is a question to a search engine, unless the words are a unit."""
    while isinstance(node, Group) or is_operation(node, "neg"):
        node = node.inner if isinstance(node, Group) else node.parts[0]
    named = isinstance(node, Quantity) and not all(map(dimension_of, node.units))
    if named or (isinstance(node, Number) and labelled):
        raise refusal("there is nothing to calculate in a number with words; write an expression, or use another tool.")


def _compared(node: Operation, reading: Reading) -> Result:
    """`4 > 3` is a truth value; `3*20 = 60` the left side's value, where the right side is right."""
    left, right = (value_of(side, reading) for side in node.parts)
    holding = holds(node.sign, left, right)
    if node.sign != "=":
        return Result(holding, str(holding).lower(), reading.stated(node))
    first, second = map(rendered, node.parts)
    if not holding:
        truth = f"not {second}" if second == text_of(right) else f"and {second} is {text_of(right)}"
        raise refusal(f"the equation is false: {first} is {text_of(left)}, {truth}; give one side only.")
    told = ["the equation is true" + (", words ignored" if reading.ignored_words else "")]
    told += [reading.thousands] if reading.thousands else []
    return Result(_public(left), text_of(left), (*told, *reading.notes))


def _public(value: Real) -> Fraction | float:
    return value if isinstance(value, Fraction) else value.value


def run(tool_input: Any) -> ToolResult:
    """The observation for an action's input."""
    if not isinstance(tool_input, str | int | float) or isinstance(tool_input, bool):
        raise refusal(f"expected one expression as a string, got {type(tool_input).__name__}; write it as text.")
    if isinstance(tool_input, int) and bits(tool_input) > MOST_BITS:  # Python writes no int of any size as text
        raise too_large()
    result = calculate(str(tool_input))
    return ToolResult(result.observation, readings=result.readings)


calculator = Tool(
    name="Calculator",
    description=(
        "Useful for when you need to calculate. Input is one arithmetic expression in numbers and signs, such as "
        "25^0.43 or (12+8)*3/4 or sqrt(2)*10."
    ),
    run=run,
    deterministic=True,
    side_effects=False,
)

__all__ = ["Result", "ToolError", "calculate", "calculator"]
