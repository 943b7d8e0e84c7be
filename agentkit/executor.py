"""`AgentExecutor`: a run as a LangChain Runnable, with the parameters, keys and chunks its users know."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from langchain_core.agents import AgentAction
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.exceptions import OutputParserException
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config

from agentkit import runner
from agentkit.cassette import active
from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import Event, Finished, Step
from agentkit.langchain_events import ChainRun, announcer, chunks_of
from agentkit.langchain_model import RunnablePlanner, as_agent_action, as_output_parser_exception
from agentkit.langchain_tools import as_langchain, from_langchain
from agentkit.loop import Limits, ReActLoop
from agentkit.react_agent import ReactJsonAgent, create_react_json_agent
from agentkit.react_json.turn import Action
from agentkit.toolbox import Approve, Toolbox

if TYPE_CHECKING:
    from agentkit.cassette import Cassette

Steps = list[tuple[AgentAction, Any]]


class AgentExecutor(Runnable[dict[str, Any], dict[str, Any]]):
    """Runs an agent with its tools until it has an answer.

    `agent` is a Runnable from `{"input", "intermediate_steps", …}` to `AgentAction | list[AgentAction] | AgentFinish`.
    Unlike LangChain's, a turn that cannot be parsed goes back to the model by default. Beyond LangChain's parameters:

    - `max_tokens`: a budget for the run; `max_repeats`: how often the same action may give the same observation
    - `tool_timeout_s`: seconds for one tool; `approve`: asked before a tool with side effects runs
    - `must_be_grounded`: refuse an answer with numbers or names that no observation gave
    - `return_run`: add `result["run"]` (usage, seconds, stop reason, counts)
    - `cassette`: a `Cassette`, or a file that is replayed if it is there and recorded if not

    `invoke` raises `ConfigurationError`, `ModelError`, what a tool raises that is not its own error, and
    `OutputParserException` with `handle_parsing_errors=False`.
    """

    def __init__(
        self,
        agent: Runnable[Any, Any],
        tools: Sequence[Any],
        *,
        max_iterations: int | None = 15,
        max_execution_time: float | None = None,
        early_stopping_method: Literal["force", "generate"] = "force",
        handle_parsing_errors: bool | str | Callable[[OutputParserException], str] = True,
        return_intermediate_steps: bool = False,
        trim_intermediate_steps: int | Callable[[Steps], Steps] = -1,
        verbose: bool = False,
        callbacks: list[BaseCallbackHandler] | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        max_tokens: int | None = None,
        max_repeats: int | None = 3,
        tool_timeout_s: float | None = None,
        approve: Approve | None = None,
        must_be_grounded: bool = False,
        return_run: bool = False,
        cassette: Cassette | str | Path | None = None,
    ) -> None:
        if early_stopping_method not in ("force", "generate"):
            raise ConfigurationError(
                f'expected early_stopping_method "force" or "generate", saw {early_stopping_method!r}'
            )
        self.agent = agent
        self.tools = [as_langchain(tool) for tool in tools]
        self.limits = Limits(
            max_iterations=max_iterations,
            max_execution_time_s=max_execution_time,
            max_tokens=max_tokens,
            max_repeats=max_repeats,
            early_stopping_method=early_stopping_method,
        )
        self.handle_parsing_errors = handle_parsing_errors
        self.return_intermediate_steps = return_intermediate_steps
        self.trim_intermediate_steps = trim_intermediate_steps
        self.verbose = verbose
        self.callbacks = callbacks
        self.tags = tags
        self.metadata = metadata
        self.tool_timeout_s = tool_timeout_s
        self.approve = approve
        self.must_be_grounded = must_be_grounded
        self.return_run = return_run
        self.cassette = cassette

    @classmethod
    def from_model(
        cls, model: Any, tools: Sequence[Any] = ("search", "calculator"), prompt: Any = None, **options: Any
    ) -> AgentExecutor:
        """The shortest way: a chat model or its spec, tools or their names, a prompt or its name."""
        from agentkit.models import chat_model
        from agentkit.tool_registry import load_tools

        if isinstance(model, str):
            model = chat_model(model)
        loaded = [one for tool in tools for one in (load_tools([tool]) if isinstance(tool, str) else [tool])]
        options.setdefault("must_be_grounded", getattr(model, "constrain", None) == "copy")
        return cls(create_react_json_agent(model, loaded, prompt), loaded, **options)

    # -- Runnable --------------------------------------------------------------------------------------------------

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:  # noqa: A002
        """Run to the end: `{"input": …, "output": …}`, with `intermediate_steps` and `run` where asked for."""
        inputs = _as_inputs(input)
        for event in self._watched_events(inputs, config, **kwargs):
            last = event
        return {**inputs, **self._outputs(last)}

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:  # noqa: A002
        """`invoke`, awaiting models and tools; a call under way at `max_execution_time` is cancelled."""
        inputs = _as_inputs(input)
        async for event in self._watched_aevents(inputs, config, **kwargs):
            last = event
        return {**inputs, **self._outputs(last)}

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[dict[str, Any]]:  # noqa: A002
        """Chunks `{"actions", "messages"}`, `{"steps", "messages"}`, and last `{"output", …, "messages"}`."""
        for event in self._watched_events(_as_inputs(input), config, **kwargs):
            yield from chunks_of(event, self._outputs)

    async def astream(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """`stream`, awaiting."""
        async for event in self._watched_aevents(_as_inputs(input), config, **kwargs):
            for chunk in chunks_of(event, self._outputs):
                yield chunk

    # -- events ----------------------------------------------------------------------------------------------------

    def events(self, input: Any, config: RunnableConfig | None = None, *, stream: bool = True) -> Iterator[Event]:  # noqa: A002
        """The run as it happens; with `stream`, the model's text piece by piece."""
        return self._watched_events(_as_inputs(input), config, stream_tokens=stream)

    def aevents(
        self,
        input: Any,  # noqa: A002
        config: RunnableConfig | None = None,
        *,
        stream: bool = True,
    ) -> AsyncIterator[Event]:
        """`events`, awaiting."""
        return self._watched_aevents(_as_inputs(input), config, stream_tokens=stream)

    def _watched_events(
        self, inputs: dict[str, Any], config: RunnableConfig | None, *, stream_tokens: bool = False
    ) -> Iterator[Event]:
        config = ensure_config(config)
        manager = CallbackManager.configure(*self._callback_sources(config))
        started = manager.on_chain_start(None, inputs, **self._named(config)) if manager.handlers else None
        chain = ChainRun(started, config, self._outputs)
        try:
            with self._recorded():
                for event in runner.run(*self._parts(inputs, chain.child_config, stream_tokens)):
                    for callback, value, keywords in chain.calls(event):
                        callback(value, **keywords)
                    yield event
        except BaseException as error:
            for callback, value, _ in chain.end(error):
                callback(value)
            raise _as_langchain_error(error) from error.__cause__
        for callback, value, _ in chain.end():
            callback(value)

    async def _watched_aevents(
        self, inputs: dict[str, Any], config: RunnableConfig | None, *, stream_tokens: bool = False
    ) -> AsyncIterator[Event]:
        config = ensure_config(config)
        manager = AsyncCallbackManager.configure(*self._callback_sources(config))
        listened = bool(manager.handlers)
        started = await manager.on_chain_start(None, inputs, **self._named(config)) if listened else None
        chain = ChainRun(started, config, self._outputs)
        try:
            with self._recorded():
                parts = self._parts(inputs, chain.child_config, stream_tokens)
                async for event in runner.arun(*parts, limit_s=self.limits.max_execution_time_s):
                    for callback, value, keywords in chain.calls(event):
                        await callback(value, **keywords)
                    yield event
        except BaseException as error:
            for callback, value, _ in chain.end(error):
                await callback(value)
            raise _as_langchain_error(error) from error.__cause__
        for callback, value, _ in chain.end():
            await callback(value)

    def _callback_sources(self, config: RunnableConfig) -> tuple[Any, ...]:
        return (
            config.get("callbacks"),
            self.callbacks,
            self.verbose,
            config.get("tags"),
            self.tags,
            config.get("metadata"),
            self.metadata,
        )

    def _named(self, config: RunnableConfig) -> dict[str, Any]:
        return {"name": config.get("run_name") or self.get_name(), "run_id": config.get("run_id")}

    def _parts(
        self, inputs: dict[str, Any], config: RunnableConfig | None, stream: bool
    ) -> tuple[ReActLoop, runner.Agent, runner.Toolbox]:
        return self._loop(inputs), self._planner(config, stream), self._toolbox(config)

    # -- parts of a run --------------------------------------------------------------------------------------------

    def _loop(self, inputs: dict[str, Any]) -> ReActLoop:
        return ReActLoop(
            inputs,
            limits=self.limits,
            recover=self._recover if self.handle_parsing_errors is not False else None,
            trim=self._trim if self.trim_intermediate_steps != -1 else None,
            must_be_grounded=self.must_be_grounded,
            started_s=time.monotonic(),
        )

    def _planner(self, config: RunnableConfig | None, stream: bool) -> runner.Agent:
        if isinstance(self.agent, ReactJsonAgent):
            return self.agent.planner(config=config, stream=stream)
        counts = self.return_run or self.limits.max_tokens is not None
        return RunnablePlanner(self.agent, config=config, count_tokens=counts)

    def _toolbox(self, config: RunnableConfig | None) -> runner.Toolbox:
        tools = [from_langchain(tool, config=config, verbose=self.verbose) for tool in self.tools]
        toolbox = Toolbox(tools, timeout_s=self.tool_timeout_s, approve=self.approve)
        cassette = active()
        if cassette is None:
            return toolbox
        return cassette.toolbox(toolbox, toolbox.deterministic, played=announcer(config, self.verbose))

    def _recorded(self) -> AbstractContextManager[Any]:
        """The block in which a run is recorded or replayed: a path that is there is replayed, a new one recorded."""
        if self.cassette is None:
            return nullcontext()
        from agentkit.cassette import Cassette

        if isinstance(self.cassette, Cassette):
            return self.cassette
        return Cassette(self.cassette, mode="replay" if Path(self.cassette).exists() else "record")

    def _recover(self, error: MalformedTurn) -> str:
        if isinstance(self.handle_parsing_errors, str):
            return self.handle_parsing_errors
        if callable(self.handle_parsing_errors):
            return self.handle_parsing_errors(as_output_parser_exception(error))
        return str(error)

    def _trim(self, steps: Sequence[Step]) -> Sequence[Step]:
        if isinstance(self.trim_intermediate_steps, int):
            return steps[-self.trim_intermediate_steps :] if self.trim_intermediate_steps > 0 else steps
        trimmed = self.trim_intermediate_steps(_as_langchain_steps(steps))
        return [Step(Action(a.tool, a.tool_input, a.log), observation) for a, observation in trimmed]

    # -- results ---------------------------------------------------------------------------------------------------

    def _outputs(self, event: Event) -> dict[str, Any]:
        assert isinstance(event, Finished)  # the last event of every run
        outputs = dict(event.return_values or {"output": event.output})
        if self.return_intermediate_steps:
            outputs["intermediate_steps"] = _as_langchain_steps(event.steps)
        if self.return_run:
            outputs["run"] = asdict(event.summary)
        return outputs


def _as_inputs(given: Any) -> dict[str, Any]:
    if isinstance(given, str):
        given = {"input": given}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f'expected {{"input": "question"}} or a question, saw {type(given).__name__}')
    return dict(given)


def _as_langchain_steps(steps: Sequence[Step]) -> Steps:
    return [(as_agent_action(action), observation) for action, observation in steps]


def _as_langchain_error(error: BaseException) -> BaseException:
    """What LangChain's users catch: `OutputParserException`, a ValueError, for a turn that could not be parsed."""
    return as_output_parser_exception(error) if isinstance(error, MalformedTurn) else error
