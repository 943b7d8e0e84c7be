"""Recorded runs that describe themselves replay by themselves, whatever their model was."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentExecutor, chat_model
from agentkit.cassette import Cassette, Replay, RunSpec, resume
from agentkit.cassette.format.file import load
from agentkit.errors import CassetteDrift
from agentkit.events import Event, Finished, Observed, Token
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import Completion
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.prompt import Prompt
from agentkit.settings import RunSettings
from tests.cassette.runs import answer, observations, without_times
from tests.doubles.models import Scripted, action, final
from tests.doubles.server import ChatServer, reply, serving

QUESTION = {"input": "What is 25 * 5?"}
TURNS = (action("Calculator", "25*5"), final("125"))
SETTINGS: dict[str, Any] = {"tools": ("calculator",), "prompt": "react-json", "max_iterations": 5, "mode": "react-json"}


def record(path: Path, model: Any, spec: str, **settings: Any) -> list[Event]:
    chosen = {**SETTINGS, **settings}
    executor = AgentExecutor.from_model(
        model, list(chosen["tools"]), chosen["prompt"], max_iterations=5, mode=chosen["mode"]
    )
    with Cassette(path, "record", run=RunSpec.of(QUESTION, model=spec, **chosen), environment={}):
        return list(executor.events(QUESTION))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


@pytest.mark.parametrize("prompt", ["react-json", "react-json-text"])
@pytest.mark.parametrize("in_process", [True, False])
def test_a_model_in_this_process(path: Path, prompt: str, in_process: bool) -> None:
    model: Any = ChatHuggingFace(llm=ScriptedBackend(TURNS)) if in_process else Scripted(turns=list(TURNS))
    recorded = record(path, model, "local:ORG/NAME", prompt=prompt)
    replay = Replay(path, environment={})
    assert without_times(list(replay.events())) == without_times(recorded)
    assert (replay.inputs, replay.model) == (QUESTION, "local:ORG/NAME")
    assert replay.title.startswith(f"replay of {path}: local:ORG/NAME, recorded 2")
    assert [entry.kind for entry in load(path).entries] == ["turn", "tool", "turn"]


def test_a_replay_has_the_prompt_that_was_recorded_whatever_its_file_says_now(path: Path) -> None:
    prompt = path.with_name("mine.txt")
    prompt.write_text("Tools: {tools} {tool_names}\n{input}\n{agent_scratchpad}", encoding="utf-8")
    record(path, ChatHuggingFace(llm=ScriptedBackend(TURNS)), "local:ORG/NAME", prompt=str(prompt))
    prompt.write_text("another", encoding="utf-8")
    assert answer(list(Replay(path, environment={}).events())) == "125"
    prompt.unlink()
    assert answer(list(Replay(path, environment={}).events())) == "125"


def test_a_hosted_model_replays_with_its_server_down(path: Path) -> None:
    with chat_server(TURNS) as server:
        recorded = record(path, chat_model(server.url), server.url)
        assert len(server.bodies) == 2
    replayed = list(Replay(path, environment={}).events())
    assert without_times(replayed) == without_times(recorded)
    assert [entry.kind for entry in load(path).entries] == ["http", "tool", "http"]
    assert len(server.bodies) == 2


def test_a_hosted_model_that_is_asked_something_else_drifts(path: Path) -> None:
    with chat_server(TURNS) as server:
        record(path, chat_model(server.url), server.url)
    path.write_text(path.read_text().replace("What is 25 * 5?", "What is 25 * 6?", 1), encoding="utf-8")
    with pytest.raises(CassetteDrift, match=r"HTTP: body.messages\[1\].content changed: recorded 'What is 25 \* 5\?'"):
        list(Replay(path, environment={}).events())


@pytest.mark.parametrize("kept", [1, 2])
def test_a_hosted_run_that_was_cut_off_goes_on(path: Path, kept: int) -> None:
    with chat_server((*TURNS, *TURNS[1:])) as server:
        recorded = record(path, chat_model(server.url), server.url)
        text = path.read_text(encoding="utf-8")
        place = [match.end() for match in re.finditer(r"\n  at_ms: \d+\n", text)][kept - 1]
        path.with_name("run.partial.yaml").write_text(text[:place], encoding="utf-8")
        path.unlink()

        def build(settings: RunSettings, prompt: Prompt) -> AgentExecutor:
            return AgentExecutor.from_model(chat_model(settings.model), list(settings.tools), prompt, mode="react-json")

        resumed = list(resume(path, build=build, environment={}).events())
        assert len(server.bodies) == 3
    assert without_times(resumed) == without_times(recorded)
    assert [entry.kind for entry in load(path).entries] == ["http", "tool", "http"]
    assert without_times(list(Replay(path, environment={}).events())) == without_times(recorded)


def test_a_time_limit_strikes_by_the_recordings_time(path: Path) -> None:
    with chat_server(TURNS) as server:
        record(path, chat_model(server.url), server.url)
    text = path.read_text(encoding="utf-8")
    ends_ms = iter((6_000, 12_000, 18_000))
    slow = re.sub(r"at_ms: \d+", lambda _: f"at_ms: {next(ends_ms)}", text[: text.rindex("\nend:") + 1])
    path.write_text(slow[: slow.index("at_ms: 12000\n") + len("at_ms: 12000\n")], encoding="utf-8")
    executor = AgentExecutor.from_model(
        chat_model(server.url), ["calculator"], SETTINGS["prompt"], mode="react-json", max_execution_time=10
    )
    with Cassette(path, "replay", environment={}):
        *_, last = executor.events(QUESTION)
    assert isinstance(last, Finished)
    assert (last.summary.stop_reason, last.summary.seconds) == ("max_execution_time", 12)


def test_a_streamed_reply_stands_in_the_file_as_what_it_adds(path: Path) -> None:
    with chat_server(TURNS) as server:
        record(path, chat_model(server.url), server.url)
    assert "\n      - event:\n" in path.read_text()


@pytest.mark.parametrize("kind", [str, Path])
def test_an_executor_records_a_new_file_and_replays_it(path: Path, kind: type[str] | type[Path]) -> None:
    results = []
    for turns in (TURNS, ()):
        model = ChatHuggingFace(llm=ScriptedBackend(turns))
        executor = AgentExecutor.from_model(model, ["calculator"], cassette=kind(path), return_intermediate_steps=True)
        results.append(executor.invoke(QUESTION))
        assert path.exists()
    assert results[0] == results[1]


async def test_an_executor_replays_async_and_in_chunks(path: Path) -> None:
    model = ChatHuggingFace(llm=ScriptedBackend(TURNS))
    first = AgentExecutor.from_model(model, ["calculator"], cassette=path)
    recorded = [event async for event in first.aevents(QUESTION)]
    again = AgentExecutor.from_model(ChatHuggingFace(llm=ScriptedBackend(())), ["calculator"], cassette=path)
    replayed = [event async for event in again.aevents(QUESTION)]
    assert without_times(replayed) == without_times(recorded)
    assert sum(isinstance(event, Token) for event in replayed) > 10
    assert observations(replayed) == ["Answer: 125"]
    assert [type(event) for event in replayed if isinstance(event, Observed | Finished)] == [Observed, Finished]


@contextmanager
def chat_server(turns: Sequence[str]) -> Iterator[ChatServer]:
    """An OpenAI-compatible server that says these turns."""
    with serving(ChatServer([reply(Completion(turn)) for turn in turns], keep_alive=False)) as server:
        yield server
