"""Commas between digits: thousands separators, or the comma between a function's arguments."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.refusal import ambiguous, quoted, refusal
from agentkit.tools.arithmetic.tokens import Token


def join_thousands(tokens: list[Token]) -> tuple[list[Token], list[str]]:
    """Joins `1,234` to one number where only that can be meant; also says what could surprise."""
    calls = _calls(tokens)
    joined: list[Token] = []
    readings: list[str] = []
    place = 0
    while place < len(tokens):
        run = _run(tokens, place)
        written = _written(tokens[place : place + run])
        if run == 1 or (place in calls and not calls[place]):
            joined.extend(tokens[place : place + run])
        elif not _grouped(tokens[place : place + run]):
            raise refusal(f"{quoted(written)} is not one number; write a decimal point, or digits without commas.")
        else:
            number = tokens[place]
            text = written.replace(",", "")
            joined.append(replace(number, text=text, written=written, value=Fraction(text)))
            readings.append(f"{written} read as {text}")
        place += run
    surprising = (
        len(readings) == 1 and readings[0].count(",") == 1 and not any("." in token.written for token in tokens)
    )
    return joined, readings if surprising else []


def _run(tokens: list[Token], place: int) -> int:
    """How many tokens of a number,number,number without spaces begin here; 1 for anything else."""
    if tokens[place].kind != "number":
        return 1
    end = place + 1
    while (
        end + 1 < len(tokens)
        and tokens[end].is_sign(",")
        and tokens[end].glued
        and tokens[end + 1].kind == "number"
        and tokens[end + 1].glued
    ):
        end += 2
    return end - place


def _grouped(run: list[Token]) -> bool:
    """Whether the run is a number in groups of three digits."""
    first, *rest = [token.written for token in run[::2]]
    if not (first.isdecimal() and len(first) <= 3 and not first.startswith("0")):
        return False
    *middle, last = rest
    head, _, tail = last.partition(".")
    return all(_three(group) for group in [*middle, head]) and (not tail or tail.isdecimal())


def _three(group: str) -> bool:
    return len(group) == 3 and group.isdecimal()


def _calls(tokens: list[Token]) -> dict[int, bool]:
    """For each token that is directly an argument of a function: whether the commas there are thousands separators."""
    inside: dict[int, bool] = {}
    for place in range(len(tokens) - 1):
        name = tokens[place].text.casefold()
        if tokens[place].kind == "word" and name in FUNCTIONS and tokens[place + 1].is_sign("("):
            start = place + 2
            if start < len(tokens) and tokens[start].written == "[":
                start += 1
            top = _top_level(tokens, start)
            joins = _joins(name, tokens, top)
            inside.update(dict.fromkeys(top, joins))
    return inside


def _top_level(tokens: list[Token], start: int) -> list[int]:
    """The places between here and the closing bracket that are inside no further bracket."""
    found, depth = [], 0
    for place in range(start, len(tokens)):
        depth += tokens[place].is_sign("(")
        depth -= tokens[place].is_sign(")")
        if depth < 0:
            break
        if depth == 0:
            found.append(place)
    return found


def _joins(name: str, tokens: list[Token], top: list[int]) -> bool:
    """Whether the function's number of arguments settles that commas join; a refusal where both readings fit."""
    commas = sum(tokens[place].is_sign(",") for place in top)
    merges = sum(
        tokens[a].is_sign(",") and a > 0 and _pair(tokens, a) for a in top if 0 < a < len(tokens) - 1
    )  # fmt: skip
    if not merges:
        return False
    least, most = FUNCTIONS[name].least, FUNCTIONS[name].most
    apart, together = least <= commas + 1 <= most, least <= commas + 1 - merges <= most
    if apart and together:
        written = _written(tokens[top[0] : top[-1] + 1])
        apart_from = {place for place in top if tokens[place].is_sign(",") and _pair(tokens, place)}
        joined = _written([tokens[place] for place in range(top[0], top[-1] + 1) if place not in apart_from])
        raise ambiguous(f"{name}({written})", f"{name}({joined})", f"{name}({written.replace(',', ', ')})")
    return together


def _pair(tokens: list[Token], comma: int) -> bool:
    """Whether this comma could be a thousands separator."""
    left, right = tokens[comma - 1], tokens[comma + 1]
    if not (tokens[comma].glued and right.glued and left.kind == right.kind == "number"):
        return False
    continues = comma >= 2 and tokens[comma - 2].is_sign(",") and left.glued
    starts = left.written.isdecimal() and not left.written.startswith("0") and len(left.written) <= 3
    return (starts or (continues and _three(left.written))) and _three(right.written.partition(".")[0])


def _written(tokens: list[Token]) -> str:
    return "".join(token.written for token in tokens)
