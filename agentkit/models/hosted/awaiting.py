"""The driver of a request that awaits, over connections of the running event loop. Imported at the first such request:
asyncio alone takes a third of what httpx does.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from typing import Any

import httpx

from agentkit.models.backend import Chunk
from agentkit.models.hosted.wire import (
    MOST_IDLE,
    SENDING_FAILED,
    Ask,
    Head,
    Line,
    Read,
    Send,
    Steps,
    Unanswered,
    Wait,
    client_of,
    failure_of,
    head_of,
    next_effect,
    proxy_of,
    request_of,
)


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
                effect = next_effect(steps.throw, error)
            else:
                effect = next_effect(steps.send, result)
    finally:
        steps.close()
        await exchange.close()


class AsyncExchange:
    """`Exchange`, awaiting."""

    def __init__(self, clients: LoopClients, *, sleep: Callable[[float], Awaitable[None]] | None = None) -> None:
        self._clients = clients
        self._sleep = sleep or asyncio.sleep
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
                await self._clients.give_back(client)

    async def _end_response(self) -> None:
        self._pieces = None
        if self._response is not None:
            response, self._response = self._response, None
            await response.aclose()

    async def _send(self, effect: Send) -> Head:
        self._client = self._client or await self._clients.borrow()
        request, line = request_of(self._client, effect), Line()

        async def notice(event: str, about: Mapping[str, Any]) -> None:
            line.notice(event)

        request.extensions["trace"] = notice
        try:
            with self._clients.unanswered.one():
                async with asyncio.timeout(effect.limit_s):
                    self._response = await self._client.send(request, stream=True)
        except SENDING_FAILED as error:
            via = proxy_of(self._clients.options, request.url)
            raise failure_of(error, doubtful=True, stale=line.is_stale(error), via=via) from error
        response = self._response
        self._pieces = response.aiter_bytes() if response.is_stream_consumed else response.aiter_raw()
        return head_of(response)

    async def _read(self, limit_s: float | None) -> bytes | None:
        assert self._pieces is not None
        try:
            async with asyncio.timeout(limit_s):
                return await anext(self._pieces, None)
        except (httpx.HTTPError, OSError) as error:
            raise failure_of(error) from error


class LoopClients:
    """Lends a client for a call, as `wire.Clients` does. Idle ones are closed when their event loop ends."""

    def __init__(self, options: Mapping[str, Any], unanswered: Unanswered) -> None:
        self.options = options
        self.unanswered = unanswered
        self._of_loops: dict[asyncio.AbstractEventLoop, tuple[list[httpx.AsyncClient], AsyncGenerator[None]]] = {}

    async def borrow(self) -> httpx.AsyncClient:
        """A client of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            idle: list[httpx.AsyncClient] = []
            keeper = _closed_with_loop(idle, self._of_loops)
            self._of_loops[loop] = idle, keeper
            await anext(keeper)
        idle = self._of_loops[loop][0]
        return idle.pop() if idle else client_of(httpx.AsyncClient, self.options)

    async def give_back(self, client: httpx.AsyncClient) -> None:
        """The client is idle again; where its loop is ending, it is closed."""
        idle, _ = self._of_loops.get(asyncio.get_running_loop(), (None, None))
        if idle is not None and len(idle) < MOST_IDLE and not self.unanswered.starve:
            idle.append(client)
        else:
            await client.aclose()

    async def close(self) -> None:
        """Close the idle connections of the running event loop."""
        if (kept := self._of_loops.get(asyncio.get_running_loop())) is not None:
            await kept[1].aclose()


async def _closed_with_loop(idle: list[httpx.AsyncClient], of_loops: dict[Any, Any]) -> AsyncGenerator[None]:
    """A generator that is not finished: a loop that ends closes it (`shutdown_asyncgens`), and with it the clients."""
    try:
        yield
    finally:
        of_loops.pop(asyncio.get_running_loop(), None)
        while idle:
            await idle.pop().aclose()
