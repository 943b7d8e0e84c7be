"""Replies as values: a JSON schema for the model, and the reader of what it wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage
from langchain_core.utils.function_calling import convert_to_json_schema

from agentkit.errors import ConfigurationError
from agentkit.models.call_grammar import json_rule

Schema = dict[str, Any] | type


def response_format(schema: Schema) -> dict[str, Any]:
    """OpenAI's `response_format` for a pydantic class, a TypedDict or a JSON schema."""
    wanted = convert_to_json_schema(schema)
    return {"type": "json_schema", "json_schema": {"name": wanted.get("title", "answer"), "schema": wanted}}


def format_grammar(wanted: Mapping[str, Any]) -> str | None:
    """The grammar for a `response_format`: any object for JSON mode, else the schema; None for plain text."""
    if wanted["type"] == "text":
        return None
    if wanted["type"] == "json_object":
        schema: Mapping[str, Any] = {"type": "object"}
    elif wanted["type"] == "json_schema":
        schema = wanted["json_schema"]["schema"]
    else:
        raise ConfigurationError(f"expected a response_format json_schema, json_object or text, saw {wanted['type']!r}")
    return f"%llguidance {{}}\nstart: json\njson: {json_rule(schema)}\n"


def read_text(schema: Schema | None, message: AIMessage) -> Any:
    """The value a reply's text holds."""
    text = str(message.text).strip().removeprefix("```json").removeprefix("```").removesuffix("```")
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise OutputParserException(f"expected JSON, saw {text[:200]!r}: {error}", llm_output=text) from error
    return _validated(schema, value)


def read_call(schema: Schema, message: AIMessage) -> Any:
    """The arguments of a reply's first tool call; None where there is no call."""
    return _validated(schema, message.tool_calls[0]["args"]) if message.tool_calls else None


def _validated(schema: Schema | None, value: Any) -> Any:
    validate = getattr(schema, "model_validate", None) or getattr(schema, "parse_obj", None)  # pydantic 2, or 1
    if isinstance(schema, type) and validate:
        try:
            return validate(value)
        except ValueError as error:
            problem = " ".join(str(error).split())[:300]
            raise OutputParserException(f"expected {schema.__name__}: {problem}", llm_output=str(value)) from error
    return value
