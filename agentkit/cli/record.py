"""`agentkit record`: a cassette's question, asked again."""

from __future__ import annotations

from pathlib import Path

import click

from agentkit.cli.options import file_argument, with_view, yes_option
from agentkit.cli.run import begin, check_folder, record_run
from agentkit.cli.view import View


@click.command()
@file_argument
@yes_option
@with_view
def record(file: Path, yes: bool, view: View) -> int:
    """Record a cassette's question again, live. The old recording is kept if that fails."""
    from agentkit.cassette import read_run_spec

    check_folder(file)
    spec = read_run_spec(file)
    runner = begin(spec.settings, view, yes=yes, prompt=spec.read_prompt())
    return record_run(spec, runner, view, file)
