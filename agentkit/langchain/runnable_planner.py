"""LangChain's agents, any Runnable, as the loop sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any
from uuid import UUID

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import Generation, LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentkit.approximate_tokens import count_prompt_tokens, count_tokens, with_estimate
from agentkit.core.loop import ModelCall, Turn
from agentkit.core.planner import Estimates
from agentkit.deadline import remaining_s
from agentkit.errors import MalformedTurn
from agentkit.events import Event, FinalAnswer, Finished, RunStarted, Step, Usage
from agentkit.langchain.model import usage_of
from agentkit.langchain.output_parser import ReActJsonSingleInputOutputParser
from agentkit.langchain.steps import as_action, as_agent_action, as_langchain_steps
from agentkit.react_json.scratchpad import harmless_steps
from agentkit.toolbox.calling import in_daemon_thread

STEPS = "intermediate_steps"


class _TokenCounter(BaseCallbackHandler):
    """Adds up what the models inside a chain used; of what they do not say, an estimate."""

    run_inline = True

    def __init__(self) -> None:
        self._asked: dict[UUID, Sequence[Mapping[str, Any]]] = {}
        self._stated: list[Usage] = []
        self._estimated: list[Usage] = []

    def on_chat_model_start(
        self, serialized: dict[str, Any], messages: list[list[BaseMessage]], *, run_id: UUID, **kwargs: Any
    ) -> None:
        self._asked[run_id] = [
            {"content": one.content, "tool_calls": getattr(one, "tool_calls", None)} for row in messages for one in row
        ]

    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], *, run_id: UUID, **kwargs: Any) -> None:
        self._asked[run_id] = [{"content": prompt} for prompt in prompts]

    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **kwargs: Any) -> None:
        asked = self._asked.pop(run_id, ())
        for row in response.generations:
            messages = [getattr(one, "message", None) or _with(one, response) for one in row]
            stated = reduce(add, map(usage_of, messages), Usage())
            reply = "\n".join(f"{one.text}{getattr(one, 'tool_calls', None) or ''}" for one in messages)
            self._stated.append(stated)
            self._estimated.append(with_estimate(stated, lambda: count_prompt_tokens(asked), reply))

    def taken(self) -> tuple[Usage, Usage]:
        """What was stated since the last time, and that with an estimate of the rest; no cost where one has none."""
        both = self._stated, self._estimated
        self._stated, self._estimated = [], []
        stated, estimated = (reduce(add, usages, Usage()) for usages in both)
        if any(usage.cost_usd is None for usage in both[0]):
            stated, estimated = replace(stated, cost_usd=None), replace(estimated, cost_usd=None)
        return stated, estimated


def _with(generation: Generation, response: LLMResult) -> AIMessage:
    """The text of a model that gives no messages, with what it says of its usage."""
    return AIMessage(generation.text, response_metadata=response.llm_output or {})


class RunnablePlanner:
    """Plans with one of LangChain's agents: any Runnable from `{"input", "intermediate_steps", …}` to its actions or
    finish, or one of the older objects that have `plan` and `aplan`.

    What it decides on comes back to it as it was. With `stream` a Runnable is streamed, which shows the model's tokens
    to callbacks. `keeps_text`: the step of a turn that its parser refuses has the model's text as its log, which
    LangChain gives only where the model is told the parser's own words.
    """

    def __init__(
        self,
        agent: Any,
        *,
        config: RunnableConfig | None = None,
        count_tokens: bool = False,
        stream: bool = False,
        keeps_text: bool = True,
    ) -> None:
        self._counter = _TokenCounter()
        if count_tokens:
            config = merge_configs(config, {"callbacks": [self._counter]})
        self._agent = agent
        self._config = config
        self._stream = stream
        self._keeps_text = keeps_text
        self._estimates = Estimates()
        self._is_our_dialect = _ends_in_our_parser(agent)
        self._seen: Sequence[Step] | None = None
        self._steps: list[tuple[AgentAction, Any]] = []

    def plan(self, call: ModelCall) -> Iterator[str | Turn]:
        try:
            left_s, inputs = remaining_s(), self._inputs(call)
            output = self._decide(inputs) if left_s is None else in_daemon_thread(self._decide, inputs).result(left_s)
            turn = _turn(output)
        except OutputParserException as error:
            turn = _malformed(error, keeps_text=self._keeps_text)
        yield replace(turn, usage=self._usage(call, turn))

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Turn]:
        try:
            turn = _turn(await self._adecide(self._inputs(call)))
        except OutputParserException as error:
            turn = _malformed(error, keeps_text=self._keeps_text)
        yield replace(turn, usage=self._usage(call, turn))

    def _usage(self, call: ModelCall, turn: Turn) -> Usage:
        stated, estimated = self._counter.taken()
        if call.max_new_tokens is None:
            return stated
        if estimated == Usage():  # of a model that tells no callbacks: at least what it read and wrote here
            steps = [text for step in call.steps for text in (step.action.log, str(step.observation))]
            prompt = count_tokens("\n".join([*map(str, call.inputs.values()), *steps]))
            estimated = with_estimate(stated, lambda: prompt, turn.text)
        return self._estimates.checked(stated, estimated, "A model of this chain")

    def _decide(self, inputs: dict[str, Any]) -> Any:
        if not isinstance(self._agent, Runnable):
            steps = inputs.pop(STEPS)
            return self._agent.plan(steps, callbacks=(self._config or {}).get("callbacks"), **inputs)
        if not self._stream:
            return self._agent.invoke(inputs, self._config)
        return reduce(add, self._agent.stream(inputs, self._config))

    async def _adecide(self, inputs: dict[str, Any]) -> Any:
        if not isinstance(self._agent, Runnable):
            steps = inputs.pop(STEPS)
            return await self._agent.aplan(steps, callbacks=(self._config or {}).get("callbacks"), **inputs)
        if not self._stream:
            return await self._agent.ainvoke(inputs, self._config)
        return reduce(add, [chunk async for chunk in self._agent.astream(inputs, self._config)])

    def _inputs(self, call: ModelCall) -> dict[str, Any]:
        if call.steps is not self._seen:
            self._seen, self._steps = call.steps, []
        steps: Iterable[tuple[Any, Any]] = call.steps[len(self._steps) :]
        if self._is_our_dialect:
            steps = harmless_steps(steps)
        self._steps += [(as_agent_action(action), observation) for action, observation in steps]
        return {**call.inputs, STEPS: list(self._steps)}


def _ends_in_our_parser(agent: Any) -> bool:
    """Whether an agent speaks our dialect, in which an observation must not speak for the model."""
    while (inner := getattr(agent, "last", None) or getattr(agent, "bound", None)) is not None:
        agent = inner
    return isinstance(agent, ReActJsonSingleInputOutputParser)


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


def _malformed(error: OutputParserException, *, keeps_text: bool) -> Turn:
    malformed = MalformedTurn(str(error.observation) if error.send_to_llm else "Invalid or incomplete response")
    malformed.__cause__ = error
    malformed.text = str(error.llm_output or "")
    return Turn(malformed, str(error.llm_output) if error.send_to_llm and keeps_text else str(error))


def in_langchains_words(agent: Any, inputs: Mapping[str, Any], event: Event) -> Event:
    """An event of a run with the inputs as they were given, and with the agent's own end where a limit made it."""
    if isinstance(event, RunStarted):
        return RunStarted(dict(inputs))
    limits = ("max_iterations", "max_execution_time")
    if not isinstance(event, Finished) or event.answered or event.summary.stop_reason not in limits:
        return event
    if hasattr(agent, "return_stopped_response"):
        finish = agent.return_stopped_response("force", as_langchain_steps(event.steps), **inputs)
    elif _decides_on_several(agent):
        finish = AgentFinish({"output": "Agent stopped due to max iterations."}, "")
    else:
        return event
    values = finish.return_values
    return replace(event, output=values.get("output", values), return_values=values, log=finish.log)


def _decides_on_several(agent: Any) -> bool:
    try:
        return bool(agent.OutputType == list[AgentAction] | AgentFinish)
    except Exception:  # what LangChain's Runnables raise where it cannot be inferred, and it catches, too
        return False
