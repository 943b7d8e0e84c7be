"""A connection to where the store is: its transactions, and what goes wrong with it in one line each."""

from __future__ import annotations

import os
import random
import socket
import sqlite3
import time
import weakref
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import exc

from agentkit.errors import StoreError, import_failure, in_one_line
from agentkit.sessions.address import Address
from agentkit.sessions.locks import FileLocks, Locks, ServerLocks
from agentkit.sessions.schema import SCHEMA, Schema, is_empty

BUSY_S = 30.0
"""How long a write waits for those of other processes."""
CONNECT_S = 10
_PREPARING = "schema"
_ELSE = "AGENTKIT_STORE names another store"


class Conflict(StoreError):
    """What was written is there already, or what it belongs to `is_missing`."""

    def __init__(self, error: exc.IntegrityError) -> None:
        super().__init__("Another process has changed the same at the same time; try again")
        cause = error.orig
        name, state = getattr(cause, "sqlite_errorname", ""), getattr(cause, "sqlstate", "")
        self.is_missing = "FOREIGNKEY" in name or state == "23503"


class Database:
    """The database at an address, with the newest tables in it; raises `StoreError` where there can be none.

    Threads may share one. After a fork the child has connections of its own.
    """

    def __init__(self, address: Address, schema: Schema = SCHEMA, *, wait_s: float = BUSY_S) -> None:
        self.address = address
        self._wait_s = wait_s
        self._given_away: list[Any] = []
        self._locks: Locks
        with self._in_one_line():
            if address.path is not None:
                path = Path(os.path.realpath(address.path))  # a link has no locks of its own
                _make_file(path)
                self._engine = _file_engine(path, wait_s)
                self._locks = FileLocks(path)
            else:
                self._engine = _server_engine(address)
                self._locks = ServerLocks(_server_engine(address, isolation_level="AUTOCOMMIT", max_overflow=-1))
        self._writer = self._engine.execution_options(writes=True)
        isolation = {} if address.path is not None else {"isolation_level": "REPEATABLE READ"}
        self._reader = self._engine.execution_options(**isolation)
        _of_this_process().add(self)
        try:
            self._prepare(schema)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close all connections; a later use opens others."""
        self._engine.dispose()
        self._locks.close()

    def leave_to_parent(self) -> None:
        """In a process that was forked: its connections and locks stay the parent's."""
        self._given_away.append(self._engine.pool)  # the parent's connections: they must not be closed here
        self._engine.dispose(close=False)
        self._locks.leave_to_parent()

    # -- locks ---------------------------------------------------------------------------------------------------------

    @contextmanager
    def held(self, name: str, what: str, wait_s: float) -> Iterator[None]:
        """A lock of this name while the block lasts; raises `StoreError` if another has it for longer than `wait_s`."""
        with self._in_one_line():
            lock = self._locks.take(name, what, wait_s)
        try:
            yield
        finally:
            with self._in_one_line():
                lock.release()

    def are_held(self, names: Collection[str]) -> set[str]:
        """Those of the names whose lock somebody holds."""
        with self._in_one_line():
            return self._locks.are_held(names)

    # -- transactions --------------------------------------------------------------------------------------------------

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A transaction that sees one state of everything."""
        with self._in_one_line(), self._reader.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """A transaction that is committed at the end of its block, or leaves nothing. In a file it is alone."""
        with self._in_one_line(), self._writer.begin() as connection:
            yield connection

    def _prepare(self, schema: Schema) -> None:
        """The newest tables; of the processes that open an older store, one changes it and the others wait."""
        name = str(self.address)
        with self.reading() as connection:
            if schema.is_current(connection, name):
                return
            if self.address.path is not None and not _is_ours(connection):
                raise StoreError(f"{name} is the database of another program and stays as it is; name another file")
        with self.held(_PREPARING, f"The store {name}", self._wait_s):
            if self.address.path is not None:
                with self._in_one_line(), self._engine.connect() as connection:
                    connection.connection.execute("PRAGMA journal_mode = WAL").close()  # stands in the file from now on
            with self.writing() as connection:
                if not schema.is_current(connection, name):
                    schema.bring_up(connection)

    # -- failures ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _in_one_line(self) -> Iterator[None]:
        try:
            yield
        except exc.IntegrityError as error:
            raise Conflict(error) from error
        except (exc.SQLAlchemyError, sqlite3.Error, OSError, OverflowError) as error:
            raise StoreError(self._reason(error)) from (error if isinstance(error, OSError) else None)

    def _reason(self, error: Exception) -> str:
        cause = error.orig if isinstance(error, exc.DBAPIError) and error.orig is not None else error
        if isinstance(cause, sqlite3.Error):
            return f"{self.address} {_file_failure(cause)}"
        if isinstance(cause, OSError):
            return f"{self.address} cannot be used ({cause.strerror or in_one_line(cause)}); {_ELSE}"
        said = in_one_line(cause)
        for secret in self._passwords:
            said = said.replace(secret, "***")
        return f"{self.address} {_server_failure(said, getattr(cause, 'sqlstate', None) or '')}"

    @property
    def _passwords(self) -> Sequence[str]:
        with suppress(Exception):
            url = sa.make_url(self.address.url)
            found = (url.password, url.query.get("password"))
            return [one for one in found if isinstance(one, str) and one]
        return []


@cache
def _of_this_process() -> weakref.WeakSet[Database]:
    """The databases that are open, which a fork must not share."""
    found: weakref.WeakSet[Database] = weakref.WeakSet()

    def forked() -> None:
        for database in found:
            database.leave_to_parent()

    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=forked)
    return found


# -- files -------------------------------------------------------------------------------------------------------------


def _make_file(path: Path) -> None:
    """A file that only its user reads, where there is none. SQLite gives its others the same mode."""
    if path.is_dir():
        raise StoreError(f"{path} is a folder; name a file in it")
    if path.parent.exists() and not path.parent.is_dir():
        raise StoreError(f"{path.parent} is no folder; name a file in one")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _file_engine(path: Path, wait_s: float) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite+pysqlite", database=str(path)),
        connect_args={"timeout": wait_s, "check_same_thread": False},
        max_overflow=-1,
    )

    @sa.event.listens_for(engine, "connect")
    def connected(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # transactions begin as it is said below
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what was deleted is not in the file any more

    @sa.event.listens_for(engine, "begin")
    def begins(connection: sa.Connection) -> None:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        if connection.get_execution_options().get("writes", False):
            _begin_writing(driver, wait_s)
        else:
            driver.execute("BEGIN")

    return engine


def _begin_writing(connection: sqlite3.Connection, wait_s: float) -> None:
    """Wait for the other writers. SQLite itself does, with pauses of up to 100 ms, in which nobody writes."""
    end_s = time.monotonic() + wait_s
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        while True:
            try:
                connection.execute("BEGIN IMMEDIATE")
                return
            except sqlite3.OperationalError as error:
                if not getattr(error, "sqlite_errorname", "").startswith("SQLITE_BUSY") or time.monotonic() > end_s:
                    raise
            time.sleep(random.uniform(0.0005, 0.003))
    finally:
        connection.execute(f"PRAGMA busy_timeout = {wait_s * 1000:.0f}")


def _is_ours(connection: sa.Connection) -> bool:
    return is_empty(connection) or sa.inspect(connection).has_table("agentkit_version")


_FILE_FAILURES = {
    "SQLITE_NOTADB": "is no database; name another file",
    "SQLITE_CORRUPT": "is damaged; put a copy in its place, or name another file",
    "SQLITE_BUSY": "is locked by another program; end that one, or try again",
    "SQLITE_LOCKED": "is locked by another program; end that one, or try again",
    "SQLITE_READONLY": f"cannot be written; make it and its folder writable, or {_ELSE}",
    "SQLITE_PERM": f"may not be opened; make it and its folder writable, or {_ELSE}",
    "SQLITE_CANTOPEN": f"cannot be opened; make it and its folder writable, or {_ELSE}",
    "SQLITE_FULL": "cannot grow, its disk is full; make room and try again",
    "SQLITE_IOERR": "cannot be read or written by its disk; look after that, or name another file",
    "SQLITE_TOOBIG": "takes no value of more than a gigabyte; keep less of it",
}


def _file_failure(error: sqlite3.Error) -> str:
    name = getattr(error, "sqlite_errorname", None) or ""
    for kind, meaning in _FILE_FAILURES.items():
        if name == kind or name.startswith(f"{kind}_"):
            return meaning
    return f"cannot be used ({in_one_line(error, 200)}); {_ELSE}"


# -- servers -----------------------------------------------------------------------------------------------------------


def _server_engine(address: Address, **options: Any) -> sa.Engine:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise StoreError(import_failure(error, "psycopg", purpose=f"for {address}")) from error
    try:
        url = sa.make_url(address.url)
        if "connect_timeout" not in url.query:
            url = url.update_query_dict({"connect_timeout": str(CONNECT_S)})
        who = {"application_name": f"agentkit {os.getpid()} {socket.gethostname()}"[:63]}
        return sa.create_engine(url, pool_pre_ping=True, connect_args=who, **options)
    except (exc.ArgumentError, ValueError):
        raise StoreError(
            f"No store is at {address}: the address cannot be read; write postgresql://USER@HOST/DATABASE, with %40 "
            "for an @ in a password"
        ) from None


def _server_failure(said: str, state: str) -> str:
    """What a server means by its message, by the class of its SQLSTATE where there is one."""
    if state == "28P01" or "password authentication failed" in said or "no password supplied" in said:
        return "does not take this password; mend the user or the password in the address"
    if state == "3D000" or ("database" in said and "does not exist" in said):
        return "has no such database; create it, or mend the address"
    if state[:2] in ("42", "25") or "permission denied" in said:
        return f"refuses ({said[:200]}); give its user the right to create and write tables"
    if state in ("53100", "53200", "53300"):
        return f"has no room ({said[:200]}); try again later"
    if not state or state[:2] in ("08", "57"):
        return f"cannot be reached ({said[:300]}); start the server, or mend the address"
    return f"cannot be used ({said[:300]}); {_ELSE}"
