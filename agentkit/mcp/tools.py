"""MCP servers' tools as agentkit's."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from typing import Any, Self

from agentkit.errors import ConfigurationError, ToolError, in_one_line
from agentkit.events import Source
from agentkit.mcp.server import McpServer, Spec
from agentkit.recorder import active
from agentkit.tool import Result, Tool
from agentkit.toolbox.registry import plain_name


class McpTools(list[Tool]):
    """Tools of running servers, which end with the block, with `close`, with the last of the tools or the process."""

    def __init__(self, tools: Iterable[Tool], connected: _Connected) -> None:
        super().__init__(tools)
        self._connected = connected

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def close(self) -> None:
        """End the servers."""
        self._connected.end()

    def remember(self) -> None:
        """Keep what the servers offer in the cassette that is being recorded, for a replay that starts none."""
        for server in self._connected.servers:
            _offered(server, anew=server.is_remote)


def mcp_tools(
    *specs: Spec, taken: Collection[str] = (), call_timeout_s: float = 60.0, start_timeout_s: float = 30.0
) -> McpTools:
    """The tools of MCP servers, each given by its command, its address, or a connection (`Spec`).

    The servers start here, once. A tool without the hint that it only reads counts as one with side effects. Names that
    two tools share, or that are `taken`, get their server's name in front. In a replay no server starts.
    Raises `ConfigurationError`.
    """
    connected = _Connected(specs, start_timeout_s)
    try:
        if active() is None:
            for server in connected.servers:
                server.begin()  # all at once
        offered = [(server, tool) for server in connected.servers for tool in _offered(server)]
        names = _names([(server.label, str(tool["name"])) for server, tool in offered], taken)
        tools = [
            _tool(connected, server, tool, name, call_timeout_s)
            for (server, tool), name in zip(offered, names, strict=True)
        ]
    except BaseException:
        connected.end()
        raise
    return McpTools(tools, connected)


class _Connected:
    """Servers, ended when nobody holds this any more."""

    def __init__(self, specs: Iterable[Spec], start_s: float) -> None:
        from anyio.from_thread import start_blocking_portal

        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="agentkit-mcp"))
            stack.callback(portal.call, portal.stop, True)  # cancels what still runs
            self.servers = [McpServer(spec, portal, start_s=start_s) for spec in specs]
            for server in self.servers:
                stack.callback(server.stop)
            self.end = weakref.finalize(self, stack.pop_all().close)


def _offered(server: McpServer, *, anew: bool = False) -> list[dict[str, Any]]:
    """What a server offers. While recording it is kept, and what is said to a remote server is not recorded."""
    cassette = active()
    if cassette is None:
        return server.tools()

    def ask() -> list[dict[str, Any]]:
        if anew:
            server.stop()
        return server.tools()

    remembered: list[dict[str, Any]] = cassette.remembered(f"mcp:{server.name}", ask)
    return remembered


@contextmanager
def _errors_of(server: McpServer) -> Iterator[None]:
    """Names the server whose tools cannot be had."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"MCP server {server.name!r}: {error}") from None


def _names(named: list[tuple[str, str]], taken: Collection[str]) -> list[str]:
    used = {_key(name) for name in taken}
    shared = Counter([*used, *(_key(name) for _, name in named)])
    names = []
    for label, name in named:
        plain = f"{label}_{name}" if shared[_key(name)] > 1 else name
        candidates = chain([plain], (f"{plain}_{number}" for number in count(2)))
        whole = next(name for name in candidates if _key(name) not in used)
        used.add(_key(whole))
        names.append(whole)
    return names


def _key(name: str) -> str:
    return plain_name(name).casefold()


def _tool(connected: _Connected, server: McpServer, offered: dict[str, Any], name: str, timeout_s: float) -> Tool:
    theirs = str(offered["name"])

    def call(arguments: Any) -> Future[dict[str, Any]]:
        assert server in connected.servers  # and so the tool keeps its server alive
        return server.call(theirs, arguments)

    def run(arguments: Any) -> Result:
        return _result(call(arguments).result())

    async def arun(arguments: Any) -> Result:
        return _result(await asyncio.wrap_future(call(arguments)))

    with _errors_of(server):
        return Tool(
            name=name,
            description=str(offered["description"]),
            run=run,
            arun=arun,
            schema=offered["schema"],
            side_effects=not offered["read_only"],
            idempotent=bool(offered["idempotent"]),
            timeout_s=timeout_s,
        )


def _result(result: dict[str, Any]) -> Result:
    """Text as it is, what is no text by its name, and structured content where there is nothing else."""
    blocks = result.get("content") or ()
    text = "\n".join(map(_text, blocks))
    if result.get("isError"):
        raise ToolError(f"Error: {in_one_line(text) or 'the tool failed and gave no reason'}")
    if not text and "structuredContent" in result:
        text = json.dumps(result["structuredContent"], ensure_ascii=False)
    links = [block for block in blocks if block["type"] == "resource_link"]
    return Result(
        text, tuple(Source(link.get("title") or link.get("name") or link["uri"], link["uri"]) for link in links)
    )


def _text(block: Mapping[str, Any]) -> str:
    block = block.get("resource", block)  # one that is embedded
    if "text" in block:
        return str(block["text"])
    kind = block.get("mimeType") or ("file" if "uri" in block else block.get("type", "content"))
    return f"[{kind}, not shown]" if "data" in block or "blob" in block else f"[{kind}: {block.get('uri')}]"
