"""Results with two values, of which one is asked for, and prices of one, of which many are asked for."""

from __future__ import annotations

from functools import cache
from random import Random
from typing import Any

from .names import SLOT, Names, load_templates

Contrast = tuple[str, str, str, str, str]
"""(question, query, observation, answer, what it is about)."""


@cache
def lists() -> dict[str, Any]:
    """The parsed file."""
    return load_templates("contrasts")


def contrasted(random: Random) -> Contrast:
    """Of two sides, classes or times the one that is asked for."""
    return random.choice((_meeting, _classes, _times))(random)


def _sides(random: Random, key: str) -> tuple[str, str]:
    sides = random.choice(lists()[key]).split("|")
    if key != "times":
        random.shuffle(sides)
    return sides[0], sides[1]


def _meeting(random: Random) -> Contrast:
    names, (a, b) = Names(random), _sides(random, "sides")
    meeting, values = names.fill(random.choice(lists()["meetings"])), _two(names, "person")
    slots = {"a": a, "b": b, "m": meeting, "A": values[0], "B": values[1]}
    question, seen = (_put(random.choice(lists()[f"meeting_{key}"]), slots) for key in ("asks", "sees"))
    return question, f"{meeting} {a}", seen, values[0], meeting


def _classes(random: Random) -> Contrast:
    names, (a, b) = Names(random), _sides(random, "classes")
    place = names.fill(random.choice(lists()["places"]))
    first, second = random.sample(range(2, 90), 2)
    slots = {"a": a, "b": b, "p": place, "A": str(first), "B": str(second)}
    question, seen = (_put(random.choice(lists()[f"class_{key}"]), slots) for key in ("asks", "sees"))
    return question, f"{place} {a}", seen, str(first), place


def _times(random: Random) -> Contrast:
    names, (a, _) = Names(random), _sides(random, "times")
    ask, query, kind = random.choice(lists()["time_asks"]).split("|")
    person, values, years = names.draw("person"), _two(names, kind), sorted(random.sample(range(1900, 2024), 2))
    slots = {"a": a, "e": person, "1": values[0], "2": values[1], "y": str(years[0]), "z": str(years[1])}
    seen = _put(random.choice(lists()["time_sees"]), slots)
    return _put(ask, slots), _put(query, slots), seen, values[0 if a == "first" else 1], person


def priced(random: Random) -> tuple[str, str, str, str]:
    """(question, query, observation, expression) of many things whose price for one is found."""
    names = Names(random)
    goods = random.choice(lists()["goods"])
    known = {kind: names.draw(kind) for kind in SLOT.findall(goods)}
    one, many = names.fill(goods, **known).split("|")
    count, price = random.randint(2, 60), random.choice((random.randint(2, 400), round(random.uniform(1, 60), 2)))
    slots = {"n": str(count), "one": one, "many": many, "x": str(price), "w": str(random.randint(2, 400))}
    question, seen = (_put(random.choice(lists()[f"goods_{key}"]), slots) for key in ("asks", "sees"))
    return question, f"{one} cost" if "cost" in question.casefold() else one, seen, f"{count}*{price}"


def _two(names: Names, kind: str) -> tuple[str, str]:
    first, second = names.draw(kind), names.draw(kind)
    while second == first:
        second = names.draw(kind)
    return first, second


def _put(text: str, slots: dict[str, str]) -> str:
    for name, value in slots.items():
        text = text.replace(f"{{{name}}}", value)
    return text
