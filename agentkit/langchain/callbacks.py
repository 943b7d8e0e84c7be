"""A run's events as LangChain's users get them: callbacks of a chain run in the run tree, stream chunks, iteration."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from typing import Any, cast
from uuid import UUID

from langchain_core.agents import AgentAction, AgentFinish, AgentStep
from langchain_core.callbacks import AsyncCallbackManagerForChainRun, CallbackManager
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.utils import AddableDict
from langchain_core.tools import BaseTool

from agentkit.core.loop import MALFORMED
from agentkit.events import Action, ActionChosen, Event, Finished, Observation, Observed, ParseError, PartialAnswer
from agentkit.langchain.steps import CalledAction, Steps, as_agent_action, as_inputs, observation_message

Outputs = Callable[[Finished], dict[str, Any]]
PARTIAL = "partial_output"
"""The key of a chunk that has the answer so far, of a run whose answer is a value."""


class _StandIn(BaseTool):
    """Stands in the run tree where no tool ran, as LangChain's InvalidTool and ExceptionTool do."""

    told: str

    def _run(self, *args: Any, **kwargs: Any) -> str:
        return self.told

    async def _arun(self, *args: Any, **kwargs: Any) -> str:
        return self.told


class ChainRun:
    """The run in the run tree: told of events, ended once. `None` as manager: nobody listens.

    It gives the callbacks to call, and leaves it to its caller to call or to await them. `tools` are names.
    """

    def __init__(
        self, manager: Any, config: RunnableConfig, outputs: Outputs, tools: Callable[[], list[str]], verbose: bool
    ) -> None:
        self._run = manager
        self._outputs = outputs
        self._tools = tools
        self._verbose = verbose
        self._finished: Finished | None = None
        self.shown: Counter[str] = Counter()
        """How many results of each tool, by its name in small letters, callbacks were told of by the tool itself."""
        self.child_config = _child_config(config, manager.get_child() if manager is not None else None)

    def calls(self, event: Event) -> Iterator[Callable[[], Any]]:
        """The callbacks to call for an event."""
        if self._run is None:
            return
        match event:
            case ActionChosen(action):
                yield partial(self._run.on_agent_action, as_agent_action(action), color="green")
            case Observed(action, observation, executed=True):
                name = action.tool.strip().casefold()
                if self.shown[name] > 0:
                    self.shown[name] -= 1
                else:  # a failure that the model is told of
                    yield partial(self._run.on_text, str(observation), end="\n", verbose=self._verbose)
            case Observed(action, observation):
                about = "Called when tool name is invalid. Suggests valid tool names."
                asked = {"requested_tool_name": action.tool, "available_tool_names": self._tools()}
                yield self._stand_in("invalid_tool", about, asked, observation)
            case ParseError(text, observation):
                malformed = AgentAction(MALFORMED, observation, text)
                yield partial(self._run.on_agent_action, malformed, color="green")
                yield self._stand_in(MALFORMED, "Exception tool", observation, observation)
            case Finished():
                self._finished = event
                yield partial(self._run.on_agent_finish, as_finish(event), color="green", verbose=self._verbose)

    def _stand_in(self, name: str, description: str, tool_input: Any, told: Any) -> Callable[[], Any]:
        tool = _StandIn(name=name, description=description, told=str(told))
        run = tool.arun if isinstance(self._run, AsyncCallbackManagerForChainRun) else tool.run
        return partial(run, tool_input, verbose=self._verbose, color=None, callbacks=self._run.get_child())

    def replayed(self, action: Action, observation: Observation) -> None:
        """Tell of a tool call that a cassette answered: the tool, which would have, never ran."""
        if self.child_config is not None:
            manager = CallbackManager.configure(self.child_config.get("callbacks"), verbose=self._verbose)
            run = manager.on_tool_start({"name": action.tool}, str(action.tool_input))
            run.on_tool_end(str(observation.value), color="green", name=action.tool)
        self.shown[action.tool.strip().casefold()] += 1

    def end(self, error: BaseException | None = None) -> Iterator[Callable[[], Any]]:
        """The callbacks to call at the end: it is no error when the consumer of the events leaves."""
        if self._run is None:
            return
        if error is None or isinstance(error, GeneratorExit):
            yield partial(self._run.on_chain_end, self._outputs(self._finished) if self._finished else {})
        else:
            yield partial(self._run.on_chain_error, error)


def config_of(**given: Any) -> RunnableConfig:
    """The config of what was given by its names; `None` is nothing."""
    return cast("RunnableConfig", {key: value for key, value in given.items() if value is not None})


def _child_config(config: RunnableConfig, callbacks: Any) -> RunnableConfig | None:
    """What models and tools are given; `None` when nobody watches and nothing is set, which spares them the work."""
    if callbacks is None and not any(config.get(key) for key in ("tags", "metadata", "configurable")):
        return None
    child = config.copy()
    child.pop("run_name", None)
    child.pop("run_id", None)
    child["callbacks"] = callbacks
    return child


def inherited(config: RunnableConfig | None) -> RunnableConfig | None:
    """The config for what runs within: its manager hands tags and metadata down, which would stand there twice."""
    if config is None or config.get("callbacks") is None:
        return config
    return {**config, "tags": [], "metadata": {}}


def as_finish(event: Finished) -> AgentFinish:
    """The end of a run as LangChain's."""
    values = {"output": event.output} if event.return_values is None else event.return_values
    return AgentFinish(values, event.log)


def chunks_of(event: Event, outputs: Outputs) -> Iterator[dict[str, Any]]:
    """The chunks that `stream` gives for an event, as LangChain's AgentExecutor does."""
    match event:
        case ActionChosen(action):
            chosen = as_agent_action(action)
            yield AddableDict(actions=[chosen], messages=list(chosen.messages))
        case Observed() | ParseError():
            step = _step(event)
            is_ours = isinstance(step.action, CalledAction)
            messages = [observation_message(step.action, step.observation)] if is_ours else list(step.messages)
            yield AddableDict(steps=[step], messages=messages)
        case PartialAnswer(value):
            yield AddableDict({PARTIAL: value, "messages": []})
        case Finished():
            yield AddableDict(outputs(event))


def _step(event: Observed | ParseError) -> AgentStep:
    if isinstance(event, ParseError):
        return AgentStep(action=AgentAction(MALFORMED, event.observation, event.text), observation=event.observation)
    return AgentStep(action=as_agent_action(event.action), observation=event.observation)


class AgentExecutorIterator:
    """`executor.iter(inputs)`: `{"intermediate_step": [(action, observation), …]}` for each turn, then the end.

    With `yield_actions` it gives the chunks of `stream`. It may be iterated again, which is another run.
    """

    def __init__(
        self,
        agent_executor: Any,
        inputs: Any,
        callbacks: Any = None,
        *,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        run_name: str | None = None,
        run_id: UUID | None = None,
        include_run_info: bool = False,
        yield_actions: bool = False,
    ) -> None:
        self.agent_executor = agent_executor
        self.inputs = inputs
        self.callbacks = callbacks
        self.tags = tags
        self.metadata = metadata
        self.run_name = run_name
        self.run_id = run_id
        self.include_run_info = include_run_info
        self.yield_actions = yield_actions
        self.reset()

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run is given; a bare question is its input."""
        return self._inputs

    @inputs.setter
    def inputs(self, inputs: Any) -> None:
        self._inputs = as_inputs(inputs)

    def reset(self) -> None:
        """Forget the steps of the last run."""
        self.intermediate_steps: Steps = []
        self.iterations = 0
        self.time_elapsed = 0.0

    def __iter__(self) -> Iterator[dict[str, Any]]:
        pieces = self._begin()
        for chunk in self.agent_executor.stream(self.inputs, self._config(), include_run_info=self.include_run_info):
            yield from pieces(chunk)

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        pieces = self._begin()
        stream = self.agent_executor.astream(self.inputs, self._config(), include_run_info=self.include_run_info)
        async for chunk in stream:
            for piece in pieces(chunk):
                yield piece

    def _config(self) -> RunnableConfig:
        return config_of(**{key: getattr(self, key) for key in ("callbacks", "tags", "metadata", "run_name", "run_id")})

    def _begin(self) -> Callable[[dict[str, Any]], Iterator[dict[str, Any]]]:
        self.reset()
        started_s = time.monotonic()
        chosen: list[AgentAction] = []
        turn: Steps = []
        held: list[dict[str, Any]] = []  # as in LangChain, a step whose result is the answer is no piece of its own

        def pieces(chunk: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if PARTIAL in chunk:
                if self.yield_actions:
                    yield chunk
                return
            is_end = not ("actions" in chunk or "steps" in chunk)
            if not is_end:
                yield from held
            elif not held and any(message.content for message in chunk["messages"]):  # the model's, and no limit's
                self._count(started_s)
            held.clear()
            chosen.extend(chunk.get("actions", ()))
            turn.extend((step.action, step.observation) for step in chunk.get("steps", ()))
            if self.yield_actions or is_end:
                yield chunk
            if "steps" in chunk and len(turn) >= len(chosen):
                self._count(started_s)
                self.intermediate_steps += turn
                if not self.yield_actions:
                    held.append(AddableDict(intermediate_step=list(turn)))
                    if len(turn) > 1 or not self._returns_direct(turn[0][0]):
                        yield held.pop()
                chosen.clear()
                turn.clear()

        return pieces

    def _count(self, started_s: float) -> None:
        self.iterations += 1
        self.time_elapsed = time.monotonic() - started_s

    def _returns_direct(self, action: AgentAction) -> bool:
        return any(tool.name == action.tool and tool.return_direct for tool in self.agent_executor.tools)
