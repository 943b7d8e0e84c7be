"""Serves our tools, and the agent itself, to other MCP clients: over standard input and output, or over HTTP."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from agentkit import __version__
from agentkit.errors import AgentkitError, ConfigurationError, ToolError
from agentkit.events import Observation
from agentkit.mcp.server import INSTALL
from agentkit.retry import RetryPolicy
from agentkit.secrets import Secrets
from agentkit.tool import Tool
from agentkit.toolbox.calling import OutOfTime, acall
from agentkit.toolbox.observed_text import admitted

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

ONE_STRING: Mapping[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}
Ask = Callable[[str], str]


def check_installed() -> None:
    """Raise `ConfigurationError` where the package of the protocol is missing."""
    if find_spec("mcp") is None:
        raise ConfigurationError(f"expected the package mcp; {INSTALL}")


def ask_agent(ask: Ask) -> Tool:
    """The agent as a tool; `ask` answers a question, or raises `AgentkitError`."""

    def run(arguments: Any) -> str:
        try:
            return ask(str(arguments["question"]))
        except AgentkitError as error:
            raise ToolError(str(error)) from error

    return Tool(
        name="ask_agent",
        description="Asks an agent that thinks, searches and calculates; gives its answer. Ask the whole question.",
        run=run,
        schema={"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]},
    )


def server_of(tools: Sequence[Tool]) -> Server[Any, Any]:
    """An MCP server of these tools. What the model could mend is an error of the tool's; its text names no secret."""
    from mcp import types
    from mcp.server.lowlevel import Server

    server: Server[Any, Any] = Server("agentkit", version=__version__)
    known = {tool.name: tool for tool in tools}

    async def list_tools() -> list[types.Tool]:
        return [
            types.Tool(
                name=tool.name,
                description=tool.description,
                inputSchema=dict(ONE_STRING if tool.takes_one_string else tool.schema),
                annotations=types.ToolAnnotations(readOnlyHint=not tool.side_effects, idempotentHint=tool.idempotent),
            )
            for tool in tools
        ]

    async def call_tool(name: str, arguments: dict[str, Any]) -> list[types.TextContent]:
        return [types.TextContent(type="text", text=await _text(known, name, arguments))]

    server.list_tools()(list_tools)  # type: ignore[no-untyped-call]
    server.call_tool()(call_tool)
    return server


async def _text(known: Mapping[str, Tool], name: str, arguments: dict[str, Any]) -> str:
    if name not in known:
        raise ToolError(f"unknown tool {name!r}: expected one of {', '.join(known)}")
    tool = known[name]
    try:
        value = await acall(tool, arguments, RetryPolicy(), tool.timeout_s)
    except OutOfTime:
        raise ToolError(f"{name} gave no result within {tool.timeout_s:g} s") from None
    except ToolError as error:
        raise ToolError(_redacted(str(error))) from error
    return _redacted(str(value))


def _redacted(text: str) -> str:
    return str(admitted(Observation(text), Secrets(os.environ)).value)


def serve_stdio(server: Server[Any, Any]) -> None:
    """Speak the protocol on standard output, and send whatever else is printed to standard error."""
    import anyio
    from mcp.server.stdio import stdio_server

    real = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.stdout = sys.stderr

    async def serve() -> None:
        async with stdio_server(stdout=anyio.wrap_file(real)) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    anyio.run(serve)


def serve_http(server: Server[Any, Any], port: int, *, listening: Callable[[str], None]) -> None:
    """Serve `http://127.0.0.1:PORT/mcp`, to this machine alone; tells `listening` the address once it does."""
    import socket

    import uvicorn

    try:
        bound = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise ConfigurationError(f"port {port} cannot be used ({error.strerror}); name another") from error
    with bound:
        listening(f"http://127.0.0.1:{bound.getsockname()[1]}/mcp")
        uvicorn.Server(uvicorn.Config(http_app(server), log_level="warning")).run(sockets=[bound])


def http_app(server: Server[Any, Any]) -> Any:
    """The ASGI application behind `serve_http`. It answers to the names of this machine only, against DNS rebinding."""
    from contextlib import asynccontextmanager

    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.routing import Route

    names = ["127.0.0.1:*", "localhost:*"]
    security = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    manager = StreamableHTTPSessionManager(server, security_settings=security)

    class Endpoint:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await manager.handle_request(scope, receive, send)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> Any:
        async with manager.run():
            yield

    return Starlette(routes=[Route("/mcp", endpoint=Endpoint())], lifespan=lifespan)
