"""`agentkit diff`: two recorded runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.view import View


def diff(
    first: Annotated[Path, typer.Argument(help="A cassette.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
) -> int:
    """Put two runs side by side. The exit code is 0 when they are the same, 1 when not."""
    from agentkit.cli import reading

    return reading.diff(first, second, View())
