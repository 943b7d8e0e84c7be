"""English words for whole numbers: the one table of them, and their reader (`two hundred and five`, `a dozen`)."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

SMALL = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
).split()
TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
ORDINALS = "zeroth first second third fourth fifth sixth seventh eighth ninth tenth".split()
CARDINALS = {word: value for value, word in enumerate(SMALL)} | {word: 10 * n for n, word in enumerate(TENS, 2)}
ONES = {word: value for word, value in CARDINALS.items() if value < 10}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}
SCALES |= {"lakh": 10**5, "crore": 10**7, "lakhs": 10**5, "crores": 10**7, "mn": 10**6, "bn": 10**9, "tn": 10**12}
MULTIPLES = {"hundred": 100, "dozen": 12, **SCALES}
VALUES = {**CARDINALS, **MULTIPLES}

_WORD = "|".join(VALUES)
_SPELLED = re.compile(rf"\b(?:an? )?(?:{_WORD})\b(?:(?: and |[ -])(?:{_WORD})\b)*", re.IGNORECASE)


def read_cardinal(words: Sequence[str]) -> tuple[int, int]:
    """The whole number that lower-case `words` begin with and how many of them it takes; (0, 0) where it is none.

    Words that do not go on with a number end it: `twenty five` is one, `two three` are two.
    """
    total, group, used, last_scale = 0, 0, 0, 10**18
    for word in words:
        if word in CARDINALS and _fits(group, CARDINALS[word], started=used > 0, closed=group == 0 and total > 0):
            group += CARDINALS[word]
        elif word == "hundred" and 0 < group < 100:
            group *= 100
        elif word in SCALES and group and SCALES[word] < last_scale:
            last_scale = SCALES[word]
            total, group = total + group * last_scale, 0
        elif not (
            word == "and" and used and words[used - 1] in MULTIPLES and CARDINALS.keys() & words[used + 1 : used + 2]
        ):
            break
        used += 1
    return total + group, used


def _fits(group: int, value: int, *, started: bool, closed: bool) -> bool:
    """Whether a word of `value` can follow: twenty-five can, two-three cannot."""
    if not started or closed:
        return True
    if value >= 10:
        return group > 0 and group % 100 == 0
    return value > 0 and group > 0 and (group % 100 == 0 or (group % 10 == 0 and group % 100 >= 20))


def spelled_numbers(text: str) -> Iterator[int]:
    """The whole numbers that a text spells: twenty-five, three hundred and twelve, two dozen, a million."""
    for match in _SPELLED.finditer(text):
        words = [word for word in re.split("[ -]", match[0].lower()) if word not in ("a", "an")]
        while words:
            words = ["one", *words] if words[0] in MULTIPLES else words
            value, used = read_cardinal(words)
            while used < len(words) and words[used] in MULTIPLES:
                value, used = value * MULTIPLES[words[used]], used + 1
            if used:
                yield value
            words = words[max(used, 1) :]


def count(number: int, what: str) -> str:
    """A number of things: 1 reply, 2 replies."""
    plural = f"{what[:-1]}ies" if what.endswith("ly") else f"{what}s"
    return f"{number:,} {what if number == 1 else plural}"
