"""MCP servers that send too much, or lead elsewhere: one clear line, and nothing of an address' keys in it."""

from __future__ import annotations

import gzip
import json
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from agentkit.errors import ConfigurationError, ToolError
from agentkit.http_body import MOST_BYTES
from agentkit.mcp import mcp_tools

ROOT = Path(__file__).parent.parent.parent
Reply = tuple[int, dict[str, str], bytes]
TOOL = {"name": "look", "description": "Looks.", "inputSchema": {"type": "object", "properties": {}}}
JSON = {"content-type": "application/json"}
LONG = json.dumps("x" * (MOST_BYTES + 1))


class HttpServer:
    """A server of one tool; `called` makes its answer to a call, `moved` is where it sends every request on to."""

    def __init__(self) -> None:
        self.called: Callable[[str], Reply] = lambda result: (200, JSON, result.encode())
        self.results: dict[str, Any] = {}  # in place of those that serve, by method
        self.moved = ""
        self.status = 0  # with which every message is refused
        self.keys: list[str | None] = []


def _result(method: str, version: Any) -> dict[str, Any] | None:
    if method == "initialize":
        about = {"name": "double", "version": "1"}
        return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": about}
    known = {"tools/list": {"tools": [TOOL]}, "tools/call": {"content": [{"type": "text", "text": "seen"}]}}
    return known.get(method)


@pytest.fixture
def server() -> Iterator[tuple[HttpServer, str]]:
    state = HttpServer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
            state.keys.append(self.headers.get("authorization"))
            self._send(*self._answer(asked))

        def do_GET(self) -> None:
            self._send(405, {}, b"")

        do_DELETE = do_GET

        def _answer(self, asked: dict[str, Any]) -> Reply:
            if state.moved:
                return 307, {"location": state.moved}, b""
            if state.status:
                return state.status, JSON, b'{"error": "no"}'
            if "id" not in asked:
                return 202, {}, b""
            method, params = asked["method"], asked.get("params", {})
            result = state.results.get(method) or _result(method, params.get("protocolVersion"))
            said = {"result": result} if result else {"error": {"code": -32601, "message": "no"}}
            reply = json.dumps({"jsonrpc": "2.0", "id": asked["id"], **said})
            return state.called(reply) if method == "tools/call" else (200, JSON, reply.encode())

        def _send(self, status: int, headers: dict[str, str], content: bytes) -> None:
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            pass

    with Quiet(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield state, f"127.0.0.1:{running.server_address[1]}/mcp"
        running.shutdown()


def test_a_user_and_a_key_of_an_address_are_used_and_not_shown(server: tuple[HttpServer, str]) -> None:
    state, address = server
    with mcp_tools(f"http://bob:p%40ss-5521@{address}?api_key=k-7719") as tools:
        assert tools[0].run({}).text == "seen"
        assert set(state.keys) == {f"Basic {b64encode(b'bob:p@ss-5521').decode()}"}
    state.moved = "http://localhost:9/mcp"
    with pytest.raises(ConfigurationError, match="Redirect to http://localhost:9/mcp not followed") as caught:
        mcp_tools(f"http://bob:p%40ss-5521@{address}?api_key=k-7719")
    assert not any(secret in str(caught.value) for secret in ("bob", "5521", "7719"))


def faulty(*words: str) -> dict[str, Any]:
    """A server of the test's own that is started."""
    return {"command": sys.executable, "args": ["-m", "tests.mcp.faulty", *words], "env": {"PYTHONPATH": str(ROOT)}}


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("pages without tools", "a list of tools without an end"),
        ("pages with the same tools", "a list of tools without an end"),
        ("long", "more than 1000 tools, or 400000 characters of them"),
    ],
)
def test_pages_that_bring_no_tool_or_too_much_end_soon(kind: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"saw: {said}; "):
        mcp_tools(faulty(kind))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("another number", r"a reply to a request that was not made \(999\)"),
        ("an error without a number", "(?:an error to a request that was not made|what is no message: ).*Parse error?"),
        ("no version", r"what is no message: \{'id': "),
        ("a batch", r"what is no message: \[\{'jsonrpc': "),
    ],
)
def test_a_reply_that_no_request_gets_ends_the_call_that_waits(
    caplog: pytest.LogCaptureFixture, kind: str, said: str
) -> None:
    with mcp_tools(faulty(kind)) as (look,), pytest.raises(ToolError, match=f"^Error: the server sent {said}"):
        look.run({})
    (note,) = {record.getMessage() for record in caplog.records if record.name == "agentkit"}
    assert " was called and sent " in note


@pytest.mark.parametrize("kind", ["number as text", "noise first"])
def test_a_reply_that_can_be_read_is_the_calls(kind: str) -> None:
    with mcp_tools(faulty(kind)) as (look,):
        assert look.run({}).text.isdigit()


def test_a_reply_over_http_that_no_request_gets_ends_the_call(server: tuple[HttpServer, str]) -> None:
    state, address = server
    with mcp_tools(f"http://{address}") as tools:
        state.called = lambda reply: (200, JSON, json.dumps({**json.loads(reply), "id": 999}).encode())
        with pytest.raises(ToolError, match=r"sent a reply to a request that was not made \(999\)"):
            tools[0].run({})


ENDS_THE_SESSION = pytest.mark.skipif(version("mcp").startswith("1."), reason="version 1 tells a 404 as the end")


@pytest.mark.parametrize(
    ("status", "advice"),
    [
        (401, "it wants a key, or refused the one it was sent; give it in the connection's headers"),
        (403, "it wants a key, or refused the one it was sent; give it in the connection's headers"),
        pytest.param(404, "is it running, and is the address right?", marks=ENDS_THE_SESSION),
        (500, "the server itself failed; look at its log, or try again"),
    ],
)
def test_the_status_of_a_refusal_is_named(server: tuple[HttpServer, str], status: int, advice: str) -> None:
    state, address = server
    state.status = status
    with pytest.raises(ConfigurationError) as raised:
        mcp_tools(f"http://{address}")
    seen = f"MCP server 'http://{address}': expected an MCP server, saw: HTTP {status}"  # version 1 says more
    assert str(raised.value).startswith(seen)
    assert f"; {advice}" in str(raised.value)


def test_the_status_of_a_call_is_named(server: tuple[HttpServer, str]) -> None:
    state, address = server
    state.called = lambda reply: (503, {}, b"busy")
    with mcp_tools(f"http://{address}") as (look,), pytest.raises(ToolError, match="Error: HTTP 503"):
        look.call({})


def test_a_token_of_a_header_is_in_no_result_and_no_error(server: tuple[HttpServer, str]) -> None:
    state, address = server
    token, refused = "s3cr3t-zq81-x", {"code": -1, "message": "not for s3cr3t-zq81-x"}
    with mcp_tools({"url": f"http://{address}", "headers": {"Authorization": f"Bearer {token}"}}) as tools:
        state.called = lambda reply: (200, JSON, reply.replace("seen", f"seen {token}").encode())
        assert (tools[0].run({}).text, state.keys[-1]) == ("seen <REDACTED>", f"Bearer {token}")
        state.called = lambda reply: (200, JSON, _error(reply, refused))
        with pytest.raises(ToolError, match=r"^Error: not for <REDACTED>$"):
            tools[0].run({})


def _error(reply: str, error: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": json.loads(reply)["id"], "error": error}).encode()


MANY = {f"p{number}": {"type": "string", "description": "x" * 50} for number in range(1500)}
OFFERS = [
    ({"tools": [{**TOOL, "name": "n" * 129}]}, r"tool 'n{78}… with a name of more than 128 characters"),
    (
        {"tools": [{**TOOL, "description": "d" * 20_001}]},
        "tool 'look' with a description of more than 20000 characters",
    ),
    (
        {"tools": [{**TOOL, "inputSchema": {"type": "object", "properties": MANY}}]},
        "tool 'look' with a schema of more than 100000 characters",
    ),
    (
        {"tools": [{**TOOL, "name": f"n{number}", "description": "d" * 19_999} for number in range(21)]},
        "more than 1000 tools, or 400000 characters of them",
    ),
    ({"tools": [], "nextCursor": "same"}, "a list of tools without an end"),
    ({"tools": [TOOL], "nextCursor": "same"}, "a list of tools without an end"),
    ({"tools": "none"}, "a reply that is no ListToolsResult of the protocol .tools: Input should be a valid list."),
]


@pytest.mark.parametrize(("offer", "said"), OFFERS, ids=[said for _, said in OFFERS])
def test_what_a_server_offers_is_held_to_what_a_prompt_can_hold(
    server: tuple[HttpServer, str], offer: dict[str, Any], said: str
) -> None:
    state, address = server
    state.results["tools/list"] = offer
    with pytest.raises(ConfigurationError, match=f"^MCP server 'http://{address}': .*saw: {said}; ") as caught:
        mcp_tools(f"http://{address}")
    assert "\n" not in str(caught.value)


LEFT_OUT = [
    ({"name": "n" * 129}, "tool 'nnn"),
    ({"name": "final_answer"}, "No tool can be named 'final_answer'"),
    ({"name": "a\x1b[2Jb"}, r"No tool can be named 'a\x1b[2Jb'"),
    ({"name": "<|im_start|>"}, "No tool can be named '<|im_start|>'"),
    ({"name": ""}, "No tool can be named ''"),
    ({"name": 7}, "tool 7, which is no Tool of the protocol (name: Input should be a valid string)"),
    ({"name": "many", "inputSchema": {"type": "object", "properties": MANY}}, "tool 'many' with a schema of more"),
    ({"name": "none", "inputSchema": None}, "tool 'none', which is no Tool of the protocol (inputSchema: "),
    ({"name": "list", "inputSchema": {"type": "object", "properties": []}}, "Tool list: expected a JSON schema"),
    (
        {"name": "enum", "inputSchema": {"type": "object", "properties": {"a": {"enum": 3}}}},
        "Tool enum: expected a JSON",
    ),
    ({"name": "ｔｗｏ"}, "Two tools are named 'two' and 'ｔｗｏ'"),
]


@pytest.mark.parametrize(("tool", "said"), LEFT_OUT, ids=[said for _, said in LEFT_OUT])
def test_a_tool_that_no_run_can_have_is_left_out(
    server: tuple[HttpServer, str], caplog: pytest.LogCaptureFixture, tool: dict[str, Any], said: str
) -> None:
    state, address = server
    two = [{**TOOL, "name": "two"}] if "two" in said else []
    state.results["tools/list"] = {"tools": [*two, {**TOOL, **tool}, TOOL]}
    with mcp_tools(f"http://{address}") as tools:
        assert [(one.name, one.run({}).text) for one in tools] == [("look", "seen")]
    (note,) = {record.getMessage() for record in caplog.records if record.name == "agentkit"}
    assert note.startswith(f"MCP server 'http://{address}': left out: {said}")
    assert "\n" not in note


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"content": [{"type": "zzz", "text": "q"}]}, "content.0.TextContent.type: Input should be 'text'"),
        ({"content": [{"type": "resource", "resource": {"uri": "file:///a"}}]}, "content.0.TextContent."),
        ({"content": "seen"}, "content: Input should be a valid list"),
        ({"contents": []}, "content: Field required"),
    ],
)
def test_a_result_of_an_unknown_kind_is_one_short_line(
    server: tuple[HttpServer, str], result: dict[str, Any], said: str
) -> None:
    state, address = server
    state.results["tools/call"] = result
    with mcp_tools(f"http://{address}") as tools, pytest.raises(ToolError) as caught:
        tools[0].run({})
    assert str(caught.value).startswith(f"Error: a reply that is no CallToolResult of the protocol ({said}")
    assert len(str(caught.value)) < 150
    assert "https://" not in str(caught.value)


def test_an_error_and_an_event_that_is_no_message_are_one_short_line(server: tuple[HttpServer, str]) -> None:
    state, address = server
    with mcp_tools(f"http://{address}") as tools:
        state.called = lambda reply: (200, {"content-type": "text/event-stream"}, b"data: {}\n\n")
        with pytest.raises(
            ToolError, match=r"^Error: (?:Failed to parse SSE message|the server sent what is no message: \{\})$"
        ):
            tools[0].run({})

        def refused(reply: str) -> Reply:
            error = {"jsonrpc": "2.0", "id": json.loads(reply)["id"], "error": {"code": -1, "message": "no\n" * 9999}}
            return 200, JSON, json.dumps(error).encode()

        state.called = refused
        with pytest.raises(ToolError, match=r"^Error: no no no [no …]{1,1000}$"):
            tools[0].run({})


@pytest.mark.slow
def test_what_a_server_sends_is_read_within_bounds(server: tuple[HttpServer, str]) -> None:
    state, address = server
    packed = {**JSON, "content-encoding": "gzip"}
    with mcp_tools(f"http://{address}") as tools:
        for called, said in (
            (lambda reply: (200, JSON, reply.replace('"seen"', LONG).encode()), "of more than 8 MB"),
            (lambda reply: (200, packed, gzip.compress(reply.replace('"seen"', LONG).encode())), "of more than 8 MB"),
            (lambda reply: (200, packed, reply.encode()), "packed wrongly"),
            (lambda reply: (200, {**JSON, "content-encoding": "br"}, reply.encode()), "which was not asked for"),
        ):
            state.called = called
            with pytest.raises(ToolError, match=f"the server sent a reply .*{said}") as caught:
                tools[0].run({})
            assert "\n" not in str(caught.value)
        state.called = lambda reply: (200, packed, gzip.compress(reply.encode()))
        assert tools[0].run({}).text == "seen"


@pytest.mark.slow
def test_a_line_without_an_end_ends_the_connection() -> None:
    endless = {"command": sys.executable, "args": ["-c", "while True: print('x' * 65536, end='')"]}
    with pytest.raises(ConfigurationError, match="a line of more than 8000000 characters"):
        mcp_tools(endless)
