"""Small MCP servers for tests, each run as `python -m tests.mcp.servers NAME`."""

from __future__ import annotations

import json
import os
import sys
import threading
from typing import TYPE_CHECKING

import mcp
from mcp.types import ContentBlock, ToolAnnotations
from pydantic import TypeAdapter

if TYPE_CHECKING or hasattr(mcp, "Client"):
    from mcp.server.mcpserver import Image, MCPServer
    from mcp.server.mcpserver.exceptions import ToolError
else:  # version 1 of the package
    from mcp.server.fastmcp import FastMCP as MCPServer
    from mcp.server.fastmcp import Image
    from mcp.server.fastmcp.exceptions import ToolError

READS = ToolAnnotations.model_validate({"readOnlyHint": True})


def weather() -> MCPServer:
    server = MCPServer("weather")

    @server.tool(annotations=READS)
    def forecast(city: str, days: int = 1) -> str:
        """Tells the weather."""
        return f"{city}: sunny for {days} days"

    @server.tool()
    def order(umbrella: str) -> str:
        """Orders an umbrella."""
        if umbrella == "none":
            raise ToolError("nothing to order")
        return f"ordered {umbrella}"

    @server.tool(annotations=READS)
    def picture() -> Image:
        """A picture of the sky."""
        return Image(data=b"png", format="png")

    @server.tool(annotations=READS)
    def measured() -> dict[str, int]:
        """Numbers."""
        return {"degrees": 21}

    @server.tool(annotations=READS)
    def pid() -> str:
        """The process."""
        return str(os.getpid())

    @server.tool(annotations=READS)
    def crash() -> str:
        """Ends the process."""
        os._exit(1)

    @server.tool(annotations=READS)
    def hang() -> str:
        """Never answers."""
        threading.Event().wait()
        return ""

    return server


def other() -> MCPServer:
    server = MCPServer("other")

    @server.tool(annotations=READS)
    def forecast(city: str) -> str:
        """Tells other weather."""
        return f"{city}: rain"

    return server


def mixed() -> MCPServer:
    server = MCPServer("mixed")

    @server.tool(annotations=READS, structured_output=False)
    def everything() -> list[ContentBlock]:
        """All kinds of content."""
        link, embedded = {"type": "resource_link"}, {"type": "resource"}
        return TypeAdapter(list[ContentBlock]).validate_python(
            [
                {"type": "text", "text": "first"},
                {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
                {**link, "name": "Report", "uri": "https://example.org/report", "mimeType": "text/html"},
                {**link, "name": "plain", "uri": "file:///plain"},
                {**embedded, "resource": {"uri": "file:///a", "text": "inside"}},
                {**embedded, "resource": {"uri": "file:///b", "blob": "AAAA"}},
            ]
        )

    @server.tool(annotations=READS)
    def environment(name: str) -> str:
        """A variable."""
        return os.environ.get(name, "none")

    return server


def raw(*names: str) -> None:
    """Offers tools of these names, whatever they are, says something to the terminal, and answers no call."""
    sys.stderr.write("starting hf_AbcdefghijKLM")
    sys.stderr.flush()
    sys.stderr.write("nop1234567890\x1b]0;OWNED\x07\n")
    sys.stderr.flush()
    tools = [{"name": name, "description": "d", "inputSchema": {"type": "object"}} for name in names]
    for line in sys.stdin:
        asked = json.loads(line)
        result: dict[str, object] = {"tools": tools}
        if asked["method"] == "tools/call":
            sys.stdout.write("half a reply\n")
            sys.stdout.flush()
            continue
        if asked["method"] == "initialize":
            version = asked["params"]["protocolVersion"]
            info = {"name": "raw", "version": "1"}
            result = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": info}
        if "id" in asked:
            sys.stdout.write(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    match sys.argv[1]:
        case "dead":
            sys.exit(3)
        case "noisy":
            sys.stdout.write("Welcome!\n")
            sys.stdout.flush()
            weather().run()
        case "raw":
            raw(*sys.argv[2:])
        case name:
            {"weather": weather, "other": other, "mixed": mixed}[name]().run()
