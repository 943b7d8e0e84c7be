"""One MCP server as a client sees it: started at the first need, ended with its processes by `stop`."""

from __future__ import annotations

import asyncio
import json
import logging
import shlex
import sys
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import Future
from contextlib import asynccontextmanager
from pathlib import PurePath
from typing import Any
from urllib.parse import urlsplit

from agentkit.errors import ConfigurationError, ToolError
from agentkit.mcp.event_loop import EventLoopThread

INSTALL = "run pip install 'agentkit-react[mcp]'"
STOP_S = 10.0  # the transport itself waits 2 s for a process to end before it kills it

Spec = str | Mapping[str, Any]
"""A command, an address, or a connection of langchain-mcp-adapters (`transport`, `url`, `headers` …)."""


class McpServer:
    """A connection to one server. `spec` says how to reach it, `start_s` how long it may take to answer."""

    def __init__(self, spec: Spec, loop: EventLoopThread, *, start_s: float) -> None:
        self.name = spec if isinstance(spec, str) else str(spec.get("url") or spec.get("command"))
        self.label = _label(self.name)
        self._connection = connection_of(spec)
        self._loop = loop
        self._start_s = start_s
        self._running: Future[None] | None = None
        self._ready: Future[dict[str, Any]] = Future()
        self._stop: asyncio.Event | None = None
        self._tools: dict[str, Any] = {}

    @property
    def is_remote(self) -> bool:
        """Whether it is reached over HTTP."""
        return "url" in self._connection

    def described(self) -> list[dict[str, Any]]:
        """Its tools, as plain values."""
        self.start()
        return [_described(tool) for tool in self._tools.values()]

    def begin(self) -> Future[dict[str, Any]]:
        """Connect, unless connected; the future gives the tools."""
        if self._running is None or self._running.done():
            self._ready = Future()
            self._running = self._loop.submit(self._serve(self._ready))
        return self._ready

    def start(self) -> None:
        """Be connected; raises `ConfigurationError` with the one reason why not."""
        try:
            self._tools = self.begin().result(self._start_s)
        except TimeoutError:
            self._cancel()
            raise self._failed(f"no answer in the protocol within {self._start_s:g} s") from None
        except BaseException as error:
            self._cancel()
            if not isinstance(error, Exception) or isinstance(error, ConfigurationError):
                raise
            raise self._failed(_reason(error)) from error

    async def call(self, name: str, arguments: Mapping[str, Any]) -> tuple[Any, Any]:
        """Content and artifact of a tool's result; runs in the loop's thread. Raises `ToolError`."""
        try:
            content, artifact = await self._tools[name].coroutine(**arguments)
            return content, artifact
        except Exception as error:
            reason = _reason(error)
            if reason in ("ClosedResourceError", "Connection closed"):
                reason = f"the MCP server of {name} has ended; do without it."
            raise ToolError(f"Error: {reason}") from error

    def submit_call(self, name: str, arguments: Mapping[str, Any]) -> Future[tuple[Any, Any]]:
        """`call` under way."""
        return self._loop.submit(self.call(name, arguments))

    def stop(self) -> None:
        """Disconnect; a server that was started as a process is ended, with what it started."""
        if self._running is None or self._running.done() or self._stop is None:
            return
        stop = self._stop

        async def tell() -> None:
            stop.set()

        self._loop.submit(tell())
        try:
            self._running.result(STOP_S)
        except BaseException as error:
            self._cancel()
            if not isinstance(error, Exception):
                raise

    def _cancel(self) -> None:
        if self._running is not None:
            self._running.cancel()

    async def _serve(self, ready: Future[dict[str, Any]]) -> None:
        """Holds the connection open; its task enters and leaves it, as anyio wants."""
        self._stop = asyncio.Event()
        try:
            from langchain_mcp_adapters.tools import load_mcp_tools

            logging.getLogger("mcp").addHandler(logging.NullHandler())  # a line that is no message is no traceback
            async with _session(self._connection) as session:
                await session.initialize()
                tools = await load_mcp_tools(session, handle_tool_errors=False)
                ready.set_result({tool.name: tool for tool in tools})
                await self._stop.wait()
        except ImportError as error:
            ready.set_exception(ConfigurationError(f"expected the package {error.name} for MCP; {INSTALL}"))
        except BaseException as error:
            if not ready.done():
                ready.set_exception(error if isinstance(error, Exception) else ConnectionError("it was cancelled"))
            if not isinstance(error, Exception):
                raise

    def _failed(self, reason: str) -> ConfigurationError:
        return ConfigurationError(
            f"MCP server {self.name!r}: expected an MCP server, saw: {reason}; run the command by hand, or mend it"
        )


def connection_of(spec: Spec) -> dict[str, Any]:
    """How langchain-mcp-adapters reaches a server."""
    if isinstance(spec, Mapping):
        return dict(spec)
    if spec.startswith(("http://", "https://")):
        is_sse = urlsplit(spec).path.rstrip("/").endswith("/sse")
        return {"transport": "sse" if is_sse else "http", "url": spec}
    try:
        command, *args = shlex.split(spec)
    except ValueError as error:
        raise ConfigurationError(f"expected an MCP server's command or address, saw {spec!r} ({error})") from None
    return {"transport": "stdio", "command": command, "args": args}


@asynccontextmanager
async def _session(connection: dict[str, Any]) -> AsyncIterator[Any]:
    if set(connection) != {"transport", "command", "args"}:
        from langchain_mcp_adapters.sessions import create_session

        async with create_session(connection) as session:  # type: ignore[arg-type]
            yield session
        return
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    parameters = StdioServerParameters(command=connection["command"], args=connection["args"])
    # The process' own standard error: what stands in sys.stderr, in a notebook, need not be a file.
    log = sys.__stderr__ or sys.stderr
    async with stdio_client(parameters, errlog=log) as streams, ClientSession(*streams) as session:
        yield session


def _label(name: str) -> str:
    """A short name for a server: `time` of `uvx mcp-server-time`, the host of an address."""
    if name.startswith(("http://", "https://")):
        return (urlsplit(name).hostname or "mcp").replace(".", "_")
    words = [word for word in shlex.split(name) if not word.startswith("-") and "=" not in word]
    last = PurePath(words[-1] if words else "mcp").stem
    return last.removeprefix("mcp-").removeprefix("server-") or "mcp"


def _described(tool: Any) -> dict[str, Any]:
    hints = tool.metadata or {}
    return {
        "name": tool.name,
        "description": tool.description or tool.name,
        "schema": json.loads(json.dumps(tool.args_schema)),
        "read_only": hints.get("readOnlyHint") is True,
        "idempotent": hints.get("readOnlyHint") is True or hints.get("idempotentHint") is True,
    }


def _reason(error: BaseException) -> str:
    """The innermost of grouped errors, in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, FileNotFoundError):
        return f"no command {error.filename!r}"
    return " ".join(str(error).split()) or type(error).__name__
