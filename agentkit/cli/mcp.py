"""`agentkit mcp`: our tools and the agent, served to other programs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Collection
from typing import TYPE_CHECKING

import click

from agentkit.cli.options import Given, trust_option, with_settings, yes_option
from agentkit.cli.run import build_live
from agentkit.cli.trust import own_settings
from agentkit.cli.view import View, say
from agentkit.errors import AgentkitError
from agentkit.events import Finished
from agentkit.printable import json_text
from agentkit.settings import RunSettings

if TYPE_CHECKING:
    from agentkit.runs.build import Runner


@click.command()
@with_settings()
@click.option("--http", type=click.IntRange(0, 65535), metavar="PORT", help="Serve HTTP on this port of this machine.")
@trust_option
@yes_option
def mcp(given: Given, http: int | None, trust: bool, yes: bool) -> int:
    """Serve the tools, and the agent as the tool ask_agent, to MCP clients: over standard input and output, or HTTP."""
    from agentkit.mcp import serving
    from agentkit.runs.build import find_tools
    from agentkit.toolbox.registry import is_named

    settings, foreign = own_settings(given, View(), trust=trust)
    tools = [tool for tool in find_tools(settings) if settings.allow is None or is_named(tool.name, settings.allow)]
    server = serving.server_of([*tools, serving.ask_agent(_Agent(settings, yes=yes, foreign=foreign))])
    if http is None:
        if sys.stdin.isatty():
            say("serving on standard input and output, which an MCP client starts; Ctrl-D ends it", to=sys.stderr)
        serving.serve_stdio(server)
    else:
        serving.serve_http(server, http, listening=lambda address: say(f"serving {address}", to=sys.stderr))
    return 0


class _Agent:
    """Answers questions; its model is loaded at the first one."""

    def __init__(self, settings: RunSettings, *, yes: bool, foreign: Collection[str]) -> None:
        self._settings = settings
        self._foreign = foreign
        self._yes = yes
        self._lock = threading.Lock()
        self._runner: Runner | None = None

    def __call__(self, question: str) -> str:
        with self._lock:
            if self._runner is None:
                self._runner = build_live(self._settings, view=View(quiet=True), yes=self._yes, foreign=self._foreign)
        *_, last = self._runner.events({"input": question}, stream=False)
        assert isinstance(last, Finished)
        if not last.answered:
            raise AgentkitError(f"no answer: {last.output}")
        return last.output if isinstance(last.output, str) else json_text(last.output)
