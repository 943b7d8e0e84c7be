"""LangChain's models and agents as the loop sees them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import OutputParserException
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.outputs import LLMResult
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import merge_configs

from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import Step, Usage
from agentkit.langchain_quiet import quiet_chain, quiet_model
from agentkit.loop import ModelCall, Reply
from agentkit.planner import Completion, TurnRequest
from agentkit.react_json.turn import Action, FinalAnswer

_MESSAGE: dict[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}


class LangChainModel:
    """A LangChain chat model that completes turns; with `stream` its text arrives in pieces."""

    def __init__(self, model: BaseChatModel, *, config: RunnableConfig | None = None, stream: bool = False) -> None:
        self._model = model
        self._config = config
        self._stream = stream
        self._quiet = quiet_model(model) if config is None else None

    def message(self, role: str, content: Any) -> BaseMessage:
        try:
            return _MESSAGE[role](content=content)
        except KeyError:
            expected = ", ".join(_MESSAGE)
            raise ConfigurationError(
                f"expected a message of role {expected}, saw {role!r}; change the prompt"
            ) from None

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]:
        messages, options = list(request.messages), _options(request)
        if not self._stream:
            quiet = self._quiet
            message = quiet(messages, **options) if quiet else self._model.invoke(messages, self._config, **options)
            yield read_message(message)
            return
        whole: Any = None
        for chunk in self._model.stream(messages, self._config, **options):
            whole = chunk if whole is None else whole + chunk
            if chunk.text:
                yield str(chunk.text)
        yield read_message(whole)

    async def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]:
        messages, options = list(request.messages), _options(request)
        if not self._stream:
            yield read_message(await self._model.ainvoke(messages, self._config, **options))
            return
        whole: Any = None
        async for chunk in self._model.astream(messages, self._config, **options):
            whole = chunk if whole is None else whole + chunk
            if chunk.text:
                yield str(chunk.text)
        yield read_message(whole)


def _options(request: TurnRequest) -> dict[str, Any]:
    options: dict[str, Any] = {"stop": list(request.stop)}
    if request.grammar is not None:
        options["grammar"] = request.grammar
    return options


def read_message(message: Any) -> Completion:
    """A chat model's message as a completion."""
    counted = getattr(message, "usage_metadata", None)
    metadata = message.response_metadata
    return Completion(
        str(message.text),
        _usage(counted) if counted else Usage(),
        metadata.get("finish_reason") or metadata.get("stop_reason") or "stop",
        message.additional_kwargs.get("reasoning_content") or "",
    )


def _usage(counted: Any) -> Usage:
    details = counted.get("input_token_details") or {}
    return Usage(counted["input_tokens"], counted["output_tokens"], details.get("cache_read") or 0)


class _TokenCounter(BaseCallbackHandler):
    """Adds up what the models inside a chain used."""

    run_inline = True

    def __init__(self) -> None:
        self._usage = Usage()

    def on_llm_end(self, response: LLMResult, **kwargs: Any) -> None:
        for generation in (one for row in response.generations for one in row):
            counted = getattr(getattr(generation, "message", None), "usage_metadata", None)
            self._usage += _usage(counted) if counted else Usage()

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
        self._call = (quiet_chain(agent) if config is None else None) or (lambda inputs: agent.invoke(inputs, config))
        self._seen: Sequence[Step] | None = None
        self._steps: list[tuple[AgentAction, Any]] = []

    def plan(self, call: ModelCall) -> Iterator[str | Reply]:
        try:
            reply = _reply(self._call(self._inputs(call)))
        except OutputParserException as error:
            reply = _malformed(error)
        yield replace(reply, usage=self._counter.taken())

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Reply]:
        try:
            reply = _reply(await self._agent.ainvoke(self._inputs(call), self._config))
        except OutputParserException as error:
            reply = _malformed(error)
        yield replace(reply, usage=self._counter.taken())

    def _inputs(self, call: ModelCall) -> dict[str, Any]:
        if call.steps is not self._seen:
            self._seen, self._steps = call.steps, []
        self._steps += [
            (as_agent_action(action), observation) for action, observation in call.steps[len(self._steps) :]
        ]
        return {**call.inputs, "intermediate_steps": list(self._steps)}


def as_agent_action(action: Action) -> AgentAction:
    """Our action as LangChain's."""
    return AgentAction(tool=action.tool, tool_input=action.tool_input, log=action.log)


def _reply(output: Any) -> Reply:
    if isinstance(output, AgentFinish):
        values = output.return_values
        final = FinalAnswer(values.get("output", values), output.log)
        return Reply(final, output.log, invented=_invented(output), return_values=values)
    actions = [output] if isinstance(output, AgentAction) else output
    if not isinstance(actions, list) or not actions or not all(isinstance(a, AgentAction) for a in actions):
        raise TypeError(
            f"expected the agent to return AgentAction, list[AgentAction] or AgentFinish, got {type(output).__name__}; "
            "end the chain with ReActJsonSingleInputOutputParser()"
        )
    decided = tuple(Action(a.tool, a.tool_input, a.log) for a in actions)
    return Reply(decided, actions[0].log, invented=sum(map(_invented, actions)))


def _invented(output: Any) -> int:
    return int(getattr(output, "invented_observations", 0))


def _malformed(error: OutputParserException) -> Reply:
    malformed = MalformedTurn(str(error.observation) if error.send_to_llm else "Invalid or incomplete response")
    malformed.__cause__ = error
    return Reply(malformed, str(error.llm_output) if error.send_to_llm else str(error))


def as_output_parser_exception(error: MalformedTurn) -> OutputParserException:
    """A turn that could not be parsed as what LangChain's users catch, a ValueError."""
    if isinstance(error.__cause__, OutputParserException):
        return error.__cause__
    return OutputParserException(str(error), observation=str(error), llm_output=error.text, send_to_llm=True)
