"""A run of native calls is recorded and replayed like any other: over HTTP, in this process, at the planner's seam."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentExecutor
from agentkit.cassette import Cassette, Replay, RunSpec
from agentkit.errors import CassetteError
from agentkit.events import Event, Finished, ModeFound, Token
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import ChatRequest, Chunk, ToolCallPiece, Usage
from agentkit.models.scripted import ScriptedBackend
from agentkit.tools.calculator import calculator
from tests.hosted_agent.caller import Caller
from tests.hosted_agent.server import Server, Turn

QUESTION = {"input": "What are 2 + 2 and 3 * 3, and their sum?"}
NATIVE = [
    Turn("Both.", [("Calculator", '{"input": "2+2"}'), ("Calculator", '{"input": "3*3"}')], thinking="hm"),
    Turn(calls=[("Calculator", "4+9")]),
    Turn("", [("Calculator", '{"input": "4+9"}')]),
    Turn("13"),
]


class NativeBackend(ScriptedBackend):
    """Says `NATIVE` in this process."""

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        turn = NATIVE[len(self.requests)]
        self.requests.append(request)
        yield Chunk(thinking=turn.thinking, text=turn.text)
        for index, (name, arguments) in enumerate(turn.calls):
            # As made up for calls that a model's text held: nine letters that are never the same again.
            made_up = f"{id(request) % 10**8:08d}{index}"
            yield ToolCallPieces(index, made_up, name, arguments[:4])
            yield ToolCallPieces(index, None, None, arguments[4:])
        yield Chunk(finish_reason="tool_calls" if turn.calls else "stop", usage=Usage(20, 10))


def ToolCallPieces(index: int, number: str | None, name: str | None, arguments: str) -> Chunk:
    return Chunk(tool_calls=(ToolCallPiece(index=index, id=number, name=name, arguments=arguments),))


@pytest.fixture(params=["http", "in process", "langchain"])
def model(request: pytest.FixtureRequest, server: Server) -> tuple[Any, str]:
    """A model, and the spec a recording names it by."""
    server.native = NATIVE
    server.by_request = True
    if request.param == "http":
        return server.url, server.url
    if request.param == "langchain":
        return Caller(script=server), "openai:scripted"
    return ChatHuggingFace(llm=NativeBackend(())), "local:ORG/NAME"


def run(model: Any, **options: Any) -> list[Event]:
    return list(AgentExecutor.from_model(model, [calculator], **options).events(QUESTION))


def settled(events: list[Event]) -> list[Event]:
    """The events less what differs between a run and its replay: time, pieces, and news of a probe."""
    kept = [event for event in events if not isinstance(event, Token | ModeFound)]
    last = kept[-1]
    assert isinstance(last, Finished)
    return [*kept[:-1], replace(last, summary=replace(last.summary, seconds=0.0))]


def record(file: Path, model: tuple[Any, str], mode: Any) -> list[Event]:
    spec = RunSpec.of(QUESTION, model=model[1], tools=("calculator",), max_iterations=15, mode=mode)
    with Cassette(file, "record", run=spec, environment={}):
        events = run(model[0], mode=mode)
    last = events[-1]
    assert isinstance(last, Finished)
    assert (last.output, last.summary.parse_errors) == ("13", 1)
    assert [str(step.observation) for step in last.steps][0:2] == ["Answer: 4", "Answer: 9"]
    return events


def test_a_run_of_native_calls_replays_by_itself(model: tuple[Any, str], tmp_path: Path, server: Server) -> None:
    recorded = record(tmp_path / "run.yaml", model, "tools")
    asked = len(server.requests)
    replay = Replay(tmp_path / "run.yaml", environment={})
    for _ in range(2):
        assert settled(list(replay.events())) == settled(recorded)
    assert len(server.requests) == asked


def test_a_mode_that_was_found_out_replays_by_itself(server: Server, tmp_path: Path) -> None:
    server.native, server.by_request = NATIVE, True
    for number, model in enumerate([(server.url, server.url), (Caller(script=server), "openai:scripted")]):
        server.requests.clear()
        file = tmp_path / f"{number}.yaml"
        recorded = record(file, model, "auto")
        assert ModeFound("tools") in recorded
        assert settled(list(Replay(file, environment={}).events())) == settled(recorded)


def test_a_run_of_native_calls_replays_in_its_executor(model: tuple[Any, str], tmp_path: Path) -> None:
    recorded = record(tmp_path / "run.yaml", model, "tools")
    again = ChatHuggingFace(llm=NativeBackend(())) if model[1] == "local:ORG/NAME" else model[0]
    with Cassette(tmp_path / "run.yaml", environment={}):
        assert settled(run(again, mode="tools")) == settled(recorded)


@pytest.mark.parametrize(("written", "instead"), [("Both.", "All."), ('"3*3"', '"3*4"'), ("Answer: 13", "Answer: 14")])
def test_a_changed_recording_drifts(tmp_path: Path, written: str, instead: str) -> None:
    file = tmp_path / "run.yaml"
    record(file, (ChatHuggingFace(llm=NativeBackend(())), "local:ORG/NAME"), "tools")
    text = file.read_text()
    place = text.rindex(written) if written == "Answer: 13" else text.index(written)
    file.write_text(text[:place] + instead + text[place + len(written) :])
    with pytest.raises(CassetteError):  # a drift, or a cassette whose parts no longer fit each other
        list(Replay(file, environment={}).events())
