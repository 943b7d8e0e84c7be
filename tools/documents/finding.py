"""Finds passages: all the words first, then the telling ones, best match first (BM25)."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from agentkit.tools.documents.query import ORDINARY, quoted, terms_of

MOST_RANKED = 5_000  # matches; ranking more takes too long, and a query that has more says too little to rank by
SHORTEST_BEGINNING = 4
_RANKED = """
SELECT p.id, f.path, p.line, p.page, p.heading, p.body
FROM (SELECT rowid, bm25(words, 2.0, 1.0) AS score FROM words WHERE words MATCH ? LIMIT ?) AS best
JOIN passages AS p ON p.id = best.rowid JOIN files AS f ON f.id = p.file ORDER BY best.score, p.id LIMIT ?
"""


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that matches."""

    number: int
    path: str
    line: int
    page: int
    heading: str
    body: str


@dataclass(frozen=True, slots=True)
class Findings:
    """Passages, best first, and what each term of the query weighs: the rarer, the more."""

    passages: Sequence[Found]
    weights: Mapping[str, float]


def find(connection: sqlite3.Connection, query: str, *, most: int) -> Findings:
    """The best passages for a query in plain words; nothing in it is an operator."""
    counts = {}
    for term in terms_of(query):
        expression = quoted(term)
        count = _count(connection, expression)
        if not count and len(term) >= SHORTEST_BEGINNING:
            expression = quoted(term, begins=True)
            count = _count(connection, expression)
        if count:
            counts[expression] = count
    if not counts:
        return Findings((), {})
    found = _ranked(connection, " AND ".join(counts), most)
    if len(found) < most and len(counts) > 1:
        more = _ranked(connection, " OR ".join(_telling(counts)), most)
        found = list({passage.number: passage for passage in [*found, *more]}.values())[:most]
    return Findings(found, _weights(connection, counts))


def _count(connection: sqlite3.Connection, expression: str) -> int:
    """How many passages match, `MOST_RANKED` at most."""
    query = "SELECT count(*) FROM (SELECT rowid FROM words WHERE words MATCH ? LIMIT ?)"
    return int(connection.execute(query, (expression, MOST_RANKED)).fetchone()[0])


def _telling(counts: Mapping[str, int]) -> list[str]:
    """The rarest terms, as many as can be ranked together; at least the rarest."""
    chosen: list[str] = []
    total = 0
    for expression in sorted(counts, key=counts.__getitem__):
        total += counts[expression]
        if chosen and total > MOST_RANKED:
            break
        chosen.append(expression)
    return chosen


def _ranked(connection: sqlite3.Connection, expression: str, most: int) -> list[Found]:
    return [Found(*row) for row in connection.execute(_RANKED, (expression, MOST_RANKED, most))]


def _weights(connection: sqlite3.Connection, counts: Mapping[str, int]) -> dict[str, float]:
    total = connection.execute("SELECT coalesce(max(id), 1) FROM passages").fetchone()[0]
    ordinary = {quoted(word) for word in ORDINARY}
    return {
        expression: log(1 + total / count) * (0.1 if expression in ordinary else 1)
        for expression, count in counts.items()
    }
