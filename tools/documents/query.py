"""Words as the index has them, and the words that a query asks for."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise

from agentkit.toolbox.approximate_tokens import IDEOGRAPHS

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


def quoted(term: str, *, begins: bool = False) -> str:
    """The term for FTS5's `MATCH`; with `begins`, whatever begins with it."""
    return f'"{term}"*' if begins else f'"{term}"'
