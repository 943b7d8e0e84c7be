"""HTTP goes into the same file through vcrpy, and comes back with the server down and sockets blocked."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import httpx
import pytest
import requests
import yaml

from agentkit.cassette import Cassette
from agentkit.cassette.format.file import load
from agentkit.errors import CassetteDrift
from agentkit.models.scripted import ScriptedBackend
from agentkit.tool import Tool
from tests.cassette.runs import QUESTION, TURNS, ScriptedModel, Tools, answer, observations, play, run
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, Play, Request, body, serving

KEY = "0123456789abcdef-key"


def echo(request: Request) -> Play:
    """Answers with what it was asked, and with things that must not be kept."""
    value = {"path": request.path} if request.method == "GET" else {"body": request.body}
    return body(json.dumps(value).encode(), Set_Cookie="session=0123456789")


@contextmanager
def server() -> Iterator[tuple[str, list[Request]]]:
    with serving(ChatServer(choose=echo, keep_alive=False)) as running:
        yield running.url, running.requests


def by_requests(url: str) -> str:
    return requests.post(url, json={"q": "age"}, headers={"Authorization": f"Bearer {KEY}"}, timeout=5).text


def by_httpx(url: str) -> str:
    return httpx.post(url, json={"q": "age"}, headers={"X-Key": KEY}, timeout=5).text


def by_urllib(url: str) -> str:
    with urlopen(url, timeout=5) as reply:
        return str(reply.read().decode())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.yaml"


def web_tool(fetch: Any, base: str, key: str = KEY, *, side_effects: bool | None = False) -> list[Tool]:
    def search(query: str) -> str:
        return str(json.loads(fetch(f"{base}/search?q={query.replace(' ', '+')}&api_key={key}")))

    return [Tool(name="Search", description="Finds.", run=search, side_effects=side_effects), Tools().both()[1]]


@pytest.mark.parametrize("fetch", [by_requests, by_httpx, by_urllib])
@pytest.mark.parametrize("kind", [ScriptedBackend, ScriptedModel])
def test_a_tool_that_speaks_http_is_executed_again_and_answered(path: Path, fetch: Any, kind: Any) -> None:
    with server() as (base, asked):
        recorded = run(path, "record", kind(TURNS), web_tool(fetch, base), environment={"WEB_API_KEY": KEY})
    assert len(asked) == 1
    replayed = run(path, "replay", kind(()), web_tool(fetch, base, key="another"))
    expected = [text.replace(KEY, "<REDACTED>") for text in observations(recorded)]
    assert observations(replayed) == expected
    assert answer(replayed) == "125"
    text = path.read_text()
    assert KEY not in text
    assert "session=" not in text
    uris = [one["request"]["uri"].partition("?")[0] for one in yaml.safe_load(text)["interactions"]]
    turn = f"model://{'scripted' if kind is ScriptedBackend else 'other'}/turn"
    assert uris == [turn, f"{base}/search", turn, "tool://Calculator", turn]


@pytest.mark.parametrize("side_effects", [None, True])
def test_a_tool_that_may_change_something_is_recorded_by_its_result_and_no_file_makes_it_run(
    path: Path, side_effects: bool | None
) -> None:
    ran: list[str] = []

    def fetch(url: str) -> str:
        ran.append(url)
        return by_requests(url)

    with server() as (base, _):
        recorded = run(
            path, "record", ScriptedBackend(TURNS), web_tool(fetch, base, side_effects=side_effects), environment={}
        )
    assert [entry.kind for entry in load(path).entries] == ["turn", "tool", "turn", "tool", "turn"]
    again = web_tool(fetch, base, side_effects=side_effects)
    assert observations(run(path, "replay", ScriptedBackend(()), again)) == observations(recorded)
    path.write_text(path.read_text().replace("uri: tool://Search", "uri: http://example.com/", 1))
    with pytest.raises(CassetteDrift, match="a replay runs no tool that does not say that it only reads"):
        run(path, "replay", ScriptedBackend(()), again)
    assert len(ran) == 1


def test_bodies_are_parsed_json(path: Path) -> None:
    with server() as (base, _):
        run(path, "record", ScriptedBackend(TURNS), web_tool(by_requests, base), environment={})
    http = yaml.safe_load(path.read_text())["interactions"][1]
    assert http["request"]["body"] == {"q": "age"}
    assert http["response"]["body"] == {"json": {"body": {"q": "age"}}}


def test_a_changed_request_drifts_although_the_tool_swallows_it(path: Path) -> None:
    def fetch(subject: str) -> Any:
        def post(url: str) -> str:
            try:
                return requests.post(url, json={"q": subject}, timeout=5).text
            except Exception:
                return '"nothing found"'

        return post

    with server() as (base, _):
        run(path, "record", ScriptedBackend(TURNS), web_tool(fetch("age"), base), environment={})
    said = r"step 1: HTTP: body.q changed: recorded 'age', this run 'size'"
    with pytest.raises(CassetteDrift, match=said):
        run(path, "replay", ScriptedBackend(()), web_tool(fetch("size"), base))


def test_one_request_more_drifts(path: Path) -> None:
    def twice(url: str) -> str:
        by_requests(url)
        return by_requests(url)

    with server() as (base, _):
        run(path, "record", ScriptedBackend(TURNS), web_tool(by_requests, base), environment={})
    with pytest.raises(CassetteDrift, match="no HTTP is left in the recording"):
        run(path, "replay", ScriptedBackend(()), web_tool(twice, base))


def connect() -> None:
    with socket.socket() as opened:
        opened.connect(("example.com", 80))


@pytest.mark.parametrize(
    "reach",
    [
        connect,
        lambda: socket.create_connection(("example.com", 80)),
        lambda: socket.getaddrinfo("example.com", 80),
        lambda: requests.get("http://example.com", timeout=5),
        lambda: httpx.get("http://example.com", timeout=5),
    ],
)
def test_the_network_is_blocked(path: Path, reach: Callable[[], object]) -> None:
    def carry_on(_: Cassette) -> None:
        with suppress(Exception):
            reach()

    run(path, "record", ScriptedBackend(TURNS), Tools())
    said = r"this run connects to example.com, the recording does not; it was blocked"
    with pytest.raises(CassetteDrift, match=said):
        play(path, carry_on)


def test_after_a_replay_the_network_is_as_it_was(path: Path) -> None:
    before = socket.socket.connect, socket.getaddrinfo, socket.create_connection
    run(path, "record", ScriptedBackend(TURNS), Tools())
    run(path, "replay", ScriptedBackend(()), Tools())
    assert (socket.socket.connect, socket.getaddrinfo, socket.create_connection) == before
    with server() as (base, asked):
        by_urllib(base)
    assert len(asked) == 1


@pytest.mark.slow
def test_threads_of_a_tool_that_know_no_context_are_replayed_too(path: Path) -> None:
    def fetch(url: str) -> str:
        with ThreadPoolExecutor(8) as pool:
            replies = list(pool.map(by_requests, [f"{url}&part={part}" for part in range(16)]))
        return json.dumps(len(replies))

    with server() as (base, asked):
        run(path, "record", ScriptedBackend(TURNS), web_tool(fetch, base), environment={})
        assert len(asked) == 16
        asked.clear()
        for _ in range(3):
            replayed = run(path, "replay", ScriptedBackend(()), web_tool(fetch, base))
            assert observations(replayed)[0] == "16"
        assert asked == []


def test_a_key_from_the_environment_is_stood_in_for(path: Path) -> None:
    import os

    def fetch(_: str) -> str:
        environment_key = environment["WEB_API_KEY"]
        return by_urllib(f"{base}/search?appid={environment_key}")

    environment = {"WEB_API_KEY": KEY, **{name: os.environ[name] for name in ("PATH",)}}
    tool = [Tool(name="Search", description="Finds.", run=fetch)]
    turns = (action("Search", QUESTION), final("x"))
    with server() as (base, _):
        run(path, "record", ScriptedBackend(turns), tool, environment=environment)
    del environment["WEB_API_KEY"]
    assert answer(run(path, "replay", ScriptedBackend(()), tool, environment=environment)) == "x"
    assert "WEB_API_KEY" not in environment
