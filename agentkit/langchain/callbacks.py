"""A run's events as LangChain's users get them: callbacks of one chain run in the run tree, and stream chunks."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import aclosing, closing
from typing import Any, Protocol

from langchain_core.agents import AgentAction, AgentFinish, AgentStep
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig, ensure_config
from langchain_core.runnables.utils import AddableDict

from agentkit.core.loop import MALFORMED
from agentkit.events import Action, ActionChosen, Event, Finished, Observation, Observed, ParseError
from agentkit.langchain.steps import as_agent_action, as_langchain_error, observation_message

Outputs = Callable[[Finished], dict[str, Any]]
Call = tuple[Callable[..., Any], Any, dict[str, Any]]
"""A callback, its argument, its keywords."""


def _callbacks_of(event: Event) -> Iterator[tuple[str, Any]]:
    """What LangChain's run manager is told: (method, value)."""
    match event:
        case ActionChosen(action):
            yield "on_agent_action", as_agent_action(action)
        case ParseError(text, observation):
            yield "on_agent_action", AgentAction(MALFORMED, observation, text)
        case Finished(output=output, log=log):
            yield "on_agent_finish", AgentFinish({"output": output}, log or str(output))


class Watched(Protocol):
    """An executor, and what it was given for those who watch it."""

    callbacks: list[BaseCallbackHandler] | None
    verbose: bool
    tags: list[str] | None
    metadata: dict[str, Any] | None

    def get_name(self) -> str: ...


def watched(
    run: Callable[[RunnableConfig | None], Generator[Event]],
    own: Watched,
    inputs: dict[str, Any],
    config: RunnableConfig | None,
    outputs: Outputs,
) -> Iterator[Event]:
    """The events of `run`, which is given its children's config, as a chain run in the run tree."""
    config = ensure_config(config)
    manager = CallbackManager.configure(*_callbacks_for(config, own))
    started = manager.on_chain_start(None, inputs, **_named(config, own)) if manager.handlers else None
    chain = ChainRun(started, config, outputs)
    try:
        with closing(run(chain.child_config)) as events:
            for event in events:
                for callback, value, keywords in chain.calls(event):
                    callback(value, **keywords)
                yield event
    except BaseException as error:
        for callback, value, _ in chain.end(error):
            callback(value)
        raise as_langchain_error(error) from error.__cause__
    for callback, value, _ in chain.end():
        callback(value)


async def awatched(
    run: Callable[[RunnableConfig | None], AsyncGenerator[Event]],
    own: Watched,
    inputs: dict[str, Any],
    config: RunnableConfig | None,
    outputs: Outputs,
) -> AsyncIterator[Event]:
    """`watched`, awaiting."""
    config = ensure_config(config)
    manager = AsyncCallbackManager.configure(*_callbacks_for(config, own))
    started = await manager.on_chain_start(None, inputs, **_named(config, own)) if manager.handlers else None
    chain = ChainRun(started, config, outputs)
    try:
        async with aclosing(run(chain.child_config)) as events:
            async for event in events:
                for callback, value, keywords in chain.calls(event):
                    await callback(value, **keywords)
                yield event
    except BaseException as error:
        for callback, value, _ in chain.end(error):
            await callback(value)
        raise as_langchain_error(error) from error.__cause__
    for callback, value, _ in chain.end():
        await callback(value)


def _callbacks_for(config: RunnableConfig, own: Watched) -> tuple[Any, ...]:
    """All callbacks, those of the call and the executor's own, in the order that managers take."""
    given = (config.get("tags"), own.tags, config.get("metadata"), own.metadata)
    return (config.get("callbacks"), own.callbacks, own.verbose, *given)


def _named(config: RunnableConfig, own: Watched) -> dict[str, Any]:
    return {"name": config.get("run_name") or own.get_name(), "run_id": config.get("run_id")}


class ChainRun:
    """The run in the run tree: told of events, ended once. `None` as manager: nobody listens."""

    def __init__(self, manager: Any, config: RunnableConfig, outputs: Outputs) -> None:
        self._run = manager
        self._outputs = outputs
        self._finished: Finished | None = None
        self.child_config = _child_config(config, manager.get_child() if manager is not None else None)

    def calls(self, event: Event) -> Iterator[Call]:
        """The callbacks to call for an event."""
        if self._run is None:
            return
        if isinstance(event, Finished):
            self._finished = event
        for name, value in _callbacks_of(event):
            yield getattr(self._run, name), value, {"color": "green"}

    def end(self, error: BaseException | None = None) -> Iterator[Call]:
        """The callbacks to call at the end: it is no error when the consumer of the events leaves."""
        if self._run is None:
            return
        if error is None or isinstance(error, GeneratorExit):
            yield self._run.on_chain_end, self._outputs(self._finished) if self._finished else {}, {}
        else:
            yield self._run.on_chain_error, error, {}


def _child_config(config: RunnableConfig, callbacks: Any) -> RunnableConfig | None:
    """What models and tools are given; `None` when nobody watches and nothing is set, which spares them the work."""
    if callbacks is None and not any(config.get(key) for key in ("tags", "metadata", "configurable")):
        return None
    child = config.copy()
    child.pop("run_name", None)
    child.pop("run_id", None)
    child["callbacks"] = callbacks
    return child


def chunks_of(event: Event, outputs: Outputs) -> Iterator[dict[str, Any]]:
    """The chunks that `stream` gives for an event, as LangChain's AgentExecutor does."""
    match event:
        case ActionChosen(action):
            chosen = as_agent_action(action)
            yield AddableDict(actions=[chosen], messages=list(chosen.messages))
        case Observed(action, observation):
            yield _step_chunk(as_agent_action(action), observation)
        case ParseError(text, observation):
            yield _step_chunk(AgentAction(MALFORMED, observation, text), observation)
        case Finished(output=output):
            yield AddableDict(**outputs(event), messages=[AIMessage(content=str(output))])


def _step_chunk(action: AgentAction, observation: Any) -> dict[str, Any]:
    step = AgentStep(action=action, observation=observation)
    return AddableDict(steps=[step], messages=[observation_message(action, observation)])


def announcer(config: RunnableConfig | None, verbose: bool) -> Callable[[Action, Observation], None] | None:
    """Tells callbacks of a tool call that a cassette answered: the tool, which would have, never ran."""
    if config is None:
        return None

    def announce(action: Action, observation: Observation) -> None:
        manager = CallbackManager.configure(config.get("callbacks"), verbose=verbose)
        run = manager.on_tool_start({"name": action.tool}, str(action.tool_input))
        run.on_tool_end(str(observation.value), color="green", name=action.tool)

    return announce
