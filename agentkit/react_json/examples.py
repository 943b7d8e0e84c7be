"""Worked runs for a prompt, made from the tools on offer: questions, turns and observations as chat messages.

A small model does what it has seen done, not what it is told: of 30 questions SmolLM2-135M answers none with the form
described (`tests/benchmarks/real_model.py`). It does most what it saw last, and copies best what stands near. So the
last run is of the likest question, each thought names the tool and its input as the action does, and every run calls
tools that are there, with inputs that fit their schemas; what they ask about exists nowhere.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import pairwise
from typing import Any

from agentkit import prompts
from agentkit.react_json.hostile import without_markup
from agentkit.tool import Tool, takes_nothing

LONGEST_VALUE = 60  # of a value out of a schema, in characters of JSON
DEEPEST = 4
MOST_RUNS = 3
LONGEST_QUESTION = 2000  # characters that are looked at
UNREAD = frozenset(("not", "if", "allOf", "dependentRequired", "dependentSchemas", "contains", "uniqueItems"))
"""What more a schema may ask of a value, which a value that is made up may not have."""
ROLES = {
    "calculator": re.compile(r"calc|arithm|\bmath|\b(?:sums?|expressions?|formulas?)\b", re.IGNORECASE),
    "search": re.compile(r"search|\blook\w* \w* ?up\b|look_?up|\bfacts?\b|wiki|encyclop|question", re.IGNORECASE),
}
"""The tools that prompts/worked-runs.jsonl has runs of, by their names and descriptions."""
NUMBER = "#"
_PARTS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")
_NAMES = re.compile(r"\b[A-Z]\w*(?: [A-Z]\w*)+|(?<=[a-z,] )[A-Z]\w*")
_NUMBERS = re.compile(r"\d[\d.,]*(?<![.,])")
_MARKS = re.compile(r"[a-z]+|[#@^*/+()-]")
Words = tuple[tuple[str, ...], tuple[str, str]]
WORDS: tuple[Words, ...] = (  # by what an argument is called: one for each of two runs
    (("name", "person", "author", "user", "who"), ("Tom Berg", "Ida Falk")),
    (("item", "product", "thing", "article"), ("lamp", "chair")),
    (("date", "day", "when"), ("2026-03-14", "2026-05-02")),
    (("time",), ("09:30", "18:00")),
    (("url", "uri", "link"), ("https://example.org/berg", "https://example.org/falk")),
    (("email", "mail", "to", "recipient"), ("tom@example.org", "ida@example.org")),
    (("path", "file", "filename"), ("notes.txt", "plan.txt")),
    (("language", "lang"), ("English", "French")),
    (("currency",), ("EUR", "USD")),
    ((), ("Lomberg", "Falkau")),
)
FORMATS = ("date", "time", "uri", "url", "email")  # that WORDS have, by these names


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a run, as it is thought of and made."""

    tool: str
    about: str
    tool_input: Any
    observation: str

    def messages(self) -> Iterator[Mapping[str, str]]:
        """The action and its observation."""
        call = {"action": self.tool, **({} if self.tool_input is None else {"action_input": self.tool_input})}
        thought = f"I need {self.tool}" + (f" for {self.about}" if self.about else "")
        fenced = f"```json\n{json.dumps(call, ensure_ascii=False)}\n```"
        yield {"role": "assistant", "content": f"Thought: {thought}\nAction:\n{fenced}"}
        yield {"role": "user", "content": f"Observation: {self.observation}"}


@dataclass(frozen=True, slots=True)
class WorkedRun:
    """A question that calls answer. `words` are what else it is known by: its tool's name and description."""

    question: str
    calls: tuple[Call, ...]
    answer: str
    words: str = ""

    @property
    def texts(self) -> tuple[str, ...]:
        """What a question is compared with."""
        return (self.question, self.words) if self.words else (self.question,)

    def messages(self) -> Iterator[Mapping[str, str]]:
        """The run as it would have been: the question, its actions and their observations, the answer."""
        yield {"role": "user", "content": self.question}
        for call in self.calls:
            yield from call.messages()
        answer = f"Thought: I now know the final answer\nFinal Answer: {self.answer}"
        yield {"role": "assistant", "content": answer}


def worked_runs(tools: Sequence[Tool], question: str = "") -> list[Mapping[str, str]]:
    """The messages of two runs, or of three where there are more than two tools; fewer where none can be made up.

    The run of the likest question stands last, in front of it the likest of those that call another tool; of those that
    call the same where there is none. A tool that changes something is called only where there is no other, as an
    example may be repeated.
    """
    plain = [tool for tool in tools if not tool.side_effects] or tools
    runs = [*_runs(plain)]
    if not runs:
        return []
    likeness = Likeness([text for run in runs for text in run.texts])
    last, *others = sorted(runs, key=lambda run: -max(likeness(question, text) for text in run.texts))
    called = {call.tool for call in last.calls}
    by_tool = {run.calls[0].tool: run for run in reversed(others) if called.isdisjoint(call.tool for call in run.calls)}
    others = sorted(by_tool.values(), key=others.index) or [run for run in others if len(run.calls) == len(last.calls)]
    most = MOST_RUNS - 1 if len(plain) >= MOST_RUNS else 1
    return [message for run in (*reversed(others[:most]), last) for message in run.messages()]


def _runs(tools: Sequence[Tool]) -> Iterator[WorkedRun]:
    """All runs of these tools, those of a search first."""
    roles = {role: tool for tool in reversed(tools) if (role := _role(tool))}
    for run in _written_runs():
        calls = [_call_of(roles[role], *call) if role in roles else None for role, *call in run["calls"]]
        if all(calls):
            yield WorkedRun(run["question"], tuple(filter(None, calls)), run["answer"])
    for tool in tools:
        if tool not in roles.values():
            yield from _plain_runs(tool)


@cache
def _written_runs() -> tuple[dict[str, Any], ...]:
    return tuple(map(json.loads, prompts.lines("worked-runs")))


def _role(tool: Tool) -> str:
    """Whether a tool calculates or searches, by its name, else by its description; and takes a text for that."""
    if _text_key(tool) is None:
        return ""
    found = (role for text in (tool.name, tool.description) for role, words in ROLES.items() if words.search(text))
    return next(found, "")


def _call_of(tool: Tool, text: str, observation: str) -> Call | None:
    """A call with a text; None where the other arguments cannot be made up."""
    key = _text_key(tool)
    given = text if key == "" else _object(tool.schema, 0, {str(key): text})
    return None if given is None or not _is_harmless(given) else Call(tool.name, text, given, observation)


def _plain_runs(tool: Tool) -> Iterator[WorkedRun]:
    """Runs of a tool of which nothing is known but its name, its description and its schema."""
    name, words = tool.name, f"{tool.name} {tool.description}"
    if takes_nothing(tool.schema):
        yield WorkedRun(f"What does {name} say?", (Call(name, "", None, "It says 17."),), "17", words)
        return
    for number, result in enumerate(("17", "230")):
        given = _sample(tool.input_schema, number, tool.input_schema, key=_only_name(tool))
        if given is None or not _is_harmless(given):
            return
        values = given.values() if isinstance(given, dict) else [given]
        about = ", ".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in values)
        call = Call(name, about, given, f"It is {result} for {about}.")
        yield WorkedRun(f"What does {name} say about {about}?", (call,), result, words)


class Likeness:
    """How like a question is to another: the words and pairs of words that both have, the rarer the more, from 0 to 1.

    Where the other has a number and the question has none, it asks for something else.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._often, self._count = Counter(each for text in texts for each in _features(text)), len(texts)

    def __call__(self, question: str, other: str) -> float:
        ours, theirs = _features(question), _features(other)
        if NUMBER in theirs - ours:
            return 0.0
        total = math.sqrt(self._weight(ours) * self._weight(theirs))
        return self._weight(ours & theirs) / total if total else 0.0

    def _weight(self, features: frozenset[str]) -> float:
        return sum(math.log(1 + self._count / (self._often[each] + 0.5)) for each in sorted(features))


@lru_cache
def _features(text: str) -> frozenset[str]:
    """The words of a text and their pairs; names and numbers are all alike."""
    words = _MARKS.findall(_NUMBERS.sub(NUMBER, _NAMES.sub("@", text[:LONGEST_QUESTION]).lower()))
    return frozenset(words) | {f"{one} {two}" for one, two in pairwise(words)}


def _is_harmless(given: Any) -> bool:
    """Schemas come from servers, too: what they suggest stays short, and is no markup."""
    text = json.dumps(given, ensure_ascii=False)
    return len(text) <= 2 * LONGEST_VALUE and without_markup(text) == text


def _text_key(tool: Tool) -> str | None:
    """The argument that takes a free text: "" where that is all of the input, None where there is none."""
    schema = tool.input_schema
    if schema.get("type") == "string":
        return None if _is_special(schema) else ""
    properties, required = schema.get("properties", {}), schema.get("required", ())
    texts = [name for name in required if isinstance(one := properties.get(name), dict) and one.get("type") == "string"]
    return texts[0] if len(texts) == 1 and not _is_special(properties[texts[0]]) else None


def _is_special(schema: Mapping[str, Any]) -> bool:
    return not {"enum", "const", "pattern", "format"}.isdisjoint(schema)


def _only_name(tool: Tool) -> str:
    return next(iter(tool.schema.get("properties", {})), "")


# -- values that fit a schema ------------------------------------------------------------------------------------------


def _object(schema: Mapping[str, Any], number: int, known: Mapping[str, Any] = {}) -> dict[str, Any] | None:
    """An object with what the schema requires, else with its first property; None where a value cannot be made up."""
    properties = schema.get("properties", {})
    names = [*schema.get("required", ())] or [*properties][:1]
    values = {name: known.get(name, _sample(properties.get(name), number, schema, key=name)) for name in names}
    return None if any(value is None for value in values.values()) else values


def _sample(schema: Any, number: int, root: Mapping[str, Any], *, key: str = "", depth: int = 0) -> Any:
    """A plausible value of a schema; None where none can be made up. `number` is that of the run."""
    if not isinstance(schema, Mapping) or depth > DEEPEST or not UNREAD.isdisjoint(schema):
        return None
    if isinstance(reference := schema.get("$ref"), str):
        target = root.get("$defs", {}).get(reference.removeprefix("#/$defs/"))
        return _sample(target, number, root, key=key, depth=depth + 1)
    given = [schema["const"]] if "const" in schema else [*schema.get("enum", ()), *schema.get("examples", ())]
    if given := [each for each in given if each not in (None, "")]:
        value = given[number % len(given)]
        return value if len(json.dumps(value)) <= LONGEST_VALUE else None
    for branch in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        value = _sample(branch, number, root, key=key, depth=depth + 1)
        if value is not None:
            return value
    kind = schema.get("type", "string" if not schema.get("properties") else "object")
    kind = next((each for each in kind if each != "null"), None) if isinstance(kind, list) else kind
    if kind == "string":
        return _text(schema, number, key)
    if kind in ("integer", "number"):
        return _number(schema, number, whole=kind == "integer")
    if kind == "boolean":
        return True
    if kind == "array" and schema.get("minItems", 1) <= 1:
        item = _sample(schema.get("items", {}), number, root, key=key, depth=depth + 1)
        return None if item is None else [item]
    if kind == "object":
        found = {**schema, "$defs": root.get("$defs", {})}
        return _object(found, number) if depth < DEEPEST else None
    return None


def _text(schema: Mapping[str, Any], number: int, key: str) -> str | None:
    if "pattern" in schema or ("format" in schema and schema["format"] not in FORMATS):
        return None
    wanted = {schema["format"]} if "format" in schema else {part.lower() for part in _PARTS.findall(key)}
    word = next(words[number] for names, words in WORDS if not names or wanted & {*names})
    return word if schema.get("minLength", 0) <= len(word) <= schema.get("maxLength", LONGEST_VALUE) else None


def _number(schema: Mapping[str, Any], number: int, *, whole: bool) -> float | None:
    least = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    most = schema.get("maximum", schema.get("exclusiveMaximum", least + 100) - 1)
    value = max(least, min((3, 5)[number], most))
    if "multipleOf" in schema or not least <= value <= most:
        return None
    return int(value) if whole else value
