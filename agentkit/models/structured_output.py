"""The grammar of a reply that is JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.react_json.grammar import json_rule


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
