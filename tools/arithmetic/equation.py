"""What stands around an expression: `45 - 5 = ?`, `= x`, `total = 3*4`, a question mark or full stop at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.tools.arithmetic import units
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.irrational import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import Token
from agentkit.tools.arithmetic.unit_words import check_ignorable
from agentkit.tools.arithmetic.wording import LISTS, WORDS

LONGEST_LABEL = 5
_CHANGING = "percentage in to into as than less more from by if not no or about log ln sqrt root"
CHANGING = frozenset(_CHANGING.split())


@dataclass(frozen=True, slots=True)
class Claim:
    """The tokens that calculate, and whether words around them were dropped."""

    tokens: list[Token]
    ignored_words: bool = False


def without_claim(tokens: list[Token]) -> Claim:
    """The expression without what only says that a result is wanted."""
    tokens = _without_end(tokens)
    if tokens and tokens[0].is_sign("="):
        tokens = tokens[1:]
    places = [place for place, token in enumerate(tokens) if token.is_sign("=")]
    if not places:
        return _without_label(tokens, ":")
    if len(places) > 1:
        raise refusal("one equation at a time; give one expression without =.")
    left, right = tokens[: places[0]], tokens[places[0] + 1 :]
    if all(token.is_sign("?", "_", ".") for token in right):
        return Claim(left)
    asked = [token for token in right if not token.is_sign("?", "_")]
    if _only_words(asked):
        _check_result_name(left, asked)
        return Claim(left, ignored_words=any(len(token.text) > 1 for token in asked))
    return _without_label(tokens, "=")


def _without_end(tokens: list[Token]) -> list[Token]:
    """Without `?`, `.` and `please` at the end."""
    while tokens and (tokens[-1].is_sign("?", ".", ";") or _is(tokens[-1], "please")):
        tokens = tokens[:-1]
    return tokens


def _without_label(tokens: list[Token], sign: str) -> Claim:
    """Drops `Total cost:` or `x =` before the expression."""
    place = next((place for place, token in enumerate(tokens) if token.is_sign(sign)), 0)
    label = tokens[:place]
    if not label or len(label) > LONGEST_LABEL or not all(map(_labels, label)):
        return Claim(tokens)
    return Claim(tokens[place + 1 :], ignored_words=len(label[0].text) > 1)


def _check_result_name(left: list[Token], asked: Sequence[Token]) -> None:
    """`= x` and `= total` name the result; `120 km = miles` asks for a conversion."""
    if len(asked) == 1 and len(asked[0].text) == 1 and not units.is_known(asked[0].text):
        return
    have = {units.known_unit(token.text) for token in left if token.kind == "word" or token.is_sign(*units.CURRENCY)}
    for word in asked:
        check_ignorable(word)
        if have - {None} and units.is_known(word.text) and units.known_unit(word.text) not in have:
            raise refusal(f"units are not converted (to {quoted(word.text)}); multiply by the factor yourself.")


def _labels(token: Token) -> bool:
    """Whether a word can name a result without changing it: `Sum of ages`, but not `percent` or `half`."""
    if token.kind == "sign":
        return token.is_sign("of", *LISTS)
    return token.kind == "word" and token.text not in CONSTANTS and token.text.casefold() not in WORDS | CHANGING


def _only_words(tokens: Sequence[Token]) -> bool:
    return bool(tokens) and all(
        token.kind == "word" and token.text.casefold() not in FUNCTIONS and token.text not in CONSTANTS
        for token in tokens
    )


def _is(token: Token, word: str) -> bool:
    return token.kind == "word" and token.text.casefold() == word
