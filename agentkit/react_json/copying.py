"""Regular expressions of what may be copied from a question and its observations: queries, numbers, answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MOST_WORDS, MOST_PARTS, LONGEST_ANSWER = 16, 3, 14
SMALL_NUMBERS = (*range(13), 24, 60, 100, 365, 1000)
ATTRIBUTES = ("age", "height", "length", "width", "depth", "weight", "speed", "area", "price", "population", "distance")
ATTRIBUTES += ("duration", "runtime", "diameter", "elevation", "budget", "salary", "size", "year", "net worth")
NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\.\d+|\d+")
EXPONENT = re.compile(r"\d+(?:\.\d+)?e[-+]?\d+")
CHUNK = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+(?:e[-+]?\d+)?|\d+|[^\W\d_]+(?:['’][^\W\d_]+)*|\s+|.", re.S)
EDGE = "\"“”„‘’'`.,;:!?()[]{}<>*…"
WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
WORDS += "seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
MEANT = {**{word: n for n, word in enumerate(WORDS)}, **{word: 10 * n for n, word in enumerate(TENS, 2)}}
MEANT |= {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}


def literal(text: str) -> str:
    """`text` as a Lark regular expression that matches only itself."""
    return re.sub(r"([^\w\s])", r"\\\1", text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def union(texts: Iterable[str]) -> str:
    """An alternation of literals, each once."""
    return "(" + "|".join(literal(text) for text in dict.fromkeys(texts)) + ")"


def query_words(sources: Sequence[str]) -> list[str]:
    """The words a query may use: those of the sources without the punctuation around them, and common attributes."""
    found: dict[str, None] = {}
    for chunk in (chunk for text in sources for chunk in text.split()):
        word = chunk.strip(EDGE)
        if not word or '"' in word or "\\" in word or "://" in word:
            continue
        found[word] = None
        for ending in ("'s", "’s"):
            found[word.removesuffix(ending)] = None
    return list(found)


def queries(sources: Sequence[str]) -> str:
    """Up to sixteen words of the sources, one space apart; "" where there are none."""
    words = query_words(sources)
    if not words:
        return ""
    any_word = union([*words, *ATTRIBUTES])
    return f"{any_word}( {any_word}){{0,{MOST_WORDS - 1}}}"


def written_numbers(text: str) -> list[str]:
    """The numbers of a text as the calculator takes them: 1,200 is 1200, twenty-five is 25."""
    found = [number.replace(",", "") for number in EXPONENT.findall(text) + NUMBER.findall(text)]
    for word in re.findall(r"[a-z]+(?:-[a-z]+)?", text.lower()):
        tens, _, ones = word.partition("-")
        if tens in MEANT and (not ones or ones in MEANT):
            found.append(str(MEANT[tens] + MEANT.get(ones, 0)))
    return found


def numbers(sources: Sequence[str]) -> str:
    """The numbers that stand in the sources, and small whole ones."""
    stated = [number for text in sources for number in written_numbers(text)]
    return union([*stated, *map(str, SMALL_NUMBERS)])


def spans(text: str) -> str:
    """Every run of at most LONGEST_ANSWER words of `text`, as one expression of nested options."""
    chunks = CHUNK.findall(text)
    found = []
    for start, chunk in enumerate(chunks):
        if chunk.isspace() or chunk in EDGE:
            continue
        found.append(_from(chunks[start : start + 2 * LONGEST_ANSWER]))
    return "|".join(dict.fromkeys(found))


def _from(chunks: Sequence[str]) -> str:
    """The first chunk, then as many more words as wanted with what stands between them."""
    rest, between = "", []
    words = [[chunks[0]]]
    for chunk in chunks[1:]:
        between.append(chunk)
        if not chunk.isspace() and chunk not in EDGE:
            words.append(between)
            between = []
    for word in reversed(words[1:]):
        rest = f"({literal(''.join(word))}{rest})?"
    return literal(chunks[0]) + rest


def answers(question: str, observations: Sequence[str]) -> str:
    """What a final answer may be: up to three spans of observations, ", " between; "" without observations.

    A calculator's number is taken whole.  Once something was calculated, spans of the question may be given too: the
    name of the larger of two things stands there.
    """
    if not observations:
        return ""
    parts, calculated = [], False
    for text in observations:
        if text.startswith("Answer: "):
            parts.append(literal(text.removeprefix("Answer: ").strip()))
            calculated = True
        else:
            parts.append(spans(text))
    if calculated:
        parts.append(spans(question))
    part = "(" + "|".join(dict.fromkeys(p for p in parts if p)) + ")"
    return f"{part}(, {part}){{0,{MOST_PARTS - 1}}}"
