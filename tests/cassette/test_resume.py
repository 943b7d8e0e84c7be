"""A run that was cut off goes on where it was: what it did is played, not done again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.exceptions import OutputParserException

from agentkit.cassette import Cassette, Replay, RunSpec, fork, resume
from agentkit.cassette.format.file import load, partial_of
from agentkit.core.loop import Limits
from agentkit.errors import CassetteDrift, CassetteError, ConfigurationError, ModelError
from agentkit.events import Action, ActionChosen, Event, Finished, LimitReached, Observed, ParseError
from agentkit.langchain.chat_model import chat_model
from agentkit.langchain.executor import AgentExecutor
from agentkit.models import ChatHuggingFace
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.number_words import count
from agentkit.react_json.prompt import Prompt
from agentkit.runs.build import build as build_runner
from agentkit.settings import RunSettings
from agentkit.tool import Tool
from agentkit.toolbox.toolbox import Toolbox
from tests.cassette.runs import TURNS, ScriptedModel, Tools, a_run, answer, observations, run
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, body, breaks, error, reset, say, serving

ENTRIES = ["turn", "tool", "turn", "tool", "turn"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def cut(path: Path, length: int) -> None:
    """As a process leaves it that dies at this place of the file."""
    partial = path.with_name("run.partial.yaml")
    partial.write_bytes(path.read_bytes()[:length])
    path.unlink()


def entry_ends(path: Path) -> list[int]:
    text = path.read_bytes()
    ends = [text.index(b"interactions:\n") + len(b"interactions:\n")]
    while (place := text.find(b"\n  at_ms: ", ends[-1])) >= 0:
        ends.append(text.index(b"\n", place + 1) + 1)
    return ends


@pytest.mark.parametrize(
    ("done", "torn"), [(done, torn) for done in range(6) for torn in (0, 7, -3) if done or torn >= 0]
)
def test_a_run_cut_off_anywhere_goes_on_there(path: Path, done: int, torn: int) -> None:
    recorded = run(path, "record", ScriptedBackend(TURNS), Tools())
    whole = load(path)
    length = entry_ends(path)[done] + torn
    cut(path, length)
    kept = max(0, done - (torn < 0))
    asked = ENTRIES[:kept].count("turn")
    tools = Tools()
    model = ScriptedBackend(TURNS[asked:])
    resumed = run(path, "resume", model, tools)
    assert answer(resumed) == answer(recorded)
    assert observations(resumed) == observations(recorded)
    assert len(model.requests) == 3 - asked
    assert tools.executed.count("Search who is 25") == (kept < 2)
    assert [entry.kind for entry in load(path).entries] == ENTRIES
    assert [entry.body for entry in load(path).entries] == [entry.body for entry in whole.entries]
    assert load(path).complete
    assert list(path.parent.iterdir()) == [path]
    assert answer(run(path, "replay", ScriptedBackend(()), Tools())) == "125"


SEEN = [("x", "1"), ("x", "2"), ("y", "1"), ("What was that?", None), ("And that?", None)]


@pytest.mark.slow
@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    turns=st.lists(
        st.sampled_from(SEEN).flatmap(lambda one: st.lists(st.just(one), min_size=1, max_size=3)), max_size=5
    ),
    repeats=st.integers(1, 3),
    done=st.integers(1, 30),
)
def test_a_run_cut_off_anywhere_is_stuck_where_it_would_have_been(
    turns: list[list[tuple[str, str | None]]], repeats: int, done: int
) -> None:
    steps = [one for same in turns for one in same]
    stuck = next((end for end in range(repeats, len(steps) + 1) if len({*steps[end - repeats : end]}) == 1), None)
    replies = [text if seen is None else action("Look", text) for text, seen in steps[:stuck]] + [final("done")]
    results = [seen for _, seen in steps[:stuck] if seen is not None]

    def ran(path: Path, mode: Any, asked: int = 0, looked: int = 0) -> list[Event]:
        left = iter(results[looked:])  # what closed the run is asked for again
        look = Tool(name="Look", description="Looks.", run=lambda _: next(left))
        limits = Limits(max_iterations=None, max_repeats=repeats)
        return run(path, mode, ScriptedBackend(replies[asked:] or replies[-1:]), [look], limits=limits)

    with TemporaryDirectory() as folder:
        path = Path(folder, "run.yaml")
        whole = ran(path, "record")
        ends, kinds = entry_ends(path), [entry.kind for entry in load(path).entries]
        done = min(done, len(kinds))
        cut(path, ends[done])
        resumed = ran(path, "resume", kinds[:done].count("turn"), kinds[:done].count("tool"))
    assert told(resumed) == told(whole)
    assert [event.reason for event in resumed if isinstance(event, LimitReached)] == ["stuck"] * (stuck is not None)


@pytest.mark.parametrize("kind", [ScriptedBackend, ScriptedModel])
def test_each_entry_is_on_the_disk_before_the_run_goes_on(path: Path, kind: Any) -> None:
    seen: list[list[str]] = []
    partial = path.with_name("run.partial.yaml")

    def look(query: str) -> str:
        seen.append([entry.kind for entry in load(partial).entries])
        return "Ada is 25."

    tools = [Tool(name="Search", description="Finds.", run=look), Tool(name="Calculator", description="", run=look)]
    run(path, "record", kind(TURNS), tools)
    assert seen == [["turn"], ["turn", "tool", "turn"]]


def test_a_run_that_drifts_while_it_is_resumed_keeps_what_there_was(path: Path) -> None:
    run(path, "record", ScriptedBackend(TURNS), Tools())
    cut(path, entry_ends(path)[3])
    before = load(path.with_name("run.partial.yaml")).entries
    with pytest.raises(CassetteDrift, match="step 1: messages"):
        run(path, "resume", ScriptedBackend(TURNS), Tools(), question="Another question?")
    assert load(path.with_name("run.partial.yaml")).entries == before
    assert not path.exists()


@pytest.mark.parametrize("method", ["force", "generate"])
def test_a_run_that_ended_at_a_limit_goes_on_with_another(path: Path, method: Any) -> None:
    def limited(mode: Any, model: Any, iterations: int) -> list[Event]:
        limits = Limits(max_iterations=iterations, early_stopping_method=method)
        with Cassette(path, mode, environment={}):
            return list(a_run(model, Tools(), limits=limits).events())

    closing = (final("about 125"),) if method == "generate" else ()
    first = limited("record", ScriptedBackend((*TURNS[:2], *closing)), 2)
    assert any(isinstance(event, LimitReached) for event in first)
    model = ScriptedBackend(TURNS[2:])
    assert answer(limited("resume", model, 8)) == "125"
    assert len(model.requests) == 1
    assert answer(limited("replay", ScriptedBackend(()), 8)) == "125"


# -- tools that must not run twice -------------------------------------------------------------------------------------


def mail(sent: list[str], **options: Any) -> list[Tool]:
    def send(text: str) -> str:
        sent.append(text)
        if sent == ["hello"] * (len(sent) - 1) + ["die"]:
            raise KeyboardInterrupt
        return "sent"

    return [Tool(name="Mail", description="Sends.", run=send, side_effects=True, **options)]


def died_in_the_mail(path: Path, **options: Any) -> list[str]:
    sent: list[str] = []
    turns = (action("Mail", "hello"), action("Mail", "die"))
    with pytest.raises(KeyboardInterrupt):
        run(path, "record", ScriptedBackend((turns[1],)), mail(sent, **options))
    return sent


def resumed(path: Path, sent: list[str], again: Any, **options: Any) -> list[Event]:
    model = ScriptedBackend((final("done"),))
    with Cassette(path, "resume", environment={}, run_again=again):
        return list(a_run(model, mail(sent, **options)).events())


def test_a_side_effect_that_was_under_way_is_named(path: Path) -> None:
    sent = died_in_the_mail(path)
    with pytest.raises(CassetteError, match=r"Mail\('die'\) was under way when the recording ended and may have run"):
        resumed(path, sent, None)
    assert sent == ["die"]


@pytest.mark.parametrize(
    ("again", "observed", "times"),
    [
        (True, "sent", 2),
        (False, "Mail was interrupted, and whether it took effect is not known. Do without it.", 1),
    ],
)
def test_whether_it_runs_again_is_asked(path: Path, again: bool, observed: str, times: int) -> None:
    sent = died_in_the_mail(path)
    asked: list[Any] = []
    events = resumed(path, sent, lambda *call: asked.append(call) or again)
    assert asked == [("Mail", "die")]
    assert observations(events) == [observed]
    assert sent == ["die"] * times
    assert observations(run(path, "replay", ScriptedBackend(()), mail(sent))) == [observed]
    assert len(sent) == times


@pytest.mark.parametrize(
    ("again", "no"),
    [
        (action("Mail", "die"), False),
        (action("mail ", "die"), None),
        (action("Mail", {"text": "die"}), 1),
        (action("Mail", " die"), "yes"),
    ],
)
def test_one_that_was_not_to_run_again_is_asked_about_when_the_model_repeats_it(
    path: Path, again: str, no: Any
) -> None:
    sent, asked = died_in_the_mail(path), []

    def run_again(*call: Any) -> Any:
        asked.append(call)
        return no

    def goes_on(*turns: str) -> Iterator[Event]:
        with Cassette(path, "resume", environment={}, run_again=run_again):
            yield from a_run(ScriptedBackend(turns), mail(sent), limits=Limits(max_repeats=None)).events()

    with closing(goes_on(again)) as events:  # and is broken off again
        assert len([*islice((event for event in events if isinstance(event, Observed)), 2)]) == 2
    assert (len(asked), sent) == (2, ["die"])
    assert answer(list(goes_on(again, final("done")))) == "done"
    assert (len(asked), sent) == (3, ["die"])


def interrupted(*call: Any) -> bool:
    raise KeyboardInterrupt


@pytest.mark.parametrize(("no_answer", "raised"), [(None, CassetteError), (interrupted, KeyboardInterrupt)])
def test_a_question_that_nobody_answered_is_asked_again(
    path: Path, no_answer: Any, raised: type[BaseException]
) -> None:
    sent = died_in_the_mail(path)
    for _ in range(2):
        with pytest.raises(raised):
            resumed(path, sent, no_answer)
    asked: list[Any] = []
    resumed(path, sent, lambda *call: asked.append(call))
    assert (asked, sent) == ([("Mail", "die")], ["die"])


@pytest.mark.parametrize(("answers", "times"), [([False, False], 1), ([False, True], 2), ([True], 3)])
def test_it_is_asked_again_after_a_limit_unless_it_ran(path: Path, answers: list[bool], times: int) -> None:
    sent, left = died_in_the_mail(path), list(answers)
    for iterations, turn in ((1, ()), (2, (action("Mail", "die"),))):
        with Cassette(path, "resume", environment={}, run_again=lambda *call: left.pop(0)):
            list(a_run(ScriptedBackend(turn), mail(sent), limits=Limits(max_iterations=iterations)).events())
        assert load(path).complete
    assert (left, len(sent)) == ([], times)
    assert bool(load(path).begun) == (True not in answers)


@pytest.mark.parametrize("question", ["the second", "begins otherwise this time"])
@pytest.mark.parametrize("again", [True, False])
def test_the_run_that_was_broken_off_is_found_among_several(path: Path, question: str, again: bool) -> None:
    sent: list[str] = []
    asked: list[Any] = []

    def both(mode: Any, second: str, first_turns: tuple[str, ...], second_turns: tuple[str, ...]) -> None:
        with Cassette(path, mode, environment={}, run_again=lambda *call: asked.append(call) or again):
            for question, turns in (("the first", first_turns), (second, second_turns)):
                list(a_run(ScriptedBackend(turns), mail(sent), question=question).events())

    with pytest.raises(KeyboardInterrupt):
        both("record", "the second", (final("nothing to send"),), (action("Mail", "die"),))
    turns = (final("done"),) if question == "the second" else (action("Mail", "die"), final("done"))
    with suppress(CassetteDrift):  # of the recorded run that did not come
        both("resume", question, (), turns)
    assert (asked, sent) == ([("Mail", "die")], ["die"] * (1 + again))


def test_a_run_of_tools_alone_that_was_broken_off_is_known_among_several(path: Path) -> None:
    sent: list[str] = []

    def by_hand(mode: Any, *texts: str) -> list[Any]:
        with Cassette(path, mode, environment={}, run_again=lambda *call: False) as cassette:
            calls = [cassette.toolbox(Toolbox(mail(sent))).run([Action("Mail", text)]) for text in texts]
        return [one.executed for (one,) in calls]

    with pytest.raises(KeyboardInterrupt):
        by_hand("record", "hello", "die")
    assert by_hand("resume", "hello", "die") == [True, False]
    assert sent == ["hello", "die"]


@pytest.mark.parametrize("step", [0, 1])
@pytest.mark.parametrize("again", [True, False, None])
def test_a_fork_asks_about_the_call_that_was_under_way_as_resuming_does(
    path: Path, step: int, again: bool | None
) -> None:
    sent, asked = [], []

    def build(*turns: str) -> Any:
        model = BackendChat(ScriptedBackend(turns))
        return lambda settings, prompt: build_runner(settings, prompt, model=model, tools=mail(sent))

    spec = RunSpec.of(QUESTION, model="local:ORG/NAME", tools=("mine",), mode="react-json")
    first = build(action("Mail", "hello"), action("Mail", "die"))
    with pytest.raises(KeyboardInterrupt), Cassette(path, "record", run=spec, environment={}):
        list(first(spec.settings, None).events(QUESTION))
    into, partial = path.with_name("into.yaml"), partial_of(path)
    before = partial.read_bytes()
    turns = (*[action("Mail", "hello")] * (1 - step), action("Mail", {"text": "die"}), final("done"))
    run_again = None if again is None else lambda *call: asked.append(call) or again
    forked = fork(partial, into, step=step, build=build(*turns), run_again=run_again, environment={})
    if again is None:
        with pytest.raises(CassetteError, match=r"was under way when the recording ended and may have run"):
            list(forked.events())
        assert load(partial_of(into)).begun  # and so it is asked again when the fork is resumed
    else:
        assert answer(list(forked.events())) == "done"
        assert len(asked) == 1
        assert bool(load(into).begun) == (not again)
        assert answer(list(Replay(into, environment={}).events())) == "done"
    assert sent.count("die") == 1 + bool(again)
    assert partial.read_bytes() == before


@pytest.mark.parametrize("options", [{"idempotent": True}, {"deterministic": True}])
def test_one_that_may_run_twice_does(path: Path, options: dict[str, Any]) -> None:
    sent = died_in_the_mail(path, **options)
    assert observations(resumed(path, sent, None, **options)) == ["sent"]
    assert sent == ["die", "die"]


# -- described runs ----------------------------------------------------------------------------------------------------

QUESTION = {"input": "What is 25 * 5, less 5?"}
STEPS = (action("Calculator", "25*5"), "What was that?", action("Calculator", "125-5"), final("120"))


def described(path: Path, turns: tuple[str, ...], **settings: Any) -> list[Event]:
    model = ChatHuggingFace(llm=ScriptedBackend(turns))
    spec = RunSpec.of(QUESTION, model="local:ORG/NAME", tools=("calculator",), **settings)
    with Cassette(path, "record", run=spec, environment={}):
        return list(executor(model, spec.settings).events(QUESTION))


def executor(model: Any, settings: RunSettings, prompt: Prompt | None = None) -> AgentExecutor:
    iterations = settings.max_iterations
    return AgentExecutor.from_model(model, settings.tools, prompt or settings.prompt, max_iterations=iterations)


def live(turns: tuple[str, ...], asked: list[RunSettings]) -> Any:
    def build(settings: RunSettings, prompt: Prompt) -> AgentExecutor:
        asked.append(settings)
        return executor(ChatHuggingFace(llm=ScriptedBackend(turns)), settings, prompt)

    return build


def told(events: Iterator[Event] | list[Event]) -> list[Any]:
    """What a run does, less how it says it."""
    kept = (ActionChosen, Observed, ParseError)
    return [event for event in events if isinstance(event, kept)]


def test_a_described_run_is_resumed_with_another_limit(path: Path) -> None:
    first = described(path, STEPS[:2], max_iterations=2)
    assert isinstance(first[-1], Finished)
    assert not first[-1].answered
    asked: list[RunSettings] = []
    run = resume(path, build=live(STEPS[2:], asked), environment={}, max_iterations=9)
    assert run.title == f"resuming {path}: local:ORG/NAME, after 2 steps"
    assert (run.inputs, run.model, run.path) == (QUESTION, "local:ORG/NAME", path)
    events = list(run.events())
    assert answer(events) == "120"
    assert asked == [RunSettings(model="local:ORG/NAME", tools=("calculator",), max_iterations=9)]
    replay = Replay(path, environment={})
    assert told(replay.events()) == told(events)
    assert replay.run.settings.max_iterations == 9


def test_a_run_goes_on_with_its_prompt_after_the_prompts_file_is_gone(path: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("Tools: {tools} {tool_names}\n{input}\n{agent_scratchpad}", encoding="utf-8")
    described(path, STEPS[:2], max_iterations=2, prompt=str(mine))
    mine.unlink()
    assert answer(list(resume(path, build=live(STEPS[2:], []), environment={}, max_iterations=9).events())) == "120"


FAILURES = {
    "an error of the server, tried twice": (error(500, retry_after="0"), 1),
    "a refused request": (error(400), 0),
    "a connection that is reset": (reset, 0),
    "a reply that breaks off": (breaks("Thought: I cal"), 0),
    "a page that is no reply": (body(b"<html>Bad gateway</html>", kind="text/html"), 0),
}


@pytest.mark.parametrize(("failure", "retries"), FAILURES.values(), ids=list(FAILURES))
@pytest.mark.parametrize("taken", [0, 1])
def test_a_run_that_a_model_broke_off_asks_it_again(path: Path, failure: Any, retries: int, taken: int) -> None:
    turns = (action("Calculator", "25*5"), final("125"))

    def ask() -> AgentExecutor:
        return AgentExecutor.from_model(chat_model(server.url, max_retries=retries), ["calculator"], mode="react-json")

    def described_run() -> RunSpec:
        options = {"max_retries": retries}
        return RunSpec.of(QUESTION, model=server.url, tools=("calculator",), mode="react-json", options=options)

    with serving(ChatServer([*map(say, turns[:taken]), failure], keep_alive=False)) as server:
        with pytest.raises(ModelError), Cassette(path, "record", run=described_run(), environment={}):
            list(ask().events(QUESTION))
        partial = partial_of(path)
        assert resume(partial, environment={}).title.endswith(f"after {count(taken, 'step')}")
        with pytest.raises(ConfigurationError, match=f"expected a step from 0 to {taken} to keep, saw {taken + 1}"):
            fork(partial, path, step=taken + 1, environment={})
        server.plays, before = [say(turns[taken]), say(turns[-1])], len(server.bodies)
        server.choose = lambda _: server.plays[min(len(server.bodies) - before, 2) - 1]
        with Cassette(path, "resume", environment={}):
            assert answer(list(ask().events(QUESTION))) == "125"
        assert len(server.bodies) - before == len(turns) - taken
    assert not partial.exists()
    assert not any(entry.has_failed for entry in load(path).entries)


@pytest.mark.parametrize("reply", ["nonsense", action("Calculator", "25*5")])
def test_a_turn_that_broke_the_run_off_is_asked_for_again(path: Path, reply: str) -> None:
    def go(mode: Any, *turns: str) -> list[Event]:
        model = ChatHuggingFace(llm=ScriptedBackend(turns))
        with Cassette(path, mode, environment={}):
            runs = AgentExecutor.from_model(model, ["calculator"], handle_parsing_errors=False)
            return list(runs.events(QUESTION))

    with pytest.raises(OutputParserException):
        go("record", reply, "nonsense")
    assert answer(go("resume", final("125"))) == "125"


@pytest.mark.parametrize("step", [0, 1, 2, 3])
@pytest.mark.parametrize("prompt", ["react-json", "react-json-text"])
def test_a_fork_keeps_the_first_steps_and_goes_on_otherwise(path: Path, step: int, prompt: str) -> None:
    recorded = described(path, STEPS)
    into = path.with_name("other.yaml")
    asked: list[RunSettings] = []
    turns = (action("Calculator", "1+1"), final("two"))
    forked = fork(path, into, step=step, build=live(turns, asked), environment={}, model="hf:ORG/OTHER", prompt=prompt)
    assert forked.title == f"fork of {path}: hf:ORG/OTHER, after {step} step{'' if step == 1 else 's'}"
    events = list(forked.events())
    kept = [one for one in told(recorded) if not isinstance(one, ActionChosen)][:step]
    news = [one for one in told(events) if not isinstance(one, ActionChosen)]
    assert news[:step] == kept
    assert observations(events)[-1] == "Answer: 2"
    assert answer(events) == "two"
    last = events[-1]
    assert isinstance(last, Finished)
    assert len(last.steps) == step + 1
    replay = Replay(into, environment={})
    assert replay.run.forked_from == f"run.yaml, step {step}"
    assert replay.run.settings.prompt == prompt
    assert answer(list(replay.events())) == "two"
    assert answer(list(Replay(path, environment={}).events())) == "120"


def test_a_fork_of_a_step_that_is_not_there_says_how_many_there_are(path: Path) -> None:
    described(path, STEPS)
    with pytest.raises(ConfigurationError, match="expected a step from 0 to 3 to keep, saw 4"):
        fork(path, path.with_name("other.yaml"), step=4, build=live((), []), environment={})
    with pytest.raises(ConfigurationError, match="expected another file than"):
        fork(path, path, step=1, build=live((), []), environment={})
    with pytest.raises(ConfigurationError, match=r"expected settings of a run .*, saw temperature"):
        resume(path, build=live((), []), environment={}, temperature=1)


def test_there_must_be_something_to_resume(path: Path) -> None:
    with pytest.raises(CassetteError, match="no such cassette"), Cassette(path, "resume"):
        raise AssertionError


@pytest.mark.slow
def test_runs_that_are_killed_at_any_moment_go_on() -> None:
    script = Path(__file__).parents[1] / "benchmarks" / "cassette_kills.py"
    done = subprocess.run([sys.executable, str(script), "6"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "6 of 6: the same answer, no finished step repeated"
