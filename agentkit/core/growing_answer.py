"""An answer that is a value, as far as it came: read out of a turn's text, or out of a call, as it arrives."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from agentkit.events import PartialAnswer
from agentkit.models.backend import ToolCallPiece

_LABEL = re.compile(r"(?:^|\n)[ \t#*_]*Final Answer[*_]*:[*_]*", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?:`{3,}|~{3,})[^\n`]*\n")
_LONGEST_LABEL = 40
_SHARE = 64  # of a long answer, that has to come before it is read once more: all of it is read in linear time


class GrowingAnswer:
    """Gives what an answer is so far, each time that it has grown.

    In a turn's text it begins behind its label; else it is the arguments of a `call` by that name, or what stands in
    them as the `wrapper`.
    """

    def __init__(self, *, call: str = "", wrapper: str = "") -> None:
        self._call = call
        self._is_its_call: dict[int, bool] = {}
        self._text = ""
        self._begins: int | None = 0 if call else None
        self._seen = 0
        self._read = 0
        self._wrapper = wrapper
        self._last: Any = _NOTHING

    def feed(self, piece: str | ToolCallPiece) -> Iterator[PartialAnswer]:
        """The answer with a piece more of the text or of a call, where that changes it."""
        if isinstance(piece, str):
            text = "" if self._call else piece
        else:
            if piece.name is not None:
                self._is_its_call[piece.index] = piece.name == self._call
            text = piece.arguments if self._is_its_call.get(piece.index) else ""
        if text:
            yield from self._grown(text)

    def _grown(self, piece: str) -> Iterator[PartialAnswer]:
        self._text += piece
        if self._begins is None:
            label = _LABEL.search(self._text, max(0, self._seen - _LONGEST_LABEL))
            self._seen = len(self._text)
            if label is None:
                return
            self._begins = label.end()
        if len(self._text) - self._read < max(1, len(self._text) // _SHARE):
            return
        self._read = len(self._text)
        value = self._value(self._text[self._begins :])
        if value is not _NOTHING and value != self._last:
            self._last = value
            yield PartialAnswer(value)

    def _value(self, text: str) -> Any:
        from pydantic_core import from_json

        fence = _FENCE.match(text)
        text = text[fence.end() :] if fence else text
        try:
            value = from_json(text.strip(), allow_partial="trailing-strings", allow_inf_nan=False)
        except ValueError:
            return _NOTHING
        if self._wrapper:
            return value.get(self._wrapper, _NOTHING) if isinstance(value, dict) else _NOTHING
        return value


_NOTHING: Any = object()
