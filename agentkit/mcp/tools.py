"""MCP servers' tools as agentkit's."""

from __future__ import annotations

import asyncio
import json
import weakref
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from itertools import chain, count
from typing import Any, Self

from agentkit.errors import CassetteDrift, ConfigurationError, ToolError, in_one_line
from agentkit.events import Source
from agentkit.mcp.connection import Spec, connections, label, source_name
from agentkit.mcp.server import McpServer
from agentkit.recorder import active
from agentkit.tool import Result, Tool
from agentkit.toolbox.registry import plain_name

START_S = 30.0  # that a server may take to answer
LATER_S = 1.0  # than a run gives a call up, the server is told


class McpTools(list[Tool]):
    """Tools of running servers, which end with the block, with `close`, with the last of the tools or the process.

    `servers` says by a tool's name which server it is of.
    """

    def __init__(self, tools: Iterable[Tool], connected: _Connected, servers: Mapping[str, str]) -> None:
        super().__init__(tools)
        self.servers = servers
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
        for source in self._connected.sources:
            source.offered(anew=True)


def mcp_tools(
    *specs: Spec,
    env: Mapping[str, str] | None = None,
    taken: Collection[str] = (),
    call_timeout_s: float = 60.0,
    start_timeout_s: float = START_S,
) -> McpTools:
    """The tools of MCP servers, each given by its command, its address, a connection, or a file of several (`Spec`).

    The servers start here, and again when one has ended since. They get the variables of `env`, and of this process no
    other than `PATH`, `HOME` and the like. A tool without the hint that it only reads counts as one with side effects.
    Names that two tools share, or that are `taken`, get their server's name in front. In a replay no server starts.
    Raises `ConfigurationError`.
    """
    connected = _Connected(specs, env or {}, start_timeout_s)
    try:
        if active() is None:
            for server in connected.servers:
                server.begin()  # all at once
        offered = [(source, tool) for source in connected.sources for tool in source.offered()]
        names = _names([(label(source.server_name(tool)), str(tool["name"])) for source, tool in offered], taken)
        tools = [
            _tool(connected, source, tool, name, call_timeout_s)
            for (source, tool), name in zip(offered, names, strict=True)
        ]
    except BaseException:
        connected.end()
        raise
    servers = {name: source.server_name(tool) for (source, tool), name in zip(offered, names, strict=True)}
    return McpTools(tools, connected, servers)


class _Source:
    """What one spec names: usually a server. In a replay nothing is read for it, and there is none."""

    def __init__(self, spec: Spec, servers: Sequence[McpServer]) -> None:
        self.name = source_name(spec)
        self._servers = {server.name: server for server in servers}
        self._is_one = len(servers) == 1 and servers[0].name == self.name

    def offered(self, *, anew: bool = False) -> list[dict[str, Any]]:
        """What its servers offer. While recording it is kept, and what is said to a remote server is not recorded."""
        cassette = active()
        if cassette is None:
            return self._ask()

        def ask() -> list[dict[str, Any]]:
            for server in self._servers.values():
                if anew and server.connection.is_remote:
                    server.stop()
            for server in self._servers.values():
                server.begin()
            return self._ask()

        remembered: list[dict[str, Any]] = cassette.remembered(f"mcp:{self.name}", ask)
        return remembered

    def _ask(self) -> list[dict[str, Any]]:
        """Each tool with its server, where that is not what the spec itself is called."""
        if self._is_one:
            (server,) = self._servers.values()
            return server.tools()
        return [{**tool, "server": name} for name, server in self._servers.items() for tool in server.tools()]

    def server_name(self, tool: Mapping[str, Any]) -> str:
        """What messages call the server of a tool that was offered."""
        return str(tool.get("server", self.name))

    def server(self, tool: Mapping[str, Any]) -> McpServer | None:
        """The server of a tool that was offered; none in a replay."""
        return self._servers.get(self.server_name(tool))


class _Connected:
    """Servers, ended when nobody holds this any more."""

    def __init__(self, specs: Sequence[Spec], env: Mapping[str, str], start_s: float) -> None:
        from anyio.from_thread import start_blocking_portal

        found = [() if _replays() else connections(spec, env) for spec in specs]
        local = [one for each in found for one in each if not one.is_remote]
        if env and not local and not _replays():
            raise ConfigurationError(
                "env is for servers that start here, and these have addresses; give headers instead"
            )
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal(name="agentkit-mcp"))
            stack.callback(portal.call, portal.stop, True)  # cancels what still runs
            made = [[McpServer(one, portal, start_s=start_s) for one in each] for each in found]
            self.sources = [_Source(spec, each) for spec, each in zip(specs, made, strict=True)]
            self.servers = [server for each in made for server in each]
            for server in self.servers:
                stack.callback(server.stop)
            self.end = weakref.finalize(self, stack.pop_all().close)


def _replays() -> bool:
    recorder = active()
    return recorder is not None and recorder.mode == "replay"


@contextmanager
def _errors_of(server: str) -> Iterator[None]:
    """Names the server whose tools cannot be had."""
    try:
        yield
    except ConfigurationError as error:
        raise ConfigurationError(f"MCP server {server!r}: {error}") from None


def _names(named: list[tuple[str, str]], taken: Collection[str]) -> list[str]:
    used = {_key(name) for name in taken}
    shared = Counter([*used, *(_key(name) for _, name in named)])
    names = []
    for server, name in named:
        plain = f"{server}_{name}" if shared[_key(name)] > 1 else name
        candidates = chain([plain], (f"{plain}_{number}" for number in count(2)))
        whole = next(name for name in candidates if _key(name) not in used)
        used.add(_key(whole))
        names.append(whole)
    return names


def _key(name: str) -> str:
    return plain_name(name).casefold()


def _tool(connected: _Connected, source: _Source, offered: dict[str, Any], name: str, timeout_s: float) -> Tool:
    theirs, server = str(offered["name"]), source.server(offered)
    is_idempotent = bool(offered["idempotent"])

    def call(arguments: Any) -> Future[dict[str, Any]]:
        if server is None:
            raise CassetteDrift(f"the recording does not hold what {name} gave, and a replay starts no MCP server")
        assert server in connected.servers  # and so the tool keeps its server alive
        return server.call(theirs, arguments, repeatable=is_idempotent, limit_s=timeout_s + LATER_S)

    def run(arguments: Any) -> Result:
        return _result(call(arguments).result(), server)

    async def arun(arguments: Any) -> Result:
        return _result(await asyncio.wrap_future(call(arguments)), server)

    with _errors_of(source.server_name(offered)):
        return Tool(
            name=name,
            description=str(offered["description"]),
            run=run,
            arun=arun,
            schema=offered["schema"],
            side_effects=not offered["read_only"],
            idempotent=is_idempotent,
            timeout_s=timeout_s,
        )


def _result(result: dict[str, Any], server: McpServer | None) -> Result:
    """Text as it is, what is no text by its name, and structured content where there is nothing else."""
    assert server is not None
    blocks = result.get("content") or ()
    text = "\n".join(map(_text, blocks))
    if result.get("isError"):
        server.note_hint(text)
        reason = in_one_line(server.shown.message(text))
        raise ToolError(f"Error: {reason or 'the tool failed and gave no reason'}")
    if not text and "structuredContent" in result:
        text = json.dumps(result["structuredContent"], ensure_ascii=False)
    links = [block for block in blocks if block["type"] == "resource_link"]
    shown: Result = server.shown.result(
        Result(text, tuple(Source(link.get("title") or link.get("name") or link["uri"], link["uri"]) for link in links))
    )
    return shown


def _text(block: Mapping[str, Any]) -> str:
    block = block.get("resource", block)  # one that is embedded
    if "text" in block:
        return str(block["text"])
    kind = block.get("mimeType") or ("file" if "uri" in block else block.get("type", "content"))
    return f"[{kind}, not shown]" if "data" in block or "blob" in block else f"[{kind}: {block.get('uri')}]"
