"""The store: sessions, runs with all that happened in them, calls that wait for a decision, and memories.

with Store.find() as store:
    run = store.begin(spec, session="trip", number=0)
    with store.held_run(run):
        for event in …: store.append(run, event)
"""

from __future__ import annotations

import json
import os
import secrets
import time
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from agentkit.errors import CassetteError, StoreError, in_one_line, short_repr
from agentkit.events import BrokenOff, Event, Finished, PartialAnswer, Pending, Token, ToolInput, Verdict, Waiting
from agentkit.printable import json_text
from agentkit.secrets import REDACTED, Secrets
from agentkit.sessions import schema
from agentkit.sessions.address import Address, find_address
from agentkit.sessions.database import BUSY_S, Conflict, Database
from agentkit.tool import is_content, text_of

if TYPE_CHECKING:
    from agentkit.cassette.format.run_spec import RunSpec

RunStatus = Literal["running", "finished", "waiting", "broken_off"]
"""A run that was killed is "broken_off" too: nobody holds it any more, see `Store.held_run`."""
DecisionKind = Literal["approval", "question"]
DecisionStatus = Literal["waiting", "approved", "denied", "answered"]

LONGEST_NAME = 200
WAIT_S = 10.0
"""How long a session that somebody else is using is waited for."""
_MOST_NAMED = 5
_AT_ONCE = 100  # runs of a list that are read together


# -- what is kept ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEntry:
    """A run in a list of runs. `output` is its answer, or what there was instead, as text."""

    id: str
    question: str
    status: RunStatus
    stop_reason: str | None
    output: str | None
    session: str | None
    started: datetime
    ended: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun(RunEntry):
    """A run with what it was started with, and all that happened in it."""

    spec: RunSpec
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Whether a call may run, or what its tool asks. `edit` are the arguments it was approved with instead of its own.

    `message` is why it was denied, or what was answered.
    """

    id: str
    run: str
    kind: DecisionKind
    tool: str
    tool_input: ToolInput
    question: str
    status: DecisionStatus
    edit: ToolInput | None
    message: str
    by: str | None
    asked: datetime
    decided: datetime | None

    @property
    def verdict(self) -> Verdict | None:
        """What a run goes on with; None as long as it waits."""
        match self.status:
            case "approved":
                return Verdict(self.id, "yes", self.message, self.edit)
            case "denied":
                return Verdict(self.id, "no", self.message)
            case "answered":
                return Verdict(self.id, "answer", self.message)
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session; `facts` are what it keeps beside its turns, as its model."""

    name: str
    facts: Mapping[str, Any]
    turns: int
    created: datetime
    used: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What was to be remembered."""

    id: str
    text: str
    at: datetime


# -- ids ---------------------------------------------------------------------------------------------------------------

_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base32: https://www.crockford.com/base32.html
_MISREAD = str.maketrans("ilo", "110")
_FIRST_MS = 1_577_836_800_000  # 2020: 40 bits of milliseconds last until 2054
_RANDOM_BITS = 25


@dataclass(slots=True)
class _Ids:
    """Ids of 13 characters, sorted by time; those of one process in the order in which they were made."""

    _last_ms: int = 0

    def new(self) -> str:
        self._last_ms = max(time.time_ns() // 1_000_000, self._last_ms + 1)
        number = (self._last_ms - _FIRST_MS) << _RANDOM_BITS | secrets.randbits(_RANDOM_BITS)
        return "".join(_DIGITS[number >> shift & 31] for shift in range(60, -1, -5))


# -- the store ---------------------------------------------------------------------------------------------------------


class Store:
    """One store, in a file or on a server; threads may share it, and a forked process has connections of its own.

    Every method raises `StoreError`. What takes an id takes the beginning of one that no other begins with. Nothing is
    written with a secret of `environment` in it. `wait_s` is how long a write to a file waits for those of others.
    """

    def __init__(
        self,
        address: str | os.PathLike[str] | Address,
        *,
        environment: Mapping[str, str] = os.environ,
        wait_s: float = BUSY_S,
    ) -> None:
        self._address = address if isinstance(address, Address) else Address.of(address)
        self._environment = environment
        self._known_secrets = Secrets(environment)
        self._ids = _Ids()
        self._next: dict[str, int] = {}  # the number of the next event of each run that is written here
        self._database = Database(self._address, wait_s=wait_s)

    @classmethod
    def find(
        cls, address: str | os.PathLike[str] | None = None, environment: Mapping[str, str] = os.environ
    ) -> Store | None:
        """The store at this address, else at `AGENTKIT_STORE`, else in the user's own file; None where that is `none`.

        `agentkit.sessions.address.find_address` says which without loading a database's library.
        """
        found = find_address(address, environment)
        return None if found is None else cls(found, environment=environment)

    @property
    def address(self) -> str:
        """Where it is, without user and password."""
        return str(self._address)

    @property
    def path(self) -> Path | None:
        """Its file; None on a server."""
        return self._address.path

    def close(self) -> None:
        """Close its connections."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Store({self.address!r})"

    # -- runs ----------------------------------------------------------------------------------------------------------

    def begin(
        self,
        spec: RunSpec,
        *,
        session: str | None = None,
        number: int | Literal["next"] | None = None,
        key: str | None = None,
    ) -> str:
        """Keep a run that begins, and give its id; with a `number` it is that turn of its `session`, which is made.

        `run_of` finds it by its `key`, of which there is no second.
        """
        kept = spec.scrubbed(self._scrubbed)
        question = _question(kept.inputs)
        row = {
            "spec": self._scrubbed(kept.to_mapping()),
            "version": kept.version,
            "question": question,
            "status": "running",
            "searched": schema.folded(question),
            "started": _now(),
        }
        key = None if key is None else schema.clean(key)
        try:
            with self._database.writing() as connection:
                id_ = self._new_id(connection, schema.runs)
                session_id = None if session is None else self._session_id(connection, session, make=True)
                connection.execute(sa.insert(schema.runs).values(id=id_, key=key, session=session_id, **row))
                if session_id is not None and number is not None:
                    self._add_turn(connection, session_id, str(session), id_, None if number == "next" else number)
        except Conflict:
            raise StoreError(f"A run with the key {short_repr(key)} is there already; go on with that one") from None
        self._next[id_] = 0
        return id_

    def append(self, run: str, event: Event) -> None:
        """Keep what happened next in a run, in one transaction; a `Waiting` with the decisions that it waits for.

        Pieces of text as they arrive are not kept. Raises `StoreError` where another process wrote meanwhile.
        """
        from agentkit.cassette.format.events import as_mapping  # with the core, which a list of runs does not need

        if isinstance(event, Token | PartialAnswer):
            return
        try:
            kept = self._scrubbed(as_mapping(event))
        except RecursionError:  # of what a server sent with a call; whatever tools give is cut
            raise StoreError(f"An event of run {run} is nested too deep to be kept; ask another server") from None
        row = {"event": kept, "searched": _searched(kept, "observed"), "at": _now()}
        try:
            with self._database.writing() as connection:
                number = self._next.get(run)
                if number is None:
                    run, number = self._take_up(connection, run)
                connection.execute(sa.insert(schema.events), {"run": run, "number": number, **row})
                self._keep_status(connection, run, event, kept)
        except Conflict as conflict:
            if conflict.is_missing:
                self._next.pop(run, None)
                raise StoreError(f"Run {run} was deleted while it was written; begin another") from None
            raise StoreError(f"Run {run} is written by another process too; let one of them end") from None
        if isinstance(event, Finished | BrokenOff | Waiting):
            self._next.pop(run, None)
        else:
            self._next[run] = number + 1

    def run(self, id: str) -> StoredRun:
        """A run with its events."""
        from agentkit.cassette.format.events import EventReader
        from agentkit.cassette.format.run_spec import RunSpec

        with self._database.reading() as connection:
            run = self._one(connection, schema.runs, id)
            row = connection.execute(
                _entries().add_columns(schema.runs.c.spec, schema.runs.c.version).where(schema.runs.c.id == run)
            ).one()
            rows = (
                connection.execute(
                    sa.select(schema.events.c.event).where(schema.events.c.run == run).order_by(schema.events.c.number)
                )
                .scalars()
                .all()
            )
        (entry,) = self._with_status([row])
        try:
            spec = RunSpec.from_mapping(row.spec, version=row.version)
            reader = EventReader(spec.inputs, spec.given_steps)
            events = tuple(reader.read({**event, "run": 1}).event for event in rows)
        except CassetteError as error:
            raise StoreError(
                f"Run {run} cannot be read ({in_one_line(error, 200)}); upgrade agentkit, or delete it"
            ) from None
        return StoredRun(**entry, spec=spec, events=events)

    def runs(
        self,
        *,
        most: int | None = None,
        search: str | None = None,
        session: str | None = None,
        status: RunStatus | None = None,
    ) -> list[RunEntry]:
        """Runs, the newest first: those whose question, answer and observations together have each word of `search`."""
        if status is not None and status not in get_args(RunStatus):
            raise StoreError(f"No run is ever {short_repr(status)}; expected one of {', '.join(get_args(RunStatus))}")
        query = _entries().order_by(schema.runs.c.started.desc(), schema.runs.c.id.desc())
        for word in schema.folded(search or "").split():
            observed = schema.events.c.searched.contains(word, autoescape=True)
            query = query.where(
                schema.runs.c.searched.contains(word, autoescape=True)
                | sa.exists().where(schema.events.c.run == schema.runs.c.id, observed)
            )
        if session is not None:
            query = query.where(schema.sessions.c.name == schema.clean(session))
        open_ = ("running", "broken_off")
        if status is not None:
            query = query.where(schema.runs.c.status.in_(open_ if status in open_ else (status,)))
        found: list[RunEntry] = []
        with (
            self._database.reading() as connection,
            connection.execution_options(yield_per=_AT_ONCE).execute(query) as result,
        ):
            for rows in result.partitions():
                entries = (RunEntry(**entry) for entry in self._with_status(rows))
                found += (entry for entry in entries if status in (None, entry.status))
                if most is not None and len(found) >= most:
                    return found[:most]
        return found

    def length(self, run: str) -> int:
        """How many events a run has so far."""
        with self._database.reading() as connection:
            run = self._one(connection, schema.runs, run)
            count = sa.select(sa.func.count()).where(schema.events.c.run == run)
            return int(connection.execute(count).scalar_one())

    def run_of(self, key: str) -> str | None:
        """The id of the run that began with this key."""
        with self._database.reading() as connection:
            found = connection.execute(sa.select(schema.runs.c.id).where(schema.runs.c.key == schema.clean(key)))
            return found.scalar_one_or_none()

    def last_run(self) -> str | None:
        """The id of the run that began last."""
        newest = sa.select(schema.runs.c.id).order_by(schema.runs.c.started.desc(), schema.runs.c.id.desc()).limit(1)
        with self._database.reading() as connection:
            return connection.execute(newest).scalar_one_or_none()

    def delete(self, run: str) -> str:
        """Delete a run with its events and decisions, also from its sessions; gives its id. One that is held stays."""
        with self._database.reading() as connection:
            run = self._one(connection, schema.runs, run)
        with self.held_run(run), self._database.writing() as connection:
            connection.execute(sa.delete(schema.runs).where(schema.runs.c.id == run))
        return run

    def held_run(self, run: str, *, wait_s: float = 0.0) -> AbstractContextManager[None]:
        """Hold a run while the block lasts: whoever writes one does, and a run that nobody holds is not running."""
        with self._database.reading() as connection:
            run = self._one(connection, schema.runs, run)
        self._next.pop(run, None)  # another may have written it since
        return self._database.held(_lock_of(run), f"Run {run}", wait_s)

    def _take_up(self, connection: sa.Connection, run: str) -> tuple[str, int]:
        """A run's id and the number of its next event; it runs from now on."""
        run = self._one(connection, schema.runs, run)
        last = connection.scalar(sa.select(sa.func.max(schema.events.c.number)).where(schema.events.c.run == run))
        connection.execute(sa.update(schema.runs).where(schema.runs.c.id == run).values(**_RUNS))
        return run, 0 if last is None else last + 1

    def _keep_status(self, connection: sa.Connection, run: str, event: Event, kept: Mapping[str, Any]) -> None:
        mine = schema.runs.c.id == run
        match event:
            case Waiting():
                values: dict[str, Any] = {"status": "waiting"}
                self._ask(connection, run, (one for one in event.outcomes if isinstance(one, Pending)))
            case Finished():
                reason, question = event.summary.stop_reason, sa.select(schema.runs.c.question).where(mine)
                values = {"status": "waiting" if reason == "waiting" else "finished", "stop_reason": reason}
                values["output"] = _text_in(kept, "output")
                values["searched"] = f"{schema.folded(connection.scalar(question) or '')}\n{_searched(kept, 'output')}"
            case BrokenOff():
                values = {"status": "broken_off", "stop_reason": None, "output": kept.get("message", "")}
            case _:
                return
        connection.execute(sa.update(schema.runs).where(mine).values(**values, ended=_now()))

    def _with_status(self, rows: Iterable[sa.Row[Any]]) -> Iterator[dict[str, Any]]:
        """Entries of runs; one that says that it is running and is held by nobody was broken off."""
        names = RunEntry.__slots__
        entries = [{name: getattr(row, name) for name in names} for row in rows]
        locks = {_lock_of(entry["id"]) for entry in entries if entry["status"] == "running"}
        held = self._database.are_held(locks)
        for entry in entries:
            is_gone = entry["status"] == "running" and _lock_of(entry["id"]) not in held
            yield entry | ({"status": "broken_off"} if is_gone else {})

    # -- decisions -----------------------------------------------------------------------------------------------------

    def ask(self, run: str, pending: Iterable[Pending]) -> None:
        """Keep calls that wait for a decision; one that was asked for before stays as it is."""
        with self._database.writing() as connection:
            self._ask(connection, self._one(connection, schema.runs, run), pending)

    def _ask(self, connection: sa.Connection, run: str, pending: Iterable[Pending]) -> None:
        for place, one in enumerate(pending):
            asked = sa.select(schema.decisions.c.run).where(schema.decisions.c.id == schema.clean(one.id))
            earlier = connection.execute(asked).scalar_one_or_none()
            if earlier not in (None, run):
                raise StoreError(f"A decision {one.id} of run {earlier} is there already; give each an id of its own")
            if earlier is None:
                kept = self._scrubbed({"tool_input": one.action.tool_input, "question": one.question})
                row = {"id": schema.clean(one.id), "run": run, "place": place, "tool": one.action.tool, **kept}
                kind = "question" if one.question else "approval"
                connection.execute(
                    sa.insert(schema.decisions).values(kind=kind, status="waiting", message="", asked=_now(), **row)
                )

    def decision(self, id: str) -> Decision:
        """One decision, taken or not."""
        with self._database.reading() as connection:
            (found,) = self._decisions(connection, schema.decisions.c.id == self._one(connection, schema.decisions, id))
            return found

    def decisions(self, run: str) -> list[Decision]:
        """All decisions of a run, in the order in which they were asked for."""
        with self._database.reading() as connection:
            return self._decisions(connection, schema.decisions.c.run == self._one(connection, schema.runs, run))

    def waiting(self, run: str | None = None) -> list[Decision]:
        """The decisions that wait, of one run or of all."""
        with self._database.reading() as connection:
            waits = schema.decisions.c.status == "waiting"
            if run is not None:
                waits &= schema.decisions.c.run == self._one(connection, schema.runs, run)
            return self._decisions(connection, waits)

    def decide(
        self,
        id: str,
        yes: bool | None = None,
        *,
        edit: ToolInput | None = None,
        message: str | None = None,
        by: str | None = None,
    ) -> Decision:
        """Decide whether a call may run, perhaps with other arguments, or answer what its tool asks by `message`.

        The first decision counts; raises `StoreError` for a second.
        """
        with self._database.writing() as connection:
            mine = schema.decisions.c.id == self._one(connection, schema.decisions, id)
            (asked,) = self._decisions(connection, mine)
            status = check_decision(asked, yes, edit, message)
            values = self._scrubbed({"edit": edit, "message": message or "", "by": by})
            if edit is not None and REDACTED in schema.as_json(values["edit"]):
                raise StoreError(f"The input for {asked.tool} holds a secret, which is not kept; leave it out")
            decided = connection.execute(
                sa.update(schema.decisions)
                .where(mine, schema.decisions.c.status == "waiting")
                .values(status=status, decided=_now(), **values)
            )
            (now,) = self._decisions(connection, mine)
        if not decided.rowcount:
            when = now.decided.astimezone() if now.decided is not None else now.asked
            who = f" by {now.by}" if now.by else ""
            raise StoreError(
                f"Decision {now.id} was {now.status} at {when:%Y-%m-%d %H:%M:%S}{who}; the first one counts"
            )
        return now

    @staticmethod
    def _decisions(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[Decision]:
        table = schema.decisions
        columns = [table.c[name] for name in Decision.__slots__]
        query = sa.select(*columns).where(which).order_by(table.c.asked, table.c.place, table.c.id)
        return [Decision(**row._mapping) for row in connection.execute(query)]

    # -- sessions ------------------------------------------------------------------------------------------------------

    def session(self, name: str) -> StoredSession:
        """The session of this name, which is made if there is none."""
        with self._database.reading() as connection:
            if there := self._sessions(connection, schema.sessions.c.name == self._name(name)):
                return there[0]
        with self._database.writing() as connection:
            id_ = self._session_id(connection, name, make=True)
            return self._sessions(connection, schema.sessions.c.id == id_)[0]

    def sessions(self) -> list[StoredSession]:
        """All sessions, the one used last first."""
        with self._database.reading() as connection:
            return self._sessions(connection, sa.true())

    def last_session(self) -> str | None:
        """The name of the session that was used last: made, or given a turn."""
        newest = sa.select(schema.sessions.c.name).order_by(*_USED_LAST).limit(1)
        with self._database.reading() as connection:
            return connection.execute(newest).scalar_one_or_none()

    def keep_facts(self, name: str, facts: Mapping[str, Any]) -> None:
        """Keep these beside a session's turns, in the place of what was kept before."""
        with self._database.writing() as connection:
            id_ = self._session_id(connection, name)
            kept = self._scrubbed(dict(facts))
            connection.execute(sa.update(schema.sessions).where(schema.sessions.c.id == id_).values(facts=kept))

    def turns(self, name: str) -> list[str]:
        """The ids of a session's runs, in their order."""
        with self._database.reading() as connection:
            id_ = self._session_id(connection, name)
            query = sa.select(schema.turns.c.run).where(schema.turns.c.session == id_)
            return [*connection.execute(query.order_by(schema.turns.c.number)).scalars()]

    def add_turn(self, name: str, run: str, number: int | None = None) -> None:
        """Make a run the turn of this number, or the one after the last; raises `StoreError` where there is one."""
        with self._database.writing() as connection:
            run = self._one(connection, schema.runs, run)
            self._add_turn(connection, self._session_id(connection, name), name, run, number)

    def undo(self, name: str) -> str | None:
        """Take a session's last turn off and give its run, which stays in the log; None where there is no turn."""
        with self._database.writing() as connection:
            id_ = self._session_id(connection, name)
            mine = schema.turns.c.session == id_
            last = connection.execute(
                sa.select(schema.turns.c.number, schema.turns.c.run).where(mine).order_by(schema.turns.c.number.desc())
            ).first()
            if last is None:
                return None
            connection.execute(sa.delete(schema.turns).where(mine, schema.turns.c.number == last.number))
            return str(last.run)

    def fork(self, name: str, new_name: str) -> StoredSession:
        """A new session with the same facts and turns, which goes on by itself."""
        session, turn = schema.sessions.c, schema.turns.c
        try:
            with self._database.writing() as connection:
                id_ = self._session_id(connection, name)
                facts = connection.execute(sa.select(session.facts).where(session.id == id_)).scalar_one()
                new_id = self._make_session(connection, new_name, facts)
                same = sa.select(sa.literal(new_id), turn.number, turn.run).where(turn.session == id_)
                connection.execute(sa.insert(schema.turns).from_select(["session", "number", "run"], same))
                return self._sessions(connection, session.id == new_id)[0]
        except Conflict:
            raise _is_there(new_name) from None

    def rename(self, name: str, new_name: str) -> None:
        """Give a session another name."""
        checked = self._name(new_name)
        try:
            with self._database.writing() as connection:
                id_ = self._session_id(connection, name)
                connection.execute(sa.update(schema.sessions).where(schema.sessions.c.id == id_).values(name=checked))
        except Conflict:
            raise _is_there(new_name) from None

    def delete_session(self, name: str) -> None:
        """Delete a session; its runs stay in the log."""
        with self._database.writing() as connection:
            id_ = self._session_id(connection, name)
            connection.execute(sa.delete(schema.sessions).where(schema.sessions.c.id == id_))

    def held_session(self, name: str, *, wait_s: float = WAIT_S) -> AbstractContextManager[None]:
        """Hold a session while the block lasts, whether it is there yet or not: nobody else adds a turn meanwhile."""
        name = self._name(name)
        return self._database.held(f"session {name}", f"Session {name!r}", wait_s)

    def _session_id(self, connection: sa.Connection, name: str, *, make: bool = False) -> int:
        query = sa.select(schema.sessions.c.id).where(schema.sessions.c.name == self._name(name))
        found = connection.execute(query).scalar_one_or_none()
        if found is None and not make:
            raise StoreError(f"No session is named {short_repr(name)}; agentkit sessions lists those there are")
        if found is not None:
            return int(found)
        try:
            with connection.begin_nested():
                return self._make_session(connection, name, {})
        except IntegrityError:  # another process has just made it
            return int(connection.execute(query).scalar_one())

    def _make_session(self, connection: sa.Connection, name: str, facts: Mapping[str, Any]) -> int:
        now = _now()
        row = {"name": self._name(name), "facts": facts, "created": now, "used": now}
        made = connection.execute(sa.insert(schema.sessions).values(**row).returning(schema.sessions.c.id))
        return int(made.scalar_one())

    def _add_turn(self, connection: sa.Connection, session: int, name: str, run: str, number: int | None) -> None:
        if number is None:
            last = sa.select(sa.func.max(schema.turns.c.number)).where(schema.turns.c.session == session)
            number = connection.execute(sa.select(sa.func.coalesce(last.scalar_subquery(), -1) + 1)).scalar_one()
        try:
            connection.execute(sa.insert(schema.turns).values(session=session, number=number, run=run))
        except IntegrityError:
            raise StoreError(
                f"Session {name!r} has a turn {number}, or run {run}, already; somebody else went on with it: "
                "read its turns again"
            ) from None
        used = sa.update(schema.sessions).where(schema.sessions.c.id == session)
        connection.execute(used.values(used=_now()))

    @staticmethod
    def _sessions(connection: sa.Connection, which: sa.ColumnElement[bool]) -> list[StoredSession]:
        columns = schema.sessions.c
        count = sa.select(sa.func.count()).where(schema.turns.c.session == columns.id).scalar_subquery()
        query = sa.select(columns.name, columns.facts, columns.created, columns.used, count.label("turns"))
        return [StoredSession(**row._mapping) for row in connection.execute(query.where(which).order_by(*_USED_LAST))]

    # -- memories ------------------------------------------------------------------------------------------------------

    def remember(self, text: str) -> Memory:
        """Keep a text; what is remembered already stays as it is."""
        text = self._scrubbed(text.strip())
        if not text:
            raise StoreError("There is nothing to remember; give a text")
        table = schema.memories
        with self._database.writing() as connection:
            same = connection.execute(
                sa.select(table.c.id, table.c.text, table.c.at).where(table.c.text == text)
            ).first()
            if same is not None:
                return Memory(**same._mapping)
            memory = Memory(id=self._new_id(connection, table), text=text, at=_now())
            row = {"id": memory.id, "text": text, "at": memory.at, "words": " ".join(schema.words(text))}
            connection.execute(sa.insert(table).values(**row))
        return memory

    def recall(self, query: str, most: int = 5) -> list[Memory]:
        """The memories that share most with a text: words, whatever their case, accents and English endings are."""
        words = [*dict.fromkeys(schema.words(query))][:100]
        if not words:
            return []
        table = schema.memories
        columns = (table.c.id, table.c.text, table.c.at)
        with self._database.reading() as connection:
            if self.path is not None:
                index = sa.table("agentkit_memory_words", sa.column("id"), sa.column("rank"))
                matches = sa.literal_column("agentkit_memory_words").op("MATCH")(" OR ".join(f'"{w}"' for w in words))
                found = sa.select(*columns).join(index, index.c.id == table.c.id).where(matches).order_by(index.c.rank)
            else:
                vector = sa.func.to_tsvector(sa.literal_column("'english'"), table.c.words)
                asked = sa.func.to_tsquery(sa.literal_column("'english'"), " | ".join(f"'{w}'" for w in words))
                rank = sa.func.ts_rank(vector, asked).desc()
                found = sa.select(*columns).where(vector.op("@@")(asked)).order_by(rank)
            return [Memory(**row._mapping) for row in connection.execute(found.limit(most))]

    def memories(self) -> list[Memory]:
        """All memories, the newest first."""
        table = schema.memories
        query = sa.select(table.c.id, table.c.text, table.c.at).order_by(table.c.at.desc(), table.c.id.desc())
        with self._database.reading() as connection:
            return [Memory(**row._mapping) for row in connection.execute(query)]

    def forget(self, id: str) -> Memory:
        """Delete a memory, and give it."""
        table = schema.memories
        with self._database.writing() as connection:
            mine = table.c.id == self._one(connection, table, id)
            row = connection.execute(sa.select(table.c.id, table.c.text, table.c.at).where(mine)).one()
            connection.execute(sa.delete(table).where(mine))
            return Memory(**row._mapping)

    # -- all of them ---------------------------------------------------------------------------------------------------

    def _name(self, name: str) -> str:
        """A session's name; raises `StoreError` for one that cannot be kept."""
        checked = _checked_name(name)
        if self._scrubbed(checked) != checked:
            raise StoreError("A session's name is kept as it is, and this one holds a secret; give another")
        return checked

    def _scrubbed(self, value: Any) -> Any:
        """Plain values without the secrets that the environment holds now, as a cassette has them."""
        if self._known_secrets.environment_changed():
            self._known_secrets = Secrets(self._environment)
        kept = self._known_secrets.scrub(schema.plain(value))
        if not isinstance(kept, dict | list) or self._known_secrets.find(written := schema.as_json(kept)) is None:
            return kept
        try:  # what is none by itself, and is one where it stands
            return json.loads(self._known_secrets.scrub_text(written))
        except ValueError:
            return _redacted(kept)

    def _new_id(self, connection: sa.Connection, table: sa.Table) -> str:
        while True:
            id_ = self._ids.new()
            if connection.execute(sa.select(table.c.id).where(table.c.id == id_)).first() is None:
                return id_

    @staticmethod
    def _one(connection: sa.Connection, table: sa.Table, given: str) -> str:
        """The id that is given, or the only one that begins so."""
        what = _KINDS[table.name]
        wanted = schema.clean(given).strip() if isinstance(given, str) else ""
        if table is not schema.decisions:
            wanted = wanted.lower().translate(_MISREAD)
        named = short_repr(given)
        if not wanted:
            raise StoreError(f"No {what.lower()} is named {named}; give the beginning of an id")
        column = table.c.id
        found = connection.execute(sa.select(column).where(column == wanted)).scalars().all()
        if not found:
            begins = column.startswith(wanted, autoescape=True)
            query = sa.select(column).where(begins).order_by(column.desc()).limit(_MOST_NAMED + 1)
            found = connection.execute(query).scalars().all()
        if len(found) == 1:
            return str(found[0])
        if not found:
            raise StoreError(
                f"No {what.lower()} has an id that begins with {named}; agentkit {_LISTS[what]} lists those there are"
            )
        some = ", ".join(found[:_MOST_NAMED]) + (", …" if len(found) > _MOST_NAMED else "")
        raise StoreError(f"{what}s {some} begin with {named}; give more of the id")


_RUNS: Mapping[str, Any] = {"status": "running", "stop_reason": None, "output": None, "ended": None}
_KINDS = {schema.runs.name: "Run", schema.decisions.name: "Decision", schema.memories.name: "Memory"}
_LISTS = {"Run": "logs", "Decision": "approvals", "Memory": "memory"}
_USED_LAST = (schema.sessions.c.used.desc(), schema.sessions.c.id.desc())


def _entries() -> sa.Select[Any]:
    """The columns of a `RunEntry`."""
    columns = schema.runs.c
    named = (columns[name] for name in RunEntry.__slots__ if name != "session")
    of_session = schema.sessions.c.id == columns.session
    return sa.select(*named, schema.sessions.c.name.label("session")).outerjoin_from(
        schema.runs, schema.sessions, of_session
    )


def _now() -> datetime:
    return datetime.now(UTC)


def _lock_of(run: str) -> str:
    return f"run {run}"


def _question(inputs: Mapping[str, Any]) -> str:
    """What a run is about: its input of that name, else the first one."""
    found = inputs.get("input", next(iter(inputs.values()), ""))
    return str(schema.plain(found if isinstance(found, str) else schema.plain(found)))


def _redacted(value: Any) -> Any:
    """A value of the same form with nothing of what it said."""
    if isinstance(value, dict):
        return {name: _redacted(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_redacted(item) for item in value]
    return value if value is None or isinstance(value, bool) else REDACTED


def _text_in(kept: Mapping[str, Any], name: str) -> str | None:
    """The text of an event's observation or output, as it is kept."""
    value = kept.get(name)
    if isinstance(value, str | None):
        return value
    is_answer = name == "output" and not is_content(value["json"])
    return json_text(value["json"]) if is_answer else text_of(value["json"])


def _searched(kept: Mapping[str, Any], name: str) -> str | None:
    text = _text_in(kept, name)
    return None if text is None else schema.folded(text)


def _is_there(name: str) -> StoreError:
    return StoreError(f"A session named {short_repr(name)} is there already; give another name")


def _checked_name(name: str) -> str:
    """A session's name; raises `StoreError`."""
    if not isinstance(name, str) or not name.strip() or len(name) > LONGEST_NAME:
        raise StoreError(f"A session's name has 1 to {LONGEST_NAME} characters, not {short_repr(name)}; give another")
    if schema.clean(name) != name or any(unicodedata.category(one) in ("Cc", "Zl", "Zp") for one in name):
        raise StoreError(f"A session's name has no control characters, as {short_repr(name)} does; give another")
    return name.strip()


def check_decision(asked: Decision, yes: bool | None, edit: ToolInput | None, message: str | None) -> DecisionStatus:
    """What this decides; raises `StoreError` where it is none of what was asked."""
    if (
        not isinstance(yes, bool | None)
        or not isinstance(message, str | None)
        or not isinstance(edit, str | dict | None)
    ):
        raise StoreError(
            f"Decision {asked.id} is True or False, with an edit that is a text or a dict, and a message that is text; "
            f"saw {short_repr(yes)}, {short_repr(edit)}, {short_repr(message)}"
        )
    if asked.kind == "question":
        if yes is not None or edit is not None or message is None:
            raise StoreError(
                f"Decision {asked.id} is a question ({in_one_line(asked.question, 80)}); answer by a message"
            )
        return "answered"
    if yes is None:
        raise StoreError(f"Decision {asked.id} is whether {asked.tool} may run; say yes or no")
    if not yes and edit is not None:
        raise StoreError(f"Decision {asked.id} cannot be no and give other arguments; leave one of them out")
    return "approved" if yes else "denied"
