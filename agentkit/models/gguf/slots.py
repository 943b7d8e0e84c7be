"""Which of llama.cpp's slots computes a reply: the free one that holds most of its prompt."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from agentkit.models.gguf.vocabulary import Piece

WAIT_S = 0.5  # at a time, so that an interrupt is noticed


class Taken(NamedTuple):
    """A slot, and how many characters of the prompt's beginning it holds."""

    slot: int
    held: int


class Slots:
    """A number of slots, each held by one reply at a time, and what was last computed in them.

    They share the room of one context; who comes first is served first.
    """

    def __init__(self, count: int, room: int) -> None:
        self.room = room
        self._held: dict[int, Sequence[Piece]] = dict.fromkeys(range(count), ())
        self._free = list(range(count))
        self._taken = 0  # of the room
        self._forgotten: set[int] = set()
        self._waiting: deque[object] = deque()
        self._left = threading.Condition()

    def forget(self) -> None:
        """Let nothing that was computed count for a later prompt."""
        with self._left:
            self._held = dict.fromkeys(self._held, ())
            self._forgotten = {*self._held}

    def is_forgotten(self, slot: int) -> bool:
        """Whether a slot holds what was to be forgotten; asked once, by who computes in it next."""
        with self._left:
            found = slot in self._forgotten
            self._forgotten.discard(slot)
            return found

    @contextmanager
    def taken(self, prompt: Sequence[Piece], tokens: int) -> Iterator[Taken]:
        """A slot for this prompt, to which its writer adds, and for so many tokens in all."""
        tokens = min(tokens, self.room)
        with self._left:
            ticket = object()
            self._waiting.append(ticket)
            try:
                while self._waiting[0] is not ticket or not self._free or self._taken + tokens > self.room:
                    self._left.wait(WAIT_S)
            finally:
                self._waiting.remove(ticket)
                self._left.notify_all()
            held, slot = max(  # the longest idle of equals
                ((_common(self._held[each], prompt), each) for each in self._free), key=lambda each: each[0]
            )
            self._free.remove(slot)
            self._taken += tokens
            self._held[slot] = prompt
        try:
            yield Taken(slot, held)
        finally:
            with self._left:
                self._free.append(slot)
                self._taken -= tokens
                self._left.notify_all()


def _common(first: Sequence[Piece], second: Sequence[Piece]) -> int:
    """How much of the beginning two prompts share, in characters."""
    length = 0
    for one, other in zip(first, second, strict=False):
        if one == other:
            length += len(one) if isinstance(one, str) else 1
            continue
        if isinstance(one, str) and isinstance(other, str):
            length += next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
        break
    return length
