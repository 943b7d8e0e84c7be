"""`agentkit tools` and `agentkit mcp`: which tools there are, and ours for other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from agentkit.cli.options import SPEC, Json, Yes, app, names

Servers = Annotated[
    list[str] | None, typer.Option("--mcp", metavar="SERVER", help="Also those of an MCP server; may be repeated.")
]


@app.command()
def tools(mcp: Servers = None, as_json: Json = False) -> int:
    """List the tools there are: what they do, where they come from, what they need."""
    from agentkit.cli import listing

    return listing.show(mcp or [], as_json=as_json)


@app.command()
def mcp(
    model: Annotated[str | None, typer.Option(help=SPEC)] = None,
    tools: Annotated[str | None, typer.Option(help="Names, with commas.")] = None,
    docs: Annotated[str | None, typer.Option(help="A folder whose files Search looks through.")] = None,
    http: Annotated[int | None, typer.Option(metavar="PORT", help="Serve HTTP on this port of this machine.")] = None,
    yes: Yes = False,
) -> int:
    """Serve the tools, and the agent as the tool ask_agent, to MCP clients: over standard input and output, or HTTP."""
    from agentkit.cli import outlet
    from agentkit.settings import read_settings

    settings = read_settings({"model": model, "tools": names(tools), "docs": docs})
    return outlet.serve(settings, port=http, yes=yes)
