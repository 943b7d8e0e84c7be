"""A scripted chat server on this machine, which calls tools in its own syntax or says its turns in the dialect."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from agentkit.core.mode import TOOL
from tests.doubles.models import action, final

PROBE = TOOL["function"]["name"]


@dataclass(frozen=True)
class Turn:
    """What the model says: `calls` are names and the text of their arguments."""

    text: str = ""
    calls: Sequence[tuple[str, str]] = ()
    thinking: str = ""
    finish_reason: str = ""
    cost: float | None = None

    def message(self) -> dict[str, Any]:
        calls = [
            {"id": f"call_{name}_{n}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for n, (name, arguments) in enumerate(self.calls)
        ]
        message: dict[str, Any] = {"role": "assistant", "content": self.text or None}
        if self.thinking:
            message["reasoning_content"] = self.thinking
        return message | ({"tool_calls": calls} if calls else {})


THINKS = "I should calculate."
NATIVE = (
    Turn("Adding first.", [("calculator", '{"expression": "2+2"}')], thinking=THINKS),
    Turn("Then the power.", [("power", '{"base": 4, "exponent": 2}')]),
    Turn("16"),
)
DIALECT = (
    Turn(action("calculator", {"expression": "2+2"}, "Adding first."), thinking=THINKS),
    Turn(action("power", {"base": 4, "exponent": 2}, "Then the power.")),
    Turn(final("16")),
)


@dataclass
class Server:
    """Says the turn whose number is that of the model's messages so far; an integer among them is an HTTP error.

    `tools`: whether a request with tools is answered by calls, in text, or with HTTP 400.
    """

    native: Sequence[Turn | int] = NATIVE
    dialect: Sequence[Turn | int] = DIALECT
    tools: str = "called"
    by_request: bool = False  # instead: the turn whose number is that of the request
    hangs: threading.Event | None = None  # what an answer waits for
    listing: Any = None  # what it says of its models
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    probes: int = 0

    def turn(self, body: dict[str, Any]) -> Turn | int:
        names = [tool["function"]["name"] for tool in body.get("tools") or ()]
        if names == [PROBE]:
            self.probes += 1
        else:
            self.requests.append(body)
        if names and self.tools == "refused":
            return 400
        if names == [PROBE]:
            return Turn(calls=[(PROBE, '{"city": "Lisbon"}')]) if self.tools == "called" else Turn("It is 21.")
        spoken = sum(message["role"] == "assistant" for message in body["messages"])
        place = len(self.requests) - 1 if self.by_request else spoken
        turns = self.native if names and self.tools == "called" else self.dialect
        return turns[min(place, len(turns) - 1)]

    def answer(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        """Status, content type and body."""
        turn = self.turn(body)
        if isinstance(turn, int):
            return turn, "application/json", b'{"error": {"message": "scripted failure"}}'
        usage = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
        if turn.cost is not None:
            usage["cost"] = turn.cost  # type: ignore[assignment]
        reason = turn.finish_reason or ("tool_calls" if turn.calls else "stop")
        whole = {"id": "1", "created": 1, "model": "scripted", "usage": usage}
        if not body.get("stream"):
            choice = {"index": 0, "message": turn.message(), "finish_reason": reason}
            return 200, "application/json", json.dumps({**whole, "choices": [choice]}).encode()
        events = [{**whole, "usage": None, "choices": [_delta(delta)]} for delta in _deltas(turn)]
        events += [{**whole, "choices": [{"index": 0, "delta": {}, "finish_reason": reason}]}]
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return 200, "text/event-stream", "".join([*lines, "data: [DONE]\n\n"]).encode()


def _delta(delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": 0, "delta": delta, "finish_reason": None}


def _deltas(turn: Turn) -> Iterator[dict[str, Any]]:
    """The message in pieces, calls with their arguments cut in two."""
    message = turn.message()
    if turn.thinking:
        yield {"reasoning_content": turn.thinking}
    for start in range(0, len(turn.text), 6):
        yield {"role": "assistant", "content": turn.text[start : start + 6]}
    for index, call in enumerate(message.get("tool_calls", ())):
        arguments = call["function"]["arguments"]
        half = len(arguments) // 2
        first = {**call, "index": index, "function": {**call["function"], "arguments": arguments[:half]}}
        yield {"tool_calls": [first]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": arguments[half:]}}]}


@contextmanager
def serving(server: Server) -> Iterator[Server]:
    """The server at `server.url`, while the block lasts."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, kind, body = server.answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            if server.hangs is not None:
                server.hangs.wait(60)
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            body = json.dumps({"data": server.listing}).encode()
            self.send_response(404 if server.listing is None else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            pass

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    server.url = f"http://127.0.0.1:{httpd.server_port}"
    try:
        yield server
    finally:
        httpd.shutdown()
        httpd.server_close()
