"""Who works on a run or a session alone. A lock ends with its process, however that ends.

Beside a file they are locked files, on a server its session-level advisory locks, each on a connection of its own
for as long as it is held.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from weakref import WeakSet

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from agentkit.errors import StoreError
from agentkit.file_lock import FileLock, Holder, IsHeld

SHORTEST_S = 0.2
"""How long every lock is waited for: to look whether somebody has it takes it for a moment."""
_APPLICATION = re.compile(r"agentkit (\d{1,10}) (\d{1,11}) (.+)")
_TIMED_OUT = "55P03"
_LOCK_KEY = "(classid::bigint << 32) | objid::bigint"
_IS_ADVISORY = (
    "locktype = 'advisory' AND granted AND objsubid = 1"
    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)


class Lock(Protocol):
    """What is held."""

    def release(self) -> None:
        """Let another have it."""
        ...


class Locks(Protocol):
    """Locks by name. `what` is the thing as a message names it."""

    def take(self, name: str, what: str, wait_s: float) -> Lock:
        """Hold it from now on; raises `StoreError` if another has it for longer than `wait_s`."""
        ...

    def are_held(self, names: Collection[str]) -> set[str]:
        """Those of the names that somebody holds."""
        ...

    def close(self) -> None:
        """Close what no lock needs."""
        ...

    def leave_to_parent(self) -> None:
        """In a process that was forked: what was held stays the parent's."""
        ...


def _refusal(what: str, holder: Holder | None) -> StoreError:
    return StoreError(f"{what} is in use by {holder or 'another process'}; wait for its end, or end that process")


class FileLocks:
    """Locked files beside the one at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: WeakSet[FileLock] = WeakSet()

    def take(self, name: str, what: str, wait_s: float) -> FileLock:
        end_s = time.monotonic() + max(wait_s, SHORTEST_S)
        while True:
            try:
                lock = FileLock(self._file(name))
            except IsHeld as held:
                if time.monotonic() >= end_s:
                    raise _refusal(what, held.holder) from None
                time.sleep(random.uniform(0.002, 0.02))
            else:
                self._taken.add(lock)
                return lock

    def are_held(self, names: Collection[str]) -> set[str]:
        return {name for name in names if self._is_held(self._file(name))}

    @staticmethod
    def _is_held(file: Path) -> bool:
        if not file.exists():
            return False
        with suppress(OSError):  # of a folder that cannot be written: nobody can hold anything in it
            try:
                FileLock(file).release()
            except IsHeld:
                return True
        return False

    def close(self) -> None:
        pass

    def leave_to_parent(self) -> None:
        for lock in self._taken:
            lock.leave_to_parent()

    def _file(self, name: str) -> Path:
        return self._path.with_name(f".{self._path.name}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")


class ServerLock:
    """One advisory lock, which is its connection's."""

    def __init__(self, connection: Connection, name: str) -> None:
        self._connection: Connection | None = connection
        self._key = _key(name)

    def release(self) -> None:
        """Let another have it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with connection:
                try:
                    connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": self._key})
                except DBAPIError:  # of a connection that has ended, and the lock with it
                    connection.invalidate()

    def leave_to_parent(self) -> Connection | None:
        """In a process that was forked: the connection, which must stay open there."""
        connection, self._connection = self._connection, None
        return connection


class ServerLocks:
    """Advisory locks. Each is held by a connection of `engine`, whose transactions are single statements."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._taken: WeakSet[ServerLock] = WeakSet()
        self._parents: list[Any] = []

    def take(self, name: str, what: str, wait_s: float) -> ServerLock:
        connection = self._engine.connect()
        try:
            self._wait(connection, name, what, wait_s)
            holder = Holder.here()
            who = f"agentkit {holder.pid} {holder.since.timestamp():.0f} {holder.host}"[:63]
            connection.execute(text("SELECT set_config('application_name', :who, false)"), {"who": who})
        except BaseException:
            connection.invalidate()  # it may have come to hold it
            connection.close()
            raise
        lock = ServerLock(connection, name)
        self._taken.add(lock)
        return lock

    @staticmethod
    def _wait(connection: Connection, name: str, what: str, wait_s: float) -> None:
        longest = {"longest": f"{max(wait_s, SHORTEST_S) * 1000:.0f}ms"}
        connection.execute(text("SELECT set_config('lock_timeout', :longest, false)"), longest)
        try:
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key(name)})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) != _TIMED_OUT:
                raise
            raise _refusal(what, _holder(connection, name)) from None

    def are_held(self, names: Collection[str]) -> set[str]:
        if not names:
            return set()
        with self._engine.connect() as connection:
            held = {*connection.scalars(text(f"SELECT {_LOCK_KEY} FROM pg_locks WHERE {_IS_ADVISORY}"))}
        return {name for name in names if _key(name) in held}

    def close(self) -> None:
        self._engine.dispose()

    def leave_to_parent(self) -> None:
        self._parents += [self._engine.pool, *(lock.leave_to_parent() for lock in self._taken)]
        self._engine.dispose(close=False)


def _key(name: str) -> int:
    """64 bits, as PostgreSQL has them: signed."""
    return int.from_bytes(hashlib.sha256(f"agentkit {name}".encode()).digest()[:8], signed=True)


def _holder(connection: Connection, name: str) -> Holder | None:
    """Whose connection it is, as far as the server tells this user."""
    row = connection.execute(
        text(
            "SELECT application_name FROM pg_stat_activity JOIN pg_locks USING (pid)"
            f" WHERE {_LOCK_KEY} = :key AND {_IS_ADVISORY}"
        ),
        {"key": _key(name)},
    ).first()
    found = _APPLICATION.fullmatch(row[0] or "") if row is not None else None
    return Holder(int(found[1]), found[3], datetime.fromtimestamp(int(found[2]), UTC)) if found is not None else None
