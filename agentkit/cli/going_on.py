"""A run of the store that goes on: what it is made of is agreed to, built again, and shown to its end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentkit.cli.approval import ask, can_ask
from agentkit.cli.keeping import foreign_in, is_own
from agentkit.cli.run import begin, say_what_waits
from agentkit.cli.view import View, shortened
from agentkit.errors import AgentkitError

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
    """The block in which a run is built again, with `changes` of its settings; nobody else asks in its session then.

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
    with ExitStack() as held:
        if run.session is not None:
            held.enter_context(store.held_session(run.session))
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
        if not is_own(store):
            from agentkit.sessions.going_on import check_inputs

            check_inputs(run, runner.tools)
        yield OpenedRun(store=store, run=run, runner=runner)


def go_on(opened: OpenedRun, view: View) -> int:
    """Go on with a run to its end; the exit code."""
    from agentkit.sessions.going_on import going_on

    def run_again(tool: str, tool_input: Any) -> bool:
        view.settle()
        happened = "This was under way when the run was broken off, and may have had its effect."
        return can_ask() and ask(tool, tool_input, happened, "Run it again")

    run = opened.run
    runner = opened.runner.joined(going_on(opened.store, run, run_again))
    code = view.show(runner.events(dict(run.spec.inputs)), model=opened.runner.settings.model)
    say_what_waits(view)
    return code
