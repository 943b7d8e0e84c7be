"""Tables on standard output."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

WIDE = 160  # columns where nobody's terminal bounds them


def print_table(table: Table) -> None:
    """As wide as the terminal; wide in a pipe, so that lines stay whole."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    console.print(table)
