"""What of a reply its reader has, so that it can be repeated: all of it at the end, or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agentkit.errors import ReplyChanged
from agentkit.models.backend import Chunk


class Shown:
    """What a reader has of a reply. A repeated reply must begin with it, else `ReplyChanged` is raised."""

    def __init__(self) -> None:
        self._shown = {"thinking": "", "text": ""}
        self._repeated = {"thinking": 0, "text": 0}

    def begin(self) -> None:
        """The reply begins, for the first time or anew."""
        self._repeated = dict.fromkeys(self._repeated, 0)

    def new(self, chunk: Chunk) -> Iterator[Chunk]:
        """What of `chunk` was not shown yet."""
        thinking, text = self._new("thinking", chunk.thinking), self._new("text", chunk.text)
        if thinking == chunk.thinking and text == chunk.text:
            yield chunk
        elif thinking or text:
            yield replace(chunk, thinking=thinking, text=text, logprobs=chunk.logprobs if text else ())

    def end(self) -> Iterator[Chunk]:
        """The reply is complete: all that was shown must have come."""
        if any(self._repeated[channel] < len(shown) for channel, shown in self._shown.items()):
            raise ReplyChanged(_CHANGED)
        return iter(())

    def _new(self, channel: str, piece: str) -> str:
        shown, start = self._shown[channel], self._repeated[channel]
        repeated, new = piece[: len(shown) - start], piece[max(0, len(shown) - start) :]
        if not shown.startswith(repeated, start):
            raise ReplyChanged(_CHANGED)
        self._repeated[channel] = start + len(piece)
        self._shown[channel] = shown + new
        return new


class Withheld:
    """Shows a reply when it is complete: one that breaks before can be repeated, whatever comes then."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def begin(self) -> None:
        """The reply begins, for the first time or anew."""
        self._chunks.clear()

    def new(self, chunk: Chunk) -> Iterator[Chunk]:
        """Nothing yet."""
        self._chunks.append(chunk)
        return iter(())

    def end(self) -> Iterator[Chunk]:
        """All of it."""
        return iter(self._chunks)


_CHANGED = (
    "the stream broke, and the repeated reply is another one than the one partly shown; "
    "ask again, with invoke() where nothing need be shown early"
)
