"""`agentkit replay FOLDER`: every cassette in it replayed, and a table of what came of each."""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from agentkit.cli.table import print_table
from agentkit.cli.view import View, printable
from agentkit.errors import CassetteDrift, ConfigurationError

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from agentkit.runs.folder import Outcome

DEFAULT = Path("cassettes")
QUESTION_CHARS = 48
_WORDS = {"ok": "replayed", "drift": "drifted", "error": "not replayed", "script": "left to their scripts"}


def default() -> Path:
    """The folder that is meant where none is named."""
    if not DEFAULT.is_dir():
        raise ConfigurationError("expected a cassette or a folder of them; there is no folder cassettes here")
    return DEFAULT


def replay(folder: Path, shown: View) -> int:
    """Replay all of a folder; the exit code is 4 when one drifted or cannot be replayed."""
    from agentkit.runs.folder import cassettes_in, replay_files

    paths = cassettes_in(folder)
    outcomes: list[Outcome] = []
    try:
        shown.wait(f"replaying {len(paths)} …")
        for outcome in replay_files(paths):
            outcomes.append(outcome)
            shown.wait(f"replayed {len(outcomes)} of {len(paths)} …")
    finally:
        shown.settle()
    if shown.as_json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], ensure_ascii=False))
    else:
        print_table(_table(outcomes, folder))
    for outcome in outcomes:
        if outcome.failed:
            print(f"error: {printable(outcome.said)}", file=sys.stderr)
    shown.note(_summary(outcomes))
    return CassetteDrift.exit_code if any(outcome.failed for outcome in outcomes) else 0


def _table(outcomes: list[Outcome], folder: Path) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "file", "question"):
        table.add_column(title, overflow="fold")
    for title in ("steps", "tokens", "seconds"):
        table.add_column(title, justify="right")
    table.add_column("result")
    for outcome in outcomes:
        mark, result = _result(outcome)
        figures = [f"{value:,}" if value else "–" for value in (outcome.steps, outcome.tokens)]
        seconds = f"{outcome.seconds:.1f}" if outcome.seconds else "–"
        question = " ".join(printable(outcome.question).split())
        short = question if len(question) <= QUESTION_CHARS else question[: QUESTION_CHARS - 1] + "…"
        file = str(Path(outcome.file).relative_to(folder))
        table.add_row(mark, Text(file), Text(short), *figures, seconds, result)
    return table


def _result(outcome: Outcome) -> tuple[Text, Text]:
    from rich.text import Text

    if outcome.failed:
        return Text("✗", style="red"), Text(outcome.result, style="red")
    if outcome.result == "script":
        return Text("•", style="dim"), Text("recorded by a script", style="dim")
    return Text("✓", style="green"), Text("answered" if outcome.answered else f"no answer: {outcome.said}")


def _summary(outcomes: list[Outcome]) -> str:
    counted = Counter[str](outcome.result for outcome in outcomes)
    return ", ".join(f"{counted[result]} {words}" for result, words in _WORDS.items() if counted[result])
