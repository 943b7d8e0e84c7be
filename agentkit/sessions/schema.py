"""What a store holds: its tables, how their columns keep what a run gives them, and how an older store is brought up.

A run's events are rows that are only added; what else is known of a run (its status, its answer) is kept beside it so
that a list of runs reads no event.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Dialect,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.types import TypeDecorator

from agentkit.errors import StoreError, said, short_repr

DEEPEST = 60
"""Lists and mappings within each other that are kept as such; what is deeper is kept as text."""
MOST_INDEXED = 100_000
"""Characters by which a text is found: PostgreSQL indexes no more than a megabyte of one text."""
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
_ALONE = re.compile("([\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af])")  # scripts that put no space between words


# -- how values are kept -----------------------------------------------------------------------------------------------


def clean(text: str) -> str:
    """Text as every database takes it: NUL and half a surrogate pair become U+FFFD."""
    return _NO_TEXT.sub("\ufffd", text)


def plain(value: Any, depth: int = DEEPEST) -> Any:
    """A value as JSON can hold it, of whatever kind and depth; what it cannot hold is its text."""
    if isinstance(value, str):
        return clean(value)
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if value.bit_length() < 10_000 else short_repr(value)
    if depth > 0 and isinstance(value, Mapping):
        return {clean(said(name)): plain(item, depth - 1) for name, item in value.items()}
    if depth > 0 and isinstance(value, list | tuple | set | frozenset):
        return [plain(item, depth - 1) for item in value]
    return clean(said(value))


def folded(text: str) -> str:
    """A text as it is searched: whatever its case and its accents are."""
    text = clean(text[:MOST_INDEXED]).casefold()
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def words(text: str) -> list[str]:
    """The words of a text, folded; in scripts without spaces each sign is one."""
    return re.findall(r"\w+", _ALONE.sub(r" \1 ", folded(text))[:MOST_INDEXED])


def as_json(value: Any) -> str:
    """Plain values as text, that a person reads and a search finds things in."""
    return json.dumps(value, ensure_ascii=False)


class Json(TypeDecorator[Any]):
    """What `plain` gives, as JSON in a text: the order of names is kept, and NaN."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return None if value is None else as_json(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


class Plain(TypeDecorator[str]):
    """Any text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        return None if value is None else clean(value)


class When(TypeDecorator[datetime]):
    """A moment, as seconds since 1970."""

    impl = Double
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> float | None:
        return None if value is None else value.timestamp()

    def process_result_value(self, value: float | None, dialect: Dialect) -> datetime | None:
        return None if value is None else datetime.fromtimestamp(value, UTC)


# -- the tables --------------------------------------------------------------------------------------------------------

METADATA = MetaData()
_VERSIONS = MetaData()

version = Table("agentkit_version", _VERSIONS, Column("version", Integer, nullable=False))

sessions = Table(
    "agentkit_sessions",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(200), nullable=False, unique=True),
    Column("facts", Json, nullable=False),
    Column("created", When, nullable=False),
    Column("used", When, nullable=False),
)

runs = Table(
    "agentkit_runs",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("key", String(200), unique=True),  # of who may begin the same run again, and wants to find it
    Column("session", ForeignKey("agentkit_sessions.id", ondelete="SET NULL"), index=True),
    Column("spec", Json, nullable=False),
    Column("version", Plain, nullable=False),  # of agentkit
    Column("question", Plain, nullable=False),
    Column("status", String(20), nullable=False),
    Column("stop_reason", Plain),
    Column("output", Plain),
    Column("searched", Plain, nullable=False),  # the question and the answer, folded
    Column("started", When, nullable=False),
    Column("ended", When),
    Index("agentkit_runs_by_time", "started", "id"),
)

events = Table(
    "agentkit_events",
    METADATA,
    Column("run", ForeignKey("agentkit_runs.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("at", When, nullable=False),
    Column("searched", Plain),  # an observation, folded; before the event, which a search need not read
    Column("event", Json, nullable=False),
)

turns = Table(
    "agentkit_turns",
    METADATA,
    Column("session", ForeignKey("agentkit_sessions.id", ondelete="CASCADE"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("run", ForeignKey("agentkit_runs.id", ondelete="CASCADE"), nullable=False, index=True),
    UniqueConstraint("session", "run"),
)

decisions = Table(
    "agentkit_decisions",
    METADATA,
    Column("id", String(200), primary_key=True),
    Column("run", ForeignKey("agentkit_runs.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("place", Integer, nullable=False),  # among those that were asked for at once
    Column("kind", String(20), nullable=False),
    Column("tool", Plain, nullable=False),
    Column("tool_input", Json, nullable=False),
    Column("question", Plain, nullable=False),
    Column("status", String(20), nullable=False, index=True),
    Column("edit", Json),
    Column("message", Plain, nullable=False),
    Column("by", Plain),
    Column("asked", When, nullable=False),
    Column("decided", When),
)

memories = Table(
    "agentkit_memories",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("text", Plain, nullable=False),
    Column("words", Plain, nullable=False),
    Column("at", When, nullable=False),
)

_INDEXES: Mapping[str, Sequence[str]] = {  # of the words of memories
    "sqlite": [
        "CREATE VIRTUAL TABLE agentkit_memory_words USING fts5(words, id UNINDEXED, tokenize = 'porter unicode61')",
        "CREATE TRIGGER agentkit_memory_added AFTER INSERT ON agentkit_memories BEGIN"
        " INSERT INTO agentkit_memory_words (words, id) VALUES (new.words, new.id); END",
        "CREATE TRIGGER agentkit_memory_deleted AFTER DELETE ON agentkit_memories BEGIN"
        " DELETE FROM agentkit_memory_words WHERE id = old.id;"
        " INSERT INTO agentkit_memory_words (agentkit_memory_words) VALUES ('optimize'); END",  # its words go, too
    ],
    "postgresql": [
        "CREATE INDEX agentkit_memory_words ON agentkit_memories USING gin (to_tsvector('english', words))",
    ],
}


# -- versions ----------------------------------------------------------------------------------------------------------

Step = Callable[[Connection], None]


def _create(connection: Connection) -> None:
    METADATA.create_all(connection, checkfirst=False)
    for statement in _INDEXES[connection.dialect.name]:
        connection.execute(text(statement))


@dataclass(frozen=True, slots=True)
class Schema:
    """How a store of the newest version is made, and what each older version needs: the first of `steps` leads from
    version 1 to 2. A step states its own SQL, because the tables above are those of the newest version."""

    create: Step = _create
    steps: tuple[Step, ...] = ()

    @property
    def version(self) -> int:
        """The version that these steps lead to."""
        return len(self.steps) + 1

    def is_current(self, connection: Connection, store: str) -> bool:
        """Whether nothing is to be done; raises `StoreError` for a store of a newer version."""
        found = version_of(connection)
        if found > self.version:
            raise StoreError(
                f"The store {store} is of version {found}, and this agentkit knows version {self.version}; "
                "upgrade agentkit, or name another store"
            )
        return found == self.version

    def bring_up(self, connection: Connection) -> None:
        """Make or change the tables within one transaction, in which nobody else may write."""
        found = version_of(connection)
        if not found:
            _VERSIONS.create_all(connection)
            self.create(connection)
            connection.execute(insert(version).values(version=self.version))
            return
        for step in self.steps[found - 1 :]:
            step(connection)
        connection.execute(update(version).values(version=self.version))


def version_of(connection: Connection) -> int:
    """The version of the store that is there; 0 where there is none."""
    if not inspect(connection).has_table(version.name):
        return 0
    return connection.execute(select(version.c.version)).scalar_one_or_none() or 0


def is_empty(connection: Connection) -> bool:
    """Whether a file holds nothing at all."""
    return not inspect(connection).get_table_names()


SCHEMA = Schema()
