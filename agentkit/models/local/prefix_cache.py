"""Keeps the attention caches of conversations, so that a prompt that continues one computes only its new tokens.

The caches grow in place: a new token costs its own keys and values, not a copy of all before it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

Reuse = Literal["crop", "extend", "none"]
"""What a model's cache allows: cut back to any prefix; only be continued; nothing."""

MAX_CONVERSATIONS = 16
MAX_TOKENS = 65_536
LEAST_ROOM = 64  # tokens
FORGIVEN = 64  # a conversation that goes on may lose this much of its last prompt (the generation prompt's own tokens)


@dataclass(slots=True)
class CachedPrefix:
    """A cache and the tokens it holds; `prompt_tokens` of them came from the last prompt, the rest was generated.

    `media` is the key of the pixels and waves that stand among them, "" where there are none.
    """

    ids: list[int]
    cache: Any
    prompt_tokens: int
    media: str = ""


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

    @property
    def tokens(self) -> int:
        """How many tokens are held."""
        return sum(len(entry.ids) for entry in self._entries)

    def __len__(self) -> int:
        """How many conversations are held."""
        return len(self._entries)

    @property
    def entries(self) -> tuple[CachedPrefix, ...]:
        """What is held, the oldest first."""
        return tuple(self._entries)

    def take(self, ids: Sequence[int], *, media: str = "", least: int = 0) -> tuple[Any, int]:
        """The cache of the longest known prefix of `ids`, and its length; (None, 0) where there is none.

        At least one token is left to compute: a cache as long as the prompt gives silently wrong logits. The prefix has
        the same `media`, and a prompt with media shares them all (its first `least` tokens) or nothing.
        """
        with self._lock:
            best, length = self._longest(ids, media)
            if best is None or length < least:
                return None, 0
            if length < best.prompt_tokens - FORGIVEN:  # another conversation with the same beginning: leave it its own
                return fork(best.cache, length), length
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
            self._entries.append(entry)
            while len(self._entries) > self._max_conversations or self.tokens > self._max_tokens:
                self._entries.pop(0)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._entries.clear()

    def _longest(self, ids: Sequence[int], media: str) -> tuple[CachedPrefix | None, int]:
        best, longest = None, 0
        for entry in self._entries:
            if entry.media != media:
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


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """transformers' own layer, whose keys and values stand at the front of buffers with room behind them."""

    keys: Any
    values: Any
    _key_buffer: torch.Tensor | None = None
    _value_buffer: torch.Tensor | None = None

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in the keys and values (batch, heads, tokens, size) of new tokens."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.get_seq_length()
        self._key_buffer = _written(self._key_buffer, self.keys, key_states, start)
        self._value_buffer = _written(self._value_buffer, self.values, value_states, start)
        end = start + key_states.shape[-2]
        self.keys, self.values = self._key_buffer[:, :, :end], self._value_buffer[:, :, :end]
        return self.keys, self.values


def growing_cache(layers: Iterable[tuple[torch.Tensor, torch.Tensor] | None] = ()) -> Any:
    """A cache in memory of its own, with the keys and values of `layers`; None for one that uses another layer's."""
    cache = DynamicCache()  # without a config it keeps what a sliding window would drop: it can be cut back
    cache.layer_class_to_replicate = GrowingLayer
    for states in layers:
        layer = GrowingLayer()  # type: ignore[no-untyped-call]
        if states is not None:
            layer.update(*states)
        cache.layers.append(layer)
    return cache


def fork(cache: Any, length: int) -> Any:
    """A copy of the first `length` tokens of an attention cache."""

    def start_of(layer: Any) -> tuple[torch.Tensor, torch.Tensor] | None:
        return (layer.keys[:, :, :length], layer.values[:, :, :length]) if layer.is_initialized else None

    with torch.inference_mode():
        copied = growing_cache(map(start_of, cache.layers))
    copied.rope_deltas = getattr(cache, "rope_deltas", None)
    return copied


def _written(buffer: torch.Tensor | None, known: torch.Tensor, new: torch.Tensor, start: int) -> torch.Tensor:
    """`new` behind the `start` tokens of `known`, which `buffer` holds; in a larger buffer where there is no room."""
    batch, heads, tokens, size = new.shape
    end = start + tokens
    if buffer is None or end > buffer.shape[2]:
        buffer = new.new_empty(batch, heads, end + max(LEAST_ROOM, end // 4), size)
        if start:
            buffer[:, :, :start] = known
    buffer[:, :, start:end] = new
    return buffer
