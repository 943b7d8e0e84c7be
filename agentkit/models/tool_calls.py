"""Tool calls in a model's own text: the syntaxes models are trained on, read back; and a grammar that enforces one."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import ToolCallPiece
from agentkit.models.stopping import unfinished_match

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MARKERS = (OPEN, "[TOOL_CALLS]", "<|python_tag|>")  # Hermes and Qwen; Mistral; Llama 3
COMPACT = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
INSTRUCTIONS = (
    "You may call these tools, given as JSON schemas:\n{tools}\nTo call one, write\n"
    '<tool_call>\n{{"name": "TOOL", "arguments": {{...}}}}\n</tool_call>'
)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]+)?(?:\[(?:CALL_ID|ARGS)\][^{\[]*)*")


class ToolCallText:
    """Keeps the text of a reply apart from the calls at its end, however the pieces are cut."""

    def __init__(self) -> None:
        self._text = ""
        self._held = ""
        self._calling = False

    def feed(self, text: str) -> str:
        """The text that certainly belongs to no call."""
        held = self._held + text
        if not self._calling:
            starts = [held.find(marker) for marker in MARKERS if marker in held]
            bare = held.lstrip()[:1] in ("{", "[") and not self._text.strip()  # Llama 3 writes nothing but the JSON
            cut = 0 if bare else min(starts, default=len(held) - max(unfinished_match(held, m) for m in MARKERS))
            self._calling = bare or bool(starts)
            released, held = held[:cut], held[cut:]
            self._text += released
            self._held = held
            return released
        self._held = held
        return ""

    def flush(self) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """The text that was no call after all, and the calls."""
        held, self._held = self._held, ""
        calls = read_calls(held) if self._calling else ()
        return ("", calls) if calls else (held, ())


def read_calls(text: str) -> tuple[ToolCallPiece, ...]:
    """Every call in `text`, which begins where the first one does; () where any part of it is not one."""
    if text.startswith(OPEN):
        bodies = [part.partition(CLOSE)[0] for part in text.split(OPEN)[1:]]
    elif text.startswith("[TOOL_CALLS]"):
        bodies = []
        for match in _MISTRAL.finditer(text):
            body = text[match.end() :].partition("[TOOL_CALLS]")[0]
            bodies.append(f'{{"name": "{match[1]}", "arguments": {body}}}' if match[1] else body)
    else:
        bodies = text.removeprefix("<|python_tag|>").split(";")
    calls: list[ToolCallPiece] = []
    for body in bodies:
        try:
            value = json.loads(re.sub(r"<\|[a-z_]+\|>\s*$", "", body.strip()))
        except (ValueError, RecursionError):
            return ()
        for call in value if isinstance(value, list) else [value]:
            name, arguments = _name_and_arguments(call)
            if name is None:
                return ()
            text_arguments = json.dumps(arguments, ensure_ascii=False)
            calls.append(ToolCallPiece(index=len(calls), id=_new_id(), name=name, arguments=text_arguments))
    return tuple(calls)


def _name_and_arguments(call: Any) -> tuple[str | None, Any]:
    if not isinstance(call, dict) or not isinstance(call.get("name"), str):
        return None, None
    arguments = call.get("arguments", call.get("parameters", {}))
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments)
        except ValueError:
            return None, None
    return (call["name"], arguments) if isinstance(arguments, dict) else (None, None)


def _new_id() -> str:
    return f"call_{uuid.uuid4().hex[:9]}"  # nine letters and digits: what Mistral's template insists on


def instructions(tools: Sequence[Mapping[str, Any]]) -> str:
    """What a model whose template knows no tools is told."""
    return INSTRUCTIONS.format(tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools))


def tool_grammar(tools: Sequence[Mapping[str, Any]], tool_choice: str | Mapping[str, Any] | None) -> str | None:
    """A grammar for replies with calls: free text, calls that fit their tool's schema, or both; as `tool_choice` says.

    "auto" or None: text, then calls if any; "any" or "required": one call; a tool's name: one call of it.
    """
    if not tools or tool_choice == "none":
        return None
    chosen = _chosen(tools, tool_choice)
    calls = " | ".join(f"call_{number}" for number in range(len(chosen)))
    body = "\n".join(_call_rule(number, tool) for number, tool in enumerate(chosen))
    if tool_choice in (None, "auto", False):
        start = f'start: text | opened call ("\\n" "{OPEN}" call)*'
        text = f"text: TEXT\nTEXT: /(.|\\n)*/ & ~/(.|\\n)*{OPEN}(.|\\n)*/\nopened[lazy]: /(.|\\n)*{OPEN}/"
    else:
        start, text = f'start: "{OPEN}" call', ""
    return f'%llguidance {{}}\n{start}\n{text}\ncall: "\\n" ({calls}) "\\n{CLOSE}"\n{body}\n'


def _chosen(tools: Sequence[Mapping[str, Any]], tool_choice: Any) -> Sequence[Mapping[str, Any]]:
    if isinstance(tool_choice, Mapping):
        tool_choice = tool_choice.get("function", tool_choice).get("name")
    if tool_choice in (None, False, True, "auto", "any", "required"):
        return tools
    named = [tool for tool in tools if tool["function"]["name"] == tool_choice]
    if not named:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        raise ConfigurationError(f"expected tool_choice auto, any, none or one of {names}; saw {tool_choice!r}")
    return named


def _call_rule(number: int, tool: Mapping[str, Any]) -> str:
    function = tool["function"]
    schema = {
        "type": "object",
        "properties": {
            "name": {"const": function["name"]},
            "arguments": function.get("parameters") or {"type": "object", "properties": {}},
        },
        "required": ["name", "arguments"],
        "additionalProperties": False,
    }
    return f"call_{number}: {json_rule(schema)}"


def json_rule(schema: Mapping[str, Any]) -> str:
    """A schema as the right side of a grammar rule: on one line as `json.dumps` writes it, no unknown properties."""
    return f"%json {json.dumps({'x-guidance': COMPACT, **_closed(_hoisted(schema))})}"


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


def _hoisted(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Definitions inside `arguments` moved to the top, where their references point."""
    arguments = schema.get("properties", {}).get("arguments", {})
    if "$defs" not in arguments:
        return dict(schema)
    inner = {key: value for key, value in arguments.items() if key != "$defs"}
    return {**schema, "$defs": arguments["$defs"], "properties": {**schema["properties"], "arguments": inner}}
