"""A chat server that does what it is told, down to the bytes: good replies, and every way to fail that is known."""

from __future__ import annotations

import json
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class Line:
    """One connection, with the request that was read from it."""

    def __init__(self, connection: socket.socket, body: dict[str, Any], closing: threading.Event) -> None:
        self.connection = connection
        self.body = body
        self.closing = closing
        self.keep = True

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))

    def head(self, status: int, headers: dict[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} Because", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
        self.connection.sendall("\r\n".join(lines).encode())

    def whole(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.head(status, {**headers, "Content-Length": str(len(content))})
        self.connection.sendall(content)

    def begin_stream(self) -> None:
        self.head(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})

    def event(self, data: str) -> None:
        self.chunk(f"data: {data}\n\n".encode())

    def chunk(self, content: bytes) -> None:
        self.connection.sendall(f"{len(content):x}\r\n".encode() + content + b"\r\n")

    def end_stream(self) -> None:
        self.connection.sendall(b"0\r\n\r\n")

    def reset(self) -> None:
        """Hang up as a crashed server does."""
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.keep = False


Play = Callable[[Line], None]


def _delta(**values: Any) -> str:
    return json.dumps({"object": "chat.completion.chunk", "model": "served", **values})


def pieces_of(text: str, size: int = 5) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)] or [""]


def say(
    text: str = "",
    *,
    finish: str = "stop",
    usage: dict[str, Any] | None = USAGE,
    headers: dict[str, str] | None = None,
    done: bool = True,
    **message: Any,
) -> Play:
    """A good reply, in pieces where the request asks for a stream."""

    def play(line: Line) -> None:
        if not line.streams:
            choice = {"index": 0, "message": {"role": "assistant", "content": text, **message}, "finish_reason": finish}
            body = {"object": "chat.completion", "model": "served", "choices": [choice], "usage": usage}
            line.whole(200, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})
            return
        line.begin_stream()
        line.event(_delta(choices=[{"index": 0, "delta": {"role": "assistant"}}]))
        for piece in pieces_of(text):
            line.event(_delta(choices=[{"index": 0, "delta": {"content": piece}}]))
        line.event(_delta(choices=[{"index": 0, "delta": message, "finish_reason": finish}]))
        if usage is not None and (line.body.get("stream_options") or {}).get("include_usage"):
            line.event(_delta(choices=[], usage=usage))
        if done:
            line.event("[DONE]")
        line.end_stream()

    return play


def events(*values: Any, done: bool = True, end: bool = True) -> Play:
    """A stream of just these events."""

    def play(line: Line) -> None:
        line.begin_stream()
        for value in values:
            line.event(value if isinstance(value, str) else _delta(**value))
        if done:
            line.event("[DONE]")
        if end:
            line.end_stream()
        else:
            line.keep = False

    return play


def body(content: bytes, status: int = 200, *, kind: str = "application/json", **headers: str) -> Play:
    """A response of just these bytes."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return lambda line: line.whole(status, content, {"Content-Type": kind, **named})


def error(status: int, said: str = "broken", **headers: str) -> Play:
    return body(json.dumps({"error": {"message": said}}).encode(), status, **headers)


def reset(line: Line) -> None:
    line.reset()


def breaks(text: str, *, by: str = "reset") -> Play:
    """Part of a reply, and then no more of it: "reset" or "close" the connection, or "end" the response as if all
    were well."""

    def play(line: Line) -> None:
        if line.streams:
            line.begin_stream()
            for piece in pieces_of(text):
                line.event(_delta(choices=[{"index": 0, "delta": {"content": piece}}]))
            if by == "end":
                line.end_stream()
        else:
            content = b'{"choices": [{"index": 0, "message": {"content": ' + json.dumps(text).encode()
            length = len(content) + (0 if by == "end" else 100)
            line.head(200, {"Content-Type": "application/json", "Content-Length": str(length)})
            line.connection.sendall(content)
        if by == "reset":
            line.reset()
        line.keep = by == "end"

    return play


def silent(line: Line) -> None:
    """Nothing, until the client or the test has enough."""
    line.keep = False
    _until_gone(line, lambda: None)


def trickle(line: Line) -> None:
    """A reply that never ends, a letter at a time."""
    line.keep = False
    if line.streams:
        line.begin_stream()
        _until_gone(line, lambda: line.event(_delta(choices=[{"index": 0, "delta": {"content": "x"}}])))
    else:
        line.head(200, {"Content-Type": "application/json", "Content-Length": "1000000"})
        _until_gone(line, lambda: line.connection.sendall(b" "))


def stalls(text: str) -> Play:
    """Part of a reply, and then nothing, with the connection open."""

    def play(line: Line) -> None:
        line.keep = False
        line.begin_stream()
        line.event(_delta(choices=[{"index": 0, "delta": {"content": text}}]))
        _until_gone(line, lambda: None)

    return play


def _until_gone(line: Line, act: Callable[[], None]) -> None:
    line.connection.settimeout(0.01)
    while not line.closing.is_set():
        act()
        try:
            if line.connection.recv(1) == b"":
                return
        except TimeoutError:
            continue


@dataclass
class Asked:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ChatServer:
    """Plays `plays` in order, the last one again and again; or what `choose` says for a request."""

    plays: Sequence[Play] = field(default_factory=lambda: [say("hello")])
    choose: Callable[[Asked], Play] | None = None
    asked: list[Asked] = field(default_factory=list)
    models: Sequence[str] = ()
    connections: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [one.body for one in self.asked if one.method == "POST"]

    def play_for(self, asked: Asked) -> Play:
        with self._lock:
            self.asked.append(asked)
            number = len(self.bodies)
        if asked.path.endswith("/models"):
            names = [{"id": name} for name in self.models]
            return body(json.dumps({"data": names}).encode())
        if self.choose is not None:
            return self.choose(asked)
        return self.plays[min(number, len(self.plays)) - 1]


@contextmanager
def serving(state: ChatServer) -> Iterator[ChatServer]:
    """The server, running."""
    closing = threading.Event()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            with state._lock:
                state.connections += 1
            try:
                while self.answer():
                    pass
            except (ConnectionError, TimeoutError):
                pass
            state.hung_up.set()

        def answer(self) -> bool:
            start = self.rfile.readline().decode().split()
            if not start:
                return False
            headers = {}
            while (line := self.rfile.readline().decode().strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            content = self.rfile.read(int(headers.get("content-length", 0)))
            asked = Asked(start[0], start[1], headers, json.loads(content) if content else {})
            line_open = Line(self.connection, asked.body, closing)
            state.play_for(asked)(line_open)
            return line_open.keep

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = True
        request_queue_size = 256

    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{running.server_address[1]}"
        try:
            yield state
        finally:
            closing.set()
            running.shutdown()
            thread.join()
