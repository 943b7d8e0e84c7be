"""Units as words: which belong together, and when ignoring them would give a wrong number."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from agentkit.tools.arithmetic.expression import Units
from agentkit.tools.arithmetic.refusal import refusal

_FAMILIES = {
    "time": "second/sec/secs/s minute/min/mins hour/hr/hrs/h day week month/mo year/yr/yrs decade century/centuries "
    "millisecond/ms",
    "length": "millimeter/millimetre/mm centimeter/centimetre/cm meter/metre/m kilometer/kilometre/km inch/inches "
    "foot/feet/ft yard/yd/yds mile/mi",
    "mass": "milligram/mg gram/g kilogram/kg/kgs/kilo ton tonne ounce/oz pound/lb/lbs",
    "volume": "milliliter/millilitre/ml liter/litre/l/L gallon/gal pint quart",
    "money": "dollar/$/usd/buck cent/penny/pennies euro/€/eur £/gbp ¥/yen/jpy ₹/rupee/rs/inr",
    "angle": "degree/°/deg radian/rad",
    "data": "byte kilobyte/kb megabyte/mb gigabyte/gb terabyte/tb",
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
