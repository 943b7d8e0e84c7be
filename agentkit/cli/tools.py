"""`agentkit tools`: every tool that can be named, as a table or as JSON."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.options import json_option
from agentkit.cli.view import print_table, say
from agentkit.errors import ConfigurationError
from agentkit.printable import json_text

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

YOURS = "a tool of your own comes from a package's entry point agentkit.tools, or from an MCP server (--mcp)"


@dataclass(frozen=True, slots=True)
class Listed:
    """One tool; `needs` says what it takes to run, "" where nothing is missing that can be told."""

    name: str
    description: str | None
    origin: str
    needs: str = ""
    schema: dict[str, Any] | None = None
    side_effects: bool | None = None


@click.command()
@click.option("--mcp", multiple=True, metavar="SERVER", help="Also those of an MCP server; may be repeated.")
@json_option
def tools(mcp: tuple[str, ...], as_json: bool) -> int:
    """List the tools there are: what they do, where they come from, what they need."""
    from agentkit.langchain.community import community_names

    listed = [*_installed(), *_offered(mcp)]
    try:
        theirs, missing = community_names(), ""
    except ConfigurationError as error:
        theirs, missing = [], str(error)
    if as_json:  # of langchain-community's the names alone, for none of them is made
        more = [Listed(name, None, "langchain-community") for name in theirs]
        print(json_text([asdict(tool) for tool in [*listed, *more]]))
        return 0
    print_table(("name", "what it does", "from", "needs"), map(_row, listed))
    say("\n" + (missing or f"langchain-community: {', '.join(theirs)}"))
    say(f"\n{YOURS}", to=sys.stderr)
    return 0


def _installed() -> Iterator[Listed]:
    from importlib.metadata import entry_points

    from agentkit.toolbox.registry import GROUP, load

    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            yield _listed(entry.name, load(entry), _origin(entry))
        except ConfigurationError as error:
            yield Listed(entry.name, None, _origin(entry), needs=str(error))


def _origin(entry: EntryPoint) -> str:
    return entry.dist.name if entry.dist is not None else entry.value


def _offered(servers: Sequence[str]) -> Iterator[Listed]:
    if not servers:
        return
    from agentkit.mcp import mcp_tools

    with mcp_tools(*servers) as tools:
        for tool in tools:
            yield _listed(tool.name, tool, f"MCP: {tools.servers[tool.name]}")


def _listed(name: str, tool: Any, origin: str) -> Listed:
    from agentkit.runs.build import as_tool

    known = as_tool(tool)
    keys = [f"{variable} {'is set' if os.environ.get(variable) else 'is not set'}" for variable in known.reads]
    return Listed(
        name,
        " ".join(known.description.split()),
        origin,
        needs=", ".join(keys),
        schema=dict(known.schema),
        side_effects=False if known.only_reads else known.side_effects,
    )


def _row(tool: Listed) -> tuple[str, ...]:
    asks = "" if tool.schema is None or tool.side_effects is False else " Asks before it runs."
    return tool.name, f"{tool.description or ''}{_arguments(tool.schema)}{asks}", tool.origin, tool.needs


def _arguments(schema: dict[str, Any] | None) -> str:
    names = list((schema or {}).get("properties", ()))
    return f" ({', '.join(names)})" if names else ""
