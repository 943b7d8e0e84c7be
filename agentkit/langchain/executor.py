"""`AgentExecutor`: a run as a LangChain Runnable, with the parameters, keys and chunks its users know."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, closing, nullcontext
from dataclasses import KW_ONLY, asdict, dataclass, fields, replace
from functools import partial
from inspect import iscoroutinefunction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, cast
from uuid import uuid4

from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, BaseCallbackManager, CallbackManager
from langchain_core.globals import get_verbose
from langchain_core.language_models import BaseLanguageModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import RunInfo
from langchain_core.runnables import ConfigurableField, Runnable, RunnableConfig, ensure_config
from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.config import get_config_list
from langchain_core.tools import BaseTool
from langchain_core.utils.input import get_color_mapping
from pydantic import BaseModel, create_model

from agentkit.core.answer_checks import MOST_CORRECTIONS, Check, CheckedPlanner, check_checks
from agentkit.core.compaction import FunctionSummary
from agentkit.core.planner import Planner
from agentkit.core.run import Compactor, Run
from agentkit.errors import ConfigurationError, described, did_you_mean, short_repr
from agentkit.events import Event, Finished, RunStarted
from agentkit.langchain.callbacks import AgentExecutorIterator, ChainRun, Outputs, chunks_of, config_of, inherited
from agentkit.langchain.chat_model import OPTIONS
from agentkit.langchain.community import load_tools
from agentkit.langchain.model import as_model, chat_of
from agentkit.langchain.react_agent import ReactJsonAgent, as_prompt, create_react_json_agent
from agentkit.langchain.runnable_planner import RunnablePlanner, in_langchains_words
from agentkit.langchain.steps import (
    HandleErrors,
    ToText,
    Trim,
    as_inputs,
    as_langchain_error,
    as_langchain_steps,
    recovery,
    summing_up,
    trimmer,
)
from agentkit.langchain.stored_runs import StoredRuns, as_waiting
from agentkit.langchain.tools import HandleToolError, as_langchain, from_langchain, listed
from agentkit.react_json.answer_type import AnswerType
from agentkit.recorder import active
from agentkit.runs.build import allowed, check_max_cost, compactor_of, make_run
from agentkit.settings import SETTINGS, RunSettings, checked
from agentkit.toolbox.approval import Answer, Approve, check_approve

if TYPE_CHECKING:
    from agentkit.cassette import Cassette
    from agentkit.sessions.store import Store

MOST_TOGETHER = 16  # runs of a batch at once; as many replies as a model in this process decodes together
RUN_KEY = "__run"  # LangChain's key of what `include_run_info` adds


@dataclass(eq=False, repr=False)
class AgentExecutor(StoredRuns, Runnable[dict[str, Any], dict[str, Any]]):
    """Runs an agent with its tools until it has an answer.

    `agent` is a Runnable from `{"input", "intermediate_steps", …}` to `AgentAction | list[AgentAction] | AgentFinish`,
    or one of LangChain's older agents, which have a `plan`. What it is made with may be changed later
    (`executor.max_iterations = 3`), and is checked then as at first. Unlike LangChain's, a turn that cannot be parsed
    and a tool's own error go back to the model by default. Beyond LangChain's parameters:

    - `handle_tool_error`: what the model is told when a tool raises. By default the message of a ToolException, and
      anything else leaves the run; True: of any exception; a text, or what a function makes of it; False: nothing
    - `max_tokens`, `max_cost` (US dollars): budgets for the run
    - `max_repeats`: how often in a row the same action may give the same observation
    - `tool_timeout_s`: seconds for one tool; `approve`: asked before a tool runs that does not say that it
      only reads, a plain function or (awaited runs only) an async one; only True is a yes. With "defer" the run ends
      there, `result["waiting"]` says what it waits for, and `decide` goes on with it, in any process
    - `answer`: asked what a tool wants to know (it raises `Ask`): a function of the question and the action
    - `store`: where runs are kept as they happen: a `Store`, a file, an address; "defer" needs one, and takes the
      user's own where none is given
    - `allow`: names of the tools that may run; `max_observation_tokens`: where an observation is cut
    - `must_be_grounded`: refuse an answer with numbers or names that no observation gave
    - `output_type`: what an answer is: a class (pydantic's, a dataclass, a TypedDict), any other annotation, or a JSON
      schema; `result["output"]` is such an object, where the run has an answer
    - `answer_checks`: functions of the answer that return None, or what is wrong with it, or raise `ValueError`; the
      model is told, and answers again, `max_answer_corrections` times at most
    - `compaction`: what becomes of the oldest steps where a prompt leaves no room for a turn. "drop": their
      observations go; "summary": the model sums them up; a function: they become the text that it makes of them
    - `return_run`: add `result["run"]` (usage, seconds, stop reason, counts)
    - `cassette`: a `Cassette`, or a file that is replayed if it is there and recorded if not

    `invoke` raises `ConfigurationError`, `ModelError`, what a tool raises that is not its own error, and
    `OutputParserException` with `handle_parsing_errors=False`.
    """

    agent: Any
    tools: Sequence[Any]
    _: KW_ONLY
    name: str | None = None
    memory: Any = None
    max_iterations: int | None = 15
    max_execution_time: float | None = None
    early_stopping_method: Literal["force", "generate"] = "force"
    handle_parsing_errors: HandleErrors = True
    handle_tool_error: HandleToolError = None
    return_intermediate_steps: bool = False
    trim_intermediate_steps: int | Trim = -1
    compaction: Literal["drop", "summary"] | ToText = "drop"
    stream_runnable: bool = True
    verbose: bool | None = None
    callbacks: list[BaseCallbackHandler] | BaseCallbackManager | None = None
    callback_manager: BaseCallbackManager | None = None
    tags: list[str] | None = None
    metadata: dict[str, Any] | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    max_repeats: int | None = 3
    tool_timeout_s: float | None = None
    approve: Approve | None = None
    answer: Answer | None = None
    store: Store | str | Path | None = None
    allow: Collection[str] | None = None
    max_observation_tokens: int | None = 8_000
    must_be_grounded: bool = False
    output_type: Any = None
    answer_checks: Sequence[Check] | None = None
    max_answer_corrections: int = MOST_CORRECTIONS
    return_run: bool = False
    cassette: Cassette | str | Path | None = None

    def __new__(cls, *args: Any, **options: Any) -> Self:
        if cls.__init__ is AgentExecutor.__init__:
            _refuse_unknown(options)
        return super().__new__(cls)

    def __post_init__(self) -> None:
        planned = isinstance(self.agent, Runnable) or callable(getattr(self.agent, "plan", None))
        if isinstance(self.agent, BaseLanguageModel) or not planned:
            raise ConfigurationError(
                f"expected an agent, as create_react_json_agent(model, tools) makes it, saw {described(self.agent)}; "
                "from a model, AgentExecutor.from_model(model, tools)"
            )
        self._take_type()
        self._check_compaction()
        may_be_0 = () if isinstance(self.agent, ReactJsonAgent) else _MAY_BE_0
        settings = _settings({name: getattr(self, name) for name in _KEYWORDS}, may_be_0)
        tools = [as_langchain(tool) for tool in listed(self.tools)]
        offered = tuple(tool.name for tool in allowed(tools, self.allow))
        _check_agents_tools(self.agent, tools)
        self.__dict__.update(
            tools=tools,
            verbose=get_verbose() if self.verbose is None else self.verbose,
            callbacks=self.callbacks or self.callback_manager,
            callback_manager=None,
            _settings=RunSettings(**settings, allow=None if self.allow is None else offered),
        )
        if isinstance(self.agent, ReactJsonAgent):
            model = self.agent.agent.model
            check_max_cost(self.settings, model.model_id, in_process=model.capabilities.in_process)

    def _check_compaction(self) -> None:
        if iscoroutinefunction(self.compaction):
            raise ConfigurationError("compaction: expected a plain function, saw an async one; take a plain one")
        if self.compaction != "drop" and not isinstance(self.agent, ReactJsonAgent):
            raise ConfigurationError(
                f"compaction: {described(self.agent)} writes its own prompt, where nothing can stand for steps; take "
                "trim_intermediate_steps, or AgentExecutor.from_model(model, tools, compaction=…)"
            )

    def _take_type(self) -> None:
        """Hold the agent to the type of the answer that the executor was given, or have that of the agent."""
        wanted, agent = self.output_type, self.agent
        if wanted is not None and not isinstance(agent, ReactJsonAgent):
            raise ConfigurationError(
                f"output_type: {described(agent)} has its own way to answer, which no schema holds; take "
                "AgentExecutor.from_model(model, tools, output_type=…) or create_react_json_agent"
            )
        if not isinstance(agent, ReactJsonAgent):
            return
        if wanted is None:
            wanted = agent.answer.wanted if agent.answer is not None else None
        elif agent.answer is None or agent.answer.wanted is not wanted:
            agent = agent.with_answer(AnswerType.of(wanted))
        self.__dict__.update(output_type=wanted, agent=agent)

    @property
    def _answer_type(self) -> AnswerType | None:
        return self.agent.answer if isinstance(self.agent, ReactJsonAgent) else None

    def __setattr__(self, name: str, value: Any) -> None:
        """Change what the executor was made with; raises `ConfigurationError` for what it does not have, or cannot."""
        if "_settings" not in self.__dict__ or name.startswith("_"):
            object.__setattr__(self, name, value)
        elif name in (*_KEYWORDS, "agent", "tools"):
            before = dict(self.__dict__)
            try:
                self.__dict__[name] = value
                if name == "output_type" and value is None and isinstance(self.agent, ReactJsonAgent):
                    self.__dict__["agent"] = self.agent.with_answer(None)
                elif name == "agent":
                    self.__dict__["output_type"] = None
                self.__post_init__()
                if name in ("tools", "allow") and isinstance(self.agent, ReactJsonAgent):
                    self.__dict__["agent"] = self.agent.with_tools(allowed(self.tools, self.allow))
            except BaseException:
                self.__dict__.update(before)
                raise
        elif name in ("mode", "prompt", "model") or isinstance(getattr(type(self), name, None), property):
            raise ConfigurationError(f"{name} of an AgentExecutor cannot be changed later; make a new one")
        else:
            if not hasattr(type(self), name) and type(self).__init__ is AgentExecutor.__init__:
                _refuse_unknown({name: value})
            object.__setattr__(self, name, value)

    @property
    def settings(self) -> RunSettings:
        """What its runs are held to."""
        settings: RunSettings = self.__dict__["_settings"]
        return settings

    @classmethod
    def from_model(
        cls,
        model: Any,
        tools: Sequence[Any] = ("search", "calculator"),
        prompt: Any = None,
        *,
        mode: Literal["auto", "react-json", "tools"] = "auto",
        output_type: Any = None,
        **options: Any,
    ) -> AgentExecutor:
        """The shortest way: a chat model, a backend or a spec, tools or their names, a prompt or its name.

        `mode` is how the model names a tool, `output_type` what an answer is; see `create_react_json_agent`. What is
        wrong with the rest is said before a model is loaded.
        """
        if cls.__init__ is AgentExecutor.__init__:
            _refuse_unknown(options)
        _settings({"mode": mode, "output_type": output_type, **options})
        named = ((load_tools([tool]) if isinstance(tool, str) else [tool]) for tool in listed(tools))
        loaded = [as_langchain(tool) for one in named for tool in one]
        offered = allowed(loaded, options.get("allow"))
        prompt, model = as_prompt(prompt), as_model(model)
        options.setdefault("must_be_grounded", getattr(model, "constrain", None) == "copy")
        agent = create_react_json_agent(model, offered, prompt, mode=mode, output_type=output_type)
        return cls(agent, loaded, **options)

    # -- Runnable --------------------------------------------------------------------------------------------------

    def invoke(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        return_only_outputs: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Run to the end: `{"input": …, "output": …}`, with `intermediate_steps` and `run` where asked for.

        With `include_run_info=True` the result has the run's id. `return_only_outputs` leaves out the inputs.

        A call under way at `max_execution_time` is given up; a thread it needs ends on its own.
        """
        config, info = _identified(config, **kwargs)
        if task := self._task(config):
            return self._in_graph(task, self._keyed(input), config)
        for event in self._events(input, config, self._outputs):
            if isinstance(event, RunStarted):
                inputs = event.inputs
            last = event
        return {**({} if return_only_outputs else inputs), **self._outputs(last), **info}

    async def ainvoke(
        self,
        input: Any,
        config: RunnableConfig | None = None,
        *,
        return_only_outputs: bool = False,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """`invoke`, awaiting models and tools; a call under way at `max_execution_time` is cancelled."""
        config, info = _identified(config, **kwargs)
        if task := self._task(config):
            return await self._ain_graph(task, self._keyed(input), config)
        async for event in self._aevents(input, config, self._outputs):
            if isinstance(event, RunStarted):
                inputs = event.inputs
            last = event
        return {**({} if return_only_outputs else inputs), **self._outputs(last), **info}

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[dict[str, Any]]:
        """Chunks `{"actions", "messages"}`, `{"steps", "messages"}`, and last `{"output", …, "messages"}`.

        With an `output_type` there are also `{"partial_output", "messages"}`: plain values, the answer as it grows.
        """
        config, info = _identified(config, **kwargs)
        for event in self._events(input, config, self._last_chunk, stream=self._shows_partial):
            yield from chunks_of(event, lambda end: {**self._last_chunk(end), **info})

    async def astream(
        self, input: Any, config: RunnableConfig | None = None, **kwargs: Any
    ) -> AsyncIterator[dict[str, Any]]:
        """`stream`, awaiting."""
        config, info = _identified(config, **kwargs)
        async for event in self._aevents(input, config, self._last_chunk, stream=self._shows_partial):
            for chunk in chunks_of(event, lambda end: {**self._last_chunk(end), **info}):
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

    # -- as LangChain's chains have it -----------------------------------------------------------------------------

    @classmethod
    def from_agent_and_tools(
        cls, agent: Any, tools: Sequence[Any], callbacks: list[BaseCallbackHandler] | None = None, **options: Any
    ) -> Self:
        """The executor of an agent and its tools."""
        return cls(agent, tools, callbacks=callbacks, **options)

    def iter(
        self, inputs: Any, callbacks: Any = None, *, include_run_info: bool = False, async_: bool = False
    ) -> AgentExecutorIterator:
        """The steps of a run, turn by turn, then its end: to go through with `for` or `async for`."""
        return AgentExecutorIterator(self, inputs, callbacks, include_run_info=include_run_info)

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """What a run is given, as LangChain's chains say it: what shows or serves a chain makes its form of this."""
        return _schema("ChainInput", self.input_keys)

    def get_output_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        """What a run gives."""
        return _schema("ChainOutput", self.output_keys)

    def configurable_alternatives(self, which: ConfigurableField, **alternatives: Any) -> Runnable[Any, Any]:
        """This executor, or another Runnable that the config names."""
        bound = cast("RunnableBinding[Any, Any]", self.with_config())
        return bound.configurable_alternatives(which, **alternatives)

    def lookup_tool(self, name: str) -> BaseTool:
        """The tool of this name; raises `KeyError`."""
        found: dict[str, BaseTool] = {tool.name: tool for tool in self.tools}
        return found[name]

    @property
    def _action_agent(self) -> Any:
        """LangChain's subclasses know the agent by this name."""
        return self.agent

    @property
    def input_keys(self) -> list[str]:
        """What a run must be given, but for what the memory gives."""
        return list(getattr(self.agent, "input_keys", None) or ["input"])

    @property
    def output_keys(self) -> list[str]:
        """What a run gives."""
        keys = list(getattr(self.agent, "return_values", None) or ["output"])
        return keys + ["intermediate_steps"] * self.return_intermediate_steps + ["run"] * self.return_run

    def __call__(
        self,
        inputs: Any,
        return_only_outputs: bool = False,
        callbacks: Any = None,
        *,
        include_run_info: bool = False,
        **config: Any,
    ) -> dict[str, Any]:
        """`invoke` with `tags`, `metadata` and `run_name` as keywords."""
        given = {"return_only_outputs": return_only_outputs, "include_run_info": include_run_info}
        return self.invoke(inputs, config_of(callbacks=callbacks, **config), **given)

    async def acall(
        self, inputs: Any, return_only_outputs: bool = False, callbacks: Any = None, **options: Any
    ) -> dict[str, Any]:
        """`__call__`, awaiting."""
        given = {"return_only_outputs": return_only_outputs, "include_run_info": options.pop("include_run_info", False)}
        return await self.ainvoke(inputs, config_of(callbacks=callbacks, **options), **given)

    def run(self, *args: Any, callbacks: Any = None, tags: Any = None, metadata: Any = None, **inputs: Any) -> Any:
        """The output alone, for a question or for inputs by name."""
        given, key = self._only(args, inputs)
        return self.invoke(given, config_of(callbacks=callbacks, tags=tags, metadata=metadata))[key]

    async def arun(
        self, *args: Any, callbacks: Any = None, tags: Any = None, metadata: Any = None, **inputs: Any
    ) -> Any:
        """`run`, awaiting."""
        given, key = self._only(args, inputs)
        return (await self.ainvoke(given, config_of(callbacks=callbacks, tags=tags, metadata=metadata)))[key]

    def _only(self, args: tuple[Any, ...], inputs: dict[str, Any]) -> tuple[Any, str]:
        """The one input and the one output key of `run`."""
        if len(args) + bool(inputs) != 1:
            raise ConfigurationError("run takes one question, or inputs by name; invoke takes a dict of several")
        if len(self.output_keys) != 1:
            raise ConfigurationError(f"run gives one output, and there are {', '.join(self.output_keys)}; take invoke")
        return (args[0] if args else inputs), self.output_keys[0]

    # -- events ----------------------------------------------------------------------------------------------------

    def events(self, input: Any, config: RunnableConfig | None = None, *, stream: bool = True) -> Iterator[Event]:
        """The run as it happens, a chain run in the run tree; with `stream`, the model's text piece by piece."""
        return self._events(input, _config(config), self._outputs, stream=stream)

    def aevents(self, input: Any, config: RunnableConfig | None = None, *, stream: bool = True) -> AsyncIterator[Event]:
        """`events`, awaiting."""
        return self._aevents(input, _config(config), self._outputs, stream=stream)

    def _events(self, input: Any, config: RunnableConfig, outputs: Outputs, *, stream: bool = False) -> Iterator[Event]:
        """A run; `outputs` is what its callbacks are told of its end."""
        check_approve(self.approve, self.answer, blocking=True)
        check_checks(self.answer_checks, blocking=True)
        inputs = self._keyed(input)
        if self.memory is not None:
            inputs |= self.memory.load_memory_variables(inputs)
        manager = CallbackManager.configure(*self._callbacks_for(config))
        started = manager.on_chain_start(None, inputs, **self._named(config)) if manager.handlers else None
        chain, seen = self._chain(started, config, outputs), partial(in_langchains_words, self.agent, inputs)
        try:
            with self._recorded(), closing(self._kept(inputs)._run(inputs, chain, stream).events()) as events:
                for event in map(seen, events):
                    for callback in chain.calls(event):
                        callback()
                    if self.memory is not None and isinstance(event, Finished):
                        self.memory.save_context(inputs, self._in_memory(outputs(event), event))
                    yield event
        except BaseException as error:
            raised = as_langchain_error(error)
            for callback in chain.end(raised):
                callback()
            raise raised from error.__cause__
        for callback in chain.end():
            callback()

    async def _aevents(
        self, input: Any, config: RunnableConfig, outputs: Outputs, *, stream: bool = False
    ) -> AsyncIterator[Event]:
        """`_events`, awaiting."""
        inputs = self._keyed(input)
        if self.memory is not None:
            inputs |= await self.memory.aload_memory_variables(inputs)
        manager = AsyncCallbackManager.configure(*self._callbacks_for(config))
        started = await manager.on_chain_start(None, inputs, **self._named(config)) if manager.handlers else None
        chain, seen = self._chain(started, config, outputs), partial(in_langchains_words, self.agent, inputs)
        try:
            with self._recorded():
                kept = await asyncio.to_thread(self._kept, inputs) if self._keeps else self
                async with aclosing(kept._run(inputs, chain, stream).aevents()) as events:
                    async for one in events:
                        event = seen(one)
                        for callback in chain.calls(event):
                            await callback()
                        if self.memory is not None and isinstance(event, Finished):
                            await self.memory.asave_context(inputs, self._in_memory(outputs(event), event))
                        yield event
        except BaseException as error:
            raised = as_langchain_error(error)
            for callback in chain.end(raised):
                await callback()
            raise raised from error.__cause__
        for callback in chain.end():
            await callback()

    def _keyed(self, given: Any) -> dict[str, Any]:
        """The inputs by their names: a bare question is the only one that the memory does not give."""
        if isinstance(given, str):
            kept = getattr(self.memory, "memory_variables", ())
            keys = [key for key in self.input_keys if key not in kept]
            return {keys[0] if len(keys) == 1 else "input": given}
        return as_inputs(given)

    def _chain(self, manager: Any, config: RunnableConfig, outputs: Outputs) -> ChainRun:
        return ChainRun(manager, config, outputs, lambda: [tool.name for tool in self.tools], bool(self.verbose))

    def _callbacks_for(self, config: RunnableConfig) -> tuple[Any, ...]:
        """All callbacks, those of the call and the executor's own, in the order that managers take."""
        given = (config.get("tags"), self.tags, config.get("metadata"), self.metadata)
        return (config.get("callbacks"), self.callbacks, self.verbose, *given)

    def _named(self, config: RunnableConfig) -> dict[str, Any]:
        return {"name": config.get("run_name") or self.get_name(), "run_id": config.get("run_id")}

    def _run(self, inputs: dict[str, Any], chain: ChainRun, stream: bool) -> Run:
        config = chain.child_config
        tools = [as_langchain(tool) for tool in self.tools]  # the list may have grown since
        colors = get_color_mapping([tool.name for tool in tools], excluded_colors=["green", "red"])
        run = make_run(
            self.settings,
            self.agent.asked(inputs) if isinstance(self.agent, ReactJsonAgent) else self._with_history(inputs),
            planner=self._checked(self._planner(config, stream)),
            tools=[
                from_langchain(
                    tool,
                    config=config,
                    verbose=bool(self.verbose),
                    color=colors[tool.name],
                    inputs=inputs,
                    handle=self.handle_tool_error,
                    shown=chain.shown,
                )
                for tool in tools
            ],
            approve=self.approve,
            answer=self.answer,
            recover=recovery(self.handle_parsing_errors),
            trim=trimmer(self.trim_intermediate_steps) if callable(self.trim_intermediate_steps) else None,
            replayed=chain.replayed,
            compactor=self._compactor(config),
            within=self._within,
        )
        if 0 in (self.max_iterations, self.max_execution_time):
            return replace(run, limits=replace(run.limits, max_iterations=0))
        return run

    def _compactor(self, config: RunnableConfig | None) -> Compactor | None:
        """What sums up the oldest steps: the agent's model, watched as at a turn, or a function of theirs."""
        if callable(own := self.compaction):
            return FunctionSummary(summing_up(own))
        if own == "drop":
            return None
        watched = inherited(config)
        return compactor_of(own, self.agent.agent.model if watched is None else chat_of(self.agent.model, watched))

    def _checked(self, planner: Planner) -> Planner:
        """The planner, whose answers have to pass the checks, if there are any."""
        if not self.answer_checks:
            return planner
        answer, most = self._answer_type, self.max_answer_corrections
        object_of = answer.object_of if answer is not None else lambda final: final.output
        return CheckedPlanner(planner=planner, checks=tuple(self.answer_checks), object_of=object_of, most=most)

    @property
    def _shows_partial(self) -> bool:
        """Whether a stream has answers as they grow: not where it is recorded, for that would be another request."""
        return self._answer_type is not None and self.stream_runnable and self.cassette is None and active() is None

    def _planner(self, config: RunnableConfig | None, stream: bool) -> Planner:
        """What plans a run. The model is streamed as in LangChain, so that callbacks are told of its tokens.

        One of our own agents is where someone watches; none where it is recorded, for that would be another request.
        """
        streams = self.stream_runnable and active() is None
        if isinstance(self.agent, ReactJsonAgent):
            is_watched = config is not None and config.get("callbacks") is not None
            streams = stream or (streams and is_watched)
            return self.agent.planner(config=inherited(config), stream=streams, history=self._within.history)
        counts = self.return_run or self.settings.max_tokens is not None or self.settings.max_cost is not None
        return RunnablePlanner(
            self.agent,
            config=inherited(config),
            count_tokens=counts,
            stream=stream or streams,
            keeps_text=isinstance(self.handle_parsing_errors, bool),
        )

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
        answer, output = self._answer_type, event.output
        if answer is not None and event.answered:
            output = answer.object_of(event)
        outputs = {"output": output} if event.return_values is None else dict(event.return_values)
        if self.return_intermediate_steps:
            outputs["intermediate_steps"] = as_langchain_steps(event.steps)
        if self.return_run:
            outputs["run"] = asdict(event.summary)
        if event.waiting:
            outputs["waiting"] = [as_waiting(one) for one in event.waiting]
        return outputs

    def _in_memory(self, outputs: dict[str, Any], event: Finished) -> dict[str, Any]:
        """What a run gave, for a memory, which keeps texts."""
        if self._answer_type is None or not event.answered:
            return outputs
        return {**outputs, "output": json.dumps(event.output, ensure_ascii=False)}

    def _last_chunk(self, event: Event) -> dict[str, Any]:
        outputs = self._outputs(event)
        return {**outputs, "messages": [AIMessage(cast(Finished, event).log)]}


# -- what it is given --------------------------------------------------------------------------------------------------

_KEYWORDS = tuple(one.name for one in fields(AgentExecutor) if one.kw_only)
_SETTING_OF = {"max_execution_time": "timeout", "output_type": "schema"}
"""Settings that LangChain's users know by another name."""
_MAY_BE_0 = ("max_iterations", "max_execution_time")
"""Limits of which LangChain takes 0, for a run that ends before its first turn; so it is for LangChain's agents."""
_BOOLS = (
    *("handle_parsing_errors", "handle_tool_error", "return_intermediate_steps", "stream_runnable", "verbose"),
    "return_run",
)


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


def _settings(options: Mapping[str, Any], may_be_0: Sequence[str] = ()) -> dict[str, Any]:
    """The settings among an executor's options but for `allow`, each of which is held to what it may be."""
    settings = {}
    for name, value in options.items():
        setting = _SETTING_OF.get(name, name)
        if name in ("trim_intermediate_steps", "compaction") and callable(value):
            continue
        if name in may_be_0 and type(value) in (int, float) and value == 0:
            continue
        if name == "output_type":
            settings[setting] = None if value is None else AnswerType.of(value).schema
        elif setting in SETTINGS and name != "allow":
            settings[setting] = checked(setting, value, name)
        elif name in _BOOLS:
            _check_bool(name, value)
    if options.get("allow") is not None:
        checked("allow", listed(options["allow"], "allow"), "allow")
    check_approve(options.get("approve"), options.get("answer"))
    check_checks(options.get("answer_checks"))
    corrections = options.get("max_answer_corrections", 0)
    if type(corrections) is not int or corrections < 0:
        raise ConfigurationError(f"max_answer_corrections is a whole number, at least 0, not {short_repr(corrections)}")
    if options.get("memory") is not None and not callable(getattr(options["memory"], "load_memory_variables", None)):
        raise ConfigurationError(
            f"memory: expected LangChain's, as ConversationBufferMemory, saw {described(options['memory'])}"
        )
    store = options.get("store")
    if store is not None and not isinstance(store, str | Path) and not _is_store(store):
        raise ConfigurationError(f"store: expected a Store, a file or an address, saw {described(store)}")
    _check_callbacks(options)
    return settings


def _check_bool(name: str, value: Any) -> None:
    is_bool = value is None or (isinstance(value, int) and value in (False, True))
    handles = name.startswith("handle_")
    if not is_bool and not (handles and (isinstance(value, str) or callable(value))):
        others = ", a text, or a function of the error" if handles else ""
        raise ConfigurationError(f"{name}: expected True or False{others}, saw {described(value)}")


def _check_callbacks(options: Mapping[str, Any]) -> None:
    callbacks, tags, metadata = (options.get(name) for name in ("callbacks", "tags", "metadata"))
    if callbacks is not None and options.get("callback_manager") is not None:
        raise ConfigurationError("callbacks and callback_manager are one thing; give callbacks alone")
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


def _is_store(value: Any) -> bool:
    from agentkit.sessions.store import Store

    return isinstance(value, Store)


def _is_cassette(value: Any) -> bool:
    from agentkit.cassette import Cassette

    return isinstance(value, Cassette)


def _schema(name: str, keys: Sequence[str]) -> type[BaseModel]:
    of_any: dict[str, Any] = dict.fromkeys(keys, (Any, None))
    return create_model(name, **of_any)


def _config(config: Any) -> RunnableConfig:
    if config is not None and not isinstance(config, Mapping):
        raise ConfigurationError(f'config: expected a mapping, as {{"callbacks": [handler]}}, saw {described(config)}')
    return ensure_config(cast("RunnableConfig | None", config))


def _identified(config: Any, include_run_info: bool = False, **more: Any) -> tuple[RunnableConfig, dict[str, Any]]:
    """The config, with the id of its run where that is asked for; and what the result then holds."""
    for name in more:
        advice = did_you_mean(name, ("return_only_outputs", "include_run_info"))
        raise ConfigurationError(f"unknown option {name!r} for a run{advice or '; give it to AgentExecutor'}")
    config = _config(config)
    if not include_run_info:
        return config, {}
    config["run_id"] = config.get("run_id") or uuid4()
    return config, {RUN_KEY: RunInfo(run_id=config["run_id"])}


def _check_agents_tools(agent: Any, tools: Sequence[BaseTool]) -> None:
    """Raise `ConfigurationError` where an agent of LangChain's was made for other tools."""
    made_for = getattr(agent, "get_allowed_tools", lambda: None)()
    names = [tool.name for tool in tools]
    if made_for is not None and set(made_for) != set(names):
        raise ConfigurationError(
            f"the agent was made for the tools {', '.join(made_for)}, saw {', '.join(names)}; give both the same ones"
        )
