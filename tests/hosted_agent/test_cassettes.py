"""A run of native calls is recorded and replayed like any other: over HTTP, in this process, at the planner's seam."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentExecutor
from agentkit.cassette import Cassette, Replay, RunSpec, fork
from agentkit.errors import CassetteError
from agentkit.events import Event, Finished, ModeFound, Token
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import Capabilities, ChatRequest, Completion
from agentkit.models.scripted import ScriptedBackend
from agentkit.tools.calculator import calculator
from tests.doubles.models import reply
from tests.hosted_agent.caller import Caller
from tests.hosted_agent.server import Server

QUESTION = {"input": "What are 2 + 2 and 3 * 3, and their sum?"}
NATIVE = [
    reply("Both.", [("Calculator", '{"input": "2+2"}'), ("Calculator", '{"input": "3*3"}')], thinking="hm"),
    reply(calls=[("Calculator", "4+9")]),
    reply("", [("Calculator", '{"input": "4+9"}')]),
    reply("13"),
]


def native_backend() -> ScriptedBackend:
    """Says `NATIVE` in this process, with ids as made up for calls that a model's text held: never the same again."""
    replies = iter(NATIVE)

    def reply_to(request: ChatRequest) -> Completion:
        turn = next(replies)
        calls = (replace(call, id=f"{id(request) % 10**8:08d}{n}") for n, call in enumerate(turn.tool_calls))
        return replace(turn, tool_calls=tuple(calls))

    return ScriptedBackend(reply_to, capabilities=Capabilities(in_process=True, over_http=False, tools=True))


@pytest.fixture(params=["http", "in process", "langchain"])
def model(request: pytest.FixtureRequest, server: Server) -> tuple[Any, str]:
    """A model, and the spec a recording names it by."""
    server.native = NATIVE
    server.by_request = True
    if request.param == "http":
        return server.url, server.url
    if request.param == "langchain":
        return Caller(script=server), "openai:scripted"
    return ChatHuggingFace(llm=native_backend()), "local:ORG/NAME"


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
    asked = len(server.bodies)
    replay = Replay(tmp_path / "run.yaml", environment={})
    for _ in range(2):
        assert settled(list(replay.events())) == settled(recorded)
    assert len(server.bodies) == asked


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
    again = ChatHuggingFace(llm=native_backend()) if model[1] == "local:ORG/NAME" else model[0]
    with Cassette(tmp_path / "run.yaml", environment={}):
        assert settled(run(again, mode="tools")) == settled(recorded)


@pytest.mark.parametrize("trimmed", [False, True])
def test_a_run_that_goes_on_gives_back_what_was_thought_before(trimmed: bool, tmp_path: Path) -> None:
    whole, rest = native_backend(), native_backend()
    record(tmp_path / "run.yaml", (ChatHuggingFace(llm=whole), "local:ORG/NAME"), "tools")
    next(rest.generate_chat(whole.requests[0]))  # the turn that is taken over

    def build(*_: Any) -> AgentExecutor:
        trim: Any = {"trim_intermediate_steps": list} if trimmed else {}  # a function is given LangChain's steps
        return AgentExecutor.from_model(ChatHuggingFace(llm=rest), [calculator], mode="tools", **trim)

    forked = list(fork(tmp_path / "run.yaml", tmp_path / "fork.yaml", step=1, build=build, environment={}).events())
    assert rest.requests[1].messages[2]["reasoning_content"] == "hm"
    assert rest.requests[1].messages == whole.requests[1].messages
    again = list(Replay(tmp_path / "fork.yaml", environment={}).events())
    assert settled(again)[-1] == settled(forked)[-1]


@pytest.mark.parametrize(("written", "instead"), [("Both.", "All."), ('"3*3"', '"3*4"'), ("Answer: 13", "Answer: 14")])
def test_a_changed_recording_drifts(tmp_path: Path, written: str, instead: str) -> None:
    file = tmp_path / "run.yaml"
    record(file, (ChatHuggingFace(llm=native_backend()), "local:ORG/NAME"), "tools")
    text = file.read_text()
    place = text.rindex(written) if written == "Answer: 13" else text.index(written)
    file.write_text(text[:place] + instead + text[place + len(written) :])
    with pytest.raises(CassetteError):  # a drift, or a cassette whose parts no longer fit each other
        list(Replay(file, environment={}).events())
