"""An executor whose calls wait, in a node of a LangGraph graph: the graph is interrupted, and goes on with a decision.

The graph runs the node from its beginning when it is resumed. The run is in the store by then: it is found by the
node's task, and goes on where it waited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import RunnableConfig

from agentkit.errors import ConfigurationError, described
from agentkit.events import Pending, Waiting

if TYPE_CHECKING:
    from agentkit.sessions.store import StoredRun

Decisions = Mapping[str, dict[str, Any]]
"""What `AgentExecutor.decide` is given of each call, by the decisions' ids."""


def task_of(config: RunnableConfig) -> str:
    """The task of LangGraph's that this runs in, the same when it is resumed; "" where there is none."""
    within = config.get("configurable") or {}
    task, thread = within.get("__pregel_task_id"), within.get("thread_id", "")
    return f"{thread} {task}" if task and within.get("__pregel_checkpointer") else ""


def key_of(task: str, inputs: Mapping[str, Any]) -> str:
    """By which a run is found again: the task may run several."""
    given = sha256(json.dumps(inputs, sort_keys=True, default=str).encode()).hexdigest()
    return f"langgraph {sha256(task.encode()).hexdigest()[:32]} {given[:32]}"


def waits_of(run: StoredRun) -> list[list[Pending]]:
    """What a run waited for so far, each time: the graph was interrupted as often."""
    stops = (event.outcomes for event in run.events if isinstance(event, Waiting))
    return [[one for one in outcomes if isinstance(one, Pending)] for outcomes in stops]


def interrupted(waiting: Sequence[Mapping[str, Any]]) -> Decisions:
    """Interrupt the graph, or give what it is resumed with.

    That is a decision for one call, or one by the id of each: True, False, the answer to a question as text, or
    `{"yes": …, "edit": …, "message": …}`.
    """
    from langgraph.types import interrupt

    given = interrupt({"waiting": [dict(one) for one in waiting]})
    ids = [one["id"] for one in waiting]
    by_id = given if isinstance(given, Mapping) and given.keys() <= {*ids} and given else dict.fromkeys(ids, given)
    if isinstance(given, Mapping) and len(by_id) < len(ids):
        raise ConfigurationError(f"expected a decision for each of {', '.join(ids)}, saw {', '.join(map(str, given))}")
    return {one["id"]: _decision(by_id[one["id"]], one["question"]) for one in waiting}


def _decision(given: Any, question: str) -> dict[str, Any]:
    match given:
        case bool() if not question:
            return {"yes": given}
        case str() if question:
            return {"message": given}
        case Mapping() if given and given.keys() <= {"yes", "edit", "message"}:
            return dict(given)
    expected = "the answer as text" if question else 'True, False or {"yes": …, "edit": …, "message": …}'
    raise ConfigurationError(f"expected the graph to be resumed with {expected}, saw {described(given)}")
