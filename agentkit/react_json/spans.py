"""Runs of words of an observation that may be an answer, as one regular expression."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

LONGEST_ANSWER = 14
CHUNK = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+(?:e[-+]?\d+)?|\d+|[^\W\d_]+(?:['’][^\W\d_]+)*|\s+|.", re.S)
SPECIAL = re.compile(r"[\\.^$|?*+()\[\]{}/&~#\"-]")
EDGE = "\"“”„‘’'`.,;:!?()[]{}<>*…"
FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with as and or but is was are were be been has had have his her its their "
    "who which that this it he she they when where after before into than".split()
)
MONTHS = frozenset("january february march april may june july august september october november december".split())
PLACES = frozenset(("in", "at", "near", "from"))
NO_NAMES = frozenset("please thanks thank who what when where which how i and or".split())
PARTICLES = frozenset("de van von der da di del la bin al".split())
DIGITS = frozenset("one two three four five six seven eight nine ten eleven twelve no".split())
SCALES = frozenset(("million", "billion", "trillion", "thousand", "hundred", "percent"))


def literal(text: str) -> str:
    """`text` as a Lark regular expression that matches only itself."""
    return SPECIAL.sub(r"\\\g<0>", text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def union(texts: Iterable[str]) -> str:
    """An alternation of literals, each once."""
    return "(" + "|".join(literal(text) for text in dict.fromkeys(texts)) + ")"


def inflected(question: str) -> frozenset[str]:
    """The words of a question and their simple inflections, in lower case: play, plays, played."""
    words = {chunk.casefold() for chunk in CHUNK.findall(question) if not chunk.isspace()}
    return frozenset(
        form for word in words for form in (word, f"{word}s", f"{word}d", f"{word}ed", re.sub(r"['’]?s$", "", word))
    )


def inside_name(first: str, second: str) -> bool:
    """Whether two words with one space between belong together: a full name, a date, "35 million"."""
    lower, following = first.casefold(), second.casefold()
    if first[0].isdigit():
        return following in MONTHS or following in SCALES
    if lower in MONTHS:
        return second[0].isdigit()
    if following in NO_NAMES:
        return False
    if lower in PARTICLES or following in PARTICLES:
        return first[0].isupper() or second[0].isupper()
    return first[0].isupper() and second[0].isupper() and lower not in FUNCTION_WORDS


def spans(text: str, asked: frozenset[str] = frozenset(), wanted: str = "") -> str:
    """Every run of at most LONGEST_ANSWER words within a sentence of `text`, as one expression of nested options.

    A run neither ends in a function word nor enters or leaves a name in its middle, and it does not begin with a word
    of the question (`asked`) unless a new name follows: the capital of Australia is not Australia, but that of Mexico
    is Mexico City.  `wanted` is "name" (it begins with a capital), "person" (and stands behind no "in"),
    "number" or "date" (it begins with a digit or a month).
    """
    chunks = CHUNK.findall(text)
    words = [place for place, chunk in enumerate(chunks) if not chunk.isspace() and chunk not in EDGE]
    found = []
    for number, place in enumerate(words):
        before = chunks[words[number - 1]].casefold() if number else ""
        if not (_fits(chunks[place], before, wanted) and _may_begin(chunks, words, number, asked)):
            continue
        run = [place]
        for earlier, later in zip(words[number:], words[number + 1 : number + LONGEST_ANSWER], strict=False):
            if _ends_sentence(chunks[earlier:later]):
                break
            run.append(later)
        found.append(_nested(chunks, run))
    return "|".join(dict.fromkeys(found))


def _fits(word: str, before: str, wanted: str) -> bool:
    """Whether an answer of the wanted kind may begin with this word, which follows `before`."""
    if wanted in ("name", "person"):
        placed = wanted == "person" and before in PLACES
        return not placed and (word[0].isupper() or word.casefold() == "the")
    spelled = word.casefold() in MONTHS if wanted == "date" else word.casefold() in DIGITS
    return not wanted or word[0].isdigit() or spelled


def _may_begin(chunks: Sequence[str], words: Sequence[int], number: int, asked: frozenset[str]) -> bool:
    """Whether an answer may begin at this word."""
    word = chunks[words[number]]
    if number and words[number] == words[number - 1] + 2 and chunks[words[number] - 1] == " ":
        before = chunks[words[number - 1]]
        opens = number == 1 or _ends_sentence(chunks[words[number - 2] : words[number - 1]])
        if inside_name(before, word) and word[0].isupper() and not opens and before.casefold() not in asked:
            return False
    if word.casefold() in FUNCTION_WORDS:
        content = next((chunks[w] for w in words[number + 1 :] if chunks[w].casefold() not in FUNCTION_WORDS), "")
        return bool(content) and (content.casefold() not in asked)
    if word.casefold() not in asked:
        return True
    if number + 1 == len(words) or words[number + 1] != words[number] + 2:
        return False
    following = chunks[words[number + 1]]
    return following[0].isupper() and following.casefold() not in asked


def _ends_sentence(chunks: Sequence[str]) -> bool:
    """Whether the chunks, from a word up to the next one, hold the end of a sentence or of a line."""
    between = "".join(chunks[1:])
    long_word = len(chunks[0]) > 2 or chunks[0].isdigit()
    return "\n" in between or (long_word and bool(re.match(r"[)\]\"”']*[.!?][)\]\"”']*\s", between)))


def _nested(chunks: Sequence[str], run: Sequence[int]) -> str:
    """The first word of `run`, then as many more as wanted, each with what stands before it."""
    rest = ""
    for earlier, place in zip(reversed(run[:-1]), reversed(run[1:]), strict=True):
        piece = literal("".join(chunks[earlier + 1 : place + 1])) + rest
        whole = place == earlier + 2 and chunks[earlier + 1] == " " and inside_name(chunks[earlier], chunks[place])
        may_end = chunks[earlier].casefold() not in FUNCTION_WORDS and not whole
        rest = f"({piece})?" if may_end else piece
    return literal(chunks[run[0]]) + rest
