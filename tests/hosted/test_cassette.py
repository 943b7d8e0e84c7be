"""A hosted model's run in a cassette: its requests are recorded as HTTP, and answered from the file in a replay."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from agentkit import AgentExecutor, Cassette
from agentkit.errors import CassetteDrift
from agentkit.models import ChatHuggingFace
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, Play, Request, breaks, error, say, serving
from tests.hosted.conftest import Make, Waits

TOKEN = "hf_abcdefghijklmnop"
TURNS = [say(action("Calculator", "25^0.43")), say(final("about 4"))]


def run(model: ChatHuggingFace, way: str) -> Any:
    executor = AgentExecutor.from_model(model, ["calculator"], mode="react-json")
    match way:
        case "invoke":
            return executor.invoke({"input": "25^0.43?"})["output"]
        case "events":
            return list(executor.events("25^0.43?"))[-1].output  # type: ignore[union-attr]
        case "ainvoke":
            return asyncio.run(executor.ainvoke({"input": "25^0.43?"}))["output"]

    async def last() -> Any:
        return [event async for event in executor.aevents("25^0.43?")][-1].output  # type: ignore[union-attr]

    return asyncio.run(last())


@pytest.mark.parametrize("way", ["invoke", "events", "ainvoke", "aevents"])
def test_a_run_replays_without_its_server(server: ChatServer, chat: Make, tmp_path: Path, way: str) -> None:
    path = tmp_path / "run.yaml"
    server.plays = TURNS
    with Cassette(path, "record"):
        assert run(chat(huggingfacehub_api_token=TOKEN), way) == "about 4"
    asked = len(server.requests)
    model = chat(huggingfacehub_api_token="another-token")
    with Cassette(path, "replay"):
        assert run(model, way) == "about 4"
    assert len(server.requests) == asked
    text = path.read_text()
    assert TOKEN not in text
    uris = [one["request"]["uri"] for one in yaml.safe_load(text)["interactions"]]
    chat_uri = f"{server.url}/v1/chat/completions"
    assert uris == [chat_uri, "tool://Calculator", chat_uri]


FAULTS: dict[str, list[Play]] = {
    "statuses": [error(502), error(429, retry_after="3"), error(503, "Loading model")],
    "a broken stream": [breaks("Thought: I", by="end")],
}


@pytest.mark.parametrize("plays", FAULTS.values(), ids=FAULTS)
@pytest.mark.parametrize("way", ["invoke", "events", "aevents"])
def test_faults_are_replayed_without_waiting(
    server: ChatServer, chat: Make, waits: Waits, tmp_path: Path, plays: list[Play], way: str
) -> None:
    path = tmp_path / "run.yaml"
    server.plays = [*plays, *TURNS]
    model = chat()
    with Cassette(path, "record"):
        assert run(model, way) == "about 4"
    assert len(waits.seconds) == len(plays)
    with Cassette(path, "replay"):
        assert run(model, way) == "about 4"
    assert waits.seconds[len(plays) :] == [0.0] * len(plays)
    assert len(server.bodies) == len(plays) + 2


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_what_was_learnt_of_a_server_before_is_learnt_again(
    server: ChatServer, chat: Make, tmp_path: Path, way: str
) -> None:
    """A replay may be another process, and a cassette is entered more than once."""

    def choose(asked: Request) -> Play:
        if asked.path == "/api/chat/completions":
            return error(404)
        if "stop" in asked.body:
            return error(400, "stop is not supported")
        return TURNS[any("Observation" in str(message["content"]) for message in asked.body["messages"][1:])]

    server.choose, address = choose, f"{server.url}/api"
    model, cassette = chat(address), Cassette(tmp_path / "run.yaml", "record")
    for _ in range(2):
        asked = len(server.bodies)
        with cassette:
            assert run(model, way) == "about 4"
        assert len(server.bodies) - asked == 4  # refused at the first address, and for the field
    for played in (model, chat(address)):
        with Cassette(tmp_path / "run.yaml", "replay"):
            assert run(played, way) == "about 4"
    asked = len(server.bodies)
    assert run(model, way) == "about 4"
    assert run(model, way) == "about 4"
    assert len(server.bodies) - asked == 4 + 2  # what was learnt in no block is kept


def test_a_changed_request_is_drift_and_not_tried_again(server: ChatServer, chat: Make, tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    server.plays = TURNS
    with Cassette(path, "record"):
        run(chat(), "invoke")
    with pytest.raises(CassetteDrift, match="temperature"), Cassette(path, "replay"):
        run(chat(temperature=0.5), "invoke")


@pytest.mark.parametrize(
    ("old", "new"), [("finish_reason: stop", "finish_reason: eos"), ("completion_tokens: ", "completion_tokens: 1")]
)
def test_a_reply_that_was_changed_in_the_file_is_drift(
    server: ChatServer, chat: Make, tmp_path: Path, old: str, new: str
) -> None:
    path = tmp_path / "run.yaml"
    server.plays = TURNS
    with Cassette(path, "record"):
        run(chat(), "invoke")
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(CassetteDrift, match=r"interaction 1 was changed in the file"), Cassette(path, "replay"):
        run(chat(), "invoke")


def agentkit(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("AGENTKIT_", "HF_"))}
    return subprocess.run(
        [sys.executable, "-m", "agentkit", *words],
        capture_output=True,
        text=True,
        env={**clean, **environment},
        timeout=120,
    )


@pytest.mark.slow
def test_the_command_records_and_replays(tmp_path: Path) -> None:
    path = str(tmp_path / "run.yaml")
    key = "my-own-key-0123456789"
    with serving(ChatServer(TURNS)) as server:
        words = ("run", "25^0.43?", "--model", server.url, "--tools", "calculator", "--mode", "react-json", "-q")
        done = agentkit(*words, "--record", path, AGENTKIT_API_KEY=key)
        assert (done.returncode, done.stdout) == (0, "about 4\n"), done.stderr
        assert {request.headers["authorization"] for request in server.requests} == {f"Bearer {key}"}
    replayed = agentkit("replay", path, "-q")
    assert (replayed.returncode, replayed.stdout) == (0, "about 4\n"), replayed.stderr
    assert key not in Path(path).read_text()
