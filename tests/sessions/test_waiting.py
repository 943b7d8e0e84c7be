"""Runs whose calls wait for a decision, and go on from what is recorded of them: nothing is run or asked twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from agentkit.cassette.format.events import EventReader, as_mapping
from agentkit.core.run import Begun, Within
from agentkit.errors import Ask, ConfigurationError
from agentkit.events import Action, Event, Finished, Observed, Pending, Resumed, Token, Verdict, Waiting
from agentkit.models.backend import Capabilities, Completion, NativeCall
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.runs.build import Runner, build
from agentkit.settings import RunSettings
from agentkit.tool import Tool
from tests.doubles.models import action, final

QUESTION = {"input": "send it"}


class Outbox:
    """Tools that note what they did: one sends, one reads, one asks."""

    def __init__(self) -> None:
        self.sent: list[Any] = []
        self.read: list[Any] = []

    def send(self, text: str) -> str:
        self.sent.append(text)
        return f"sent {text}"

    def look(self, text: str) -> str:
        self.read.append(text)
        return f"seen {text}"

    def pay(self, text: str) -> str:
        raise Ask("Which account?")

    @property
    def tools(self) -> list[Tool]:
        return [
            Tool(name="Send", description="Sends.", run=self.send, side_effects=True),
            Tool(name="Look", description="Looks.", run=self.look, side_effects=False),
            Tool(name="Pay", description="Pays.", run=self.pay, side_effects=False),
        ]


def runner(box: Outbox, *turns: Any, mode: Any = "react-json", **given: Any) -> Runner:
    model = BackendChat(ScriptedBackend(turns, capabilities=Capabilities(tools=True)))
    return build(RunSettings(mode=mode), model=model, tools=box.tools, **{"approve": "defer", **given})


def kept(events: Sequence[Event]) -> list[Event]:
    """The events as a store has them: plain values and back."""
    reader = EventReader(QUESTION, ())
    return [reader.read({**as_mapping(one), "run": 1}).event for one in events if not isinstance(one, Token)]


def end(events: Sequence[Event]) -> Finished:
    last = events[-1]
    assert isinstance(last, Finished)
    return last


def decided(end: Finished, says: Any = "yes", **more: Any) -> dict[str, Verdict]:
    return {one.id: Verdict(one.id, says, **more) for one in end.waiting}


def go_on(runner: Runner, before: Sequence[Event], verdicts: Mapping[str, Verdict] = {}, **more: Any) -> list[Event]:
    begun = Begun(events=kept(before), verdicts=verdicts, **more)
    return list(runner.joined(Within(begun=begun)).events(QUESTION))


def told(events: Sequence[Event]) -> list[Any]:
    return [one.observation for one in events if isinstance(one, Observed)]


def test_a_call_that_may_have_side_effects_waits_and_the_run_ends_for_now() -> None:
    box = Outbox()
    events = list(runner(box, action("Send", "hello")).events(QUESTION))
    (waiting,) = end(events).waiting
    assert (waiting.action.tool, waiting.action.tool_input, waiting.question) == ("Send", "hello", "")
    assert (end(events).summary.stop_reason, end(events).answered, box.sent) == ("waiting", False, [])
    assert isinstance(events[-2], Waiting)


@pytest.mark.parametrize(
    ("verdict", "sent", "seen"),
    [
        ({"says": "yes"}, ["hello"], "sent hello"),
        ({"says": "yes", "tool_input": "bye"}, ["bye"], "Send ran with bye instead.\nsent bye"),
        ({"says": "no"}, [], "Send was not approved. Do without it."),
        ({"says": "no", "message": "Ask Ann first."}, [], "Send was not approved. Ask Ann first."),
    ],
)
def test_it_goes_on_with_what_was_decided(verdict: dict[str, Any], sent: list[str], seen: str) -> None:
    box = Outbox()
    before = list(runner(box, action("Send", "hello")).events(QUESTION))
    after = go_on(runner(box, final("done")), before, decided(end(before), **verdict))
    assert (told(after), box.sent) == ([seen], sent)
    assert (end(after).output, end(after).answered, end(after).waiting) == ("done", True, ())
    assert (end(after).summary.model_calls, len(end(after).steps)) == (2, 1)


def test_what_a_tool_asks_waits_for_its_answer_which_the_model_is_told() -> None:
    box = Outbox()
    before = list(runner(box, action("Pay", "rent")).events(QUESTION))
    (waiting,) = end(before).waiting
    assert waiting.question == "Which account?"
    after = go_on(runner(box, final("paid")), before, decided(end(before), "answer", message="savings"))
    assert told(after) == ["Which account? The answer: savings"]


@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (lambda question, action: f"{action.tool}: savings", "Which account? The answer: Pay: savings"),
        (lambda question, action: None, "Error: Pay asks: Which account? Nobody answers it here. Do without it."),
        (None, "Error: Pay asks: Which account? Nobody answers it here. Do without it."),
    ],
)
def test_it_is_answered_at_once_where_somebody_can_be_asked(answer: Callable[..., Any] | None, seen: str) -> None:
    run = runner(Outbox(), action("Pay", "rent"), final("done"), approve=None)
    assert told(list(build_with(run, answer).events(QUESTION))) == [seen]
    run = runner(Outbox(), action("Pay", "rent"), final("done"), approve=None)
    assert told(asyncio.run(collected(build_with(run, answer)))) == [seen]


def build_with(run: Runner, answer: Callable[..., Any] | None) -> Runner:
    from dataclasses import replace

    return replace(run, answer=answer)


async def collected(run: Runner) -> list[Event]:
    return [event async for event in run.aevents(QUESTION)]


def calls(*named: tuple[str, str]) -> Completion:
    made = (NativeCall(f"id{n}", name, f'{{"input": "{text}"}}') for n, (name, text) in enumerate(named))
    return Completion("", tool_calls=tuple(made))


def test_calls_of_one_turn_run_when_all_of_them_are_decided() -> None:
    box = Outbox()
    turn = calls(("Look", "a"), ("Send", "b"), ("Send", "c"))
    before = list(runner(box, turn, mode="tools").events(QUESTION))
    assert (len(end(before).waiting), box.sent, box.read) == (2, [], [])
    first, second = end(before).waiting
    with pytest.raises(ConfigurationError, match=r"waits for decision \w+, on Send; decide first"):
        go_on(runner(box, mode="tools"), before, {first.id: Verdict(first.id, "yes")})
    verdicts = {first.id: Verdict(first.id, "no"), second.id: Verdict(second.id, "yes")}
    after = go_on(runner(box, Completion("done"), mode="tools"), before, verdicts)
    assert told(after) == ["seen a", "Send was not approved. Do without it.", "sent c"]
    assert (box.sent, box.read, end(after).output) == (["c"], ["a"], "done")


def test_what_ran_beside_a_question_does_not_run_again() -> None:
    box = Outbox()
    turn = calls(("Look", "a"), ("Pay", "b"))
    before = list(runner(box, turn, mode="tools").events(QUESTION))
    assert box.read == ["a"]
    after = go_on(runner(box, Completion("done"), mode="tools"), before, decided(end(before), "answer", message="x"))
    assert (told(after), box.read) == (["seen a", "Which account? The answer: x"], ["a"])


def test_a_second_call_waits_again_with_another_id() -> None:
    box = Outbox()
    before = list(runner(box, action("Send", "one")).events(QUESTION))
    again = go_on(runner(box, action("Send", "two")), before, decided(end(before)))
    assert box.sent == ["one"]
    (first,), (second,) = end(before).waiting, end(again).waiting
    assert first.id != second.id
    after = go_on(runner(box, final("done")), [*before, *again[1:]], decided(end(again)))
    assert (box.sent, [step.observation for step in end(after).steps]) == (["one", "two"], ["sent one", "sent two"])


# -- runs that were broken off -----------------------------------------------------------------------------------------


def broken_off(events: Sequence[Event], kind: type[Event]) -> list[Event]:
    """What there is of a run whose process died when it had said so much."""
    place = next(place for place, one in enumerate(events) if isinstance(one, kind))
    return [*events[:place]]


@pytest.mark.parametrize(
    ("run_again", "sent", "seen"),
    [
        (lambda tool, given: True, ["hello"], "sent hello"),
        (
            lambda tool, given: False,
            [],
            "Send was interrupted, and whether it took effect is not known. Do without it.",
        ),
    ],
)
def test_a_call_that_was_under_way_runs_again_only_if_somebody_says_so(
    run_again: Callable[[str, Any], bool], sent: list[str], seen: str
) -> None:
    whole = list(runner(Outbox(), action("Send", "hello"), final("done"), approve=None).events(QUESTION))
    box, before = Outbox(), broken_off(whole, Observed)
    with pytest.raises(ConfigurationError, match=r"Send\('hello'\) was under way .* say with run_again"):
        go_on(runner(box), before)
    after = go_on(runner(box, final("done"), approve=None), before, run_again=run_again)
    assert (told(after), box.sent, end(after).output) == ([seen], sent, "done")


def test_what_nobody_approved_is_not_approved_by_running_again() -> None:
    whole = list(runner(Outbox(), action("Send", "hello"), final("done"), approve=None).events(QUESTION))
    box = Outbox()
    after = go_on(runner(box), broken_off(whole, Observed), run_again=lambda tool, given: True)
    assert ([one.action.tool_input for one in end(after).waiting], box.sent) == (["hello"], [])


def test_an_edit_outlives_its_process() -> None:
    before = list(runner(Outbox(), action("Send", "1000")).events(QUESTION))
    begun = go_on(runner(Outbox(), final("done")), before, decided(end(before), tool_input="10"))
    broken = [*before, *broken_off(begun, Observed)[1:]]
    asked: list[Any] = []
    box = Outbox()

    def run_again(tool: str, given: Any) -> bool:
        asked.append(given)
        return True

    after = go_on(runner(box, final("done")), broken, run_again=run_again)
    assert (asked, box.sent) == (["10"], ["10"])
    assert told(after) == ["Send ran with 10 instead.\nsent 10"]


@pytest.mark.parametrize("kind", [Observed, Waiting])
def test_what_stands_in_the_place_of_a_secret_does_not_run(kind: type[Event]) -> None:
    turn = calls(("Look", "<REDACTED>"), ("Send", "b"))
    whole = list(runner(Outbox(), turn, Completion("done"), mode="tools", approve=None).events(QUESTION))
    if kind is Waiting:
        whole = list(runner(Outbox(), turn, mode="tools").events(QUESTION))
        verdicts = decided(end(whole))
    else:
        whole, verdicts = broken_off(whole, Observed), {}
    box = Outbox()
    given = {"verdicts": verdicts, "run_again": lambda tool, given: True}
    after = go_on(runner(box, Completion("done"), mode="tools", approve=None), whole, **given)
    secret = "Look was not approved. Its input held a secret, which is not kept. Do without it."
    assert (told(after)[0], box.read, box.sent) == (secret, [], ["b"])


def test_a_call_that_only_reads_runs_again() -> None:
    whole = list(runner(Outbox(), action("Look", "x"), final("done")).events(QUESTION))
    box = Outbox()
    after = go_on(runner(box, final("done")), broken_off(whole, Observed))
    assert (told(after), box.read, end(after).summary.model_calls) == (["seen x"], ["x"], 2)


def test_what_was_decided_and_then_broken_off_is_not_asked_again() -> None:
    box = Outbox()
    turn = calls(("Send", "a"), ("Send", "b"))
    before = list(runner(box, turn, mode="tools").events(QUESTION))
    first, second = end(before).waiting
    verdicts = {first.id: Verdict(first.id, "no"), second.id: Verdict(second.id, "yes")}
    begun = go_on(runner(Outbox(), Completion("done"), mode="tools"), before, verdicts)
    broken = [*before, *broken_off(begun, Observed)[1:]]
    assert isinstance(broken[-1], Resumed)
    asked: list[Any] = []
    after = go_on(
        runner(box, Completion("done"), mode="tools"),
        broken,
        run_again=lambda tool, given: bool(asked.append((tool, given))),
    )
    assert asked == [("Send", {"input": "b"})] or asked == [("Send", "b")]
    assert told(after) == [
        "Send was not approved. Do without it.",
        "Send was interrupted, and whether it took effect is not known. Do without it.",
    ]
    assert box.sent == []


def test_a_run_that_ended_at_a_limit_goes_on_with_more() -> None:
    box = Outbox()
    turns = [action("Look", str(number)) for number in range(2)]
    model = BackendChat(ScriptedBackend([*turns, final("done")]))
    limited = build(RunSettings(max_iterations=2), model=model, tools=box.tools)
    before = list(limited.events(QUESTION))
    assert end(before).summary.stop_reason == "max_iterations"
    more = build(RunSettings(max_iterations=3), model=model, tools=box.tools)
    after = go_on(more, before)
    assert (end(after).output, box.read, end(after).summary.model_calls) == ("done", ["0", "1"], 3)


def test_a_budget_counts_what_was_used_before() -> None:
    box = Outbox()
    whole = list(runner(box, action("Look", "x"), final("done")).events(QUESTION))
    assert end(whole).summary.usage.total_tokens > 0
    before = broken_off(whole, Observed)
    after = go_on(runner(box, final("done")), before)
    assert end(after).summary.usage == end(whole).summary.usage


def test_pending_calls_are_plain_values_in_a_store() -> None:
    box = Outbox()
    events = list(runner(box, action("Send", "hello")).events(QUESTION))
    (waiting,) = end(events).waiting
    (back,) = end(kept(events)).waiting
    assert back == Pending(waiting.id, Action("Send", "hello"))


def test_the_model_asks_the_user_what_only_the_user_knows() -> None:
    settings = RunSettings(tools=("ask_user",))
    model = BackendChat(ScriptedBackend([action("AskUser", "Which city?"), final("Lisbon")]))
    asks = list(build(settings, model=model, approve="defer").events(QUESTION))
    (waiting,) = end(asks).waiting
    assert (waiting.action.tool, waiting.question) == ("AskUser", "Which city?")
    after = go_on(build(settings, model=model), asks, decided(end(asks), "answer", message="Lisbon"))
    assert (told(after), end(after).output) == (["Which city? The answer: Lisbon"], "Lisbon")
