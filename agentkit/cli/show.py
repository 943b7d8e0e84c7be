"""`agentkit show`: a recorded run as a person reads it."""

from __future__ import annotations

from pathlib import Path

import click

from agentkit.cli.options import PATH, file_argument, json_option
from agentkit.cli.view import View


@click.command()
@file_argument
@click.argument("page", type=PATH, required=False)
@click.option("--html", is_flag=True, help="Write a page that needs nothing else, to PAGE (FILE as .html).")
@json_option
def show(file: Path, page: Path | None, html: bool, as_json: bool) -> int:
    """Print a run step by step, or write it as a page. Shows what was recorded; nothing runs."""
    from agentkit.cli import reading

    return reading.show(file, View(as_json=as_json), html=html, page_file=page)
