"""Backends of every declaration are recorded, once, and replay; a run of which nothing was recorded is not complete."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from langchain_core.agents import AgentFinish
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from agentkit import AgentExecutor
from agentkit.cassette import Cassette
from agentkit.cassette.format.file import load
from agentkit.errors import CassetteError
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Usage
from agentkit.models.scripted import ScriptedBackend
from agentkit.tool import Tool
from tests.cassette.runs import TURNS, Tools, answer, run, without_times
from tests.cassette.test_http import server
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, error, serving


class Echo:
    """As the documentation of a backend has it, and nothing more."""

    model_id = "echo"

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        yield Chunk(text=f"Final Answer: {request.messages[-1]['content']}")
        yield Chunk(finish_reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=3))

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


class Mute(Echo):
    """A model that must not be asked."""

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        raise AssertionError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def asked(path: Path, mode: Any, model: Any) -> list[Any]:
    with Cassette(path, mode, environment={}):
        return list(AgentExecutor.from_model(model, []).events({"input": "Hello"}))


async def aasked(path: Path, mode: Any, model: Any) -> list[Any]:
    with Cassette(path, mode, environment={}):
        return [event async for event in AgentExecutor.from_model(model, []).aevents({"input": "Hello"})]


def kinds(path: Path) -> list[str]:
    return [entry.kind for entry in load(path).entries]


async def test_the_smallest_backend_is_recorded_and_replays(path: Path) -> None:
    recorded = asked(path, "record", Echo())
    assert (kinds(path), load(path).complete, answer(recorded)) == (["turn"], True, "Hello")
    assert without_times(asked(path, "replay", Mute())) == without_times(recorded)
    assert without_times(await aasked(path, "replay", Mute())) == without_times(recorded)


@pytest.mark.parametrize("over_http", [None, True, False])
def test_a_backend_in_process_is_recorded_whatever_it_says(path: Path, over_http: bool | None) -> None:
    declared = Capabilities(over_http=over_http)
    recorded = run(path, "record", ScriptedBackend(TURNS, capabilities=declared), Tools())
    assert kinds(path) == ["turn", "tool"] * 2 + ["turn"]
    replayed = run(path, "replay", ScriptedBackend((), capabilities=declared), Tools())
    assert without_times(replayed) == without_times(recorded)


class Remote:
    """Asks a server, by the standard library, and may read no further than to a stop string."""

    model_id = "remote"

    def __init__(self, url: str, over_http: bool | None) -> None:
        self._url = url
        self.capabilities = Capabilities(over_http=over_http)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        body = json.dumps({"messages": list(request.messages)}).encode()
        with urlopen(Request(self._url, body, {"Content-Type": "application/json"}), timeout=5) as reply:
            content = json.load(reply)["body"]["messages"][-1]["content"]
        yield Chunk(text=f"Final Answer: {content}\nObservation: made up")
        yield Chunk(text=" and more", finish_reason="stop")

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


@pytest.mark.parametrize("over_http", [None, True])
def test_a_backend_over_http_is_recorded_by_that_alone(path: Path, over_http: bool | None) -> None:
    with server() as (base, requests):
        recorded = asked(path, "record", Remote(base, over_http))
    assert (kinds(path), len(requests)) == (["http"], 1)
    assert without_times(asked(path, "replay", Remote(base, over_http))) == without_times(recorded)


class Licensed(Echo):
    """Computes in this process, after it has looked something up over HTTP."""

    def __init__(self, url: str) -> None:
        self._url = url

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        with urlopen(f"{self._url}/licence", timeout=5) as reply:
            assert reply.status == 200
        yield from super().generate_chat(request)


async def test_http_that_does_not_bring_the_reply_does_not_stand_for_the_turn(path: Path) -> None:
    with server() as (base, requests):
        recorded = asked(path, "record", Licensed(base))
        assert (kinds(path), len(requests)) == (["turn"], 1)
        assert await aasked(path.with_name("other.yaml"), "record", Licensed(base))
        assert kinds(path.with_name("other.yaml")) == ["turn"]
    assert without_times(asked(path, "replay", Licensed(base))) == without_times(recorded)


def test_a_turn_that_fails_after_its_http_goes_on_in_a_resumed_run(path: Path) -> None:
    turns = (action("Search", "who is 25"), final("Ada"))

    class Both(Licensed):
        def __init__(self, url: str, scripted: ScriptedBackend) -> None:
            super().__init__(url)
            self._scripted = scripted

        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            list(super().generate_chat(request))
            yield from self._scripted.generate_chat(request)

    def go(mode: Any, *script: Any) -> list[Any]:
        tool = Tool(name="Search", description="Finds.", run=lambda query: "Ada is 25.")
        with Cassette(path, mode, environment={}):
            return list(AgentExecutor.from_model(Both(base, ScriptedBackend(script)), [tool]).events({"input": "Who?"}))

    with server() as (base, _):
        with pytest.raises(KeyboardInterrupt):
            go("record", turns[0], KeyboardInterrupt())
        assert answer(go("resume", turns[1])) == "Ada"
    assert kinds(path) == ["turn", "tool", "turn"]
    assert answer(go("replay")) == "Ada"


def test_a_model_in_process_that_stands_in_for_a_server_is_recorded(path: Path) -> None:
    class Busy(Remote):
        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            try:
                yield from super().generate_chat(request)
            except OSError:
                yield from Echo().generate_chat(request)

    with serving(ChatServer([error(503)], keep_alive=False)) as busy:
        recorded = asked(path, "record", Busy(busy.url, None))
    assert (kinds(path), answer(recorded)) == (["turn"], "Hello")
    assert without_times(asked(path, "replay", Busy(busy.url, None))) == without_times(recorded)


class Pooled(Remote):
    """Its HTTP leaves the context of the run: the pool's threads are of no run."""

    def __init__(self, url: str, over_http: bool | None, pool: Executor, together: threading.Barrier) -> None:
        super().__init__(url, over_http)
        self._pool = pool
        self._together = together

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        with suppress(threading.BrokenBarrierError):
            self._together.wait(5)
        yield from self._pool.submit(lambda: list(super(Pooled, self).generate_chat(request))).result()


@pytest.mark.parametrize("over_http", [None, True])
@pytest.mark.parametrize("runs", [1, 4])
def test_http_of_threads_that_know_no_run_is_recorded_with_the_run_or_not_at_all(
    path: Path, over_http: bool | None, runs: int
) -> None:
    questions = [{"input": f"Question {number}"} for number in range(runs)]
    results: list[Any] = []
    with server() as (base, requests), ThreadPoolExecutor(4) as pool:
        for mode in ("record", "replay", "replay"):
            model = Pooled(base, over_http, pool, threading.Barrier(runs))
            with Cassette(path, mode, environment={}):  # type: ignore[arg-type]
                results.append(AgentExecutor.from_model(model, []).batch(questions, {"max_concurrency": runs}))
            questions = questions[::-1]
        assert len(requests) == runs
    assert results[0] == results[1][::-1] == results[2]
    assert [result["output"] for result in results[0]] == [f"Question {number}" for number in range(runs)]
    assert sorted(entry.run for entry in load(path).entries) == list(range(1, runs + 1))
    assert kinds(path) == ["http"] if runs == 1 else "turn" in kinds(path)


def test_a_model_that_is_asked_past_the_cassette_leaves_no_complete_recording(path: Path) -> None:
    message = AIMessage("hi", usage_metadata={"input_tokens": 3, "output_tokens": 1, "total_tokens": 4})
    model = FakeListChatModel(responses=["hi"])
    chain = RunnableLambda(lambda inputs: AgentFinish({"output": model.invoke("x").text}, "hi"))
    with Cassette(path, "record", environment={}):  # nothing says that a model was asked
        AgentExecutor(chain, []).invoke({"input": "Hello"})
    assert load(path).complete
    gap = "not complete, run 1 asked a model of which nothing was recorded"
    with pytest.raises(CassetteError, match=gap), Cassette(path, "record", environment={}):
        AgentExecutor(chain, [], max_tokens=100).invoke({"input": "Hello"})  # whose tokens are estimated

    class Counted(FakeListChatModel):
        def _generate(self, *args: Any, **kwargs: Any) -> Any:
            result = super()._generate(*args, **kwargs)
            result.generations[0].message = message
            return result

    model = Counted(responses=["hi"])
    with pytest.raises(CassetteError, match=gap), Cassette(path, "record", environment={}):
        AgentExecutor(chain, [], max_tokens=100).invoke({"input": "Hello"})
