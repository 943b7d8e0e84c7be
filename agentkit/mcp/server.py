"""One MCP server as a client sees it: started at the first need, ended with its processes by `stop`."""

from __future__ import annotations

import asyncio
import codecs
import json
import logging
import os
import re
import shlex
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar, copy_context
from datetime import timedelta
from functools import cache
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError, ToolError, import_failure, in_one_line, short_repr
from agentkit.http_body import MOST_BYTES, Body, Unreadable
from agentkit.printable import printable
from agentkit.react_json.hostile import check_offered
from agentkit.secrets import Secrets, basic_authorization, is_address, public_address
from agentkit.tool import Tool
from agentkit.toolbox.registry import check_names, plain_name

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

MOST_TOOLS = 1000
MOST_CHARACTERS = {"name": 128, "description": 20_000, "schema": 100_000}  # of one tool; all of it is in every prompt
MOST_TOGETHER = 2_000_000
MOST_LINE = 8_000_000
MOST_REASON = 1000
MOST_HELD = 65_536  # of a line on standard error
MOST_NAMED = 3  # of the tools that are left out
GROUP_S = 2.0  # that what a server left behind may take to end, before it is killed
KILLED_S = 0.5  # that it may take then
STOP_S = 10.0  # the transport itself waits 2 s for a process to end before it kills it

Spec = str | Mapping[str, Any]
"""A command, an address, or a connection as langchain-mcp-adapters writes it.

`transport` is "stdio" (`command`, `args`, `env`, `cwd`, `encoding`, `encoding_error_handler`), "http" or "sse" (`url`,
`headers`, `timeout`, `sse_read_timeout`, `auth`, `httpx_client_factory`; "http" `terminate_on_close`, too). Each takes
`session_kwargs`. `${NAME}` in `env` stands for this process' variable.
"""

_STDIO = ("command", "args", "env", "cwd", "encoding", "encoding_error_handler")
_HTTP = ("url", "headers", "timeout", "sse_read_timeout", "auth", "httpx_client_factory")
_FIELDS = {"stdio": _STDIO, "sse": _HTTP, "http": (*_HTTP, "terminate_on_close")}
_SAME = {"streamable_http": "http", "streamable-http": "http"}
_UNPARSED = re.compile(r"^(Failed to parse [^:]{1,40}): \d+ validation errors? .*")  # the package's, then pydantic's
_VARIABLE = re.compile(r"\$\{([^}]+)\}")


logger = logging.getLogger("agentkit")

_flooded: ContextVar[Callable[[], None]] = ContextVar("agentkit_mcp_flooded")
_started: ContextVar[Callable[[Any], None]] = ContextVar("agentkit_mcp_started", default=lambda process: None)


class McpServer:
    """A connection to one server. `spec` says how to reach it, `start_s` how long it may take to answer.

    The connection lives in the portal's thread. Calls run in its context, not in the caller's, so that a cassette keeps
    what they give, and not what is sent for it.
    """

    def __init__(self, spec: Spec, portal: BlockingPortal, *, start_s: float) -> None:
        self._connection = connection_of(spec)  # which refuses what is none
        named = spec if isinstance(spec, str) else str(spec.get("url") or spec.get("command"))
        self.name = public_address(named)  # as it stands in messages and cassettes
        self.label = _label(self.name)
        self._portal = portal
        self._start_s = start_s
        self._running: Future[None] | None = None
        self._ready: Future[list[dict[str, Any]]] = Future()
        self._over = asyncio.Event()
        self._context = copy_context()
        self._client: Any = None
        self._calls = 0  # that wait for a result
        self._left_out: dict[str, None] = {}  # why tools that it offers are left out
        self._unreadable = ""  # the first that the server sent and was no message: it answers nothing

    @property
    def is_remote(self) -> bool:
        """Whether it is reached over HTTP."""
        return "url" in self._connection

    def tools(self) -> list[dict[str, Any]]:
        """Its tools, as plain values; raises `ConfigurationError` with the one reason why there are none."""
        try:
            return self.begin().result(self._start_s)
        except ConfigurationError:
            raise
        except TimeoutError:
            sent = f", but {self._unreadable}" if self._unreadable else ""
            raise self._failed(f"no answer in the protocol within {self._start_s:g} s{sent}") from None
        except Exception as error:
            raise self._failed(_reason(error)) from error

    def begin(self) -> Future[list[dict[str, Any]]]:
        """Connect, unless connected; the future gives the tools."""
        if self._running is None or self._running.done():
            self._ready, self._over, self._context = Future(), asyncio.Event(), copy_context()
            self._left_out = {}
            self._running = self._portal.start_task_soon(self._serve)
        return self._ready

    def call(self, name: str, arguments: Mapping[str, Any]) -> Future[dict[str, Any]]:
        """A tool's result as it is on the wire; the future raises `ToolError`."""
        return self._context.copy().run(self._portal.start_task_soon, self._called, name, dict(arguments))

    def stop(self) -> None:
        """Disconnect; a server that was started as a process is ended, with what it started."""
        if self._running is None:
            return
        if self._ready.done():
            self._portal.start_task_soon(self._over.set)
            wait([self._running], STOP_S)
        self._running.cancel()

    async def _serve(self) -> None:
        """Holds the connection open; its task enters and leaves it, as anyio wants."""
        ready = self._ready
        try:
            from mcp import Client

            logging.getLogger("mcp").addHandler(logging.NullHandler())  # a line that is no message is no traceback
            options = self._connection.get("session_kwargs") or {}
            async with Client(self._watched(_transport(self._connection)), **options) as self._client:
                ready.set_result(self._usable(await _listed(self._client)))
                await self._over.wait()
        except Exception as error:
            if not ready.done():
                ready.set_exception(not_installed(error) if isinstance(error, ImportError) else error)

    def _usable(self, listed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The tools that a run can have, once it is said which others there are; raises `ValueError` where none is.

        Of two with one name it has neither: it could not tell which of them it is that only reads.
        """
        named: dict[str, list[dict[str, Any]]] = {}
        for tool in listed:
            named.setdefault(plain_name(tool["name"]), []).append(tool)
        reasons = [*self._left_out, *filter(None, (_one_of_several(same) for same in named.values()))]
        tools = [tool for same in named.values() if len(same) == 1 for tool in same]
        if reasons and not tools:
            raise ValueError(reasons[0])
        if reasons:
            more = f"; and {len(reasons) - MOST_NAMED} more" if len(reasons) > MOST_NAMED else ""
            logger.warning("MCP server %r: left out: %s%s", self.name, "; ".join(reasons[:MOST_NAMED]), more)
        return tools

    @asynccontextmanager
    async def _watched(self, transport: Any) -> AsyncIterator[Any]:
        """The transport with what comes seen first."""
        async with transport as (reading, writing):
            yield _Watched(reading, self._seen), writing

    def _seen(self, item: Any) -> None:
        """Take out of a list what is no tool for a run: for one of another shape the package refuses all of them.

        Of what is no message it tells nobody, and the request waits on.
        """
        if isinstance(item, Exception):
            if not self._unreadable:
                self._unreadable = self._public(_unreadable(item))
                if self._calls:
                    logger.warning("MCP server %r was called and sent %s", self.name, self._unreadable)
            return
        result = getattr(item.message, "result", None)
        if isinstance(result, dict) and isinstance(tools := result.get("tools"), list):
            wrong = [_wrong(tool) for tool in tools]
            self._left_out |= dict.fromkeys([reason for reason in wrong if reason][:MOST_TOOLS])
            result["tools"] = [tool for tool, reason in zip(tools, wrong, strict=True) if not reason]

    async def _called(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        self._calls += 1
        try:
            return _wire(await self._client.call_tool(name, arguments))
        except Exception as error:
            reason = _reason(error)
            if reason in ("ClosedResourceError", "Connection closed"):
                reason = f"the MCP server of {name} has ended; do without it."
            raise ToolError(f"Error: {self._public(reason)}") from error
        finally:
            self._calls -= 1

    def _public(self, reason: str) -> str:
        """A reason without the query of the address, which may be a key."""
        url = str(self._connection.get("url", ""))
        return reason.replace(url, self.name) if url else reason

    def _failed(self, reason: str) -> ConfigurationError:
        seen = f"expected an MCP server, saw: {self._public(reason)}"
        advice = (
            "is it running, and is the address right?"
            if "url" in self._connection
            else "run the command by hand, or mend it"
        )
        return ConfigurationError(f"MCP server {self.name!r}: {seen}; {advice}")


def not_installed(error: ImportError) -> ConfigurationError:
    """Says why the package of the protocol cannot be imported."""
    return ConfigurationError(import_failure(error, "mcp", purpose="for MCP"))


def connection_of(spec: Spec) -> dict[str, Any]:
    """How a server is reached; raises `ConfigurationError`."""
    if isinstance(spec, Mapping):
        return _authorized(_checked(spec))
    if is_address(spec):
        is_sse = urlsplit(spec).path.rstrip("/").endswith("/sse")
        return _authorized({"transport": "sse" if is_sse else "http", "url": spec})
    try:
        command, *args = shlex.split(spec)
    except ValueError as error:
        reason = error if spec.strip() else "nothing is in it"
        raise ConfigurationError(f"expected an MCP server's command or address, saw {spec!r} ({reason})") from None
    return {"transport": "stdio", "command": command, "args": args}


def _checked(given: Mapping[str, Any]) -> dict[str, Any]:
    named = given.get("transport") or ("stdio" if "command" in given else "http")
    transport = _SAME.get(named, named)
    if transport not in _FIELDS:
        raise ConfigurationError(f"expected an MCP transport of {', '.join(_FIELDS)}, saw {named!r}")
    fields = ("transport", "session_kwargs", *_FIELDS[transport])
    missing, unknown = fields[2] not in given, [name for name in given if name not in fields]
    if missing or unknown:
        seen = f"no {fields[2]}" if missing else ", ".join(unknown)
        raise ConfigurationError(f"an MCP connection over {transport} has {', '.join(fields[2:])}; saw {seen}")
    return {**given, "transport": transport}


def _authorized(connection: dict[str, Any]) -> dict[str, Any]:
    """The connection with the address' user and password as the header that they mean: errors name the address."""
    url = str(connection.get("url", ""))
    if not (authorization := basic_authorization(url)):
        return connection
    headers = {**authorization, **(connection.get("headers") or {})}
    return {**connection, "url": public_address(url, query=True), "headers": headers}


def _transport(connection: Mapping[str, Any]) -> Any:
    given = {name: value for name, value in connection.items() if name not in ("transport", "session_kwargs")}
    if connection["transport"] == "http":
        return _over_http(**given)
    if connection["transport"] == "sse":
        from mcp.client.sse import sse_client

        given["httpx_client_factory"] = _bounded(given.get("httpx_client_factory"))
        return sse_client(**{name: value for name, value in given.items() if value is not None})
    if given.get("env"):
        given["env"] = {name: _expanded(value) for name, value in given["env"].items()}
    return _over_stdio(**given)


@asynccontextmanager
async def _over_stdio(**given: Any) -> AsyncIterator[Any]:
    """What the server says on its standard error reaches this process' by a pipe: it is foreign text, too."""
    from anyio import CancelScope
    from mcp.client.stdio import StdioServerParameters, stdio_client

    given["encoding"] = _in_bounded_lines(given.get("encoding") or "utf-8")
    reading, writing = os.pipe()
    threading.Thread(target=_pass_on, args=(reading,), name="agentkit-mcp-stderr", daemon=True).start()
    started: list[Any] = []
    _watch_starts()
    _started.set(started.append)
    with CancelScope() as flooded, open(writing, "w", encoding="utf-8") as errors:
        _flooded.set(flooded.cancel)
        try:
            async with stdio_client(StdioServerParameters(**given), errlog=errors) as streams:
                yield streams
        finally:
            with CancelScope(shield=True):
                await _end_what_is_left(started)
    if flooded.cancelled_caught:
        raise ValueError(f"a line of more than {MOST_LINE} characters")


@cache
def _watch_starts() -> None:
    """Have the package's transport say what it starts, which it gives to nobody."""
    from mcp.client import stdio

    start = stdio._create_platform_compatible_process

    async def told(*given: Any, **named: Any) -> Any:
        process = await start(*given, **named)
        _started.get()(process)
        return process

    stdio._create_platform_compatible_process = told


async def _end_what_is_left(started: Iterable[Any]) -> None:
    """End what servers started and left behind: the package ends it only with a server that it has to kill.

    Each server leads a group of processes; on Windows the package's job object holds them.
    """
    for process in started if hasattr(os, "killpg") else ():
        for number, wait_s in ((signal.SIGTERM, GROUP_S), (signal.SIGKILL, KILLED_S)):
            with suppress(ProcessLookupError, PermissionError):  # there are none, or macOS has them for ended
                os.killpg(process.pid, number)
                ends_s = time.monotonic() + wait_s
                while time.monotonic() < ends_s:
                    await asyncio.sleep(0.01)
                    os.killpg(process.pid, 0)
                continue
            break


def _pass_on(pipe: int) -> None:
    """Copy to this process' own standard error (what stands in sys.stderr, in a notebook, need not be a file)."""
    decoder, held, piece = codecs.getincrementaldecoder("utf-8")("replace"), "", b"\n"
    while piece:
        piece = os.read(pipe, 65_536)
        text = held + decoder.decode(piece, not piece)
        end = text.rfind("\n") + 1 if piece and len(text) < MOST_HELD else len(text)
        text, held = text[:end], text[end:]  # a key is known by the whole of it
        with suppress(OSError, ValueError, AttributeError):
            shown = printable(Secrets(os.environ).scrub_text(text)).encode(errors="replace")
            os.write(sys.__stderr__.fileno(), shown)  # type: ignore[union-attr]
    os.close(pipe)


@cache
def _in_bounded_lines(encoding: str) -> str:
    """An encoding's name under which a line that does not end ends the connection.

    The package puts lines together itself, copying what it holds with every piece; only a decoder sees them come.
    """
    try:
        plain = codecs.lookup(encoding)
    except LookupError:
        raise ConfigurationError(f"expected an encoding for an MCP server, saw {encoding!r}") from None

    class Lines(codecs.IncrementalDecoder):
        def __init__(self, errors: str = "strict") -> None:
            super().__init__(errors)
            self._inner = codecs.getincrementaldecoder(encoding)(errors)
            self._held = 0
            self._end = _flooded.get()

        def decode(self, input: Any, final: bool = False) -> str:
            text = self._inner.decode(input, final)
            before, newline, last = text.rpartition("\n")
            self._held = len(last) if newline else self._held + len(before) + len(last)
            if self._held > MOST_LINE:
                self._end()
                return ""
            return text

    name = f"agentkit_lines_of_{plain.name.replace('-', '_')}"
    info = codecs.CodecInfo(name=name, encode=plain.encode, decode=plain.decode, incrementaldecoder=Lines)
    codecs.register(lambda asked: info if asked == name else None)
    return name


def _bounded(make: Any) -> Any:
    """A factory of HTTP clients whose responses are read within bounds; a stream of events has them for each event."""
    import httpx2
    from mcp.shared._httpx_utils import create_mcp_http_client

    class Bounded(httpx2.AsyncByteStream):
        def __init__(self, stream: Any, encoding: str | None, most: int | None) -> None:
            self._stream = stream
            self._encoding = encoding
            self._most = most

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                body = Body(self._encoding, self._most)
                async for piece in self._stream:
                    content = body.read(piece)
                    if body.is_too_long:
                        raise Unreadable(f"of more than {MOST_BYTES / 2**20:.0f} MB")
                    yield content
            except Unreadable as error:
                raise httpx2.StreamError(f"the server sent a reply {error}") from error

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def bound(response: Any) -> None:
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        encoding = response.headers.pop("content-encoding", None)
        response.stream = Bounded(response.stream, encoding, None if is_stream else MOST_BYTES)

    def client(headers: dict[str, Any] | None = None, timeout: Any = None, auth: Any = None) -> Any:
        asked = {"accept-encoding": "identity", **(headers or {})}
        made = (make or create_mcp_http_client)(headers=asked, timeout=timeout, auth=auth)
        made.event_hooks["response"].append(bound)
        return made

    return client


@asynccontextmanager
async def _over_http(
    url: str,
    *,
    headers: dict[str, Any] | None = None,
    timeout: float | timedelta = 30.0,
    sse_read_timeout: float | timedelta = 300.0,
    auth: Any = None,
    httpx_client_factory: Any = None,
    terminate_on_close: bool = True,
) -> AsyncIterator[Any]:
    from mcp.client.streamable_http import streamable_http_client

    each_s, read_s = _seconds(timeout), _seconds(sse_read_timeout)
    async with (
        _bounded(httpx_client_factory)(headers=headers, timeout=(each_s, read_s, each_s, each_s), auth=auth) as client,
        streamable_http_client(url, http_client=client, terminate_on_close=terminate_on_close) as streams,
    ):
        yield streams


def _seconds(given: float | timedelta) -> float:
    return given.total_seconds() if isinstance(given, timedelta) else given


def _expanded(text: str) -> str:
    return _VARIABLE.sub(lambda match: os.environ.get(match[1], match[0]), text)


async def _listed(client: Any) -> list[dict[str, Any]]:
    """The tools of a server, page by page."""
    tools: list[dict[str, Any]] = []
    cursors: set[str] = set()
    cursor, characters = None, 0
    while True:
        page = _wire(await client.list_tools(cursor=cursor))
        for tool in map(_tool, page["tools"]):
            tools.append(tool)
            characters += _length(tool)
        cursor = page.get("nextCursor")
        if len(tools) > MOST_TOOLS or characters > MOST_TOGETHER:
            raise ValueError(f"more than {MOST_TOOLS} tools, or {MOST_TOGETHER} characters of them")
        if not cursor:
            return tools
        if cursor in cursors or len(cursors) == MOST_TOOLS:
            raise ValueError("a list of tools without an end")
        cursors.add(cursor)


def _length(tool: Mapping[str, Any]) -> int:
    """How long a tool's name, description and schema are together; raises `ValueError` for one that is too long."""
    lengths = {part: len(text if isinstance(text := tool[part], str) else json.dumps(text)) for part in MOST_CHARACTERS}
    for part, most in MOST_CHARACTERS.items():
        if lengths[part] > most:
            raise ValueError(f"tool {short_repr(tool['name'])} with a {part} of more than {most} characters")
    return sum(lengths.values())


def _wire(message: Any) -> dict[str, Any]:
    """A message as the protocol writes it."""
    plain: dict[str, Any] = message.model_dump(mode="json", by_alias=True, exclude_none=True)
    return plain


def _label(name: str) -> str:
    """A short name for a server: `time` of `uvx mcp-server-time`, the host of an address."""
    if is_address(name):
        return (urlsplit(name).hostname or "mcp").replace(".", "_")
    words = [word for word in shlex.split(name) if not word.startswith("-") and "=" not in word]
    last = PurePath(words[-1] if words else "mcp").stem
    return last.removeprefix("mcp-").removeprefix("server-") or "mcp"


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    hints = tool.get("annotations") or {}
    return {
        "name": tool["name"],
        "description": tool.get("description") or tool["name"],
        "schema": tool["inputSchema"],
        "read_only": hints.get("readOnlyHint") is True,
        "idempotent": hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True,
    }


class _Watched:
    """A stream of messages, each of them shown to `see` before anybody has it."""

    def __init__(self, inner: Any, see: Callable[[Any], None]) -> None:
        self._inner = inner
        self._see = see

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        self._see(item := await self._inner.__anext__())
        return item

    async def receive(self) -> Any:
        self._see(item := await self._inner.receive())
        return item

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        return await self._inner.__aexit__(*raised)


def _wrong(listed: Any) -> str:
    """Why no run can have a tool that is offered; "" for one that it can."""
    from mcp.types import Tool as Listed
    from pydantic import ValidationError

    try:
        Listed.model_validate(listed, by_name=False)
        tool = _tool(listed)
        _length(tool)
        check_offered([Tool(**{part: tool[part] for part in MOST_CHARACTERS}, run=str)])
    except ValidationError as error:
        name = listed.get("name") if isinstance(listed, dict) else listed
        return f"tool {short_repr(name)}, which is {_reason(error).removeprefix('a reply that is ')}"
    except (ValueError, ConfigurationError) as error:
        return in_one_line(error, MOST_REASON)
    return ""


def _one_of_several(same: Sequence[Mapping[str, Any]]) -> str:
    try:
        check_names([tool["name"] for tool in same])
    except ConfigurationError as error:
        return str(error)
    return ""


def _unreadable(error: Exception) -> str:
    """What came that is no message, as far as the error says."""
    from pydantic import ValidationError

    given = error.errors(include_url=False)[0]["input"] if isinstance(error, ValidationError) else None
    return f"what is no message: {short_repr(given)}" if given is not None else _reason(error)


def _reason(error: BaseException) -> str:
    """The innermost of grouped errors, in one line."""
    from pydantic import ValidationError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"no command {error.filename!r}"
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False)[0]
        wrong = in_one_line(f"{'.'.join(map(str, first['loc']))}: {first['msg']}", 300)
        return f"a reply that is no {error.title} of the protocol ({wrong})"
    return _UNPARSED.sub(r"\1", in_one_line(error, MOST_REASON)) or type(error).__name__
