"""Reads replies in OpenAI's format, whole or event by event, whatever dialect of it a server speaks."""

from __future__ import annotations

import hashlib
import json
import math
import re
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentkit.events import Usage
from agentkit.http_body import MOST_BYTES
from agentkit.models import call_pieces
from agentkit.models.backend import Chunk, NativeCall, TokenLogprob, ToolCallPiece
from agentkit.models.call_pieces import ToolCallPieces, merged, unmended
from agentkit.models.finish_reasons import INCOMPLETE, finish_reason_of, is_cut_off

_GOES_ON = ("", "null", "none", "finish_reason_unspecified")
_BROKEN = ("error", "abort", "aborted", "cancelled", "network_error", "insufficient_system_resource")
THINKING = ("reasoning_content", "reasoning", "reasoning_text", "thinking")
RETURNED = ("reasoning_details", "thinking_blocks", *call_pieces.RETURNED)
"""Fields of a message that its server wants back with the calls in it, besides that of its thinking."""
_SAYS = frozenset((*THINKING, *RETURNED))
_IN_PIECES = ("text", "summary", "data")  # of an entry of `reasoning_details`, which share its `index`
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

    Whatever a server sends, `read` gives a chunk or raises `NotACompletion`, `BrokenReply` or `TooMuch`; not behind the
    end of a reply, where nothing that fails matters.

    `salt` goes into the ids of calls that come without one, which are the same when the same run is replayed; `headers`
    are the response's. `tools` are those that may be called. `origin` names the server that gets back what it sent with
    its calls.
    """

    def __init__(
        self,
        *,
        salt: int = 0,
        headers: Mapping[str, str] | None = None,
        tools: Sequence[Mapping[str, Any]] = (),
        origin: str = "",
    ) -> None:
        self._salt = salt
        self._headers = headers
        self._origin = origin
        self._calls = ToolCallPieces(tools)
        self._returned = _Returned()
        self._choice: Any = None  # the index of the one that is read
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._model: str | None = None
        self._begun = self._comes_in_deltas = self._ended = self._is_done = self._has_calls = False
        self._length = 0
        self._words = ""  # which may be why nothing more comes

    @property
    def begun(self) -> bool:
        """Whether a piece of a chat completion has come."""
        return self._begun

    @property
    def finished(self) -> bool:
        """Whether the server said that the reply is complete."""
        return self._ended or self._finish_reason is not None

    def read(self, data: str | bytes | Mapping[str, Any]) -> Chunk | None:
        """What an event, or a whole body, adds."""
        if isinstance(data, str) and _is_mark(data):
            self._ended = self._is_done = True
        if self._is_done:
            return None
        is_behind_end = self.finished
        try:
            return self._read(data if isinstance(data, Mapping) else _object(data))
        except (NotACompletion, BrokenReply, TooMuch):
            if is_behind_end:
                return None
            raise
        except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
            if is_behind_end:
                return None
            raise NotACompletion(f"one with a field of the wrong type ({type(error).__name__})") from error

    def check(self) -> None:
        """Raises `BrokenReply` where the server did not say that the reply is complete."""
        if not self.finished:
            raise BrokenReply("ended the reply before it was complete" + (self._words and f": {self._words}"))

    def end(self) -> Chunk:
        """The last chunk: calls, usage, and how the reply ended. Of a reply that was cut off no call is one."""
        calls = self._calls.calls()
        reason = self._finish_reason
        if reason is None:
            reason = INCOMPLETE if self._calls.may_go_on else "tool_calls" if calls else "stop"
        return Chunk(
            tool_calls=() if is_cut_off(reason) else tuple(self._pieces(calls)),
            usage=self._usage,
            finish_reason=reason,
            metadata={"model_name": self._model} if self._model else None,
        )

    def _read(self, value: Mapping[str, Any]) -> Chunk | None:
        choices = value.get("choices")
        if not choices or "error" in value:
            self._raise_error(value)
        if not isinstance(choices, list):
            is_piece = value.get("object") == "chat.completion.chunk"
            if not self._begun and not isinstance(value.get("usage"), Mapping) and not is_piece:
                raise NotACompletion(f"JSON without choices ({', '.join(map(str, value))[:80] or 'empty'})")
            choices, self._words = [], error_words(value) or self._words  # an event of the server's own
        choices = [one for one in choices if one is not None]
        self._begun = True
        self._model = _optional(value.get("model")) or self._model
        if isinstance(usage := value.get("usage"), Mapping):
            self._usage = (self._usage or Usage()).updated(usage_of(usage, self._headers))
        choice = self._own(choices)
        if choice is None:
            return None
        return self._read_choice(choice, is_piece=value.get("object") == "chat.completion.chunk")

    def _raise_error(self, value: Mapping[str, Any]) -> None:
        """Raises `BrokenReply` for an event that is an error; among pieces there are others without choices."""
        if _is_error(value) or not (self._begun or isinstance(value.get("choices"), list)):
            raise_error(value)

    def _own(self, choices: Sequence[Any]) -> Any:
        """Of several choices the one that came first."""
        if not choices:
            return None
        if self._choice is None:
            self._choice = min((_index_of(choice) for choice in choices), default=0)
        return next((choice for choice in choices if _index_of(choice) == self._choice), None)

    def _read_choice(self, choice: Any, *, is_piece: bool) -> Chunk | None:
        if choice.get("error"):
            raise_error(choice)
        self._finish(choice.get("finish_reason"))
        message = choice.get("delta")
        self._comes_in_deltas |= bool(message)
        if not message and not self._comes_in_deltas:  # in a stream a whole message says all of it once more
            message = choice.get("message")
            self._ended |= bool(message) and not is_piece
        message = message or {}
        self._has_calls |= bool(message.get("tool_calls"))
        if calls := _calls_of(message, whole=not self._comes_in_deltas, alone=not self._has_calls):
            self._length += self._calls.add_deltas(calls)
            if len(self._calls) > MOST_CALLS:
                raise TooMuch(MOST_CALLS, "tool calls")
        thinking = self._returned.read(message)
        nested, text = _texts(message.get("content"))
        if _is_thought(message.get("extra_content")):
            nested, text = nested + text, ""
        logprobs = _logprobs(choice.get("logprobs"))
        text = text or _optional(message.get("refusal")) or ""
        self._length += len(text) + len(thinking) + len(nested)
        if self._length > MOST_TEXT:
            raise TooMuch(MOST_TEXT, "characters")
        if not (text or thinking or nested or logprobs):
            return None
        return Chunk(text=text, thinking=thinking + nested, logprobs=logprobs)

    def _finish(self, reason: Any) -> None:
        name = "" if reason is None else str(reason).lower()
        if name in _BROKEN:
            raise BrokenReply(f"broke the reply off (finish_reason {reason!r})")
        if name not in _GOES_ON:
            self._finish_reason = finish_reason_of(name)

    def _pieces(self, calls: Sequence[NativeCall]) -> Iterator[ToolCallPiece]:
        ids: set[str] = set()
        for number, call in enumerate(calls):
            call_id = call.id if call.id and call.id not in ids else self._made_id(number, call)
            ids.add(call_id)
            fields = dict(call.provider_fields)
            if number == 0 and (of_message := self._returned.fields()):
                fields["message"] = of_message
            yield ToolCallPiece(
                index=number,
                id=call_id,
                name=call.name or None,
                arguments=unmended(call.arguments) or "{}",
                provider_fields={"origin": self._origin, **fields} if fields else {},
            )

    def _made_id(self, number: int, call: NativeCall) -> str:
        content = f"{self._salt} {number} {call.name or None} {call.arguments}"
        return f"call_{hashlib.sha256(content.encode('utf-8', 'replace')).hexdigest()[:9]}"


class _Returned:
    """What a message says of itself that its server wants back, by its names of the fields."""

    def __init__(self) -> None:
        self._field: str | None = None  # of the thinking: servers have several names for it, and take their own
        self._thinking: list[str] = []
        self._fields: dict[str, Any] = {}

    def read(self, message: Mapping[str, Any]) -> str:
        """A message, or a piece of one; its thinking."""
        if _SAYS.isdisjoint(message):
            return ""
        for name in RETURNED:
            if (value := message.get(name)) and not _is_thought(value):
                old = self._fields.get(name)
                joined = [*old, *value] if isinstance(old, list) and isinstance(value, list) else value
                self._fields[name] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else joined
        said = {name: message[name] for name in THINKING if isinstance(message.get(name), str) and message[name]}
        if not said:
            return ""
        if self._field is None:
            self._field = next(iter(said))
        thinking: str = said.get(self._field) or next(iter(said.values()))
        self._thinking.append(thinking)
        return thinking

    def fields(self) -> dict[str, Any]:
        """All of it."""
        thinking = {self._field: "".join(self._thinking)} if self._field else {}
        return {**thinking, **{name: _joined_entries(value) for name, value in self._fields.items()}}


def _is_thought(extra: Any) -> bool:
    """Whether the content beside it is marked as thinking, as Google does: `{"google": {"thought": true}}`."""
    return isinstance(extra, Mapping) and any(isinstance(own, Mapping) and own.get("thought") for own in extra.values())


def _joined_entries(value: Any) -> Any:
    """The entries of a list, those that came in pieces whole."""
    if not isinstance(value, list):
        return value
    entries: dict[Any, Any] = {}
    for place, piece in enumerate(value):
        index = piece.get("index") if isinstance(piece, Mapping) else None
        key = (index, str(piece.get("type"))) if index is not None else ("", place)
        begun = entries.get(key)
        if begun is None:
            entries[key] = piece
            continue
        longer = {
            name: begun[name] + piece[name]
            for name in _IN_PIECES
            if isinstance(begun.get(name), str) and isinstance(piece.get(name), str)
        }
        entries[key] = {**begun, **{name: part for name, part in piece.items() if part is not None}, **longer}
    return list(entries.values())


def chunks_of(body: str | bytes | Mapping[str, Any]) -> Iterator[Chunk]:
    """A recorded reply: one JSON object, or a stream of events. Raises as `CompletionReader.read`."""
    reader = CompletionReader()
    if isinstance(body, Mapping):
        events: list[str | bytes | Mapping[str, Any]] = [body]
    else:
        data = ReplyData()
        events = [*data.feed(body.encode("utf-8", "replace") if isinstance(body, str) else body), *data.rest()]
    yield from filter(None, map(reader.read, events or [""]))
    yield reader.end()


class ReplyData:
    """The data of a reply's events, in whichever form its body is: server-sent events, or JSON.

    Its first letters tell. Its Content-Type is not asked: servers and proxies send each form under the other's.
    """

    def __init__(self) -> None:
        self._head = bytearray()  # up to where the form shows
        self._events: ServerSentEvents | None = None
        self._json: bytearray | None = None

    @property
    def begins_completion(self) -> bool:
        """Whether JSON that may not have come to its end is a chat completion's."""
        return self._json is not None and b'"choices"' in self._json[:_LONGEST_BEGINNING]

    def feed(self, piece: bytes) -> Iterator[str | Mapping[str, Any]]:
        """What `piece` completes: of JSON nothing before the end. Raises `TooMuch`."""
        if self._events is None and self._json is None:
            self._head += piece
            piece = bytes(self._head)
            if (is_stream := _is_stream(piece)) is None:
                return
            self._head.clear()
            self._events, self._json = (ServerSentEvents(), None) if is_stream else (None, bytearray())
        if self._events is not None:
            yield from filter(str.strip, self._events.feed(piece))
        elif self._json is not None:
            self._json += piece
            if len(self._json) > MOST_BYTES:
                raise TooMuch(MOST_BYTES)

    def rest(self) -> Iterator[str | Mapping[str, Any]]:
        """What the end of the body completes: a JSON value, or several, and events behind it."""
        if self._events is not None:
            yield from filter(str.strip, self._events.rest())
            return
        content = bytes(self._head if self._json is None else self._json)
        text, at = content.decode("utf-8-sig", "replace").strip(), 0
        _check_values(content)
        while text.startswith("{", at):
            try:
                value, at = json.JSONDecoder().raw_decode(text, at)
            except (ValueError, RecursionError):
                break
            yield value
            while text[at : at + 1].isspace():
                at += 1
        if _is_stream(text[at:].encode("utf-8", "replace")):
            events = ServerSentEvents()
            yield from filter(str.strip, (*events.feed(text[at:].encode("utf-8", "replace")), *events.rest()))
        elif at < len(text) or not text:
            yield text[at:]


_FIELD = re.compile(rb"(?:data|event|id|retry)[ \t]*:|:", re.IGNORECASE)
_LONGEST_FIELD = len("retry:")
_LONGEST_BEGINNING = 4096


def _is_stream(beginning: bytes) -> bool | None:
    """Whether a body that begins so is a stream of events; `None` where that does not show yet."""
    line = beginning.removeprefix(BOM_UTF8).lstrip()
    if _FIELD.match(line):
        return True
    if not line or (len(line) < _LONGEST_FIELD and line[:1] != b"{"):
        return None
    return False


class ServerSentEvents:
    """The data of each event, however the bytes are cut; that of one named "error" as OpenAI sends its errors.

    As far as chat servers use them: https://html.spec.whatwg.org/multipage/server-sent-events.html
    """

    def __init__(self) -> None:
        self._held = bytearray()  # a line that has not ended
        self._is_behind_cr = False  # which a line feed would belong to
        self._data: list[str] = []
        self._name = ""
        self._size = 0  # of the event so far

    def feed(self, piece: bytes) -> Iterator[str]:
        """The events that `piece` completes; raises `TooMuch`."""
        if self._is_behind_cr:
            piece = piece.removeprefix(b"\n")
        self._is_behind_cr = piece.endswith(b"\r")
        piece = piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        for start in range(0, len(piece), _SLICE):
            first, *others = piece[start : start + _SLICE].split(b"\n")
            self._held += first
            for line in others:
                yield from self._line(bytes(self._held))
                self._held = bytearray(line)
            if len(self._held) > MOST_EVENT_BYTES:
                raise TooMuch(MOST_EVENT_BYTES)

    def rest(self) -> list[str]:
        """The last event, of a server that does not end it."""
        held, self._held = bytes(self._held), bytearray()
        return [*self._line(held), *self._line(b"")]

    def _line(self, line: bytes) -> Iterator[str]:
        """The event that a line ends, if any: a blank one, or the next one's data, where a server leaves that out."""
        self._size += len(line) + 1
        if self._size > MOST_EVENT_BYTES:
            raise TooMuch(MOST_EVENT_BYTES)
        if not line:
            yield from self._event()
            return
        name, _, value = line.removeprefix(BOM_UTF8).partition(b":")  # a stream may begin with one
        value = value.removeprefix(b" ")
        match name.strip().lower():
            case b"data":
                if len(self._data) == 1 and _is_event(self._data[0]):
                    yield from self._event()
                self._data.append(value.decode("utf-8", "replace"))
            case b"event":
                self._name = value.decode("utf-8", "replace").strip()

    def _event(self) -> Iterator[str]:
        """The event that ends; one without data is none."""
        lines, data, is_error = self._data, "\n".join(self._data), self._name.lower() == "error"
        self._data, self._name, self._size = [], "", 0
        if lines and data.strip() not in _EMPTY:
            yield _as_error(data) if is_error else data


_EMPTY = ("null", "[]", "{}")  # with which a connection is kept


def _is_mark(data: str) -> bool:
    """Whether it is the mark of a stream's end."""
    return data.strip().strip('"').upper() == "[DONE]"


def _is_event(data: str) -> bool:
    """Whether a line of data is a whole event's: with the next one it would make nothing."""
    if data[:1] != "{" or data.rstrip()[-1:] != "}":
        return _is_mark(data)
    try:
        return isinstance(json.loads(data), dict)
    except (ValueError, RecursionError):
        return False


def _as_error(data: str) -> str:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        value = data
    return data if isinstance(value, dict) and value.get("error") else json.dumps({"error": value})


def tool_call_deltas(choice: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The tool calls of a whole message, each with its place, or pieces of them, of a stream's delta."""
    if delta := choice.get("delta"):
        return _calls_of(delta, whole=False)
    return _calls_of(choice.get("message") or {}, whole=True)


def _calls_of(message: Mapping[str, Any], *, whole: bool, alone: bool = True) -> list[Mapping[str, Any]]:
    """The calls of a message; `alone` is for the field in which earlier servers said one, and others say it again."""
    calls = message.get("tool_calls") or ()
    if alone and not calls and isinstance(only := message.get("function_call"), Mapping):
        calls = {"index": 0, "type": "function", "function": only}
    calls = [calls] if isinstance(calls, Mapping) else [call for call in calls if call is not None]
    return [{**call, "index": place} for place, call in enumerate(calls)] if whole else list(calls)


def returned_fields(messages: Sequence[Any]) -> set[str]:
    """The names of fields in messages of a request that its server itself sent with its calls."""
    made = [one for one in messages if isinstance(one, Mapping) and one.get("tool_calls")]
    calls = [call for message in made for call in message["tool_calls"] if isinstance(call, Mapping)]
    functions = [call["function"] for call in calls if isinstance(call.get("function"), Mapping)]
    return {
        *(name for message in made for name in (*THINKING, *RETURNED) if name in message),
        *(name for call in (*calls, *functions) for name in call_pieces.RETURNED if name in call),
    }


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
    _check_values(data.encode("utf-8", "replace") if isinstance(data, str) else data)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        start = data[:60].decode("utf-8", "replace") if isinstance(data, bytes) else data[:60]
        start = " ".join(start.split())
        raise NotACompletion("an HTML page" if start[:1] == "<" else f"no JSON ({start!r})") from None
    if not isinstance(value, dict):
        raise NotACompletion(f"a JSON {type(value).__name__}")
    return value


def _check_values(content: bytes) -> None:
    if sum(map(content.count, (b"[", b"{", b","))) > MOST_VALUES:
        raise TooMuch(MOST_VALUES, "values")  # each of which takes fifty times its bytes


_STATUS = re.compile(r"([45]\d\d)\b")
_ABOUT_A_KEY = re.compile(
    r"\blogin fail|\bauthentication (?:error|fail|required)|\bunauthori[sz]ed\b"
    r"|\b(?:invalid|incorrect|expired|missing)\b.{0,12}\b(?:api|access)[ _-]?(?:key|token)"
    r"|\b(?:api|access)[ _-]?(?:key|token)\b.{0,12}\b(?:invalid|incorrect|expired|missing)",
    re.IGNORECASE,
)
_ERRORS = ("error", "errors", "error_message")  # fields that only an error has
_WORDS = ("error", "message", "detail", "error_message", "msg", "errors", "status_msg", "base_resp")
_CODES = ("code", "status", "status_code", "http_status")
_KINDS = {
    "badrequest": 400,
    "invalid_request": 400,
    "invalidrequest": 400,
    "authentication": 401,
    "permission": 403,
    "not_found": 404,
    "notfound": 404,
    "rate_limit": 429,
    "overloaded": 503,
    "unavailable": 503,
}


def _is_error(value: Mapping[str, Any]) -> bool:
    kinds = f"{value.get('object')} {value.get('type')}".lower()
    return any(value.get(name) for name in _ERRORS) or "error" in kinds.split()


def raise_error(value: Mapping[str, Any]) -> None:
    """Raises `BrokenReply` with the words of an error that comes with status 200; nothing for JSON that has none."""
    words = error_words(value)
    if not words and any(value.get(name) for name in _ERRORS):
        words = json.dumps(value)
    if words:
        raise BrokenReply(f"broke off: {words}", status=_error_status(value, words))


def error_words(value: Any) -> str:
    """What an error says, wherever in its JSON the server put it; "" where nothing does."""
    while isinstance(value, Mapping | list) and value:
        if isinstance(value, list):
            value = value[0]
            continue
        value = next((value[name] for name in _WORDS if value.get(name)), "")
    if value is None or value == [] or value == {}:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


def _error_status(value: Any, words: str) -> int | None:
    """The HTTP status that an error under 200 stands for: what its words begin with, its number, or its name.

    GLM says "404 NOT_FOUND" with code 500; MiniMax and Cloudflare have numbers of their own for a wrong key.
    """
    if match := _STATUS.match(words):
        return int(match[1])
    if _ABOUT_A_KEY.search(words):
        return 401
    while isinstance(value, Mapping):
        for name in _CODES:
            code = value.get(name)
            if isinstance(code, int | str) and str(code).isdecimal() and 400 <= int(code) < 600:
                return int(code)
        kind = " ".join(str(value.get(name)) for name in ("type", "code", "error_type")).lower()
        for name, status in _KINDS.items():
            if name in kind:
                return status
        value = value.get("error")
    return None


def _index_of(choice: Any) -> int:
    index = choice.get("index")
    return index if isinstance(index, int) else 0


def _texts(content: Any) -> tuple[str, str]:
    """The (thinking, text) of a message's content, which may be a list of parts (Mistral's)."""
    if isinstance(content, str) or content is None:
        return "", content or ""
    thinking, text = "", ""
    for part in content if isinstance(content, Sequence) else ():
        if isinstance(part, Mapping) and part.get("type") in ("thinking", "reasoning"):
            thinking += "".join(_texts(next((part[name] for name in (*THINKING, "text") if part.get(name)), None)))
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
