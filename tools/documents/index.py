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
from agentkit.tools.documents.reading import MOST_S, TOO_LONG, Unread, read_file
from agentkit.user_files import is_users_alone, user_folder

MOST_LEVELS = 100  # of folders within each other
OUTSIDE, TOO_DEEP = -1, -2
LEADS_OUT = "it is a link out of the folder"
_UNREAD = {OUTSIDE: LEADS_OUT, TOO_DEEP: f"it lies more than {MOST_LEVELS} folders deep"}
NOT_ENTERED = frozenset({"node_modules", "__pycache__", "site-packages"})


@dataclass(frozen=True, slots=True)
class File:
    """A file below a folder; `path` has forward slashes.

    `size` is `OUTSIDE` for a link to what is not below it, `TOO_DEEP` for a folder that is not entered.
    """

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
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        here = os.path.join(folder, inside)
        real, is_deep = _real(here), inside.count("/") >= MOST_LEVELS
        if real in entered:
            continue
        if is_deep or not _is_below(real, root):
            if _is_utf8(inside):
                yield File(inside, TOO_DEEP if is_deep else OUTSIDE, 0)
            continue
        entered.add(real)
        folders, names = _entries(here)
        waiting += sorted((f"{inside}/{name}".lstrip("/") for name in folders if name not in NOT_ENTERED), reverse=True)
        for name in sorted(names):
            path, own = f"{inside}/{name}".lstrip("/"), os.path.join(here, name)
            try:
                status = os.stat(own)
            except OSError:  # gone since, or a link to itself
                continue
            if not _is_utf8(path):
                continue
            if os.path.islink(own) and not _is_below(_real(own), root):
                yield File(path, OUTSIDE, 0)
            elif S_ISREG(status.st_mode):
                yield File(path, status.st_size, status.st_mtime_ns)


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """The names of what is a folder, or a link to one, and of all else; none where it cannot be listed."""
    found: tuple[list[str], list[str]] = [], []
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith("."):
                found[not os.path.isdir(entry.path)].append(entry.name)
    return found


def _real(path: str) -> str:
    """Where a path leads; nowhere while somebody is changing that."""
    try:
        return os.path.realpath(path)
    except OSError:
        return ""


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
    root = Path(os.path.realpath(folder))
    real = _real(os.path.join(folder, path))
    if not _is_below(real, root):
        raise Unread(LEADS_OUT)
    with open(_opened(root, Path(real).relative_to(root)), "rb") as file:
        status = os.fstat(file.fileno())
        if not S_ISREG(status.st_mode):
            raise Unread(LEADS_OUT)
        if status.st_size > LARGEST_BYTES:
            raise Unread(f"larger than {LARGEST_BYTES:,} bytes")
        return file.read(LARGEST_BYTES)


def _opened(root: Path, inside: Path) -> int:
    """A descriptor, reached folder by folder and through no link: one may stand there since it was looked."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    if os.open not in os.supports_dir_fd:  # Windows, where links are an administrator's
        return os.open(root / inside, flags)
    here = os.open(root, os.O_RDONLY)
    for part in inside.parts:
        try:
            there = os.open(part, flags, dir_fd=here)
        finally:
            os.close(here)
        here = there
    return here


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
    absolute = folder.resolve()
    key = sha256(os.fsencode(absolute)).hexdigest()[:16]
    name = quote(absolute.name, safe="")[:40]
    return user_folder("cache", environment) / "documents" / f"{name}-{key}-v{VERSION}.sqlite"


def is_safe(path: Path) -> bool:
    """Whether an index may be used there: the folder is the user's alone, and so is a file, no link.

    Another user's file would be told what the documents say, and could say what they do not.
    """
    with suppress(OSError):
        if not is_users_alone(path.parent.stat()):
            return False
        with suppress(FileNotFoundError):
            status = path.lstat()
            if not S_ISREG(status.st_mode) or not is_users_alone(status):
                remove(path)
        return not os.path.lexists(path) or path.is_file()
    return False


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


def unread(connection: sqlite3.Connection) -> list[tuple[str, int, str, bool]]:
    """(reason, how many files, one of them, whether a part was) for what could not be read."""
    query = """
        SELECT unread, count(*), min(path), id IN (SELECT file FROM passages) AS partly
        FROM files WHERE unread != '' GROUP BY unread, partly ORDER BY 2 DESC
    """
    return connection.execute(query).fetchall()


def _put(connection: sqlite3.Connection, folder: Path, file: File) -> None:
    row = connection.execute("SELECT size, mtime_ns, digest FROM files WHERE path = ?", (file.path,)).fetchone()
    if row is not None and row[:2] == (file.size, file.mtime_ns):
        return  # another process was faster
    mtime_ns = file.mtime_ns if file.size in _UNREAD or file.mtime_ns < time.time_ns() - SETTLED_NS else UNSETTLED
    digest, reason = b"", ""
    passages: Sequence[Passage] = ()
    try:
        if file.size in _UNREAD:
            raise Unread(_UNREAD[file.size])
        content = read_below(folder, file.path)
        digest = blake2b(content, digest_size=16).digest()
        if row is not None and row[2] == digest:
            statement = "UPDATE files SET size = ?, mtime_ns = ? WHERE path = ?"
            connection.execute(statement, (len(content), mtime_ns, file.path))
            return
        passages = read_file(file.path, content)
        reason = passages.left_out
    except (OSError, Unread) as error:
        reason = str(error) if isinstance(error, Unread) else f"it cannot be opened ({type(error).__name__})"
        if not isinstance(error, Unread) or error.may_change:
            mtime_ns, digest = UNSETTLED, b""
    _remove(connection, file.path)
    if _insert(connection, (file.path, file.size, mtime_ns, digest, reason), passages) < len(passages):
        connection.execute("UPDATE files SET unread = ? WHERE path = ?", (TOO_LONG, file.path))


def _insert(connection: sqlite3.Connection, row: tuple[object, ...], passages: Sequence[Passage]) -> int:
    """How many of the passages are in the index now: as many as there is time for."""
    statement = "INSERT INTO files (path, size, mtime_ns, digest, unread) VALUES (?, ?, ?, ?, ?)"
    file = connection.execute(statement, row).lastrowid
    first = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM passages").fetchone()[0]
    path, count, ends_s = str(row[0]), 0, time.thread_time() + MOST_S

    def words() -> Iterator[tuple[int, str, str]]:
        nonlocal count
        for count, p in enumerate(passages, 1):
            yield (first + count - 1, *_words(path, p.heading, p.body))
            if time.thread_time() > ends_s:
                return

    connection.executemany("INSERT INTO words (rowid, heading, body) VALUES (?, ?, ?)", words())
    connection.executemany(
        "INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)",
        [(first + n, file, p.line, p.page, p.heading, p.body) for n, p in enumerate(passages[:count])],
    )
    return count


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
