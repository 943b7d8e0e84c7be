"""Units as words: which belong together, which words after a number are none, and when ignoring one would be wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from agentkit.tools.arithmetic.expression import Units
from agentkit.tools.arithmetic.functions import FUNCTIONS
from agentkit.tools.arithmetic.real import CONSTANTS
from agentkit.tools.arithmetic.refusal import quoted, refusal
from agentkit.tools.arithmetic.tokens import Token, word_at
from agentkit.tools.arithmetic.wording import MEANINGFUL

_FAMILIES = {
    "time": "second/sec/secs/s minute/min/mins hour/hr/hrs/h day week month/mo year/yr/yrs decade century/centuries "
    "millisecond/ms",
    "length": "millimeter/millimetre/mm centimeter/centimetre/cm meter/metre/m kilometer/kilometre/km inch/inches "
    "foot/feet/ft yard/yd/yds mile/mi",
    "mass": "milligram/mg gram/g kilogram/kg/kgs/kilo ton tonne ounce/oz pound/lb/lbs",
    "volume": "milliliter/millilitre/ml liter/litre/l/L gallon/gal pint quart",
    "money": "dollar/$/usd/buck cent/penny/pennies euro/€/eur £/gbp ¥/yen/jpy ₹/rupee/rs/inr "
    "chf cad aud cny sek nok dkk pln",
    "angle": "degree/°/deg radian/rad",
    "data": "bit byte kilobyte/kb megabyte/mb gigabyte/gb terabyte/tb kib mib gib tib",
    "temperature": "celsius/°c fahrenheit/°f kelvin",
    "energy": "joule kj calorie/cal kcal wh kwh mwh gwh",
    "power": "watt kw mw gw hp",
}
_RATES = {
    "mph": {"mile": 1, "hour": -1}, "kmh": {"kilometer": 1, "hour": -1}, "kph": {"kilometer": 1, "hour": -1},
    "kmph": {"kilometer": 1, "hour": -1}, "mps": {"meter": 1, "second": -1}, "fps": {"foot": 1, "second": -1},
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
POWERED = frozenset({"square", "cubic", "sq"})


def units_named(words: list[str]) -> dict[str, int]:
    """The units that the words after a number name: `miles`, `square feet`, `mph`, or anything else as it stands."""
    words = [word for word in words if word not in ("each", "total")] or words
    last = words[-1]
    if len(words) == 1 and last.casefold() in _RATES:
        return dict(_RATES[last.casefold()])
    name = known_unit(last) or _singular(last.casefold())
    return {" ".join([word.casefold() for word in words[:-1]] + [name]): 1}


def known_unit(word: str) -> str | None:
    """The unit's one name, if it is one we know."""
    for spelling in (word, word.casefold(), _singular(word.casefold())):
        if spelling in _NAMES:
            return _NAMES[spelling]
    return None


def is_known(word: str) -> bool:
    return known_unit(word) is not None or word.casefold() in _RATES


def dimension_of(unit: str) -> str | None:
    """time, length, …; areas and volumes of lengths count as dimensions of their own."""
    head, _, last = unit.rpartition(" ")
    dimension = _DIMENSION.get(last)
    return f"{head} {dimension}".strip() if dimension and (not head or head in POWERED) else None


def times(left: Units, right: Units, sign: int = 1) -> dict[str, int]:
    """The units of a product, or with `sign` -1 of a quotient."""
    merged = dict(left)
    for unit, exponent in right.items():
        merged[unit] = merged.get(unit, 0) + sign * exponent
    return {unit: exponent for unit, exponent in merged.items() if exponent}


def check_cancelled(units: Units, quantities: Callable[[], Iterable[Units]]) -> None:
    """Refuses a rate per hour that met minutes: without conversion the number would be wrong.

    Hours per week may be left over, where all the `quantities` that were multiplied are such ratios.
    """
    seen: dict[str, tuple[str, int]] = {}
    for unit, exponent in units.items():
        if dimension := dimension_of(unit):
            other, its_exponent = seen.setdefault(dimension, (unit, exponent))
            opposite = other != unit and (exponent > 0) != (its_exponent > 0)
            if opposite and not (exponent + its_exponent == 0 and all(_is_ratio(q, dimension) for q in quantities())):
                raise _mixed(other, unit)


def _is_ratio(units: Units, dimension: str) -> bool:
    """Whether a quantity has as much of a dimension above the line as below: hours per week, or none of it."""
    return sum(exponent for unit, exponent in units.items() if dimension_of(unit) == dimension) == 0


def check_alike(left: Units, right: Units) -> None:
    """Refuses to add or compare hours and minutes, or miles and hours."""
    mine, theirs = _by_dimension(left), _by_dimension(right)
    for dimension in mine.keys() & theirs.keys():
        if mine[dimension] != theirs[dimension]:
            raise _mixed(mine[dimension], theirs[dimension])
    if mine and theirs and not mine.keys() & theirs.keys():
        raise _mixed(next(iter(mine.values())), next(iter(theirs.values())))


def _by_dimension(units: Units) -> Mapping[str, str]:
    return {dimension: unit for unit in units if (dimension := dimension_of(unit))}


def _mixed(one: str, other: str) -> Exception:
    return refusal(
        f"units are not converted, and this mixes {_ascii(one)} and {_ascii(other)}; convert to one unit first."
    )


def _ascii(unit: str) -> str:
    return {"€": "euro", "£": "pound sterling", "¥": "yen", "₹": "rupee", "°": "degree"}.get(unit, unit)


def _singular(word: str) -> str:
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") and len(word) > 2 else word


# -- in the tokens of an expression ---------------------------------------------------------------------------------

MOST_WORDS = 4


def read_units(tokens: Sequence[Token], place: int, had_unit: bool) -> tuple[dict[str, int], int] | None:
    """The units named from `place` on (`miles per hour`, `$`, `/pack`), and where they end; None if there are none."""
    found: dict[str, int] = {}
    start = place
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
            check_ignorable(tokens[place])
        if word.casefold() in POWERED and after.kind != "word":
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


def check_ignorable(token: Token) -> None:
    """Refuses a word that would be dropped although it means something, and single letters, which are variables."""
    word = token.text
    named = word.casefold() in FUNCTIONS and not is_known(word)
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
