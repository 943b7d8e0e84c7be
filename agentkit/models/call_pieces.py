"""Tool calls put together from the pieces in which servers stream them, which are not all of one mind about it.

A piece without a name belongs to the call at its index. One with a name begins another call where the one before is
whole. What can be read in two ways is a call without a name, which nothing runs.

Seen: new ids in every piece (vLLM with harmony), one index for all calls (Ollama, SGLang), none at all (Gemini), the
name in every piece (MiniMax) or in several, `{}` before the arguments (Bedrock), arguments as a value, or encoded
twice (vLLM).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentkit.models.backend import NativeCall, ToolCallPiece

RETURNED = ("extra_content", "provider_specific_fields", "thought_signature")
"""Fields of a call that its server wants back with it: https://ai.google.dev/gemini-api/docs/thought-signatures"""

_PLACEHOLDERS = ("{}", "null", '""')  # of arguments that are yet to come
_LONGEST_PLACEHOLDER = 8  # with blanks
_LONGEST_BARE = 2000  # characters of a value that is no object, to look whether it is whole
_STRUCTURE = re.compile(r'["\\{}\[\]]')


class ToolCallPieces:
    """The calls of one reply on their way in; `tools` are the OpenAI schemas of those that may be called."""

    def __init__(self, tools: Sequence[Mapping[str, Any]] = ()) -> None:
        self._parameters = _parameters_of(tools)
        self._calls: list[_Call] = []
        self._at: dict[Any, _Call] = {}  # the last of each index
        self._by_id: dict[str, _Call] = {}
        self._of_event: set[int] = set()  # places of calls that were named in this event

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, piece: ToolCallPiece) -> None:
        """A piece of a backend's."""
        self._of_event.clear()
        self._add(_Piece(piece.index, piece.id or "", piece.name or "", piece.arguments, piece.provider_fields))

    def add_delta(self, delta: Mapping[str, Any]) -> int:
        """An event with one entry in `tool_calls`; how many characters of arguments it had."""
        return self.add_deltas([delta])

    def add_deltas(self, deltas: Sequence[Mapping[str, Any]]) -> int:
        """The `tool_calls` of one event, in which each that has a name is a call of its own."""
        self._of_event.clear()
        length = 0
        for delta in deltas:
            self._add(piece := _piece_of(delta))
            length += len(piece.arguments)
        return length

    def calls(self) -> tuple[NativeCall, ...]:
        """The calls so far, with arguments that have one reading as an object as that object; no id is ""."""
        return tuple(call.as_native(self._parameters) for call in self._calls if call.is_one)

    @property
    def may_go_on(self) -> bool:
        """Whether more of a call may have been to come, if nothing says that it is whole.

        That is one without arguments, unless it can have none, and one whose arguments are no object: `5` begins `50`.
        """
        return any(call.may_go_on(self._parameters) for call in self._calls if call.is_one)

    def _add(self, piece: _Piece) -> None:
        if (call := self._call_of(piece)) is not None:
            call.take(piece)
            self._at[piece.index] = call
            if piece.id:
                self._by_id[piece.id] = call
            if piece.name:
                self._of_event.add(call.place)

    def _call_of(self, piece: _Piece) -> _Call | None:
        """The call of a piece, which may be a new one; `None` for one that says nothing."""
        call, by_id = self._at.get(piece.index), self._by_id.get(piece.id)
        if piece.index is None and self._calls:
            call = self._calls[-1]
        if by_id is not None and piece.index in (None, by_id.index):
            call = by_id
        if piece.name:
            return call if call is not None and self._goes_on(call, piece) else self._begun(piece, after=call)
        call = call or by_id
        is_of_two = call is not None and by_id is not None and piece.id not in call.ids  # by its index, and by its id
        if call is not None and not is_of_two:
            return call
        return None if piece.says_nothing else self._begun(piece)

    def _begun(self, piece: _Piece, *, after: _Call | None = None) -> _Call:
        call = _Call(place=len(self._calls), index=piece.index)
        if after is not None and after.place not in self._of_event and piece.name == after.name:
            call.may_repeat = not piece.arguments.strip()  # servers name a call once more at its end
        self._calls.append(call)
        return call

    def _goes_on(self, call: _Call, piece: _Piece) -> bool:
        """Whether a piece with a name belongs to the call; renames it where the name comes in pieces."""
        if not call.name:
            return True
        if call.place in self._of_event:
            return False
        has_another_id = bool(piece.id and call.ids and piece.id not in call.ids)
        is_same_id = bool(piece.id) and not has_another_id
        if call.is_empty or (call.holds_placeholder and self._parameters and call.name not in self._parameters):
            return self._goes_on_by_name(call, piece.name, has_another_id)
        if piece.name != call.name:
            return False
        if not call.is_whole:
            return call.can_hold(piece) and (piece.index is not None or not has_another_id)
        if not piece.arguments.strip():
            return is_same_id
        if call.holds_placeholder:
            stands_alone = piece.index is None and (has_another_id or not call.ids) and is_json_object(piece.arguments)
            if stands_alone:
                return False
            call.is_doubtful |= not is_same_id  # if these are a second call's, the first would run without any
            return True
        return is_same_id and piece.arguments.strip() == call.arguments.strip()

    def _goes_on_by_name(self, call: _Call, name: str, has_another_id: bool) -> bool:
        """Whether a name that follows another one before any arguments is more of it."""
        if name == call.name:
            return True
        grown = name if name.startswith(call.name) else None  # the name so far, again and again
        joined, known = call.name + name, self._parameters
        if not known:
            if not has_another_id:
                call.name = grown or joined
            return not has_another_id
        whole = [one for one in (joined, grown) if one in known]
        if call.name in known and name in known:  # two calls, the first without arguments
            call.is_doubtful |= bool(whole) and not has_another_id
            return call.is_doubtful
        begun = [one for one in (joined, grown) if one and any(other.startswith(one) for other in known)]
        if not whole and not begun and has_another_id:
            return False
        call.name = (whole or begun or [joined])[0]
        return True


@dataclass(slots=True)
class _Piece:
    """An entry of `tool_calls`."""

    index: Any
    id: str
    name: str
    arguments: str
    provider_fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def begins_object(self) -> bool:
        return self.arguments.lstrip().startswith("{")

    @property
    def says_nothing(self) -> bool:
        return not (self.name or self.id or self.arguments.strip())


@dataclass(slots=True, eq=False)
class _Call:
    """A call on its way in. `may_repeat`: it may be the one before, named again."""

    place: int
    index: Any
    ids: list[str] = field(default_factory=list)
    name: str = ""
    pieces: list[str] = field(default_factory=list)
    size: int = 0
    provider_fields: dict[str, Any] = field(default_factory=dict)
    is_doubtful: bool = False
    may_repeat: bool = False
    _end: _JsonEnd = field(default_factory=lambda: _JsonEnd())
    _scanned: int = 0

    def take(self, piece: _Piece) -> None:
        if piece.id and piece.id not in self.ids[-1:]:
            self.ids = [*self.ids[:1], piece.id]  # the first is its id, the last tells whether it changed
        self.name = self.name or piece.name
        self.provider_fields = merged(self.provider_fields, piece.provider_fields)
        if self.is_repeated_by(piece):
            return
        if piece.arguments.strip() and self.holds_placeholder:
            self.pieces.clear()
            self.size, self._scanned, self._end = 0, 0, _JsonEnd()
        if piece.arguments:
            self.pieces.append(piece.arguments)
            self.size += len(piece.arguments)

    def is_repeated_by(self, piece: _Piece) -> bool:
        """Whether the whole call comes once more, with its id."""
        is_again = bool(piece.name and piece.arguments.strip() and piece.id in self.ids)
        return is_again and self.is_whole and piece.arguments.strip() == self.arguments.strip()

    @property
    def arguments(self) -> str:
        return "".join(self.pieces)

    @property
    def is_empty(self) -> bool:
        return self.size == 0 or (self.size < _LONGEST_PLACEHOLDER and not self.arguments.strip())

    @property
    def holds_placeholder(self) -> bool:
        return 0 < self.size <= _LONGEST_PLACEHOLDER and "".join(self.arguments.split()) in _PLACEHOLDERS

    @property
    def is_one(self) -> bool:
        """Whether it is a call at all: not the one before once more, and not an id alone."""
        return not self.is_empty or bool(self.name and not self.may_repeat)

    @property
    def is_whole(self) -> bool:
        """Whether its arguments are one JSON value, to which nothing can be added."""
        for piece in self.pieces[self._scanned :]:
            self._end.read(piece)
        self._scanned = len(self.pieces)
        return self._end.is_whole or (self.size <= _LONGEST_BARE and _value_of(self.arguments) is not _NONE)

    def may_go_on(self, parameters: Mapping[str, Mapping[str, Any]]) -> bool:
        if self.is_empty:
            return bool((parameters.get(self.name) or {}).get("properties"))
        return not is_json_object(self.arguments)

    def can_hold(self, piece: _Piece) -> bool:
        """Whether an object that begins with the piece can stand where its arguments, not whole yet, end."""
        if not piece.begins_object or self._end.in_string:
            return True
        return next((text.rstrip()[-1] for text in reversed(self.pieces) if text.strip()), "") in ":[,"

    def as_native(self, parameters: Mapping[str, Mapping[str, Any]]) -> NativeCall:
        name = "" if self.is_doubtful else self.name
        arguments = normal_arguments(self.arguments, parameters.get(name))
        return NativeCall(next(iter(self.ids), ""), name, arguments, self.provider_fields)


class _JsonEnd:
    """Finds the end of a JSON object or list that comes in pieces."""

    def __init__(self) -> None:
        self.is_whole = False
        self._depth = 0
        self.in_string = False
        self._escapes = False  # the last piece ended in a backslash

    def read(self, text: str) -> None:
        """More of it; nothing but blanks may follow its end."""
        after = 1 if self._escapes and text else 0
        if text:
            self._escapes = False
        if self.is_whole:
            self.is_whole = not text.strip()
            return
        for found in _STRUCTURE.finditer(text, after):
            at, letter = found.start(), found[0]
            if at < after:
                continue
            if letter == "\\":
                after = at + 2
                self._escapes = after > len(text)
            elif letter == '"':
                self.in_string = not self.in_string
            elif not self.in_string:
                self._depth += 1 if letter in "{[" else -1
                if self._depth == 0:
                    self.is_whole = not text[at + 1 :].strip()
                    return


def _piece_of(delta: Mapping[str, Any]) -> _Piece:
    function = delta.get("function") or delta  # which some leave out
    arguments = function.get("arguments")
    if not isinstance(arguments, str):  # an object, which is Ollama's own way
        arguments = "" if arguments is None else json.dumps(arguments, ensure_ascii=False)
    call_id, name = delta.get("id"), function.get("name")
    call_id = function.get("id") if call_id is None else call_id  # llama.cpp, for a while
    for text in (None if isinstance(call_id, int) else call_id, name):
        if text is not None and not isinstance(text, str):
            raise TypeError(f"expected text, saw {type(text).__name__}")
    fields: dict[str, Any] = {}
    for part, given in (("call", delta), ("function", delta.get("function") or {})):
        if kept := {key: given[key] for key in RETURNED if given.get(key)}:
            fields[part] = kept
    return _Piece(delta.get("index"), "" if call_id is None else str(call_id), name or "", arguments, fields)


def _parameters_of(tools: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    functions = (tool.get("function") for tool in tools)
    return {one["name"]: one.get("parameters") or {} for one in functions if isinstance(one, Mapping) and "name" in one}


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """Both mappings, nested ones joined; the later value counts."""
    both = dict(first)
    for name, value in second.items():
        old = both.get(name)
        both[name] = merged(old, value) if isinstance(old, Mapping) and isinstance(value, Mapping) else value
    return both


# -- arguments ---------------------------------------------------------------------------------------------------------

_NONE = object()
MOST_ENCODINGS = 3
_TYPES: Mapping[Any, Any] = {"string": str, "integer": int, "number": int | float, "boolean": bool, "array": list}


def normal_arguments(text: str, parameters: Mapping[str, Any] | None = None) -> str:
    """The arguments of a call as an object's JSON, where they have one reading as that; else as they were written.

    `null` is no arguments, text that holds an object is that, and any other value is that of the only argument, but for
    the text that says nothing: it may stand for arguments that never came.
    """
    value = _value_of(text)
    if value is _NONE or isinstance(value, dict):
        return text
    known, only = (parameters or {}).get("properties") or {}, _only_argument(parameters or {})
    if value is None:
        return "{}"
    if isinstance(value, str) and not value.strip():
        return text if known or parameters is None else "{}"
    if (held := _held_object(value)) is not None:
        return json.dumps(held, ensure_ascii=False) if only is None or held.keys() <= known.keys() else text
    is_broken = isinstance(value, str) and value.lstrip().startswith(("{", "["))
    if only is None or is_broken or not _is_of_type(value, known.get(only)):
        return text
    return json.dumps({only: value}, ensure_ascii=False)


def unmended(text: str) -> str:
    """The arguments of a call that came to its end, put so that no reader completes what is broken in them.

    LangChain takes an object that is cut off, or followed by another one, for what it would be without.
    """
    is_broken = text.lstrip().startswith(("{", "[")) and _value_of(text) is _NONE
    return json.dumps(text, ensure_ascii=False) if is_broken else text


def _is_of_type(value: Any, schema: Any) -> bool:
    named = schema.get("type") if isinstance(schema, Mapping) else None
    if isinstance(value, bool):
        return named in (None, "boolean")
    return isinstance(value, _TYPES.get(named, str | int | float) if isinstance(named, str | None) else str)


def is_json_object(text: str) -> bool:
    """Whether a call's arguments are whole."""
    return isinstance(_value_of(text), dict)


def _value_of(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return _NONE


def _held_object(value: Any) -> dict[str, Any] | None:
    """The object that a text holds, however often it was encoded."""
    for _ in range(MOST_ENCODINGS):
        if not isinstance(value, str):
            break
        value = _value_of(value)
    return value if isinstance(value, dict) else None


def _only_argument(parameters: Mapping[str, Any]) -> str | None:
    """The name of the argument that is meant by a value alone: the only required one, or the only one."""
    names, required = list(parameters.get("properties") or ()), parameters.get("required") or ()
    candidates = list(required) if len(required) == 1 else names if not required else []
    return candidates[0] if len(candidates) == 1 else None
