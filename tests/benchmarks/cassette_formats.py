"""The same hosted run of ten steps in three formats: ours, vcrpy's own, and the reviewable one of pydantic-ai's tests.

python tests/benchmarks/cassette_formats.py

The model is asked over HTTP on loopback, the search is an HTTP call too. Prints size, time to record and to replay
(medians; the run's own time without any cassette beside it), and how many lines of a diff change after one word of the
prompt did, and after one observation did; lines of time (`ms`, `at_ms`, `seconds`, dates in headers) do not count.
pydantic-ai keeps its serializer among its tests, not in its package: here is one written after its description (parsed
JSON bodies, text of several lines in literal blocks, most headers dropped). vcrpy matches method, address and body.
"""

from __future__ import annotations

import difflib
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import requests
import vcr
import yaml

from agentkit import AgentExecutor, chat_model
from agentkit.cassette import Cassette
from agentkit.models.backend import Completion, Usage
from agentkit.react_json.prompt import Prompt
from agentkit.tool import Tool
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, Play, Request, body, reply, serving

STEPS, REPEATS = 10, 5
PROMPT = (
    "[system]\n" + "You answer questions with the help of tools. " * 25 + "\n{tools} {tool_names}\n[human]\n{input}\n"
    "[messages agent_scratchpad]"
)
FOUND = "A result of a search, as long as results of searches are. " * 8
TURNS = [action("Search", f"question number {n}", "I should look this up. " * 4) for n in range(STEPS - 1)] + [
    final("42")
]
VOLATILE = ("ms:", "at_ms:", "seconds:", "- Sat", "- Sun", "- Mon", "- Tue", "- Wed", "- Thu", "- Fri")


@dataclass
class Server(ChatServer):
    """A model and a search engine."""

    observation: str = ""
    keep_alive: bool = False

    def answer(self, request: Request, number: int) -> Play:
        if request.method == "GET":
            question = request.path[-1]
            answer = {"answer": f"{question}: {self.observation if question == '4' else FOUND}"}
            return body(json.dumps(answer).encode())
        turn = sum(message["role"] == "assistant" for message in request.body["messages"])
        return reply(Completion(TURNS[turn], Usage(100, 50)))


def run(base: str, prompt: str) -> Any:
    search = Tool(
        name="Search", description="Finds.", run=lambda q: requests.get(f"{base}/s?q={q}", timeout=5).json()["answer"]
    )
    model = chat_model(f"{base}/v1", streaming=False)
    executor = AgentExecutor.from_model(model, [search], Prompt.parse(prompt), mode="react-json")
    return executor.invoke({"input": "What is the answer?"})["output"]


class Reviewable:
    """After the description of the serializer in pydantic-ai's tests."""

    KEPT = ("content-type", "content-length", "accept", "connection", "host", "transfer-encoding")

    class Dumper(yaml.CDumper):
        """Text of several lines in literal blocks."""

    Dumper.add_representer(
        str,
        lambda dumper, text: dumper.represent_scalar(
            "tag:yaml.org,2002:str", text, style="|" if "\n" in text else None
        ),
    )

    @classmethod
    def serialize(cls, document: Any) -> str:
        for part in (part for one in document["interactions"] for part in one.values()):
            headers = {name.lower(): value for name, value in part.get("headers", {}).items()}
            part["headers"] = {name: value for name, value in headers.items() if name in cls.KEPT}
            body = part["body"]["string"] if isinstance(part["body"], dict) else part["body"]
            if body and "application/json" in str(headers.get("content-type")):
                part["parsed_body"] = json.loads(body)
                del part["body"]
        return yaml.dump(document, Dumper=cls.Dumper, allow_unicode=True, width=120)

    @staticmethod
    def deserialize(text: str) -> Any:
        document = yaml.load(text, Loader=yaml.CSafeLoader)
        for kind, part in (pair for one in document["interactions"] for pair in one.items()):
            if (parsed := part.pop("parsed_body", None)) is not None:
                part["body"] = {"string": json.dumps(parsed)} if kind == "response" else json.dumps(parsed)
        return document


Use = Callable[[Path, bool], AbstractContextManager[Any]]


def ours(path: Path, record: bool) -> AbstractContextManager[Any]:
    return Cassette(path, "record" if record else "replay", environment={})


def vcrpy(serializer: str) -> Use:
    library = vcr.VCR(serializer=serializer, match_on=("method", "uri", "body"))
    library.register_serializer("reviewable", Reviewable)

    def use(path: Path, record: bool) -> AbstractContextManager[Any]:
        if record:
            path.unlink(missing_ok=True)
        used: AbstractContextManager[Any] = library.use_cassette(str(path), record_mode="all" if record else "none")
        return used

    return use


def median_ms(measured: Callable[[], object]) -> float:
    measured()
    times = []
    for _ in range(REPEATS):
        started_s = time.perf_counter()
        measured()
        times.append((time.perf_counter() - started_s) * 1000)
    return statistics.median(times)


def diff_lines(before: str, after: str) -> int:
    """Lines that a reviewer sees changed."""
    kept = [[line for line in text.splitlines() if not line.strip().startswith(VOLATILE)] for text in (before, after)]
    lines = difflib.unified_diff(*kept, n=0, lineterm="")
    return sum(line[0] in "+-" and line[:3] not in ("+++", "---") for line in lines)


def main() -> None:
    formats: dict[str, Use] = {"agentkit": ours, "vcrpy": vcrpy("yaml"), "pydantic-ai's": vcrpy("reviewable")}
    print(
        f"{'ten steps':15} {'kB':>7} {'record ms':>10} {'replay ms':>10} {'word: lines':>12} {'observation: lines':>19}"
    )
    with serving(Server()) as server, tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"

        def once(use: Use | None, *, record: bool = True, prompt: str = PROMPT, found: str = FOUND) -> str:
            server.observation = found
            with use(path, record) if use is not None else nullcontext():
                assert run(server.url, prompt) == "42"
            return path.read_text(encoding="utf-8") if use is not None else ""

        print(f"{'no cassette':15} {'':7} {median_ms(lambda: once(None)):10.0f}")
        for name, use in formats.items():
            record_ms = median_ms(lambda use=use: once(use))  # type: ignore[misc]
            before, size = once(use), path.stat().st_size
            replay_ms = median_ms(lambda use=use: once(use, record=False))  # type: ignore[misc]
            word = diff_lines(before, once(use, prompt=PROMPT.replace("questions", "riddles", 1)))
            observation = diff_lines(before, once(use, found=FOUND.replace("result", "outcome", 1)))
            print(f"{name:15} {size / 1000:7.1f} {record_ms:10.0f} {replay_ms:10.0f} {word:12d} {observation:19d}")


if __name__ == "__main__":
    main()
