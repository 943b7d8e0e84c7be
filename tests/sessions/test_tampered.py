"""What others may have written into a store: what runs is what its events say, and that is what is agreed to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from agentkit import AgentExecutor, Store
from agentkit.errors import ConfigurationError, StoreError
from agentkit.events import Action, ActionChosen, Resumed, Verdict, Waiting
from agentkit.models.scripted import ScriptedBackend
from agentkit.sessions.store import StoredRun
from agentkit.sessions.stored_runs import check_calls, running_calls, waiting_calls
from agentkit.tool import Tool
from tests.doubles.models import action

SEND = Tool(name="Send", description="Sends.", run=lambda text: f"sent {text}", side_effects=True)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "kept.db")
    model = ScriptedBackend([action("Send", "hello")])
    AgentExecutor.from_model(model, [SEND], approve="defer", store=made).invoke({"input": "send it"})
    return made


def kept(store: Store) -> StoredRun:
    return store.run(store.last_run() or "")


def test_what_waits_does_not_run_and_what_was_let_run_does(store: Store) -> None:
    run = kept(store)
    (decision,) = store.decisions(run.id)
    assert [(one.tool, pending.id) for one, pending in waiting_calls(run)] == [("Send", decision.id)]
    assert running_calls(run, [decision]) == []
    store.decide(decision.id, True, edit="bye")
    assert running_calls(run, store.decisions(run.id)) == [("Send", "bye")]


def test_calls_that_were_written_in_behind_are_those_that_run(store: Store) -> None:
    run = kept(store)
    forged = (ActionChosen(Action("Wipe", "everything")), Waiting((None,) * 2), Resumed((None, Verdict("", "yes"))))
    run = replace(run, events=(*run.events, *forged))
    assert ("Wipe", "everything") in running_calls(run, store.decisions(run.id))
    with pytest.raises(StoreError, match=r"is about another call than run .* somebody changed the store"):
        check_calls(run, store.decisions(run.id))


def test_events_that_do_not_follow_from_each_other_are_refused(store: Store) -> None:
    run = kept(store)
    with pytest.raises(ConfigurationError, match="do not follow from each other"):
        running_calls(replace(run, events=(*run.events, Resumed(()))), [])
