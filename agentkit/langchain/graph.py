"""An executor whose calls wait, in a node of a LangGraph graph: the graph is interrupted, and goes on with a decision.

The graph runs the node from its beginning when it is resumed. The run is in the store by then: it is found by the
node's task, and goes on where it waited.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig

from agentkit.errors import ConfigurationError, StoreError, described
from agentkit.events import Pending, Waiting

if TYPE_CHECKING:
    from agentkit.cassette import RunSpec
    from agentkit.sessions.store import StoredRun

Decisions = Mapping[str, dict[str, Any]]
"""What `AgentExecutor.decide` is given of each call, by the decisions' ids."""


def task_of(config: RunnableConfig) -> str:
    """The task of LangGraph's that this runs in, and the how many-th run there: the same when it is resumed.

    "" where there is no task that can be interrupted.
    """
    within = config.get("configurable") or {}
    task, scratchpad = within.get("__pregel_task_id"), within.get("__pregel_scratchpad")
    if not task or not within.get("__pregel_checkpointer"):
        return ""
    last, count = _runs.get()
    count = count + 1 if last == id(scratchpad) else 0  # there is a new one each time that the node begins
    _runs.set((id(scratchpad), count))
    return f"{within.get('thread_id', '')} {task} {count}"


_runs: ContextVar[tuple[int, int]] = ContextVar("agentkit_runs_of_task", default=(0, 0))


def key_of(task: str, spec: RunSpec) -> str:
    """By which a run is found again."""
    of_run = json.dumps(spec.to_mapping(), sort_keys=True, default=str)
    return f"langgraph {sha256(f'{task} {of_run}'.encode()).hexdigest()[:40]}"


def waits_of(run: StoredRun) -> list[list[Pending]]:
    """What a run waited for so far, each time: the graph was interrupted as often."""
    stops = (event.outcomes for event in run.events if isinstance(event, Waiting))
    return [[one for one in outcomes if isinstance(one, Pending)] for outcomes in stops]


def interrupted(waiting: Sequence[Mapping[str, Any]], check: Callable[[str, dict[str, Any]], None]) -> Decisions:
    """Interrupt the graph, or give what it is resumed with, once for each call that waits.

    That is a decision for all of them, or one by the id of each: True, False, the answer to a question as text, or
    `{"yes": …, "edit": …, "message": …}`. Where it is none, or `check(id, decision)` raises, the graph is interrupted
    again, and says why.
    """
    from langgraph.types import interrupt

    asked: dict[str, Any] = {"waiting": [dict(one) for one in waiting]}
    while True:
        given = interrupt(asked)
        try:
            decisions = _decisions(given, waiting)
            for id_, decision in decisions.items():
                check(id_, decision)
            return decisions
        except (ConfigurationError, StoreError) as error:
            asked = {**asked, "error": str(error)}


def _decisions(given: Any, waiting: Sequence[Mapping[str, Any]]) -> Decisions:
    ids = [one["id"] for one in waiting]
    by_id = given if isinstance(given, Mapping) and given.keys() <= {*ids} and given else dict.fromkeys(ids, given)
    if missing := [id_ for id_ in ids if id_ not in by_id]:
        raise ConfigurationError(f"no decision on {', '.join(missing)}; give one by each id")
    return {one["id"]: _decision(by_id[one["id"]], one["question"]) for one in waiting}


def _decision(given: Any, question: str) -> dict[str, Any]:
    match given:
        case bool() if not question:
            return {"yes": given}
        case str() if question:
            return {"message": given}
        case {"yes": bool()} if not question and given.keys() <= {"yes", "edit", "message"}:
            return dict(given)
        case {"message": str()} if question and given.keys() == {"message"}:
            return dict(given)
    expected = "the answer as text" if question else 'True, False or {"yes": …, "edit": …, "message": …}'
    raise ConfigurationError(f"expected the graph to be resumed with {expected}, saw {described(given)}")
