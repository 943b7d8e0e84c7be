"""What of a reply its reader has, so that it can be repeated: all of it at the end, or piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from agentkit.errors import ReplyChanged
from agentkit.models.backend import Chunk


class PieceByPiece:
    """Hands a reply on as it comes. `ReplyChanged` is raised for a repeated one that does not begin with it."""

    def __init__(self) -> None:
        self._delivered = {"thinking": "", "text": ""}
        self._repeated = {"thinking": 0, "text": 0}

    def begin(self) -> None:
        """The reply begins, for the first time or anew."""
        self._repeated = dict.fromkeys(self._repeated, 0)

    def add(self, chunk: Chunk) -> Iterator[Chunk]:
        """What of `chunk` its reader does not have yet."""
        thinking, text = self._beyond("thinking", chunk.thinking), self._beyond("text", chunk.text)
        if thinking == chunk.thinking and text == chunk.text:
            yield chunk
        elif thinking or text:
            yield replace(chunk, thinking=thinking, text=text, logprobs=chunk.logprobs if text else ())

    def end(self) -> Iterator[Chunk]:
        """The reply is complete: all that its reader has must have come."""
        if any(self._repeated[channel] < len(delivered) for channel, delivered in self._delivered.items()):
            raise ReplyChanged(_CHANGED)
        return iter(())

    def _beyond(self, channel: str, piece: str) -> str:
        delivered, start = self._delivered[channel], self._repeated[channel]
        repeated, new = piece[: len(delivered) - start], piece[max(0, len(delivered) - start) :]
        if not delivered.startswith(repeated, start):
            raise ReplyChanged(_CHANGED)
        self._repeated[channel] = start + len(piece)
        self._delivered[channel] = delivered + new
        return new


class AtTheEnd:
    """Hands a reply on when it is complete: one that breaks before can be repeated, whatever comes then."""

    def __init__(self) -> None:
        self._chunks: list[Chunk] = []

    def begin(self) -> None:
        """The reply begins, for the first time or anew."""
        self._chunks.clear()

    def add(self, chunk: Chunk) -> Iterator[Chunk]:
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
