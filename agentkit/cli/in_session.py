"""A session on the command line: which one is meant, what its next turn is made of, and that turn.

Nothing of a session is made before its turn begins: what is refused before leaves the store as it was.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from agentkit.cli.approval import can_ask, confirmed, in_margin
from agentkit.cli.keeping import Keeps, foreign_in, know_run
from agentkit.cli.options import Given
from agentkit.cli.trust import own_settings
from agentkit.cli.view import View
from agentkit.errors import ConfigurationError
from agentkit.events import Replied
from agentkit.number_words import count
from agentkit.printable import word
from agentkit.settings import RunSettings, changes

if TYPE_CHECKING:
    from agentkit.react_json.prompt import Prompt
    from agentkit.runs.build import Runner
    from agentkit.sessions.session import Session
    from agentkit.sessions.store import RunEntry, Store, StoredRun

MARGIN = "  | "
LONGEST_NAME = 40  # of a session that nobody named
MOST_LOOKED_AT = 100  # of the newest runs, for the one to go on with
TURNS = ("finished", "waiting")
"""How runs ended that are part of a conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSession:
    """A session as it was found, which may not be there yet; `turns` are its runs, in their order.

    `last` is the newest of them in which the model said anything: what it was made of goes on. With `adopts`, that run
    is in no session yet, and is the first turn of this one.
    """

    name: str
    turns: Sequence[RunEntry] = ()
    last: StoredRun | None = None
    adopts: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSettings:
    """What a turn is made of; `foreign` are the names of the settings that a file decided."""

    settings: RunSettings
    foreign: Collection[str] = ()
    prompt: Prompt | None = None
    """The one that the session has kept."""

    def changed(self, said: Mapping[str, Any]) -> TurnSettings:
        """These with what is said now; for another model, the prompt that ships for it is chosen anew."""
        from agentkit.cassette.format.run_spec import is_bundled
        from agentkit.react_json.prompt import AUTO
        from agentkit.runs.build import settled

        settings = self.settings
        if said.get("model", settings.model) != settings.model and is_bundled(settings.prompt):
            settings = replace(settings, prompt=AUTO)
        settings = settled(replace(settings, **said))
        kept = self.prompt if settings.prompt == self.settings.prompt else None
        return TurnSettings(settings=settings, foreign={*self.foreign} - said.keys(), prompt=kept)


# -- which session -----------------------------------------------------------------------------------------------------


def find_session(keeps: Keeps, store: Store) -> FoundSession:
    """The session that is meant: the one that was named, else the one that was used last."""
    if keeps.session is not None:
        name = keeps.session.strip()
        return _found(store, name) if any(one.name == name for one in store.sessions()) else FoundSession(name=name)
    seen: set[str] = set()
    for entry in store.runs(most=MOST_LOOKED_AT):
        if entry.session is None:
            if (run := _with_reply(store, entry)) is not None:
                return FoundSession(name=new_name(store, run.question), turns=(run,), last=run, adopts=True)
        elif entry.session not in seen:
            seen.add(entry.session)
            if (found := _found(store, entry.session)).last is not None:
                return found
    raise ConfigurationError("there is no session and no run to go on with; ask without --continue first")


def _found(store: Store, name: str) -> FoundSession:
    turns = turns_of(store, name)
    replied = (run for entry in reversed(turns) if (run := _with_reply(store, entry)) is not None)
    return FoundSession(name=name, turns=turns, last=next(replied, None))


def _with_reply(store: Store, entry: RunEntry) -> StoredRun | None:
    """The run, where the model said anything in it; None for one that failed before."""
    run = store.run(entry.id)
    is_one = run.status in TURNS or any(isinstance(event, Replied) for event in run.events)
    return run if is_one else None


def turns_of(store: Store, name: str) -> list[RunEntry]:
    """The runs of a session's turns, in their order; those that were taken off are none."""
    entries = {entry.id: entry for entry in store.runs(session=name)}
    return [entries.get(run) or store.run(run) for run in store.turns(name)]  # a fork's are those of another session


def in_conversation(turns: Sequence[RunEntry]) -> list[RunEntry]:
    """Those turns that the conversation has; one that was broken off is left out."""
    return [turn for turn in turns if turn.status in TURNS]


def new_name(store: Store, question: str) -> str:
    """A name that no session has, of the first words of a question."""
    plain = unicodedata.normalize("NFKD", question).casefold()
    words = re.findall(r"[^\W_]+", plain)[:12]
    name = ""
    for one in words:
        if len(name) + len(one) < LONGEST_NAME:
            name = f"{name}-{one}".removeprefix("-")
    name, taken = name or "chat", {session.name for session in store.sessions()}
    numbered = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
    return next(one for one in numbered if one not in taken)


def about(found: FoundSession) -> str:
    """A session in a line, and what is left open in it."""
    turns = in_conversation(found.turns)
    how_many = f"{count(len(turns), 'turn')} so far" if found.turns else "which is new"
    note = ""
    if found.turns and (last := found.turns[-1]).status == "broken_off":
        note = f"; its last turn was broken off, agentkit resume {last.id} goes on with that"
    return f"session: {word(found.name)}, {how_many}{note}"


# -- what its next turn is made of -------------------------------------------------------------------------------------


def settings_in(
    found: FoundSession, given: Given, keeps: Keeps, store: Store, view: View, *, trust: bool
) -> TurnSettings:
    """Those of the session's last run, but for what was said now; raises `ConfigurationError` without consent.

    Without such a run, or where its model is one that a program made, they are those of any run.
    """
    from agentkit.cassette.format.run_spec import MADE_IN_PYTHON

    run = found.last
    if run is None or run.spec.settings.model.startswith(MADE_IN_PYTHON):
        settings, foreign = own_settings(given, view, trust=trust)
        if run is not None:
            _check_same(found.name, run, settings, keeps, view)
        return TurnSettings(settings=settings, foreign=foreign)
    said = changes(given)
    kept = None if "prompt" in said else run.spec.read_prompt()
    made_of = TurnSettings(settings=run.spec.settings, prompt=kept).changed(said)
    _check_same(found.name, run, made_of.settings, keeps, view)
    foreign = foreign_in(store, run, made_of.settings, view, trust=trust, given=said)
    return replace(made_of, foreign=foreign)


def _check_same(name: str, run: StoredRun, settings: RunSettings, keeps: Keeps, view: View) -> None:
    """Raise `ConfigurationError` where a session goes on with another model or prompt, and nobody agrees to that."""
    from agentkit.react_json.prompt import AUTO
    from agentkit.secrets import public_address
    from agentkit.sessions.session import facts_of

    before, now = facts_of(run.spec), {"model": public_address(settings.model), "prompt": settings.prompt}
    changed = [key for key in now if now[key] not in (before[key], AUTO)]
    if not changed or keeps.another_model:
        return
    now_with = ", ".join(f"{key} {word(now[key])}" for key in changed)
    if not can_ask():
        held = ", ".join(f"{key} {word(str(before[key]))}" for key in changed)
        raise ConfigurationError(
            f"session {word(name)} was held with {held}, this is {now_with}; --another-model goes on all the same"
        )
    view.settle()
    lines = [line for key in changed for line in in_margin(f"{key} {word(str(before[key]))}", MARGIN)]
    if not confirmed([f"Session {word(name)} was held with", *lines, f"This is {now_with}. Go on with it?"]):
        raise ConfigurationError(f"session {word(name)} was left as it is; without --model it has the one that it had")


# -- the turn ----------------------------------------------------------------------------------------------------------


def check_decided(store: Store, run: str | None, name: str, view: View) -> None:
    """Raise `ConfigurationError` where a session's last `run` waits for a decision."""
    waiting = store.waiting(run) if run is not None else []
    if waiting:
        how = "; ".join(view.how_to_decide(one.id, one.tool, is_question=bool(one.question)) for one in waiting)
        raise ConfigurationError(f"session {word(name)} waits for a decision: {how}")


def check_prompt(found: FoundSession, runner: Runner) -> None:
    """Raise `ConfigurationError` for a prompt that cannot tell the model of the turns before."""
    from agentkit.react_json.prompt import HISTORY

    if in_conversation(found.turns) and HISTORY not in runner.prompt.fields:
        raise ConfigurationError(
            f"prompt {word(runner.prompt.name)} has no place for the earlier turns of session {word(found.name)}; add "
            f"a line [messages {HISTORY}?], or give another --prompt"
        )


def adopt(found: FoundSession, store: Store) -> None:
    """Make a run that was in no session the first turn of one."""
    if not found.adopts or found.last is None:
        return
    from agentkit.sessions.session import facts_of

    store.session(found.name)
    store.add_turn(found.name, found.last.id)
    store.keep_facts(found.name, facts_of(found.last.spec))


@contextmanager
def turn(session: Session, question: str, *, by_user: bool) -> Iterator[tuple[Any, dict[str, Any]]]:
    """The block of a session's next turn: what runs it, and its inputs."""
    with session.turn(question) as (executor, inputs):
        know_run(session.store, session.store.turns(session.name)[-1], by_user=by_user)
        yield executor, inputs
