"""Regular expressions of what may be copied from a question and its observations: queries, numbers, answers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

MOST_PARTS, LONGEST_QUERY, LONGEST_NAME, LONGEST_ANSWER = 3, 16, 7, 14
SMALL_NUMBERS = (*range(13), 24, 60, 100, 365, 1000)
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
NUMBER = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+|\.\d+|\d+")
EXPONENT = re.compile(r"\d+(?:\.\d+)?e[-+]?\d+")
CHUNK = re.compile(r"\d+(?:,\d{3})+(?:\.\d+)?|\d+\.\d+(?:e[-+]?\d+)?|\d+|[^\W\d_]+(?:['’][^\W\d_]+)*|\s+|.", re.S)
FUNCTION_WORDS = frozenset(
    "a an the of to in on at by for from with as and or but is was are were be been has had have his her its their "
    "who which that this it he she they when where after before into than".split()
)
ASKING = frozenset(("who", "what", "when", "where", "which", "how", "in", "on", "at", "to", "from"))
SPECIAL = re.compile(r"[\\.^$|?*+()\[\]{}/&~#\"-]")
EDGE = "\"“”„‘’'`.,;:!?()[]{}<>*…"
WORDS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
WORDS += "seventeen eighteen nineteen".split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
MEANT = {**{word: n for n, word in enumerate(WORDS)}, **{word: 10 * n for n, word in enumerate(TENS, 2)}}
GROUPS = {"dozen": 12, "hundred": 100, "thousand": 1000, "million": 1_000_000}
SPELLED = re.compile(rf"\b(?:a |one )?(?:{'|'.join([*MEANT, *GROUPS])})\b(?:(?: and |[ -])(?:{'|'.join([*MEANT, *GROUPS])})\b)*", re.I)


def literal(text: str) -> str:
    """`text` as a Lark regular expression that matches only itself."""
    return SPECIAL.sub(r"\\\g<0>", text).replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")


def union(texts: Iterable[str]) -> str:
    """An alternation of literals, each once."""
    return "(" + "|".join(literal(text) for text in dict.fromkeys(texts)) + ")"


def query_words(text: str) -> list[str]:
    """The words of a text as a query has them: without the punctuation around them, but "J." and "Inc." whole."""
    found = []
    for chunk in text.split():
        word = chunk.strip(EDGE)
        if not word or '"' in word or "\\" in word or "://" in word:
            continue
        found.append(f"{word}." if len(word) < 4 and word[0].isupper() and f"{word}." in chunk else word)
    return found


def queries(question: str, observations: Sequence[str]) -> str:
    """Up to three runs of words of the question or an observation, or an attribute that it implies; "" without any words."""
    runs = _runs(query_words(question), LONGEST_QUERY)
    for text in observations:
        runs += _runs(query_words(text), LONGEST_NAME)
    if not runs:
        return ""
    asked = set(re.findall(r"\w+", question.casefold()))
    attributes = [name for name, words in ATTRIBUTES.items() if asked & set(words.split())]
    part = "(" + "|".join([*dict.fromkeys(runs), *attributes]) + ")"
    return f"{part}( {part}){{0,{MOST_PARTS - 1}}}"


def _runs(words: Sequence[str], longest: int) -> list[str]:
    """For every word an expression of it and up to `longest` - 1 words after it; endings may be dropped."""
    one = [_variants(word) for word in words]
    found = []
    for start in range(len(one)):
        rest = ""
        for word in reversed(one[start + 1 : start + longest]):
            rest = f"( {word}{rest})?"
        found.append(one[start] + rest)
    return found


def _variants(word: str) -> str:
    """The word; without its "'s", its full stop or its plural s; a question word also with a capital."""
    for ending in ("'s", "’s", ".", "s"):
        if word.endswith(ending) and len(word) > len(ending) + (2 if ending == "s" else 0):
            return f"{literal(word[: -len(ending)])}({literal(ending)})?"
    return f"({word}|{word.capitalize()})" if word in ASKING else literal(word)


def written_numbers(text: str) -> list[str]:
    """The numbers of a text as the calculator takes them: 1,200 is 1200, twenty-five is 25, half a dozen has 12."""
    found = [number.replace(",", "") for number in EXPONENT.findall(text) + NUMBER.findall(text)]
    for match in SPELLED.finditer(text):
        words = re.findall(r"[a-z]+", match[0].lower())
        found += [str(MEANT.get(word) or GROUPS.get(word)) for word in words if word in MEANT or word in GROUPS]
        for part in (match[0], *re.split(r" and ", match[0])):
            found.append(str(_meaning(re.findall(r"[a-z]+", part.lower()))))
    return found


def _meaning(words: Sequence[str]) -> int:
    """The number that English number words make together: three hundred and twelve is 312."""
    total = group = 0
    for word in words:
        if word in ("thousand", "million"):
            total, group = total + (group or 1) * GROUPS[word], 0
        elif word in GROUPS:
            group = (group or 1) * GROUPS[word]
        else:
            group += MEANT.get(word, 0)
    return total + group


def numbers(sources: Sequence[str]) -> str:
    """The numbers that stand in the sources, and small whole ones."""
    stated = [number for text in sources for number in written_numbers(text)]
    return union([*stated, *map(str, SMALL_NUMBERS)])


def spans(text: str, asked: frozenset[str] = frozenset()) -> str:
    """Every run of at most LONGEST_ANSWER words within a sentence of `text`, as one expression of nested options.

    A run does not end in a function word, and it does not begin with a word of the question (`asked`) unless a new
    name follows: the capital of Australia is not Australia, but that of Mexico is Mexico City.
    """
    chunks = CHUNK.findall(text)
    words = [place for place, chunk in enumerate(chunks) if not chunk.isspace() and chunk not in EDGE]
    found = []
    for number, place in enumerate(words):
        following = words[number + 1] if number + 1 < len(words) else None
        if chunks[place].casefold() in asked and not _goes_on(chunks, place, following, asked):
            continue
        end = next((w for w in words[number + 1 :] if _ends_sentence(chunks[place:w])), len(chunks))
        run = [w for w in words[number : number + LONGEST_ANSWER] if w < end]
        found.append(_nested(chunks, run))
    return "|".join(dict.fromkeys(found))


def _goes_on(chunks: Sequence[str], place: int, following: int | None, asked: frozenset[str]) -> bool:
    """Whether a new capitalised word follows after one space."""
    if following is None or following != place + 2:
        return chunks[place].casefold() in FUNCTION_WORDS
    word = chunks[following]
    return chunks[place].casefold() in FUNCTION_WORDS or (word[0].isupper() and word.casefold() not in asked)


def _ends_sentence(chunks: Sequence[str]) -> bool:
    """Whether the chunks, from a word up to the next one, hold the end of a sentence or of a line."""
    last = "".join(chunks[-3:])
    return "\n" in last or bool(re.search(r"\w{3,}[.!?]\s+$|[\d)][.!?]\s+$", "".join(chunks[-4:])))


def _nested(chunks: Sequence[str], run: Sequence[int]) -> str:
    """The first word of `run`, then as many more as wanted, each with what stands before it."""
    rest = ""
    for earlier, place in zip(reversed(run[:-1]), reversed(run[1:]), strict=True):
        piece = literal("".join(chunks[earlier + 1 : place + 1])) + rest
        may_end = chunks[earlier].casefold() not in FUNCTION_WORDS
        rest = f"({piece})?" if may_end else piece
    return literal(chunks[run[0]]) + rest


def answers(question: str, observations: Sequence[str]) -> str:
    """What a final answer may be: up to three spans of observations, ", " between; "" without observations.

    A calculator's number is taken whole.  Once something was calculated, spans of the question may be given too: the
    name of the larger of two things stands there.
    """
    if not observations:
        return ""
    parts, calculated = [], False
    asked = frozenset(chunk.casefold() for chunk in CHUNK.findall(question))
    for text in observations:
        if text.startswith("Answer: "):
            parts.append(literal(text.removeprefix("Answer: ").strip()))
            calculated = True
        else:
            parts.append(spans(text, asked))
    if calculated:
        parts.append(spans(question))
    part = "(" + "|".join(dict.fromkeys(p for p in parts if p)) + ")"
    return f"{part}(, {part}){{0,{MOST_PARTS - 1}}}"
