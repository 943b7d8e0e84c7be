"""`agentkit diff`: two recorded runs beside each other."""

from __future__ import annotations

from pathlib import Path

import click

from agentkit.cli.options import PATH
from agentkit.cli.view import View


@click.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
def diff(first: Path, second: Path) -> int:
    """Put two runs side by side. The exit code is 0 when they are the same, 1 when not."""
    from agentkit.cli import reading

    return reading.diff(first, second, View())
