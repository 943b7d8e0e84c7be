"""Runs that outgrow the context: what the model sees of them, what is told of it, and that all of it comes again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from agentkit import AgentExecutor
from agentkit.cassette import Cassette, RunSpec, resume
from agentkit.cassette.format.events import EventReader, as_mapping
from agentkit.cli.show import show
from agentkit.cli.view import View
from agentkit.core.mode import QUESTION as PROBE
from agentkit.core.mode import TOOL
from agentkit.core.run import Begun, Within
from agentkit.errors import ConfigurationError, ModelError
from agentkit.events import Compacted, Event, Finished, ModeFound, Replied, Usage
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import Completion
from agentkit.models.chat import BackendChat
from agentkit.react_json.scratchpad import DROPPED, is_summary
from agentkit.report.page import page
from agentkit.report.story import read_story
from agentkit.report.wording import compaction
from agentkit.runs.build import Runner, build
from agentkit.settings import RunSettings
from tests.doubles.long_runs import (
    CONTEXT,
    LOOK,
    QUESTION,
    ShortSighted,
    Traveller,
    count,
    is_for_notes,
    look,
    people,
    short_sighted,
    short_sighted_server,
)
from tests.doubles.models import Scripted, action
from tests.doubles.models import reply as called
from tests.doubles.server import ChatServer, Play, Request, error, reply, serving

INPUTS = {"input": QUESTION}
ANSWER = f"Town 1, with {people(1)} people"
MODES: list[Any] = ["react-json", "tools"]


def noted(steps: Sequence[Any]) -> str:
    return f"Towns {steps[0][0].tool_input} to {steps[-1][0].tool_input} were looked at."


WAYS: dict[str, dict[str, Any]] = {
    "drop": {},
    "summary": {"compaction": "summary"},
    "function": {"compaction": noted},
}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as started:
        yield started


def runner(backend: ShortSighted, **settings: Any) -> Runner:
    compaction = settings.pop("compaction", "drop")
    if callable(compaction):
        more: dict[str, Any] = {"compaction": compaction}
    else:
        more, settings = {}, settings | {"compaction": compaction}
    settings = {"model": "builtin", "tools": (), "max_iterations": 100, **settings}
    return build(RunSettings(**settings), model=BackendChat(backend), tools=[LOOK], **more)


def compactions(events: Sequence[Event]) -> list[Compacted]:
    return [event for event in events if isinstance(event, Compacted)]


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_60_steps_ends_with_an_answer_in_this_process(way: str, mode: Any) -> None:
    model = short_sighted(Traveller(native=mode == "tools"))
    events = list(runner(model, mode=mode, **WAYS[way]).events(INPUTS))
    check_run(events, way)
    assert max(model.sizes) <= CONTEXT - 512
    check_messages([prompt for prompt in model.prompts if not is_for_notes(prompt)], way)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_60_steps_ends_with_an_answer_on_a_server(server: ChatServer, way: str, mode: Any) -> None:
    server.choose = short_sighted_server(Traveller(native=mode == "tools"))
    executor = AgentExecutor.from_model(server.url, [LOOK], mode=mode, max_iterations=100, **WAYS[way])
    check_run(list(executor.events(INPUTS)), way)
    taken = [body["messages"] for body in server.bodies if count(body["messages"], body.get("tools") or ()) <= CONTEXT]
    check_messages([messages for messages in taken if not is_for_notes(messages)], way)


@pytest.mark.slow
@pytest.mark.parametrize("native", [True, False])
def test_a_refusal_for_the_length_says_nothing_of_how_the_model_calls(
    server: ChatServer, native: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    runs = short_sighted_server(Traveller(20, native=native))

    def choose(asked: Request) -> Play:
        if asked.body["messages"][-1]["content"] != PROBE:
            return runs(asked)
        return reply(called("", [(TOOL["function"]["name"], '{"city": "Lisbon"}')] if native else []))

    server.choose = choose
    executor = AgentExecutor.from_model(server.url, [LOOK], max_iterations=100, compaction="summary")
    events = list(executor.events(INPUTS))
    assert [event.mode for event in events if isinstance(event, ModeFound)] == ["tools" if native else "react-json"]
    assert events[-1].output == ANSWER
    assert compactions(events)


def check_run(events: Sequence[Event], way: str) -> None:
    """It has its answer and all its steps, whole; each of them that the model no longer saw is told once."""
    *_, end = events
    assert isinstance(end, Finished)
    assert (end.output, end.summary.ungrounded) == (ANSWER, ())
    assert [step.observation for step in end.steps] == [look(str(town)) for town in range(1, 61)]
    told = compactions(events)
    assert {(event.how, event.within_call, event.reason) for event in told} == {(way, way == "drop", "")}
    if way != "drop":
        assert [event.first for event in told] == [1, *(event.last + 1 for event in told[:-1])]
        assert 3 <= len(told) <= 12
    counted = [event.usage for event in events if isinstance(event, Replied | Compacted)]
    assert end.summary.usage == sum(counted, Usage())


def check_messages(prompts: Sequence[Sequence[Any]], way: str) -> None:
    """No result stands without its call; each prompt continues the one before, unless steps were summed up."""
    assert all(prompt[1]["content"] == QUESTION for prompt in prompts)
    changes = [now for before, now in pairwise(prompts) if now[: len(before)] != before]
    assert way == "drop" or all(is_summary(now[2]["content"]) for now in changes)
    assert way == "drop" or len(changes) <= 12
    for prompt in prompts:
        called: list[str] = []
        for message in prompt:
            called += [call["id"] for call in message.get("tool_calls") or ()]
            if message["role"] == "tool":
                assert message["tool_call_id"] == called.pop(0)
        assert not called


@pytest.mark.slow
async def test_an_awaited_run_is_the_same() -> None:
    models = [short_sighted(Traveller(towns=30)) for _ in range(2)]
    events = list(runner(models[0], compaction="summary").events(INPUTS))
    awaited = [event async for event in runner(models[1], compaction="summary").aevents(INPUTS)]
    assert compactions(events) == compactions(awaited) != []
    assert models[0].prompts == models[1].prompts


# -- recorded, and gone on with ----------------------------------------------------------------------------------------


def recorded(path: Path, way: str, towns: int = 20, **settings: Any) -> list[Event]:
    with Cassette(path, "record", run=RunSpec.of(INPUTS, RunSettings(**spec(way)))):
        return list(runner(short_sighted(Traveller(towns)), **WAYS[way], **settings).events(INPUTS))


def spec(way: str) -> dict[str, Any]:
    compaction = {"compaction": "summary"} if way == "summary" else {}
    return {"model": "builtin", "tools": (), "max_iterations": 100, **compaction}


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_replay_without_the_model_comes_to_the_same(way: str, tmp_path: Path) -> None:
    events = recorded(tmp_path / "run.yaml", way)
    played = short_sighted(Traveller(notes=lambda request: pytest.fail("a model was asked")), context=10**9)
    with Cassette(tmp_path / "run.yaml"):
        again = list(runner(played, **WAYS[way]).events(INPUTS))
    assert compactions(again) == compactions(events) != []
    assert again[-1] == replace(events[-1], summary=again[-1].summary)  # but for the time it took
    assert not played.prompts


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_replay_of_a_server_comes_to_the_same(server: ChatServer, way: str, tmp_path: Path) -> None:
    server.choose = short_sighted_server(Traveller(20))
    made = {
        "tools": [LOOK],
        "mode": "react-json",
        "max_iterations": 100,
        "cassette": tmp_path / "run.yaml",
        **WAYS[way],
    }
    events = list(AgentExecutor.from_model(server.url, **made).events(INPUTS))
    asked = len(server.bodies)
    again = list(AgentExecutor.from_model(server.url, **made).events(INPUTS))
    assert compactions(again) == compactions(events) != []
    assert len(server.bodies) == asked


@pytest.mark.slow
@pytest.mark.parametrize("broken", [False, True], ids=["the run", "a summary"])
def test_a_recording_that_was_cut_off_goes_on(broken: bool, tmp_path: Path) -> None:
    """After its first summary, or while that was written."""

    def stops(event: Event) -> bool:
        return isinstance(event, Compacted)

    def notes(request: Any) -> Any:
        return KeyboardInterrupt() if broken else f"Town 1 has {people(1)} people."

    first = short_sighted(Traveller(20, notes=notes))
    with (
        suppress(KeyboardInterrupt),
        Cassette(tmp_path / "run.yaml", "record", run=RunSpec.of(INPUTS, RunSettings(**spec("summary")))),
    ):
        for event in runner(first, compaction="summary").events(INPUTS):
            if stops(event):
                raise KeyboardInterrupt
    traveller = Traveller(20, seen=len(first.prompts) - 1)
    model = short_sighted(traveller)
    went_on = list(
        resume(tmp_path / "run.yaml", build=lambda settings, prompt: runner(model, compaction="summary")).events()
    )
    whole = list(runner(short_sighted(Traveller(20)), compaction="summary").events(INPUTS))
    assert compactions(went_on) == compactions(whole) != []
    assert went_on[-1].steps == whole[-1].steps


@pytest.mark.slow
def test_a_run_that_goes_on_from_its_events_shows_the_model_the_same() -> None:
    """In the same process or another: what happened is what its events add up to."""
    for way in ("summary", "function"):
        model = short_sighted(Traveller(20))
        events = list(runner(model, **WAYS[way]).events(INPUTS))
        for place, event in enumerate(events):
            if isinstance(event, Compacted):
                after = short_sighted(Traveller(20, seen=20))
                begun = Begun(events=[read_again(one) for one in events[: place + 1]])
                list(runner(after, **WAYS[way]).joined(Within(begun=begun)).events(INPUTS))
                assert after.prompts[0] in model.prompts
                assert is_summary(after.prompts[0][2]["content"])


def read_again(event: Event) -> Event:
    """As it comes out of a store."""
    if not isinstance(event, Compacted):
        return event
    return EventReader({}, ()).read({**as_mapping(event), "run": 1}).event


def test_a_recording_of_before_there_was_such_an_event_replays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tell = Cassette.event
    with monkeypatch.context() as earlier:
        earlier.setattr(Cassette, "event", lambda self, one: None if isinstance(one, Compacted) else tell(self, one))
        events = recorded(tmp_path / "run.yaml", "drop", towns=14)
    assert "compacted" not in (tmp_path / "run.yaml").read_text()
    with Cassette(tmp_path / "run.yaml"):
        again = list(runner(short_sighted(Traveller(14))).events(INPUTS))
    assert compactions(again) == compactions(events) != []


# -- what may go wrong -------------------------------------------------------------------------------------------------


def many_towns(notes: Any, towns: int = 9, **settings: Any) -> tuple[ShortSighted, list[Event]]:
    """A short run that outgrows its context once; `notes` are given for a summary."""
    model = short_sighted(Traveller(towns, notes=notes), context=2048)
    return model, list(runner(model, **{"compaction": "summary", **settings}).events(INPUTS))


BROKEN = "the model could not be asked to sum up: it is down"
FAILING: dict[str, tuple[Any, str]] = {
    "nothing": ("", "the model wrote no notes"),
    "a turn": ("Thought: on\nAction:\n```json\n{}\n```\nObservation: 5", ""),
    "an action": ("Action:\n```json\n{}\n```", "the model wrote a turn instead of notes"),
    "what stands nowhere": ("We found Oslo, and 700000 people.", "the notes say what stands in no step: Oslo, 700000"),
    "an error": (ModelError("it is down"), BROKEN),
    "much too much": ("\n".join(f"The harbour is {'very ' * n}old." for n in range(99)), ""),
    "the same again and again": ("Town 1 is first. " * 400, ""),
}


@pytest.mark.parametrize("name", FAILING)
def test_a_summary_that_is_none_drops_observations_and_says_so(name: str) -> None:
    said, reason = FAILING[name]
    model, events = many_towns(lambda request: said)
    assert events[-1].output == ANSWER
    told = compactions(events)
    assert {(event.how, event.reason) for event in told} == {("drop" if reason else "summary", reason)}
    assert len(told) <= 6
    assert [event.first for event in told] == [1, *(event.last + 1 for event in told[:-1])]
    assert all(len(event.text) < 2_500 for event in told)
    if reason:
        assert any(DROPPED in message["content"] for message in model.prompts[-1])
    assert "Observation:" not in "".join(
        message["content"] for message in model.prompts[-1] if is_summary(message["content"])
    )


def test_what_a_failing_summary_used_is_counted() -> None:
    _, events = many_towns(lambda request: Completion("", Usage(0, 33)))
    end, told = events[-1], compactions(events)
    assert {event.usage.completion_tokens for event in told} == {33}
    assert end.summary.usage == sum((one.usage for one in events if isinstance(one, Replied | Compacted)), Usage())
    assert end.summary.model_calls == 10


def test_a_budget_of_tokens_ends_the_run_behind_a_summary() -> None:
    _, events = many_towns(lambda request: Completion("Town 1 was seen.", Usage(0, 50_000)), max_tokens=40_000)
    kinds = [type(event).__name__ for event in events[-3:]]
    assert kinds == ["Compacted", "LimitReached", "Finished"]
    assert events[-1].summary.stop_reason == "max_tokens"


def test_the_time_of_a_summary_is_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("agentkit.core.run.time.monotonic", lambda: now[0])

    def slow(request: Any) -> str:
        now[0] += 100
        return "Town 1 was seen."

    _, events = many_towns(slow, timeout=50)
    assert [type(event).__name__ for event in events[-3:]] == ["Compacted", "LimitReached", "Finished"]
    assert events[-1].summary.stop_reason == "max_execution_time"


def test_a_system_prompt_longer_than_the_context_is_an_error() -> None:
    tools = [replace(LOOK, description="Tells much. " * 400)]
    model = BackendChat(short_sighted(Traveller(3), context=300))
    settings = RunSettings(model="builtin", tools=(), compaction="summary")
    with pytest.raises(ConfigurationError, match="leaves too little of the 300 that the model reads"):
        list(build(settings, model=model, tools=tools).events(INPUTS))


def test_one_observation_longer_than_the_context_is_cut_where_it_is_sent() -> None:
    long = replace(LOOK, run=lambda town: look(town) + "x " * 6_000)
    for way in WAYS:
        model = short_sighted(Traveller(4), context=2048)
        settings = RunSettings(model="builtin", tools=(), compaction="summary" if way == "summary" else "drop")
        function = noted if way == "function" else None
        events = list(build(settings, model=BackendChat(model), tools=[long], compaction=function).events(INPUTS))
        assert events[-1].output == ANSWER
        assert max(model.sizes) <= 2048 - 512
        assert any(event.within_call and "characters" in event.text for event in compactions(events))


@pytest.mark.slow
def test_what_steps_are_not_to_blame_for_is_dropped_where_it_is_sent() -> None:
    """A history that leaves no room for notes: to sum up each step at once would help nobody."""
    history = [("human", "Tell me of the harbours."), ("ai", look("7") * 20)]
    model = short_sighted(Traveller(12))
    events = list(runner(model, compaction="summary").events({**INPUTS, "chat_history": history}))
    assert events[-1].output == ANSWER
    assert {event.within_call for event in compactions(events)} == {True}
    assert max(model.sizes) <= CONTEXT - 512


@pytest.mark.parametrize("at_once", [2, 3, 5])
def test_calls_of_one_turn_stay_together(at_once: int) -> None:
    model = short_sighted(Traveller(30, at_once=at_once, native=True))
    events = list(runner(model, mode="tools", compaction="summary").events(INPUTS))
    assert events[-1].output == ANSWER
    assert all(event.last % at_once == 0 for event in compactions(events) if not event.within_call)
    check_messages([prompt for prompt in model.prompts if not is_for_notes(prompt)], "drop")


def test_malformed_turns_and_repetitions_count_as_before() -> None:
    """The stuck guard looks at the steps, not at what the model sees of them."""
    model = short_sighted(Traveller(0), context=2048)
    model.replies = lambda request: "Town 1." if is_for_notes(request.messages) else action("look", "1")
    events = list(runner(model, compaction="summary", max_repeats=12).events(INPUTS))
    assert len(compactions(events)) >= 1
    assert events[-1].summary.stop_reason == "stuck"
    assert len(events[-1].steps) == 12


def test_a_function_gets_langchains_steps_and_may_decline() -> None:
    seen: list[Any] = []

    def first_words(steps: list[Any]) -> str:
        seen.append(steps)
        return "" if len(seen) == 1 else "Towns were looked at."

    model = short_sighted(Traveller(20))
    executor = AgentExecutor.from_model(ChatHuggingFace(llm=model), [LOOK], max_iterations=30, compaction=first_words)
    told = compactions(list(executor.events(INPUTS)))
    assert [(event.how, event.reason) for event in told[:2]] == [
        ("drop", "the function gave nothing"),
        ("function", ""),
    ]
    assert [type(action).__name__ for action, _ in seen[0]] == ["AgentAction"] * len(seen[0])


@pytest.mark.parametrize(
    ("compaction", "said"),
    [
        (lambda steps: 7, "compaction: expected the function to return text, saw 7"),
        ("sum", "compaction is drop or summary, not 'sum'; did you mean 'summary'?"),
        (asyncio.sleep, "compaction: expected a plain function, saw an async one; take a plain one"),
    ],
)
def test_what_compaction_cannot_be(compaction: Any, said: str) -> None:
    model = ChatHuggingFace(llm=short_sighted(Traveller(20)))
    with pytest.raises(ConfigurationError) as raised:
        list(AgentExecutor.from_model(model, [LOOK], max_iterations=30, compaction=compaction).events(INPUTS))
    assert str(raised.value) == said


def both_too_long(prompt: int, reply: int) -> str:
    asked = f"you requested {prompt + reply} tokens ({prompt} in the messages, {reply} in the completion)"
    return f"This model's maximum context length is {CONTEXT} tokens. However, {asked}."


@pytest.mark.slow
@pytest.mark.parametrize(
    "says",
    [
        lambda prompt, reply: "The prompt is too long." if prompt > CONTEXT else "",
        lambda prompt, reply: both_too_long(prompt, reply) if prompt + reply > CONTEXT else "",
    ],
    ids=["without a number", "prompt and reply together"],
)
def test_servers_refuse_in_other_words(server: ChatServer, says: Any) -> None:
    plays = short_sighted_server(Traveller(25), context=10**9)

    def choose(asked: Request) -> Play:
        said = says(count(asked.body["messages"]), asked.body["max_tokens"])
        return error(400, said) if said else plays(asked)

    server.choose = choose
    executor = AgentExecutor.from_model(server.url, [LOOK], mode="react-json", max_iterations=30, compaction="summary")
    events = list(executor.events(INPUTS))
    assert events[-1].output == ANSWER
    assert {(event.how, event.reason) for event in compactions(events)} == {("summary", "")}
    assert len(server.bodies) <= 36


def test_a_server_that_takes_no_prompt_at_all_is_an_error(server: ChatServer) -> None:
    server.choose = lambda asked: error(400, "The prompt is too long.")
    executor = AgentExecutor.from_model(server.url, [LOOK], mode="react-json", compaction="summary")
    with pytest.raises(ModelError, match="The prompt is too long"):
        list(executor.events(INPUTS))
    assert len(server.bodies) <= 2


class Refusing(Scripted):
    """A model of another provider, as its client has it: it refuses what is long, and counts nothing."""

    traveller: Any
    context: int = CONTEXT

    def reply(self, request: Any) -> Any:
        if count(request.messages) > self.context:
            refusal = RuntimeError(f"This model's maximum context length is {self.context} tokens.")
            refusal.status_code, refusal.code = 400, "context_length_exceeded"  # type: ignore[attr-defined]
            raise refusal
        return self.traveller(request)


@pytest.mark.slow
def test_a_model_of_another_provider_that_refuses_for_the_length(tmp_path: Path) -> None:
    def executor(**options: Any) -> AgentExecutor:
        model = Refusing(turns=[], traveller=Traveller(20), **options)
        file = tmp_path / "run.yaml"
        return AgentExecutor.from_model(model, [LOOK], max_iterations=30, compaction="summary", cassette=file)

    events = list(executor().events(INPUTS))
    assert events[-1].output == ANSWER
    assert {event.how for event in compactions(events)} == {"summary"}
    assert compactions(list(executor(context=10**9).events(INPUTS))) == compactions(events)


def test_an_agent_of_langchains_writes_its_own_prompt() -> None:
    with pytest.raises(ConfigurationError, match="compaction: a RunnableLambda writes its own prompt"):
        AgentExecutor(RunnableLambda(lambda given: None), [LOOK], compaction="summary")


def test_a_text_scratchpad_holds_the_notes_too() -> None:
    model = short_sighted(Traveller(20))
    events = list(runner(model, prompt="react-json-text", compaction="summary").events(INPUTS))
    assert events[-1].output == ANSWER
    (prompt,) = [one["content"] for one in model.prompts[-1] if one["role"] == "user"]
    assert prompt.startswith(f"{QUESTION}\n\nI look at my notes.\nObservation: Notes on the first ")
    assert prompt.endswith("\nThought: ")


# -- shown -------------------------------------------------------------------------------------------------------------


def test_it_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = recorded(tmp_path / "run.yaml", "summary", towns=14)
    (told,) = compactions(events)
    line = f"Notes on steps 1 to {told.last}, instead of them: Town 1 has {people(1)} people."
    View().show(iter(events), model="m")
    assert line in capsys.readouterr().err
    (run,) = read_story(tmp_path / "run.yaml").runs
    assert [bool(step.compactions) for step in run.steps].count(True) == 1
    assert len(run.steps) == 15
    assert run.usage == events[-1].summary.usage
    assert line in page(read_story(tmp_path / "run.yaml"))
    show.main([str(tmp_path / "run.yaml")], standalone_mode=False)
    assert line in capsys.readouterr().out


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Compacted("drop", 1, 8, "8 observations", within_call=True), "Left out to fit the context: 8 observations"),
        (Compacted("drop", 3, 3), "Left out to fit the context: the observations of step 3"),
        (
            Compacted("drop", 1, 4, reason="the model wrote no notes"),
            "Left out to fit the context: the observations of steps 1 to 4 (the model wrote no notes)",
        ),
        (Compacted("function", 1, 2, "Two."), "Notes on steps 1 to 2, instead of them: Two."),
    ],
)
def test_how_it_is_worded(event: Compacted, line: str) -> None:
    assert compaction(event) == line
    assert read_again(event) == event


def test_what_a_log_and_an_event_say_is_shown_once(server: ChatServer, capsys: pytest.CaptureFixture[str]) -> None:
    server.choose = short_sighted_server(Traveller(12))
    executor = AgentExecutor.from_model(server.url, [LOOK], mode="react-json")
    View().show(executor.events(INPUTS), model="m")
    shown = capsys.readouterr().err
    assert "Left out to fit the context: " in shown
    assert "reads no prompt as long as this" not in shown
