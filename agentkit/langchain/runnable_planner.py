"""LangChain's agents, any Runnable, as the loop sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.outputs import LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentkit.core.loop import ModelCall, Turn
from agentkit.deadline import remaining_s
from agentkit.errors import MalformedTurn
from agentkit.events import FinalAnswer, Step, Usage
from agentkit.langchain.model import usage_of
from agentkit.langchain.steps import as_action, as_agent_action
from agentkit.toolbox.calling import in_daemon_thread


class _TokenCounter(BaseCallbackHandler):
    """Adds up what the models inside a chain used."""

    run_inline = True

    def __init__(self) -> None:
        self._usage = Usage()

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        for generation in (one for row in response.generations for one in row):
            self._usage += usage_of(getattr(generation, "message", None))

    def taken(self) -> Usage:
        """What was added since the last time."""
        usage, self._usage = self._usage, Usage()
        return usage


class RunnablePlanner:
    """Plans with any Runnable from `{"input", "intermediate_steps", …}` to LangChain's actions or finish."""

    def __init__(
        self, agent: Runnable[Any, Any], *, config: RunnableConfig | None = None, count_tokens: bool = False
    ) -> None:
        self._counter = _TokenCounter()
        if count_tokens:
            config = merge_configs(config, {"callbacks": [self._counter]})
        self._agent = agent
        self._config = config
        self._seen: Sequence[Step] | None = None
        self._steps: list[tuple[AgentAction, Any]] = []

    def plan(self, call: ModelCall) -> Iterator[str | Turn]:
        try:
            left_s, inputs = remaining_s(), self._inputs(call)
            output = self._invoke(inputs) if left_s is None else in_daemon_thread(self._invoke, inputs).result(left_s)
            turn = _turn(output)
        except OutputParserException as error:
            turn = _malformed(error)
        yield replace(turn, usage=self._counter.taken())

    def _invoke(self, inputs: dict[str, Any]) -> Any:
        return self._agent.invoke(inputs, self._config)

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Turn]:
        try:
            turn = _turn(await self._agent.ainvoke(self._inputs(call), self._config))
        except OutputParserException as error:
            turn = _malformed(error)
        yield replace(turn, usage=self._counter.taken())

    def _inputs(self, call: ModelCall) -> dict[str, Any]:
        if call.steps is not self._seen:
            self._seen, self._steps = call.steps, []
        self._steps += [
            (as_agent_action(action), observation) for action, observation in call.steps[len(self._steps) :]
        ]
        return {**call.inputs, "intermediate_steps": list(self._steps)}


def _turn(output: Any) -> Turn:
    if isinstance(output, AgentFinish):
        values = output.return_values
        final = FinalAnswer(values.get("output", values), output.log)
        return Turn(final, output.log, invented=_invented(output), return_values=values)
    actions = [output] if isinstance(output, AgentAction) else output
    if not isinstance(actions, list) or not actions or not all(isinstance(a, AgentAction) for a in actions):
        raise TypeError(
            f"expected the agent to return AgentAction, list[AgentAction] or AgentFinish, got {type(output).__name__}; "
            "end the chain with ReActJsonSingleInputOutputParser()"
        )
    decided = tuple(map(as_action, actions))
    return Turn(decided, actions[0].log, invented=sum(map(_invented, actions)))


def _invented(output: Any) -> int:
    return int(getattr(output, "invented_observations", 0))


def _malformed(error: OutputParserException) -> Turn:
    malformed = MalformedTurn(str(error.observation) if error.send_to_llm else "Invalid or incomplete response")
    malformed.__cause__ = error
    return Turn(malformed, str(error.llm_output) if error.send_to_llm else str(error))
