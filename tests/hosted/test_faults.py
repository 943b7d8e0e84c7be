"""Every way a server is known to fail, asked in every way: blocking and awaiting, whole and in pieces."""

from __future__ import annotations

import json
from email.utils import formatdate
from typing import Any

import pytest

from agentkit.errors import AgentkitError, ConfigurationError, ModelError, ReplyChanged
from tests.doubles.server import ChatServer, Play, body, breaks, error, events, reset, say, silent
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make, Waits

LOADING = body(json.dumps({"error": "Model is currently loading", "estimated_time": 21.5}).encode(), 503)
LATER = formatdate(4e9, usegmt=True)

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)

MENDED: list[Any] = [
    ("429 with Retry-After", [error(429, retry_after="7")], [7.0]),
    ("429 with Retry-After-Ms", [error(429, retry_after_ms="1500")], [1.5]),
    ("429 without", [error(429)], [0.5]),
    ("429 with nonsense", [error(429, retry_after="soon")], [0.5]),
    ("503 loading", [LOADING, LOADING, LOADING, LOADING, LOADING, LOADING], [21.5] * 6),
    ("503 loading, llama.cpp", [error(503, "Loading model")] * 6, [0.5, 1.0, 2.0, 2.0, 2.0, 2.0]),
    ("503", [error(503)], [0.5]),
    ("500 thrice", [error(500), error(502), error(504)], [0.5, 1.0, 2.0]),
    ("408 and 409", [error(408), error(409)], [0.5, 1.0]),
    ("reset before", [reset], [0.5]),
    ("reset in the middle", [breaks("hel")], [0.5]),
    ("closed in the middle", [breaks("hel", by="close")], [0.5]),
    ("ended in the middle", [breaks("hel", by="end")], [0.5]),
    ("ended before a word", [breaks("", by="end")], [0.5]),
    ("HTML", [body(b"<html><body>gateway</body></html>", kind="text/html")], [0.5]),
    ("empty", [body(b"")], [0.5]),
    ("no JSON", [body(b'{"choices": [')], [0.5]),
    ("JSON of something else", [body(b'{"ok": true}')], [0.5]),
    ("a list", [body(b"[1, 2]")], [0.5]),
    ("choices of the wrong type", [body(b'{"choices": [7]}')], [0.5]),
    ("an error with status 200", [body(b'{"error": {"message": "overloaded", "code": 529}}')], [0.5]),
    ("broken off by the server", [say("hel", finish="abort")], [0.5]),
    ("silent", [silent], [0.5]),
]


@every_way
@pytest.mark.parametrize(("plays", "waited"), [case[1:] for case in MENDED], ids=[case[0] for case in MENDED])
def test_a_fault_that_passes_is_mended(
    server: ChatServer, chat: Make, waits: Waits, ask: Ask, plays: list[Play], waited: list[float]
) -> None:
    server.plays = [*plays, say("hello")]
    reply = ask(chat(timeout=0.3 if plays == [silent] else 120))
    assert (reply.content, reply.response_metadata["finish_reason"]) == ("hello", "stop")
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["total_tokens"] == 10
    assert waits.seconds == waited
    assert len(server.requests) == len(plays) + 1


LASTING: list[Any] = [
    ("400", error(400, "context too long"), ModelError, "answered HTTP 400: context too long", 1),
    ("401", error(401), ConfigurationError, "no key was sent; set AGENTKIT_API_KEY", 1),
    ("403", error(403), ConfigurationError, "no key was sent; set AGENTKIT_API_KEY", 1),
    (
        "404",
        error(404, "no such path"),
        ModelError,
        r"\(asked: /v1/chat/completions, /chat/completions\)$",
        2,
    ),
    ("404 of a model", error(404, "no such model"), ModelError, "answered HTTP 404: no such model", 1),
    ("422", body(b'{"detail": "no"}', 422), ModelError, "answered HTTP 422: no", 1),
    ("402", error(402, "credits"), ModelError, "answered HTTP 402: credits", 1),
    ("500 of a parameter", error(500, "n param requires --fast"), ModelError, "HTTP 500: n param requires --fast$", 1),
    ("500", error(500), ModelError, r"answered HTTP 500: broken \(tried 5 times\)", 5),
    ("an error page", body(b"<h1>502</h1>", 502, kind="text/html"), ModelError, "HTTP 502: an HTML page", 5),
    ("HTML", body(b"<html>", kind="text/html"), ModelError, "saw an HTML page; is this an OpenAI-compatible", 3),
    ("empty", body(b" "), ModelError, "saw an empty reply", 3),
    ("reset", reset, ModelError, "broke the connection", 2),
    ("broken", breaks("hel"), ModelError, r"broke the connection .* \(tried 5 times\)", 5),
    ("a day's wait", error(429, "quota", retry_after="86400"), ModelError, "after the deadline", 1),
    ("a wait until 2096", error(429, "quota", retry_after=LATER), ModelError, "after the deadline", 1),
    ("redirect", body(b"", 302, location="http://127.0.0.1:1/"), ModelError, "answered HTTP 302", 1),
]


@every_way
@pytest.mark.parametrize(
    ("play", "kind", "said", "tries"), [case[1:] for case in LASTING], ids=[case[0] for case in LASTING]
)
def test_a_fault_that_lasts_is_one_clear_error(
    server: ChatServer, chat: Make, ask: Ask, play: Play, kind: type[Exception], said: str, tries: int
) -> None:
    server.plays = [play]
    with pytest.raises(AgentkitError, match=said) as caught:
        ask(chat())
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert len(server.requests) == tries


@pytest.mark.parametrize("ask", [WAYS["invoke"], WAYS["ainvoke"]])
def test_a_server_that_is_not_there_is_named_after_two_tries(chat: Make, waits: Waits, ask: Ask) -> None:
    with pytest.raises(ModelError, match=r"^http://127.0.0.1:9 could not be reached \(ConnectError.*tried 2 times"):
        ask(chat("http://127.0.0.1:9"))
    assert waits.seconds == [0.5]


@pytest.mark.parametrize("ask", [WAYS["invoke"], WAYS["ainvoke"]])
@pytest.mark.parametrize("of_environment", [True, False])
def test_a_proxy_that_is_not_there_is_named(
    chat: Make, ask: Ask, monkeypatch: pytest.MonkeyPatch, of_environment: bool
) -> None:
    """Without its password."""
    proxy = "http://ada:sesame@127.0.0.1:9"
    if of_environment:
        monkeypatch.setenv("http_proxy", proxy)
    options = {} if of_environment else {"proxy": proxy}
    with pytest.raises(ModelError, match=r"by the proxy http://127\.0\.0\.1:9\); is that proxy running") as told:
        ask(chat("http://a.example/v1", max_retries=0, **options))
    assert "sesame" not in str(told.value)


@every_way
def test_tries_that_were_asked_for_are_made(chat: Make, waits: Waits, ask: Ask) -> None:
    with pytest.raises(ModelError, match="tried 4 times"):
        ask(chat("http://127.0.0.1:9", max_retries=3))
    assert waits.seconds == [0.5, 1.0, 2.0]


@every_way
def test_the_head_of_a_stream_says_that_there_is_a_server(
    server: ChatServer, chat: Make, waits: Waits, ask: Ask
) -> None:
    server.plays = [events(done=False, end=False), reset, reset, reset, say("hello")]
    assert ask(chat(streaming=True)).content == "hello"
    assert waits.seconds == [0.5, 1.0, 2.0, 4.0]


@every_way
@pytest.mark.parametrize("streaming", [True, False])
def test_pieces_that_came_say_that_there_is_a_server(
    server: ChatServer, chat: Make, waits: Waits, ask: Ask, streaming: bool
) -> None:
    server.plays = [breaks("hel"), reset, reset, reset, say("hello")]
    assert ask(chat(streaming=streaming)).content == "hello"
    assert waits.seconds == [0.5, 1.0, 2.0, 4.0]


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("again", ["hexagon", "hel"])
def test_a_repeated_stream_that_differs_from_what_was_shown_is_an_error(
    server: ChatServer, chat: Make, way: str, again: str
) -> None:
    server.plays = [breaks("hello"), say(again)]
    with pytest.raises(ReplyChanged, match="the repeated reply is another one"):
        WAYS[way](chat())


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
def test_where_nothing_is_shown_any_repeated_reply_will_do(server: ChatServer, chat: Make, way: str) -> None:
    server.plays = [breaks("hello"), say("hexagon")]
    assert WAYS[way](chat(streaming=True)).content == "hexagon"
    assert [sent["stream"] for sent in server.bodies] == [True, True]


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_what_was_shown_is_not_shown_again(server: ChatServer, chat: Make, way: str) -> None:
    server.plays = [breaks("hello wo"), breaks("hello world, hel"), say("hello world, hello")]
    assert WAYS[way](chat()).content == "hello world, hello"


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_after_the_end_of_a_reply_nothing_that_fails_matters(server: ChatServer, chat: Make, way: str) -> None:
    end = {"choices": [{"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}]}
    server.plays = [events(end, done=False, end=False)]
    reply = WAYS[way](chat())
    assert (reply.content, reply.usage_metadata) == ("hello", None)
    assert len(server.requests) == 1


@every_way
def test_length_is_known_as_truncated(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [say("hello", finish="length")]
    assert ask(chat()).response_metadata["finish_reason"] == "length"


def test_waits_are_told(server: ChatServer, chat: Make, caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    server.plays = [LOADING, error(500), say("hello")]
    with caplog.at_level("INFO", logger="agentkit"):
        chat(notice=told.append).invoke("hi")
    expected = [
        f"{server.url} is loading the model; asking again in 22 s",
        f"{server.url} answered HTTP 500: broken; trying again in 0.5 s",
    ]
    assert told == expected
    assert [record.message for record in caplog.records if record.name == "agentkit"] == expected
