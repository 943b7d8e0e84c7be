"""`agentkit record`: a cassette's question, asked again."""

from __future__ import annotations

from pathlib import Path

import click

from agentkit.cli.options import file_argument, trust_option, with_view, yes_option
from agentkit.cli.run import begin, record_run, recording_into
from agentkit.cli.trust import agreed
from agentkit.cli.view import View


@click.command()
@file_argument
@trust_option
@yes_option
@with_view
def record(file: Path, trust: bool, yes: bool, view: View) -> int:
    """Record a cassette's question again, live. The old recording is kept if that fails."""
    from agentkit.cassette import read_run_spec
    from agentkit.runs.trust import Origin

    spec = read_run_spec(file)
    foreign = agreed(Origin.of_cassette(file, spec), spec.settings, view, trust=trust)
    with recording_into(file, view, replaces=True) as place:
        runner = begin(spec.settings, view, yes=yes, prompt=spec.read_prompt(), foreign=foreign)
        return record_run(spec, runner, view, place, is_own=not foreign)
