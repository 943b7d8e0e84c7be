"""Runs of native calls against a server that fails at random: python -m tests.hosted_agent.chaos [RUNS]"""

from __future__ import annotations

import random
import sys
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from agentkit import AgentExecutor
from agentkit.errors import ModelError
from agentkit.events import Finished
from agentkit.models import ChatHuggingFace
from agentkit.models.hosted.options import hosted_model
from agentkit.tool import Tool
from tests.doubles.server import ChatServer, Play, Request, body, breaks, error, events, reset, say, serving

STEPS = ("alpha", "beta")
ANSWER = "Both are counted."


def call(word: str, arguments: str | None = None) -> dict[str, Any]:
    function = {"name": "Count", "arguments": arguments or f'{{"input": "{word}"}}'}
    return {"index": 0, "id": f"call_{word}", "type": "function", "function": function}


def half(**ending: Any) -> Play:
    """A stream that leaves off within the arguments of a call."""
    piece = call("alpha", '{"input": "al')
    return events({"choices": [{"index": 0, "delta": {"tool_calls": [piece]}, **ending}]}, done=False, end=False)


FAULTS: list[Play] = [
    *(error(429, retry_after="0"), error(500), error(503, "Loading model"), reset),
    *(breaks("I shall count"), breaks("I shall count", by="end"), half()),
    *(body(b"<html>bad gateway</html>", kind="text/html"), body(b""), body(b'{"choices": [{"mess')),
]


def turn(messages: list[dict[str, Any]]) -> Play:
    done = sum(message["role"] == "tool" for message in messages)
    if done < len(STEPS):
        return say("Counting.", finish="tool_calls", tool_calls=[call(STEPS[done])])
    return say(ANSWER)


def run_all(runs: int, *, rate: float = 0.2, seed: int = 1) -> Counter[str]:
    """What came of the runs: "right", the start of an error's message, or "wrong: …"."""
    chance, lock = random.Random(seed), threading.Lock()

    def choose(asked: Request) -> Play:
        with lock:
            faulty, fault = chance.random() < rate, chance.choice(FAULTS)
        return fault if faulty else turn(asked.body["messages"])

    with serving(ChatServer(choose=choose)) as server:
        made = replace(hosted_model(endpoint_url=server.url, timeout=5), sleep=lambda _: None)
        try:
            with ThreadPoolExecutor(8) as pool:
                return Counter(pool.map(lambda number: _run(ChatHuggingFace(llm=made), number), range(runs)))
        finally:
            made.close()


def _run(model: ChatHuggingFace, number: int) -> str:
    counted: Counter[str] = Counter()

    def count(word: str) -> str:
        counted[word] += 1
        return f"{word} is counted"

    tool = Tool(name="Count", description="Counts a word.", run=count)
    executor = AgentExecutor.from_model(model, [tool], mode="tools")
    try:
        *_, last = executor.events("Count both.", stream=bool(number % 2))
    except ModelError as failure:
        return str(failure).partition(" ")[2][:60]
    assert isinstance(last, Finished)
    if (last.output, counted) == (ANSWER, dict.fromkeys(STEPS, 1)):
        return "right"
    return f"wrong: {last.output!r} after {dict(counted)}"


if __name__ == "__main__":
    sys.stdout.write(f"{run_all(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000)}\n")
