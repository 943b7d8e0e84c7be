"""`agentkit fork`: another run that begins as a recorded one did."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from agentkit.cli.options import File, Given, Json, Quiet, Verbose, Yes, with_settings
from agentkit.cli.resume import go_on
from agentkit.cli.run import build_live
from agentkit.cli.view import View
from agentkit.settings import changes


@with_settings()
def fork(
    file: File,
    step: Annotated[int, typer.Option(help="How many steps of the recording to keep.", min=0)],
    given: Given,
    record: Annotated[Path | None, typer.Option(help="The new cassette (FILE as .fork.yaml).")] = None,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Go on from a step with another model or prompt. The recording itself stays as it is."""
    from agentkit.runs.resume import fork

    view = View(as_json=as_json, quiet=quiet, verbose=verbose)
    build = partial(build_live, view=view, yes=yes)
    return go_on(fork(file, record or _free(file), step=step, build=build, **changes(given)), view)


def _free(file: Path) -> Path:
    """The first name beside `file` that no other fork has."""
    stem = file.stem.removesuffix(".partial")
    names = (f"{stem}.fork{'' if number == 1 else f'-{number}'}{file.suffix}" for number in range(1, 1000))
    return next(path for name in names if not (path := file.with_name(name)).exists())
