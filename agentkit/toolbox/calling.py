"""Calls tools: in threads that hold nobody up, with a time limit, and again after a failure where that is safe."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from agentkit.errors import ToolError, in_one_line
from agentkit.events import ToolInput
from agentkit.retry import Attempts, RetryPolicy
from agentkit.tool import Tool

# requests', httpx' and urllib3's errors of a connection share these names, not a base class.
TRANSIENT = {"ConnectionError", "TimeoutError", "Timeout", "TransportError", "ConnectTimeout", "ReadTimeout"}


def wait_s(tool: Tool, error: Exception, attempts: Attempts) -> float:
    """Seconds until an idempotent tool is tried again; raises what the run is to see when it is not."""
    if not tool.idempotent or not is_transient(error):
        raise error
    has_try = attempts.fail()
    wait_s = attempts.wait_s()
    if has_try and attempts.has_time_for(wait_s):
        return wait_s
    if isinstance(error, ToolError):
        raise error
    seen = f"{type(error).__name__}: {in_one_line(error)}"
    raise ToolError(f"Error: {tool.name} failed {attempts.failures} times, last with {seen}") from error


def is_transient(error: BaseException | None) -> bool:
    """Whether a connection failed or took too long, also as the cause of a tool's own error."""
    if isinstance(error, ToolError):
        return is_transient(error.__cause__)
    return any(kind.__name__ in TRANSIENT for kind in type(error).__mro__)


class ThreadCall:
    """A tool called in a daemon thread. Whoever stops waiting gives it up: the thread ends after what it is at."""

    def __init__(self, tool: Tool, tool_input: ToolInput, retries: RetryPolicy, limit_s: float | None) -> None:
        self._abandoned = threading.Event()
        self._ends_s = None if limit_s is None else time.monotonic() + limit_s
        self.future = in_daemon_thread(call, tool, tool_input, retries, self._abandoned)

    def result(self) -> Any:
        """What the tool gives; raises `OutOfTime` when its time is over, and what the tool raises."""
        left_s = None if self._ends_s is None else max(0.0, self._ends_s - time.monotonic())
        try:
            return self.future.result(left_s)
        except TimeoutError:
            if self.future.done():
                raise  # the tool's own
            raise OutOfTime from None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Do not try again."""
        self._abandoned.set()


class OutOfTime(Exception):
    """A tool took longer than it may."""


def call(tool: Tool, tool_input: ToolInput, retries: RetryPolicy, abandoned: threading.Event | None = None) -> Any:
    """What the tool gives, in this thread."""
    attempts = retries.begin()
    while True:
        try:
            return tool.call(tool_input)
        except Exception as error:
            if (abandoned or threading.Event()).wait(wait_s(tool, error, attempts)):
                raise


async def acall(tool: Tool, tool_input: ToolInput, retries: RetryPolicy, limit_s: float | None) -> Any:
    """What the tool gives, awaited; raises `OutOfTime` and what the tool raises."""
    import asyncio

    if limit_s is not None and limit_s <= 0:
        raise OutOfTime
    attempts = retries.begin()
    started = False
    try:
        async with asyncio.timeout(limit_s) as deadline:
            started = True
            if tool.arun is None:
                return await _in_thread(tool, tool_input, retries)
            while True:
                try:
                    return await tool.acall(tool_input)
                except Exception as error:
                    await asyncio.sleep(wait_s(tool, error, attempts))
    except TimeoutError:
        if not started or not deadline.expired():
            raise
        raise OutOfTime from None


async def _in_thread(tool: Tool, tool_input: ToolInput, retries: RetryPolicy) -> Any:
    import asyncio

    thread = ThreadCall(tool, tool_input, retries, None)
    try:
        return await asyncio.wrap_future(thread.future)
    finally:
        thread.abandon()


def in_daemon_thread(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Run `function` in a thread that does not keep the process alive (a pool's threads do), in this context."""
    future: Future[Any] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        if not future.set_running_or_notify_cancel():
            return
        try:
            future.set_result(context.run(function, *args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, name="agentkit-tool", daemon=True).start()
    return future
