"""Commas between digits: thousands separators, or the comma between a function's arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction

from agentkit.tools.arithmetic.expression import Reading
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.refusal import ambiguous, quoted, refusal
from agentkit.tools.arithmetic.tokens import Token, number_token

_GROUPED = re.compile(r"[1-9]\d{0,2}(?:,\d{3})+(?:\.\d*)?")
_JOINABLE = re.compile(r"(?<![\d._e+-])[1-9]\d{0,2}(?:,\d{3}(?![\de_]))+", re.IGNORECASE)


def join_thousands(tokens: list[Token], reading: Reading) -> list[Token]:
    """Joins `1,234` to one number where only that can be meant; also notes what could surprise."""
    apart = _apart(tokens)
    separate = [each for place, token in enumerate(tokens) for each in _separate(token, place in apart)]
    joined = [token.written for token in separate if token.kind == "number" and "," in token.written]
    if len(joined) == 1 and joined[0].count(",") == 1 and not any("." in token.written for token in separate):
        reading.thousands = f"{joined[0]} read as {joined[0].replace(',', '')}"
    return separate


def _separate(token: Token, apart: bool) -> Iterator[Token]:
    """The one number that a token with commas is, or the numbers and commas in it."""
    if token.kind != "number" or "," not in token.text:
        yield token
    elif apart:
        first, *others = token.written.split(",")
        yield number_token(first, token.glued)
        for other in others:
            yield from (Token("sign", ",", ",", glued=True), number_token(other, glued=True))
    elif not _GROUPED.fullmatch(token.text):
        raise refusal(f"{quoted(token.written)} is not one number; write a decimal point, or digits without commas.")
    else:
        text = token.text.replace(",", "")
        yield replace(token, text=text, value=Fraction(text))


def _apart(tokens: list[Token]) -> set[int]:
    """The places of the numbers whose commas stand between a function's arguments."""
    found: set[int] = set()
    brackets: list[tuple[str, list[int]]] = [("", [])]  # the function in front, and the places directly inside
    for place, token in enumerate(tokens):
        if token.is_sign(")"):
            name, inside = brackets.pop()
            if name and inside and not _joins(name, tokens[inside[0] : place], [each - inside[0] for each in inside]):
                found.update(inside)
        brackets[-1][1].append(place)
        if token.is_sign("("):
            brackets.append((_function_before(tokens, place), []))
    return found


def _function_before(tokens: list[Token], place: int) -> str:
    """The function whose arguments this bracket opens: `max(` or `max([`."""
    if tokens[place].written == "[" and place and tokens[place - 1].is_sign("("):
        place -= 1
    name = tokens[place - 1].word if place else ""
    return name if name in FUNCTIONS else ""


def _joins(name: str, tokens: list[Token], direct: list[int]) -> bool:
    """Whether the function's number of arguments settles that commas join; a refusal where both readings fit."""
    numbers = [tokens[place].written for place in direct if tokens[place].kind == "number"]
    joins = sum(len(match[0].split(",")) - 1 for number in numbers for match in _JOINABLE.finditer(number))
    if not joins:
        return False
    count = 1 + sum(number.count(",") for number in numbers) + sum(tokens[place].is_sign(",") for place in direct)
    least, most = FUNCTIONS[name].least, FUNCTIONS[name].most
    together = least <= count - joins <= most
    if together and least <= count <= most:
        written = [token.written for token in tokens]
        joined = [_JOINABLE.sub(_without_commas, each) if p in direct else each for p, each in enumerate(written)]
        apart = "".join(written).replace(",", ", ")
        raise ambiguous(f"{name}({''.join(written)})", f"{name}({''.join(joined)})", f"{name}({apart})")
    return together


def _without_commas(match: re.Match[str]) -> str:
    return match[0].replace(",", "")
