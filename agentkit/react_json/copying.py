"""Regular expressions of what may be copied from a question and its observations: queries and answers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from agentkit.react_json.spans import CHUNK, EDGE, inflected, inside_name, literal, spans

RESULT = "Answer: "
MOST_PARTS, LONGEST_QUERY, LONGEST_NAME = 3, 16, 7
# What a comparison asks for without naming it: "who is older" needs an age.
ATTRIBUTES = {
    "age": "old older young younger born",
    "height": "tall taller high higher rise",
    "length": "long longer short shorter",
    "width": "wide wider",
    "depth": "deep deeper",
    "weight": "heavy heavier light lighter weigh weighs",
    "speed": "fast faster slow slower",
    "area": "large larger big bigger small smaller",
    "price": "cost costs expensive cheap cheaper",
    "net worth": "rich richer",
    "population": "inhabitants live people larger bigger",
    "distance": "far farther further",
}
REFERS_BACK = re.compile(
    r"(?:[?;,.]|\band\b|\bthen\b)(?!.*\bthan\b).*\b(?:he|she|his|her|its|that person|this person|the person)\b",
    re.I | re.S,
)
ASKS = re.compile(r"\b(?:who|whom|whose|what|which|where|when|how)\b", re.I)
KINDS = {
    "number": re.compile(
        r"\bhow (?:many|old|tall|long|high|deep|heavy|wide|far|fast|large|big)\b|\bpopulation of\b", re.I
    ),
    "date": re.compile(r"\bwhen\b|\b(?:which|what) (?:year|month|date)\b|\bin what year\b", re.I),
    "person": re.compile(r"\b(?:who|whom)\b", re.I),
    "name": re.compile(r"\bwhere (?:was|is|did|does)\b|\b(?:which|what) (?:city|town|country|river|person)\b", re.I),
}
PERSON = re.compile(r"\b(?:he|she|his|her|person)\b", re.I)
CHOOSES = re.compile(r"\b(?:or|which|compare)\b", re.I)
ABBREVIATED = frozenset("Inc Jr Sr Dr Mr Mrs Ms St Co Ltd Corp Prof".split())
ASKING = frozenset(("who", "what", "when", "where", "which", "how", "in", "on", "at", "to", "from"))


def query_words(text: str) -> list[str]:
    """The words of a text as a query has them, without the punctuation around them, but "J." and "Inc." whole.

    An empty one stands where a sentence or a part of it ends.
    """
    found = [""]
    for chunk in text.split():
        word = chunk.strip(EDGE)
        if not word or '"' in word or "\\" in word or "://" in word:
            found.append("")
            continue
        if f"{word}." in chunk and ((len(word) == 1 and word.isalpha()) or word in ABBREVIATED):
            word = f"{word}."
        before, _, after = chunk.partition(word)
        found += [*([""] if before else []), word, *([""] if after else [])]
    return found


def queries(question: str, observations: Sequence[str]) -> str:
    """Up to three runs of words of the question or an observation, or an attribute that it implies; "" without words.

    Once something was found, a question that goes on with a pronoun ("... and how old is she?") asks about what was
    found: then one run is a name that the question does not have.
    """
    asked = query_words(question)
    runs, names = _runs(asked, LONGEST_QUERY), []
    known = {word.casefold() for word in asked if word}
    for text in observations:
        found = query_words(text)
        runs += _runs(found, LONGEST_NAME)
        names += _new_names(found, known)
    if not runs:
        return ""
    spoken = set(re.findall(r"\w+", question.casefold()))
    attributes = [name for name, words in ATTRIBUTES.items() if spoken & set(words.split())]
    part = "(" + "|".join([*dict.fromkeys(runs), *attributes]) + ")"
    if names and REFERS_BACK.search(question):
        whole = _longest(names)
        if PERSON.search(question):  # people have two names, where anything has
            whole = [name for name in whole if len(name) > 1] or whole
        name = "(" + "|".join(_variants_of(name) for name in whole) + ")"
        word = "(" + "|".join([*dict.fromkeys(_runs(asked, LONGEST_QUERY)), *attributes]) + ")"
        return f"({word} )?{name}( {word})?"
    return f"{part}( {part}){{0,{MOST_PARTS - 1}}}"


def _new_names(words: Sequence[str], known: set[str]) -> list[tuple[str, ...]]:
    """Whole names (runs of capitalised words) that are not the question's own, nor a longer form of those."""
    found, place = [], 0
    while place < len(words):
        end = place + 1
        while words[place] and end < len(words) and words[end] and _together(words[end - 1], words[end]):
            end += 1
        name = tuple(words[place:end])
        if name[0][:1].isupper() and not all(_is_known(word.casefold(), known) for word in name):
            found.append(name)
            if len(name) > 2 and not words[place - 1]:  # the first word of a sentence may only look like a name
                found.append(name[1:])
        place = end
    return found


def _longest(names: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """The names without the one-word short forms of others: Vittoria is Vittoria Ceretti."""
    parts = {word for name in names if len(name) > 1 for word in name}
    return [name for name in dict.fromkeys(names) if len(name) > 1 or name[0] not in parts]


def _variants_of(name: Sequence[str]) -> str:
    return " ".join(_variants(word) for word in name)


def _is_known(word: str, known: set[str]) -> bool:
    """Whether a question has the word or its short form: Leonardo is Leo."""
    base = re.sub(r"['’]s$", "", word)
    return (
        word in known or base in known or f"{base}'s" in known or any(len(k) > 2 and base.startswith(k) for k in known)
    )


def _runs(words: Sequence[str], longest: int) -> list[str]:
    """For every word an expression of it and up to `longest` - 1 words after it; no name is entered or left inside."""
    found = []
    for start, word in enumerate(words):
        if not word or _enters_name(words, start):
            continue
        run = [w for w in range(start, min(start + longest, len(words))) if words[w]]
        rest = ""
        for earlier, place in zip(reversed(run[:-1]), reversed(run[1:]), strict=True):
            piece = f" {_variants(words[place])}{rest}"
            whole = place == earlier + 1 and _together(words[earlier], words[place])
            rest = piece if whole else f"({piece})?"
        found.append(_variants(word) + rest)
    return found


def _together(first: str, second: str) -> bool:
    """Whether a name goes on; Leo's Claude are two."""
    return not first.endswith(("'s", "’s")) and inside_name(first, second)


def _enters_name(words: Sequence[str], place: int) -> bool:
    """Whether the word before this one begins the name; the first word of a sentence is not taken for a name."""
    before = words[place - 1] if place else ""
    return bool(before) and bool(words[place - 2]) and _together(before, words[place])


def _variants(word: str) -> str:
    """The word; without its "'s", its full stop or its plural s; a question word also with a capital."""
    for ending in ("'s", "’s", ".", "s"):
        if word.endswith(ending) and len(word) > len(ending) + (2 if ending == "s" else 0):
            return f"{literal(word[: -len(ending)])}({literal(ending)})?"
    return f"({word}|{word.capitalize()})" if word in ASKING else literal(word)


def answers(question: str, observations: Sequence[str]) -> str:
    """What a final answer may be: up to three spans of observations, ", " between; "" without observations.

    A calculator's number is taken whole, and what was calculated last comes last.  Once something was calculated, a
    question that offers a choice may be answered with a span of its own: the name of the larger of two things.
    """
    if not observations:
        return ""
    asked, wanted = inflected(question), kind_wanted(question)
    told = [text for text in dict.fromkeys(observations) if not text.startswith(RESULT)]
    results = [literal(text.removeprefix(RESULT).strip()) for text in observations if text.startswith(RESULT)]
    any_part = [spans(text, asked) for text in told] + results
    last_part = any_part
    if results:
        last_part = [results[-1], *([spans(question)] if CHOOSES.search(question) else [])]
    elif len(told) > 1:
        subjects = frozenset().union(*(subject_of(text, told[:place]) for place, text in enumerate(told)))
        last_part = [spans(text, asked | subjects, wanted) for text in told]
    elif wanted:
        last_part = [spans(text, asked, wanted) for text in told]
    if not any(last_part):
        last_part = any_part
    before, last = (
        "(" + "|".join(part for part in dict.fromkeys(parts) if part) + ")" for parts in (any_part, last_part)
    )
    return f"({before}, ){{0,{MOST_PARTS - 1}}}{last}"


def kind_wanted(question: str) -> str:
    """What a question with one question word asks for: a "person", "name", "number", "date" or, not known, ""."""
    words = ASKS.findall(question)
    if len(words) != 1:
        return ""
    return next((kind for kind, pattern in KINDS.items() if pattern.search(question)), "")


def subject_of(text: str, earlier: Sequence[str]) -> frozenset[str]:
    """The words at the beginning of `text` that an earlier observation told: whom it is about, so no answer."""
    known = {word.casefold() for seen in earlier for word in CHUNK.findall(seen)}
    words = [word.casefold() for word in CHUNK.findall(text) if word.strip() and word not in EDGE]
    return frozenset(itertools.takewhile(known.__contains__, words[:6]))
