"""`AgentExecutor`: a run as a LangChain Runnable, with the parameters, keys and chunks its users know."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, closing, nullcontext
from dataclasses import KW_ONLY, asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, BaseCallbackManager, CallbackManager
from langchain_core.language_models import BaseLanguageModel
from langchain_core.runnables import Runnable, RunnableConfig, ensure_config
from langchain_core.runnables.config import get_config_list

from agentkit.core.planner import Planner
from agentkit.core.run import Run
from agentkit.errors import ConfigurationError, described, did_you_mean
from agentkit.events import Event, Finished
from agentkit.langchain.callbacks import ChainRun, announcer, chunks_of
from agentkit.langchain.chat_model import OPTIONS, as_chat_model
from agentkit.langchain.community import load_tools
from agentkit.langchain.react_agent import ReactJsonAgent, as_prompt, create_react_json_agent
from agentkit.langchain.runnable_planner import RunnablePlanner
from agentkit.langchain.steps import (
    HandleErrors,
    Trim,
    as_inputs,
    as_langchain_error,
    as_langchain_steps,
    recovery,
    trimmer,
)
from agentkit.langchain.tools import as_langchain, from_langchain, listed
from agentkit.recorder import active
from agentkit.runs.build import allowed, make_run
from agentkit.settings import SETTINGS, RunSettings, checked
from agentkit.toolbox.approval import Approve, check_approve

if TYPE_CHECKING:
    from agentkit.cassette import Cassette

MOST_TOGETHER = 16  # runs of a batch at once; as many replies as a model in this process decodes together


@dataclass(eq=False, repr=False)
class AgentExecutor(Runnable[dict[str, Any], dict[str, Any]]):
    """Runs an agent with its tools until it has an answer.

    `agent` is a Runnable from `{"input", "intermediate_steps", …}` to `AgentAction | list[AgentAction] | AgentFinish`.
    Unlike LangChain's, a turn that cannot be parsed goes back to the model by default. Beyond LangChain's parameters:

    - `max_tokens`, `max_cost` (US dollars): budgets for the run
    - `max_repeats`: how often the same action may give the same observation
    - `tool_timeout_s`: seconds for one tool; `approve`: asked before a tool runs that does not say that it
      only reads, a plain function or (awaited runs only) an async one; only True is a yes
    - `allow`: names of the tools that may run; `max_observation_tokens`: where an observation is cut
    - `must_be_grounded`: refuse an answer with numbers or names that no observation gave
    - `return_run`: add `result["run"]` (usage, seconds, stop reason, counts)
    - `cassette`: a `Cassette`, or a file that is replayed if it is there and recorded if not

    `invoke` raises `ConfigurationError`, `ModelError`, what a tool raises that is not its own error, and
    `OutputParserException` with `handle_parsing_errors=False`.
    """

    agent: Runnable[Any, Any]
    tools: Sequence[Any]
    _: KW_ONLY
    max_iterations: int | None = 15
    max_execution_time: float | None = None
    early_stopping_method: Literal["force", "generate"] = "force"
    handle_parsing_errors: HandleErrors = True
    return_intermediate_steps: bool = False
    trim_intermediate_steps: int | Trim = -1
    verbose: bool = False
    callbacks: list[BaseCallbackHandler] | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    max_repeats: int | None = 3
    tool_timeout_s: float | None = None
    approve: Approve | None = None
    allow: Collection[str] | None = None
    max_observation_tokens: int | None = 8_000
    must_be_grounded: bool = False
    return_run: bool = False
    cassette: Cassette | str | Path | None = None

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if cls.__init__ is AgentExecutor.__init__:
            _refuse_unknown(options)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        if isinstance(self.agent, BaseLanguageModel) or not isinstance(self.agent, Runnable):
            raise ConfigurationError(
                f"expected an agent, as create_react_json_agent(model, tools) makes it, saw {described(self.agent)}; "
                "from a model, AgentExecutor.from_model(model, tools)"
            )
        options = {name: getattr(self, name) for name in _KEYWORDS}
        settings = _settings(options)
        self.tools = [as_langchain(tool) for tool in listed(self.tools)]
        offered = tuple(tool.name for tool in allowed(self.tools, self.allow))
        self.settings = RunSettings(**settings, allow=None if self.allow is None else offered)

    @classmethod
    def from_model(
        cls,
        model: Any,
        tools: Sequence[Any] = ("search", "calculator"),
        prompt: Any = None,
        *,
        mode: Literal["auto", "react-json", "tools"] = "auto",
        **options: Any,
    ) -> AgentExecutor:
        """The shortest way: a chat model, a backend or a spec, tools or their names, a prompt or its name.

        `mode` is how the model names a tool; see `create_react_json_agent`. What is wrong with the rest is said before
        a model is loaded.
        """
        if cls.__init__ is AgentExecutor.__init__:
            _refuse_unknown(options)
        _settings({"mode": mode, **options})
        named = ((load_tools([tool]) if isinstance(tool, str) else [tool]) for tool in listed(tools))
        loaded = [as_langchain(tool) for one in named for tool in one]
        offered = allowed(loaded, options.get("allow"))
        prompt, model = as_prompt(prompt), as_chat_model(model)
        options.setdefault("must_be_grounded", getattr(model, "constrain", None) == "copy")
        return cls(create_react_json_agent(model, offered, prompt, mode=mode), loaded, **options)

    # -- Runnable --------------------------------------------------------------------------------------------------

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """Run to the end: `{"input": …, "output": …}`, with `intermediate_steps` and `run` where asked for.

        A call under way at `max_execution_time` is given up; a thread it needs ends on its own.
        """
        inputs = as_inputs(input)
        for event in self.events(inputs, config, stream=False, **kwargs):
            last = event
        return {**inputs, **self._outputs(last)}

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        """`invoke`, awaiting models and tools; a call under way at `max_execution_time` is cancelled."""
        inputs = as_inputs(input)
        async for event in self.aevents(inputs, config, stream=False, **kwargs):
            last = event
        return {**inputs, **self._outputs(last)}

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[dict[str, Any]]:
        """Chunks `{"actions", "messages"}`, `{"steps", "messages"}`, and last `{"output", …, "messages"}`."""
        for event in self.events(input, config, stream=False, **kwargs):
            yield from chunks_of(event, self._outputs)

    async def astream(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[dict[str, Any]]:
        """`stream`, awaiting."""
        async for event in self.aevents(input, config, stream=False, **kwargs):
            for chunk in chunks_of(event, self._outputs):
                yield chunk

    def batch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """`invoke` for each input, 16 at once unless `max_concurrency` says another number; in one cassette."""
        configs = get_config_list(config, len(inputs)) if inputs else []
        if configs and configs[0].get("max_concurrency") is None:
            configs[0]["max_concurrency"] = MOST_TOGETHER
        with self._recorded():
            return super().batch(inputs, configs, **kwargs)

    async def abatch(self, inputs: list[Any], config: Any = None, **kwargs: Any) -> list[Any]:
        """`batch`, awaiting."""
        with self._recorded():
            return await super().abatch(inputs, config, **kwargs)

    # -- events ----------------------------------------------------------------------------------------------------

    def events(self, input: Any, config: RunnableConfig | None = None, *, stream: bool = True) -> Iterator[Event]:
        """The run as it happens, a chain run in the run tree; with `stream`, the model's text piece by piece."""
        check_approve(self.approve, blocking=True)
        inputs, config = as_inputs(input), _config(config)
        manager = CallbackManager.configure(*self._callbacks_for(config))
        started = manager.on_chain_start(None, inputs, **self._named(config)) if manager.handlers else None
        chain = ChainRun(started, config, self._outputs)
        try:
            with self._recorded(), closing(self._run(inputs, chain.child_config, stream).events()) as events:
                for event in events:
                    for callback in chain.calls(event):
                        callback()
                    yield event
        except BaseException as error:
            for callback in chain.end(error):
                callback()
            raise as_langchain_error(error) from error.__cause__
        for callback in chain.end():
            callback()

    async def aevents(
        self, input: Any, config: RunnableConfig | None = None, *, stream: bool = True
    ) -> AsyncIterator[Event]:
        """`events`, awaiting."""
        inputs, config = as_inputs(input), _config(config)
        manager = AsyncCallbackManager.configure(*self._callbacks_for(config))
        started = await manager.on_chain_start(None, inputs, **self._named(config)) if manager.handlers else None
        chain = ChainRun(started, config, self._outputs)
        try:
            with self._recorded():
                async with aclosing(self._run(inputs, chain.child_config, stream).aevents()) as events:
                    async for event in events:
                        for callback in chain.calls(event):
                            await callback()
                        yield event
        except BaseException as error:
            for callback in chain.end(error):
                await callback()
            raise as_langchain_error(error) from error.__cause__
        for callback in chain.end():
            await callback()

    def _callbacks_for(self, config: RunnableConfig) -> tuple[Any, ...]:
        """All callbacks, those of the call and the executor's own, in the order that managers take."""
        given = (config.get("tags"), self.tags, config.get("metadata"), self.metadata)
        return (config.get("callbacks"), self.callbacks, self.verbose, *given)

    def _named(self, config: RunnableConfig) -> dict[str, Any]:
        return {"name": config.get("run_name") or self.get_name(), "run_id": config.get("run_id")}

    def _run(self, inputs: dict[str, Any], config: RunnableConfig | None, stream: bool) -> Run:
        return make_run(
            self.settings,
            inputs,
            planner=self._planner(config, stream),
            tools=[from_langchain(tool, config=config, verbose=self.verbose) for tool in self.tools],
            approve=self.approve,
            recover=recovery(self.handle_parsing_errors),
            trim=trimmer(self.trim_intermediate_steps) if callable(self.trim_intermediate_steps) else None,
            replayed=announcer(config, self.verbose),
        )

    def _planner(self, config: RunnableConfig | None, stream: bool) -> Planner:
        if isinstance(self.agent, ReactJsonAgent):
            return self.agent.planner(config=config, stream=stream)
        counts = self.return_run or self.settings.max_tokens is not None or self.settings.max_cost is not None
        return RunnablePlanner(self.agent, config=config, count_tokens=counts)

    def _recorded(self) -> AbstractContextManager[Any]:
        """The block in which a run is recorded or replayed: a path that is there is replayed, a new one recorded."""
        from agentkit.cassette import Cassette

        if self.cassette is None:
            return nullcontext()
        if isinstance(own := self.cassette, str | Path):
            own = Cassette(own, mode="replay" if Path(own).exists() else "record")
        in_use = active()
        return nullcontext() if in_use is not None and in_use.path == own.path else own  # one of a batch

    # -- results ---------------------------------------------------------------------------------------------------

    def _outputs(self, event: Event) -> dict[str, Any]:
        assert isinstance(event, Finished)  # the last event of every run
        outputs = dict(event.return_values or {"output": event.output})
        if self.return_intermediate_steps:
            outputs["intermediate_steps"] = as_langchain_steps(event.steps)
        if self.return_run:
            outputs["run"] = asdict(event.summary)
        return outputs


# -- what it is given --------------------------------------------------------------------------------------------------

_KEYWORDS = tuple(one.name for one in fields(AgentExecutor) if one.kw_only)
_SETTING_OF = {"max_execution_time": "timeout"}
"""Settings that LangChain's users know by another name."""
_BOOLS = ("handle_parsing_errors", "return_intermediate_steps", "verbose", "return_run")


def _refuse_unknown(options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for a keyword that is none, with the place where it goes."""
    for name in options:
        if name in (*_KEYWORDS, "agent", "tools"):
            continue
        own = next((keyword for keyword, setting in _SETTING_OF.items() if setting == name), None)
        if own is not None:
            advice = f"; did you mean {own!r}?"
        elif name in ("mode", "prompt"):
            advice = "; AgentExecutor.from_model and create_react_json_agent take it"
        elif name in OPTIONS:
            advice = f"; it is the model's: chat_model(SPEC, {name}=…)"
        else:
            advice = did_you_mean(name, ("tools", *_KEYWORDS)) or "; a model's own options go to chat_model(SPEC, …)"
        raise ConfigurationError(f"unknown option {name!r} for AgentExecutor{advice}")


def _settings(options: Mapping[str, Any]) -> dict[str, Any]:
    """The settings among an executor's options but for `allow`, each of which is held to what it may be."""
    settings = {}
    for name, value in options.items():
        setting = _SETTING_OF.get(name, name)
        if name == "trim_intermediate_steps" and callable(value):
            continue
        if setting in SETTINGS and name != "allow":
            settings[setting] = checked(setting, value, name)
        elif name in _BOOLS:
            _check_bool(name, value)
    if options.get("allow") is not None:
        checked("allow", listed(options["allow"], "allow"), "allow")
    check_approve(options.get("approve"))
    _check_callbacks(options)
    return settings


def _check_bool(name: str, value: Any) -> None:
    is_bool = value is None or (isinstance(value, int) and value in (False, True))
    if name == "handle_parsing_errors" and (isinstance(value, str) or callable(value)):
        return
    if not is_bool:
        raise ConfigurationError(f"{name}: expected True or False, saw {described(value)}")


def _check_callbacks(options: Mapping[str, Any]) -> None:
    callbacks, tags, metadata = (options.get(name) for name in ("callbacks", "tags", "metadata"))
    if callbacks is not None and not isinstance(callbacks, BaseCallbackManager):
        for handler in listed(callbacks, "callbacks"):
            if not isinstance(handler, BaseCallbackHandler):
                raise ConfigurationError(f"callbacks: expected handlers, saw {described(handler)}")
    if tags is not None:
        listed(tags, "tags")
    if metadata is not None and not isinstance(metadata, Mapping):
        raise ConfigurationError(f"metadata: expected a mapping, saw {described(metadata)}")
    cassette = options.get("cassette")
    if cassette is not None and not isinstance(cassette, str | Path) and not _is_cassette(cassette):
        raise ConfigurationError(f"cassette: expected a file or a Cassette, saw {described(cassette)}")


def _is_cassette(value: Any) -> bool:
    from agentkit.cassette import Cassette

    return isinstance(value, Cassette)


def _config(config: Any) -> RunnableConfig:
    if config is not None and not isinstance(config, Mapping):
        raise ConfigurationError(f'config: expected a mapping, as {{"callbacks": [handler]}}, saw {described(config)}')
    return ensure_config(config)  # type: ignore[arg-type]
