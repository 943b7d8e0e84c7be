"""What a query in plain words asks for, and the passages that match it: all the words first, then the telling ones."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log

from agentkit.approximate_tokens import IDEOGRAPHS

MOST_TERMS = 12
LONGEST_WORD = 64
TOKENIZER = "porter unicode61 remove_diacritics 2"
_RUN = re.compile(f"[{IDEOGRAPHS}]+|[^\\W_{IDEOGRAPHS}]+")
_IDEOGRAPH = re.compile(f"([{IDEOGRAPHS}])")
_LONG = re.compile(rf"\S{{{LONGEST_WORD + 1},}}")
_LONG_WORD = re.compile(rf"[^\W_{IDEOGRAPHS}]{{{LONGEST_WORD + 1},}}")
_POSSESSIVE = re.compile(r"['’]s\b")
# Words that nearly every text has, and those that only make a question of it.
ORDINARY = frozenset(
    "a about an and any are as at be been but by can could did do does for from get gets got had has have how i if in "
    "into is it its many may me much must my of on or our shall should so than that the their them then there these "
    "they this those to us was we were what when where which who whom whose why will with would you your".split()
)


def indexed_form(text: str) -> str:
    """Text for the index: each Chinese, Japanese or Korean sign a word of its own; no word that is encoded bytes."""
    if len(text) > LONGEST_WORD:
        text = _LONG.sub(_unless_marked, text)
    return text if text.isascii() else _IDEOGRAPH.sub(r" \1 ", text)


def _unless_marked(match: re.Match[str]) -> str:
    """A long run of signs, unless marks part it into words: an address, a table row, Chinese."""
    return " " if _LONG_WORD.search(match[0]) else match[0]


def terms_of(query: str) -> list[str]:
    """What to look for, each term a phrase for FTS5: the words that are not ordinary, signs in pairs.

    A term holds letters, digits and spaces only, so that in quotes FTS5 reads nothing else into it.
    """
    runs = _RUN.findall(_POSSESSIVE.sub("", query.casefold())[:2000])
    telling = [run for run in runs if run not in ORDINARY] or runs
    terms = dict.fromkeys(term for run in telling for term in _terms_in(run[:LONGEST_WORD]))
    return list(terms)[:MOST_TERMS]


def _terms_in(run: str) -> Iterable[str]:
    if not _IDEOGRAPH.match(run) or len(run) == 1:
        return [run]
    return [f"{first} {second}" for first, second in pairwise(run)]


# -- the passages, best match first (BM25) --------------------------------------------------------------------------

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
        expression = f'"{term}"'
        count = _count(connection, expression)
        if not count and len(term) >= SHORTEST_BEGINNING:
            expression += "*"  # whatever begins with it
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
    return {
        expression: log(1 + total / count) * (0.1 if expression.strip('"') in ORDINARY else 1)
        for expression, count in counts.items()
    }
