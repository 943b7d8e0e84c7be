"""Agent runs against a server that fails at random: what every run must keep, however often it fails."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from agentkit import AgentExecutor
from agentkit.errors import AgentkitError, ModelError
from agentkit.events import Finished
from agentkit.models import ChatHuggingFace
from agentkit.models.hosted.options import hosted_model
from agentkit.tool import Tool
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, Play, Request, body, breaks, error, reset, say, serving, stalls

STEPS = ("alpha", "beta")
ANSWER = "Both are counted."
SILENCE_S = 0.5  # how long a server may be silent: some faults are nothing but silence
FAULTS: list[Play] = [
    error(429, retry_after="0"),
    error(429),
    error(500),
    error(503, "Loading model"),
    reset,
    breaks("Thought: I need"),
    breaks("Thought: I need", by="close"),
    breaks(action("Count", "alpha")[:-20], by="end"),
    breaks(action("Count", "beta"), by="end"),
    body(b"<html>bad gateway</html>", kind="text/html"),
    body(b""),
    body(b'{"choices": [{"mess'),
    body(b'{"error": {"message": "overloaded", "code": 529}}'),
    say("Thought: I", finish="abort"),
]
SILENT: Play = stalls("Thought: I")


@dataclass
class Chaos:
    """What came of some runs."""

    right: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    calls: int = 0
    faults: int = 0


@dataclass
class _Faulty:
    """Plays a run of three steps, told by the conversation how far it is, and fails at random."""

    rate: float
    seed: int
    silences: float
    calls: int = 0
    faults: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def choose(self, asked: Request) -> Play:
        with self._lock:
            self.calls += 1
            faulty = self._random.random() < self.rate
            fault = SILENT if self._random.random() < self.silences else self._random.choice(FAULTS)
            self.faults += faulty
        return fault if faulty else _turn(asked.body["messages"])


def _turn(messages: list[dict[str, Any]]) -> Play:
    done = sum(str(message["content"]).startswith("Observation:") for message in messages)
    return say(action("Count", STEPS[done]) if done < len(STEPS) else final(ANSWER))


def run_all(runs: int, *, rate: float = 0.2, seed: int = 1, workers: int = 8, silences: float = 0.03) -> Chaos:
    """`runs` runs, a quarter each by `invoke`, `events`, `ainvoke` and `aevents`."""
    chaos = Chaos()
    faulty = _Faulty(rate, seed, silences)

    with serving(ChatServer(choose=faulty.choose)) as server, _model(server.url) as model:
        quarter = runs // 4
        with ThreadPoolExecutor(workers) as pool:
            results = list(pool.map(lambda number: _run(model, streamed=bool(number % 2)), range(runs - 2 * quarter)))
        results += asyncio.run(_arun_all(model, 2 * quarter, workers))
    for output, counted, failure in results:
        _judge(chaos, output, counted, failure)
    chaos.calls, chaos.faults = faulty.calls, faulty.faults
    return chaos


def _judge(chaos: Chaos, output: Any, counted: Counter[str], failure: Exception | None) -> None:
    if any(times > 1 for times in counted.values()):
        chaos.wrong.append(f"a tool ran twice: {dict(counted)}")
    elif failure is not None and (not isinstance(failure, ModelError) or "\n" in str(failure)):
        chaos.wrong.append(repr(failure))
    elif failure is not None:
        chaos.errors[str(failure).partition(" ")[2][:60]] += 1
    elif output != ANSWER or sorted(counted) != sorted(STEPS):
        chaos.wrong.append(f"{output!r} after {dict(counted)}")
    else:
        chaos.right += 1


@contextmanager
def _model(url: str) -> Iterator[ChatHuggingFace]:
    """A model of the server that waits for nothing between its attempts."""

    async def asleep(_: float) -> None:
        await asyncio.sleep(0)

    made = hosted_model(endpoint_url=url, timeout=SILENCE_S)
    made = replace(made, sleep=lambda _: None, asleep=asleep)
    try:
        yield ChatHuggingFace(llm=made)
    finally:
        made.close()


def _executor(model: ChatHuggingFace, counted: Counter[str]) -> AgentExecutor:
    def count(word: str) -> str:
        counted[word] += 1
        return f"{word} is counted"

    tool = Tool(name="Count", description="Counts a word.", run=count)
    return AgentExecutor.from_model(model, [tool], mode="react-json")


Result = tuple[Any, "Counter[str]", Exception | None]


def _run(model: ChatHuggingFace, *, streamed: bool) -> Result:
    counted: Counter[str] = Counter()
    executor = _executor(model, counted)
    try:
        if not streamed:
            return executor.invoke({"input": "Count both."})["output"], counted, None
        last = list(executor.events("Count both."))[-1]
        assert isinstance(last, Finished)
        return last.output, counted, None
    except (AgentkitError, ValueError, RuntimeError, OSError) as failure:
        return None, counted, failure


async def _arun(model: ChatHuggingFace, slots: asyncio.Semaphore, *, streamed: bool) -> Result:
    counted: Counter[str] = Counter()
    executor = _executor(model, counted)
    async with slots:
        try:
            if not streamed:
                return (await executor.ainvoke({"input": "Count both."}))["output"], counted, None
            last = [event async for event in executor.aevents("Count both.")][-1]
            assert isinstance(last, Finished)
            return last.output, counted, None
        except (AgentkitError, ValueError, RuntimeError, OSError) as failure:
            return None, counted, failure


async def _arun_all(model: ChatHuggingFace, runs: int, workers: int) -> list[Result]:
    slots = asyncio.Semaphore(workers)
    return await asyncio.gather(*(_arun(model, slots, streamed=bool(number % 2)) for number in range(runs)))
