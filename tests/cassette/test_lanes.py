"""Several runs in one cassette, at once: each is recorded and replayed by itself."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langchain_core.agents import AgentAction, AgentFinish
from langchain_core.runnables import RunnableLambda

from agentkit import AgentExecutor, chat_model
from agentkit.cassette import Cassette
from agentkit.cassette.format.file import load
from agentkit.errors import CassetteDrift
from agentkit.events import Finished
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.tool import Tool
from tests.cassette.test_replay import chat_server
from tests.doubles.models import action, final

QUESTIONS = [{"input": f"What is {number} * 5?"} for number in range(1, 9)]
ANSWERS = [str(number * 5) for number in range(1, 9)]


@dataclass
class Multiplier:
    """Looks at what it is asked, so that runs may come in any order; all of them begin before one goes on."""

    barrier: threading.Barrier
    model_id: str = "multiplier"
    asked: list[ChatRequest] = field(default_factory=list)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        self.asked.append(request)
        said = str(request.messages[-1]["content"])
        if "Observation:" in said:
            yield Chunk(text=final(said.rpartition(" ")[2]))
            return
        with suppress(threading.BrokenBarrierError):
            self.barrier.wait(5)
        yield Chunk(text=action("Calculator", said.removeprefix("What is ").removesuffix("?")))

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            await asyncio.sleep(0)
            yield chunk


def multiplied(together: int) -> tuple[Multiplier, AgentExecutor]:
    backend = Multiplier(threading.Barrier(together))
    return backend, AgentExecutor.from_model(ChatHuggingFace(llm=backend), ["calculator"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.yaml"


def batch(path: Path, mode: Any, *, questions: list[Any] = QUESTIONS, together: int = 8) -> tuple[int, list[str]]:
    backend, executor = multiplied(together)
    with Cassette(path, mode, environment={}):
        results = executor.batch(questions, config={"max_concurrency": together})
    return len(backend.asked), [result["output"] for result in results]


def test_a_batch_is_recorded_and_replayed(path: Path) -> None:
    assert batch(path, "record") == (16, ANSWERS)
    entries = load(path).entries
    assert sorted({entry.run for entry in entries}) == list(range(1, 9))
    for run in range(1, 9):
        assert [entry.kind for entry in entries if entry.run == run] == ["turn", "tool", "turn"]
    endings = [recorded.run for recorded in load(path).events if isinstance(recorded.event, Finished)]
    assert sorted(endings) == list(range(1, 9))
    for together in (8, 1):
        assert batch(path, "replay", together=together) == (0, ANSWERS)
    assert batch(path, "replay", questions=QUESTIONS[::-1]) == (0, ANSWERS[::-1])


async def test_runs_awaited_at_once_are_recorded_and_replayed(path: Path) -> None:
    for mode, calls in (("record", 16), ("replay", 0)):
        backend, executor = multiplied(1)
        with Cassette(path, mode, environment={}):  # type: ignore[arg-type]
            results = await asyncio.gather(*map(executor.ainvoke, QUESTIONS))
        assert ([result["output"] for result in results], len(backend.asked)) == (ANSWERS, calls)


@pytest.mark.slow
def test_a_batch_that_was_cut_off_goes_on(path: Path) -> None:
    batch(path, "record", questions=QUESTIONS[:3], together=3)
    text = path.read_text(encoding="utf-8")
    places = [place for place in range(len(text)) if text.startswith("\n  at_ms: ", place)]
    partial = path.with_name("runs.partial.yaml")
    partial.write_text(text[: text.index("\n", places[5] + 1) + 1], encoding="utf-8")  # nine entries, six of them
    asked = 2 * 4 - turns_among_the_first_six(text)
    assert batch(path, "resume", questions=QUESTIONS[:4], together=4) == (asked, ANSWERS[:4])
    assert batch(path, "replay", questions=QUESTIONS[:4], together=4) == (0, ANSWERS[:4])


def turns_among_the_first_six(text: str) -> int:
    """That depends on the threads."""
    kinds = [line.split()[1].partition(":")[0] for line in text.splitlines() if line.startswith("    uri: ")]
    return kinds[:6].count("model")


def test_runs_of_an_executor_that_holds_a_cassettes_path_share_it(path: Path) -> None:
    for calls in (16, 0):
        backend = Multiplier(threading.Barrier(8))
        executor = AgentExecutor.from_model(ChatHuggingFace(llm=backend), ["calculator"], cassette=path)
        results = executor.batch(QUESTIONS, config={"max_concurrency": 8})
        assert ([result["output"] for result in results], len(backend.asked)) == (ANSWERS, calls)


def test_a_run_that_is_none_of_them_drifts(path: Path) -> None:
    batch(path, "record", questions=QUESTIONS[:2], together=2)
    with pytest.raises(CassetteDrift, match=r"runs.yaml, run 1, step 1: messages\[1\].content changed"):
        batch(path, "replay", questions=[{"input": "What is 9 * 5?"}], together=1)
    with pytest.raises(CassetteDrift, match="3 of 6 recorded interactions not played, first a turn of the model"):
        batch(path, "replay", questions=QUESTIONS[:1], together=1)
    with pytest.raises(CassetteDrift, match="this run asks for another turn of the model, the recording ends after 0"):
        batch(path, "replay", questions=[*QUESTIONS[:2], QUESTIONS[0]], together=1)


def test_hosted_runs_at_once_are_told_apart_by_what_they_ask(path: Path) -> None:
    tool = [Tool(name="Search", description="Finds.", run=str)]
    replies: list[list[str]] = []
    with chat_server((final("an answer"),) * 4) as server:
        for mode in ("record", "replay"):
            executor = AgentExecutor.from_model(chat_model(server.url), tool, mode="react-json")
            with Cassette(path, mode, environment={}):  # type: ignore[arg-type]
                results = executor.batch(QUESTIONS[:4], config={"max_concurrency": 4})
            replies.append([result["output"] for result in results])
        assert len(server.bodies) == 4
    assert replies[0] == replies[1] == ["an answer"] * 4
    assert {entry.run for entry in load(path).entries} == {1, 2, 3, 4}


def test_the_tools_of_one_turn_run_at_once_while_they_are_recorded(tmp_path: Path) -> None:
    together = threading.Barrier(2)

    def meet(place: str) -> str:
        """Wait for the other."""
        together.wait(timeout=30)
        return f"met at the {place}"

    def plan(inputs: dict[str, Any]) -> Any:
        seen = [observation for _, observation in inputs["intermediate_steps"]]
        if seen:
            return AgentFinish({"output": " and ".join(seen)}, "")
        return [AgentAction("meet", place, "") for place in ("well", "mill")]

    path = tmp_path / "run.yaml"
    executor = AgentExecutor(RunnableLambda(plan), [meet], cassette=path)
    recorded = executor.invoke({"input": "Where?"})
    assert recorded["output"] == "met at the well and met at the mill"
    together.abort()
    assert executor.invoke({"input": "Where?"}) == recorded
