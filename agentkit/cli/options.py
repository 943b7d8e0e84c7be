"""The command line's application, and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    name="agentkit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Ask a question of an open chat model that thinks, uses tools and answers.",
)

SPEC = "builtin, local:FOLDER, local:ORG/NAME, hf:ORG/NAME, http(s)://ADDRESS, PROVIDER:NAME."
File = Annotated[Path, typer.Argument(help="A cassette.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show the answer only.")]
Yes = Annotated[bool, typer.Option("--yes", help="Run tools with side effects without asking.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the model's whole text, and tracebacks.")]


def names(given: str | None) -> tuple[str, ...] | None:
    """A list that was written with commas."""
    return None if given is None else tuple(name.strip() for name in given.split(",") if name.strip())
