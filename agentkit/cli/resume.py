"""`agentkit resume`: a recorded or kept run goes on live where it stopped."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.approval import ask, can_ask
from agentkit.cli.keeping import check_open, defer_option, find_store, is_run, store_option, stored_run
from agentkit.cli.options import PATH, Given, trust_option, with_settings, with_view, yes_option
from agentkit.cli.run import build_live, know, next_command, what_is_left
from agentkit.cli.trust import agreed
from agentkit.cli.view import View
from agentkit.errors import ConfigurationError
from agentkit.settings import changes

if TYPE_CHECKING:
    from agentkit.runs.resume import Continuation


@click.command()
@click.argument("file", type=PATH, metavar="FILE|RUN")
@with_settings("limits")
@defer_option
@store_option
@trust_option
@yes_option
@with_view
def resume(file: Path, given: Given, defer: bool, store: str | None, trust: bool, yes: bool, view: View) -> int:
    """Go on with a run that was cut off. What it holds is played, the rest is live; also after a limit.

    RUN is the id of a run that is kept (agentkit logs), or its beginning; FILE is a cassette.
    """
    if is_run(file):
        return _resume_kept(str(file), given, store, view, trust=trust, yes=yes, defer=defer)
    if defer:
        raise ConfigurationError("--defer lets calls wait in the store, which a cassette cannot; leave it out")
    from agentkit.runs.resume import resume

    run = resume(file, **changes(given))
    _refuse_answered(run.path)
    return go_on(run, view, trust=trust, yes=yes)


def _resume_kept(id: str, given: Given, address: str | None, view: View, *, trust: bool, yes: bool, defer: bool) -> int:
    """A run of the store."""
    from agentkit.cli.stored_run import go_on, opened_run

    with find_store(address) as store:
        run = stored_run(store, id)
        check_open(store, run)
        with opened_run(store, run, view, changes(given), trust=trust, yes=yes, defer=defer) as opened:
            return go_on(opened, view, agreed=trust)


def go_on(run: Continuation, view: View, *, trust: bool, yes: bool) -> int:
    """Show a run that goes on live, to its end."""

    def run_again(tool: str, tool_input: Any) -> bool:
        view.settle()
        happened = "This was under way when the recording ended, and may have had its effect."
        return can_ask() and ask(tool, tool_input, happened, "Run it again")

    foreign = agreed(run.origin, run.run.settings, view, trust=trust)
    unnamed = run.origin.names & {"tools"}  # a recording of the user's own may have been given other calls since
    build = partial(build_live, view=view, yes=yes, foreign={*foreign, *unnamed})
    run = replace(run, build=build, run_again=run_again, begun=partial(know, is_own=not foreign))
    view.is_typed = run.run.settings.schema is not None
    view.note(run.title)
    view.wait("loading the model …")
    with what_is_left(run.path, view):
        code = view.show(run.events(), model=run.model)
    view.note(f"recorded in {run.path}; {next_command(run.path, view.stop_reason)}")
    return code


def _refuse_answered(file: Path) -> None:
    """A run that has its answer would only be copied."""
    from agentkit.cassette.format.file import partial_of
    from agentkit.report.story import read_story

    reasons = [] if partial_of(file).exists() else [run.stop_reason for run in read_story(file).runs]
    if reasons and all(reason == "answer" for reason in reasons):
        raise ConfigurationError(
            f"{file}: this run has its answer, nothing is left to go on with; agentkit fork {file} goes another way"
        )
