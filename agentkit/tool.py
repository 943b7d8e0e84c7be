"""A tool as the loop sees it: a name, a description, a JSON schema and a function. No framework needed."""

from __future__ import annotations

import inspect
import json
import re
import unicodedata
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from agentkit.errors import ConfigurationError, ToolError, short_repr
from agentkit.events import Source, ToolInput

STRING: Mapping[str, Any] = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Result:
    """An observation with what a run keeps of it: its sources, and readings of the input that could surprise."""

    text: str
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    `schema` is the JSON schema of `action_input`: `{"type": "string"}` for a tool of one string, else an object schema.
    `run` takes the action's input, a string or a dict, and returns the observation, bare or as a `Result`; it raises
    `ToolError` for what the model can mend. `deterministic` tools are executed again when a cassette is replayed,
    `idempotent` ones after a failure. `side_effects` says whether the tool changes anything; one that does, or that
    says nothing (None), is asked for with `approve`. `timeout_s` is the tool's own limit, `reads` names the environment
    variables of its keys. `parse` gives the arguments as they run, for a tool that checks them itself; those of any
    other are held to `schema` at their top level.
    """

    name: str
    description: str
    run: Callable[[Any], Any]
    arun: Callable[[Any], Awaitable[Any]] | None = None
    schema: Mapping[str, Any] = field(default_factory=lambda: STRING)
    return_direct: bool = False
    deterministic: bool = False
    side_effects: bool | None = None
    idempotent: bool = False
    timeout_s: float | None = None
    reads: tuple[str, ...] = ()
    parse: Callable[[ToolInput], ToolInput] | None = None

    def __post_init__(self) -> None:
        if re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", self.name)).casefold() == "finalanswer":
            raise ConfigurationError(f"No tool can be named {self.name!r}, which begins a model's answer; rename it")
        if not self.name.isprintable() or self.name != self.name.strip() or not self.name:
            raise ConfigurationError(
                f"No tool can be named {self.name!r}: a name is one line of characters that can be seen; rename it"
            )
        if not callable(self.run) or inspect.iscoroutinefunction(self.run):
            is_async = ", which is async; give that as arun, and a plain function as run"
            saw = is_async if callable(self.run) else f", saw {short_repr(self.run)}"
            raise ConfigurationError(f"Tool {self.name}: expected run to be a function of the input{saw}")
        if wrong := _unreadable(self.schema):
            raise ConfigurationError(f"Tool {self.name}: expected a JSON schema, saw {wrong}; mend it there")

    @property
    def only_reads(self) -> bool:
        """Whether it is said to change nothing: `approve` is not asked before such a tool."""
        return self.side_effects is False or (self.side_effects is None and self.deterministic)

    @property
    def takes_one_string(self) -> bool:
        """Whether `action_input` is a single string."""
        return self.schema.get("type") == "string"

    def call(self, tool_input: ToolInput) -> Any:
        """The observation; raises `ToolError` for arguments that do not fit."""
        return self.run(self._held(tool_input))

    async def acall(self, tool_input: ToolInput) -> Any:
        """The observation; only for a tool that has `arun`."""
        assert self.arun is not None
        return await self.arun(self._held(tool_input))

    def arguments(self, tool_input: ToolInput) -> ToolInput:
        """What the tool is going to run with, for whoever is asked first; raises `ToolError` for what does not fit."""
        held = self._held(tool_input)
        return held if self.parse is None else self.parse(held)

    def _held(self, tool_input: ToolInput) -> ToolInput:
        fitted = self.fitted(tool_input)
        if self.parse is None and (wrong := misfit(fitted, self.schema)):
            raise does_not_fit(self.name, wrong, self.schema)
        return fitted

    def fitted(self, tool_input: ToolInput) -> ToolInput:
        """A tool of one string is often given `{"query": "…"}`, one of an object the text of it, or its one value."""
        if self.takes_one_string and isinstance(tool_input, dict):
            values = list(tool_input.values())
            if len(values) != 1 or not isinstance(values[0], str | int | float):
                raise ToolError(f"{self.name} takes one string as action_input, got an object; give a string.")
            return str(values[0])
        if not self.takes_one_string and isinstance(tool_input, str):
            return as_arguments(tool_input, self.schema)
        return tool_input


# -- arguments and the JSON schema they are to fit -------------------------------------------------------------------

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


def as_arguments(text: str, schema: Mapping[str, Any]) -> ToolInput:
    """The object that was written as text, or the one argument that can be meant; else the text."""
    if text.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
            return value if isinstance(value, dict) else text
    names = list(schema.get("properties", ()))
    required = [name for name in schema.get("required", ()) if name in names]
    if not names and not text.strip():
        return {}
    for candidates in (names, required):
        if len(candidates) == 1:
            return {candidates[0]: text}
    return text


def _unreadable(schema: Any) -> str | None:
    """What of a schema no arguments could be held to: the parts that `misfit` reads."""
    if not isinstance(schema, Mapping):
        return short_repr(schema)
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping):
        return f"properties that are no object: {short_repr(properties)}"
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        return f"required that is no list of names: {short_repr(required)}"
    for name, each in properties.items():
        if isinstance(each, Mapping) and not isinstance(each.get("enum", []), list | tuple):
            return f"an enum of {name} that is no list: {short_repr(each['enum'])}"
    return None


def misfit(tool_input: ToolInput, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with arguments, at their top level; nested ones are for the tool to check."""
    if schema.get("type") == "string":
        return None
    if isinstance(tool_input, str):
        return "it is no object"
    properties = schema.get("properties", {})
    wrong = [f"{name}: missing" for name in schema.get("required", ()) if name not in tool_input]
    if schema.get("additionalProperties") is False:
        wrong += [f"{name}: unknown" for name in tool_input if name not in properties]
    for name, value in tool_input.items():
        expected = properties.get(name)
        if isinstance(expected, Mapping) and not _is_a(value, expected.get("type")):
            wrong.append(f"{name}: expected {expected['type']}")
        elif isinstance(expected, Mapping) and "enum" in expected and value not in expected["enum"]:
            wrong.append(f"{name}: expected one of {json.dumps(expected['enum'])}")
    return "; ".join(wrong) or None


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of a JSON type; of several, or none named, it may be anything."""
    if not isinstance(kind, str) or kind not in _TYPES:
        return True
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, bool) and kind != "boolean")


def does_not_fit(name: str, wrong: str, schema: Mapping[str, Any]) -> ToolError:
    """The error that tells the model what is wrong with its arguments, with the schema."""
    shown = {key: _untitled(schema[key]) for key in ("properties", "required", "$defs") if schema.get(key)}
    return ToolError(
        f"Error: action_input does not fit {name} ({wrong}). Its JSON schema: {json.dumps(shown, ensure_ascii=False)}"
    )


def _untitled(schema: Any) -> Any:
    """A schema without the titles that pydantic adds, which say nothing."""
    if isinstance(schema, Mapping):
        return {k: _untitled(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    return [_untitled(part) for part in schema] if isinstance(schema, list) else schema
