"""What an `AgentExecutor` does with a store: runs are kept, calls wait for decisions, and runs go on."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import RunnableConfig

from agentkit.cassette.format.run_spec import MADE_IN_PYTHON, RunSpec
from agentkit.core.run import Within
from agentkit.events import Pending, ToolInput
from agentkit.langchain.graph import interrupted, key_of, task_of, waits_of
from agentkit.langchain.react_agent import ReactJsonAgent
from agentkit.langchain.tools import from_langchain
from agentkit.react_json.prompt import HISTORY, Prompt
from agentkit.settings import RunSettings
from agentkit.toolbox.approval import DEFER, Approve

if TYPE_CHECKING:
    from agentkit.sessions.store import Store
    from agentkit.sessions.stored_runs import RunAgain

WAITING = ("id", "tool", "tool_input", "question")
"""What `result["waiting"]` says of each call."""
_ALONE = Within()


def as_waiting(pending: Pending) -> dict[str, Any]:
    """A call that waits, in a result."""
    action = pending.action
    given = dict(action.tool_input) if isinstance(action.tool_input, dict) else action.tool_input
    return dict(zip(WAITING, (pending.id, action.tool, given, pending.question), strict=True))


class StoredRuns(ABC):
    """An executor's runs in a store. `joined` is the executor for one run, which belongs to something."""

    agent: Any
    tools: Sequence[Any]
    approve: Approve | None
    store: Store | str | Path | None

    @property
    @abstractmethod
    def settings(self) -> RunSettings: ...

    @abstractmethod
    def invoke(self, input: Any, config: RunnableConfig | None = None) -> dict[str, Any]: ...

    @abstractmethod
    async def ainvoke(self, input: Any, config: RunnableConfig | None = None) -> dict[str, Any]: ...

    @abstractmethod
    def _outputs(self, event: Any) -> dict[str, Any]: ...

    def decide(
        self,
        id: str,
        yes: bool | None = None,
        *,
        edit: ToolInput | None = None,
        message: str | None = None,
        config: RunnableConfig | None = None,
    ) -> dict[str, Any]:
        """Decide of a call that waits whether it runs, or answer what its tool asks; the run goes on.

        `edit` is the input that it runs with instead of its own; `message` is what the model is told of a no, or the
        answer to a question. The result is that of `invoke`; where other calls of the run still wait, they are in its
        "waiting". The first decision counts: `StoreError` for another.
        """
        run, left = self._decided(id, yes, edit, message)
        return left or self.resume(run, config=config)

    async def adecide(
        self,
        id: str,
        yes: bool | None = None,
        *,
        edit: ToolInput | None = None,
        message: str | None = None,
        config: RunnableConfig | None = None,
    ) -> dict[str, Any]:
        """`decide`, awaiting."""
        run, left = await asyncio.to_thread(self._decided, id, yes, edit, message)
        return left or await self.aresume(run, config=config)

    def resume(
        self, run: str, *, run_again: RunAgain | None = None, config: RunnableConfig | None = None
    ) -> dict[str, Any]:
        """Go on with a run of the store that waited, reached a limit or was broken off; nothing happens twice.

        `run_again(tool, tool_input)` says whether a call runs now that was under way, and must not run twice.
        """
        joined, inputs = self._gone_on(run, run_again)
        return joined.invoke(inputs, config)

    async def aresume(
        self, run: str, *, run_again: RunAgain | None = None, config: RunnableConfig | None = None
    ) -> dict[str, Any]:
        """`resume`, awaiting."""
        joined, inputs = await asyncio.to_thread(self._gone_on, run, run_again)
        return await joined.ainvoke(inputs, config)

    def spec(self, inputs: dict[str, Any]) -> RunSpec:
        """What a run of these inputs is made of, as far as a store can say it."""
        names, agent = tuple(tool.name for tool in self.tools), self.agent
        model = agent.agent.model.model_id if isinstance(agent, ReactJsonAgent) else type(agent).__name__
        settings = replace(self.settings, model=f"{MADE_IN_PYTHON}{model}", tools=names)
        prompt = agent.agent.chosen_prompt if isinstance(agent, ReactJsonAgent) else None
        if not isinstance(prompt, Prompt):
            return RunSpec.of(inputs, settings)
        return RunSpec.of(inputs, replace(settings, prompt=prompt.name), text=prompt)

    def joined(self, within: Within) -> Self:
        """This executor for one run, which belongs to a store, a session, or to what happened in it before."""
        one, agent = copy(self), self.agent
        context = agent.agent.model.capabilities.context_tokens if isinstance(agent, ReactJsonAgent) else None
        one.__dict__["_joins"] = within.fitted(context)
        return one

    # -- in a graph ----------------------------------------------------------------------------------------------------

    def _task(self, config: RunnableConfig) -> str:
        """The task of a graph that is interrupted where a call waits; "" where it is not."""
        return task_of(config) if self.approve == DEFER and self._within.keeper is None else ""

    def _in_graph(self, task: str, inputs: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        """The run of a task: begun, or gone on with, as far as its decisions reach."""
        key = key_of(task, self.spec(inputs))
        for joined in self._graph_steps(key, inputs):
            joined.invoke(inputs, config)
        return self._end_of(key, inputs)

    async def _ain_graph(self, task: str, inputs: dict[str, Any], config: RunnableConfig) -> dict[str, Any]:
        """`_in_graph`, awaiting."""
        key = key_of(task, self.spec(inputs))
        for joined in self._graph_steps(key, inputs):
            await joined.ainvoke(inputs, config)
        return self._end_of(key, inputs)

    def _graph_steps(self, key: str, inputs: dict[str, Any]) -> Iterator[Self]:
        """What is to run next, until the run has its end; a graph that is resumed gives each of its decisions again."""
        from agentkit.sessions.stored_runs import going_on, kept

        store, seen = self._own_store, 0
        if (run := store.run_of(key)) is None:
            yield self.joined(kept(store, self.spec(inputs), key=key))
            run = store.run_of(key)
        assert run is not None
        while True:
            stored = store.run(run)
            waits = waits_of(stored)
            for pending in waits[seen:]:
                decisions = interrupted([as_waiting(one) for one in pending], self._check)
            if stored.status == "waiting":
                for decision in store.waiting(run):  # those that nobody took elsewhere
                    self._decided(decision.id, **decisions[decision.id])
            elif stored.status == "finished":
                return
            seen = len(waits)
            yield self.joined(going_on(store, store.run(run)))

    def _end_of(self, key: str, inputs: dict[str, Any]) -> dict[str, Any]:
        from agentkit.sessions.stored_runs import end_of

        store = self._own_store
        end = end_of(store.run(store.run_of(key) or "").events)
        return {**inputs, **self._outputs(end)}

    @property
    def _within(self) -> Within:
        within: Within = self.__dict__.get("_joins", _ALONE)
        return within

    @property
    def _keeps(self) -> bool:
        """Whether a run begins in the store with this call."""
        return self._within.keeper is None and (self.store is not None or self.approve == DEFER)

    def _kept(self, inputs: dict[str, Any]) -> Self:
        if not self._keeps:
            return self
        from agentkit.sessions.stored_runs import kept

        return self.joined(kept(self._own_store, self.spec(inputs)))

    @property
    def _own_store(self) -> Store:
        from agentkit.sessions.session import found_store

        return found_store(self.store)

    def _decided(
        self, id: str, yes: bool | None = None, edit: ToolInput | None = None, message: str | None = None
    ) -> tuple[str, dict[str, Any]]:
        """Whose run the decision is of, and what `decide` gives where other calls of it still wait."""
        store = self._own_store
        self._check(id, {"yes": yes, "edit": edit, "message": message})
        run = store.run(store.decide(id, yes, edit=edit, message=message).run)
        waiting = [{name: getattr(one, name) for name in WAITING} for one in store.waiting(run.id)]
        return run.id, {**run.spec.inputs, "output": run.output, "waiting": waiting} if waiting else {}

    def _check(self, id: str, decision: dict[str, Any]) -> None:
        """Raise `ConfigurationError` or `StoreError` for what would not be a decision on a call."""
        from agentkit.sessions.store import check_decision
        from agentkit.sessions.stored_runs import check_edit, check_whole

        asked, edit = self._own_store.decision(id), decision.get("edit")
        check_decision(asked, decision.get("yes"), edit, decision.get("message"))
        if edit is not None:
            check_edit(asked, [from_langchain(tool) for tool in self.tools], edit)
        elif decision.get("yes") and asked.status == "waiting":
            check_whole(asked)

    def _gone_on(self, run: str, run_again: RunAgain | None) -> tuple[Self, dict[str, Any]]:
        from agentkit.sessions.stored_runs import going_on

        store = self._own_store
        stored = store.run(run)
        return self.joined(going_on(store, stored, run_again)), dict(stored.spec.inputs)

    def _with_history(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """For an agent of LangChain's: earlier turns as its prompts take them."""
        messages = [
            message
            for one in self._within.history.exchanges[self._within.history.told_from :]
            for message in (HumanMessage(one.question), AIMessage(one.answer))
        ]
        return {**inputs, HISTORY: [*inputs.get(HISTORY, ()), *messages]} if messages else inputs
