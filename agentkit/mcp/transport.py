"""What carries the messages of an MCP server, within bounds: a process' standard streams, or HTTP."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from datetime import timedelta
from functools import cache
from typing import Any

from agentkit.errors import ConfigurationError, in_one_line
from agentkit.http_body import MOST_BYTES, Body, Unreadable
from agentkit.mcp.connection import Connection
from agentkit.printable import printable

MOST_LINE = 8_000_000
MOST_HELD = 65_536  # of a line on standard error
MOST_LINES = 50  # of standard error that are looked through for a reason
MOST_OF_LINE = 500
GROUP_S = 2.0  # that what a server left behind may take to end, before it is killed
KILLED_S = 0.5  # that it may take then
HELD_S = 2.0  # that a line is held which a server says while it starts: the error of one that fails would have it again
READ_S = 1.0  # that the rest of standard error may take to come, once the server has ended

_started: ContextVar[Callable[[Any], None]] = ContextVar("agentkit_mcp_started", default=lambda process: None)
_flooded: ContextVar[Callable[[], None]] = ContextVar("agentkit_mcp_flooded")

_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_FRAME = re.compile(r"\s{12}.*|\s*[|│]?\s+at .+|Node\.js v[\d.]+|npm (?:error|ERR!) A complete log of this run .*")
_NOTE = re.compile(r"\b(?:INFO|DEBUG|TRACE)\b")


class StandardError:
    """What a server says on its standard error: it goes on to this process' own, and its last lines are kept.

    `shown` makes a line fit to be seen: it is foreign text. Each line that comes while the server starts is held for a
    moment: of one that fails, the line that the error has is not passed on as well.
    """

    def __init__(self, shown: Callable[[str], str]) -> None:
        self._shown = shown
        self._lines: deque[str] = deque(maxlen=MOST_LINES)
        self._reader: threading.Thread | None = None
        # when each line came, as it is passed on, and as it is kept
        self._held: deque[tuple[float, str, str]] | None = deque()
        self._writing = threading.Lock()
        self.count = 0  # of lines so far

    def open(self) -> int:
        """The descriptor that a server writes to."""
        reading, writing = os.pipe()
        self._reader = threading.Thread(target=self._pass_on, args=(reading,), name="agentkit-mcp-stderr", daemon=True)
        self._reader.start()
        return writing

    async def closed(self) -> None:
        """Wait until all of it is read, which is soon once nobody writes any more."""
        end_s = time.monotonic() + READ_S
        while self._reader is not None and self._reader.is_alive() and time.monotonic() < end_s:
            await asyncio.sleep(0.01)  # a thread that joins it could not be had while the interpreter ends

    def last_line(self, since: int | None = None) -> str:
        """The last line that says something; "" where there is none. `since` is what `count` was: of the later ones.

        A stack frame says nothing, nor does the rest of a broken line. A note of what went well is the last resort, and
        none of what was said since.
        """
        newest = list(self._lines)
        newest = newest[max(0, len(newest) - (self.count - (since or 0))) :]
        said = [line for line in newest if re.search(r"\w", line) and not _FRAME.fullmatch(line)]
        whatever = said[-1] if said and since is None else ""
        line = next((line for line in reversed(said) if not _NOTE.search(line)), whatever)
        return _bare(line)

    def pass_on(self, *, without: str | None = None) -> None:
        """Pass on what is held, and from now on what comes; `without` the last line that is this one."""
        with self._writing:
            held, self._held = [*(self._held or ())], None
            if same := [number for number, (_, _, line) in enumerate(held) if _bare(line) == without]:
                del held[same[-1]]
            _write("".join(text for _, text, _ in held))

    def _pass_on_in_time(self) -> None:
        """Pass on what has been held long enough, and come again for the rest."""
        with self._writing:
            due, now_s = [], time.monotonic()
            while self._held and now_s - self._held[0][0] >= HELD_S:
                due.append(self._held.popleft()[1])
            _write("".join(due))
            if self._held:
                self._wake_in(self._held[0][0] + HELD_S - now_s)

    def _wake_in(self, seconds: float) -> None:
        moment = threading.Timer(seconds, self._pass_on_in_time)
        moment.daemon = True
        moment.start()

    def _pass_on(self, pipe: int) -> None:
        decoder, held, piece = codecs.getincrementaldecoder("utf-8")("replace"), "", b"\n"
        while piece:
            piece = os.read(pipe, 65_536)
            text = held + decoder.decode(piece, not piece)
            end = text.rfind("\n") + 1 if piece and len(text) < MOST_HELD else len(text)
            text, held = text[:end], text[end:]  # a key is known by the whole of it
            shown = self._shown(text)
            lines = [(printable(line), printable(_COLOUR.sub("", line))) for line in shown.splitlines(keepends=True)]
            self._lines.extend(line.rstrip("\r\n") for _, line in lines)
            self.count += len(lines)
            with self._writing:
                if self._held is None:
                    _write(printable(shown))
                else:
                    if lines and not self._held:
                        self._wake_in(HELD_S)
                    self._held.extend((time.monotonic(), *line) for line in lines)
        os.close(pipe)


def _write(text: str) -> None:
    """To standard error as it is now: a spinner puts itself in its place, and lines then stand above it."""
    stream = sys.stderr
    encoding = getattr(stream, "encoding", None) or "utf-8"
    with suppress(OSError, ValueError, AttributeError):
        stream.write(text.encode(encoding, "replace").decode(encoding))
        stream.flush()


def _bare(line: str) -> str:
    """A line as an error has it."""
    return in_one_line(line.strip(" \t|│+"), MOST_OF_LINE)


# -- a process' standard streams ---------------------------------------------------------------------------------------


@asynccontextmanager
async def over_stdio(
    connection: Connection, errors: StandardError, started: Callable[[Any], None]
) -> AsyncIterator[Any]:
    """Start a server; `started` is told its process. Ends it with what it started."""
    from anyio import CancelScope
    from mcp.client.stdio import StdioServerParameters, stdio_client

    given = {name: value for name, value in connection.given.items() if name not in ("transport", "session_kwargs")}
    given["encoding"] = _in_bounded_lines(given.get("encoding") or "utf-8")
    if variables := connection.environment:
        given["env"] = variables
    processes: list[Any] = []
    _watch_starts()

    def start(process: Any) -> None:
        processes.append(process)
        started(process)

    _started.set(start)
    with CancelScope() as flooded, open(errors.open(), "w", encoding="utf-8") as writing:
        _flooded.set(flooded.cancel)
        try:
            async with stdio_client(StdioServerParameters(**given), errlog=writing) as streams:
                yield streams
        finally:
            with CancelScope(shield=True):
                await _end_what_is_left(processes)
    if flooded.cancelled_caught:
        raise ValueError(f"a line of more than {MOST_LINE} characters")


def has_ended(process: Any) -> bool:
    """Whether a process is over, also where nobody has heard of it yet."""
    if process.returncode is not None:
        return True
    if not hasattr(os, "waitid"):
        return False
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return True


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


# -- HTTP --------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def over_http(
    connection: Connection, failed: Callable[[Exception], None], answered: Callable[[int], None]
) -> AsyncIterator[Any]:
    """Connect to a server at an address.

    `failed` is told of what version 1 of the package gives up without a word, `answered` of the status of each response
    to a message: the package has one sentence for all that are errors.
    """
    given = {name: value for name, value in connection.given.items() if name not in ("transport", "session_kwargs")}
    given |= {"url": connection.url, "headers": connection.headers or None}
    if connection.transport == "sse":
        from mcp.client.sse import sse_client

        given["httpx_client_factory"] = _bounded(given.get("httpx_client_factory"), failed, answered)
        async with sse_client(**{name: value for name, value in given.items() if value is not None}) as streams:
            yield streams
    else:
        async with _streamable(**given, failed=failed, answered=answered) as streams:
            yield streams


@asynccontextmanager
async def _streamable(
    url: str,
    *,
    headers: dict[str, Any] | None = None,
    timeout: float | timedelta = 30.0,
    sse_read_timeout: float | timedelta = 300.0,
    auth: Any = None,
    httpx_client_factory: Any = None,
    terminate_on_close: bool = True,
    failed: Callable[[Exception], None],
    answered: Callable[[int], None],
) -> AsyncIterator[Any]:
    from mcp.client.streamable_http import streamable_http_client

    each_s, read_s = _seconds(timeout), _seconds(sse_read_timeout)
    async with (
        _bounded(httpx_client_factory, failed, answered)(
            headers=headers, timeout=(each_s, read_s, each_s, each_s), auth=auth
        ) as client,
        streamable_http_client(url, http_client=client, terminate_on_close=terminate_on_close) as streams,
    ):
        yield streams


def _seconds(given: float | timedelta) -> float:
    return given.total_seconds() if isinstance(given, timedelta) else given


def _bounded(make: Any, failed: Callable[[Exception], None], answered: Callable[[int], None]) -> Any:
    """A factory of HTTP clients whose responses are read within bounds; a stream of events has them for each event."""
    from mcp.shared import _httpx_utils

    httpx: Any = getattr(_httpx_utils, "httpx2", None) or vars(_httpx_utils)["httpx"]
    is_version_1 = httpx.__name__ == "httpx"

    class Bounded(httpx.AsyncByteStream):  # type: ignore[misc]
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
                raise httpx.StreamError(f"the server sent a reply {error}") from error

        async def aclose(self) -> None:
            await self._stream.aclose()

    async def bound(response: Any) -> None:
        if response.request.method == "POST":
            answered(response.status_code)
            if is_version_1 and response.is_error and response.status_code != 404:  # which ends its session
                failed(OSError(response.reason_phrase or "an error"))
        is_stream = response.headers.get("content-type", "").startswith("text/event-stream")
        encoding = response.headers.pop("content-encoding", None)
        response.stream = Bounded(response.stream, encoding, None if is_stream else MOST_BYTES)

    def watched(send: Any) -> Any:
        async def sent(request: Any, **options: Any) -> Any:
            try:
                return await send(request, **options)
            except Exception as error:
                if request.method == "POST":
                    failed(error)
                raise

        return sent

    def client(headers: dict[str, Any] | None = None, timeout: Any = None, auth: Any = None) -> Any:
        asked = {"accept-encoding": "identity", **(headers or {})}
        made: Any = (make or _httpx_utils.create_mcp_http_client)(headers=asked, timeout=timeout, auth=auth)
        made.event_hooks["response"].append(bound)
        if is_version_1:
            made.send = watched(made.send)
        return made

    return client
