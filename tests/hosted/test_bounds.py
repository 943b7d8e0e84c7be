"""A server sends what it likes, as long as it likes: one clear line, by the deadline, in bounded memory."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from agentkit.errors import ModelError
from agentkit.http_body import MOST_BYTES, Body, Unreadable
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.hosted.delivery import Delivery
from agentkit.models.hosted.model import HostedModel
from agentkit.models.openai_format import MOST_EVENT_BYTES, CompletionReader, ServerSentEvents, TooMuch
from tests.doubles.server import ChatServer, Line, Play, _until_gone, body, error, events, say
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make

HI = ChatRequest(messages=[{"role": "user", "content": "hi"}])
JSON, STREAM = "application/json", "text/event-stream"
MB = 2**20

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


def whole(**message: Any) -> bytes:
    """A good reply's body."""
    choice = {"message": {"content": "hi", **message}, "finish_reason": "stop"}
    return json.dumps({"choices": [choice]}).encode()


def endless(piece: bytes, status: int = 200, kind: str = JSON) -> Play:
    """The same chunk again and again, as fast as it is taken."""

    def play(line: Line) -> None:
        line.keep = False
        line.head(status, {"Content-Type": kind, "Transfer-Encoding": "chunked"})
        while not line.closing.is_set():
            line.chunk(piece)

    return play


def raw(head: bytes, again: bytes = b"") -> Play:
    """Just these bytes, and then others again and again, slowly."""

    def play(line: Line) -> None:
        line.keep = False
        line.connection.sendall(head)
        if again:
            _until_gone(line, lambda: line.connection.sendall(again))

    return play


def event(**delta: Any) -> bytes:
    return f"data: {json.dumps({'choices': [{'index': 0, 'delta': delta}]})}\n\n".encode()


BOMB = gzip.compress(b'{"choices": [{"message": {"content": "' + b"A" * 40 * MB, 1)
CALL = {"function": {"name": "f", "arguments": "{}"}}
TOO_MUCH: list[Any] = [
    ("JSON", endless(b"x" * 65536), "sent more than 8 MB in one reply"),
    ("a line", endless(b"x" * 65536, kind=STREAM), "sent more than 8 MB in one reply"),
    ("lines of an event", endless(b"data: " + b"x" * 60_000 + b"\n", kind=STREAM), "sent more than 8 MB"),
    ("a stream", endless(b": " + b"x" * 60_000 + b"\n\n", kind=STREAM), "sent more than 32 MB"),
    ("gzip", body(BOMB, content_encoding="gzip"), "sent more than 8 MB"),
    ("a stream of gzip", body(BOMB, kind=STREAM, content_encoding="gzip"), "sent more than 8 MB"),
    ("deflate", body(zlib.compress(b"x" * 40 * MB, 1), content_encoding="deflate"), "sent more than 8 MB"),
    ("values", body(b'{"choices": [' + b"[]," * 1_100_000 + b"1]}"), "sent more than 1000000 values"),
    ("text", body(whole(content="x" * 4_000_001)), "sent more than 4000000 characters"),
    ("calls", body(whole(tool_calls=[CALL] * 129)), "sent more than 128 tool calls"),
    (
        "calls in a stream",
        events(*({"choices": [{"delta": {"tool_calls": [{**CALL, "index": n}]}}]} for n in range(129))),
        "sent more than 128 tool calls",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("way", ["stream", "ainvoke"])
@pytest.mark.parametrize(("play", "said"), [case[1:] for case in TOO_MUCH], ids=[case[0] for case in TOO_MUCH])
def test_what_is_too_much_is_not_read_and_not_asked_for_again(
    server: ChatServer, chat: Make, way: str, play: Play, said: str
) -> None:
    server.plays = [play]
    model = chat()
    tracemalloc.start()
    try:
        with pytest.raises(ModelError, match=f"{said}.*; ask for less, or another server$") as caught:
            WAYS[way](model)
        assert tracemalloc.get_traced_memory()[1] < 150 * MB
    finally:
        tracemalloc.stop()
    assert "\n" not in str(caught.value)
    assert len(server.requests) == 1


@every_way
@pytest.mark.parametrize(
    ("play", "said"),
    [
        (endless(b"x" * 65536, 400), "answered HTTP 400: xxx"),
        (body(gzip.compress(b"no" * MB, 1), 400, content_encoding="gzip"), "answered HTTP 400: nono"),
        (body(b"nonsense", 400, content_encoding="gzip"), "answered HTTP 400: no details"),
        (body(b"nonsense", 400, content_encoding="br"), "answered HTTP 400: no details"),
        (raw(b"HTTP/1.1 400 No\r\nContent-Length: 99\r\n\r\nwhy it is"), "answered HTTP 400: why it is"),
        (body(b"[" * 60_000, 400), r"answered HTTP 400: \[\[\["),
        (body(b"<html>", 404, kind="text/html"), "HTTP 404: an HTML page; is this an OpenAI-compatible server's"),
    ],
)
def test_an_errors_status_counts_whatever_its_body_is(
    server: ChatServer, chat: Make, ask: Ask, play: Play, said: str
) -> None:
    server.plays = [play]
    with pytest.raises(ModelError, match=said) as caught:
        ask(chat())
    assert len(str(caught.value)) < 500


@every_way
@pytest.mark.parametrize(
    "play",
    [
        raw(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"),
        raw(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        raw(b"", b"H"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b": x\n\n"),
        raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(b"")[:10], b"\x00"),
    ],
    ids=["a head", "hints", "a first line", "comments", "empty gzip"],
)
def test_what_drips_is_ended_by_the_deadline(server: ChatServer, chat: Make, ask: Ask, play: Play) -> None:
    server.plays = [play]
    with pytest.raises(ModelError):
        ask(chat(total_timeout=0.3, timeout=100, max_retries=0))
    assert server.hung_up.wait(10)


@every_way
def test_what_follows_the_end_of_a_reply_is_read_for_a_moment(
    server: ChatServer, chat: Make, monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    monkeypatch.setattr("agentkit.models.hosted.model.AFTER_END_S", 0.05)
    end = b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
    server.plays = [raw(head + event(content="hello") + end, b": and on\n\n")]
    assert ask(chat()).content == "hello"
    assert server.hung_up.wait(10)


NONSENSE: list[Any] = [
    ("another packing", body(whole(), content_encoding="br"), "packed as 'br', which was not asked for"),
    ("packed twice", body(gzip.compress(whole()), content_encoding="gzip, gzip"), "which was not asked for"),
    ("no gzip", body(whole(), content_encoding="gzip"), "a reply packed wrongly"),
    ("depth", body(b'{"choices": ' + b"[" * 100_000), "no JSON"),
    ("a long number", body(b'{"choices": [], "usage": ' + b"9" * 5000 + b"}"), "no JSON"),
    ("a model that is no text", body(b'{"model": [1], "choices": [{}]}'), "a field of the wrong type"),
    ("a call's name that is no text", body(whole(tool_calls=[{"function": {"name": [1]}}])), "of the wrong type"),
    ("a call's id that is no text", body(whole(tool_calls=[{**CALL, "id": {}}])), "a field of the wrong type"),
    ("a refusal that is no text", body(whole(content="", refusal={"a": 1})), "a field of the wrong type"),
    ("a short body", raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"), "broke the connection"),
    ("a wrong length", raw(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}"), "broke the connection"),
    ("wrong chunks", raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "broke the connection"),
    ("headers", raw(b"HTTP/1.1 200 OK\r\n" + b"X-A: a\r\n" * 30_000), "broke the connection"),
    ("another protocol", raw(b"SSH-2.0-OpenSSH_9.9\r\n"), "broke the connection"),
    ("nowhere", body(b"", 307, location="http://[::bad/"), "broke the connection"),
]


@pytest.mark.parametrize("way", ["invoke", "ainvoke"])
@pytest.mark.parametrize(("play", "said"), [case[1:] for case in NONSENSE], ids=[case[0] for case in NONSENSE])
def test_nonsense_is_one_line(server: ChatServer, chat: Make, way: str, play: Play, said: str) -> None:
    server.plays = [play]
    with pytest.raises(ModelError, match=said) as caught:
        WAYS[way](chat(max_retries=0))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "usage",
    [
        b'{"prompt_tokens": NaN, "completion_tokens": -5, "cost": NaN}',
        b'{"prompt_tokens": 1e999, "completion_tokens": ' + b"9" * 400 + b', "cost": "inf"}',
        b'{"prompt_tokens": [], "completion_tokens": "x", "cost": -1}',
    ],
)
def test_impossible_counts_and_costs_are_none(usage: bytes) -> None:
    """A cost that is no number would never reach a budget."""
    reader = CompletionReader()
    reader.read(b'{"choices": [], "usage": ' + usage + b"}")
    counted = reader.end().usage
    assert counted is not None
    assert (counted.prompt_tokens, counted.completion_tokens, counted.cost_usd) == (0, 0, None)


@pytest.mark.parametrize("asked_s", ["1e308", "99999"])
def test_a_wait_has_a_bound_where_there_is_no_deadline(
    server: ChatServer, chat: Make, waits: Any, asked_s: str
) -> None:
    server.plays = [error(429, retry_after=asked_s)]
    with pytest.raises(ModelError, match="which is too long to wait"):
        chat(total_timeout=None).invoke("hi")
    assert waits.seconds == []


@pytest.mark.parametrize("asked_s", ["nan", "inf", "-1e999", "Thu, 99 Foo 2026"])
def test_a_wait_that_is_no_number_is_not_asked_for(server: ChatServer, chat: Make, waits: Any, asked_s: str) -> None:
    server.plays = [error(429, retry_after=asked_s), say("hello")]
    assert chat().invoke("hi").content == "hello"
    assert waits.seconds == [0.5]


def test_gzip_of_a_server_that_packs_unasked_is_read(server: ChatServer, chat: Make) -> None:
    server.plays = [body(gzip.compress(whole()), content_encoding="gzip")]
    assert chat().invoke("hi").content == "hi"
    assert server.requests[0].headers["accept-encoding"] == "identity"


def test_models_are_listed_within_bounds(server: ChatServer, backend: Callable[..., HostedModel]) -> None:
    server.models = ["a", {"id": 7}, "b"]
    assert [one["id"] for one in backend().models()] == ["a", "b"]
    model = replace(backend(), retries=replace(backend().retries, tries=1))
    with pytest.raises(ModelError, match="could not be reached"):
        replace(model, locate=backend("http://127.0.0.1:9").locate).models()


# -- what takes as long as it is, and no longer ------------------------------------------------------------------------


def test_a_body_is_unpacked_no_further_than_its_bound() -> None:
    read = Body("gzip", 1000)
    assert (len(read.read(BOMB)), read.is_too_long) == (1001, True)
    plain = Body(None, 4)
    assert (plain.read(b"four"), plain.is_too_long, plain.read(b"more"), plain.is_too_long) == (
        b"four",
        False,
        b"m",
        True,
    )
    with pytest.raises(Unreadable):
        Body("zstd", MOST_BYTES)


def raw_deflate(content: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(content) + packer.flush()


HELLO = b"hello, " * 20
PACKED: dict[str, tuple[str, bytes]] = {
    "gzip": ("gzip", gzip.compress(HELLO)),
    "gzip in capitals": ("X-GZIP", gzip.compress(HELLO)),
    "gzip with more behind it": ("gzip", gzip.compress(HELLO) + b"garbage"),
    "gzip of several members": (
        "gzip",
        gzip.compress(HELLO[:50]) + gzip.compress(HELLO[50:60]) + gzip.compress(HELLO[60:]),
    ),
    "zlib": ("deflate", zlib.compress(HELLO)),
    "deflate without zlib's header": ("deflate", raw_deflate(HELLO)),
    "gzip that is called deflate": ("deflate", gzip.compress(HELLO)),
}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(("encoding", "wire"), PACKED.values(), ids=PACKED)
def test_what_servers_pack_is_read_however_it_is_cut(encoding: str, wire: bytes, size: int) -> None:
    read = Body(encoding, 1000)
    assert b"".join(read.read(wire[start : start + size]) for start in range(0, len(wire), size)) == HELLO
    assert not read.is_too_long


@pytest.mark.parametrize("name", ["gzip of several members", "deflate without zlib's header"])
def test_all_of_it_counts_for_the_bound(name: str) -> None:
    encoding, wire = PACKED[name]
    read = Body(encoding, 60)
    assert (read.read(wire), read.is_too_long) == (HELLO[:61], True)


def test_events_may_be_cut_anywhere() -> None:
    text = b"data: one\r\ndata: two\n\n: comment\ndata:three\nevent: x\n\ndata: four"
    for size in (1, 2, 3, 7, len(text)):
        stream = ServerSentEvents()
        read = [one for start in range(0, len(text), size) for one in stream.feed(text[start : start + size])]
        assert [*read, *stream.rest()] == ["one\ntwo", "three", "four"]


def test_a_line_is_held_once_however_small_its_pieces() -> None:
    """Copying what is held with every piece would take hours here."""
    stream = ServerSentEvents()
    for _ in range(MOST_EVENT_BYTES // 128):
        assert list(stream.feed(b"x" * 128)) == []
    with pytest.raises(TooMuch, match="more than 8 MB"):
        list(stream.feed(b"x"))


def test_a_call_in_many_pieces_is_put_together_once() -> None:
    reader = CompletionReader()
    piece = {"choices": [{"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "x" * 10}}]}}]}
    for _ in range(30_000):
        reader.read(piece)
    reader.read({"choices": [{"delta": {}, "finish_reason": "tool_calls"}]})
    assert len(reader.end().tool_calls[0].arguments) == 300_000


def test_what_was_delivered_is_kept_once() -> None:
    delivery, chunk = Delivery(), Chunk(text="x" * 10)
    delivery.begin()
    for _ in range(100_000):
        assert delivery.add(chunk) == (chunk,)
    delivery.begin()
    assert delivery.add(chunk) == ()
