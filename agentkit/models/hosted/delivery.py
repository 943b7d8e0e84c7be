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
        self._before = {"thinking": "", "text": ""}  # delivered of earlier attempts
        self._new: dict[str, list[str]] = {"thinking": [], "text": []}  # and of this one beyond that
        self._length = {"thinking": 0, "text": 0}  # of this attempt

    @property
    def has_begun(self) -> bool:
        """Whether its reader has some of it."""
        return any(self._before.values()) or any(self._new.values())

    def begin(self) -> None:
        """The reply begins, for the first time or anew."""
        self._held.clear()
        for channel, pieces in self._new.items():
            self._before[channel] += "".join(pieces)
            pieces.clear()
            self._length[channel] = 0

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
        if any(self._length[channel] < len(before) for channel, before in self._before.items()):
            raise ReplyChanged(_CHANGED)
        return self._held

    def _beyond(self, channel: str, piece: str) -> str:
        before, start = self._before[channel], self._length[channel]
        known = max(0, len(before) - start)
        if known and not before.startswith(piece[:known], start):
            raise ReplyChanged(_CHANGED)
        self._length[channel] = start + len(piece)
        self._new[channel].append(piece[known:])
        return piece[known:]


_CHANGED = (
    "the stream broke, and the repeated reply is another one than the one partly shown; "
    "ask again, with invoke() where nothing need be shown early"
)
