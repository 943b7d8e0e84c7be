"""A tool's arguments and the JSON schema they are to fit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agentkit.errors import ToolError
from agentkit.react_json.turn import ToolInput

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
