"""The server of every test. It plays what it is given, down to the bytes: good replies, and every known way to fail."""

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

from agentkit.models.backend import Completion

PIECE = 5  # characters of a reply in an event
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class Line:
    """One connection, with the request that was read from it."""

    def __init__(
        self, connection: socket.socket, body: dict[str, Any], closing: threading.Event, *, keep: bool = True
    ) -> None:
        self.connection = connection
        self.body = body
        self.closing = closing
        self.keep = keep

    @property
    def streams(self) -> bool:
        return bool(self.body.get("stream"))

    def head(self, status: int, headers: dict[str, str]) -> None:
        headers = headers if self.keep else {**headers, "Connection": "close"}
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
    return json.dumps({"object": "chat.completion.chunk", "created": 1, "model": "served", **values})


def pieces_of(text: str, size: int = PIECE) -> list[str]:
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


def reply(completion: Completion, *, model: str = "scripted") -> Play:
    """A completion, its tool calls in pieces where the request asks for a stream."""
    usage = completion.usage
    counts: dict[str, Any] = {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
    }
    if usage.cost_usd is not None:
        counts["cost"] = usage.cost_usd
    whole = {"id": "1", "created": 1, "model": model, "usage": counts}
    reason = completion.finish_reason

    def play(line: Line) -> None:
        if not line.streams:
            choice = {"index": 0, "message": message_of(completion), "finish_reason": reason}
            line.whole(200, json.dumps({**whole, "choices": [choice]}).encode(), {"Content-Type": "application/json"})
            return
        line.begin_stream()
        for delta in _deltas(completion):
            choice = {"index": 0, "delta": delta, "finish_reason": None}
            line.event(_delta(**{**whole, "usage": None}, choices=[choice]))
        line.event(_delta(**whole, choices=[{"index": 0, "delta": {}, "finish_reason": reason}]))
        line.event("[DONE]")
        line.end_stream()

    return play


def message_of(completion: Completion) -> dict[str, Any]:
    """The completion as a message of a whole reply."""
    message: dict[str, Any] = {"role": "assistant", "content": completion.text or None}
    if completion.thinking:
        message["reasoning_content"] = completion.thinking
    if completion.tool_calls:
        message["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in completion.tool_calls
        ]
    return message


def _deltas(completion: Completion) -> Iterator[dict[str, Any]]:
    """The message in pieces, calls with their arguments in two."""
    message = message_of(completion)
    if completion.thinking:
        yield {"reasoning_content": completion.thinking}
    for piece in pieces_of(completion.text) if completion.text else ():
        yield {"role": "assistant", "content": piece}
    for index, call in enumerate(message.get("tool_calls", ())):
        function = call["function"]
        begin, rest = function["arguments"][:PIECE], function["arguments"][PIECE:]
        yield {"tool_calls": [{**call, "index": index, "function": {**function, "arguments": begin}}]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": rest}}]}


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
class Request:
    """A request that came."""

    method: str
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass
class ChatServer:
    """Plays `plays` in order, the last one again and again; or what `choose` says for a request."""

    plays: Sequence[Play] = field(default_factory=lambda: [say("hello")])
    choose: Callable[[Request], Play] | None = None
    requests: list[Request] = field(default_factory=list)
    models: Sequence[str | dict[str, Any]] | None = ()  # None: it does not list them
    keep_alive: bool = True
    connections: int = 0
    hung_up: threading.Event = field(default_factory=threading.Event)
    url: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [one.body for one in self.requests if one.method == "POST"]

    def play_for(self, request: Request) -> Play:
        with self._lock:
            self.requests.append(request)
            number = sum(not one.path.endswith("/models") for one in self.requests)
        if request.path.endswith("/models"):
            if self.models is None:
                return error(404)
            listing = [{"id": one} if isinstance(one, str) else one for one in self.models]
            return body(json.dumps({"data": listing}).encode())
        return self.answer(request, number)

    def answer(self, request: Request, number: int) -> Play:
        """What the request is answered with; it is the `number`th that asks for a reply, the first is 1."""
        if self.choose is not None:
            return self.choose(request)
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
            while (header := self.rfile.readline().decode().strip()) != "":
                name, _, value = header.partition(":")
                headers[name.lower()] = value.strip()
            content = self.rfile.read(int(headers.get("content-length", 0)))
            request = Request(start[0], start[1], headers, json.loads(content) if content else {})
            line = Line(self.connection, request.body, closing, keep=state.keep_alive)
            state.play_for(request)(line)
            return line.keep

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
