"""The index of a folder: one SQLite file, brought up to date file by file.

Several processes may do that at once: each takes the write lock for a few files at a time and passes over what another
has done meanwhile. What was committed survives a crash; the rest is done the next time.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from hashlib import blake2b, sha256
from itertools import islice
from pathlib import Path
from stat import S_ISREG
from urllib.parse import quote

from agentkit.tools.documents.passages import Passage
from agentkit.tools.documents.query import TOKENIZER, indexed_form
from agentkit.tools.documents.reading import Unread, read_file

OUTSIDE = -1
LEADS_OUT = "it is a link out of the folder"
NOT_ENTERED = frozenset({"node_modules", "__pycache__", "site-packages"})


@dataclass(frozen=True, slots=True)
class File:
    """A file below a folder; `path` has forward slashes. `size` is `OUTSIDE` for a link to what is not below it."""

    path: str
    size: int
    mtime_ns: int


def files_in(folder: Path) -> Iterator[File]:
    """Every file below the folder, whatever its kind, and the links that lead out of it.

    Hidden ones and what package managers install are left out. Links within the folder are followed, but no folder is
    entered twice. What cannot be listed, and names that are not UTF-8, are passed over.
    """
    root = Path(os.path.realpath(folder))
    entered: set[str] = set()
    for here, folders, names in os.walk(folder, followlinks=True):
        real, inside = os.path.realpath(here), Path(here).relative_to(folder).as_posix().removeprefix(".")
        if real in entered or not _is_below(real, root):
            folders.clear()
            if real not in entered and _is_utf8(inside):
                yield File(inside, OUTSIDE, 0)
            continue
        entered.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith(".") and name not in NOT_ENTERED)
        for name in sorted(name for name in names if not name.startswith(".")):
            path, own = f"{inside}/{name}".lstrip("/"), os.path.join(here, name)
            try:
                status = os.stat(own)
            except OSError:  # gone since, or a link to itself
                continue
            if not _is_utf8(path):
                continue
            if os.path.islink(own) and not _is_below(os.path.realpath(own), root):
                yield File(path, OUTSIDE, 0)
            elif S_ISREG(status.st_mode):
                yield File(path, status.st_size, status.st_mtime_ns)


def _is_below(real: str, root: Path) -> bool:
    return Path(real).is_relative_to(root)


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_below(folder: Path, path: str) -> bytes:
    """A file's content, as far as it may be read; raises `Unread` for what is no file below the folder by now."""
    root, own = Path(os.path.realpath(folder)), folder / path
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    with open(os.open(os.path.realpath(own), flags), "rb") as file:
        status, place = os.fstat(file.fileno()), os.path.realpath(own)
        if not S_ISREG(status.st_mode) or not _is_below(place, root) or not os.path.samestat(status, os.stat(place)):
            raise Unread(LEADS_OUT)
        if status.st_size > LARGEST_BYTES:
            raise Unread(f"larger than {LARGEST_BYTES:,} bytes")
        return file.read(LARGEST_BYTES)


VERSION = 1  # of the schema and of what the files are read into; part of the name of the file
LARGEST_BYTES = 200_000_000
FILES_A_COMMIT = 200
MOST_CHECKED_BYTES = 100_000_000  # of an index; to read it takes a fraction of a second
WAIT_S = 120.0
SETTLED_NS = 2_000_000_000  # a file this young may change again within one tick of its clock
TAKE_TURN = "BEGIN IMMEDIATE"  # waits for who writes now
UNSETTLED = -1  # a modification time that no file has: look again

_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS files (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, size INTEGER NOT NULL,
                                  mtime_ns INTEGER NOT NULL, digest BLOB NOT NULL, unread TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS passages (id INTEGER PRIMARY KEY, file INTEGER NOT NULL, line INTEGER NOT NULL,
                                     page INTEGER NOT NULL, heading TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS passages_of_file ON passages (file);
CREATE VIRTUAL TABLE IF NOT EXISTS words USING fts5(heading, body, content='', tokenize='{TOKENIZER}');
"""


def remove(path: Path) -> None:
    """Take an index away, for example a damaged one; what is no file stays."""
    for ending in ("", "-wal", "-shm", "-journal"):
        with suppress(OSError):
            Path(f"{path}{ending}").unlink()


def default_file(folder: Path, environment: Mapping[str, str] = os.environ) -> Path:
    """Where the index of a folder lies: in the user's cache folder, under the folder's name and address."""
    home = environment.get("XDG_CACHE_HOME") or environment.get("LOCALAPPDATA") or Path.home() / ".cache"
    absolute = folder.resolve()
    key = sha256(os.fsencode(absolute)).hexdigest()[:16]
    name = quote(absolute.name, safe="")[:40]
    return Path(home) / "agentkit" / "documents" / f"{name}-{key}-v{VERSION}.sqlite"


def connect(path: str | Path) -> sqlite3.Connection:
    """The index in a file, made where there is none; "" is one that goes with the connection."""
    connection = sqlite3.connect(path, timeout=WAIT_S, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA journal_mode = WAL")  # who searches does not wait for who writes
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -65536")
        before = _schema_of(connection)
        connection.executescript(_SCHEMA)
        if before:
            _check(connection)
        return connection
    except BaseException:
        connection.close()
        raise


_OBJECTS = "SELECT name, type, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY name"
_AT_ODDS = """
SELECT (SELECT count(*) FROM passages) != (SELECT count(*) FROM words_docsize)
    OR EXISTS (SELECT 1 FROM passages WHERE file NOT IN (SELECT id FROM files))
"""


def _schema_of(connection: sqlite3.Connection) -> list[tuple[str, str, str]]:
    return connection.execute(_OBJECTS).fetchall()


def _check(connection: sqlite3.Connection) -> None:
    """Raise `DatabaseError` where an index is not what was made."""
    with closing(sqlite3.connect(":memory:")) as new:
        new.executescript(_SCHEMA)
        if _schema_of(connection) != _schema_of(new):
            raise sqlite3.DatabaseError("it has other tables")
    pages, size = (connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    if pages * size < MOST_CHECKED_BYTES:
        (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok" or connection.execute(_AT_ODDS).fetchone()[0]:
            raise sqlite3.DatabaseError(f"it is damaged ({found})")


def bring_up_to_date(connection: sqlite3.Connection, folder: Path) -> int:
    """Put into the index what was added to the folder or changed, take out what is gone; how many files that was."""
    found = {file.path: file for file in files_in(folder)}
    rows = connection.execute("SELECT path, size, mtime_ns FROM files")
    known = {path: (size, mtime_ns) for path, size, mtime_ns in rows}
    gone = [path for path in known if path not in found]
    changed = [file for file in found.values() if known.get(file.path) != (file.size, file.mtime_ns)]
    count = len(changed) + len(gone)
    waiting = iter(changed)
    while batch := list(islice(waiting, FILES_A_COMMIT)):
        with connection:
            connection.execute(TAKE_TURN)
            for file in batch:
                _put(connection, folder, file)
    if gone:
        with connection:
            connection.execute(TAKE_TURN)
            for path in gone:
                _remove(connection, path)
    if count > 1000 and count > len(found) // 5:
        connection.execute("INSERT INTO words (words) VALUES ('optimize')")
    return count


def unread(connection: sqlite3.Connection) -> list[tuple[str, int, str]]:
    """(reason, how many files, one of them) for what could not be read."""
    query = "SELECT unread, count(*), min(path) FROM files WHERE unread != '' GROUP BY unread ORDER BY 2 DESC"
    return connection.execute(query).fetchall()


def _put(connection: sqlite3.Connection, folder: Path, file: File) -> None:
    row = connection.execute("SELECT size, mtime_ns, digest FROM files WHERE path = ?", (file.path,)).fetchone()
    if row is not None and row[:2] == (file.size, file.mtime_ns):
        return  # another process was faster
    mtime_ns = file.mtime_ns if file.size == OUTSIDE or file.mtime_ns < time.time_ns() - SETTLED_NS else UNSETTLED
    digest, reason = b"", ""
    passages: Sequence[Passage] = ()
    try:
        if file.size == OUTSIDE:
            raise Unread(LEADS_OUT)
        content = read_below(folder, file.path)
        digest = blake2b(content, digest_size=16).digest()
        if row is not None and row[2] == digest:
            statement = "UPDATE files SET size = ?, mtime_ns = ? WHERE path = ?"
            connection.execute(statement, (len(content), mtime_ns, file.path))
            return
        passages = read_file(file.path, content)
    except (OSError, Unread) as error:
        reason = str(error) if isinstance(error, Unread) else f"it cannot be opened ({type(error).__name__})"
        if not isinstance(error, Unread) or error.may_change:
            mtime_ns, digest = UNSETTLED, b""
    _remove(connection, file.path)
    _insert(connection, (file.path, file.size, mtime_ns, digest, reason), passages)


def _insert(connection: sqlite3.Connection, row: tuple[object, ...], passages: Sequence[Passage]) -> None:
    statement = "INSERT INTO files (path, size, mtime_ns, digest, unread) VALUES (?, ?, ?, ?, ?)"
    file = connection.execute(statement, row).lastrowid
    first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM passages").fetchone()[0]
    connection.executemany(
        "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)",
        [(first + n, file, p.line, p.page, p.heading, p.body) for n, p in enumerate(passages)],
    )
    path = str(row[0])
    connection.executemany(
        "INSERT INTO words (rowid, heading, body) VALUES (?, ?, ?)",
        [(first + n, *_words(path, p.heading, p.body)) for n, p in enumerate(passages)],
    )


def _remove(connection: sqlite3.Connection, path: str) -> None:
    row = connection.execute("SELECT id FROM files WHERE path = ?", (path,)).fetchone()
    if row is None:
        return
    old = connection.execute("SELECT id, heading, body FROM passages WHERE file = ?", row).fetchall()
    connection.executemany(  # FTS5 forgets a text only when it is told that text
        "INSERT INTO words (words, rowid, heading, body) VALUES ('delete', ?, ?, ?)",
        [(number, *_words(path, heading, body)) for number, heading, body in old],
    )
    connection.execute("DELETE FROM passages WHERE file = ?", row)
    connection.execute("DELETE FROM files WHERE id = ?", row)


def _words(path: str, heading: str, body: str) -> tuple[str, str]:
    """What is found by: the file's name is a heading too."""
    return indexed_form(f"{path} {heading}"), indexed_form(body)
