"""Tools as a model that calls them in its own syntax sees them, and what it wrote as their input."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agentkit.errors import MalformedTurn
from agentkit.events import ToolInput
from agentkit.models.backend import NativeCall
from agentkit.react_json.lenient_json import BrokenJson, read_json

ONE_STRING = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Function:
    """A tool by the `name` that servers take; `schema` is the JSON schema of the tool's input."""

    name: str
    tool: str
    description: str
    schema: Mapping[str, Any]

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The schema of the arguments, which are always an object."""
        return ONE_STRING if self._takes_one_string else self.schema

    @property
    def _takes_one_string(self) -> bool:
        return self.schema.get("type") == "string"

    def as_openai(self) -> dict[str, Any]:
        """OpenAI's function schema."""
        about = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": about}

    def input_of(self, arguments: ToolInput) -> ToolInput:
        """The tool's input: the string itself where it takes one."""
        if self._takes_one_string and isinstance(arguments, dict) and len(arguments) == 1:
            (value,) = arguments.values()
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return str(value)
        return arguments


def functions_of(tools: Iterable[tuple[str, str, Mapping[str, Any]]]) -> tuple[Function, ...]:
    """Functions of tools' names, descriptions and input schemas. No two have the same name."""
    functions: dict[str, Function] = {}
    for tool, description, schema in tools:
        name = plain = _NOT_IN_A_NAME.sub("_", tool)[:60] or "tool"
        while name in functions:
            name = f"{plain}_{len(functions)}"
        functions[name] = Function(name, tool, description, schema)
    return tuple(functions.values())


def read_arguments(call: NativeCall, function: Function | None) -> ToolInput:
    """The arguments of a call; raises `MalformedTurn` for what has no single reading as an object or a string."""
    text = call.arguments.strip()
    try:
        value = _value(text)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _value(value.strip())  # an object written as the text of one
    except BrokenJson as broken:
        raise _malformed(call, f"JSON {broken}", function) from None
    if value is None:
        return {}
    if not isinstance(value, dict | str):
        raise _malformed(call, "JSON is no object", function)
    return value


def _value(text: str) -> Any:
    if not text:
        return None
    value, end = read_json(text, 0)
    if text[end:].strip():
        raise BrokenJson("goes on behind its end", end)
    return value


def _malformed(call: NativeCall, reason: str, function: Function | None) -> MalformedTurn:
    schema = f"; they must fit {json.dumps(function.parameters, ensure_ascii=False)}" if function is not None else ""
    return MalformedTurn(
        f"Invalid call of {call.name}: its arguments' {reason}. Nothing was called. Call again, with "
        f"arguments that are one JSON object{schema}"
    )
