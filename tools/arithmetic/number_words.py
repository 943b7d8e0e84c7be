"""English number words: `two hundred and five`, `2.5 million`, `a dozen`, `three quarters`, `two and a half`."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import Token

_SMALL = """zero one two three four five six seven eight nine
ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"""
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
CARDINALS = {word: value for value, word in enumerate(_SMALL.split())}
CARDINALS |= {word: 10 * tens for tens, word in enumerate(_TENS.split(), 2)}
ONES = {word: value for word, value in CARDINALS.items() if value < 10}
SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12, "quadrillion": 10**15}
SCALES |= {"lakh": 10**5, "crore": 10**7, "lakhs": 10**5, "crores": 10**7, "mn": 10**6, "bn": 10**9, "tn": 10**12}
PLURAL_SCALES = {"millions": 10**6, "billions": 10**9, "trillions": 10**12}
MULTIPLES = {"hundred": 100, "dozen": 12, **SCALES}
SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "mn": 10**6, "bn": 10**9, "Bn": 10**9, "tn": 10**12}
PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
PARTS |= {"ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000, "halves": 2}
PARTS |= {f"{part}s": size for part, size in list(PARTS.items()) if part != "halves"}

WORDS = frozenset({*CARDINALS, *MULTIPLES, *PLURAL_SCALES, *PARTS})
"""Words that are part of a number: understood or refused, never dropped."""


def read_number(words: Sequence[Token]) -> tuple[Fraction, int] | None:
    """The number that `words` begin with, and how many of them it takes; None where they begin with none."""
    first = words[0]
    if first.kind == "number":
        return _after_digits(words)
    if first.kind != "word":
        return None
    value, used = _cardinal(words)
    value, used = (Fraction(1), 1) if not used and _text(words, 0) in ("a", "an") else (value, used)
    whole = used
    if part := _part(words, used, value if whole else None):
        return part
    if not whole:
        return None
    value, used = _scaled(words, value, used)
    if _text(words, 0) in ("a", "an") and used == 1:
        return None
    value, used = _with_point(words, value, used)
    return _with_fraction(words, value, used)


def _after_digits(words: Sequence[Token]) -> tuple[Fraction, int] | None:
    value, used = words[0].value, 1
    suffix = words[1] if len(words) > 1 else None
    if suffix is not None and suffix.kind == "word" and suffix.glued and suffix.written in SUFFIXES:
        value, used = value * SUFFIXES[suffix.written], 2
    value, used = _scaled(words, value, used)
    if used == 1 and _text(words, 1) in PARTS:
        raise refusal(f"{quoted(words[0].text + ' ' + words[1].text)} is not understood; write a fraction as (2/3).")
    value, used = _with_fraction(words, value, used)
    return (value, used) if used > 1 else None


def _cardinal(words: Sequence[Token]) -> tuple[Fraction, int]:
    """A whole number below 1000 thousand and so on; 0 words used where there is none."""
    total, group, used, last_scale = 0, 0, 0, 10**18
    while word := _text(words, used):
        if word in CARDINALS and _fits(group, CARDINALS[word], started=used > 0, closed=group == 0 and total > 0):
            group += CARDINALS[word]
        elif word == "hundred" and 0 < group < 100:
            group *= 100
        elif word in SCALES and group and SCALES[word] < last_scale:
            last_scale = SCALES[word]
            total, group = total + group * last_scale, 0
        elif not (
            word == "and" and used and _text(words, used - 1) in MULTIPLES and _text(words, used + 1) in CARDINALS
        ):
            break
        used += 1
    return Fraction(total + group), used


def _fits(group: int, value: int, *, started: bool, closed: bool) -> bool:
    """Whether a word of `value` can follow: twenty-five can, two-three cannot."""
    if not started or closed:
        return True
    if value >= 10:
        return group > 0 and group % 100 == 0
    return value > 0 and group > 0 and (group % 100 == 0 or (group % 10 == 0 and group % 100 >= 20))


def _scaled(words: Sequence[Token], value: Fraction, used: int) -> tuple[Fraction, int]:
    """`5 dozen`, `3 hundred thousand`, `two millions`."""
    while (word := _text(words, used)) in MULTIPLES or word in PLURAL_SCALES:
        value, used = value * (MULTIPLES | PLURAL_SCALES)[word], used + 1
    return value, used


def _part(words: Sequence[Token], used: int, count: Fraction | None) -> tuple[Fraction, int] | None:
    """`half`, `a quarter`, `two thirds`, `half a million`."""
    word = _text(words, used)
    if word not in PARTS or (count is None and word != "half"):
        return None
    plural = word.endswith("s")
    if count is not None and (plural == (count == 1) or used > 2):
        raise refusal(f"{quoted(' '.join(t.text for t in words[: used + 1]))} is not understood; write it as (2/3).")
    value = Fraction(1 if count is None else count) / PARTS[word]
    used += 1
    follows = [_text(words, used + i) for i in range(3)]
    if follows[0] in ("a", "an") and follows[1] in MULTIPLES:
        return _scaled(words, value, used + 1)
    if follows[0] == "of" and follows[1] in ("a", "an") and follows[2] in MULTIPLES:
        return _scaled(words, value, used + 2)
    return _scaled(words, value, used)


def _with_point(words: Sequence[Token], value: Fraction, used: int) -> tuple[Fraction, int]:
    """`three point one four`."""
    if _text(words, used) != "point" or _text(words, used + 1) not in ONES:
        return value, used
    place, used = Fraction(1, 10), used + 1
    while (word := _text(words, used)) in ONES:
        value, place, used = value + ONES[word] * place, place / 10, used + 1
    return _scaled(words, value, used)


def _with_fraction(words: Sequence[Token], value: Fraction, used: int) -> tuple[Fraction, int]:
    """`two and a half`."""
    count = {"a": 1, "an": 1, **ONES}.get(_text(words, used + 1), 0)
    part = _text(words, used + 2)
    if _text(words, used) != "and" or not count or part not in PARTS or part.endswith("s") == (count == 1):
        return value, used
    if value.denominator != 1 or value >= 1000:
        raise refusal("'and a half' of a large number is not understood; write the number in digits.")
    return value + Fraction(count, PARTS[part]), used + 3


def _text(words: Sequence[Token], place: int) -> str:
    """The word there in lower case, or nothing."""
    if place < len(words) and words[place].kind == "word":
        return words[place].text.casefold()
    return ""
