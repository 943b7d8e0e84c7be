"""Which parts of a final answer stand nowhere: numbers and names that neither the question nor a tool gave."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from agentkit.number_words import spelled_numbers

NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:[eE][-+]?\d+)?|(?<![\w.])-?\.\d+")
WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
SENTENCE_END = re.compile(r"[.!?:]\s*$|\n\s*$|^\s*[\"“'(*-]*$")
POSSESSIVE = re.compile(r"['’]s$")
MOST_DIGITS = 25
DECIMAL_COMMA = re.compile(r"(?<![\w.,])\d+,\d+(?![\d,])")
_MONTHS = "january february march april may june july august september october november december".split()
MONTHS = tuple((name, name[:3]) for name in _MONTHS)
NUMBERED_DATE = re.compile(r"(?<![\w.-])\d{4}-(0[1-9]|1[0-2])-\d\d(?!\d)")
_NAMED = "|".join(f"{name}|{name[:3]}" for name in _MONTHS)
NAMED_DATE = re.compile(rf"(?<!\w)({_NAMED})(?!\w)(?=\.?,? \d)", re.IGNORECASE)
WHY_NOT = re.compile(
    r"\b(cannot|can't|could ?n[o']t|un(able|available|fortunately|known|reachable)|fail(s|ed|ure)?|errors?|sorry|"
    r"(do|does|did)( not|n't) (know|have|find|work)|not (found|known|possible|available)|"
    r"no (answer|results?|access))\b",
    re.IGNORECASE,
)
FUNCTIONS = frozenset(
    "abs ceil cos e exp factorial floor ln log max min mod pi pow round sin sqrt tan x c p answer of".split()
)
"""Words of calculations."""
OF_ANY_SUM = "; ".join([*map(str, range(13)), *"24 25 50 60 75 100 365 1000 1440 3600 0.01 0.1 0.25 0.5 0.75".split()])
"""Numbers that belong to no question: counts, shares, minutes, hours, days."""
# Capitalised in any sentence without being a name.
ORDINARY = frozenset(
    "i i'm i'll i've a an the it its he she they we you this that these those there yes no not and or but so if in on "
    "of at to for from by with as is are was were answer final thought action observation question search calculator "
    "approximately about mr mrs ms dr".split()
)


def ungrounded(answer: str | Sequence[str], question: str, observations: Sequence[str]) -> tuple[str, ...]:
    """The numbers and names of `answer` that stand in no observation and not in the question, in order, each once.

    An answer may be several texts, of which none goes on with another.

    2024-01-02 and 2 January 2024 are one date, 1,234 and 1234 are one number, and so are a number and its rounding to
    fewer digits, and 25 and twenty-five. Names are capitalised words compared without case; an ordinary word that only
    begins a sentence is none. Linear in the length of the texts.
    """
    sources = [question, *observations]
    numbers, words = _numbers_of(sources), {word for text in sources for word in _words(text)}
    months = {month for text in sources for month in _months(text)}
    numbers |= {one for month in months if (one := _digits(str(month))) is not None}
    words |= {name for month in months for name in MONTHS[month - 1]}
    found: list[str] = []
    for text in [answer] if isinstance(answer, str) else answer:
        strange = [*_strange_numbers(text, numbers), *_strange_names(text, words)]
        found += (one for _, one in sorted(strange))
    return tuple(dict.fromkeys(found))


def _months(text: str) -> Iterator[int]:
    """The months of the dates in a text, by number and by name."""
    for match in NUMBERED_DATE.finditer(text):
        yield int(match[1])
    for match in NAMED_DATE.finditer(text):
        word = match[1].casefold()
        yield from (number for number, names in enumerate(MONTHS, start=1) if word in names)


def leaves(value: Any) -> Iterator[str]:
    """The texts and numbers that stand in a value, the keys of objects too; truth values and nothing are neither."""
    rest = [value]
    while rest:
        part = rest.pop()
        if isinstance(part, Mapping):
            rest += reversed([each for pair in part.items() for each in pair])
        elif isinstance(part, list | tuple):
            rest += reversed(part)
        elif part is not None and not isinstance(part, bool):
            yield str(part)


def says_why_not(answer: str) -> bool:
    """Whether an answer says that there is none: English words of failure, and nothing else, tell it."""
    return WHY_NOT.search(answer.replace("’", "'")) is not None


def confirming(question: str, steps: Iterable[tuple[Any, str]]) -> list[str]:
    """Of steps, each a tool's input and its observation, the observations that confirm what they say.

    The result of a calculation is as good as its numbers: one with a number that stands nowhere confirms nothing. 0.2
    stands where 20 does, which may be a percentage.
    """
    confirmed: list[str] = []
    known = {*_exact_numbers(OF_ANY_SUM), *_usable(question)}
    for given, observation in steps:
        if _is_calculation(text := _only_text(given)) and not known.issuperset(_exact_numbers(text)):
            continue
        confirmed.append(observation)
        known.update(_usable(observation))
    return confirmed


def _only_text(given: Any) -> str:
    """The input where it is one text, by itself or as the only argument."""
    if isinstance(given, Mapping) and len(given) == 1:
        (given,) = given.values()
    return given if isinstance(given, str) else ""


def _is_calculation(text: str) -> bool:
    return len(text) <= 1_000 and FUNCTIONS.issuperset(word.casefold() for word in WORD.findall(text)) and bool(text)


def _usable(text: str) -> Iterator[tuple[str, int]]:
    """What a calculation may take from a text: its numbers, their roundings, and the hundredth of each."""
    for digits, place in _exact_numbers(text):
        yield from ((digits, place), (digits, place - 2), *_roundings(digits, place))


def _exact_numbers(text: str) -> Iterator[tuple[str, int]]:
    """The numbers of a text as `_digits` has them; decimal commas and groups of three are read either way."""
    commas = (found.replace(",", ".") for found in DECIMAL_COMMA.findall(text))
    grouped = re.sub(r"(?<=\d)[ '’_\u00a0\u202f](?=\d{3}(?!\d))", "", text)
    for number in (*NUMBER.findall(text), *NUMBER.findall(grouped), *commas, *map(str, spelled_numbers(text))):
        if (exact := _digits(number)) is not None:
            yield exact


def _words(text: str) -> Iterator[str]:
    """The lower-case words of a text, compounds also in their parts."""
    for match in WORD.finditer(text):
        word = POSSESSIVE.sub("", match[0].casefold())
        yield word
        yield from re.split(r"[-'’]", word)


def _digits(number: str) -> tuple[str, int] | None:
    """(significant digits, place of the first digit before the point), None where too long or no number.

    "1,234.50" is ("12345", 4), "0.05" is ("5", -1).  The sign is left out: a loss of 5 is -5.
    """
    mantissa, _, exponent = number.replace(",", "").lstrip("-").lower().partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = whole + fraction
    stripped = digits.lstrip("0")
    shift = int(exponent) if exponent and len(exponent) < 5 else 0
    if len(stripped) > 400 or len(exponent) >= 5:
        return None
    return stripped.rstrip("0"), len(whole) - (len(digits) - len(stripped)) + shift if stripped else 0


def _numbers_of(texts: Sequence[str]) -> set[tuple[str, int]]:
    """Every number of the texts with all its roundings."""
    known: set[tuple[str, int]] = {("", 0)} if any("0" in text for text in texts) else set()
    for text in texts:
        for number in (*NUMBER.findall(text), *map(str, spelled_numbers(text))):
            exact = _digits(number)
            if exact is not None:
                known.add(exact)
                known.update(_roundings(*exact))
    return known


def _roundings(digits: str, place: int) -> Iterator[tuple[str, int]]:
    """The number rounded half up, and cut off, after each digit that is behind the point or at least the third."""
    for kept in range(1, min(len(digits), MOST_DIGITS)):
        if kept < place and kept < 3:
            continue
        head, following = digits[:kept], digits[kept]
        yield head.rstrip("0"), place
        if following >= "5":
            up = str(int(head) + 1)
            yield up.rstrip("0"), place + len(up) - kept


def _strange_numbers(answer: str, known: set[tuple[str, int]]) -> Iterator[tuple[int, str]]:
    for match in NUMBER.finditer(answer):
        if _digits(match[0]) not in known:
            yield match.start(), match[0]


def _strange_names(answer: str, spoken: set[str]) -> Iterator[tuple[int, str]]:
    """Runs of unknown capitalised words, told as one name."""
    run: list[str] = []
    start = end = 0
    for match in WORD.finditer(answer):
        if _is_strange(answer, match, spoken):
            if run and answer[end : match.start()] != " ":
                yield start, " ".join(run)
                run = []
            start = start if run else match.start()
            run.append(POSSESSIVE.sub("", match[0]))
            end = match.end()
        elif run:
            yield start, " ".join(run)
            run = []
    if run:
        yield start, " ".join(run)


def _is_strange(answer: str, match: re.Match[str], spoken: set[str]) -> bool:
    """Whether this word is a name that the sources do not have."""
    text = POSSESSIVE.sub("", match[0])
    word = text.casefold()
    if not text[0].isupper() or word in ORDINARY or word in spoken:
        return False
    if len(word) == 1 and re.search(r"\d", answer[max(0, match.start() - 1) : match.end() + 1]):
        return False  # of a time, as in 2024-01-02T17:00:00Z
    parts = re.split(r"[-'’]", word)
    if len(parts) > 1 and all(part in spoken or part in ORDINARY for part in parts):
        return False
    begins = bool(SENTENCE_END.search(answer[max(0, match.start() - 8) : match.start()]))
    return not begins or _goes_on_as_name(answer, match.end()) or (text.isupper() and len(text) > 1)


def _goes_on_as_name(answer: str, end: int) -> bool:
    """Whether what follows the first word of a sentence is no lower-case word: a full name, a list, or nothing."""
    following = re.search(r"\w", answer[end : end + 8])
    return following is None or not following[0].islower()
