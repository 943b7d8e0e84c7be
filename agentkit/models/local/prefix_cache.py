"""Keeps the attention caches of conversations, so that a prompt that continues one computes only its new tokens."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentkit.models.local.attention_cache import fork

Reuse = Literal["crop", "extend", "none"]
"""What a model's cache allows: cut back to any prefix; only be continued; nothing."""

MAX_CONVERSATIONS = 16
MAX_TOKENS = 65_536
FORGIVEN = 64  # a conversation that goes on may lose this much of its last prompt (the generation prompt's own tokens)


@dataclass(slots=True)
class CachedPrefix:
    """A cache and the tokens it holds; `prompt_tokens` of them came from the last prompt, the rest was generated.

    `media` is the key of the pixels and waves that stand among them, "" where there are none; `adapter` the one that a
    request named; `age` that of the store when it was begun: what was forgotten meanwhile is not kept after all.
    """

    ids: list[int]
    cache: Any
    prompt_tokens: int
    media: str = ""
    adapter: str | None = None
    age: int = 0


class PrefixCache:
    """A bounded store, least recently used out first. An entry is taken by one sequence at a time, never shared."""

    def __init__(
        self, reuse: Reuse, *, max_conversations: int = MAX_CONVERSATIONS, max_tokens: int = MAX_TOKENS
    ) -> None:
        self.reuse = reuse
        self._max_conversations = max_conversations
        self._max_tokens = max_tokens
        self._entries: list[CachedPrefix] = []
        self._lock = threading.Lock()
        self.age = 0
        """How often everything was forgotten."""

    @property
    def tokens(self) -> int:
        """How many tokens are held."""
        return sum(len(entry.ids) for entry in self._entries)

    @property
    def entries(self) -> tuple[CachedPrefix, ...]:
        """What is held, the oldest first."""
        return tuple(self._entries)

    def take(
        self, ids: Sequence[int], *, media: str = "", adapter: str | None = None, least: int = 0
    ) -> tuple[Any, int]:
        """The cache of the longest known prefix of `ids`, and its length; (None, 0) where there is none.

        At least one token is left to compute: a cache as long as the prompt gives silently wrong logits. The prefix has
        the same `media` and `adapter`; a prompt with media shares them all (its first `least` tokens) or nothing.
        """
        with self._lock:
            best, length = self._longest(ids, (media, adapter))
            if best is None or length < least:
                return None, 0
            if length < best.prompt_tokens - FORGIVEN:  # another conversation with the same beginning: leave it its own
                return fork(best.cache, slice(length)), length
            self._entries.remove(best)
            cache = best.cache
        if length < len(best.ids):
            cache.crop(length - len(best.ids))
        return cache, length

    def put(self, entry: CachedPrefix) -> None:
        """Keep a cache for later; the oldest ones give way."""
        if self.reuse == "none" or not 0 < len(entry.ids) <= self._max_tokens:
            return
        with self._lock:
            if entry.age != self.age:
                return
            self._entries.append(entry)
            while len(self._entries) > self._max_conversations or self.tokens > self._max_tokens:
                self._entries.pop(0)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()
            self.age += 1

    def _longest(self, ids: Sequence[int], kind: tuple[str, str | None]) -> tuple[CachedPrefix | None, int]:
        best, longest = None, 0
        for entry in self._entries:
            if (entry.media, entry.adapter) != kind:
                continue
            length = min(common_prefix(entry.ids, ids), len(ids) - 1)
            if length > longest and (self.reuse == "crop" or length == len(entry.ids)):
                best, longest = entry, length
        return best, longest


def common_prefix(first: Sequence[int], second: Sequence[int]) -> int:
    """How many tokens two sequences share from their beginning."""
    end = min(len(first), len(second))
    if list(first[:end]) == list(second[:end]):
        return end
    return next(i for i in range(end) if first[i] != second[i])
