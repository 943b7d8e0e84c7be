"""Serves our tools, and the agent itself, to other MCP clients: over standard input and output, or over HTTP."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from agentkit import __version__
from agentkit.errors import AgentkitError, ConfigurationError, ToolError, said
from agentkit.mcp.server import not_installed
from agentkit.retry import RetryPolicy
from agentkit.secrets import Secrets
from agentkit.tool import Tool
from agentkit.toolbox.calling import OutOfTime, acall

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

ONE_STRING: Mapping[str, Any] = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
}
Ask = Callable[[str], str]


def ask_agent(ask: Ask) -> Tool:
    """The agent as a tool; `ask` answers a question, or raises `AgentkitError`."""

    return Tool(
        name="ask_agent",
        description="Asks an agent that thinks, searches and calculates; gives its answer. Ask the whole question.",
        run=lambda arguments: ask(str(arguments["question"])),
        schema={"type": "object", "properties": {"question": {"type": "string"}}, "required": ["question"]},
        side_effects=False,  # where nobody can be asked, its tools that have some do not run
    )


def server_of(tools: Sequence[Tool]) -> Server[Any]:
    """An MCP server of these tools. What the model could mend is an error of the tool's; its text names no secret.

    Raises `ConfigurationError` where the package of the protocol is missing.
    """
    try:
        from mcp import types
        from mcp.server.lowlevel import Server
    except ImportError as error:
        raise not_installed(error) from error
    known = {tool.name: tool for tool in tools}
    offered = [
        types.Tool.model_validate(
            {
                "name": tool.name,
                "description": tool.description,
                "inputSchema": dict(ONE_STRING if tool.takes_one_string else tool.schema),
                "annotations": {"readOnlyHint": tool.only_reads, "idempotentHint": tool.idempotent},
            }
        )
        for tool in tools
    ]

    async def call(name: str, arguments: dict[str, Any]) -> types.CallToolResult:
        failed = False
        try:
            text = await _text(known, name, arguments)
        except AgentkitError as error:
            text, failed = said(error), True
        except Exception as error:  # a bug of the tool's: the package would send its text as it is
            text, failed = f"{type(error).__name__}: {said(error)}", True
        text = Secrets(os.environ).scrub_text(text)
        return types.CallToolResult.model_validate({"content": [{"type": "text", "text": text}], "isError": failed})

    if _is_of_version_1(Server):
        old: Server[Any] = _of_version_1(offered, call)
        return old

    async def list_tools(context: Any, params: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=offered)

    async def call_tool(context: Any, params: types.CallToolRequestParams) -> types.CallToolResult:
        return await call(params.name, params.arguments or {})

    return Server("agentkit", version=__version__, on_list_tools=list_tools, on_call_tool=call_tool)


def _is_of_version_1(server: Any) -> bool:
    return hasattr(server, "list_tools")


def _of_version_1(offered: Sequence[Any], call: Callable[[str, dict[str, Any]], Awaitable[Any]]) -> Any:
    """The server as version 1 of the package has it."""
    from mcp.server import lowlevel

    server: Any = lowlevel.Server("agentkit", version=__version__)

    async def list_tools() -> list[Any]:
        return list(offered)

    server.list_tools()(list_tools)
    server.call_tool(validate_input=False)(call)
    return server


async def _text(known: Mapping[str, Tool], name: str, arguments: dict[str, Any]) -> str:
    if name not in known:
        raise ToolError(f"unknown tool {name!r}: expected one of {', '.join(known)}")
    tool = known[name]
    try:
        return str(await acall(tool, arguments, RetryPolicy(), tool.timeout_s))
    except OutOfTime:
        raise ToolError(f"{name} gave no result within {tool.timeout_s:g} s") from None


def serve_stdio(server: Server[Any]) -> None:
    """Speak the protocol on standard output; whatever else is printed goes to standard error."""
    import anyio
    from mcp.server.stdio import stdio_server

    def output() -> Any:
        if not _is_of_version_1(server):
            return None  # which the package does by itself
        protocol = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)
        return anyio.wrap_file(protocol)

    async def serve() -> None:
        async with stdio_server(stdout=output()) as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    anyio.run(serve)


def http_app(server: Server[Any]) -> Any:
    """An application that serves `/mcp`, to the names of this machine only, against DNS rebinding."""
    if not _is_of_version_1(server):
        return server.streamable_http_app()
    from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
    from mcp.server.transport_security import TransportSecuritySettings
    from starlette.applications import Starlette
    from starlette.routing import Route

    names = [f"{host}:*" for host in ("127.0.0.1", "localhost", "[::1]")]  # as version 2 has them
    settings = TransportSecuritySettings(allowed_hosts=names, allowed_origins=[f"http://{name}" for name in names])
    manager = StreamableHTTPSessionManager(server, security_settings=settings)

    @asynccontextmanager
    async def running(app: Any) -> AsyncIterator[None]:
        async with manager.run():
            yield

    class App:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await manager.handle_request(scope, receive, send)

    return Starlette(routes=[Route("/mcp", App())], lifespan=running)


def serve_http(server: Server[Any], port: int, *, listening: Callable[[str], None]) -> None:
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
