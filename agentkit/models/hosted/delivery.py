"""What of a reply its reader has, so that it can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agentkit.errors import ReplyChanged
from agentkit.models.backend import Chunk


class Delivery:
    """Hands a reply on as it comes, or, unless it is shown `early`, when it is complete.

    One that breaks before it is complete can be repeated. What its reader has by then must be its beginning again:
    else `ReplyChanged` is raised.
    """

    def __init__(self, *, early: bool = True) -> None:
        self._early = early
        self._held: list[Chunk] = []
        self._delivered = {"thinking": "", "text": ""}
        self._repeated = {"thinking": 0, "text": 0}

    def begin(self) -> None:
        """The reply begins, for the first time or anew."""
        self._held.clear()
        self._repeated = dict.fromkeys(self._repeated, 0)

    def add(self, chunk: Chunk) -> Sequence[Chunk]:
        """What of `chunk` its reader does not have yet."""
        if not self._early:
            self._held.append(chunk)
            return ()
        thinking, text = self._beyond("thinking", chunk.thinking), self._beyond("text", chunk.text)
        if thinking == chunk.thinking and text == chunk.text:
            return (chunk,)
        if thinking or text:
            return (replace(chunk, thinking=thinking, text=text, logprobs=chunk.logprobs if text else ()),)
        return ()

    def end(self) -> Sequence[Chunk]:
        """What was held, now that the reply is complete: all that its reader has must have come."""
        if any(self._repeated[channel] < len(delivered) for channel, delivered in self._delivered.items()):
            raise ReplyChanged(_CHANGED)
        return self._held

    def _beyond(self, channel: str, piece: str) -> str:
        delivered, start = self._delivered[channel], self._repeated[channel]
        repeated, new = piece[: len(delivered) - start], piece[max(0, len(delivered) - start) :]
        if not delivered.startswith(repeated, start):
            raise ReplyChanged(_CHANGED)
        self._repeated[channel] = start + len(piece)
        self._delivered[channel] = delivered + new
        return new


_CHANGED = (
    "the stream broke, and the repeated reply is another one than the one partly shown; "
    "ask again, with invoke() where nothing need be shown early"
)
