"""Where a store is, its versions, and what can be wrong with the place: one line each, that never holds a password."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from agentkit.errors import StoreError
from agentkit.events import Thought
from agentkit.sessions.address import Address, find_address
from agentkit.sessions.database import Database
from agentkit.sessions.store import Store
from tests.sessions.postgres import PASSWORD, WITH_PASSWORD, Postgres
from tests.sessions.writers import FIRST, GROWN, SPEC, at_once, events_of_a_run, open_grown

ELSE = "AGENTKIT_STORE names another store"


def failure(address: str | Path, **options: float) -> str:
    with pytest.raises(StoreError) as raised:
        Store(address, **options)  # type: ignore[arg-type]
    assert "\n" not in str(raised.value)
    return str(raised.value)


# -- where it is -------------------------------------------------------------------------------------------------------


def test_where_a_store_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"XDG_DATA_HOME": str(tmp_path / "data")}
    assert find_address(None, data) == Address(tmp_path / "data/agentkit/agentkit.db")
    assert find_address(None, {"HOME": str(tmp_path)}) == Address(tmp_path / ".local/share/agentkit/agentkit.db")
    assert find_address(None, data | {"AGENTKIT_STORE": ""}) == find_address(None, data)
    assert find_address(None, data | {"AGENTKIT_STORE": "some.db"}) == Address(tmp_path / "some.db")
    assert find_address("other.db", data | {"AGENTKIT_STORE": "some.db"}) == Address(tmp_path / "other.db")
    assert find_address(None, data | {"AGENTKIT_STORE": " None "}) is None
    assert Store.find("none", data) is None
    assert Store.find(environment=data | {"AGENTKIT_STORE": "none"}) is None
    assert not (tmp_path / "data").exists()
    store = Store.find(environment=data)
    assert store is not None
    store.close()
    assert store.path == tmp_path / "data/agentkit/agentkit.db"
    assert store.address == str(store.path)


@pytest.mark.skipif(os.name == "nt", reason="there are no modes")
def test_a_store_is_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with Store(tmp_path / "data" / "agentkit.db") as store:
            store.begin(SPEC)
            modes = {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "data").iterdir()}
    finally:
        os.umask(before)
    assert modes == {"agentkit.db": 0o600, "agentkit.db-wal": 0o600, "agentkit.db-shm": 0o600}
    assert (tmp_path / "data").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.name == "nt", reason="links are an administrator's")
def test_a_link_leads_to_the_same_store(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "folder" / "real.db")
    with Store(link) as store, Store(tmp_path / "folder" / "real.db") as same:
        assert store.path == link
        run = store.begin(SPEC)
        with same.held_run(run), pytest.raises(StoreError, match=rf"^Run {run} is in use by process"):
            store.held_run(run).__enter__()
    assert [file.name for file in tmp_path.iterdir() if file != link] == ["folder"]
    assert (tmp_path / "folder" / "real.db").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("sqlite:////tmp/a.db", "/tmp/a.db"),
        ("/tmp/a b.db", "/tmp/a b.db"),
        ("postgres://user:secret@host:5433/name?password=secret", "postgresql://host:5433/name"),
        ("postgresql://user:se/c#r?et@host/name", "postgresql://host/name"),
        ("postgresql+psycopg:///name?host=/run", "postgresql:///name"),
        ("POSTGRESQL://user:secret@host/name", "postgresql://host/name"),
    ],
)
def test_an_address_is_shown_without_its_password(text: str, shown: str) -> None:
    address = Address.of(text)
    assert str(address) == shown
    assert "secret" not in repr(address)
    assert address.url.startswith("postgresql+psycopg://") is (address.path is None)


KINDS = "give a file, or postgresql://USER@HOST/DATABASE"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("mysql://u:secret@h/d", f"No store is at mysql://h/d: mysql is no kind of store that agentkit knows; {KINDS}"),
        (
            "postgresql+asyncpg://u:secret@h/d",
            "No store is at postgresql+asyncpg://h/d: "
            f"postgresql+asyncpg is no kind of store that agentkit knows; {KINDS}",
        ),
        ("https://h/d", f"No store is at https://h/d: https is no kind of store that agentkit knows; {KINDS}"),
        ("postgresql:/h/d", f"No store is at postgresql:/h/d: the address is not complete; {KINDS}"),
        ("postgresql://", f"No store is at postgresql://: the address is not complete; {KINDS}"),
        ("sqlite://", f"No store is at sqlite://: the address is not complete; {KINDS}"),
        (":memory:", f"No store is at ':memory:': it is kept in a file or on a server; {KINDS}"),
        ("", f"No store is at '': it is kept in a file or on a server; {KINDS}"),
        ("a\0b", f"No store is at 'a\\x00b': it is kept in a file or on a server; {KINDS}"),
    ],
)
def test_where_no_store_can_be(text: str, says: str) -> None:
    assert failure(text) == says


@pytest.mark.slow
@pytest.mark.parametrize(
    "statement", ["import agentkit", "import agentkit.cli.app", "import agentkit.sessions.address"]
)
def test_no_database_is_loaded_before_it_is_needed(statement: str) -> None:
    code = f"{statement}, sys; print(*{{'sqlalchemy', 'sqlite3', 'psycopg'}} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"


def test_what_was_deleted_is_not_in_the_file(tmp_path: Path) -> None:
    with Store(tmp_path / "agentkit.db") as store:
        run = store.begin(SPEC)
        for number in range(20):
            store.append(run, Thought(f"Marzipan {number}" * 500))
            store.remember(f"Marzipan {number}")
        store.delete(run)
        for memory in store.memories():
            store.forget(memory.id)
        assert store.recall("marzipan") == []
        store.remember("Nougat.")
    (file,) = tmp_path.iterdir()
    content = file.read_bytes().lower()
    assert (b"marzipan" in content, b"nougat" in content) == (False, True)


# -- versions ----------------------------------------------------------------------------------------------------------


def rows(address: str, query: str) -> list[tuple[object, ...]]:
    found = Address.of(address)
    engine = sa.create_engine(found.url or f"sqlite:///{found.path}")
    with engine.connect() as connection:
        result = [tuple(row) for row in connection.execute(sa.text(query))]
    engine.dispose()
    return result


def change(address: str, statement: str) -> None:
    found = Address.of(address)
    engine = sa.create_engine(found.url or f"sqlite:///{found.path}")
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


@pytest.mark.slow
def test_an_older_store_is_brought_up_once_by_many_at_once(address: str) -> None:
    Database(Address.of(address), FIRST).close()
    assert rows(address, "SELECT version FROM agentkit_version") == [(1,)]
    at_once(open_grown, [(address,)] * 4)
    assert rows(address, "SELECT version FROM agentkit_version") == [(2,)]
    assert rows(address, "SELECT note, length FROM agentkit_notes") == [("of version 1", 12), ("step", 0)]
    with pytest.raises(StoreError, match=r" is of version 2, and this agentkit knows version 1; upgrade agentkit, "):
        Database(Address.of(address), FIRST)


VERSION_1 = Path(__file__).with_name("version1.sql")


def layout(path: Path) -> set[str]:
    """What makes the tables of a file, however it is broken into lines."""
    with sqlite3.connect(path) as connection:
        made = connection.execute(
            "SELECT sql FROM sqlite_master WHERE sql NOT NULL AND name NOT LIKE '%_words\\_%' ESCAPE '\\'"
        )
        found = {re.sub(r"\s+", "", sql) for (sql,) in made}
    connection.close()
    return found


def test_a_file_of_version_1_is_read_and_gone_on_with(tmp_path: Path) -> None:
    """When the tables change, `Schema` gets a step from the last version to theirs, and this stays as it is."""
    path = tmp_path / "agentkit.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(VERSION_1.read_text(encoding="utf-8"))
    connection.close()
    with Store(path, environment={}) as store:
        (run,) = store.turns("trip")
        assert store.run(run).events == tuple(events_of_a_run())
        assert store.run(run).spec == SPEC
        assert [one.tool_input for one in store.waiting(run)] == [{"to": "ada@example.org"}]
        assert [one.text for one in store.recall("colour blue")] == ["The user likes blue."]
        store.append(store.begin(SPEC, session="trip", number=1), Thought("…"))
        assert [entry.question for entry in store.runs(search="25")] == ["What is 25 * 4?"] * 2
    Store(tmp_path / "new.db").close()
    assert layout(path) == layout(tmp_path / "new.db")


def test_a_step_that_fails_leaves_the_older_store(address: str) -> None:
    Database(Address.of(address), FIRST).close()
    change(address, "ALTER TABLE agentkit_notes ADD COLUMN length INTEGER")
    with pytest.raises(StoreError, match=r"cannot be used|refuses"):
        Database(Address.of(address), GROWN)
    assert rows(address, "SELECT version FROM agentkit_version") == [(1,)]


def test_a_store_of_a_newer_version_is_refused(address: str) -> None:
    with Store(address) as store:
        shown = store.address
    change(address, "UPDATE agentkit_version SET version = 7")
    assert failure(address) == (
        f"The store {shown} is of version 7, and this agentkit knows version 1; upgrade agentkit, or name another store"
    )


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Buy milk.\n" * 500, encoding="utf-8")
    assert failure(path) == f"{path} is no database; name another file"
    assert path.read_text(encoding="utf-8") == "Buy milk.\n" * 500


def test_the_database_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "bookmarks.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE runs (id)")
    connection.close()
    before = path.read_bytes()
    assert failure(path) == f"{path} is the database of another program and stays as it is; name another file"
    assert path.read_bytes() == before


def test_a_damaged_file(tmp_path: Path) -> None:
    path = tmp_path / "agentkit.db"
    with Store(path) as store:
        store.append(store.begin(SPEC), Thought("x" * 100_000))
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    assert failure(path) == f"{path} is damaged; put a copy in its place, or name another file"


def test_a_file_that_another_program_has_locked(tmp_path: Path) -> None:
    path = tmp_path / "agentkit.db"
    with Store(path, wait_s=0.05) as store:
        run = store.begin(SPEC)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as raised:
            store.append(run, Thought("…"))
        assert str(raised.value) == f"{path} is locked by another program; end that one, or try again"
        assert store.run(run).events == ()
        other.execute("ROLLBACK")
        other.close()
        store.append(run, Thought("…"))
        assert store.run(run).events == (Thought("…"),)


def test_a_folder_in_the_place_of_the_file(tmp_path: Path) -> None:
    assert failure(tmp_path) == f"{tmp_path} is a folder; name a file in it"
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "agentkit.db"
    assert failure(path) == f"{path.parent} is no folder; name a file in one"
    path = tmp_path / ("x" * 300)
    assert failure(path) == f"{path} cannot be used (File name too long); {ELSE}"


def test_without_a_home_there_is_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StoreError, match=rf"/agentkit\.db cannot be used \(.*\); {ELSE}$"):
        Store.find(environment={"HOME": "/no/such/folder"})


@pytest.fixture
def unwritable(tmp_path: Path) -> Path:
    """A store whose file and folder may only be read."""
    path = tmp_path / "folder" / "agentkit.db"
    Store(path).close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    if os.access(path, os.W_OK):
        pytest.skip("root may write anywhere")
    return path


def test_a_folder_that_cannot_be_written(unwritable: Path) -> None:
    assert failure(unwritable) in (
        f"{unwritable} cannot be written; make it and its folder writable, or {ELSE}",
        f"{unwritable} cannot be opened; make it and its folder writable, or {ELSE}",
    )
    path = unwritable.parent / "new.db"
    assert failure(path) == f"{path} cannot be used (Permission denied); {ELSE}"


FULL = """
import resource, signal, sys
from agentkit.errors import StoreError
from agentkit.events import Thought
from agentkit.sessions.store import Store
from tests.sessions.writers import SPEC

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = Store(sys.argv[1])
run = store.begin(SPEC)
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, resource.RLIM_INFINITY))
for number in range(1000):
    try:
        store.append(run, Thought("x" * 1000))
    except StoreError as error:
        print(error)
        break
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(0 < len(store.run(run).events) == number)
store.append(run, Thought("There is room again."))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no limit to a file's size")
def test_a_disk_that_takes_no_more(tmp_path: Path) -> None:
    path = tmp_path / "agentkit.db"
    command = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    meaning = "cannot be read or written by its disk; look after that, or name another file"
    assert (done.stdout, done.stderr) == (f"{path} {meaning}\nTrue\n", "")


# -- servers -----------------------------------------------------------------------------------------------------------


def test_a_server_that_is_down() -> None:
    said = failure("postgresql://user:secret@127.0.0.1:1/name")
    assert said.startswith("postgresql://127.0.0.1:1/name cannot be reached (")
    assert said.endswith("); start the server, or mend the address")
    assert "secret" not in said


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:secret@host:port/name",
        "postgresql://user:secret@[::1/name",
        "postgresql://user:secret@/n?x=secret",
    ],
)
def test_an_address_that_no_server_can_have(address: str) -> None:
    assert "secret" not in failure(address)


@pytest.mark.slow
def test_a_server_that_refuses(postgres: Postgres) -> None:
    wrong = postgres.address(f"{WITH_PASSWORD}:secret-and-wrong", database="postgres")
    place = "postgresql:///postgres"
    mend = "does not take this password; mend the user or the password in the address"
    assert failure(wrong) == f"{place} {mend}"
    assert failure(postgres.address(WITH_PASSWORD)) == f"{place} {mend}"
    right = postgres.address(f"{WITH_PASSWORD}:{PASSWORD}")
    said = failure(right)  # where this user may make no tables
    assert said.startswith(f"{place} refuses (permission denied for schema public")
    assert said.endswith("); give its user the right to create and write tables")
    assert failure(postgres.address(database="nothing")) == (
        "postgresql:///nothing has no such database; create it, or mend the address"
    )


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back(postgres: Postgres) -> None:
    with Store(postgres.new_address()) as store:
        run = store.begin(SPEC)
        with store.held_run(run):
            postgres.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND application_name LIKE 'agentkit%'"
            )
            store.append(run, Thought("…"))
        assert store.run(run).events == (Thought("…"),)


def test_without_psycopg_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    said = failure("postgresql://user:secret@host/name")
    assert said.startswith("psycopg, needed for postgresql://host/name, is ")
    assert "secret" not in said
