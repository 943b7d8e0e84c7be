"""Draws a run in the terminal from a real one: the model small, two tools, the command line's own view.

python -m tests.documents.picture
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path

from tests.documents.pages import SITE

PICTURE = SITE / "run.svg"
QUESTION = "What is the age of Mira Sand plus the age of Tom Bell?"
NOTES = """# People

Mira Sand leads the Orion project.

Mira Sand's current age is 41.

Tom Bell's current age is 35.
"""
WIDTH = 102  # columns
FONT = "ui-monospace, SFMono-Regular, Menlo, Consolas, 'DejaVu Sans Mono', monospace"


def draw() -> str:
    """The picture, with the fonts of whoever looks at it."""
    from rich.console import Console
    from rich.terminal_theme import TerminalTheme
    from rich.text import Text

    from agentkit.cli.run import begin
    from agentkit.cli.view import View
    from agentkit.settings import RunSettings

    theme = TerminalTheme(
        (22, 27, 34),
        (201, 209, 217),
        [(72, 79, 88), (255, 123, 114), (126, 231, 135), (227, 179, 65), (121, 192, 255), (210, 168, 255),
         (86, 212, 221), (201, 209, 217)],
    )  # fmt: skip
    console = Console(
        record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor",
        highlight=False, markup=False,
    )  # fmt: skip
    console.print(Text.assemble(("$ ", "dim"), ("agentkit run ", "bold"), f'"{QUESTION}"', " --docs notes"))
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stdout(io.StringIO()) as answer:
        os.environ["XDG_CACHE_HOME"] = home
        notes = Path(home) / "notes"
        notes.mkdir()
        (notes / "people.md").write_text(NOTES)
        with contextlib.chdir(home):
            view, settings = View(_console=console), RunSettings(model="small", docs="notes")
            inputs = {"input": QUESTION}
            view.show(begin(settings, view, yes=False).events(inputs), model=settings.model)
    console.print(Text(answer.getvalue().strip(), "bold"))
    return _local(console.export_svg(title="agentkit", theme=theme, unique_id="run"))


def _local(svg: str) -> str:
    """Without fonts from the network."""
    svg = re.sub(r"\s*@font-face \{.*?\}", "", svg, flags=re.DOTALL)
    return re.sub(r"font-family: ?(?:Fira Code|arial)[^;]*;", f"font-family: {FONT};", svg)


if __name__ == "__main__":
    PICTURE.write_text(draw(), encoding="utf-8")
