"""The parser as LangChain's users know it, at the end of a chain: text in, `AgentAction` or `AgentFinish` out."""

from __future__ import annotations

from typing import Any

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.exceptions import OutputParserException
from langchain_core.output_parsers import BaseOutputParser

from agentkit.errors import MalformedTurn
from agentkit.events import FinalAnswer
from agentkit.langchain.steps import Extended
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.turn import Turn

__all__ = ["ActionWithInventions", "FinishWithInventions", "ReActJsonSingleInputOutputParser"]

FORMAT_INSTRUCTIONS = """Answer in turns. Each turn is a thought, then either one action or the final answer.

Begin with "Thought:" and say in a sentence what you know and what you need next.

To use a tool, write "Action:" on the next line, and below it a ```json block with one JSON object of two keys: "action" is the tool's name, and "action_input" is what you give the tool. Then stop and wait for the observation.

When you know the answer, write "Final Answer:" on the next line instead, and behind it the answer to the question."""  # noqa: E501


class ActionWithInventions(Extended, AgentAction):
    """An action behind which the model wrote observations of its own, which were cut off.

    The count survives copies, pickle and JSON.
    """

    invented_observations: int = 0


class FinishWithInventions(Extended, AgentFinish):
    """An answer behind which the model wrote observations of its own; see `ActionWithInventions`."""

    invented_observations: int = 0


class ReActJsonSingleInputOutputParser(BaseOutputParser[AgentAction | AgentFinish]):
    """Parses turns of the ReAct-JSON dialect; what cannot be read is an `OutputParserException` for the model to read.

    Where the model invented observations the result has `invented_observations`, their number. `tools` are the JSON
    schemas of the tools' inputs by their names, where they are known: see `agentkit.react_json.parser.parse_turn`.
    """

    tools: dict[str, Any] | None = None

    def get_format_instructions(self) -> str:
        """What to tell a model about the form."""
        return FORMAT_INSTRUCTIONS

    def parse(self, text: str) -> AgentAction | AgentFinish:
        """The turn's action or answer; its `log` is the text, up to the observation that the model invented, if any."""
        try:
            return _as_langchain(parse_turn(text, self.tools), text)
        except MalformedTurn as error:
            message = str(error)
            raise OutputParserException(message, observation=message, llm_output=text, send_to_llm=True) from error

    @property
    def _type(self) -> str:
        return "react-json-single-input"


def _as_langchain(turn: Turn, text: str) -> AgentAction | AgentFinish:
    decision, invented = turn.decision, turn.invented
    if isinstance(decision, FinalAnswer):
        values = {"output": decision.output}
        if invented:
            return FinishWithInventions(return_values=values, log=decision.log, invented_observations=invented)
        return AgentFinish(values, text)
    if invented:
        return ActionWithInventions(
            tool=decision.tool, tool_input=decision.tool_input, log=decision.log, invented_observations=invented
        )
    return AgentAction(decision.tool, decision.tool_input, text)
