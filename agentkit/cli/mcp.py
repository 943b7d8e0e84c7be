"""`agentkit mcp`: our tools and the agent, served to other programs."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

import click

from agentkit.cli.options import Given, with_settings, yes_option
from agentkit.cli.run import build_live
from agentkit.cli.view import View, say
from agentkit.errors import AgentkitError
from agentkit.events import Finished
from agentkit.settings import RunSettings, read_settings

if TYPE_CHECKING:
    from agentkit.runs.build import Runner


@click.command()
@with_settings()
@click.option("--http", type=int, metavar="PORT", help="Serve HTTP on this port of this machine.")
@yes_option
def mcp(given: Given, http: int | None, yes: bool) -> int:
    """Serve the tools, and the agent as the tool ask_agent, to MCP clients: over standard input and output, or HTTP."""
    from agentkit.mcp import serving
    from agentkit.runs.build import find_tools
    from agentkit.toolbox.registry import is_named

    settings = read_settings(given)
    tools = [tool for tool in find_tools(settings) if settings.allow is None or is_named(tool.name, settings.allow)]
    server = serving.server_of([*tools, serving.ask_agent(_Agent(settings, yes=yes))])
    if http is None:
        serving.serve_stdio(server)
    else:
        serving.serve_http(server, http, listening=lambda address: say(f"serving {address}", to=sys.stderr))
    return 0


class _Agent:
    """Answers questions; its model is loaded at the first one."""

    def __init__(self, settings: RunSettings, *, yes: bool) -> None:
        self._settings = settings
        self._yes = yes
        self._lock = threading.Lock()
        self._runner: Runner | None = None

    def __call__(self, question: str) -> str:
        with self._lock:
            if self._runner is None:
                self._runner = build_live(self._settings, view=View(quiet=True), yes=self._yes)
        *_, last = self._runner.events({"input": question}, stream=False)
        assert isinstance(last, Finished)
        if not last.answered:
            raise AgentkitError(f"no answer: {last.output}")
        return str(last.output)
