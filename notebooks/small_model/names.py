"""Invented and ordinary names, dates and words, drawn from templates/names.toml."""

from __future__ import annotations

import functools
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.number_words import ORDINALS

if TYPE_CHECKING:
    from random import Random

TEMPLATES = Path(__file__).parent / "templates"
SLOT = re.compile(r"\{(\w+)\}")


@functools.cache
def load_templates(name: str) -> dict[str, Any]:
    """The parsed templates/NAME.toml."""
    with (TEMPLATES / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


@functools.cache
def words(key: str) -> tuple[str, ...]:
    """A word list of names.toml."""
    return tuple(load_templates("names")[key].split())


RENAMED = {"adj": "adjectives", "noun": "nouns", "month": "months", "realcountry": "country", "pend": "place_end"}
RENAMED |= {"beast": "animal", "cend": "company_end", "clend": "club_end"}


class Names:
    """Draws names of every kind from one random stream."""

    def __init__(self, random: Random) -> None:
        self.random = random

    def draw(self, kind: str) -> str:
        """One name of `kind`: a rule of this class, a pattern or a word list."""
        rule = getattr(self, f"_{kind}", None)
        if rule is not None:
            return str(rule())
        patterns = load_templates("names")["patterns"]
        if kind == "city" and self.random.random() < 0.5:
            return self.draw("town")
        if kind in patterns:
            return self.fill(self.random.choice(patterns[kind]))
        return self.random.choice(words(RENAMED.get(kind, kind)))

    def fill(self, pattern: str, **known: str) -> str:
        """`pattern` with every {slot} replaced: by `known`, else by a fresh name of that kind."""
        return SLOT.sub(lambda match: known.get(match[1]) or self.draw(match[1]), pattern)

    def kind_noun(self, kind: str) -> str:
        """An ordinary noun for a thing of this kind, "thing" when there is none."""
        return self.random.choice(load_templates("names")["kinds"].get(kind, "thing").split())

    def _first(self) -> str:
        return self.random.choice(words(self.random.choice(("first_she", "first_he"))))

    def _stem(self) -> str:
        return "".join(self.random.choices(words("syllables"), k=self.random.choice((1, 2, 2)))).capitalize()

    def _word(self) -> str:
        return "".join(self.random.choices(words("syllables"), k=self.random.choice((2, 2, 3)))).capitalize()

    def _lword(self) -> str:
        return self._word().lower()

    def _lnoun(self) -> str:
        return self.random.choice(words("nouns")).lower()

    def _initial(self) -> str:
        return self.random.choice("ABCDEFGHIJKLMNOPRSTVW")

    def _vowel(self) -> str:
        return self.random.choice("aeiuorn")

    def _small(self) -> str:
        return str(self.random.randint(2, 9))

    def _s(self) -> str:
        return str(self.random.randint(0, 9))

    def _n(self) -> str:
        return str(self.random.randint(2, 60))

    def _num(self) -> str:
        return f"{self.random.randint(1, 900)},{self.random.randint(0, 999):03d}"

    def _day(self) -> str:
        return str(self.random.randint(1, 28))

    def _year(self) -> str:
        return str(self.random.choice((self.random.randint(1900, 2024), self.random.randint(1500, 2024))))

    def _nth(self) -> str:
        return self.random.choice(ORDINALS[2:])

    def _thing(self) -> str:
        two = ("printing press", "steam turbine", "ballpoint pen", "jet engine", "sewing machine")
        return self.random.choice((*words("thing"), *two))

    def _things(self) -> str:
        return self.random.choice(load_templates("arithmetic")["things"].split())

    def _site(self) -> str:
        return self.random.choice(load_templates("talk")["site"].split("|"))

    def _p(self) -> str:
        return self.draw("person")

    def _person2(self) -> str:
        return self.draw("person")
