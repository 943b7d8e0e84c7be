"""Words that are arithmetic: `times`, `raised to the power of`, `square root of`, number words; and openings."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import pairwise

from agentkit.number_words import CARDINALS, MULTIPLES, ONES, VALUES, read_cardinal
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.number_text import exact_text
from agentkit.tools.arithmetic.real import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import Token, word_at

_OPENINGS = """what what's whats is are the calculate calc calculation input compute evaluate find solve please how much
value result answer determine simplify expression equation tell me give can could you let's out work now"""
OPENINGS = frozenset(_OPENINGS.split())
_SPOKEN = {
    "raised to the power of": "^", "raised to the power": "^", "to the power of": "^", "to the power": "^",
    "raised to": "^", "times": "*", "multiplied by": "*", "divided by": "/", "over": "/", "plus": "+", "added to": "+",
    "minus": "-", "modulo": "mod", "mod": "mod", "percent": "%", "per cent": "%", "pct": "%", "equals": "=",
    "is equal to": "=", "equal to": "=", "equal": "=", "negative": "neg", "of": "of",
    "the square root of": "sqrt", "square root of": "sqrt", "square root": "sqrt", "sqrt of": "sqrt",
    "the cube root of": "cbrt", "cube root of": "cbrt", "cube root": "cbrt",
}  # fmt: skip
_PHRASES = {tuple(phrase.split()): sign for phrase, sign in _SPOKEN.items()}
_LONGEST = max(map(len, _PHRASES))
_POWERS = {"squared": 2, "cubed": 3}
_SIGN_WORDS = frozenset({*_POWERS, "minus", "plus", "times", "negative", "over", "of", "percent", "mod", "equals"})
_ORDINAL_ENDINGS = ("st", "nd", "rd", "th")

_PLURAL_SCALES = {"millions": 10**6, "billions": 10**9, "trillions": 10**12}
_COUNTED = MULTIPLES | _PLURAL_SCALES
_SUFFIXES = {"k": 10**3, "K": 10**3, "M": 10**6, "B": 10**9, "mn": 10**6, "bn": 10**9, "Bn": 10**9, "tn": 10**12}
_PARTS = "half third quarter fourth fifth sixth seventh eighth ninth tenth hundredth thousandth millionth".split()
WORDS = frozenset({*VALUES, *_COUNTED, "halves", *_PARTS, *(f"{part}s" for part in _PARTS)})
"""Words that are part of a number: understood or refused, never dropped."""

_OPERANDS = WORDS | _SIGN_WORDS | FUNCTIONS.keys() | CONSTANTS.keys()

_MEANINGFUL = """of in to into as than from more less
fewer and or not if is are was were be been has had for with at about around approximately roughly nearly almost
between through until till by on off per the a an this that these those bigger larger smaller greater lower higher
least most max maximum minimum average mean median mode difference product quotient ratio rate remainder root power
exponent log ln sqrt sin cos tan abs couple few several many dozens hundreds thousands score scores gross pair pairs
lot lots some any no none nil naught nought point double triple twice thrice quadruple rounded round nearest up down
increase decrease increased decreased increases reduced ago before after since during every inf infinity infinite nan
null true false decimal fraction fractions percentage percentages percents january february march april june july
august september october november december jan feb apr jun jul aug sep sept oct nov dec am pm bc ad bce ce lambda
import eval exec frac print def return while else st nd rd th subtract subtracted add added multiply divide raised
squared cubed times minus plus equals equal what when where who how which why convert converted bps basis ppm ppb
permille mil mils mio mrd mln bln trn thou grand lac lacs doz dz tens myriad mega giga tera milli micro nano halved
doubled tripled quadrupled inverse reciprocal opposite absolute below under above without except excluding versus vs"""
MEANINGFUL = WORDS | frozenset(_MEANINGFUL.split())
"""Words that would change the result: where they are not understood the input is refused, they are never ignored."""


def spoken(tokens: list[Token]) -> list[Token]:
    """The tokens with worded signs and number words in their written form; all other words stay."""
    if not any(token.kind == "word" for token in tokens):
        return tokens
    return list(_rewritten(_without_opening(list(_split_hyphens(tokens)))))


def _split_hyphens(tokens: list[Token]) -> Iterator[Token]:
    """`twenty-five` is one number, `at-bats` one word; any other hyphen is a minus: `ten-pi`, `ten-sqrt(4)`."""
    for token in tokens:
        parts = token.text.split("-") if token.kind == "word" else []
        if not any(len(part) == 1 or part.casefold() in _OPERANDS for part in parts):
            yield token
            continue
        yield Token("word", parts[0], parts[0], glued=token.glued)
        for before, part in pairwise(parts):
            if not _is_compound(before.casefold(), part.casefold()):
                pair = {before.casefold(), part.casefold()}
                if pair <= WORDS or pair & _SIGN_WORDS:
                    raise refusal(f"the hyphen in {quoted(token.text)} is not clear; write numbers and signs, apart.")
                yield Token("sign", "-", "-", glued=True)
            yield Token("word", part, part, glued=True)


def _is_compound(first: str, second: str) -> bool:
    """`twenty-five`, `one-hundred`."""
    if first in CARDINALS and second in ONES:
        return CARDINALS[first] >= 20 and ONES[second] > 0
    return first in CARDINALS and second in MULTIPLES


def _without_opening(tokens: list[Token]) -> list[Token]:
    """Drops `What is the value of`, `Calculate:` and the like."""
    place = 0
    while word_at(tokens, place) in OPENINGS or (place and word_at(tokens, place) == "of"):
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
    if (phrase := _phrase_at(tokens, place)) and not _is_call(tokens, place):
        sign, used = phrase
        return [Token("sign", sign, " ".join(t.text for t in tokens[place : place + used]), spoken=True)], used
    token = tokens[place]
    word = token.word
    if number := _number_at(tokens, place):
        value, used = number
        _check_before_bracket(tokens, place + used)
        written = " ".join(t.written for t in tokens[place : place + used])
        return [Token("number", exact_text(value), written, value, glued=token.glued, spoken=True)], used
    if word in _POWERS:
        return [Token("sign", "^", word), _whole(_POWERS[word])], 1
    return [token], 1


def _is_call(tokens: list[Token], place: int) -> bool:
    """`mod(17, 5)`, where no number stands before it."""
    before = tokens[place - 1] if place else Token("sign", "(")
    called = tokens[place].word in FUNCTIONS and place + 1 < len(tokens) and tokens[place + 1].is_sign("(")
    return called and before.kind == "sign" and not before.is_sign(")", "!", "%")


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
    """`raised to the 0.43 power`, `to the 5th power`."""
    start = place + (tokens[place].word == "raised")
    end = start + 3 + (word_at(tokens, start + 3) in _ORDINAL_ENDINGS)
    if [word_at(tokens, each) for each in (start, start + 1, end)] != ["to", "the", "power"]:
        return None
    return ([_sign("^"), tokens[start + 2]], end + 1 - place) if tokens[start + 2].kind == "number" else None


# -- numbers in words: `2.5 million`, `a dozen`, `half`; whole ones are read by number_words ---------------------------


def _number_at(tokens: list[Token], place: int) -> tuple[Fraction, int] | None:
    """The number that stands there in words, or partly so, and how many tokens it takes."""
    if tokens[place].kind == "number":
        return _after_digits(tokens, place)
    words = _words_from(tokens, place)
    if words[0] == "half":
        return Fraction(1, 2), 1
    if words[0] in ("a", "an"):
        return _scaled(words, Fraction(1), 1) if words[1] in _COUNTED else None
    whole, used = read_cardinal(words)
    return _scaled(words, Fraction(whole), used) if used else None


def _check_before_bracket(tokens: list[Token], place: int) -> None:
    """Refuses `2tn(3)`: the name of a function, misspelt, as well as a scale."""
    last = tokens[place - 1]
    if (last.word in _COUNTED or last.text in _SUFFIXES) and place < len(tokens) and tokens[place].written == "(":
        raise refusal(f"{quoted(last.text)} before a bracket is not clear; write * between them.")


def _words_from(tokens: list[Token], place: int) -> list[str]:
    """The words from there on in lower case up to what is no word, "" for a number there, and "" at the end."""
    words = [tokens[place].word]
    while word := word_at(tokens, place + len(words)):
        words.append(word)
    return [*words, ""]


def _after_digits(tokens: list[Token], place: int) -> tuple[Fraction, int] | None:
    value, used = tokens[place].value, 1
    words = _words_from(tokens, place)
    if words[1] and tokens[place + 1].glued and tokens[place + 1].written in _SUFFIXES:
        value, used = value * _SUFFIXES[tokens[place + 1].written], 2
    value, used = _scaled(words, value, used)
    return (value, used) if used > 1 else None


def _scaled(words: Sequence[str], value: Fraction, used: int) -> tuple[Fraction, int]:
    """`5 dozen`, `3 hundred thousand`, `two millions`."""
    while (word := words[used]) in _COUNTED:
        if _COUNTED[word] <= 100 <= value:
            raise refusal(f"{quoted(word)} after {exact_text(value)} is not understood; write the number in digits.")
        value, used = value * _COUNTED[word], used + 1
    return value, used


# -- tokens ----------------------------------------------------------------------------------------------------------


def _sign(text: str) -> Token:
    return Token("sign", text, text, spoken=True)


def _whole(value: int) -> Token:
    return Token("number", str(value), str(value), Fraction(value), spoken=True)
