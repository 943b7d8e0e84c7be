"""A PostgreSQL server for tests: Debian's, in a temporary folder, on a Unix socket."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

USER = "postgres"
WITH_PASSWORD = "locked"
"""A user whose password is asked for."""
PASSWORD = "correct-horse-9-battery"
_NEWEST = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:]


def _program(name: str) -> str | None:
    return shutil.which(name, path=os.pathsep.join(map(str, [*_NEWEST, os.environ.get("PATH", "")])))


def missing() -> str:
    """Why there can be no server; "" where there can be one."""
    if not hasattr(os, "geteuid") or _program("initdb") is None:
        return "PostgreSQL is not installed (Debian's package postgresql)"
    import pwd

    try:
        pwd.getpwnam(USER)
    except KeyError:
        return f"root may not run PostgreSQL, and there is no user {USER}" if os.geteuid() == 0 else ""
    return ""


class Postgres:
    """The server, from the beginning of its block to the end. It refuses root, and is the user postgres' then.

    One that `syncs` loses nothing when its machine does.
    """

    def __init__(self, *, syncs: bool = False) -> None:
        self._syncs = syncs

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="agentkit-pg-"))
        self._numbers = count(1)
        self._as: dict[str, Any] = {"cwd": self._folder}
        if os.geteuid() == 0:
            import pwd

            account = pwd.getpwnam(USER)
            os.chown(self._folder, account.pw_uid, account.pw_gid)
            self._as |= {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        data = self._folder / "data"
        self._run("initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale", "C.UTF-8", "--no-sync")
        rules = f"local all {WITH_PASSWORD} scram-sha-256\nlocal all all trust\n"
        (data / "pg_hba.conf").write_text(rules, encoding="utf-8")
        options = (
            f"-k {self._folder} -c listen_addresses= -c fsync={'on' if self._syncs else 'off'} -c max_connections=200"
        )
        self._run("pg_ctl", "-D", data, "-w", "-l", self._folder / "log", "-o", options, "start")
        self.execute(f"CREATE ROLE {WITH_PASSWORD} LOGIN PASSWORD '{PASSWORD}'")
        return self

    def __exit__(self, *raised: object) -> None:
        self._run("pg_ctl", "-D", self._folder / "data", "-m", "immediate", "stop")
        shutil.rmtree(self._folder)

    def _run(self, name: str, *arguments: object) -> None:
        program = _program(name)
        assert program is not None
        subprocess.run([program, *map(str, arguments)], check=True, stdout=subprocess.DEVNULL, **self._as)

    def address(self, user: str = USER, *, database: str = "postgres", **parameters: str) -> str:
        """The address of a database."""
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in parameters.items())
        return f"postgresql://{user}@/{database}?host={quote(str(self._folder), safe='')}&{query}".rstrip("&")

    def new_address(self) -> str:
        """The address of a part of the database that nothing was written to."""
        name = f"part{next(self._numbers)}"
        self.execute(f"CREATE SCHEMA {name}")
        return self.address(options=f"-csearch_path={name}")

    def execute(self, statement: str) -> None:
        """One statement as the server's administrator."""
        import psycopg

        with psycopg.connect(self.address(), autocommit=True) as connection:
            connection.execute(statement)
