"""`agentkit show`: a recorded run as a person reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.options import File, Json
from agentkit.cli.view import View


def show(
    file: File,
    page: Annotated[Path | None, typer.Argument(help="With --html: the page (FILE as .html).")] = None,
    html: Annotated[bool, typer.Option("--html", help="Write a page that needs nothing else.")] = False,
    as_json: Json = False,
) -> int:
    """Print a run step by step, or write it as a page. Shows what was recorded; nothing runs."""
    from agentkit.cli import reading

    return reading.show(file, View(as_json=as_json), html=html, page_file=page)
