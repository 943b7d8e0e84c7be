"""A run is recorded, then replayed with nothing live behind it: the same events come again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentkit.cassette import Cassette, active
from agentkit.cassette.format.file import load
from agentkit.core.loop import Limits
from agentkit.errors import CassetteDrift, CassetteError, ConfigurationError
from agentkit.events import Action, Finished, Observation, ParseError, Source, Thought, Token, Usage
from agentkit.models.backend import ChatRequest, Chunk, Completion, NativeCall
from agentkit.models.scripted import ScriptedBackend
from agentkit.tool import Tool
from agentkit.toolbox.toolbox import Toolbox
from tests.cassette.runs import TURNS, ScriptedModel, Tools, a_run, answer, arun, observations, run, without_times
from tests.doubles.models import action, final


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


@pytest.mark.parametrize("kind", [ScriptedBackend, ScriptedModel])
def test_the_same_events_come_again(path: Path, kind: Any) -> None:
    tools = Tools()
    recorded = run(path, "record", kind(TURNS), tools)
    again = Tools()
    replayed = run(path, "replay", kind(()), again)
    assert without_times(replayed) == without_times(recorded)
    assert tools.executed == ["Search who is 25", "Calculator 25*5"]
    assert again.executed == ["Calculator 25*5"]
    assert answer(replayed) == "125"


@pytest.mark.parametrize("kind", [ScriptedBackend, ScriptedModel])
async def test_async_runs_replay_in_either_way(path: Path, kind: Any) -> None:
    recorded = await arun(path, "record", kind(TURNS), Tools())
    assert without_times(await arun(path, "replay", kind(()), Tools())) == without_times(recorded)
    assert without_times(run(path, "replay", kind(()), Tools())) == without_times(recorded)


def test_text_comes_back_in_its_pieces_with_thinking_and_usage(path: Path) -> None:
    recorded = run(path, "record", ScriptedBackend(TURNS, usage=Usage(100, 20, 50)), Tools())
    replayed = run(path, "replay", ScriptedBackend(()), Tools())
    tokens = [event.text for event in recorded if isinstance(event, Token)]
    assert [event.text for event in replayed if isinstance(event, Token)] == tokens
    assert len(tokens) > 10
    assert [event.thinking for event in replayed if isinstance(event, Thought)] == ["", "five times", ""]
    last = replayed[-1]
    assert isinstance(last, Finished)
    assert last.summary.usage.cached_tokens == 100  # of two turns: the first was cut at its stop string


@pytest.mark.parametrize("kind", [ScriptedBackend, ScriptedModel])
@pytest.mark.parametrize("text", ["half \ud83d of it", "both \ud83d\ude00 apart", "\ude00\ud83d " * 20])
def test_halves_of_surrogate_pairs_come_back(path: Path, kind: Any, text: str) -> None:
    turns = (action("Search", "who is 25"), f"<think>{text}</think>\n" + final(text), final("Ada"))
    recorded = run(path, "record", kind(turns), Tools(found=text))
    replayed = run(path, "replay", kind(()), Tools())
    assert (answer(recorded), observations(recorded)) == ("Ada", [text])
    assert any(isinstance(event, ParseError) for event in recorded)
    assert without_times(replayed) == without_times(recorded)


@pytest.mark.parametrize("text", ["half \ud83d of it", "both \ud83d\ude00 apart"])
def test_a_tool_that_runs_again_gives_halves_of_surrogate_pairs_again(path: Path, text: str) -> None:
    def both(found: str) -> list[Tool]:
        return [Tool(name="Search", description="Finds.", run=lambda _: found, deterministic=True)]

    turns = (action("Search", "who is 25"), final("Ada"))
    recorded = run(path, "record", ScriptedBackend(turns), both(text))
    assert without_times(run(path, "replay", ScriptedBackend(()), both(text))) == without_times(recorded)
    with pytest.raises(CassetteDrift, match="Search's result changed"):
        run(path, "replay", ScriptedBackend(()), both(text + "!"))


def test_each_turn_is_recorded_once(path: Path) -> None:
    run(path, "record", ScriptedBackend(TURNS), Tools())
    uris = [one["request"]["uri"] for one in yaml.safe_load(path.read_text())["interactions"]]
    turn = "model://scripted/turn"
    assert uris == [turn, "tool://Search", turn, "tool://Calculator", turn]


def test_vcrpy_loads_the_file(path: Path) -> None:
    from vcr.persisters.filesystem import FilesystemPersister
    from vcr.serializers import yamlserializer

    run(path, "record", ScriptedBackend(TURNS), Tools())
    requests, responses = FilesystemPersister.load_cassette(path, yamlserializer)
    assert [request.uri for request in requests][:2] == ["model://scripted/turn", "tool://Search"]
    assert responses[1]["body"]["string"] == b"Ada is 25."


def test_a_message_stands_in_the_file_once(path: Path) -> None:
    run(path, "record", ScriptedBackend(TURNS), Tools())
    assert path.read_text().count("Tools: Search, Calculator.") == 1


@pytest.mark.parametrize(
    "observation",
    [
        Observation("text"),
        Observation(""),
        Observation("two\nlines \n\ud800"),
        Observation(42),
        Observation({"a": [1, None, 2.5]}),
        Observation("direct", return_direct=True),
        Observation("refused", executed=False),
        Observation("found", sources=(Source("A page", "https://example.com"),), readings=("^ is power",)),
    ],
    ids=str,
)
def test_observations_come_back_as_they_were(path: Path, observation: Observation) -> None:
    class Fixed:
        deterministic: frozenset[str] = frozenset()
        not_twice: frozenset[str] = frozenset()
        only_reads: frozenset[str] = frozenset()

        def run(self, actions: Any) -> list[Observation]:
            return [observation]

        async def arun(self, actions: Any) -> list[Observation]:
            raise AssertionError

    call = Action("Odd name/1", {"query": "x"})
    with Cassette(path, "record", environment={}) as cassette:
        cassette.toolbox(Fixed()).run([call])
    with Cassette(path, "replay", environment={}) as cassette:
        replayed = cassette.toolbox(Toolbox([])).run([call])
    assert replayed == [observation]


def test_calls_in_the_models_own_syntax_tools_and_cost_come_back(path: Path) -> None:
    completion = Completion(
        "", Usage(7, 3, cost_usd=0.25), "tool_calls", tool_calls=(NativeCall("c1", "search", '{"query": "Ada"}'),)
    )

    class Native(ScriptedModel):
        def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
            yield completion

    def ask(mode: Any, *tools: str) -> list[Any]:
        request = ChatRequest(
            messages=[{"role": "user", "content": "Who?"}], tools=tuple({"function": {"name": name}} for name in tools)
        )
        with Cassette(path, mode, environment={}) as cassette:
            return list(cassette.chat(Native(), model_id="m").complete(request))

    assert ask("record", "search") == [completion]
    assert ask("replay", "search") == [completion]
    with pytest.raises(CassetteDrift, match=r"tools.names\[0\] changed: recorded 'search', this run 'find'"):
        ask("replay", "find")


def test_what_is_found_out_once_is_remembered(path: Path) -> None:
    computed: list[str] = []

    def ask(mode: Any, name: str) -> Any:
        with Cassette(path, mode, environment={}) as cassette:
            probe = cassette.backend(ScriptedBackend(TURNS))

            def compute() -> str:
                computed.append(name)
                list(probe.generate_chat(ChatRequest(messages=[])))
                return "react-json"

            return [cassette.remembered(name, compute) for _ in range(2)]

    assert ask("record", "mode") == ["react-json"] * 2
    assert computed == ["mode"]
    assert [entry.kind for entry in load(path).entries] == []
    assert ask("replay", "mode") == ["react-json"] * 2
    assert ask("resume", "mode") == ["react-json"] * 2
    assert computed == ["mode"]
    assert "remembered: {mode: react-json}" in path.read_text()


def test_a_tools_own_error_and_an_unknown_tool_replay(path: Path) -> None:
    turns = (action("Calculator", "25"), action("Fly", "home"), final("no"))
    recorded = run(path, "record", ScriptedBackend(turns), Tools())
    replayed = run(path, "replay", ScriptedBackend(()), Tools())
    assert observations(replayed) == observations(recorded)
    assert observations(replayed)[0] == "Error: expected a product."
    assert without_times(replayed) == without_times(recorded)


def test_calls_that_are_answered_without_the_tool_are_told(path: Path) -> None:
    run(path, "record", ScriptedBackend(TURNS), Tools())
    told: list[Any] = []
    with Cassette(path, "replay", environment={}):
        run_again = a_run(ScriptedBackend(()), Tools(), replayed=lambda *call: told.append(call))
        assert answer(list(run_again.events())) == "125"
    assert [(action.tool, observation.value) for action, observation in told] == [("Search", "Ada is 25.")]


async def test_parallel_tools_replay_in_any_order(path: Path) -> None:
    names = [f"Tool{number}" for number in range(6)]
    waiting = asyncio.Barrier(len(names))

    def tools(live: bool) -> Toolbox:
        async def wait(name: str) -> str:
            assert live
            await waiting.wait()
            return f"{name} done"

        def never(_: str) -> str:
            raise AssertionError

        return Toolbox([Tool(name=name, description="Waits.", run=never, arun=wait) for name in names])

    calls = [Action(name, name) for name in names]
    expected = [Observation(f"{name} done") for name in names]
    with Cassette(path, "record", environment={}) as cassette:
        assert await cassette.toolbox(tools(True)).arun(calls) == expected
    with Cassette(path, "replay", environment={}) as cassette:
        reversed_calls = list(reversed(calls))
        assert await cassette.toolbox(tools(False)).arun(reversed_calls) == list(reversed(expected))


def test_a_time_limit_strikes_again_without_waiting(path: Path) -> None:
    now_s = [0.0]

    class Slow(ScriptedBackend):
        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            now_s[0] += 15
            yield from super().generate_chat(request)

    def events(mode: Any, model: Any) -> list[Any]:
        with Cassette(path, mode, environment={}) as cassette:
            if mode == "record":
                cassette.clock = lambda: now_s[0]  # type: ignore[method-assign]
            return list(a_run(model, Tools(), limits=Limits(max_execution_time_s=25.0)).events())

    recorded = events("record", Slow(TURNS))
    assert recorded[-1].summary.stop_reason == "max_execution_time"
    ends_ms = count(10_000, 10_000)
    timed = re.sub(r"at_ms: \d+", lambda _: f"at_ms: {next(ends_ms)}", path.read_text())
    path.write_text(timed.replace("end: {seconds: 0.", "end: {seconds: 30."))
    replayed = events("replay", ScriptedBackend(()))
    assert without_tokens(replayed) == without_tokens(recorded)  # those of the turn that was broken off are lost


def without_tokens(events: list[Any]) -> list[Any]:
    return [event for event in without_times(events) if not isinstance(event, Token)]


def test_the_cassette_is_active_in_its_block_only(path: Path) -> None:
    assert active() is None
    with Cassette(path, "record", environment={}) as outer:
        assert active() is outer
        with Cassette(path.with_name("inner.yaml"), "record", environment={}) as inner:
            assert active() is inner
        assert active() is outer
    assert active() is None


def test_a_cassette_can_be_entered_again_but_not_twice_at_once(path: Path) -> None:
    run(path, "record", ScriptedBackend(TURNS), Tools())
    cassette = Cassette(path, "replay", environment={})
    for _ in range(2):
        with cassette:
            assert answer(list(a_run(ScriptedBackend(()), Tools()).events())) == "125"
    with pytest.raises(CassetteError, match="in use"), Cassette(path, "record", environment={}) as one, one:
        pass


def test_the_mode_is_checked() -> None:
    with pytest.raises(ConfigurationError, match='"record", "replay" or "resume"'):
        Cassette("x.yaml", "once")  # type: ignore[arg-type]
