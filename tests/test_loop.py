"""The loop alone: what it asks for next, given what came back. No model, no tool, no clock."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit.core.loop import FORCED_OUTPUT, Limits, ModelCall, ReActLoop, ToolCalls, Turn
from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import (
    Action,
    ActionChosen,
    Called,
    FinalAnswer,
    Finished,
    LimitReached,
    Observation,
    Observed,
    ParseError,
    Replied,
    Step,
    StopReason,
    Thought,
    Usage,
)
from agentkit.react_json.scratchpad import CLOSING_NOTE

ADD = Action("Calculator", "2+2", "log")


def act(loop: ReActLoop, action: Action = ADD, observation: str = "4", **reply: object) -> None:
    """One whole step."""
    assert isinstance(loop.next(0), ModelCall)
    list(loop.replied(Turn((action,), **reply)))  # type: ignore[arg-type]
    assert loop.next(0) == ToolCalls((action,))
    list(loop.observed([Observation(observation)]))


def finish(loop: ReActLoop) -> Finished:
    effect = loop.next(0)
    assert isinstance(effect, Finished)
    return effect


def test_a_run_is_call_tools_call_answer() -> None:
    loop = ReActLoop({"input": "2+2?"})
    assert loop.next(0) == ModelCall({"input": "2+2?"}, [])
    came = [Replied(Usage(5, 3)), Thought("add"), ActionChosen(ADD)]
    assert list(loop.replied(Turn((ADD,), thought="add", usage=Usage(5, 3)))) == came
    assert list(loop.observed([Observation("4")])) == [Observed(ADD, "4")]
    assert loop.next(0) == ModelCall({"input": "2+2?"}, [Step(ADD, "4")])
    assert list(loop.replied(Turn(FinalAnswer("4", "Final Answer: 4"), usage=Usage(9, 2)))) == [Replied(Usage(9, 2))]
    end = finish(loop)
    assert (end.output, end.answered, end.summary.stop_reason) == ("4", True, "answer")
    assert end.summary.usage == Usage(14, 5)
    assert (end.summary.model_calls, end.summary.tools_executed) == (2, 1)


def test_several_actions_run_together_and_are_observed_in_order() -> None:
    loop = ReActLoop({"input": "?"})
    loop.next(0)
    second = Action("Search", "x")
    list(loop.replied(Turn((ADD, second))))
    assert loop.next(0) == ToolCalls((ADD, second))
    list(loop.observed([Observation("4"), Observation("found", executed=False)]))
    assert loop.steps == [Step(ADD, "4"), Step(second, "found")]


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        (Limits(max_iterations=2), "max_iterations"),
        (Limits(max_tokens=30), "max_tokens"),
        (Limits(max_execution_time_s=5), "max_execution_time"),
    ],
)
def test_a_limit_ends_the_run_without_an_answer(limits: Limits, reason: StopReason) -> None:
    loop = ReActLoop({"input": "?"}, limits=limits, started_s=100)
    for number in range(2):
        assert isinstance(loop.next(100), ModelCall)
        list(loop.replied(Turn((Action("Search", str(number)),), usage=Usage(10, 5))))
        list(loop.observed([Observation("nothing")]))
    assert loop.next(105) == LimitReached(reason, closing_turn=False)
    end = loop.next(105)
    assert isinstance(end, Finished)
    assert (end.output, end.answered, end.summary.stop_reason) == (FORCED_OUTPUT[reason], False, reason)


def test_a_cost_limit_ends_the_run_and_wants_to_know_the_cost() -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(max_cost_usd=0.5))
    for cost_usd in (0.3, 0.2):
        loop.next(0)
        list(loop.replied(Turn((ADD,), usage=Usage(1, 1, cost_usd=cost_usd))))
        list(loop.observed([Observation(str(cost_usd))]))
    assert loop.next(0) == LimitReached("max_cost", closing_turn=False)
    assert finish(loop).output == FORCED_OUTPUT["max_cost"]
    with pytest.raises(ConfigurationError, match="max_cost cannot be held"):
        list(ReActLoop({"input": "?"}, limits=Limits(max_cost_usd=0.5)).replied(Turn((ADD,))))


def test_a_token_budget_tells_what_is_left_for_a_turn() -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(max_tokens=100))
    assert loop.next(0) == ModelCall({"input": "?"}, [], max_new_tokens=100)
    list(loop.replied(Turn((ADD,), usage=Usage(60, 30))))
    list(loop.observed([Observation("4")]))
    assert loop.next(0) == ModelCall({"input": "?"}, [Step(ADD, "4")], max_new_tokens=10)


def test_a_run_that_is_stopped_from_outside_says_so_and_ends() -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(early_stopping_method="generate"))
    act(loop)
    loop.next(0)
    loop.stop("max_execution_time")
    assert loop.next(0) == LimitReached("max_execution_time", closing_turn=False)
    end = finish(loop)
    assert (end.answered, end.summary.stop_reason, end.steps) == (False, "max_execution_time", (Step(ADD, "4"),))


def test_generate_asks_once_more_and_takes_the_answer() -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(max_iterations=1, early_stopping_method="generate"))
    act(loop)
    assert loop.next(0) == LimitReached("max_iterations", closing_turn=True)
    call = loop.next(0)
    assert isinstance(call, ModelCall)
    assert call.steps[-1].observation == "4" + CLOSING_NOTE
    assert loop.steps[-1].observation == "4"
    assert call.closing
    list(loop.replied(Turn(FinalAnswer("about 4"))))
    end = finish(loop)
    assert (end.output, end.answered, end.summary.stop_reason) == ("about 4", True, "max_iterations")


@pytest.mark.parametrize("decision", [(ADD,), MalformedTurn("no")])
def test_a_closing_turn_without_an_answer_is_none(decision: object) -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(max_iterations=1, early_stopping_method="generate"))
    act(loop)
    loop.next(0), loop.next(0)
    list(loop.replied(Turn(decision)))  # type: ignore[arg-type]
    assert not finish(loop).answered


def test_the_same_step_again_and_again_is_stuck_and_asks_for_the_best_answer() -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(max_repeats=3))
    act(loop), act(loop), act(loop)
    assert loop.next(0) == LimitReached("stuck", closing_turn=True)
    assert isinstance(loop.next(0), ModelCall)


def called(turn: int, *tools: str) -> tuple[Action, ...]:
    return tuple(Action(tool, {}, "log", Called(f"{turn}-{tool}", turn)) for tool in tools)


PRESS, READ = Action("press", "down"), Action("read", {})
SAME: dict[str, list[Any]] = {
    "an action": [(PRESS, "ok")] * 3,
    "keys in another order": [
        (Action("f", {"a": 1, "b": 2}), "-"),
        (Action("f", {"b": 2, "a": 1}), "-"),
        (Action("f", {"a": 1, "b": 2}), "-"),
    ],
    "a name in other case": [(Action("f", {}), "-"), (Action("F", {}), "-"), (Action("f", {}), "-")],
    "calls of one turn": [(called(n, "a", "b"), "1", "2") for n in range(3)],
    "in another order": [
        (called(0, "a", "b"), "-", "-"),
        (called(1, "b", "a"), "-", "-"),
        (called(2, "a", "b"), *"--"),
    ],
    "a malformed turn": ["hm", "hm\n", " hm"],
    "nothing": ["", "", ""],
    "keys of several types": [(Action("f", {"a": {1: 1, "b": 2}}), "-")] * 3,
}
PROGRESS: dict[str, list[Any]] = {
    "another observation": [(PRESS, f"line {n}") for n in range(9)],
    "a time stamp in it": [(PRESS, f"pending at 12:00:0{n}") for n in range(9)],
    "another input": [(Action("press", key), "ok") for key in (" ", "\n", "\t", "")],
    "something between": [(PRESS, "ok"), (READ, "nothing")] * 4,
    "another observation between": [(PRESS, "ok"), (PRESS, "ok"), (PRESS, "no"), (PRESS, "ok"), (PRESS, "ok")],
    "slips that differ": ["a", "b", "c"],
    "a mended slip between": [(PRESS, "ok"), (PRESS, "ok"), "hm", (PRESS, "ok"), (PRESS, "ok"), "hm"],
    "an action between slips": ["hm", "hm", (PRESS, "ok"), "hm", "hm"],
    "one turn that calls thrice": [(called(0, "a", "a", "a"), "-", "-", "-"), (called(3, "a", "a"), "-", "-")],
    "a call more": [(called(0, "a"), "-"), (called(1, "a", "b"), "-", "-"), (called(3, "a"), "-")],
    "calls that read on": [(called(n, "press", "read"), "ok", f"page {n}") for n in range(5)],
}


def taken(loop: ReActLoop, turn: Any) -> None:
    loop.next(0)
    if isinstance(turn, str):
        list(loop.replied(Turn(MalformedTurn("no"), text=turn)))
    else:
        actions, *observations = turn
        list(loop.replied(Turn(actions if isinstance(actions, tuple) else (actions,))))
        list(loop.observed([*map(Observation, observations)]))


@pytest.mark.parametrize("kept", [0, 1, 2, 9])
@pytest.mark.parametrize(
    ("turns", "stuck"),
    [(turns, stuck) for table, stuck in ((SAME, True), (PROGRESS, False)) for turns in table.values()],
    ids=[*SAME, *PROGRESS],
)
def test_stuck_is_the_same_in_a_row_with_nothing_else_between(turns: list[Any], stuck: bool, kept: int) -> None:
    """Also where the run goes on after steps that were taken before."""
    before = ReActLoop({"input": "?"}, limits=Limits(max_iterations=None, max_repeats=None))
    for turn in turns[:kept]:
        taken(before, turn)
    loop = ReActLoop({"input": "?"}, limits=Limits(max_iterations=None), steps=before.steps)
    for turn in turns[kept:]:
        taken(loop, turn)
    assert isinstance(loop.next(0), LimitReached) == stuck


def test_a_malformed_turn_becomes_an_observation() -> None:
    loop = ReActLoop({"input": "?"}, recover=lambda error: f"mend: {error}")
    loop.next(0)
    told = [Replied(Usage()), ParseError("hm", "mend: no action")]
    assert list(loop.replied(Turn(MalformedTurn("no action"), text="hm"))) == told
    assert loop.steps == [Step(Action("_Exception", "mend: no action", "hm"), "mend: no action")]


def test_a_model_is_never_told_the_same_twice_of_malformed_turns() -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(max_iterations=None, max_repeats=None))
    for number in range(6):
        assert isinstance(loop.next(0), ModelCall)
        list(loop.replied(Turn(MalformedTurn("no action"), text=f"hm {number}")))
    act(loop)
    loop.next(0)
    list(loop.replied(Turn(MalformedTurn("no action"), text="hm")))
    messages = [str(step.observation) for step in loop.steps if step.action.tool == "_Exception"]
    assert all(message.startswith("no action") for message in messages)
    assert len({*messages[:6]}) == 6
    assert messages[0] == messages[6] == "no action"


def test_a_malformed_turn_is_raised_when_nobody_recovers() -> None:
    loop = ReActLoop({"input": "?"}, recover=None)
    loop.next(0)
    with pytest.raises(MalformedTurn, match="no action") as caught:
        list(loop.replied(Turn(MalformedTurn("no action"), text="hm")))
    assert caught.value.text == "hm"


def test_return_direct_ends_with_the_observation() -> None:
    loop = ReActLoop({"input": "?"})
    loop.next(0)
    list(loop.replied(Turn((ADD,))))
    list(loop.observed([Observation("4", return_direct=True)]))
    end = finish(loop)
    assert (end.output, end.answered, end.summary.stop_reason) == ("4", True, "return_direct")


def test_an_answer_that_no_observation_gave_is_refused_where_grounding_is_asked_for() -> None:
    loop = ReActLoop({"input": "How old is Ada?"}, must_be_grounded=True)
    act(loop, Action("Search", "Ada age"), "Ada is 36 years old.")
    loop.next(0)
    list(loop.replied(Turn(FinalAnswer("Ada is 63."))))
    end = finish(loop)
    assert (end.answered, end.summary.stop_reason, end.summary.ungrounded) == (False, "not_grounded", ("63",))


@pytest.mark.parametrize(("observation", "strange"), [("Error: no network", ("sunny",)), ("Errands", ()), ("dry", ())])
def test_a_run_that_goes_on_from_errors_has_no_result_yet(observation: str, strange: tuple[str, ...]) -> None:
    loop = ReActLoop({"input": "Weather?"}, steps=[Step(Action("Search", "x"), observation)])
    loop.next(0)
    list(loop.replied(Turn(FinalAnswer("sunny"))))
    assert finish(loop).summary.ungrounded == strange


def test_trimmed_steps_keep_their_place() -> None:
    loop = ReActLoop({"input": "?"}, trim=lambda steps: steps[-1:])
    act(loop, Action("Search", "a")), act(loop, Action("Search", "b"))
    call = loop.next(0)
    assert isinstance(call, ModelCall)
    assert [step.action.tool_input for step in call.steps] == ["b"]


def test_a_model_that_gives_no_readable_turn_is_told_from_one_that_repeats_an_action() -> None:
    loop = ReActLoop({"input": "?"}, limits=Limits(max_repeats=2))
    for _ in range(2):
        loop.next(0)
        list(loop.replied(Turn(MalformedTurn("no action"), text="hm")))
    loop.next(0)
    loop.next(0)
    list(loop.replied(Turn(MalformedTurn("no action"), text="hm")))
    assert finish(loop).output == "Agent stopped because the model gave no readable turn 2 times in a row."
