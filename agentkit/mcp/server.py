"""One MCP server as a client sees it: started at the first need, again when it has ended, and ended by `stop`."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Self

from agentkit.errors import ConfigurationError, ToolError, import_failure, in_one_line, short_repr
from agentkit.mcp.connection import Connection, Shown
from agentkit.mcp.offer import MOST_REASON, Sieve, invalid, listed, wire
from agentkit.mcp.transport import StandardError, has_ended, over_http, over_stdio

if TYPE_CHECKING:
    from anyio.from_thread import BlockingPortal

STOP_S = 10.0  # the transport itself waits 2 s for a process to end before it kills it
PROBE_S = 1.0
MOST_ENDS = 3  # of a process, with no answer in between
GIVEN_UP_S = 60.0  # that one is left alone which ended so often
MOST_OPEN = 1000  # numbers of requests that are remembered

_UNPARSED = re.compile(r"^(Failed to parse [^:]{1,40}): \d+ validation errors? .*")  # the package's, then pydantic's
_CLOSED = ("ClosedResourceError", "BrokenResourceError", "Connection closed", "Session terminated")
_NO_REASON = ("Server returned an error response", "Not Found")  # the package's words, whatever the server said
_COMES_WITH = {"uvx": "uv (pip install uv)", "npx": "Node.js", "docker": "Docker"}

logger = logging.getLogger("agentkit")


class McpServer:
    """One server, `start_s` how long it may take to answer.

    Everything happens in the portal's thread. Calls run in the context in which the server was first started, not in
    the caller's, so that a cassette keeps what they give, and not what is sent for it.
    """

    def __init__(self, connection: Connection, portal: BlockingPortal, *, start_s: float) -> None:
        self.connection = connection
        self.name = connection.name
        self.shown = Shown(connection)
        self._portal = portal
        self._start_s = start_s
        self._context: Context | None = None
        self._offer: Future[list[dict[str, Any]]] | None = None
        self._session: _Session | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._ends: dict[_Session, float] = {}  # since it answered last, and when
        self._is_stopped = False
        self._hints: set[str] = set()

    def begin(self) -> Future[list[dict[str, Any]]]:
        """Connect, unless connected; the future gives the tools."""
        if self._offer is None or (self._offer.done() and self._offer.exception() is not None):
            self._context, self._is_stopped = copy_context(), False
            self._note(self.shown.unset)
            self._offer = self._portal.start_task_soon(self._offered)
        return self._offer

    def tools(self) -> list[dict[str, Any]]:
        """Its tools, as plain values; raises `ConfigurationError` with the one reason why there are none."""
        return self.begin().result()

    def call(
        self, name: str, arguments: Mapping[str, Any], *, repeatable: bool, limit_s: float
    ) -> Future[dict[str, Any]]:
        """A tool's result as it is on the wire; the future raises `ToolError`.

        A server that has ended before is started again. One that ends meanwhile may have done what it was asked: only
        what is `repeatable` is asked again.
        """
        context = (self._context or copy_context()).copy()
        return context.run(self._portal.start_task_soon, self._called, name, dict(arguments), repeatable, limit_s)

    def stop(self) -> None:
        """Disconnect; a server that was started as a process is ended, with what it started."""
        if self._offer is not None or self._session is not None:
            self._portal.start_task_soon(self._stopped).result()
            self._offer = None

    # -- in the portal's thread ------------------------------------------------------------------------------------

    async def _offered(self) -> list[dict[str, Any]]:
        return await self._ready(self._living())

    def _living(self) -> _Session:
        """The session that can be asked; a new one where there is none."""
        if self._session is None or self._session.has_ended:
            if self._session is not None:
                logger.info("MCP server %r has ended and is started again", self.name)
                self._session.over.set()
            self._session = _Session(self.connection, self.shown)
            context = self._context or copy_context()
            task = asyncio.get_running_loop().create_task(self._session.serve(), context=context.copy())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return self._session

    async def _ready(self, session: _Session) -> list[dict[str, Any]]:
        """What a session offers, once it can be asked; raises `ConfigurationError`."""
        try:
            async with asyncio.timeout(self._start_s):
                return await asyncio.shield(session.ready)
        except TimeoutError:
            sent = f", but {session.unreadable[0]}" if session.unreadable else ""
            raise self._failed(session, f"no answer in the protocol within {self._start_s:g} s{sent}") from None
        except ConfigurationError:
            raise
        except Exception as error:
            self._note_end(session)
            raise self._failed(session, self._reason(error, session)) from error

    async def _called(self, name: str, arguments: dict[str, Any], repeatable: bool, limit_s: float) -> dict[str, Any]:
        try:
            async with asyncio.timeout(limit_s):
                return await self._result(name, arguments, repeatable)
        except TimeoutError as error:
            sent = (
                f"; the server sent {self._session.unreadable[-1]}"
                if self._session and self._session.unreadable
                else ""
            )
            raise ToolError(f"Error: {name} gave no result within {limit_s:g} s{sent}") from error

    async def _result(self, name: str, arguments: dict[str, Any], repeatable: bool) -> dict[str, Any]:
        for is_last in (not repeatable, True):
            if self._is_stopped or (self._session and self._session.has_ended and self._is_given_up):
                raise self._ended(name)
            try:
                session = await self._answering(repeatable)
            except ConfigurationError as error:
                raise ToolError(f"Error: {name} cannot be called: {error}") from error
            before = session.errors.count
            try:
                result = await session.call(name, arguments)
            except Exception as error:
                reason = self._reason(error, session)
                if not (reason in _CLOSED or session.has_ended):
                    raise ToolError(f"Error: {self._told(reason)}") from error
                self._note_end(session)
                if is_last or self._is_given_up or self._is_stopped:
                    session.over.set()
                    await session.errors.closed()
                    said = session.errors.last_line(before)
                    self.note_hint(said)
                    raise self._ended(name, said, is_open=not repeatable) from error
            else:
                self._ends.clear()
                return result
        raise AssertionError("the last attempt returns or raises")

    def _note_end(self, session: _Session) -> None:
        """Count the end of a session once, whoever of several calls sees it."""
        if session not in self._ends:
            session.has_ended = True
            self._ends[session] = time.monotonic()
            for other in [*self._ends][:-MOST_ENDS]:
                del self._ends[other]

    @property
    def _is_given_up(self) -> bool:
        """Whether a process ended too often lately, and answered nothing in between."""
        recent = [ended_s for ended_s in self._ends.values() if time.monotonic() - ended_s < GIVEN_UP_S]
        return len(recent) >= MOST_ENDS and not self.connection.is_remote

    async def _answering(self, repeatable: bool) -> _Session:
        """A session that can be asked; for what is not repeatable, one that was there a moment ago."""
        session = self._living()
        await self._ready(session)
        if not repeatable and not self.connection.is_remote and not await session.answers():
            session = self._living()
            await self._ready(session)
        return session

    async def _stopped(self) -> None:
        self._is_stopped = True
        if self._session is not None and self._session.ready.done():
            self._session.over.set()
            if self._tasks:
                await asyncio.wait(self._tasks, timeout=STOP_S)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=STOP_S)
        self._session = None

    def note_hint(self, text: str) -> None:
        """Say it once, where a text is about a variable that the server did not get."""
        self._note(self.shown.hint(text))

    def _note(self, hint: str) -> None:
        if hint and hint not in self._hints:
            self._hints.add(hint)
            logger.warning("MCP server %r: %s", self.name, hint)

    # -- what is said ----------------------------------------------------------------------------------------------

    def _ended(self, name: str, said: str = "", *, is_open: bool = False) -> ToolError:
        """`is_open`: what was called may have been done."""
        meanwhile = f", and whether {name} took effect is not known" if is_open else ""
        last = f" (it said: {said})" if said else ""
        return ToolError(f"Error: the MCP server of {name} has ended{last}{meanwhile}; do without it.")

    def _reason(self, error: BaseException, session: _Session) -> str:
        if session.status is not None and (reason := _reason(error)) not in _CLOSED:
            return f"HTTP {session.status}" + ("" if reason in _NO_REASON else f": {reason}")
        folder = self.connection.given.get("cwd")
        if folder is not None and not os.path.isdir(folder):
            return f"no folder {str(folder)!r} to start it in"
        return _reason(error)

    def _told(self, reason: str) -> str:
        return in_one_line(self.shown.message(reason), MOST_REASON)

    def _failed(self, session: _Session, reason: str) -> ConfigurationError:
        line = session.errors.last_line()
        session.errors.pass_on(without=line)
        hint = self.shown.hint(line)
        advice = _advice(session.status) if self.connection.is_remote else "run the command by hand, or mend it"
        seen = f"{self._told(reason)}; it said: {line}" if line else self._told(reason)
        return ConfigurationError(f"MCP server {self.name!r}: expected an MCP server, saw: {seen}; {hint or advice}")


class _Session:
    """One connection, from its beginning to its end. `ready` gives the tools; `over` ends it."""

    def __init__(self, connection: Connection, shown: Shown) -> None:
        self.ready: asyncio.Future[list[dict[str, Any]]] = asyncio.get_running_loop().create_future()
        self.over = asyncio.Event()
        self.errors = StandardError(shown.message)
        self.status: int | None = None  # of HTTP, where the newest response to a message was an error
        self.unreadable: list[str] = []  # what came that the package drops without a word
        self._connection = connection
        self._shown = shown
        self._client: Any = None
        self._process: Any = None
        self._is_over = False
        self._writing: Any = None
        self._waiting: list[asyncio.Future[str]] = []  # calls, each told what came in place of its reply
        self._probes: dict[str, asyncio.Event] = {}
        self._open: dict[str, None] = {}  # the newest requests, by their numbers
        self._sieve = Sieve()

    @property
    def has_ended(self) -> bool:
        """Whether nothing can be asked any more."""
        return self._is_over or (self._process is not None and has_ended(self._process))

    @has_ended.setter
    def has_ended(self, value: bool) -> None:
        self._is_over = value

    async def serve(self) -> None:
        """Holds the connection open; its task enters and leaves it, as anyio wants."""
        failure: Exception | None = None
        try:
            logging.getLogger("mcp").addHandler(logging.NullHandler())  # a line that is no message is no traceback
            async with _client(self._watched, self._connection.given.get("session_kwargs") or {}) as self._client:
                offered = self._sieve.usable(await listed(self._client), self._connection.name)
                self.errors.pass_on()
                self.ready.set_result(self._shown.result(offered))
                await self.over.wait()
        except Exception as error:
            failure = not_installed(error) if isinstance(error, ImportError) else error
        finally:
            self._is_over = True
            await self.errors.closed()
            if not self.ready.done():
                self.ready.set_exception(failure or ConnectionError("Connection closed"))
                self.ready.exception()  # which whoever waits is told, if anybody does

    async def call(self, name: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """A tool's result as it is on the wire; raises `ValueError` for another reply that can only be meant as it."""
        answer = asyncio.ensure_future(self._client.call_tool(name, arguments))
        lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(lost)
        try:
            await asyncio.wait((answer, lost), return_when=asyncio.FIRST_COMPLETED)
            if not answer.done():
                sent = lost.result()
                raise ValueError(sent if sent.startswith("the server sent ") else f"the server sent {sent}")
            return wire(answer.result())
        finally:
            self._waiting.remove(lost)
            answer.cancel()

    async def answers(self) -> bool:
        """Whether the server is still there: one that is about to end would take a call with it."""
        number, answered = f"agentkit-{len(self._probes)}", asyncio.Event()
        self._probes[number] = answered
        with suppress(Exception):
            async with asyncio.timeout(PROBE_S):
                await self._writing.send(_request(number, "ping"))
                await answered.wait()
        return not self.has_ended

    # -- what comes and goes ---------------------------------------------------------------------------------------

    @asynccontextmanager
    async def _watched(self) -> AsyncIterator[Any]:
        """The transport, with what comes and goes seen first."""
        if self._connection.is_remote:
            transport: AbstractAsyncContextManager[Any] = over_http(self._connection, self._fails, self._answers)
        else:
            transport = over_stdio(self._connection, self.errors, self._starts)
        async with transport as (reading, self._writing, *_):
            yield _Reading(reading, self._comes, self._ends), _Writing(self._writing, self._goes)

    def _fails(self, error: Exception) -> None:
        self._drops(f"the server sent nothing: {_reason(error)}", is_reply=True)

    def _answers(self, status: int) -> None:
        self.status = status if status >= 400 else None

    def _starts(self, process: Any) -> None:
        self._process = process

    def _ends(self) -> None:
        self._is_over = True
        for answered in self._probes.values():
            answered.set()

    def _goes(self, item: Any) -> None:
        message = _message(item)
        if (number := getattr(message, "id", None)) is not None and hasattr(message, "method"):
            self._open[str(number)] = None
            if len(self._open) > MOST_OPEN:
                del self._open[next(iter(self._open))]

    def _comes(self, item: Any) -> bool:
        """Whether the package is to have it. What it is going to drop, it tells nobody, and the request waits on."""
        if isinstance(item, Exception):
            given = _given(item)
            what = _reason(item) if given is None else f"what is no message: {short_repr(given)}"
            self._drops(what, is_reply=self._connection.is_remote or _is_reply(given))
            return True
        message = _message(item)
        if hasattr(message, "method"):
            return True
        number = getattr(message, "id", None)
        if (probe := self._probes.get(str(number))) is not None:
            probe.set()
            return False
        if str(number) not in self._open:
            error = getattr(message, "error", None)
            what = f"to a request that was not made ({short_repr(number)})"
            self._drops(f"a reply {what}" if error is None else f"an error {what}: {error.message}", is_reply=True)
        self._sieve.take_out(getattr(message, "result", None))
        return True

    def _drops(self, what: str, *, is_reply: bool) -> None:
        what = in_one_line(self._shown.message(what), MOST_REASON)
        if is_reply and len(self._waiting) == 1 and not self._waiting[0].done():
            self._waiting[0].set_result(what)
        if what in self.unreadable or len(self.unreadable) > MOST_OPEN:
            return
        self.unreadable.append(what)
        if self._waiting:
            logger.warning("MCP server %r was called and sent %s", self._connection.name, what)


@asynccontextmanager
async def _client(transport: Callable[[], Any], options: Mapping[str, Any]) -> AsyncIterator[Any]:
    """The package's client over a transport, in its version 2 or 1."""
    import mcp

    if hasattr(mcp, "Client"):
        async with mcp.Client(transport(), **options) as client:
            yield client
    else:
        async with transport() as streams, mcp.ClientSession(*streams, **options) as session:
            await session.initialize()
            yield session


def _advice(status: int | None) -> str:
    """What to do about a server at an address that gives no tools."""
    if status in (401, 403):
        return (
            "it wants a key, or refused the one it was sent; give it in the connection's headers, as "
            '{"url": …, "headers": {"Authorization": "Bearer ${NAME}"}} in a file of mcpServers'
        )
    if status is not None and status >= 500:
        return "the server itself failed; look at its log, or try again"
    return "is it running, and is the address right?"


def not_installed(error: ImportError) -> ConfigurationError:
    """Says why the package of the protocol cannot be imported."""
    return ConfigurationError(import_failure(error, "mcp", purpose="for MCP"))


def _message(item: Any) -> Any:
    """A message of the protocol; version 1 of the package has it within another."""
    return getattr(item.message, "root", item.message)


class _Stream:
    """A stream of messages; what is not watched is the inner one's."""

    def __init__(self, inner: Any, see: Callable[[Any], Any]) -> None:
        self._inner = inner
        self._see = see

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(self, *raised: Any) -> Any:
        return await self._inner.__aexit__(*raised)


class _Writing(_Stream):
    async def send(self, item: Any) -> None:
        self._see(item)
        await self._inner.send(item)


class _Reading(_Stream):
    """`see` says whether a message goes on, `ended` is called at the end of the stream."""

    def __init__(self, inner: Any, see: Callable[[Any], bool], ended: Callable[[], None]) -> None:
        super().__init__(inner, see)
        self._ended = ended

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self._next(self._inner.__anext__)

    async def receive(self) -> Any:
        return await self._next(self._inner.receive)

    async def _next(self, receive: Callable[[], Any]) -> Any:
        from anyio import ClosedResourceError, EndOfStream

        try:
            while not self._see(item := await receive()):
                pass
        except (EndOfStream, StopAsyncIteration, ClosedResourceError):
            self._ended()
            raise
        return item


def _given(error: Exception) -> Any:
    """What came that is no message, as far as the error says."""
    from pydantic import ValidationError

    return error.errors(include_url=False)[0]["input"] if isinstance(error, ValidationError) else None


def _is_reply(given: Any) -> bool:
    """Whether what is no message of the protocol is meant as a reply, or as several in one."""
    if isinstance(given, list):
        return any(map(_is_reply, given[:MOST_OPEN]))
    return isinstance(given, Mapping) and "method" not in given and ("result" in given or "error" in given)


def _request(number: str, method: str) -> Any:
    """A request of the protocol, as the package's streams have it."""
    from mcp import types
    from mcp.shared.message import SessionMessage

    request: Any = types.JSONRPCRequest(jsonrpc="2.0", id=number, method=method)
    wrap: Any = types.JSONRPCMessage
    return SessionMessage(wrap(request) if isinstance(wrap, type) else request)  # version 1 has it within another


def _reason(error: BaseException) -> str:
    """The innermost of grouped errors, in one line."""
    from pydantic import ValidationError

    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        comes_with = _COMES_WITH.get(str(error.filename))
        return f"no command {error.filename!r}{f', which comes with {comes_with}' if comes_with else ''}"
    if isinstance(error, ValidationError):
        return f"a reply that is {invalid(error)}"
    return _UNPARSED.sub(r"\1", in_one_line(error, MOST_REASON)) or type(error).__name__
