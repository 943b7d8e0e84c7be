"""The two drivers of a request: a generator says what to do next, they do it, blocking or awaiting."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from agentkit.models.backend import Chunk
from agentkit.models.hosted.clients import Clients
from agentkit.models.hosted.failures import Failure, described
from agentkit.models.hosted.places import Outgoing

ALARM_S = 1.0  # a read that may last this much longer than allowed is not worth a thread


@dataclass(frozen=True, slots=True)
class Send:
    """Do: send a request; gives a `Head`. `read_s` is the longest silence, `limit_s` for all of it (when awaiting)."""

    outgoing: Outgoing
    connect_s: float
    read_s: float
    limit_s: float | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """Do: read on; gives bytes, `None` at the end. No longer than `limit_s`."""

    limit_s: float | None


@dataclass(frozen=True, slots=True)
class Wait:
    """Do: let the time pass, without a connection."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Ask:
    """Do: call something that may block; gives its result."""

    function: Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Head:
    """How a response begins."""

    status: int
    headers: Mapping[str, str]


Steps = Generator[Chunk | Send | Read | Wait | Ask, Any, None]


def drive(steps: Steps, exchange: Exchange) -> Iterator[Chunk]:
    """The chunks of a reply, blocking; closing the iterator closes the connection."""
    try:
        effect = next(steps, None)
        while effect is not None:
            if isinstance(effect, Chunk):
                yield effect
                effect = next(steps, None)
                continue
            try:
                result = exchange.do(effect)
            except Exception as error:
                effect = _thrown(steps, error)
            else:
                effect = _sent(steps, result)
    finally:
        steps.close()
        exchange.close()


async def adrive(steps: Steps, exchange: AsyncExchange) -> AsyncIterator[Chunk]:
    """`drive`, awaiting."""
    try:
        effect = next(steps, None)
        while effect is not None:
            if isinstance(effect, Chunk):
                yield effect
                effect = next(steps, None)
                continue
            try:
                result = await exchange.do(effect)
            except Exception as error:
                effect = _thrown(steps, error)
            else:
                effect = _sent(steps, result)
    finally:
        steps.close()
        await exchange.close()


def _sent(steps: Steps, result: Any) -> Any:
    try:
        return steps.send(result)
    except StopIteration:
        return None


def _thrown(steps: Steps, error: Exception) -> Any:
    try:
        return steps.throw(error)
    except StopIteration:
        return None


class Exchange:
    """One request and its response at a time, on a connection of the model's."""

    def __init__(self, clients: Clients, *, sleep: Callable[[float], None] = time.sleep) -> None:
        self._clients = clients
        self._sleep = sleep
        self._client: httpx.Client | None = None
        self._response: httpx.Response | None = None
        self._pieces: Iterator[bytes] = iter(())
        self._read_s = 0.0
        self._alarm: threading.Timer | None = None
        self._alarm_s = 0.0  # when it rings

    def do(self, effect: Send | Read | Wait | Ask) -> Any:
        match effect:
            case Send():
                self._end_response()
                return self._send(effect)
            case Read(limit_s):
                return self._read(limit_s)
            case Wait(seconds):
                self._end_response()
                return self._sleep(seconds)
            case Ask(function):
                return function()

    def close(self) -> None:
        """The end of the call."""
        self._end_response()
        if self._client is not None:
            self._clients.give_back(self._client)
            self._client = None

    def _end_response(self) -> None:
        """A connection with nothing left to read is kept, any other closed."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._response is not None:
            self._response.close()
            self._response = None

    def _send(self, effect: Send) -> Head:
        self._client = self._client or self._clients.borrow()
        try:
            self._response = self._client.send(_request(self._client, effect), stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _failure(error, doubtful=True) from error
        self._read_s = effect.read_s
        self._pieces = self._response.iter_bytes()
        return Head(self._response.status_code, self._response.headers)

    def _read(self, limit_s: float | None) -> bytes | None:
        if limit_s is not None and limit_s + ALARM_S < self._read_s:
            self._set_alarm(limit_s)
        try:
            return next(self._pieces, None)
        except (httpx.HTTPError, OSError) as error:
            raise _failure(error) from error

    def _set_alarm(self, limit_s: float) -> None:
        """A stream that trickles and then is silent would be read until its next silence is long enough: hang up."""
        assert self._response is not None
        end_s = time.monotonic() + limit_s
        if self._alarm is not None:
            if self._alarm_s <= end_s + ALARM_S:
                return
            self._alarm.cancel()
        stream = self._response.extensions.get("network_stream")
        if stream is None:  # no network: a cassette
            return
        self._alarm = threading.Timer(limit_s, _hang_up, (stream.get_extra_info("socket"),))
        self._alarm_s = end_s
        self._alarm.daemon = True
        self._alarm.start()


class AsyncExchange:
    """`Exchange`, awaiting."""

    def __init__(self, clients: Clients, *, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        self._clients = clients
        self._sleep = sleep
        self._client: httpx.AsyncClient | None = None
        self._response: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def do(self, effect: Send | Read | Wait | Ask) -> Any:
        match effect:
            case Send():
                await self._end_response()
                return await self._send(effect)
            case Read(limit_s):
                return await self._read(limit_s)
            case Wait(seconds):
                await self._end_response()
                return await self._sleep(seconds)
            case Ask(function):
                return await asyncio.to_thread(function)

    async def close(self) -> None:
        """The end of the call."""
        try:
            await self._end_response()
        finally:
            if self._client is not None:
                client, self._client = self._client, None
                await self._clients.agive_back(client)

    async def _end_response(self) -> None:
        self._pieces = None
        if self._response is not None:
            response, self._response = self._response, None
            await response.aclose()

    async def _send(self, effect: Send) -> Head:
        self._client = self._client or await self._clients.aborrow()
        try:
            async with asyncio.timeout(effect.limit_s):
                self._response = await self._client.send(_request(self._client, effect), stream=True)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise _failure(error, doubtful=True) from error
        self._pieces = self._response.aiter_bytes()
        return Head(self._response.status_code, self._response.headers)

    async def _read(self, limit_s: float | None) -> bytes | None:
        assert self._pieces is not None
        try:
            async with asyncio.timeout(limit_s):
                return await anext(self._pieces, None)
        except (httpx.HTTPError, OSError) as error:
            raise _failure(error) from error


def _request(client: httpx.Client | httpx.AsyncClient, effect: Send) -> httpx.Request:
    outgoing = effect.outgoing
    return client.build_request(
        "GET" if outgoing.content is None else "POST",
        outgoing.url,
        content=outgoing.content,
        headers=outgoing.headers,
        timeout=httpx.Timeout(effect.read_s, connect=effect.connect_s, pool=effect.connect_s),
    )


def _failure(error: Exception, *, doubtful: bool = False) -> Failure:
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return Failure(f"cannot be asked ({described(error)})", retry=False)
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        said = f"could not be reached ({described(error)})"
    elif isinstance(error, httpx.TimeoutException | TimeoutError):
        said = f"was silent for too long ({type(error).__name__})"
    else:
        said = f"broke the connection ({described(error)})"
    return Failure(said, doubtful=doubtful)


def _hang_up(connection: socket.socket | None) -> None:
    if connection is not None:
        try:
            socket.socket.shutdown(connection, socket.SHUT_RDWR)
        except OSError:
            return  # it is closed
