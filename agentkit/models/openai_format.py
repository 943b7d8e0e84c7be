"""What several readers of OpenAI's format need: server-sent events, tool calls in pieces, and usage."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from agentkit.events import Usage
from agentkit.models.backend import NativeCall, ToolCallPiece

_COST = ("cost", "estimated_cost", "total_cost")  # OpenRouter, DeepInfra, Perplexity
_COST_HEADERS = ("x-litellm-response-cost",)


class ServerSentEvents:
    """The data of each event, however the bytes are cut.

    As far as chat servers use them: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(self) -> None:
        self._held = b""
        self._data: list[str] = []

    def feed(self, piece: bytes) -> list[str]:
        """The events that `piece` completes."""
        *lines, self._held = (self._held + piece).split(b"\n")
        return [event for line in lines if (event := self._line(line)) is not None]

    def rest(self) -> list[str]:
        """The last event, of a server that does not end it."""
        held, self._held = self._held, b""
        return [event for event in (self._line(held), self._line(b"")) if event is not None]

    def _line(self, line: bytes) -> str | None:
        line = line.rstrip(b"\r")
        if not line:
            data, self._data = self._data, []
            return "\n".join(data) if data else None
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return None


class ToolCallPieces:
    """Tool calls put together from the pieces they come in, with their arguments as they were written."""

    def __init__(self) -> None:
        self._calls: list[tuple[Any, NativeCall]] = []  # each with its index

    def add(self, piece: ToolCallPiece) -> None:
        """A piece of a backend's."""
        self._add(piece.index, piece.id, piece.name, piece.arguments)

    def add_delta(self, delta: Mapping[str, Any], *, index: Any = None) -> None:
        """An item of a message's or a delta's `tool_calls`; `index` is its place, where it does not say one."""
        function = delta.get("function") or {}
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):  # Ollama's own way
            arguments = json.dumps(arguments, ensure_ascii=False)
        self._add(delta.get("index", index), delta.get("id"), function.get("name"), arguments)

    def calls(self) -> tuple[NativeCall, ...]:
        """The calls so far; an id that none came with is ""."""
        return tuple(call for _, call in self._calls)

    def _add(self, index: Any, id: str | None, name: str | None, arguments: str) -> None:
        place = self._place_of(index, id, name)
        index, call = self._calls[place]
        self._calls[place] = index, NativeCall(call.id or id or "", call.name or name or "", call.arguments + arguments)

    def _place_of(self, index: Any, id: str | None, name: str | None) -> int:
        """Where the call of a piece stands: by its index, unless its id contradicts; else last."""
        same = [place for place, (its, _) in enumerate(self._calls) if index is None or its == index]
        if same:
            last = self._calls[same[-1]][1]
            has_another_id = id and last.id and id != last.id
            begins_anew = index is None and name and is_json_object(last.arguments)
            if not has_another_id and not begins_anew:
                return same[-1]
        self._calls.append((index, NativeCall("", "", "")))
        return len(self._calls) - 1


def is_json_object(text: str) -> bool:
    """Whether a call's arguments are whole."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def usage_of(counts: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Usage:
    """The tokens in a reply's `usage`, with what they cost where the server says that, there or in a header."""
    details = counts.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    usage = Usage(_count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")), _count(cached))
    return replace(usage, cost_usd=_stated_usd(counts, headers or {}))


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0


def _stated_usd(counts: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    for stated in (*(counts.get(name) for name in _COST), *(headers.get(name) for name in _COST_HEADERS)):
        if isinstance(stated, Mapping):
            stated = stated.get("total_cost")
        try:
            if stated is not None:
                return float(stated)
        except (TypeError, ValueError):
            continue
    return None
