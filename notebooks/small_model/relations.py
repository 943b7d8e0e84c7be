"""What can be asked about a thing: question forms, noun phrases and fact sentences, from templates/relations.toml."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from .names import load_templates

SYNONYMS = (
    "author writer wrote written editor creator created book novel published translated translator narrated narrator",
    "director directed made producer produced film",
    "founder founded started start established co-founder opened open begin began",
    "owner owns owned bought",
    "CEO chief head leads led runs run manages managed managing president chairman leader ruler king queen governor",
    "wife husband girlfriend boyfriend partner spouse fiancé ex-wife married marry",
    "coach coaches coached trainer trained manager teacher taught mentor",
    "winner champion won win",
    "inventor invented designer designed builder built architect developed patented discovered discoverer creator",
    "age old years born birth birthday date",
    "capital city town largest location located situated lies lie hometown birthplace country continent neighbour",
    "residents inhabitants people citizens population employees workers",
    "occupation profession job living",
    "length width height elevation long tall high duration runtime area depth maximum",
    "built opened completed founded closed sold restored destroyed",
    "released published premiere appear written composed painted",
)


@dataclass(frozen=True)
class Relation:
    """One thing that can be asked; `value` names a kind of names.py or a number rule (`number:low:high:unit unit`)."""

    family: str
    subject: str
    value: str
    ask: tuple[str, ...]
    np: tuple[str, ...]
    fact: tuple[str, ...]
    slots: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def word(self) -> str:
        return self.slots.get("r") or self.slots.get("b") or self.slots.get("a", "")

    @property
    def identity(self) -> str:
        """How templates/passages.toml names it: family/word/value."""
        return f"{self.family}/{self.word}/{self.value.split(':')[0]}"

    @property
    def numeric(self) -> bool:
        return self.value.startswith("number") or self.value == "year"

    def clashes(self, other: Relation) -> bool:
        """Whether a fact of `other` could pass for an answer to this relation."""
        if self.word == other.word or (self.family == other.family and self.family not in ("role", "verb", "text")):
            return True
        mine, theirs = ({*(" ".join(r.slots.values())).split()} for r in (self, other))
        return any(mine & set(group.split()) and theirs & set(group.split()) for group in SYNONYMS)


def _items(family: dict[str, Any]) -> list[list[str]]:
    return [item.split(":") for line in family["items"].strip().split("\n") for item in line.split("|") if item]


def _slots_and_value(name: str, parts: list[str]) -> tuple[str, str, dict[str, str]]:
    """(subjects, value, slots) of one item line of a family."""
    if name == "role":
        return parts[1], "person", {"r": parts[0], "pronoun": parts[2] if len(parts) > 2 else ""}
    if name == "verb":
        return parts[2], "person", {"a": parts[0], "b": parts[1]}
    if name == "measure":
        noun, adjective, units, low, high, subjects, comparative = parts
        return subjects, f"number:{low}:{high}:{units}", {"r": noun, "adj": adjective, "cmp": comparative}
    if name == "count":
        many = parts[0] in {"residents", "inhabitants", "people", "citizens", "visitors", "copies", "fans", "customers"}
        return parts[1], "number:500:900000:" if many else "number:2:400:", {"r": parts[0]}
    if name == "when":
        return parts[2], "moment", {"b": parts[1]}
    if name == "whenact":
        return parts[2], "moment", {"a": parts[0], "b": parts[1]}
    if name == "where":
        return parts[1], "town", {"r": parts[0]}
    if name == "whereact":
        return parts[2], "town", {"a": parts[0], "b": parts[1]}
    return parts[2], parts[1], {"r": parts[0]}


@functools.cache
def relations() -> tuple[Relation, ...]:
    """Every relation of the templates."""
    data, found = load_templates("relations"), []
    for name, family in data.items():
        if name == "compare":
            continue
        if name == "own":
            for own in family:
                forms = (tuple(own["ask"]), tuple(own["np"]), tuple(own["fact"]))
                found.append(Relation("own", own["of"], own["value"], *forms, {"r": own["word"]}))
            continue
        forms = (tuple(family["ask"]), tuple(family["np"]), tuple(family["fact"]))
        if name in ("age", "population"):
            subjects = ("person",) if name == "age" else ("city", "country", "island", "city")
            value = "number:18:95:years" if name == "age" else "number:300:9000000:people"
            slots = {"r": name, "adj": "old", "cmp": "older"} if name == "age" else {"r": name, "cmp": "larger"}
            found += [Relation(name, subject, value, *forms, slots) for subject in subjects]
            continue
        for parts in _items(family):
            subjects_text, value, slots = _slots_and_value(name, parts)
            for subject in subjects_text.split():
                found.append(Relation(name, subject.removesuffix("_cm"), value, *forms, slots))
    return tuple(found)


@functools.cache
def families() -> tuple[str, ...]:
    """The families, each as often as it shall be drawn."""
    often = {"own": 8, "role": 4, "verb": 4, "measure": 3, "text": 3, "when": 2, "count": 2}
    return tuple(name for name in load_templates("relations") if name != "compare" for _ in range(often.get(name, 1)))


@functools.cache
def relations_of(family: str = "", subject: str = "", value: str = "", numeric: bool = False) -> tuple[Relation, ...]:
    """The relations that fit every filter given."""
    return tuple(
        r
        for r in relations()
        if (not family or r.family == family)
        and (not subject or r.subject == subject)
        and (not value or r.value == value)
        and (not numeric or r.numeric)
    )


@functools.cache
def passages_of(subject: str, identity: str) -> tuple[tuple[str, str], ...]:
    """(text, slot) of every passage about a `subject` that states the relation."""
    data = load_templates("passages")
    keys = [key for key, named in data["slots"].items() if named == identity]
    return tuple((text, key) for text in data["text"].get(subject, ()) for key in keys if "{#" + key + "}" in text)


@functools.cache
def related(subject: str, slot: str) -> Relation:
    """The relation that a passage's slot stands for."""
    identity = load_templates("passages")["slots"][slot]
    return next(r for r in relations() if r.subject == subject and r.identity == identity)


@functools.cache
def told() -> tuple[Relation, ...]:
    """The relations that some passage states."""
    return tuple(r for r in relations() if passages_of(r.subject, r.identity))
