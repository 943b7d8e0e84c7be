"""A run's events as LangChain's users get them: callbacks of one chain run in the run tree, and stream chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from langchain_core.agents import AgentAction, AgentFinish, AgentStep
from langchain_core.callbacks import CallbackManager
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.utils import AddableDict

from agentkit.core.loop import MALFORMED
from agentkit.events import Action, ActionChosen, Event, Finished, Observation, Observed, ParseError
from agentkit.langchain.steps import as_agent_action, observation_message

Outputs = Callable[[Finished], dict[str, Any]]


def _callbacks_of(event: Event) -> Iterator[tuple[str, Any]]:
    """What LangChain's run manager is told: (method, value)."""
    match event:
        case ActionChosen(action):
            yield "on_agent_action", as_agent_action(action)
        case ParseError(text, observation):
            yield "on_agent_action", AgentAction(MALFORMED, observation, text)
        case Finished(output=output, log=log):
            yield "on_agent_finish", AgentFinish({"output": output}, log or str(output))


class ChainRun:
    """The run in the run tree: told of events, ended once. `None` as manager: nobody listens.

    It gives the callbacks to call, and leaves it to its caller to call or to await them.
    """

    def __init__(self, manager: Any, config: RunnableConfig, outputs: Outputs) -> None:
        self._run = manager
        self._outputs = outputs
        self._finished: Finished | None = None
        self.child_config = _child_config(config, manager.get_child() if manager is not None else None)

    def calls(self, event: Event) -> Iterator[Callable[[], Any]]:
        """The callbacks to call for an event."""
        if self._run is None:
            return
        if isinstance(event, Finished):
            self._finished = event
        for name, value in _callbacks_of(event):
            yield partial(getattr(self._run, name), value, color="green")

    def end(self, error: BaseException | None = None) -> Iterator[Callable[[], Any]]:
        """The callbacks to call at the end: it is no error when the consumer of the events leaves."""
        if self._run is None:
            return
        if error is None or isinstance(error, GeneratorExit):
            yield partial(self._run.on_chain_end, self._outputs(self._finished) if self._finished else {})
        else:
            yield partial(self._run.on_chain_error, error)


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
