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
from agentkit.tools.arithmetic.equation import Claim, one_line, unwrapped, without_claim
from agentkit.tools.arithmetic.evaluate import Evaluation, is_rounded_to_zero, text_of, units_of
from agentkit.tools.arithmetic.exact import Real, approximate
from agentkit.tools.arithmetic.expression import Comparison, Group, Negative, Node, Number, Quantity, rendered
from agentkit.tools.arithmetic.parser import Parser
from agentkit.tools.arithmetic.refusal import refusal
from agentkit.tools.arithmetic.separators import join_thousands
from agentkit.tools.arithmetic.tokens import tokens_of
from agentkit.tools.arithmetic.units import dimension_of
from agentkit.tools.arithmetic.wording import spoken

LONGEST_READING = 120


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
    tokens, readings = join_thousands(tokens_of(line))
    claim = without_claim(spoken(tokens))
    parser = Parser(claim.tokens)
    node = parser.parse()
    evaluation = Evaluation()
    units_of(node)
    if isinstance(node, Comparison):
        if node.operator == "=":
            return _claimed(node, evaluation, parser, readings)
        holds = evaluation.holds(node)
        return Result(holds, str(holds).lower(), _readings(node, parser, claim, evaluation, readings))
    _check_calculates(node, claim)
    value = evaluation.value(node)
    text = text_of(value)
    if is_rounded_to_zero(value):
        readings.append("zero as far as rounding can tell")
    return Result(_public(value), text, _readings(node, parser, claim, evaluation, readings))


def _check_calculates(node: Node, claim: Claim) -> None:
    """Refuses `1989 Nile`: a number with words is a question to a search engine, unless the words are a unit."""
    while isinstance(node, Group | Negative):
        node = node.inner
    named = isinstance(node, Quantity) and not all(map(dimension_of, node.units))
    if named or (isinstance(node, Number) and claim.ignored_words):
        raise refusal("there is nothing to calculate in a number with words; write an expression, or use another tool.")


def _claimed(node: Comparison, evaluation: Evaluation, parser: Parser, readings: list[str]) -> Result:
    """`3*20 = 60`: the left side's value, and whether the right side is right."""
    left, right = evaluation.value(node.left), evaluation.value(node.right)
    if not evaluation.holds(node):
        said = rendered(node.right)
        truth = f"not {said}" if said == text_of(right) else f"and {said} is {text_of(right)}"
        raise refusal(f"the equation is false: {rendered(node.left)} is {text_of(left)}, {truth}; give one side only.")
    told = "the equation is true" + (", words ignored" if parser.ignored_words else "")
    return Result(_public(left), text_of(left), (told, *parser.readings, *readings, *evaluation.readings))


def _readings(
    node: Node, parser: Parser, claim: Claim, evaluation: Evaluation, separators: list[str]
) -> tuple[str, ...]:
    ignored = parser.ignored_words or claim.ignored_words
    told = []
    if parser.surprising or ignored:
        shown = rendered(node)
        told.append(
            ("read as " + shown if len(shown) <= LONGEST_READING else "") + (", words ignored" if ignored else "")
        )
    shown_numbers = () if told else separators
    return (*(part.removeprefix(", ") for part in told if part), *parser.readings, *shown_numbers, *evaluation.readings)


def _public(value: Real) -> Fraction | float:
    return value if isinstance(value, Fraction) else approximate(value).value


def run(tool_input: Any) -> ToolResult:
    """The observation for an action's input."""
    if not isinstance(tool_input, str | int | float) or isinstance(tool_input, bool):
        raise refusal(f"expected one expression as a string, got {type(tool_input).__name__}; write it as text.")
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
)

__all__ = ["Result", "ToolError", "calculate", "calculator"]
