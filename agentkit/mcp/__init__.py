"""The Model Context Protocol, both ways: other programs' tools for our agents, and ours for other programs.

    with mcp_tools("uvx mcp-server-time", "https://example.org/mcp") as tools:
        AgentExecutor.from_model("builtin", tools=["calculator", *tools]).invoke("What time is it in Tokyo?")

https://modelcontextprotocol.io
"""

from __future__ import annotations

from agentkit.mcp.tools import McpTools, mcp_tools

__all__ = ["McpTools", "mcp_tools"]
