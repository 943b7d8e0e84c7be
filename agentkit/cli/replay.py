"""`agentkit replay`: a recorded run shown again, or a folder of them checked."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkit.cli.options import PATH, with_view
from agentkit.cli.view import Cell, View, print_table, say
from agentkit.errors import CassetteDrift, ConfigurationError, in_one_line
from agentkit.printable import json_text

if TYPE_CHECKING:
    from agentkit.runs.folder import FileReplay

DEFAULT = Path("cassettes")
QUESTION_CHARS = 48
FIGURES = ("steps", "tokens", "seconds")
_WORDS = {"ok": "replayed", "drift": "drifted", "error": "not replayed", "script": "left to their scripts"}


@click.command()
@click.argument("place", type=PATH, required=False, metavar="[FILE|FOLDER]")
@with_view
def replay(place: Path | None, view: View) -> int:
    """Show a run again, or check a folder of them (cassettes). Takes no key, no network and no model."""
    if place is None and not DEFAULT.is_dir():
        raise ConfigurationError("expected a cassette or a folder of them; there is no folder cassettes here")
    if (place := place or DEFAULT).is_dir():
        return _replay_folder(place, view)
    from agentkit.runs.replay import Replay

    recorded = Replay(place)
    view.is_typed = recorded.run.settings.schema is not None
    view.note(recorded.title)
    return view.show(recorded.events(), model=recorded.model)


def _replay_folder(folder: Path, view: View) -> int:
    """Replay all of a folder; the exit code is 4 when one drifted or cannot be replayed."""
    from agentkit.runs.folder import cassettes_in, replay_files

    paths = cassettes_in(folder)
    replays: list[FileReplay] = []
    try:
        view.wait(f"replaying {len(paths)} …")
        for one in replay_files(paths):
            replays.append(one)
            view.wait(f"replayed {len(replays)} of {len(paths)} …")
    finally:
        view.settle()
    if view.as_json:
        print(json_text([asdict(one) for one in replays]))
    else:
        rows = (_row(one, folder) for one in replays)
        print_table(("", "file", "question", *FIGURES, "result"), rows, figures=FIGURES)
    for one in replays:
        if one.failed:
            say(f"error: {one.reason}", to=sys.stderr)
    view.note(_summary(replays))
    return CassetteDrift.exit_code if any(one.failed for one in replays) else 0


def _row(one: FileReplay, folder: Path) -> tuple[Cell, ...]:
    mark, result = _result(one)
    figures = [f"{value:,}" if value else "–" for value in (one.steps, one.tokens)]
    seconds = f"{one.seconds:.1f}" if one.seconds else "–"
    question = in_one_line(one.question, QUESTION_CHARS)
    return mark, str(Path(one.file).relative_to(folder)), question, *figures, seconds, result


def _result(one: FileReplay) -> tuple[Cell, Cell]:
    if one.failed:
        return ("✗", "red"), (one.result, "red")
    if one.result == "script":
        return ("•", "dim"), ("recorded by a script", "dim")
    return ("✓", "green"), "answered" if one.answered else f"no answer: {one.reason}"


def _summary(replays: list[FileReplay]) -> str:
    counted = Counter[str](one.result for one in replays)
    return ", ".join(f"{counted[result]} {words}" for result, words in _WORDS.items() if counted[result])
