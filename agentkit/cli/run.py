"""`agentkit run`: ask a question live; and what every command that runs live shares."""

from __future__ import annotations

import os
import warnings
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.approval import answerer, approver, can_ask, confirmed
from agentkit.cli.in_session import about, adopt, check_decided, check_prompt, find_session, settings_in, turn
from agentkit.cli.keeping import (
    Keeps,
    check_named,
    deferring,
    find_store,
    logged,
    said_if_interrupted,
    with_keeping,
    with_memory,
)
from agentkit.cli.options import (
    PATH,
    Given,
    check_folder,
    force_option,
    trust_option,
    with_settings,
    with_view,
    yes_option,
)
from agentkit.cli.question import piped_text_told, read_question
from agentkit.cli.trust import own_settings
from agentkit.cli.view import View, option_raising
from agentkit.errors import ConfigurationError
from agentkit.settings import RunSettings

if TYPE_CHECKING:
    from agentkit.cassette import RunSpec
    from agentkit.cassette.format.place import Place
    from agentkit.events import StopReason
    from agentkit.react_json.prompt import Prompt
    from agentkit.runs.build import Runner
    from agentkit.sessions.store import Store

BIGGER = "bigger: --model local:FILE.gguf, local:ORG/NAME or hf:ORG/NAME"
ABOUT = {
    "small": "SmolLM2-135M-Instruct, which learned to use tools",
    "builtin": "which calculates and looks things up",
}


@click.command()
@click.argument("question")
@with_settings()
@click.option("--record", type=PATH, help="Write the run to this cassette.")
@force_option
@trust_option
@yes_option
@with_keeping
@with_view
def run(
    question: str, given: Given, record: Path | None, force: bool, keeps: Keeps, trust: bool, yes: bool, view: View
) -> int:
    """Ask a question; thoughts, actions and observations show as they come.

    QUESTION is read from standard input where it is -.
    """
    from agentkit.cassette import RunSpec

    inputs = {"input": read_question(question)}
    if keeps.log:
        check_named(keeps.store)
    with piped_text_told(view, is_read=question == "-"):
        if record is None:
            return ask(inputs, given, keeps, view, trust=trust, yes=yes)
        if keeps.is_needed:
            raise ConfigurationError("--record keeps a run in a cassette, and no session or decision; leave one out")
        settings, foreign = own_settings(given, view, trust=trust)
        with recording_into(record, view, replaces=force) as place:
            runner = begin(settings, view, yes=yes, foreign=foreign, store=keeps.store)
            spec = RunSpec.of(inputs, runner.settings, text=runner.prompt)
            with logged(keeps, runner, inputs, view, by_user=not foreign, is_recorded=True) as kept:
                return record_run(spec, kept, view, place, is_own=not foreign)


def ask(inputs: dict[str, Any], given: Given, keeps: Keeps, view: View, *, trust: bool, yes: bool) -> int:
    """One run of a question, kept as it was asked for."""
    if keeps.is_in_session:
        return _ask_in_session(inputs["input"], given, keeps, view, trust=trust, yes=yes)
    settings, foreign = own_settings(given, view, trust=trust)
    if not keeps.defer:
        runner = begin(settings, view, yes=yes, foreign=foreign, store=keeps.store)
        with logged(keeps, runner, inputs, view, by_user=not foreign) as kept:
            return view.show(kept.events(inputs), model=settings.model)
    with find_store(keeps.store) as store:
        runner = begin(settings, view, yes=yes, foreign=foreign, defer=True, store=keeps.store)
        joined, id_ = deferring(store, runner, inputs, by_user=not foreign)
        with said_if_interrupted(view, lambda: id_):
            code = view.show(joined.events(inputs), model=settings.model)
    view.say_what_waits()
    return code


def _ask_in_session(question: str, given: Given, keeps: Keeps, view: View, *, trust: bool, yes: bool) -> int:
    """One turn of a session."""
    from agentkit.sessions.session import Session

    with find_store(keeps.store) as store:
        found = find_session(keeps, store)
        check_decided(store, found.turns[-1].id if found.turns else None, found.name, view)
        made_of = settings_in(found, given, keeps, store, view, trust=trust)
        settings, foreign = made_of.settings, made_of.foreign
        runner = begin(
            settings,
            view,
            yes=yes,
            prompt=made_of.prompt,
            foreign=foreign,
            defer=keeps.defer,
            store=keeps.store,
        )
        check_prompt(found, runner)
        adopt(found, store)
        session = Session(runner, found.name, store=store, go_on=True)
        with (
            said_if_interrupted(view, lambda: session.runs[-1]),
            turn(session, question, by_user=not foreign) as (executor, inputs),
        ):
            view.note(about(found))
            code = view.show(executor.events(inputs), model=settings.model)
    view.say_what_waits()
    return code


def begin(
    settings: RunSettings,
    view: View,
    *,
    yes: bool,
    prompt: Prompt | None = None,
    foreign: Collection[str] = (),
    defer: bool = False,
    store: Store | str | None = None,
) -> Runner:
    """Read the documents, build what runs, and say which model will answer."""
    view.is_typed = settings.schema is not None
    try:
        if settings.docs is not None:
            from agentkit.tools.documents import read_folder

            view.wait(f"reading {settings.docs} …")
            for note in read_folder(settings.docs):
                view.note(note)
        view.wait("loading the model …")
        runner = build_live(settings, prompt, view=view, yes=yes, foreign=foreign, defer=defer)
    finally:
        view.settle()
    if store is not None:
        runner = with_memory(runner, store)
    view.note(model_line(runner.settings.model))
    if view.verbose:
        view.note(f"prompt: {runner.settings.prompt}")
    return runner


def build_live(
    settings: RunSettings,
    prompt: Prompt | None = None,
    *,
    view: View,
    yes: bool,
    foreign: Collection[str] = (),
    defer: bool = False,
) -> Runner:
    """What runs these settings, and asks at this terminal before a tool runs that does not say that it only reads.

    Where nobody can be asked, a tool that says nothing runs if the user named it, and not a file or a server. With
    `defer` such calls wait, and so does what tools ask.
    """
    from agentkit.runs.build import build
    from agentkit.toolbox.approval import DEFER

    if "small" in (settings.model, *settings.fallbacks):
        bring_base(view, yes=yes)
    with for_models_here([settings.model, *settings.fallbacks]):
        runner = build(settings, prompt, foreign=foreign)
    if defer:
        return replace(runner, approve=DEFER)
    named = () if "tools" in foreign else [tool for _, tool in zip(settings.tools, runner.tools, strict=False)]
    unsaid = {tool.name for tool in named if tool.side_effects is None}
    approve = approver(yes=yes, unasked=unsaid, before=view.settle)
    return replace(runner, approve=approve, answer=answerer(before=view.settle))


def bring_base(view: View, *, yes: bool) -> None:
    """Fetch the base of `small` where it is not on this machine, and `yes` or somebody at the terminal allows it."""
    from agentkit.models.gguf.loading import is_installed
    from agentkit.models.small import ABOUT_BASE, fetch_base, find_base

    if find_base() is not None or not is_installed():
        return
    view.settle()
    if not yes and not (can_ask() and confirmed([f"{ABOUT_BASE}. Fetch it?"])):
        return  # who loads the model says what is missing
    shown = -1

    def progress(here: int, whole: int) -> None:
        nonlocal shown
        if here // 2**22 > shown:
            shown = here // 2**22
            view.wait(f"fetching the base of small: {here / 1e6:.0f} of {whole / 1e6:.0f} MB …")

    view.note(f"{ABOUT_BASE} …")
    try:
        file = fetch_base(progress)
    finally:
        view.settle()
    view.note(f"kept in {file}")


@contextmanager
def for_models_here(models: Sequence[str]) -> Iterator[None]:
    """While these models are loaded: those that compute in this process, which is the command's, leave others room.

    What their libraries warn of is for programmers, and stays unsaid.
    """
    from agentkit.models.spec import read_spec

    read = [read_spec(spec, loads=False) for spec in models]
    local = [spec.name for spec in read if spec.place == "local"]
    if models and not local:
        yield
        return
    from agentkit.models.local.loading import ADVISING, size_of
    from agentkit.models.local.threads import sharing_the_processor

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # else a tool that forks this process has it warn
    names = "|".join((*ADVISING, "torch", "tokenizers"))
    warnings.filterwarnings("ignore", module=rf"(?:{names})(?:\.|$)")
    with sharing_the_processor(max(map(size_of, local), default=0), TRANSFORMERS_VERBOSITY="error"):
        yield


def record_run(spec: RunSpec, runner: Runner, view: View, place: Place, *, is_own: bool) -> int:
    """Run live into a cassette, which says what the run was made of; `is_own`: the user did, and no file."""
    from agentkit.cassette import Cassette

    file = place.path
    with Cassette(file, mode="record", run=spec, place=place) as cassette:
        know(file, cassette.written_run, is_own=is_own)
        code = view.show(runner.events(dict(spec.inputs)), model=spec.settings.model)
    view.note(f"recorded in {file}; {next_command(file, view.stop_reason)}")
    return code


def know(file: Path, run: RunSpec | None, *, is_own: bool) -> None:
    """Remember a recording that is made here, so that going on with it asks nothing."""
    from agentkit.runs.trust import Origin, effects, remember

    if run is not None:
        origin = Origin.of_cassette(file, run)
        remember(origin, effects(run.settings, origin.names), "own" if is_own else "trusted", os.environ)


@contextmanager
def recording_into(file: Path, view: View, *, replaces: bool) -> Iterator[Place]:
    """The place to record into, held until its block ends; no folder is made for it."""
    from agentkit.cassette.format.place import Place

    check_folder(file)
    with Place(file, replaces=replaces) as place, what_is_left(file, view):
        yield place


@contextmanager
def what_is_left(file: Path, view: View) -> Iterator[None]:
    """Where this block is broken off, say what the cassette has of the run."""
    from agentkit.cassette.format.file import partial_of

    try:
        yield
    except BaseException as error:
        view.settle()
        if (partial := partial_of(file)).exists():
            view.note(f"what there was is in {partial}; agentkit resume {file} goes on with it")
        elif isinstance(error, KeyboardInterrupt):
            left = f"{file} is as it was" if file.exists() else f"there is no {file}"
            view.note(f"no turn was over yet, so nothing is recorded, and {left}; start again")
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


def model_line(spec: str) -> str:
    """Which model answers."""
    if spec in ABOUT:
        return f"model: {spec}, {ABOUT[spec]}; {BIGGER}"
    from agentkit.secrets import public_address

    return f"model: {public_address(spec)}"
