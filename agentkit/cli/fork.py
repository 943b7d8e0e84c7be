"""`agentkit fork`: another run that begins as a recorded one did."""

from __future__ import annotations

from pathlib import Path

import click

from agentkit.cli.options import (
    PATH,
    Given,
    check_folder,
    file_argument,
    force_option,
    trust_option,
    with_settings,
    with_view,
    yes_option,
)
from agentkit.cli.resume import go_on
from agentkit.cli.view import View
from agentkit.settings import changes


@click.command()
@file_argument
@click.option("--step", type=click.IntRange(0), metavar="NUMBER", required=True, help="Steps of the recording to keep.")
@with_settings()
@click.option("--record", type=PATH, help="The new cassette (FILE as .fork.yaml).")
@force_option
@trust_option
@yes_option
@with_view
def fork(
    file: Path, step: int, given: Given, record: Path | None, force: bool, trust: bool, yes: bool, view: View
) -> int:
    """Go on from a step with another model or prompt. The recording itself stays as it is."""
    from agentkit.runs.resume import fork

    into = record or _free(file)
    check_folder(into)
    run = fork(file, into, step=step, replaces=force, **changes(given))
    return go_on(run, view, trust=trust, yes=yes)


def _free(file: Path) -> Path:
    """The first name beside `file` that no other fork has."""
    stem = file.stem.removesuffix(".partial")
    names = (f"{stem}.fork{'' if number == 1 else f'-{number}'}{file.suffix}" for number in range(1, 1000))
    return next(path for name in names if not (path := file.with_name(name)).exists())
