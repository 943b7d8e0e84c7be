"""Who works on a run or a session alone. A lock ends with its process, however that ends.

Beside a file they are locked files, on a server its session-level advisory locks, each on a connection of its own.
"""

from __future__ import annotations

import hashlib
import random
import re
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol, TypeVar
from weakref import WeakSet

from sqlalchemy import Connection, text

from agentkit.errors import StoreError
from agentkit.file_lock import FileLock, Holder, IsHeld

SHORTEST_S = 0.2
"""How long every lock is waited for: to look whether somebody has it takes it for a moment."""
_APPLICATION = re.compile(r"agentkit (\d+)@(.+)")
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

    def leave_to_parent(self) -> None:
        """In a process that was forked: what was held stays the parent's."""
        ...


_L = TypeVar("_L")


def _waited(take: Callable[[], _L], what: str, wait_s: float) -> _L:
    end_s = time.monotonic() + max(wait_s, SHORTEST_S)
    while True:
        try:
            return take()
        except IsHeld as held:
            if time.monotonic() >= end_s:
                who = held.holder or "another process"
                raise StoreError(f"{what} is in use by {who}; wait for its end, or end that process") from None
        time.sleep(random.uniform(0.002, 0.02))


class FileLocks:
    """Locked files beside the one at `path`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._taken: WeakSet[FileLock] = WeakSet()

    def take(self, name: str, what: str, wait_s: float) -> FileLock:
        lock = _waited(lambda: FileLock(self._file(name)), what, wait_s)
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

    def leave_to_parent(self) -> None:
        for lock in self._taken:
            lock.leave_to_parent()

    def _file(self, name: str) -> Path:
        return self._path.with_name(f".{self._path.name}.{hashlib.sha256(name.encode()).hexdigest()[:16]}.lock")


class ServerLock:
    """One advisory lock, which is its connection's."""

    def __init__(self, connection: Connection, name: str) -> None:
        if not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(name)}):
            raise IsHeld(_holder(connection, name))
        self._connection: Connection | None = connection

    def release(self) -> None:
        """Let another have it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def leave_to_parent(self) -> Connection | None:
        """In a process that was forked: the connection, which must stay open there."""
        connection, self._connection = self._connection, None
        return connection


class ServerLocks:
    """Advisory locks; each connection that `connect` gives holds one. `ask` gives one to ask by who holds them."""

    def __init__(self, connect: Callable[[], Connection], ask: Callable[[], Connection]) -> None:
        self._connect = connect
        self._ask = ask
        self._taken: WeakSet[ServerLock] = WeakSet()
        self._parents: list[Connection | None] = []

    def take(self, name: str, what: str, wait_s: float) -> ServerLock:
        connection = self._connect()
        try:
            lock = _waited(lambda: ServerLock(connection, name), what, wait_s)
        except BaseException:
            connection.close()
            raise
        self._taken.add(lock)
        return lock

    def are_held(self, names: Collection[str]) -> set[str]:
        if not names:
            return set()
        with self._ask() as connection:
            held = {*connection.scalars(text(f"SELECT {_LOCK_KEY} FROM pg_locks WHERE {_IS_ADVISORY}"))}
        return {name for name in names if _key(name) in held}

    def leave_to_parent(self) -> None:
        self._parents.extend(lock.leave_to_parent() for lock in self._taken)


def _key(name: str) -> int:
    """64 bits, as PostgreSQL has them: signed."""
    return int.from_bytes(hashlib.sha256(f"agentkit {name}".encode()).digest()[:8], signed=True)


def _holder(connection: Connection, name: str) -> Holder | None:
    """Whose connection it is, as far as the server tells this user."""
    row = connection.execute(
        text(
            "SELECT application_name, extract(epoch FROM backend_start)::float8 FROM pg_stat_activity JOIN pg_locks"
            f" USING (pid) WHERE {_LOCK_KEY} = :key AND {_IS_ADVISORY}"
        ),
        {"key": _key(name)},
    ).first()
    found = _APPLICATION.fullmatch(row[0] or "") if row is not None else None
    if row is None or found is None or row[1] is None:
        return None
    return Holder(int(found[1]), found[2], datetime.fromtimestamp(row[1], UTC))
