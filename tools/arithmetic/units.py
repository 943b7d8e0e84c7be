"""Units as words: which belong together, which words after a number are none, and when ignoring one would be wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches

from agentkit.number_words import SCALES, VALUES
from agentkit.tools.arithmetic.expression import Units
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.real import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import END, Token, word_at
from agentkit.tools.arithmetic.wording import MEANINGFUL

_FAMILIES = {
    "time": "second/sec/secs/s minute/min/mins hour/hr/hrs/h day week month/mo year/yr/yrs decade century/centuries "
    "millisecond/ms microsecond/us nanosecond/ns fortnight",
    "length": "millimeter/millimetre/mm centimeter/centimetre/cm meter/metre/m kilometer/kilometre/km inch/inches "
    "foot/feet/ft yard/yd/yds mile/mi micrometer/micrometre/micron/um nanometer/nanometre/nm parsec",
    "mass": "milligram/mg gram/g kilogram/kg/kgs/kilo ton tonne ounce/oz pound/lb/lbs stone carat",
    "volume": "milliliter/millilitre/ml liter/litre/l/L gallon/gal pint quart cup tablespoon/tbsp teaspoon/tsp "
    "cl dl barrel",
    "area": "acre hectare/ha",
    "pressure": "pascal/pa hpa kpa mpa bar mbar atm psi",
    "frequency": "hertz/hz khz mhz ghz",
    "amount": "mole/mol mmol",
    "voltage": "volt mv kv",
    "current": "ampere/amp ma",
    "money": "dollar/$/usd/buck cent/penny/pennies euro/€/eur £/gbp ¥/yen/jpy ₹/rupee/rs/inr "
    "chf cad aud cny sek nok dkk pln",
    "angle": "degree/°/deg radian/rad",
    "data": "bit kbit mbit gbit byte kilobyte/kB/KB megabyte/MB gigabyte/GB terabyte/TB kb mb gb tb kib mib gib tib",
    "temperature": "celsius/°c fahrenheit/°f kelvin",
    "energy": "joule/J kj calorie/cal kcal wh kwh mwh gwh",
    "power": "watt kw mw gw hp",
}
_RATES = {
    "mph": {"mile": 1, "hour": -1}, "kmh": {"kilometer": 1, "hour": -1}, "kph": {"kilometer": 1, "hour": -1},
    "kmph": {"kilometer": 1, "hour": -1}, "mps": {"meter": 1, "second": -1}, "fps": {"foot": 1, "second": -1},
    "bpm": {"beat": 1, "minute": -1}, "rpm": {"turn": 1, "minute": -1}, "bps": {"bit": 1, "second": -1},
    "kbps": {"kbit": 1, "second": -1}, "mbps": {"mbit": 1, "second": -1}, "gbps": {"gbit": 1, "second": -1},
}  # fmt: skip
_NAMES = {
    spelling: spellings.split("/")[0]
    for family in _FAMILIES.values()
    for spellings in family.split()
    for spelling in spellings.split("/")
}
_DIMENSION = {
    spellings.split("/")[0]: dimension for dimension, family in _FAMILIES.items() for spellings in family.split()
}
CURRENCY = frozenset("$€£¥₹")
_POWERED = {"square": 2, "sq": 2, "cubic": 3}
_IRREGULAR = {"people": "person", "children": "child", "men": "man", "women": "woman"}
_CASE_TELLS = re.compile("[mM].{1,2}|.{1,2}[bB]")


def units_named(words: list[str]) -> dict[str, int]:
    """The units that the words after a number name: `miles`, `square feet`, `mph`, or anything else as it stands."""
    words = [word for word in words if word not in ("each", "total")] or words
    *before, last = words
    if not before and last.casefold() in _RATES:
        return dict(_RATES[last.casefold()])
    power = _POWERED.get(before[-1].casefold(), 1) if before else 1
    named = [word.casefold() for word in (before if power == 1 else before[:-1])]
    return {" ".join([*named, _unit(last)]): power}


def _unit(word: str) -> str:
    """One name for all spellings. Where case tells symbols apart they stay as they are: Mb are no MB, mW no MW."""
    if word not in _NAMES and _CASE_TELLS.fullmatch(word):
        return word
    return known_unit(word) or _singular(word.casefold())


def known_unit(word: str) -> str | None:
    """The unit's one name, if it is one we know. Single letters have one case."""
    spellings = (word,) if len(word) == 1 else (word, word.casefold(), _singular(word.casefold()))
    return next((_NAMES[spelling] for spelling in spellings if spelling in _NAMES), None)


def is_known(word: str) -> bool:
    return known_unit(word) is not None or word.casefold() in _RATES


def dimension_of(unit: str) -> str | None:
    """time, length, …"""
    return _DIMENSION.get(known_unit(unit) or unit)


def times(left: Units, right: Units, sign: int = 1) -> dict[str, int]:
    """The units of a product, or with `sign` -1 of a quotient."""
    merged = dict(left)
    for unit, exponent in right.items():
        merged[unit] = merged.get(unit, 0) + sign * exponent
    return {unit: exponent for unit, exponent in merged.items() if exponent}


def check_cancelled(units: Units, quantities: Callable[[], Iterable[Units]]) -> None:
    """Refuses what is left of a product in which hours met minutes: without conversion the number would be wrong.

    Hours per week may be left over, where all the `quantities` that were multiplied are such ratios.
    """
    seen: dict[str, str] = {}
    for unit in units:
        if (dimension := dimension_of(unit)) and (other := seen.setdefault(dimension, unit)) != unit:
            balanced = units[unit] + units[other] == 0
            if not (balanced and all(_is_ratio(each, dimension) for each in quantities())):
                raise _mixed(other, unit)


def _is_ratio(units: Units, dimension: str) -> bool:
    """Whether a quantity has as much of a dimension above the line as below: hours per week, or none of it."""
    return sum(exponent for unit, exponent in units.items() if dimension_of(unit) == dimension) == 0


def check_alike(left: Units, right: Units) -> None:
    """Refuses to add or compare what is not in the same unit."""
    if dict(left) != dict(right):
        one, other = (min(mine.keys() - theirs.keys(), default="") for mine, theirs in ((left, right), (right, left)))
        raise _mixed(*(name or _powers(mine) or "plain numbers" for name, mine in ((one, left), (other, right))))


def _powers(units: Units) -> str:
    return "*".join(unit if exponent == 1 else f"{unit}^{exponent}" for unit, exponent in units.items())


def _mixed(one: str, other: str) -> Exception:
    return refusal(
        f"units are not converted, and this mixes {_ascii(one)} and {_ascii(other)}; convert to one unit first."
    )


def _ascii(unit: str) -> str:
    return {"€": "euro", "£": "pound sterling", "¥": "yen", "₹": "rupee", "°": "degree"}.get(unit, unit)


def _singular(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("xes", "ches", "shes", "sses")):
        return word[:-2]
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


# -- in the tokens of an expression ---------------------------------------------------------------------------------

MOST_WORDS = 4
_SPELLED = [word for word in VALUES if len(word) > 2]
OFTEN_MISSPELT = "hundred thousand million billion trillion percent minus multiplied divided squared".split()


def read_units(tokens: Sequence[Token], place: int, had_unit: bool) -> tuple[dict[str, int], int] | None:
    """The units named from `place` on (`miles per hour`, `$`, `/pack`), and where they end; None if there are none."""
    found: dict[str, int] = {}
    start = place
    if not (tokens[place].kind == "word" or tokens[place].is_sign("°", "/", *CURRENCY)):
        return None
    if tokens[place].is_sign("°", *CURRENCY):
        found, place = units_named([tokens[place].text]), place + 1
        if found == {"degree": 1} and word_at(tokens, place) in ("c", "f"):
            found, place = units_named([f"°{word_at(tokens, place)}"]), place + 1
    else:
        words, place = _unit_words(tokens, place)
        if words:
            found = units_named(words)
    while divisor := _divisor(tokens, place, attached=place > start or had_unit):
        words, place = divisor
        found = times(found, units_named(words), -1)
    return (found, place) if place > start else None


def _divisor(tokens: Sequence[Token], place: int, *, attached: bool) -> tuple[list[str], int] | None:
    """`per hour`, `/pack`: the rest of a rate. A word that could be a missing number is left to be refused."""
    if word_at(tokens, place) == "per":
        words, end = _unit_words(tokens, place + 1)
        return (words, end) if words else None
    if word_at(tokens, place) in ("a", "an") and is_known(word_at(tokens, place + 1)):  # 24 hours a day
        return [word_at(tokens, place + 1)], place + 2
    if not (tokens[place].is_sign("/") and not tokens[place].spoken):
        return None
    words, end = _unit_words(tokens, place + 1)
    if not words:
        return None
    tight = tokens[place].glued and tokens[place + 1].glued
    known = all(is_known(word) for word in words)
    singular = not words[-1].endswith("s")
    return (words, end) if known or (tight and attached and singular) else None


def _unit_words(tokens: Sequence[Token], place: int) -> tuple[list[str], int]:
    """The words from `place` on that can be a unit; refuses those that mean something."""
    words: list[str] = []
    while tokens[place].word not in ("", "per", "a", "an") and not _is_named(tokens, place):
        word = tokens[place].text
        if word.casefold() == "and":
            break
        after = tokens[place + 1]
        if word.casefold() == "in" and not words and after.kind != "word" and not after.is_sign("%"):
            word = "inch"
        else:
            check_ignorable(tokens[place], tokens[place - len(words) - 1])
        if word.casefold() in _POWERED and after.kind != "word":
            raise refusal(f"{quoted(word)} alone is not understood; write ^2 or ^3 for powers.")
        words.append(word)
        place += 1
        if tokens[place].is_sign(".") and tokens[place].glued and is_known(word):  # 5 ft.
            place += 1
        if tokens[place].is_sign("of") and tokens[place + 1].kind == "word":  # 3 cups of sugar
            place += 1
        if len(words) > MOST_WORDS:
            raise refusal(f"too many words after a number ({quoted(' '.join(words))}); write the calculation in signs.")
    return words, place


def check_ignorable(token: Token, before: Token = END) -> None:
    """Refuses a word that would be dropped although it means something, and single letters, which are variables."""
    word = token.text
    named = word.casefold() in FUNCTIONS and not is_known(word)
    if not (is_known(word) or word.casefold() in (*_POWERED, *OFTEN_MISSPELT)):
        likely, least = (_SPELLED, 0.7) if before.spoken else (OFTEN_MISSPELT, 0.85)
        meant = [each for each in SCALES if len(each) > 4 and each in word.casefold()]
        if meant := meant or get_close_matches(word.casefold(), likely, 1, least):
            raise refusal(f"{quoted(word)} is not understood; if {meant[0]} is meant, write the number or the sign.")
        if before.kind == "number" and token.glued:
            raise refusal(f"{quoted(before.written + word)} is not a number; write a space before a word.")
    if named or any(part in MEANINGFUL for part in word.casefold().split("_")):
        raise not_understood(token)
    if len(word) == 1 and not is_known(word):
        raise refusal(
            f"{quoted(word)} is not a number; put the value of the variable in its place (write * for times)."
        )


def not_understood(token: Token) -> Exception:
    return refusal(f"the word {quoted(token.text)} is not understood here; write the calculation in signs and numbers.")


def _is_named(tokens: Sequence[Token], place: int) -> bool:
    """Whether a constant or the call of a function stands there, which multiplies."""
    token, name = tokens[place], word_at(tokens, place)
    if name in CONSTANTS and token.text != "E":
        return True
    return name in FUNCTIONS and tokens[place + 1].is_sign("(") and (tokens[place + 1].glued or not is_known(name))
