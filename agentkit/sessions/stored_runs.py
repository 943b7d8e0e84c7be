"""Runs in a store: kept as they happen, and taken up again in any process that has the store.

within = kept(store, spec)                        # a run that begins
within = going_on(store, "5x0k…")                  # one that waited, reached a limit, or was broken off
runner.events(inputs, within=within)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from agentkit.cassette.format.entries import plain
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.core.history import Exchange, History
from agentkit.core.loop import ReActLoop
from agentkit.core.run import Begun, Within
from agentkit.errors import ConfigurationError, StoreError, ToolError, in_one_line, said
from agentkit.events import Action, Event, Finished, Outcome, Pending, RunStarted, ToolInput
from agentkit.printable import json_text
from agentkit.secrets import REDACTED
from agentkit.sessions.store import Decision, Store, StoredRun
from agentkit.tool import Tool, unknown

RunAgain = Callable[[str, Any], bool]
NO_ANSWER = "I found no answer."
"""What the model reads as its own of a turn that a limit ended."""


@dataclass(frozen=True, slots=True)
class StoreKeeper:
    """Keeps a run in a store. One that goes on has its beginning there, `after` so many events, and its `session`."""

    store: Store
    run: str
    after: int | None = None
    session: str | None = None

    @contextmanager
    def holding(self) -> Iterator[Callable[[Event], None]]:
        def keep(event: Event) -> None:
            if self.after is None or not isinstance(event, RunStarted):
                self.store.append(self.run, event)

        session = nullcontext() if self.session is None else self.store.held_session(self.session)
        with session, self.store.held_run(self.run):
            if self.after is not None and self.store.length(self.run) != self.after:
                raise StoreError(
                    f"Run {self.run} went on in another process meanwhile; agentkit show {self.run} shows it"
                )
            yield keep


def kept(
    store: Store, spec: RunSpec, history: History | None = None, *, session: str | None = None, key: str | None = None
) -> Within:
    """What a run that begins belongs to, the next turn of a `session` after its `history`; `key` finds it again."""
    run = store.begin(spec, session=session, number="next", key=key)
    return Within(history=history or History(), keeper=StoreKeeper(store, run))


def going_on(store: Store, run: StoredRun, run_again: RunAgain | None = None) -> Within:
    """What a run that goes on belongs to; raises `ConfigurationError` for one that does not.

    `run_again(tool, tool_input)` says whether a call runs now that was under way, and must not run twice.
    """
    if run.status == "running":
        raise StoreError(f"Run {run.id} is going on in another process; wait for its end")
    if run.stop_reason in ("answer", "return_direct"):
        raise ConfigurationError(f"run {run.id} has its answer, nothing is left to go on with; ask again")
    decisions = store.decisions(run.id)
    for decision in decisions:
        if decision.status == "approved" and decision.edit is None:
            check_whole(decision)
    check_calls(run, decisions)
    verdicts = {one.id: one.verdict for one in decisions if one.verdict is not None}
    begun = Begun(events=run.events, verdicts=verdicts, run_again=run_again)
    return Within(
        history=_before(store, run), begun=begun, keeper=StoreKeeper(store, run.id, len(run.events), run.session)
    )


def check_whole(decision: Decision) -> None:
    """Raise `ConfigurationError` where a call as it is would run with what stands in the place of a secret."""
    if REDACTED in json.dumps(decision.tool_input, default=str):
        raise ConfigurationError(
            f"{decision.tool} was called with a secret, which is not kept, so it cannot run as it was; say no, or give "
            "its input when you decide"
        )


def check_edit(decision: Decision, tools: Sequence[Tool], edit: ToolInput, *, name: str = "edit") -> None:
    """Raise `ConfigurationError` for an input that a call's tool does not take; a slip in a name is one."""
    tool = next((tool for tool in tools if tool.name == decision.tool), None)
    if tool is None:
        return
    wrong = ""
    if isinstance(edit, dict) and isinstance(decision.tool_input, dict):
        wrong = "; ".join(unknown(edit, {*decision.tool_input, *tool.schema.get("properties", ())}))
    try:
        tool.arguments(edit)
    except ToolError as error:
        wrong = wrong or in_one_line(said(error))
    if wrong:
        raise ConfigurationError(f"{name} is no input of {decision.tool}: {wrong}")


def check_calls(run: StoredRun, decisions: Sequence[Decision]) -> None:
    """Raise `StoreError` where what was decided about is not what the run holds, which is what runs."""
    calls = {pending.id: (action, pending) for action, pending in waiting_calls(run)}
    for decision in decisions:
        action, pending = calls.get(decision.id, (None, None))
        if action is None or pending is None:
            if decision.status != "waiting":  # of an earlier turn
                continue
            is_same = False
        else:
            told = _written(decision.tool, decision.tool_input, decision.question)
            held = _written(pending.action.tool, pending.action.tool_input, pending.question)
            is_same_tool = action.tool.strip().casefold() == pending.action.tool.strip().casefold()
            is_same = is_same_tool and (told == held or REDACTED in f"{told}{held}")
        if not is_same:
            raise StoreError(
                f"Decision {decision.id} is about another call than run {run.id} holds, so somebody changed the store; "
                "do not go on with this run"
            )


def check_inputs(run: StoredRun, tools: Sequence[Tool]) -> None:
    """Raise `StoreError` where a call of the model's would give a tool something else than was asked about."""
    named = {tool.name.casefold(): tool for tool in tools}
    for action, pending in waiting_calls(run):
        tool = named.get(action.tool.strip().casefold())
        if tool is None or pending.question:
            continue
        try:
            given = plain(tool.arguments(action.tool_input))
        except ToolError:
            given = None
        told = _written(given), _written(plain(pending.action.tool_input))
        if told[0] != told[1] and REDACTED not in "".join(told):
            raise StoreError(
                f"Decision {pending.id} is about another input than run {run.id} holds, so somebody changed the store; "
                "do not go on with this run"
            )


def _written(*values: Any) -> str:
    return json.dumps(values, sort_keys=True, default=str)


def waiting_calls(run: StoredRun) -> list[tuple[Action, Pending]]:
    """The calls that a run waits for, each as the model made it and as it was asked about."""
    return [(action, one) for action, one in _open(run) if isinstance(one, Pending)]


def running_calls(run: StoredRun, decisions: Sequence[Decision]) -> list[tuple[str, ToolInput]]:
    """What runs when a run goes on, tool and input: what was let run, in its events or since, and what never waited."""
    decided = {one.id: one.verdict for one in decisions}
    calls = []
    for action, outcome in _open(run):
        verdict = action.verdict or (decided.get(outcome.id) if isinstance(outcome, Pending) else None)
        if verdict is None and isinstance(outcome, Pending):
            continue
        if verdict is None or verdict.says == "yes":
            edited = verdict.tool_input if verdict is not None else None
            calls.append((action.tool, action.tool_input if edited is None else edited))
    return calls


def _open(run: StoredRun) -> list[tuple[Action, Outcome]]:
    return ReActLoop(dict(run.spec.inputs), begun=run.events).open_calls


def _before(store: Store, run: StoredRun) -> History:
    if run.session is None:
        return History()
    turns = store.turns(run.session)
    before = turns[: turns.index(run.id)] if run.id in turns else turns
    return History(tuple(exchange for turn in before if (exchange := exchange_of(store.run(turn))) is not None))


def exchange_of(run: StoredRun) -> Exchange | None:
    """A run as a later turn of its session sees it; None for one without an end."""
    end = end_of(run.events)
    if end is None or end.waiting:
        return None
    answer = run.output if isinstance(run.output, str) else json_text(run.output)
    if not end.answered and not end.log:  # what ended it is not the model's to have said
        answer = NO_ANSWER
    return Exchange(run.question, answer, end.steps, end.log, is_confirmed=not end.summary.ungrounded)


def end_of(events: Sequence[Event]) -> Finished | None:
    """How a run ended last, if it did."""
    return events[-1] if events and isinstance(events[-1], Finished) else None
