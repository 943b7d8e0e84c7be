"""What `agentkit show` says of a run is what the run decided: the same as `agentkit run --json` printed at the time."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentExecutor
from agentkit.cassette import Cassette, Replay, RunSpec, fork, resume
from agentkit.cassette.format.file import load
from agentkit.cli.show import show
from agentkit.cli.view import View
from agentkit.errors import AgentkitError
from agentkit.events import Event, Finished, Replied, RunStarted, Source, Token, Usage
from agentkit.models.backend import Capabilities, Completion, NativeCall
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.report.story import StoryRun, read_story
from agentkit.runs.build import build
from agentkit.settings import RunSettings
from agentkit.tool import Result, Tool
from tests.cassette.runs import without_times
from tests.doubles.models import action, final

CANNOT = "I cannot do that."
CAPABILITIES = Capabilities(in_process=True, over_http=False, tools=True, refusals=frozenset({CANNOT}))
QUESTION = "Who is 25, and what is 5 times that?"
LONG = "Ada is 25, as her page says. " * 8


def cut_off(text: str) -> Completion:
    return Completion(text, Usage(10, 5), "length")


def calls(*inputs: str, text: str = "") -> Completion:
    called = (NativeCall(f"call_{place:04}", "Search", json.dumps({"input": one})) for place, one in enumerate(inputs))
    return Completion(text, Usage(10, 5), "tool_calls", tool_calls=tuple(called))


def tools(**options: Any) -> list[Tool]:
    def search(query: str) -> Result:
        return Result(LONG if query != "short" else "short", (Source("Ada's page", "https://example.org/ada"),))

    def calculate(expression: str) -> Result:
        return Result("Answer: 125", readings=(expression.replace("*", " × "),))

    return [
        Tool(name="Search", description="Finds.", run=search, **options),
        Tool(name="Calculator", description="Calculates.", run=calculate),
    ]


SEARCH, CALCULATE = action("Search", "who is 25", "I look it up."), action("Calculator", "25*5", "Five times.")
TALK = "I would say 125, which is five times what Ada's page gives as her age, and nobody doubts that."

RUNS: dict[str, tuple[Sequence[Any], dict[str, Any]]] = {
    "an answer": ([SEARCH, CALCULATE, final("Ada, and 125")], {}),
    "thinking": (["<think>whom to ask</think>" + SEARCH, final("Ada, and 125")], {}),
    "a turn that is none": ([TALK, SEARCH, final("Ada, and 125")], {}),
    "a last turn that is none": ([SEARCH, TALK], {"max_iterations": 2}),
    "an answer that was cut off": ([SEARCH, cut_off("Thought: I know\nFinal Answer: Ada, and 12"), final("125")], {}),
    "an answer cut off at the last turn": ([SEARCH, cut_off(final("Ada, and 12"))], {"max_iterations": 2}),
    "two actions at once": ([SEARCH + "\n" + CALCULATE, final("125")], {}),
    "an invented observation": ([SEARCH + "\nObservation: Bob is 52.", final("Ada")], {}),
    "an unknown tool": ([action("Fly", "home"), final("125")], {}),
    "a tool's own answer": ([SEARCH], {"return_direct": True}),
    "stuck": ([SEARCH, SEARCH, SEARCH, final("Ada, perhaps")], {}),
    "stuck, without an answer": ([SEARCH, SEARCH, SEARCH, SEARCH], {}),
    "a limit": ([SEARCH, CALCULATE], {"max_iterations": 1}),
    "a limit and a closing turn": (
        [SEARCH, final("Ada")],
        {"max_iterations": 1, "early_stopping_method": "generate"},
    ),
    "a closing turn without an answer": (
        [SEARCH, TALK],
        {"max_iterations": 1, "early_stopping_method": "generate"},
    ),
    "a budget": ([SEARCH, CALCULATE], {"max_tokens": 10}),
    "nothing to confirm it": ([SEARCH, final("Bob, and 4711")], {}),
    "not grounded": ([SEARCH, final("Bob, and 4711")], {"must_be_grounded": True}),
    "an answer that is none": ([SEARCH, final(CANNOT)], {}),
    "several calls in a turn": ([calls("who", "short", text=LONG), "Ada."], {"mode": "tools"}),
    "a call that was cut off": ([cut_off("I look"), calls("who"), "Ada."], {"mode": "tools"}),
    "an empty turn": ([calls("who"), cut_off(""), "Ada."], {"mode": "tools"}),
}


def recorded(path: Path, turns: Sequence[Any], *, cassette_mode: Any = "record", **options: Any) -> list[Event]:
    """A run's events, of one that is recorded."""
    direct = {"return_direct": True} if options.pop("return_direct", False) else {}
    executor = AgentExecutor.from_model(
        ScriptedBackend(turns, capabilities=CAPABILITIES), tools(**direct), **{"mode": "react-json", **options}
    )
    run = RunSpec.of({"input": QUESTION}, model="local:ORG/MODEL")
    events: list[Event] = []
    with suppress(KeyboardInterrupt), Cassette(path, cassette_mode, run=run, environment={}):
        for event in executor.events({"input": QUESTION}):
            events.append(event)
    return events


def printed(capsys: pytest.CaptureFixture[str]) -> Any:
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("name", RUNS)
def test_it_shows_what_the_run_printed(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns, options = RUNS[name]
    path = tmp_path / "run.yaml"
    events = recorded(path, turns, **options)
    View(as_json=True, quiet=True).show(events, model="local:ORG/MODEL")
    result = printed(capsys)
    show([str(path), "--json"], standalone_mode=False)
    shown = printed(capsys)
    assert {name: shown[name] for name in result} == result
    (run,) = shown["runs"]
    assert (run["output"], run["stop_reason"], run["usage"]) == (
        result["output"],
        result["stop_reason"],
        result["usage"],
    )


@pytest.mark.parametrize("name", RUNS)
def test_events_come_back_as_they_were(name: str, tmp_path: Path) -> None:
    turns, options = RUNS[name]
    came = recorded(tmp_path / "run.yaml", turns, **options)
    events = [event for event in came if not isinstance(event, Token | Replied)]
    document = load(tmp_path / "run.yaml")
    *read, end = [one.event for one in document.events]
    assert read == events[:-1]
    assert isinstance(end, Finished)
    assert without_times([end]) == without_times(events[-1:])
    assert document.changed_runs == []


@pytest.mark.parametrize("name", RUNS)
def test_they_come_again_in_a_replay(name: str, tmp_path: Path) -> None:
    turns, options = RUNS[name]
    events = recorded(tmp_path / "run.yaml", turns, **options)
    replayed = recorded(tmp_path / "run.yaml", (), cassette_mode="replay", **options)
    assert without_times(replayed) == without_times(events)


def test_a_replay_that_loads_no_model_declines_as_the_run_did(tmp_path: Path) -> None:
    inputs, settings = {"input": QUESTION}, RunSettings(model="builtin")
    model = BackendChat(ScriptedBackend([final(CANNOT)], capabilities=CAPABILITIES))
    runner = build(settings, model=model)
    with Cassette(
        tmp_path / "run.yaml", "record", run=RunSpec.of(inputs, runner.settings, text=runner.prompt), environment={}
    ):
        events = list(runner.events(inputs))
    replayed = [*Replay(tmp_path / "run.yaml").events()]
    assert without_times(replayed[-1:]) == without_times(events[-1:])
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.answered, end.summary.stop_reason) == (False, "declined")


def the_run(path: Path) -> StoryRun:
    (run,) = read_story(path).runs
    return run


def test_a_turn_that_was_refused_is_no_answer(tmp_path: Path) -> None:
    recorded(tmp_path / "run.yaml", *RUNS["an answer cut off at the last turn"][:1], max_iterations=2)
    run = the_run(tmp_path / "run.yaml")
    assert (run.answered, run.stop_reason) == (False, "max_iterations")
    assert run.steps[-1].answer is None
    assert "the answer was cut off at" in str(run.steps[-1].rejection)
    assert run.steps[-1].text == final("Ada, and 12")


def test_a_closing_turn_that_came_to_nothing_is_there(tmp_path: Path) -> None:
    recorded(tmp_path / "run.yaml", [SEARCH, TALK], max_iterations=1, early_stopping_method="generate")
    last = the_run(tmp_path / "run.yaml").steps[-1]
    assert (last.text, last.came_to_nothing, last.broken_off) == (TALK, True, False)


def test_an_interrupted_run_shows_what_was_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = recorded(tmp_path / "run.yaml", [TALK, SEARCH, KeyboardInterrupt()])
    assert isinstance(events[0], RunStarted)
    show([str(tmp_path / "run.partial.yaml"), "--json"], standalone_mode=False)
    shown = printed(capsys)
    assert (shown["output"], shown["stop_reason"], shown["complete"]) == (None, None, False)
    assert [(step["tool"], step["thought"]) for step in shown["steps"]] == [(None, ""), ("Search", "I look it up.")]
    assert shown["steps"][1]["observation"] == LONG


def test_a_fork_shows_the_steps_that_it_kept_as_it_printed_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    question = {"input": "What is 25 * 5, less 5?"}
    turns = (action("Calculator", "25*5", "First a product."), TALK, action("Calculator", "125-5"), final("120"))

    def build(settings: Any, prompt: Any) -> AgentExecutor:
        model = ScriptedBackend((action("Calculator", "1+1", "Something else."), final("2")))
        return AgentExecutor.from_model(model, ["calculator"], mode="react-json")

    path, into = tmp_path / "run.yaml", tmp_path / "fork.yaml"
    spec = RunSpec.of(question, model="local:ORG/MODEL", tools=("calculator",), mode="react-json")
    with Cassette(path, "record", run=spec, environment={}):
        list(AgentExecutor.from_model(ScriptedBackend(turns), ["calculator"], mode="react-json").events(question))
    forked = fork(path, into, step=2, build=build, environment={})
    View(as_json=True, quiet=True).show(forked.events(), model="local:ORG/MODEL")
    result = printed(capsys)
    show([str(into), "--json"], standalone_mode=False)
    shown = printed(capsys)
    assert {name: shown[name] for name in result} == result
    assert [step["thought"] for step in shown["steps"]] == ["First a product.", "", "Something else."]


def test_a_fork_of_a_fork_keeps_the_steps_of_both(tmp_path: Path) -> None:
    question = {"input": "What is 25 * 5, less 5?"}

    def live(*turns: str) -> Any:
        return lambda *_: AgentExecutor.from_model(ScriptedBackend(turns), ["calculator"], mode="react-json")

    spec = RunSpec.of(question, model="local:ORG/MODEL", tools=("calculator",), mode="react-json")
    with Cassette(tmp_path / "run.yaml", "record", run=spec, environment={}):
        list(live(action("Calculator", "1+1"), action("Calculator", "2+2"), final("4"))().events(question))
    second = fork(
        tmp_path / "run.yaml",
        tmp_path / "second.yaml",
        step=1,
        build=live(action("Calculator", "3+3"), final("6")),
        environment={},
    )
    list(second.events())
    for step, kept in ((1, ["1+1"]), (2, ["1+1", "3+3"])):
        third = fork(tmp_path / "second.yaml", tmp_path / "third.yaml", step=step, environment={})
        assert [one["tool_input"] for one in third.run.steps] == kept


def test_what_was_called_together_is_known_after_a_fork_and_a_resume(tmp_path: Path) -> None:
    """Two calls at once, again and again: the third turn is the one at which nothing moves, whoever took the first."""
    together = tuple(NativeCall(f"call0000{n}", "Calculator", f'{{"input": "{n}+{n}"}}') for n in (1, 2))
    capabilities = Capabilities(in_process=True, over_http=False, tools=True)
    question = {"input": "What is 1 + 1, and 2 + 2?"}

    def live(turns: int) -> Any:
        script = [Completion("", tool_calls=together, finish_reason="tool_calls")] * turns
        model = ScriptedBackend(script, capabilities=capabilities)
        return lambda *_: AgentExecutor.from_model(model, ["calculator"], mode="tools")

    def ending(events: Iterable[Event]) -> tuple[str, int]:
        last = [*events][-1]
        assert isinstance(last, Finished)
        return last.summary.stop_reason, len(last.steps)

    path, into = tmp_path / "run.yaml", tmp_path / "fork.yaml"
    spec = RunSpec.of(question, model="local:ORG/MODEL", tools=("calculator",), mode="tools")
    with Cassette(path, "record", run=spec, environment={}), suppress(AgentkitError):
        list(live(2)().events(question))  # broken off where the script ends
    assert ending(fork(path, into, step=2, build=live(2), environment={}).events()) == ("stuck", 6)
    assert ending(Replay(into, environment={}).events()) == ("stuck", 6)
    assert ending(resume(path, build=live(2), environment={}).events()) == ("stuck", 6)
    assert ending(Replay(path, environment={}).events()) == ("stuck", 6)


@pytest.mark.parametrize("in_process", [True, False])
@pytest.mark.parametrize("broken_off", [1, 2, 3])
def test_a_resumed_run_shows_a_model_what_the_whole_run_showed_it(
    broken_off: int, in_process: bool, tmp_path: Path
) -> None:
    """Its thoughts of earlier turns, where it computes in this process; those of a server are none of its messages."""
    thoughts = ["two at once,\nI think\n", "  then <tool_call> one", "", "done"]
    calls = [
        tuple(NativeCall(f"call0000{n}", "Calculator", json.dumps({"input": f"{n}+{turn}"})) for n in range(count))
        for turn, count in enumerate((2, 1, 1))
    ]
    script = [
        Completion(f"Turn {number}.", thinking=thought, tool_calls=called, finish_reason="tool_calls")
        for number, (thought, called) in enumerate(zip(thoughts[:3], calls, strict=True))
    ]
    script.append(Completion("132", thinking=thoughts[3]))
    capabilities = Capabilities(in_process=in_process, over_http=False, tools=True)
    question = {"input": "What is it?"}

    def live(replies: list[Completion]) -> tuple[ScriptedBackend, AgentExecutor]:
        model = ScriptedBackend(replies, capabilities=capabilities)
        return model, AgentExecutor.from_model(model, ["calculator"], mode="tools")

    whole, executor = live(script)
    list(executor.events(question))
    path = tmp_path / "run.yaml"
    spec = RunSpec.of(question, model="local:ORG/MODEL", tools=("calculator",), mode="tools")
    with Cassette(path, "record", run=spec, environment={}), suppress(AgentkitError):
        list(live(script[:broken_off])[1].events(question))
    rest, going_on = live(script[broken_off:])
    *_, last = resume(path, build=lambda *_: going_on, environment={}).events()
    assert isinstance(last, Finished)
    assert (last.summary.stop_reason, last.output) == ("answer", "132")
    asked = [request.messages for request in whole.requests]
    assert [request.messages for request in rest.requests] == asked[broken_off:]
    shown = [message["reasoning_content"] for message in asked[-1] if "reasoning_content" in message]
    assert shown == (thoughts[:2] if in_process else [])
    *_, replayed = Replay(path, environment={}).events()
    assert isinstance(replayed, Finished)
    assert replayed.output == "132"
