"""The HTTP clients of one model, each with one connection that is kept for reuse.

One client for all would do it, but httpx looks through all of a client's connections at every request: at 64 calls at
once that takes seven times as long as the calls.
"""

from __future__ import annotations

import asyncio
import ssl
import weakref
from collections.abc import AsyncGenerator
from typing import Any

import httpx

MOST_IDLE = 128
_LIMITS = httpx.Limits(max_connections=None, max_keepalive_connections=1, keepalive_expiry=30.0)


class Clients:
    """Lends a client for a call. Idle ones are closed when their owner goes, or the event loop they belong to ends."""

    def __init__(self, *, encrypted: bool) -> None:
        # Reading the certificates takes 20 ms. Without them no redirect is followed: it could lead to https.
        context = httpx.create_ssl_context() if encrypted else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._options: dict[str, Any] = {"limits": _LIMITS, "follow_redirects": encrypted, "verify": context}
        self._idle: list[httpx.Client] = []
        self._of_loops: dict[asyncio.AbstractEventLoop, tuple[list[httpx.AsyncClient], AsyncGenerator[None]]] = {}
        weakref.finalize(self, _close_all, self._idle)

    def borrow(self) -> httpx.Client:
        """A client for one thread."""
        try:
            return self._idle.pop()
        except IndexError:
            return httpx.Client(**self._options)

    def give_back(self, client: httpx.Client) -> None:
        """The client is idle again."""
        if len(self._idle) < MOST_IDLE:
            self._idle.append(client)
        else:
            client.close()

    async def aborrow(self) -> httpx.AsyncClient:
        """A client of the running event loop."""
        loop = asyncio.get_running_loop()
        if loop not in self._of_loops:
            idle: list[httpx.AsyncClient] = []
            keeper = _closed_with_loop(idle, self._of_loops)
            self._of_loops[loop] = idle, keeper
            await anext(keeper)
        idle = self._of_loops[loop][0]
        return idle.pop() if idle else httpx.AsyncClient(**self._options)

    async def agive_back(self, client: httpx.AsyncClient) -> None:
        """The client is idle again; where its loop is ending, it is closed."""
        idle, _ = self._of_loops.get(asyncio.get_running_loop(), (None, None))
        if idle is not None and len(idle) < MOST_IDLE:
            idle.append(client)
        else:
            await client.aclose()

    def close(self) -> None:
        """Close the idle connections of all threads."""
        _close_all(self._idle)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop."""
        if (kept := self._of_loops.get(asyncio.get_running_loop())) is not None:
            await kept[1].aclose()


def _close_all(idle: list[httpx.Client]) -> None:
    while idle:
        idle.pop().close()


async def _closed_with_loop(idle: list[httpx.AsyncClient], of_loops: dict[Any, Any]) -> AsyncGenerator[None]:
    """A generator that is not finished: a loop that ends closes it (`shutdown_asyncgens`), and with it the clients."""
    try:
        yield
    finally:
        of_loops.pop(asyncio.get_running_loop(), None)
        while idle:
            await idle.pop().aclose()
