"""Grammars (llguidance Lark) that hold a reply to a JSON schema, or its tool calls to their tools'."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.call_syntax import CALL_ID, CallSyntax

COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}

Tool = Mapping[str, Any]


def tool_grammar(
    tools: Sequence[Tool],
    tool_choice: str | Mapping[str, Any] | None,
    *,
    syntax: CallSyntax,
    special: Mapping[str, int],
    parallel: bool = True,
) -> str | None:
    """A grammar for replies with calls: free text, calls that fit their tool's schema, or both; as `tool_choice` says.

    "auto" or None: text, then calls if any; "any" or "required": one call; a tool's name: one call of it. `special` are
    the tokens of the vocabulary that no text can spell, with their ids. Without `parallel` there is one call at most.
    """
    if not tools or tool_choice == "none":
        return None
    chosen = _chosen(tools, tool_choice)
    write = _Literals(special)
    calls = " | ".join(f"call_{number}" for number in range(len(chosen)))
    rules = [f"call: {calls}"]
    for number, tool in enumerate(chosen):
        function = tool["function"]
        rules.append(f"call_{number}: {write(function['name'] + syntax.middle)} arguments_{number}")
        parameters = function.get("parameters") or {"type": "object", "properties": {}}
        rules.append(f"arguments_{number}: {json_rule(parameters)}")
    if tool_choice in (None, "auto", False):
        more = f"({write(syntax.between)} call)*" if syntax.between and parallel else ""
        rules += _text_then(syntax, write, f"call {more} {write(syntax.closing)}")
    else:
        rules.append(f"start: {write(syntax.opening)} call {write(syntax.closing)}")
    return "\n".join(["%llguidance {}", *rules, ""])


def _text_then(syntax: CallSyntax, write: _Literals, calls: str) -> list[str]:
    """Rules for text that cannot open a call, alone or followed by `calls`."""
    trigger = syntax.trigger
    if not trigger:
        bare = re.escape(syntax.opening.strip()).replace("/", r"\/")
        return [f"start: TEXT | {write(syntax.opening)} {calls}", rf"TEXT: /(.|\n)*/ & ~/\s*{bare}(.|\n)*/"]
    after = syntax.opening.lstrip().removeprefix(trigger)
    opened = f"{write(after)} {calls}"
    if trigger in write.special:
        return [f"start: TEXT? | TEXT? {write(trigger)} {opened}", r"TEXT: /(.|\n)+/"]
    pattern = re.escape(trigger).replace("/", r"\/")
    return [
        f"start: text | opened {opened}",
        "text: TEXT",
        rf"TEXT: /(.|\n)*/ & ~/(.|\n)*{pattern}(.|\n)*/",
        rf"opened[lazy]: /(.|\n)*{pattern}/",
    ]


class _Literals:
    """Writes fixed text as grammar symbols: strings, special tokens by their ids, and a free id where one goes."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self.special = special
        names = sorted([*special, CALL_ID], key=len, reverse=True)
        self._pieces = re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def __call__(self, text: str) -> str:
        return " ".join(self._symbol(piece) for piece in self._pieces.split(text) if piece) or '""'

    def _symbol(self, piece: str) -> str:
        if piece == CALL_ID:
            return "/[a-zA-Z0-9]{9}/"
        return f"<[{self.special[piece]}]>" if piece in self.special else json.dumps(piece)


def _chosen(tools: Sequence[Tool], tool_choice: Any) -> Sequence[Tool]:
    if isinstance(tool_choice, Mapping):
        tool_choice = tool_choice.get("function", tool_choice).get("name")
    if tool_choice in (None, False, True, "auto", "any", "required"):
        return tools
    named = [tool for tool in tools if tool["function"]["name"] == tool_choice]
    if not named:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        raise ConfigurationError(f"expected tool_choice auto, any, none or one of {names}; saw {tool_choice!r}")
    return named


def json_rule(schema: Mapping[str, Any]) -> str:
    """A schema as the right side of a grammar rule: on one line as `json.dumps` writes it, no unknown properties."""
    return f"%json {json.dumps({'x-guidance': COMPACT, **_closed(schema)})}"


def _closed(schema: Any) -> Any:
    """The schema with every object that lists its properties having no others."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key not in ("enum", "const", "default")}
    kept = {key: value for key, value in schema.items() if key not in closed}
    if isinstance(schema.get("properties"), Mapping) and schema.get("type") == "object":
        return {"additionalProperties": False, **closed, **kept}
    return {**closed, **kept}
