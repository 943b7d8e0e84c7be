"""Runs a blocking iterator in a thread and hands its values to an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeVar

T = TypeVar("T")


async def iterate_in_thread(start: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """The values of `start()`, computed in a daemon thread; cancelling ends the iterator after its current value."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue()
    cancelled = threading.Event()

    def deliver(value: T | None, error: BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(arrived.put_nowait, (value, error))

    def pump() -> None:
        try:
            for value in start():
                deliver(value, None)
                if cancelled.is_set():
                    return
            deliver(None, StopAsyncIteration())
        except BaseException as error:
            deliver(None, error)

    threading.Thread(target=pump, name="agentkit-model", daemon=True).start()
    try:
        while True:
            value, error = await arrived.get()
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            yield value  # type: ignore[misc]
    finally:
        cancelled.set()
