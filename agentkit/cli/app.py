"""The command line: what stands before every command, and the commands in the order that help lists them."""

from __future__ import annotations

from typing import Annotated

import typer

from agentkit.cli import asking, cassettes, toolshed
from agentkit.cli.options import app

__all__ = ["app", "asking", "cassettes", "toolshed"]


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
