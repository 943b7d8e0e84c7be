"""Tools of any name, description, order and number, as the product's own `Tool`; and how searches print results."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random
from typing import Any

from agentkit.errors import ToolError
from agentkit.tool import STRING, Tool
from agentkit.tools.calculator import calculate, calculator
from agentkit.tools.search import search

from .names import Names, load_templates


def nothing_to_run(_: Any) -> str:
    raise AssertionError("the tools of generated conversations are not run")


def tool(name: str, about: str, schema: dict[str, Any] | None = None) -> Tool:
    return Tool(name=name, description=about, run=nothing_to_run, schema=schema or STRING)


def object_schema(random: Random, properties: dict[str, dict[str, Any]], required: Sequence[str]) -> dict[str, Any]:
    """An object schema; pydantic adds titles, others do not."""
    if random.random() < 0.5:
        titled = {name: {**each, "title": name.replace("_", " ").title()} for name, each in properties.items()}
        properties = {name: dict(sorted(each.items())) for name, each in titled.items()}
    return {"type": "object", "properties": properties, "required": list(required)}


def styled(random: Random, name: str) -> str:
    """The name with what people add to names."""
    chance = random.random()
    if chance < 0.72:
        return name
    words = [word for word in re.split(r"[_\-\s]|(?<=[a-z])(?=[A-Z])", name) if word]
    if chance < 0.78:
        return "_".join(words).lower()
    if chance < 0.84:
        return "".join(word.capitalize() for word in words)
    if chance < 0.88:
        return "-".join(words).lower()
    if chance < 0.91:
        return name.upper()
    if chance < 0.94:
        return f"{name}_{random.choice(('v2', 'tool', 'api', '1', 'service', 'beta', 'fn'))}"
    if chance < 0.97:
        return f"{random.choice(('my', 'get', 'use', 'run', 'do', 'the', 'tool'))}_{name}"
    return " ".join(word.capitalize() for word in words)


def invented(random: Random) -> str:
    """A name that says nothing: only the description tells what the tool does."""
    word = "".join(random.choices(load_templates("names")["syllables"].split(), k=random.choice((2, 2, 3))))
    return random.choice((word, word.capitalize(), f"tool_{random.randint(1, 99)}", f"{word}{random.randint(1, 9)}"))


@dataclass(frozen=True)
class Skin:
    """A search or a calculator as these tools have it: `field` is the argument that takes the text, "" for a string.

    `prints` is how it gives its results.
    """

    tool: Tool
    field: str = ""
    prints: str = ""

    def input_of(self, text: str) -> str | dict[str, Any]:
        return {self.field: text} if self.field else text


@cache
def words(key: str) -> tuple[str, ...]:
    return tuple(load_templates("skins")[key].split())


@cache
def texts(key: str) -> tuple[str, ...]:
    return tuple(load_templates("skins")[key])


PLAIN_SEARCH, PLAIN_CALCULATOR = (
    Skin(tool(search.name, search.description)),
    Skin(tool(calculator.name, calculator.description), prints="answer"),
)


def _schema(random: Random, field: str, about: str, extras: Sequence[str]) -> dict[str, Any]:
    properties: dict[str, dict[str, Any]] = {field: {"type": "string"}}
    if about:
        properties[field]["description"] = about
    for extra in extras:
        name, kind, default = extra.split(":")
        value = json.loads(default) if kind in ("integer", "boolean") else default
        properties[name] = {"type": kind, "default": value}
    return object_schema(random, properties, [field])


def described(random: Random, role: str) -> str:
    """What a search or a calculator says of itself: a description of the list, or one put together."""
    if random.random() < 0.4:
        return random.choice(texts(f"{role}_about"))
    does, what, more = (random.choice(option.split("|")) for option in texts(f"{role}_parts"))
    example = random.choice(texts("examples"))
    for letter in "ab":
        example = example.replace(letter, str(random.randint(2, 99)))
    return f"{does} {what}{more}".replace("{example}", example)


def search_skin(random: Random) -> Skin:
    """Some search."""
    prints = ("", "", "", "", "list", "object", "lines")
    return _skin(random, "search", PLAIN_SEARCH, prints, nameless=0.2, plain_text=0.5)


def calculator_skin(random: Random) -> Skin:
    """Some calculator."""
    prints = ("answer", "answer", "bare", "bare", "result", "object", "equation")
    return _skin(random, "calculator", PLAIN_CALCULATOR, prints, nameless=0.25, plain_text=0.55)


def _skin(random: Random, role: str, plain: Skin, ways: Sequence[str], *, nameless: float, plain_text: float) -> Skin:
    """Some tool of a role; a share has a name that says nothing, a share takes its text without a field around it."""
    if random.random() < 0.25:
        return plain
    name = invented(random) if random.random() < nameless else styled(random, random.choice(words(f"{role}_names")))
    about, prints = described(random, role), random.choice(ways)
    if random.random() < plain_text:
        return Skin(tool(name, about), prints=prints)
    field, extras, field_about = random.choice(words(f"{role}_fields")), list[str](), ""
    if role == "search":
        extras = random.sample(texts("search_extras"), random.choice((0, 0, 1, 2)))
        field_about = random.choice(texts("search_field_about"))
    return Skin(tool(name, about, _schema(random, field, field_about, extras)), field, prints)


@lru_cache(maxsize=20_000)
def value_text(expression: str) -> str | None:
    """What the product's calculator makes of an expression, None where it refuses or the number is no ordinary one."""
    try:
        result = calculate(expression)
    except (ToolError, ImportError):  # numexpr may be missing, which gives what is no fraction
        return None
    usual = re.fullmatch(r"-?\d{1,15}(\.\d{1,17})?", result.text)
    return result.text if usual else None


@lru_cache(maxsize=20_000)
def calculator_observation(expression: str) -> str:
    """The product's observation, with the readings it states."""
    return calculate(expression).observation


def printed_value(skin: Skin, expression: str, value: str) -> str:
    """How this calculator gives a value."""
    if skin.prints == "answer":
        return calculator_observation(expression)
    if skin.prints == "result":
        return f"Result: {value}"
    if skin.prints == "object":
        return json.dumps({"result": float(value) if "." in value else int(value)})
    return f"{expression} = {value}" if skin.prints == "equation" else value


def printed_results(random: Random, skin: Skin, text: str, about: str) -> str:
    """How this search prints what it found."""
    if "\n" in text or len(text) < 20:
        return text
    if skin.prints == "list":
        return json.dumps([{"title": _title(random, about), "snippet": text}], ensure_ascii=False)
    if skin.prints == "object":
        key = random.choice(("result", "answer", "text", "content", "output", "passage"))
        return json.dumps({key: text}, ensure_ascii=False)
    if skin.prints == "lines":
        return "\n".join(f"- {sentence}" for sentence in re.split(r"(?<=[.!?]) (?=[A-Z])", text))
    if random.random() < 0.22:
        return documents(random, text, about)
    return text


def _title(random: Random, about: str) -> str:
    return f"{about[:1].upper()}{about[1:]}{random.choice((' - Wikipedia', '', '', ' | Facts', ' (official page)'))}"


def documents(random: Random, text: str, about: str) -> str:
    """As the product's search of a folder prints it: the best sentence, then passages with file and line."""
    names = Names(random)
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z])", text)
    slug = re.sub(r"\W+", "-", about.lower()).strip("-") or "page"
    hits = []
    others = [names.fill(each) for each in random.sample(fillers(), random.choice((0, 1, 1, 2)))]
    for passage in [text, *others]:
        file = slug if passage is text else names.draw("lnoun")
        ending, folder = random.choice(words("endings")), random.choice((*words("folders"), ""))
        place = f"#page={random.randint(1, 40)}" if ending == "pdf" else f":{random.randint(1, 220)}"
        title = random.choice((*texts("headings"), file, about))
        hits.append(f"{title}\n   {folder + '/' if folder else ''}{file}.{ending}{place}\n   {passage}")
    if random.random() < 0.5:
        first, *rest = hits
        rest.insert(random.randint(0, len(rest)), first)
        hits = rest
    listed = [f"{number}. {hit}" for number, hit in enumerate(hits, 1)]
    head = [text] if random.random() < 0.5 or len(sentences) == 1 else []
    return "\n".join([*head, *listed])


@cache
def fillers() -> tuple[str, ...]:
    """Sentences about nothing in particular."""
    lines = load_templates("talk")["filler"].strip().split("\n")
    return tuple(re.sub(r"\{an\} ", "a ", line).replace("{e}", "{word}") for line in lines if "{an2}" not in line)
