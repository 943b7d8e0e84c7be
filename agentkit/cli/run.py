"""`agentkit run`: ask a question live; and what every command that runs live shares."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from agentkit.cli.approval import approver
from agentkit.cli.options import PATH, Given, with_settings, with_view, yes_option
from agentkit.cli.view import View, option_raising
from agentkit.errors import ConfigurationError
from agentkit.secrets import public_address
from agentkit.settings import RunSettings, read_settings

if TYPE_CHECKING:
    from agentkit.cassette import RunSpec
    from agentkit.events import StopReason
    from agentkit.react_json.prompt import Prompt
    from agentkit.runs.build import Runner

BIGGER = "bigger: --model local:ORG/NAME or hf:ORG/NAME"


@click.command()
@click.argument("question")
@with_settings()
@click.option("--record", type=PATH, help="Write the run to this cassette.")
@yes_option
@with_view
def run(question: str, given: Given, record: Path | None, yes: bool, view: View) -> int:
    """Ask a question; thoughts, actions and observations show as they come.

    QUESTION is read from standard input where it is -.
    """
    from agentkit.cassette import RunSpec

    question = (sys.stdin.read() if question == "-" else question).strip()
    if not question:
        raise ConfigurationError('expected a question, saw nothing; write agentkit run "What is 2 + 2?"')
    inputs, settings = {"input": question}, read_settings(given)
    if record is None:
        runner = begin(settings, view, yes=yes)
        return view.show(runner.events(inputs), model=settings.model)
    check_folder(record)
    runner = begin(settings, view, yes=yes)
    return record_run(RunSpec.of(inputs, settings, text=runner.prompt), runner, view, record)


def begin(settings: RunSettings, view: View, *, yes: bool, prompt: Prompt | None = None) -> Runner:
    """Say which model will answer, read the documents, and build what runs."""
    view.note(_model_line(settings.model))
    if settings.docs is not None:
        from agentkit.tools.documents import read_folder

        view.wait(f"reading {settings.docs} …")
        for note in read_folder(settings.docs):
            view.note(note)
    view.wait("loading the model …")
    runner = build_live(settings, prompt, view=view, yes=yes)
    view.settle()
    return runner


def build_live(settings: RunSettings, prompt: Prompt | None = None, *, view: View, yes: bool) -> Runner:
    """What runs these settings, and asks at this terminal before a tool with side effects runs."""
    from agentkit.runs.build import build

    runner = build(settings, prompt, approve=approver(yes=yes, before=view.settle))
    if settings.model == "builtin":
        from agentkit.models.local.loading import use_one_thread

        use_one_thread()  # this process is the command's own
    return runner


def record_run(spec: RunSpec, runner: Runner, view: View, file: Path) -> int:
    """Run live into a cassette, which says what the run was made of."""
    from agentkit.cassette import Cassette

    with what_is_left(file, view), Cassette(file, mode="record", run=spec):
        code = view.show(runner.events(dict(spec.inputs)), model=spec.settings.model)
    view.note(f"recorded in {file}; {next_command(file, view.stop_reason)}")
    return code


def check_folder(file: Path) -> None:
    """Raise `ConfigurationError` where there is no folder to record into."""
    if not file.absolute().parent.is_dir():
        raise ConfigurationError(f"no folder {file.absolute().parent} to record into; make it first")


@contextmanager
def what_is_left(file: Path, view: View) -> Iterator[None]:
    """Where this block is broken off, say what the cassette has of the run."""
    from agentkit.cassette.format.file import partial_of

    try:
        yield
    except BaseException:
        if (partial := partial_of(file)).exists():
            view.settle()
            view.note(f"what there was is in {partial}; agentkit resume {file} goes on with it")
        raise


def next_command(file: Path, reason: StopReason | None) -> str:
    """What to do with a recording of a run that ended for this reason."""
    if reason in ("answer", "return_direct"):
        return f"agentkit replay {file} shows it again"
    if raising := option_raising(reason):
        return f"agentkit resume {file} goes on with it, given more {raising}"
    return (
        f"agentkit show {file} shows its steps; agentkit fork {file} --step NUMBER goes another way from one of them, "
        "as with another --model"
    )


def _model_line(spec: str) -> str:
    if spec == "builtin":
        return f"model: builtin, which calculates and looks things up; {BIGGER}"
    return f"model: {public_address(spec)}"
