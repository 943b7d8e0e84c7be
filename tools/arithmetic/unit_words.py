"""The words after a number: read as units where they are units, refused where they could change the result."""

from __future__ import annotations

from collections.abc import Sequence

from agentkit.tools.arithmetic import units
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.irrational import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import Token
from agentkit.tools.arithmetic.wording import MEANINGFUL

MOST_WORDS = 4


def read_units(tokens: Sequence[Token], place: int, had_unit: bool) -> tuple[dict[str, int], int] | None:
    """The units named from `place` on (`miles per hour`, `$`, `/pack`), and where they end; None if there are none."""
    found: dict[str, int] = {}
    start = place
    if tokens[place].is_sign("°", *units.CURRENCY):
        found, place = units.units_named([tokens[place].text]), place + 1
        if found == {"degree": 1} and _word(tokens, place) in ("c", "f"):
            found, place = {f"°{_word(tokens, place)}": 1}, place + 1
    else:
        words, place = _unit_words(tokens, place)
        if words:
            found = units.units_named(words)
    while divisor := _divisor(tokens, place, attached=place > start or had_unit):
        words, place = divisor
        found = units.times(found, units.units_named(words), -1)
    return (found, place) if place > start else None


def _divisor(tokens: Sequence[Token], place: int, *, attached: bool) -> tuple[list[str], int] | None:
    """`per hour`, `/pack`: the rest of a rate. A word that could be a missing number is left to be refused."""
    if _word(tokens, place) == "per":
        words, end = _unit_words(tokens, place + 1)
        return (words, end) if words else None
    if _word(tokens, place) in ("a", "an") and units.is_known(_word(tokens, place + 1)):  # 24 hours a day
        return [_word(tokens, place + 1)], place + 2
    if not (tokens[place].is_sign("/") and not tokens[place].spoken):
        return None
    words, end = _unit_words(tokens, place + 1)
    if not words:
        return None
    tight = tokens[place].glued and tokens[place + 1].glued
    known = all(units.is_known(word) for word in words)
    singular = not words[-1].endswith("s")
    return (words, end) if known or (tight and attached and singular) else None


def _unit_words(tokens: Sequence[Token], place: int) -> tuple[list[str], int]:
    """The words from `place` on that can be a unit; refuses those that mean something."""
    words: list[str] = []
    while (
        tokens[place].kind == "word" and _word(tokens, place) not in ("per", "a", "an") and not _is_named(tokens, place)
    ):
        word = tokens[place].text
        if word.casefold() == "and":
            break
        after = tokens[place + 1]
        if word.casefold() == "in" and not words and after.kind != "word" and not after.is_sign("%"):
            word = "inch"
        else:
            check_ignorable(tokens[place])
        if word.casefold() not in ("square", "cubic", "sq") or tokens[place + 1].kind == "word":
            words.append(word)
        else:
            raise refusal(f"{quoted(word)} alone is not understood; write ^2 or ^3 for powers.")
        place += 1
        if tokens[place].is_sign(".") and tokens[place].glued and units.is_known(word):  # 5 ft.
            place += 1
        if tokens[place].is_sign("of") and tokens[place + 1].kind == "word":  # 3 cups of sugar
            place += 1
        if len(words) > MOST_WORDS:
            raise refusal(f"too many words after a number ({quoted(' '.join(words))}); write the calculation in signs.")
    return words, place


def check_ignorable(token: Token) -> None:
    """Refuses a word that would be dropped although it means something, and single letters, which are variables."""
    word = token.text
    named = word.casefold() in FUNCTIONS and not units.is_known(word)
    if named or any(part in MEANINGFUL for part in word.casefold().split("_")):
        raise refusal(f"the word {quoted(word)} is not understood here; write the calculation in signs and numbers.")
    if len(word) == 1 and not units.is_known(word):
        raise refusal(
            f"{quoted(word)} is not a number; put the value of the variable in its place (write * for times)."
        )


def _is_named(tokens: Sequence[Token], place: int) -> bool:
    """Whether a constant or the call of a function stands there, which multiplies."""
    token, name = tokens[place], _word(tokens, place)
    if name in CONSTANTS and token.text != "E":
        return True
    return (
        name in FUNCTIONS and tokens[place + 1].is_sign("(") and (tokens[place + 1].glued or not units.is_known(name))
    )


def _word(tokens: Sequence[Token], place: int) -> str:
    return tokens[place].text.casefold() if place < len(tokens) and tokens[place].kind == "word" else ""
