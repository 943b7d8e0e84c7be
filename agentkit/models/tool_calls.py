"""Tool calls in a model's own text, read as they are written; and the words for models that were told of no tools."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from agentkit.models.backend import ToolCallPiece
from agentkit.models.call_syntax import CALL_ID, HERMES, CallSyntax
from agentkit.models.stopping import unfinished_match

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MARKERS = (OPEN, "[TOOL_CALLS]", "<|python_tag|>")  # Hermes and Qwen; Mistral; Llama 3
INSTRUCTIONS = (
    "You may call these tools, given as JSON schemas:\n{tools}\nTo call one, write\n"
    '<tool_call>\n{{"name": "TOOL", "arguments": {{...}}}}\n</tool_call>'
)
_MISTRAL = re.compile(r"\[TOOL_CALLS\]\s*([\w.-]+)?(?:\[(?:CALL_ID|ARGS)\][^{\[]*)*")
_END_TOKEN = re.compile(r"<\|[a-z_]+\|>\s*$")
_NAME = r"(?P<name>[\w.:/-]+)"


def instructions(tools: Sequence[Mapping[str, Any]]) -> str:
    """What a model whose template knows no tools is told."""
    return INSTRUCTIONS.format(tools="\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools))


class ToolCallText:
    """Keeps the text of a reply apart from the calls at its end, however the pieces are cut.

    A call in the model's own syntax is passed on as it comes: its name first, then its arguments. What only looks like
    one is held until the end, and read in any of the syntaxes that models are trained on, or given back as text.
    """

    def __init__(self, syntax: CallSyntax = HERMES) -> None:
        trigger = syntax.trigger
        self._markers = MARKERS if trigger in ("", *MARKERS) else (trigger, *MARKERS)
        self._first = re.compile(rf"\s*{_loosely(syntax.opening)}{_NAME}{_loosely(syntax.middle)}(?=\{{)")
        between = rf"\s*{_loosely(syntax.between)}{_NAME}{_loosely(syntax.middle)}(?=\{{)" if syntax.between else "(?!)"
        self._next = re.compile(between)
        self._closing = re.compile(rf"\s*{_loosely(syntax.closing)}")
        self._unspaced_closing = "".join(syntax.closing.split())
        self._state: Literal["text", "opening", "arguments", "after"] = "text"
        self._said_nothing = True
        self._held = ""
        self._arguments = _JsonObject()
        self._count = 0

    def feed(self, text: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """The text that certainly belongs to no call, and the pieces of calls that are complete."""
        self._held += text
        said = self._text() if self._state == "text" else ""
        pieces: list[ToolCallPiece] = []
        while piece := self._piece():
            if pieces and pieces[-1].index == piece.index:
                pieces[-1] = replace(pieces[-1], arguments=pieces[-1].arguments + piece.arguments)
            else:
                pieces.append(piece)
        return said, tuple(pieces)

    def flush(self) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """The text that was no call after all, and the calls that were not passed on yet."""
        held, self._held = self._held, ""
        if self._state == "opening":
            calls = read_calls(held)
            return ("", calls) if calls else (held, ())
        if self._state == "after":
            return self._after(held)
        return held, ()

    def _text(self) -> str:
        """Release what cannot be part of a call."""
        held = self._held
        starts = [held.find(marker) for marker in self._markers if marker in held]
        bare = held.lstrip()[:1] in ("{", "[") and self._said_nothing  # Llama 3 writes nothing but the JSON
        cut = 0 if bare else min(starts, default=len(held) - max(unfinished_match(held, m) for m in self._markers))
        if bare or starts:
            self._state = "opening"
        said, self._held = held[:cut], held[cut:]
        self._said_nothing = self._said_nothing and not said.strip()
        return said

    def _piece(self) -> ToolCallPiece | None:
        """The next piece of a call in what is held, if it is complete."""
        if self._state in ("opening", "after"):
            begun = (self._first if self._state == "opening" else self._next).match(self._held)
            if begun is None:
                return None
            self._held, self._state, self._arguments = self._held[begun.end() :], "arguments", _JsonObject()
            self._count += 1
            return ToolCallPiece(index=self._count - 1, id=_new_id(), name=begun["name"])
        if self._state == "arguments" and self._held:
            length = self._arguments.read(self._held)
            arguments, self._held = self._held[:length], self._held[length:]
            if self._arguments.complete:
                self._state = "after"
            return ToolCallPiece(index=self._count - 1, arguments=arguments)
        return None

    def _after(self, held: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """What follows the last call in the model's own syntax: its end, and perhaps calls written otherwise."""
        if self._unspaced_closing.startswith("".join(held.split())):
            return "", ()
        closed = self._closing.match(held)
        rest = _END_TOKEN.sub("", held[closed.end() if closed else 0 :])
        start = min((rest.find(marker) for marker in self._markers if marker in rest), default=0)
        calls = read_calls(rest[start:].lstrip("; \n"))
        if not calls:
            return rest.strip(), ()
        return rest[:start].strip(), tuple(replace(call, index=call.index + self._count) for call in calls)


class _JsonObject:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self.complete = False

    def read(self, text: str) -> int:
        """How much of `text` belongs to the object."""
        for position, letter in enumerate(text, 1):
            if self._in_string:
                self._in_string = self._escaped or letter != '"'
                self._escaped = letter == "\\" and not self._escaped
            elif letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.complete = True
                    return position
        return len(text)


def _loosely(text: str) -> str:
    """A pattern for `text` in which any white space may stand where it has some, and any id where one goes."""
    words = (re.escape(word).replace(CALL_ID, r"[\w-]+") for word in re.split(r"\s+", text))
    return r"\s*".join(words)


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
            value = json.loads(_END_TOKEN.sub("", body.strip()))
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
    return uuid.uuid4().hex[:9]  # the form Mistral's template insists on
