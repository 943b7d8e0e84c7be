"""Where the commands keep their runs: the store, and what a run of the command line has to do with it.

What a store's library takes to load is paid by those commands alone that cannot do without; a run that is only kept for
the log opens it while its model is asked.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.options import Command
from agentkit.cli.view import View, say
from agentkit.errors import ConfigurationError, StoreError, in_one_line
from agentkit.events import ActionChosen, BrokenOff, Event, ModeFound, PartialAnswer, RunStarted, Token
from agentkit.settings import SETTINGS
from agentkit.user_files import is_users_alone, user_folder

if TYPE_CHECKING:
    from concurrent.futures import Future

    from agentkit.runs.build import Runner
    from agentkit.sessions.store import Store, StoredRun
    from agentkit.settings import RunSettings

_ID = re.compile(r"[0-9A-Za-z]{1,13}")
_NO_STORE = "Nothing is kept here, as AGENTKIT_STORE or --store says none; give --store FILE"

store_option = click.option("--store", metavar="ADDRESS", help="Where runs are kept: a file, postgresql://…, or none.")
defer_option = click.option(
    "--defer", is_flag=True, help="Let calls wait that may have side effects (agentkit approvals)."
)
name_option = click.option("--session", metavar="NAME", help="Ask in this session, which keeps the turns before.")
continue_option = click.option("--continue", "goes_on", is_flag=True, help="Ask in the session that was used last.")
another_model_option = click.option(
    "--another-model", is_flag=True, help="Let the session go on with a model or prompt that it was not held with."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeps:
    """What was said about keeping a run: in which store and session, and whether calls wait there for a decision."""

    store: str | None = None
    log: bool = True
    session: str | None = None
    goes_on: bool = False
    another_model: bool = False
    defer: bool = False

    @property
    def is_in_session(self) -> bool:
        """Whether the run is a turn of a session."""
        return self.session is not None or self.goes_on

    @property
    def is_needed(self) -> bool:
        """Whether the run makes no sense without a store."""
        return self.is_in_session or self.defer


def with_keeping(command: Command) -> Command:
    """Gives a command that asks a question what says how it is kept, handed over as `keeps`."""

    @name_option
    @continue_option
    @another_model_option
    @defer_option
    @store_option
    @click.option("--no-log", is_flag=True, help="Do not keep this run (agentkit logs).")
    @wraps(command)
    def run(
        *,
        session: str | None,
        goes_on: bool,
        another_model: bool,
        defer: bool,
        store: str | None,
        no_log: bool,
        yes: bool,
        **values: Any,
    ) -> int:
        keeps = Keeps(
            store=store, log=not no_log, session=session, goes_on=goes_on, another_model=another_model, defer=defer
        )
        check_keeps(keeps, yes=yes)
        return command(keeps=keeps, yes=yes, **values)

    return run


def check_keeps(keeps: Keeps, *, yes: bool) -> None:
    """Raise `ConfigurationError` for what cannot be together."""
    if keeps.session is not None and keeps.goes_on:
        raise ConfigurationError("--continue is the session that was used last, --session another; give one of them")
    if keeps.another_model and not keeps.is_in_session:
        raise ConfigurationError("--another-model is about a session; give --session NAME or --continue, too")
    if keeps.is_needed and not keeps.log:
        raise ConfigurationError("--no-log keeps nothing, which a session and --defer need; leave one of them out")
    if keeps.defer and yes:
        raise ConfigurationError("--defer lets calls wait, --yes runs them; give one of them")


def is_run(file: Path) -> bool:
    """Whether a name is the id of a run, and no file's: one that is there wins."""
    name = str(file)
    if not _ID.fullmatch(name):
        return False
    from agentkit.cassette.format.file import partial_of

    return not file.exists() and not partial_of(file).exists()


def stored_run(store: Store, name: str) -> StoredRun:
    """The run of this id, or of the only one that begins so; raises `StoreError`."""
    try:
        return store.run(name)
    except StoreError as error:
        raise StoreError(f"there is no file {name}; {in_one_line(error)}") from None


def check_open(store: Store, run: StoredRun) -> None:
    """Raise `AgentkitError` for a run that cannot go on: it has its answer, or waits for a decision."""
    if run.stop_reason in ("answer", "return_direct") and run.status == "finished":
        raise ConfigurationError(
            f"run {run.id} has its answer, nothing is left to go on with; agentkit show {run.id} shows it"
        )
    if waiting := store.waiting(run.id):
        raise ConfigurationError(
            f"run {run.id} waits for a decision: {', '.join(one.id for one in waiting)}; agentkit approvals takes it"
        )


# -- the store ---------------------------------------------------------------------------------------------------------


def check_named(given: str | None) -> None:
    """Raise `StoreError` for a store that the user named, here or in the environment, and that cannot be used.

    Without their own one a run goes on all the same.
    """
    if is_named(given) and (store := _opened(given)) is not None:
        store.close()


def is_named(given: str | None) -> bool:
    """Whether the user said which store, here or in the environment."""
    from agentkit.sessions.address import VARIABLE

    return given is not None or bool(os.environ.get(VARIABLE, "").strip())


def find_store(given: str | None) -> Store:
    """The store of a command that is nothing without one; raises `StoreError`."""
    if (store := _opened(given)) is None:
        raise StoreError(_NO_STORE)
    return store


def _opened(given: str | None) -> Store | None:
    """The store, made where there is none; who made it is remembered."""
    from agentkit.sessions.address import find_address

    if (address := find_address(given, os.environ)) is None:
        return None
    from agentkit.sessions.store import Store

    is_new = address.path is not None and not address.path.exists()
    store = Store(address)
    if is_new and address.path is not None:
        from agentkit.runs.trust import Origin, remember

        remember(Origin.of_store(address.path), _MADE_HERE, "own", os.environ)
    return store


_MADE_HERE = ("hold runs",)


def is_own(store: Store) -> bool:
    """Whether only the user can have written a store: a file of theirs alone, made here or in their own folder."""
    from agentkit.runs.trust import Origin, standing

    if (path := store.path) is None:
        return False
    try:
        if not (is_users_alone(path.stat()) and is_users_alone(path.parent.stat())):
            return False
    except OSError:
        return False
    is_home = path.parent.resolve() == user_folder("data", os.environ).resolve()
    return is_home or standing(Origin.of_store(path), _MADE_HERE, os.environ) == "own"


def know_run(store: Store, id: str, *, by_user: bool) -> None:
    """Remember what a run that is begun here is made of, so that going on with it asks nothing; `by_user`: no file."""
    from agentkit.runs.trust import Origin, effects, remember, standing

    is_known = by_user and is_own(store)
    run = store.run(id)
    origin = Origin.of_run(store.address, run.id, run.spec)
    with suppress(ConfigurationError):  # more than anybody could read: going on with it is another matter
        wanted = effects(run.spec.settings, origin.names)
        if not is_known or standing(origin, wanted, os.environ) == "trusted":
            remember(origin, wanted, "own" if by_user else "trusted", os.environ)


def foreign_in(
    store: Store, run: StoredRun, settings: RunSettings, view: View, *, trust: bool, given: Collection[str] = ()
) -> frozenset[str]:
    """The settings of a stored run that are not the user's own words; raises `ConfigurationError` without consent.

    In the user's own store those are that a file decided when the run began. What the user has `given` now is theirs.
    """
    from agentkit.cli.trust import agreed
    from agentkit.runs.trust import Origin, effects, standing

    given = [name for name in SETTINGS if name in given or getattr(settings, name) != getattr(run.spec.settings, name)]
    origin = Origin.of_run(store.address, run.id, run.spec, given)
    if not is_own(store):
        unnamed = origin.names & {"tools"}  # a run that the user began may have been given other calls since
        return frozenset(agreed(origin, settings, view, trust=trust)) | unnamed
    begun = Origin.of_run(store.address, run.id, run.spec)  # as it was remembered, whatever is given now
    with suppress(ConfigurationError):  # no file can have said so much: nobody would have been asked
        if standing(begun, effects(run.spec.settings, begun.names), os.environ) == "trusted":
            return origin.names
    return frozenset()


def with_memory(runner: Runner, store: Store | str) -> Runner:
    """The runner, whose tools for remembering use the store that was named."""
    from agentkit.sessions.memory import memory_tools, recall, remember

    named = {id(tool): mine for tool, mine in zip((remember, recall), memory_tools(store), strict=True)}
    return replace(runner, tools=[named.get(id(tool), tool) for tool in runner.tools])


# -- a run that is only kept for the log -------------------------------------------------------------------------------


class LogKeeper:
    """Keeps a run in a store that is opened while its model is asked; where that fails, the run goes on without.

    No answer waits for it: what happens before the store is open is written when it is, or when the run is `closed`.
    Only a call that may change something waits: that it was under way has to be known, however this process ends. Wrong
    use, which is an error before the model said anything, is no run.
    """

    def __init__(self, keeps: Keeps, runner: Runner, inputs: dict[str, Any], view: View, *, by_user: bool) -> None:
        self.run: str | None = None
        self._keeps, self._view, self._by_user = keeps, view, by_user
        self._spec = runner.spec(inputs)
        self._only_read = {tool.name for tool in runner.tools if tool.only_reads}
        self._opening: Future[Store | None] | None = None
        self._early: list[Event] = []
        self._keep: Callable[[Event], None] | None = None
        self._held = ExitStack()
        self._has_failed = False

    @contextmanager
    def holding(self) -> Iterator[Callable[[Event], None]]:
        from agentkit.toolbox.calling import in_daemon_thread

        self._opening = in_daemon_thread(_opened, self._keeps.store)

        def keep(event: Event) -> None:
            if not isinstance(event, Token | PartialAnswer):
                self._early.append(event)
                changes = isinstance(event, ActionChosen) and event.action.tool not in self._only_read
                if changes or (self._opening is not None and self._opening.done()):
                    self._write()

        yield keep

    def closed(self) -> None:
        """Write what is left, and let the run go."""
        self._write(is_over=True)
        self._held.close()

    def _write(self, *, is_over: bool = False) -> None:
        if self._has_failed or self._opening is None:
            return
        if self._keep is None and not _is_worth_keeping(self._early, is_over=is_over):
            return
        try:
            if self._keep is None:
                self._keep = self._begin(self._opening)
            while self._early:
                self._keep(self._early[0])
                self._early.pop(0)
        except StoreError as error:
            self._has_failed = True
            lost = f"this run is not kept: {in_one_line(error)}, or give --no-log"
            if is_named(self._keeps.store):
                say(lost, to=sys.stderr)
            else:
                self._view.note(lost)

    def _begin(self, opening: Future[Store | None]) -> Callable[[Event], None]:
        from agentkit.sessions.stored_runs import StoreKeeper, kept

        try:
            store = opening.result()
        except Exception as error:  # of a library that is broken, too: the answer is worth more
            raise StoreError(in_one_line(error)) from error
        assert store is not None
        self._held.callback(store.close)
        keeper = kept(store, self._spec).keeper
        assert isinstance(keeper, StoreKeeper)
        keep = self._held.enter_context(keeper.holding())
        self.run = keeper.run
        know_run(store, self.run, by_user=self._by_user)
        return keep


def _is_worth_keeping(events: Sequence[Event], *, is_over: bool) -> bool:
    """Whether these are a run's, and not only wrong use that its model found out."""
    happened = [event for event in events if not isinstance(event, RunStarted | ModeFound)]
    if not happened:
        return is_over and bool(events)
    return any(not isinstance(one, BrokenOff) or one.error != ConfigurationError.__name__ for one in happened)


@contextmanager
def logged(
    keeps: Keeps, runner: Runner, inputs: dict[str, Any], view: View, *, by_user: bool, is_recorded: bool = False
) -> Iterator[Runner]:
    """The runner of a run that is kept for the log, as far as it can be; of one that `is_recorded` its cassette says
    how it goes on."""
    from agentkit.core.run import Within
    from agentkit.sessions.address import find_address

    if (address := find_address(keeps.store, os.environ) if keeps.log else None) is None:
        yield runner
        return
    is_new = address.path is not None and not address.path.exists()
    keeper = LogKeeper(keeps, runner, inputs, view, by_user=by_user)
    with said_if_interrupted(view, lambda: None if is_recorded else keeper.run):
        try:
            yield runner.joined(Within(keeper=keeper))
        finally:
            view.settle()
            keeper.closed()
    if keeper.run is not None and is_new and sys.stderr.isatty():  # for people, once
        view.note(f"runs are kept from now on, in {address}; agentkit logs shows them, --no-log keeps one out")


@contextmanager
def said_if_interrupted(view: View, run: Callable[[], str | None]) -> Iterator[None]:
    """Where Ctrl-C ends this block, say how what there is of the run goes on."""
    try:
        yield
    except KeyboardInterrupt:
        view.settle()
        if (id_ := run()) is not None:
            view.note(f"what there was is kept; agentkit resume {id_} goes on with it")
        raise


# -- a run that waits --------------------------------------------------------------------------------------------------


def deferring(store: Store, runner: Runner, inputs: dict[str, Any], *, by_user: bool) -> tuple[Runner, str]:
    """The runner of a run whose calls wait in the store for a decision, and the run's id."""
    from agentkit.sessions.stored_runs import StoreKeeper, kept

    within = kept(store, runner.spec(inputs))
    assert isinstance(within.keeper, StoreKeeper)
    know_run(store, within.keeper.run, by_user=by_user)
    return runner.joined(within), within.keeper.run
