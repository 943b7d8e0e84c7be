"""A run of the store that goes on: what it is made of is agreed to, built again, and shown to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentkit.cli.approval import MARGIN, ask, can_ask, confirmed, in_margin
from agentkit.cli.keeping import foreign_in, is_own
from agentkit.cli.run import begin
from agentkit.cli.view import View, shortened
from agentkit.errors import AgentkitError, ConfigurationError
from agentkit.printable import escaped, word

if TYPE_CHECKING:
    from agentkit.runs.build import Runner
    from agentkit.sessions.store import Store, StoredRun
    from agentkit.tool import Tool


class MadeInPython(AgentkitError):
    """A run cannot be built here again: its model was made by a program."""

    exit_code = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedRun:
    """A run of `store` and what goes on with it."""

    store: Store
    run: StoredRun
    runner: Runner

    @property
    def tools(self) -> Sequence[Tool]:
        """Those that it has."""
        return self.runner.tools


@contextmanager
def opened_run(
    store: Store,
    run: StoredRun,
    view: View,
    changes: Mapping[str, Any],
    *,
    trust: bool,
    yes: bool,
    defer: bool,
) -> Iterator[OpenedRun]:
    """The block in which a run is built again, with `changes` of its settings.

    What a stored run makes this command start, read and send is agreed to first, unless the store is the user's own.
    Raises `MadeInPython`.
    """
    from agentkit.cassette.format.run_spec import MADE_IN_PYTHON

    if run.spec.settings.model.startswith(MADE_IN_PYTHON):
        raise MadeInPython(
            f"run {run.id} has a model that was made in Python; go on there: executor.resume({run.id!r})"
        )
    settings = replace(run.spec.settings, **changes)
    foreign = foreign_in(store, run, settings, view, trust=trust)
    waits = defer or (bool(store.decisions(run.id)) and not can_ask() and not yes)
    view.note(f"run {run.id}: {shortened(run.question)}")
    runner = begin(
        settings,
        view,
        yes=yes,
        prompt=run.spec.read_prompt(),
        foreign=foreign,
        defer=waits,
        store=store,
    )
    yield _checked(OpenedRun(store=store, run=run, runner=runner))


@contextmanager
def joined_run(store: Store, run: StoredRun, runner: Runner, view: View) -> Iterator[OpenedRun]:
    """The block in which a run goes on with what is built already."""
    view.wait("thinking …")
    yield _checked(OpenedRun(store=store, run=run, runner=runner))


def _checked(opened: OpenedRun) -> OpenedRun:
    if not is_own(opened.store):
        from agentkit.sessions.stored_runs import check_inputs

        check_inputs(opened.run, opened.tools)
    return opened


def confirm_calls(store: Store, calls: Sequence[tuple[str, Any]], view: View) -> None:
    """Ask before anything runs that others may have written into the store since it was looked at."""
    if not calls:
        return
    if not can_ask():
        raise ConfigurationError(
            f"others may write {store.address}, and nobody can be asked here whether that is the call which was meant; "
            "look at agentkit approvals, and give --trust"
        )
    view.settle()
    lines = [line for tool, given in calls for line in in_margin(f"{word(tool)} {escaped(given)}", MARGIN)]
    if not confirmed([*lines, f"This is in {word(store.address)}, which others may write. Let it run?"]):
        raise ConfigurationError("nothing was decided; agentkit approvals lists what waits")


def go_on(opened: OpenedRun, view: View, *, agreed: bool = False) -> int:
    """Go on with a run to its end; the exit code. Others may have written what runs then, unless that is `agreed`."""
    from agentkit.sessions.stored_runs import going_on, running_calls

    if not agreed and not is_own(opened.store):
        decisions = opened.store.decisions(opened.run.id)
        confirm_calls(opened.store, running_calls(opened.run, decisions), view)

    def run_again(tool: str, tool_input: Any) -> bool:
        view.settle()
        happened = "This was under way when the run was broken off, and may have had its effect."
        return can_ask() and ask(tool, tool_input, happened, "Run it again")

    run = opened.run
    runner = opened.runner.joined(going_on(opened.store, run, run_again))
    code = view.show(runner.events(dict(run.spec.inputs)), model=opened.runner.settings.model)
    view.say_what_waits()
    return code
