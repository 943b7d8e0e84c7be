"""Requests that a tool with typed arguments serves, from templates/errands.toml."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import Any

from agentkit.tool import Tool

from .imagined import imagined
from .names import Names, load_templates
from .toolkit import invented, object_schema, styled, tool

SLOT = re.compile(r"\{(\w+)\}")
PHRASE = re.compile(r"<<(!?)(\w+)=([^:<>]*):([^<>]*)>>")
SENTENCES = tuple(load_templates("errands")["sentences"])


@dataclass(frozen=True)
class Argument:
    """One argument: its names, JSON type, the kind of its values, whether it may be left out."""

    key: str
    names: tuple[str, ...]
    type: str
    kind: str
    optional: bool


@dataclass(frozen=True)
class Kind:
    """One tool of the list with what it is asked for."""

    names: tuple[str, ...]
    about: tuple[str, ...]
    arguments: tuple[Argument, ...]
    ask: tuple[str, ...]
    out: tuple[tuple[str, str], ...]
    see: tuple[str, ...]
    answer: tuple[str, ...]
    np: str
    acts: bool


@dataclass(frozen=True)
class Errand:
    """One request: the tool, the question (or noun phrase), the arguments, what the tool says and the answer."""

    tool: Tool
    question: str
    arguments: dict[str, Any]
    observation: str
    answer: str
    value: str
    acts: bool


@cache
def kinds() -> tuple[Kind, ...]:
    """Every tool of the list."""
    return tuple(map(read_kind, load_templates("errands")["errand"]))


def read_kind(each: dict[str, Any]) -> Kind:
    """A tool as templates/errands.toml writes it."""
    arguments = []
    for line in each["args"]:
        names, kind, values = line.split(":", 2)
        called = tuple(names.split("|"))
        arguments.append(Argument(called[0], called, kind.rstrip("?"), values, kind.endswith("?")))
    out = tuple((line.split(":", 1)[0], line.split(":", 1)[1]) for line in each["out"])
    ask, see, answer = (tuple(each[key]) for key in ("ask", "see", "answer"))
    names, about = tuple(each["names"].split()), tuple(each["about"])
    return Kind(names, about, tuple(arguments), ask, out, see, answer, each.get("np", ""), each.get("acts", False))


def any_kind(random: Random, *, counted: bool = False) -> Kind:
    """A tool of the list or one made up; `counted` asks for one that tells a number."""
    if random.random() < 0.5:
        return read_kind(imagined(random, counted=counted))
    return random.choice([kind for kind in kinds() if kind.np or not counted])


def drawn(random: Random, kind: str) -> Any:
    """A value of a kind, as JSON has it."""
    names = Names(random)
    word, _, rest = kind.partition(" ")
    if word == "int":
        low, high = map(int, rest.split())
        return random.randint(low, high)
    if word in ("words", "enum"):
        return random.choice(rest.split(","))
    if word == "list":
        many = [drawn(random, rest) for _ in range(random.choice((2, 2, 3, 3, 4)))]
        return list(dict.fromkeys(many))
    rules = {
        "decimal": lambda: random.choice(
            (random.randint(1, 200), round(random.uniform(0.5, 300), random.choice((1, 2))))
        ),
        "money": lambda: random.choice((random.randint(2, 5000), round(random.uniform(1, 2500), 2))),
        "big": lambda: random.choice((random.randint(2, 900) * 1000, random.randint(1000, 9_000_000))),
        "flag": lambda: random.random() < 0.5,
        "clock": lambda: f"{random.randint(0, 23):02d}:{random.choice((0, 15, 30, 45, random.randint(0, 59))):02d}",
        "date": lambda: _date(random, names),
        "code": lambda: _code(random),
        "email": lambda: names.fill("{lword}.{lnoun}@{lword}.") + random.choice(("com", "org", "de", "net", "io")),
        "sentence": lambda: random.choice(SENTENCES),
        "gibberish": lambda: " ".join(names.draw("lword") for _ in range(random.randint(2, 5))),
        "meaning": lambda: names.draw("meaning").lower(),
        "flight": lambda: f"{names.draw('initial')}{names.draw('initial')}{random.randint(100, 9999)}",
    }
    if word not in rules:
        return names.draw(word)
    value = rules[word]()
    return names.fill(value) if isinstance(value, str) and "{" in value else value


def _date(random: Random, names: Names) -> str:
    year, month, day = random.randint(2024, 2028), random.randint(1, 12), random.randint(1, 28)
    iso = f"{year}-{month:02d}-{day:02d}"
    spoken = f"{day} {names.draw('month')} {year}"
    weekday = random.choice(
        ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday", "tomorrow", "today")
    )
    return random.choice((iso, iso, spoken, f"{names.draw('month')} {day}", weekday))


def _code(random: Random) -> str:
    letters = "".join(random.choices("ABCDEFGHJKLMNPQRSTUVWXYZ", k=random.randint(1, 3)))
    digits = "".join(random.choices("0123456789", k=random.randint(3, 7)))
    plain = (f"{letters}-{digits}", f"{letters}{digits}", digits, f"{letters}-{digits[:3]}-{digits[3:] or 7}")
    return random.choice((*plain, f"#{digits}", f"{letters} {digits}", f"{letters}-{letters[::-1]} {digits[:3]}"))


def spoken(value: Any) -> str:
    """A value as a question has it."""
    if isinstance(value, list):
        texts = [spoken(each) for each in value]
        return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
    return str(value)


@dataclass(frozen=True)
class Skinned:
    """A tool of the list with its names and schema settled."""

    kind: Kind
    tool: Tool
    names: dict[str, str]


def skinned(random: Random, kind: Kind) -> Skinned:
    """The tool as some program has it."""
    names: dict[str, str] = {}
    types = [argument.type for argument in kind.arguments]
    for argument in kind.arguments:
        free = [name for name in argument.names if name not in names.values()]
        name = random.choice((free[0], *free))
        chance = random.random()  # the schema decides, not what such tools are used to
        if chance < 0.2 and types.count(argument.type) == 1 and argument.type != "boolean":
            name = strange(random)
        elif chance < 0.4:
            name = renamed(random, name)
        names[argument.key] = name if name not in names.values() else free[0]
    properties = {names[argument.key]: _property(random, argument) for argument in kind.arguments}
    required = [names[argument.key] for argument in kind.arguments if not argument.optional]
    called = invented(random) if random.random() < 0.12 else styled(random, random.choice(kind.names))
    about = random.choice(kind.about)
    return Skinned(kind, tool(called, about, object_schema(random, properties, required)), names)


def strange(random: Random) -> str:
    """A name that does not say what is given: a word of any language, of none, or of another subject."""
    names = Names(random)
    return random.choice((names.draw("lword"), names.draw("lnoun"), invented(random).lower().replace(" ", "_")))


def renamed(random: Random, name: str) -> str:
    """The name of an argument as somebody else calls it."""
    word = name.split("_")[-1]
    options = (f"{name}_name", f"the_{word}", f"my_{word}", f"{word}_value", f"for_{word}", f"input_{word}", f"{word}1")
    return random.choice((*options, word.capitalize(), word.upper(), word[:3], word[:4], "".join(word.split("e"))))


def _property(random: Random, argument: Argument) -> dict[str, Any]:
    made: dict[str, Any] = {"type": argument.type}
    if argument.kind.startswith("enum"):
        made["enum"] = argument.kind.removeprefix("enum ").split(",")
    if argument.type == "array":
        made["items"] = {"type": "integer" if "int" in argument.kind.split() else "string"}
    if argument.optional and random.random() < 0.4:
        made["default"] = None if argument.type != "boolean" else False
        made = made if made["default"] is not None else {"anyOf": [made, {"type": "null"}], "default": None}
        made = {k: v for k, v in made.items() if k != "default" or v is not None or "anyOf" in made}
        if "anyOf" in made:
            made["anyOf"] = [{k: v for k, v in made["anyOf"][0].items() if k != "default"}, {"type": "null"}]
    if random.random() < 0.2:
        made["description"] = argument.key.replace("_", " ").capitalize() + random.choice(("", ".", " to use"))
    return made


def errand(random: Random, skin: Skinned, *, phrase: bool = False, **known: str) -> Errand:
    """A request for this tool, or just a noun phrase; `known` settles arguments, the question has {their names}."""
    kind = skin.kind
    form = kind.np if phrase else random.choice(kind.ask)
    values: dict[str, Any] = {}
    form = _phrases(random, form, values)
    slots = SLOT.findall(form)
    for argument in kind.arguments:
        if argument.key not in values and (argument.key in slots or not argument.optional):
            value = known.get(argument.key) or drawn(random, argument.kind)
            values[argument.key] = value if value is not True or argument.key in slots else False  # not spoken of
    shown = {key: spoken(value) for key, value in values.items()}
    question = SLOT.sub(lambda m: known.get(m[1], shown.get(m[1], "")), form)
    out = {key: drawn(random, rule) for key, rule in kind.out}
    filling = {**shown, **{key: str(value) for key, value in out.items()}}
    see = SLOT.sub(lambda m: filling.get(m[1], m[0]), random.choice(kind.see))
    answer = SLOT.sub(lambda m: filling.get(m[1], m[0]), random.choice(kind.answer))
    answer = _grounded(answer, see, out, filling)
    ordered = {skin.names[a.key]: values[a.key] for a in kind.arguments if a.key in values}
    return Errand(skin.tool, question, ordered, see, answer, filling.get("t", ""), kind.acts)


def _phrases(random: Random, form: str, values: dict[str, Any]) -> str:
    """The form with some of its phrases, whose arguments go to `values`; of those marked with ! one stays."""
    must = [match for match in PHRASE.finditer(form) if match[1]]
    kept = {key: random.choice([m[0] for m in must if m[2] == key]) for key in dict.fromkeys(m[2] for m in must)}

    def written(match: re.Match[str]) -> str:
        mark, key, value, text = match.groups()
        if mark and kept[key] != match[0]:
            return ""
        if not mark and (key in values or random.random() < 0.5):
            return ""
        try:
            values[key] = json.loads(value)
        except ValueError:
            values[key] = value
        return text if mark else text.replace(" ", " ", 1)

    return re.sub(r"  +", " ", PHRASE.sub(written, form))


def _grounded(answer: str, see: str, out: dict[str, Any], filling: dict[str, str]) -> str:
    """The answer, with the observation itself in its place where that does not hold what it names."""
    named = [str(value) for value in out.values() if str(value) in answer]
    if all(value in see for value in named):
        return answer
    main = filling.get("t", "")
    if main and main in see:
        return main
    return (
        "Done."
        if re.fullmatch(r"(?i)\W*(sent|done|ok|added|reserved|tagged|transferred|timer started|created)\W*", see)
        or "{" in see
        else see
    )


def others(random: Random, count: int, but: Sequence[Tool] = ()) -> list[Skinned]:
    """Some tools that are not needed, none of a name that is taken."""
    taken = {each.name.casefold() for each in but}
    found: list[Skinned] = []
    for kind in [any_kind(random) for _ in range(count + 3)]:
        made = skinned(random, kind)
        if len(found) < count and made.tool.name.casefold() not in taken:
            taken.add(made.tool.name.casefold())
            found.append(made)
    return found
