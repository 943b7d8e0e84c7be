"""`agentkit diff`: two recorded runs beside each other."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkit.cli.options import PATH
from agentkit.cli.view import View, output_console, shortened
from agentkit.printable import printable
from agentkit.report.wording import totals

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from agentkit.report.compare import Row, Words
    from agentkit.report.story import Story

DIFFERENT = 1
WIDE = 120
CHANGED = {"first": ("[-", "-]", "red"), "second": ("{+", "+}", "green")}


@click.command()
@click.argument("first", type=PATH)
@click.argument("second", type=PATH)
def diff(first: Path, second: Path) -> int:
    """Put two runs side by side. The exit code is 0 when they are the same, 1 when not."""
    from agentkit.report.compare import compare
    from agentkit.report.story import read_story

    one, other = read_story(first), read_story(second)
    comparison, view = compare(one, other), View()
    if comparison.same:
        view.note("the same questions, steps and answers")
        return 0
    console = output_console(width=WIDE)
    rows = (*comparison.settings, *comparison.steps, *comparison.endings)
    _print_rows(console, one.without_secrets(), other.without_secrets(), rows)
    view.note(f"they part at step {comparison.parted}" if comparison.parted else "the steps are the same")
    return DIFFERENT


def _print_rows(console: Console, first: Story, second: Story, rows: tuple[Row, ...]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False, padding=(0, 2, 1, 0))
    table.add_column("", style="bold", max_width=18, overflow="fold")
    for story in (first, second):
        table.add_column(Text(printable(f"{story.path}\n{story.made}")), ratio=1, overflow="fold")
    for row in rows:
        coloured = console.is_terminal and not console.no_color
        sides = (_words(row.first, "first", coloured), _words(row.second, "second", coloured))
        table.add_row(Text(printable(row.label)), *sides)
    came_to = (Text("\n".join(" · ".join(totals(run)) for run in story.runs), "dim") for story in (first, second))
    table.add_row(Text("came to"), *came_to)
    console.print(table, soft_wrap=False)


def _words(words: Words, side: str, coloured: bool) -> Text:
    """A text with its changed stretches in colour, or in brackets where there is none."""
    from rich.text import Text

    before, after, style = CHANGED[side]
    shown = Text()
    for changed, text in words:
        seen = printable(shortened(text))
        if changed and not coloured:
            seen = f"{before}{seen}{after}"
        shown.append(seen, style if changed and coloured else "")
    return shown or Text("–", style="dim")
