"""Grammars (llguidance Lark) that hold a reply to a JSON schema, or its tool calls to their tools'."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.react_json.grammar import json_rule
from agentkit.react_json.marks import CALL_ID, CallSyntax, Pairs, Tags

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
        rules += _arguments(f"arguments_{number}", parameters, syntax.arguments, write)
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
        bare = _regex(syntax.opening.strip())
        return [f"start: TEXT | {write(syntax.opening)} {calls}", rf"TEXT: /(.|\n)*/ & ~/\s*{bare}(.|\n)*/"]
    after = syntax.opening.lstrip().removeprefix(trigger)
    opened = f"{write(after)} {calls}"
    if trigger in write.special:
        return [f"start: TEXT? | TEXT? {write(trigger)} {opened}", r"TEXT: /(.|\n)+/"]
    pattern = _regex(trigger)
    return [
        f"start: text | opened {opened}",
        "text: TEXT",
        rf"TEXT: /(.|\n)*/ & ~/(.|\n)*{pattern}(.|\n)*/",
        rf"opened[lazy]: /(.|\n)*{pattern}/",
    ]


def _arguments(name: str, schema: Mapping[str, Any], style: Tags | Pairs | None, write: _Literals) -> list[str]:
    """Rules for a call's arguments: a JSON object, or each by itself, in the schema's order, optional ones left out."""
    if style is None:
        return [f"{name}: {json_rule(schema)}"]
    required = schema.get("required", ())
    rules, items = [], []
    for number, (key, each) in enumerate((schema.get("properties") or {}).items()):
        value = f"{name}_{number}"
        each = {} if isinstance(each, bool) else each  # JSON Schema's word for anything
        each = {**each, "$defs": schema["$defs"]} if "$defs" in schema else each
        if isinstance(style, Tags):
            begin, end = style.opening + key + style.middle, style.closing
        else:
            quote = style.quote if style.quote != '"' and _is_text(each) else ""
            begin, end = key + style.equals + quote, quote
        if isinstance(style, Pairs) and style.quote == '"' and each.get("type") == "boolean":
            rules.append(f'{value}: "True" | "False"')  # as Python has them
            items.append((f"{write(begin)} {value}", key in required))
            continue
        bare = _is_text(each) and end != ""  # a string without quotes of its own, up to what ends it
        rules.append(_bare_text(value, each, end, write) if bare else f"{value}: {json_rule(each)}{_then(end, write)}")
        items.append((f"{write(begin)} {value}", key in required))
    return [*rules, *_sequence(name, items, write(style.separator) if isinstance(style, Pairs) else "")]


def _is_text(schema: Mapping[str, Any]) -> bool:
    return schema.get("type") == "string"


def _then(text: str, write: _Literals) -> str:
    return f" {write(text)}" if text else ""


def _bare_text(rule: str, schema: Mapping[str, Any], end: str, write: _Literals) -> str:
    """A rule for a string as it is, and what ends it: one of an enumeration, or the text up to the end."""
    if "enum" in schema:
        return f"{rule}: ({' | '.join(write(text) for text in schema['enum'])}) {write(end)}"
    mark = end.strip()
    if mark in write.special:
        return rf"{rule}: (/(.|\n)+/)?{_then(end, write)}"
    return rf"{rule}[lazy]: /(.|\n)*{_regex(end)}/"


def _sequence(name: str, items: Sequence[tuple[str, bool]], separator: str) -> list[str]:
    """Rules for `items` in order, of which those that are required must stand, with `separator` between them.

    `NAME` begins the sequence; `NAME_rest_N` is what may follow once something stands, from item N on.
    """
    rules = []
    for place in range(len(items) + 1):
        for rule, before in ((f"{name}_rest_{place}", f"{separator} "), (f"{name}_all_{place}", "")):
            if place == len(items):
                rules.append(f'{rule}: ""')
                continue
            item, required = items[place]
            following = f"{before}{item} {name}_rest_{place + 1}"
            skipped = f" | {rule.rsplit('_', 1)[0]}_{place + 1}"
            rules.append(f"{rule}: {following}{'' if required else skipped}")
    return [f"{name}: {name}_all_0", *rules]


def _regex(text: str) -> str:
    return re.escape(text).replace("/", r"\/").replace("\\\n", r"\n")


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
