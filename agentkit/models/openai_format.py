"""Reads replies in OpenAI's format, whole or event by event, whatever dialect of it a server speaks."""

from __future__ import annotations

import hashlib
import json
import math
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentkit.events import Usage
from agentkit.models.backend import Chunk, NativeCall, TokenLogprob, ToolCallPiece

_FINISH_REASON = {
    "eos_token": "stop",  # as TGI says it
    "stop_sequence": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "function_call": "tool_calls",
}
_BROKEN = ("error", "abort", "aborted", "cancelled")
_THINKING = ("reasoning_content", "reasoning", "thinking")
_COST = ("cost", "estimated_cost", "total_cost")  # OpenRouter, DeepInfra, Perplexity
_COST_HEADERS = ("x-litellm-response-cost",)
MOST_EVENT_BYTES = 8 * 2**20
MOST_TEXT = 4_000_000  # characters of text and thinking, a million tokens
MOST_CALLS = 128
MOST_VALUES = 1_000_000
_MOST_COUNT = 10**12
_SLICE = 65536


class NotACompletion(ValueError):
    """What was read is no part of a chat completion; the message says what it is."""


class BrokenReply(Exception):
    """The server broke its reply off; `status` is the HTTP status that it names for that."""

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class TooMuch(Exception):
    """There is more of a reply than is read: so many bytes, or what `what` names. No model says as much."""

    def __init__(self, most: int, what: str = "") -> None:
        super().__init__(f"more than {most} {what}" if what else f"more than {most / 2**20:.0f} MB")


class CompletionReader:
    """One reply on its way in. Calls are handed out with the end of the reply, whole.

    Whatever a server sends, `read` gives a chunk or raises `NotACompletion`, `BrokenReply` or `TooMuch`.

    `salt` goes into the ids of calls that come without one, which are the same when the same run is replayed; `headers`
    are the response's.
    """

    def __init__(self, *, salt: int = 0, headers: Mapping[str, str] | None = None) -> None:
        self._salt = salt
        self._headers = headers
        self._calls = ToolCallPieces()
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._model: str | None = None
        self._ended = False
        self._length = 0

    @property
    def finished(self) -> bool:
        """Whether the server said that the reply is complete."""
        return self._ended or self._finish_reason is not None

    def read(self, data: str | bytes | Mapping[str, Any]) -> Chunk | None:
        """What an event, or a whole body, adds."""
        if isinstance(data, str) and data.strip() == "[DONE]":
            self._ended = True
            return None
        try:
            return self._read(data if isinstance(data, Mapping) else _object(data))
        except NotACompletion:
            raise
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            raise NotACompletion(f"one with a field of the wrong type ({type(error).__name__})") from error

    def end(self) -> Chunk:
        """The last chunk: calls, usage, and how the reply ended. A call that was cut off is none."""
        calls = self._calls.calls()
        reason = self._finish_reason or ("tool_calls" if calls else "stop")
        whole = [call for call in calls if reason != "length" or is_json_object(call.arguments)]
        return Chunk(
            tool_calls=tuple(self._piece(number, call) for number, call in enumerate(whole)),
            usage=self._usage,
            finish_reason=reason,
            metadata={"model_name": self._model} if self._model else None,
        )

    def _read(self, value: Mapping[str, Any]) -> Chunk | None:
        if value.get("error"):
            raise _broken(value["error"])
        choices = value.get("choices")
        if not isinstance(choices, list):
            raise NotACompletion(f"JSON without choices ({', '.join(map(str, value))[:80] or 'empty'})")
        self._model = _optional(value.get("model")) or self._model
        if isinstance(usage := value.get("usage"), Mapping):
            self._usage = (self._usage or Usage()).updated(usage_of(usage, self._headers))
        return self._read_choice(choices[0]) if choices else None

    def _read_choice(self, choice: Any) -> Chunk | None:
        self._finish(choice.get("finish_reason"))
        for delta in tool_call_deltas(choice):
            self._length += self._calls.add_delta(delta)
        if len(self._calls) > MOST_CALLS:
            raise TooMuch(MOST_CALLS, "tool calls")
        message = choice.get("delta") or choice.get("message") or {}
        thinking = next((message[name] for name in _THINKING if isinstance(message.get(name), str)), "")
        nested, text = _texts(message.get("content"))
        logprobs = _logprobs(choice.get("logprobs"))
        text = text or _optional(message.get("refusal")) or ""
        self._length += len(text) + len(thinking) + len(nested)
        if self._length > MOST_TEXT:
            raise TooMuch(MOST_TEXT, "characters")
        if not (text or thinking or nested or logprobs):
            return None
        return Chunk(text=text, thinking=thinking + nested, logprobs=logprobs)

    def _finish(self, reason: Any) -> None:
        if reason is None or reason == "":
            return
        if reason in _BROKEN:
            raise BrokenReply(f"broke the reply off (finish_reason {reason!r})")
        self._finish_reason = _FINISH_REASON.get(str(reason), str(reason))

    def _piece(self, number: int, call: NativeCall) -> ToolCallPiece:
        content = f"{self._salt} {number} {call.name or None} {call.arguments}"
        made = f"call_{hashlib.sha256(content.encode('utf-8', 'replace')).hexdigest()[:9]}"
        return ToolCallPiece(index=number, id=call.id or made, name=call.name or None, arguments=call.arguments or "{}")


def chunks_of(body: str | bytes | Mapping[str, Any]) -> Iterator[Chunk]:
    """A recorded reply: one JSON object, or a stream of events. Raises as `CompletionReader.read`."""
    reader = CompletionReader()
    events: Sequence[str | bytes | Mapping[str, Any]] = [body]
    if not isinstance(body, Mapping):
        content = body.encode() if isinstance(body, str) else body
        if not content.lstrip().startswith(b"{"):
            stream = ServerSentEvents()
            events = [*stream.feed(content), *stream.rest()] or [body]
    yield from filter(None, map(reader.read, events))
    yield reader.end()


class ServerSentEvents:
    """The data of each event, however the bytes are cut.

    As far as chat servers use them: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(self) -> None:
        self._held = bytearray()  # a line that has not ended
        self._data: list[str] = []
        self._size = 0  # of the event so far

    def feed(self, piece: bytes) -> Iterator[str]:
        """The events that `piece` completes; raises `TooMuch`."""
        for start in range(0, len(piece), _SLICE):
            first, *others = piece[start : start + _SLICE].split(b"\n")
            self._held += first
            for line in others:
                if (event := self._line(bytes(self._held))) is not None:
                    yield event
                self._held = bytearray(line)
            if len(self._held) > MOST_EVENT_BYTES:
                raise TooMuch(MOST_EVENT_BYTES)

    def rest(self) -> list[str]:
        """The last event, of a server that does not end it."""
        held, self._held = bytes(self._held), bytearray()
        return [event for event in (self._line(held), self._line(b"")) if event is not None]

    def _line(self, line: bytes) -> str | None:
        line = line.rstrip(b"\r")
        self._size += len(line) + 1
        if self._size > MOST_EVENT_BYTES:
            raise TooMuch(MOST_EVENT_BYTES)
        if not line:
            data, self._data, self._size = self._data, [], 0
            return "\n".join(data) if data else None
        name, _, value = line.removeprefix(BOM_UTF8).partition(b":")  # a stream may begin with one
        if name == b"data":
            self._data.append(value.removeprefix(b" ").decode("utf-8", "replace"))
        return None


class ToolCallPieces:
    """Tool calls put together from the pieces they come in, with their arguments as they were written."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._last: dict[Any, _Call] = {}  # of each index

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, piece: ToolCallPiece) -> None:
        """A piece of a backend's."""
        self._add(piece.index, piece.id, piece.name, piece.arguments)

    def add_delta(self, delta: Mapping[str, Any]) -> int:
        """One of `tool_call_deltas`; how many characters of arguments it had."""
        function = delta.get("function") or {}
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):  # Ollama's own way
            arguments = json.dumps(arguments, ensure_ascii=False)
        its_id = delta.get("id")
        its_id = str(its_id) if isinstance(its_id, int) else _optional(its_id)
        self._add(delta.get("index"), its_id, _optional(function.get("name")), arguments)
        return len(arguments)

    def calls(self) -> tuple[NativeCall, ...]:
        """The calls so far; an id that none came with is ""."""
        return tuple(NativeCall(call.id, call.name, call.arguments) for call in self._calls)

    def _add(self, index: Any, id: str | None, name: str | None, arguments: str) -> None:
        call = self._call_of(index, id, name)
        call.id, call.name = call.id or id or "", call.name or name or ""
        call.pieces.append(arguments)

    def _call_of(self, index: Any, id: str | None, name: str | None) -> _Call:
        """The call of a piece: by its index, unless its id contradicts; else the last."""
        last = self._last.get(index) if index is not None else next(reversed(self._calls), None)
        if last is not None:
            has_another_id = id and last.id and id != last.id
            begins_anew = index is None and name and last.is_whole
            if not has_another_id and not begins_anew:
                return last
        self._calls.append(call := _Call())
        self._last[index] = call
        return call


@dataclass(slots=True)
class _Call:
    """A call on its way in."""

    id: str = ""
    name: str = ""
    pieces: list[str] = field(default_factory=list)

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    @property
    def is_whole(self) -> bool:
        return bool(self.pieces) and self.pieces[-1].rstrip()[-1:] in ("}", "") and is_json_object(self.arguments)


def is_json_object(text: str) -> bool:
    """Whether a call's arguments are whole."""
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def tool_call_deltas(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tool calls of a whole message, each with its place, or pieces of them, of a stream's delta."""
    if delta := choice.get("delta"):
        return list(delta.get("tool_calls") or ())
    whole = (choice.get("message") or {}).get("tool_calls") or ()
    return [{**call, "index": place} for place, call in enumerate(whole)]


def usage_of(counts: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Usage:
    """The tokens in a reply's `usage`, with what they cost where the server says that, there or in a header."""
    details = counts.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
    usage = Usage(_count(counts.get("prompt_tokens")), _count(counts.get("completion_tokens")), _count(cached))
    return replace(usage, cost_usd=_stated_usd(counts, headers or {}))


def _optional(text: Any) -> str | None:
    if text is not None and not isinstance(text, str):
        raise TypeError(f"expected text, saw {type(text).__name__}")
    return text


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) and 0 <= value <= _MOST_COUNT else 0


def _stated_usd(counts: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    for stated in (*(counts.get(name) for name in _COST), *(headers.get(name) for name in _COST_HEADERS)):
        if isinstance(stated, Mapping):
            stated = stated.get("total_cost")
        try:
            if stated is not None and 0 <= (cost_usd := float(stated)) < math.inf:
                return cost_usd
        except (OverflowError, TypeError, ValueError):
            continue
    return None


def _object(data: str | bytes) -> Mapping[str, Any]:
    if not data.strip():
        raise NotACompletion("an empty reply")
    content = data.encode("utf-8", "replace") if isinstance(data, str) else data
    if sum(map(content.count, (b"[", b"{", b","))) > MOST_VALUES:
        raise TooMuch(MOST_VALUES, "values")  # each of which takes fifty times its bytes
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        start = data[:60].decode("utf-8", "replace") if isinstance(data, bytes) else data[:60]
        start = " ".join(start.split())
        raise NotACompletion("an HTML page" if start[:1] == "<" else f"no JSON ({start!r})") from None
    if not isinstance(value, dict):
        raise NotACompletion(f"a JSON {type(value).__name__}")
    return value


def _broken(error: Any) -> BrokenReply:
    """An error that comes with status 200, in a stream above all."""
    code = error.get("code") if isinstance(error, Mapping) else None
    message = error.get("message") if isinstance(error, Mapping) else error
    return BrokenReply(f"broke off: {message}", status=code if isinstance(code, int) and 400 <= code < 600 else None)


def _texts(content: Any) -> tuple[str, str]:
    """The (thinking, text) of a message's content, which may be a list of parts (Mistral's)."""
    if isinstance(content, str) or content is None:
        return "", content or ""
    thinking, text = "", ""
    for part in content if isinstance(content, Sequence) else ():
        if isinstance(part, Mapping) and part.get("type") == "thinking":
            thinking += "".join(_texts(part.get("thinking")))
        elif isinstance(part, Mapping):
            text += str(part.get("text") or "")
    return thinking, text


def _logprobs(given: Any) -> tuple[TokenLogprob, ...]:
    content = given.get("content") if isinstance(given, Mapping) else None
    return tuple(
        TokenLogprob(
            str(each["token"]),
            float(each["logprob"]),
            tuple((str(one["token"]), float(one["logprob"])) for one in each.get("top_logprobs") or ()),
        )
        for each in content or ()
    )
