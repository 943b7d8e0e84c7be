"""The sentences of a passage, each with its line, and the one that says most of what was asked."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentkit.tools.documents.passages import BREAK, kind_of
from agentkit.tools.documents.query import TOKENIZER, Found, indexed_form

MOST_SENTENCES = 400
LONGEST_SENTENCE = 500
_HEADING_SHARE = 0.5  # what a word in the heading counts against the same word in the sentence
_ORDER_SHARE = 0.1  # what the best passage's sentences have before those of the last
_ABBREVIATED = "".join(rf"(?<!\b{word}\.)" for word in "Mr Mrs Ms Dr St No vs Prof e\\.g i\\.e approx".split())
_END = re.compile(
    rf"\n[ \t]*\n|{BREAK}|\n(?=[ \t]*(?:[-*+•|>]|\d{{1,3}}[.)])[ \t])|\n(?=[ \t]*\|)|(?<=[。！？])"
    rf"|(?:(?<=[.!?])|(?<=[.!?][\"”’)\]])){_ABBREVIATED}(?<!\b[A-Z]\.)\s+(?=[\"“‘(\[*_]?[^\W_a-z])"
)
_LINE = re.compile(r"\n")
_MARKS = (
    (re.compile(r"(?m)^[ \t]*(?:```|~~~).*$"), ""),
    (re.compile(r"!?\[([^\[\]\n]{0,300})\]\([^()\s]{0,500}(?:\s\"[^\"]*\")?\)"), r"\1"),  # a link's or a picture's text
    (re.compile(r"(\*\*|__|``|`|~~)(?=\S)([^\n]{1,500}?)(?<=\S)\1"), r"\2"),
    (re.compile(r"(?<![\w*])[*_](?=\S)([^*_\n]{1,300})(?<=\S)[*_](?![\w*])"), r"\1"),
    (re.compile(r"(?m)^[ \t]*(?:[-*+•>]|\d{1,3}[.)])[ \t]+"), ""),
    (re.compile(r"(?m)^[ \t]*\|[-:| \t]*\|[ \t]*$"), ""),
    (re.compile(r"(?m)^[ \t]*\|[ \t]*|[ \t]*\|[ \t]*$"), ""),
    (re.compile(r"[ \t]+\|[ \t]+"), ", "),
)


@dataclass(frozen=True, slots=True)
class Sentence:
    """`terms` are the query's that it has; `score` is what they weigh, and what its heading and passage add."""

    text: str
    line: int
    terms: frozenset[str]
    score: float


def scored_sentences(found: Sequence[Found], weights: Mapping[str, float]) -> list[list[Sentence]]:
    """The sentences of each passage, in order."""
    split = [list(_sentences(passage)) for passage in found]
    texts = [passage.heading for passage in found] + [text for sentences in split for text, _ in sentences]
    terms = iter(_terms_in(texts, weights))
    in_headings = [next(terms) for _ in found]
    whole = sum(weights.values())
    scored = []
    for rank, (sentences, above) in enumerate(zip(split, in_headings, strict=True)):
        first = _ORDER_SHARE * whole * (1 - rank / len(split))
        here = []
        for text, line in sentences:
            own = next(terms)
            score = first + sum(weights[t] for t in own) + _HEADING_SHARE * sum(weights[t] for t in above - own)
            here.append(Sentence(text, line, own, score))
        scored.append(here)
    return scored


def answer_line(scored: Sequence[Sequence[Sentence]], weights: Mapping[str, float]) -> str:
    """The best sentence, with the one beside it that has what it lacks: "Its manager is …" needs the one before."""
    number, place = max(
        ((number, place) for number, here in enumerate(scored) for place in range(len(here))),
        key=lambda found: scored[found[0]][found[1]].score,
    )
    here = scored[number]
    beside = [other for other in (place + 1, place - 1) if 0 <= other < len(here)]
    adds = {other: sum(weights[term] for term in here[other].terms - here[place].terms) for other in beside}
    other = max(beside, key=adds.__getitem__, default=place)
    chosen = sorted({place, other} if adds.get(other) else {place})
    return " ".join(here[n].text for n in chosen)


def _terms_in(texts: Sequence[str], terms: Iterable[str]) -> list[frozenset[str]]:
    """The terms that each text has, as the index would see it."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(f"CREATE VIRTUAL TABLE words USING fts5(text, content='', tokenize='{TOKENIZER}')")
        rows = [(number, indexed_form(text)) for number, text in enumerate(texts)]
        connection.executemany("INSERT INTO words (rowid, text) VALUES (?, ?)", rows)
        found: list[set[str]] = [set() for _ in texts]
        for term in terms:
            for (number,) in connection.execute("SELECT rowid FROM words WHERE words MATCH ?", (term,)):
                found[number].add(term)
        return [frozenset(terms) for terms in found]
    finally:
        connection.close()


def _sentences(found: Found) -> Iterator[tuple[str, int]]:
    """(text, line) of the passage's sentences without marks; of a file of lines, its lines."""
    kind = kind_of(found.path)
    ends = _LINE if kind == "lines" else _END
    start = count = 0
    for end in [*(match.end() for match in ends.finditer(found.body)), len(found.body)]:
        raw = found.body[start:end]
        text = plain(raw) if kind == "marked" else " ".join(raw.split())
        if any(character.isalnum() for character in text):
            indent = len(raw) - len(raw.lstrip())
            yield text[:LONGEST_SENTENCE], found.line + found.body.count("\n", 0, start + indent)
            count += 1
            if count == MOST_SENTENCES:
                return
        start = end


def plain(text: str) -> str:
    """Markdown as prose on one line."""
    for pattern, instead in _MARKS:
        text = pattern.sub(instead, text)
    return " ".join(text.split())
