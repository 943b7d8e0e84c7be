"""Words that are arithmetic: `times`, `raised to the power of`, `square root of`, number words; and openings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction

from agentkit.number_words import MULTIPLES, ONES, ORDINALS, VALUES, read_cardinal
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.number_text import exact_text
from agentkit.tools.arithmetic.real import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import Token, word_at

_OPENINGS = """what what's whats is are the calculate calc calculation input compute evaluate find solve please how much
value result answer determine simplify expression equation tell me give can could you let's out work now"""
OPENINGS = frozenset(_OPENINGS.split())
_AFTER_OF = frozenset({"value", "result"})
_SPOKEN = {
    "raised to the power of": "^", "raised to the power": "^", "to the power of": "^", "to the power": "^",
    "raised to": "^", "times": "*", "multiplied by": "*", "divided by": "/", "over": "/", "plus": "+", "added to": "+",
    "minus": "-", "modulo": "mod", "mod": "mod", "percent": "%", "per cent": "%", "pct": "%", "equals": "=",
    "is equal to": "=", "equal to": "=", "equal": "=", "negative": "neg", "of": "of",
    "the square root of": "sqrt", "square root of": "sqrt", "square root": "sqrt", "sqrt of": "sqrt",
    "the cube root of": "cbrt", "cube root of": "cbrt", "cube root": "cbrt",
    "the sum of": "sum", "sum of": "sum", "the product of": "product", "product of": "product",
    "the difference between": "difference", "difference between": "difference",
    "the average of": "mean", "average of": "mean", "the mean of": "mean", "mean of": "mean",
}  # fmt: skip
_PHRASES = {tuple(phrase.split()): sign for phrase, sign in _SPOKEN.items()}
_LONGEST = max(map(len, _PHRASES))
_POWERS = {"squared": 2, "cubed": 3}
_MULTIPLIERS = {"twice": 2, "double": 2, "thrice": 3, "triple": 3}
_ORDINAL_ENDINGS = ("st", "nd", "rd", "th")
_POWER_WORDS = {word: value for value, word in enumerate(ORDINALS) if value > 1}

_PLURAL_SCALES = {"millions": 10**6, "billions": 10**9, "trillions": 10**12}
_COUNTED = MULTIPLES | _PLURAL_SCALES
_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "mn": 10**6, "bn": 10**9, "Bn": 10**9, "tn": 10**12}
_PARTS = {"half": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "seventh": 7, "eighth": 8}
_PARTS |= {"ninth": 9, "tenth": 10, "hundredth": 100, "thousandth": 1000, "halves": 2}
_PARTS |= {f"{part}s": size for part, size in list(_PARTS.items()) if part != "halves"}
WORDS = frozenset({*VALUES, *_COUNTED, *_PARTS})
"""Words that are part of a number: understood or refused, never dropped."""

LISTS = frozenset({"sum", "product", "difference", "mean"})
"""Signs for `the sum of 3 and 4`: a list of numbers follows."""

_MEANINGFUL = """of in to into as than from more less fewer and or not if is are was were be been has had for with at
about around approximately roughly nearly almost between through until till by on off per the a an this
that these those bigger larger smaller greater lower higher least most max maximum minimum average mean
median mode difference product quotient ratio rate remainder root power exponent log ln sqrt sin cos tan
abs couple few several many dozens hundreds thousands score scores gross pair pairs lot lots some any no
none nil naught nought point double triple twice thrice quadruple rounded round nearest up down increase
decrease increased decreased increases reduced ago before after since during every inf infinity infinite
nan null true false decimal fraction fractions percentage percentages percents january february march
april june july august september october november december jan feb apr jun jul aug sep sept oct nov dec
am pm bc ad bce ce lambda import eval exec frac print def return while else st nd rd th subtract
subtracted add added multiply divide raised squared cubed times minus plus equals equal what when where
who how which why convert converted bps basis ppm ppb permille mil mils mio mrd mln bln trn thou grand lac lacs doz
dz tens myriad mega giga tera milli micro nano halved doubled tripled quadrupled inverse reciprocal opposite absolute"""
MEANINGFUL = WORDS | frozenset(_MEANINGFUL.split())
"""Words that would change the result: where they are not understood the input is refused, they are never ignored."""


def spoken(tokens: list[Token]) -> list[Token]:
    """The tokens with worded signs and number words in their written form; all other words stay."""
    return list(_rewritten(_without_opening(list(_split_hyphens(tokens)))))


def _split_hyphens(tokens: list[Token]) -> Iterator[Token]:
    """`twenty-five` is one number in two words; `ten-pi` and `ten-sqrt(4)` are differences."""
    for place, token in enumerate(tokens):
        first, *others = token.text.split("-")
        if token.kind != "word" or not any(part.casefold() in WORDS for part in (first, *others)):
            yield token
            continue
        yield Token("word", first, first, glued=token.glued)
        for part in others:
            called = part is others[-1] and tokens[place + 1 : place + 2] and tokens[place + 1].is_sign("(")
            if part in CONSTANTS or (called and part.casefold() in FUNCTIONS):
                yield Token("sign", "-", "-", glued=True)
            yield Token("word", part, part)


def _without_opening(tokens: list[Token]) -> list[Token]:
    """Drops `What is the value of`, `Calculate:` and the like."""
    place = 0
    while place < len(tokens) and tokens[place].kind == "word" and _phrase_at(tokens, place) is None:
        word = tokens[place].text.casefold()
        if word not in OPENINGS and not (word == "of" and place and tokens[place - 1].text.casefold() in _AFTER_OF):
            break
        place += 1
    if 0 < place < len(tokens) and tokens[place - 1].text.casefold() in _AFTER_OF and tokens[place].word == "of":
        place += 1
    if 0 < place < len(tokens) and tokens[place].is_sign(":"):
        place += 1
    return tokens[place:]


def _rewritten(tokens: list[Token]) -> Iterator[Token]:
    place = 0
    while place < len(tokens):
        made, used = _at(tokens, place)
        yield from made
        place += used


def _at(tokens: list[Token], place: int) -> tuple[list[Token], int]:
    """What stands at `place`, rewritten, and how many tokens that takes."""
    if power := _ordinal_power(tokens, place):
        return power
    if phrase := _phrase_at(tokens, place):
        sign, used = phrase
        return [Token("sign", sign, " ".join(t.text for t in tokens[place : place + used]), spoken=True)], used
    token = tokens[place]
    word = token.word
    if number := _number_at(tokens, place):
        value, used = number
        text = exact_text(value)
        written = " ".join(t.written for t in tokens[place : place + used])
        if Fraction(text) != value:
            text = f"({value.numerator}/{value.denominator})"
        return [Token("number", text, written, value, glued=token.glued, spoken=True)], used
    if word in _POWERS:
        return [_sign("^"), _whole(_POWERS[word])], 1
    if word in _MULTIPLIERS:
        return [_whole(_MULTIPLIERS[word]), _sign("*")], 1
    return [token], 1


def _phrase_at(tokens: list[Token], place: int) -> tuple[str, int] | None:
    words = []
    for token in tokens[place : place + _LONGEST]:
        if token.kind != "word":
            break
        words.append(token.text.casefold())
    for length in range(len(words), 0, -1):
        if sign := _PHRASES.get(tuple(words[:length])):
            return sign, length
    return None


def _ordinal_power(tokens: list[Token], place: int) -> tuple[list[Token], int] | None:
    """`raised to the 0.43 power`, `to the 5th power`, `to the fourth`."""
    start = place
    if tokens[place].word == "raised":
        place += 1
    if not (word_at(tokens, place) == "to" and word_at(tokens, place + 1) == "the"):
        return None
    place += 2
    if word_at(tokens, place) in _POWER_WORDS:
        value = _whole(_POWER_WORDS[word_at(tokens, place)])
        place += 1
    elif place < len(tokens) and tokens[place].kind == "number":
        value = tokens[place]
        place += 2 if word_at(tokens, place + 1) in _ORDINAL_ENDINGS and tokens[place + 1].glued else 1
    else:
        return None
    if word_at(tokens, place) == "power":
        return [_sign("^"), value], place + 1 - start
    if place < len(tokens) and not tokens[place].is_sign(")", "?", "="):
        raise refusal("'to the ...' is not understood here; write the power with ^ and brackets.")
    return [_sign("^"), value], place - start


# -- numbers in words: `2.5 million`, `three quarters`, `two and a half`; whole ones are read by number_words ---------


def _number_at(tokens: list[Token], place: int) -> tuple[Fraction, int] | None:
    """The number that stands there in words, or partly so, and how many tokens it takes."""
    if tokens[place].kind == "number":
        return _after_digits(tokens, place)
    words = _words_from(tokens, place)
    whole, used = read_cardinal(words)
    value, used = (Fraction(1), 1) if not used and words[0] in ("a", "an") else (Fraction(whole), used)
    if part := _part(words, used, value if used else None):
        return part
    value, used = _scaled(words, value, used) if used else (value, 0)
    if not used or (used == 1 and words[0] in ("a", "an")):
        return None
    value, used = _with_point(words, value, used)
    return _with_fraction(words, value, used)


def _words_from(tokens: list[Token], place: int) -> list[str]:
    """The words from there on in lower case, "" for what is no word, and "" thrice after the last."""
    return [word_at(tokens, each) for each in range(place, len(tokens) + 3)]


def _after_digits(tokens: list[Token], place: int) -> tuple[Fraction, int] | None:
    value, used = tokens[place].value, 1
    words = _words_from(tokens, place)
    if words[1] and tokens[place + 1].glued and tokens[place + 1].written in _SUFFIXES:
        value, used = value * _SUFFIXES[tokens[place + 1].written], 2
    value, used = _scaled(words, value, used)
    if used == 1 and words[1] in _PARTS:
        written = f"{tokens[place].text} {tokens[place + 1].text}"
        raise refusal(f"{quoted(written)} is not understood; write a fraction as (2/3).")
    value, used = _with_fraction(words, value, used)
    return (value, used) if used > 1 else None


def _scaled(words: Sequence[str], value: Fraction, used: int) -> tuple[Fraction, int]:
    """`5 dozen`, `3 hundred thousand`, `two millions`."""
    while (word := words[used]) in _COUNTED:
        value, used = value * _COUNTED[word], used + 1
    return value, used


def _part(words: Sequence[str], used: int, count: Fraction | None) -> tuple[Fraction, int] | None:
    """`half`, `a quarter`, `two thirds`, `half a million`."""
    word = words[used]
    if word not in _PARTS or (count is None and word != "half"):
        return None
    plural = word.endswith("s")
    if count is not None and (plural == (count == 1) or used > 2):
        raise refusal(f"{quoted(' '.join(words[: used + 1]))} is not understood; write it as (2/3).")
    value = Fraction(1 if count is None else count) / _PARTS[word]
    used += 1
    article = used + (words[used] == "of")
    if words[article] in ("a", "an") and words[article + 1] in MULTIPLES:
        used = article + 1
    return _scaled(words, value, used)


def _with_point(words: Sequence[str], value: Fraction, used: int) -> tuple[Fraction, int]:
    """`three point one four`."""
    if words[used] != "point" or words[used + 1] not in ONES:
        return value, used
    place, used = Fraction(1, 10), used + 1
    while (word := words[used]) in ONES:
        value, place, used = value + ONES[word] * place, place / 10, used + 1
    return _scaled(words, value, used)


def _with_fraction(words: Sequence[str], value: Fraction, used: int) -> tuple[Fraction, int]:
    """`two and a half`."""
    count = {"a": 1, "an": 1, **ONES}.get(words[used + 1], 0)
    part = words[used + 2]
    if words[used] != "and" or not count or part not in _PARTS or part.endswith("s") == (count == 1):
        return value, used
    if value.denominator != 1 or value >= 1000:
        raise refusal("'and a half' of a large number is not understood; write the number in digits.")
    return value + Fraction(count, _PARTS[part]), used + 3


# -- tokens ----------------------------------------------------------------------------------------------------------


def _sign(text: str) -> Token:
    return Token("sign", text, text, spoken=True)


def _whole(value: int) -> Token:
    return Token("number", str(value), str(value), Fraction(value), spoken=True)
