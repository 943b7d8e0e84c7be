"""The command line: what stands before every command, and the commands in the order that help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from agentkit.cli.diff import diff
from agentkit.cli.doctor import doctor
from agentkit.cli.fork import fork
from agentkit.cli.mcp import mcp
from agentkit.cli.record import record
from agentkit.cli.replay import replay
from agentkit.cli.resume import resume
from agentkit.cli.run import run
from agentkit.cli.show import show
from agentkit.cli.tools import tools

COMMANDS = (run, doctor, replay, record, show, diff, resume, fork, tools, mcp)

app = typer.Typer(
    name="agentkit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Ask a question of an open chat model that thinks, uses tools and answers.",
)
for command in COMMANDS:
    app.command()(command)


def _version(wanted: bool) -> None:
    if wanted:
        from agentkit import __version__

        typer.echo(f"agentkit {__version__}")
        raise typer.Exit


@app.callback()
def agentkit(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Answers go to standard output, everything else to standard error."""
