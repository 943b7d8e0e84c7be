"""Attention caches in buffers with room: a new token costs its own keys and values, not a copy of all before it.

Several sequences take their steps together as the rows of one such cache, which they enter and leave one by one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

LEAST_ROOM = 64  # tokens


class GrowingLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """transformers' own layer, whose keys and values (rows, heads, tokens, size) are the middle of larger buffers.

    Rows of different lengths end at the same token, so that distances between tokens are those they have alone. What
    stands before a shorter row is masked, and zero all the same: even what is masked is multiplied.
    """

    keys: Any
    values: Any
    _buffers: Sequence[torch.Tensor] = ()
    _start = 0

    def lazy_initialization(self, key_states: Any, value_states: Any) -> None:
        """Begin without rows, in the shape of these states."""
        super().lazy_initialization(key_states, value_states)
        self.keys, self.values = key_states[:0, :, :0], value_states[:0, :, :0]

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in the new tokens of all rows."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        rows, _, tokens, _ = key_states.shape
        self._resize(rows, behind=tokens)
        self.keys[:, :, -tokens:] = key_states
        self.values[:, :, -tokens:] = value_states
        return self.keys, self.values

    def join(self, layers: Sequence[Any]) -> None:
        """Take in the first rows of other layers."""
        if not layers[0].is_initialized:  # it uses another layer's
            return
        if not self.is_initialized:
            self.lazy_initialization(layers[0].keys, layers[0].values)
        known, longest = len(self.keys), max(layer.get_seq_length() for layer in layers)
        self._resize(known + len(layers), before=max(0, longest - self.keys.shape[2]))
        for row, layer in enumerate(layers, known):
            start = self.keys.shape[2] - layer.get_seq_length()
            self.keys[row, :, start:] = layer.keys[0]
            self.values[row, :, start:] = layer.values[0]

    def leave(self, row: int, longest: int) -> None:
        """Give a row up to the last one; the longest of the others has so many tokens."""
        if not self.is_initialized:
            return
        last = len(self.keys) - 1
        for states in (self.keys, self.values):
            states[row] = states[last]
            states[last] = 0
        self._resize(last, before=longest - self.keys.shape[2])

    def _resize(self, rows: int, *, before: int = 0, behind: int = 0) -> None:
        """Have so many rows, and so many tokens more at both ends; buffers without the room for it are replaced."""
        known, _, tokens, _ = self.keys.shape
        start, end = self._start - before, self._start + tokens + behind
        if not self._buffers or rows > len(self._buffers[0]) or start < 0 or end > self._buffers[0].shape[2]:
            spare = max(LEAST_ROOM, (end - start) // 4)
            front = spare if rows > 1 else 0
            capacity = max(rows, len(self._buffers[0]) if self._buffers else 0), front + end - start + spare
            start, end = front, front + end - start
            buffers = []
            for states in (self.keys, self.values):
                buffer = states.new_zeros(capacity[0], states.shape[1], capacity[1], states.shape[3])
                buffer[:known, :, start + before : end - behind] = states
                buffers.append(buffer)
            self._buffers = buffers
        self._start = start
        self.keys, self.values = (buffer[:rows, :, start:end] for buffer in self._buffers)


def growing_cache() -> Any:
    """An empty cache; without a configuration it keeps what a sliding window would drop, so it can be cut back."""
    cache = DynamicCache()
    cache.layer_class_to_replicate = GrowingLayer
    return cache


def fork(cache: Any, tokens: slice, row: int = 0) -> Any:
    """Some tokens of a row of an attention cache, as a cache in memory of its own."""
    copied = growing_cache()
    with torch.inference_mode():
        for layer in cache.layers:
            copied.layers.append(GrowingLayer())  # type: ignore[no-untyped-call]
            if layer.is_initialized:
                here = slice(row, row + 1), slice(None), tokens
                copied.layers[-1].update(layer.keys[here], layer.values[here])
    copied.rope_deltas = getattr(cache, "rope_deltas", None)
    return copied


class BatchCache:
    """The caches of several sequences as one, with a row for each of its `owners`."""

    def __init__(self) -> None:
        self.owners: list[Any] = []
        self.cache: Any = growing_cache()
        self._lengths: list[int] = []

    def add(self, rows: Sequence[tuple[Any, Any]]) -> None:
        """Take in owners with copies of their caches."""
        if not rows:
            return
        caches = [cache for _, cache in rows]
        if not self.owners:
            self.cache.layers = [GrowingLayer() for _ in caches[0].layers]  # type: ignore[no-untyped-call]
        with torch.inference_mode():
            for layer, *theirs in zip(self.cache.layers, *(cache.layers for cache in caches), strict=True):
                layer.join(theirs)
        self.owners += [owner for owner, _ in rows]
        self._lengths += [cache.get_seq_length() for cache in caches]

    def copy(self, owner: Any, length: int | None = None) -> Any:
        """A row's first `length` tokens (or all) as a cache of its own."""
        row = self.owners.index(owner)
        start = max(self._lengths) - self._lengths[row]
        return fork(self.cache, slice(start, None if length is None else start + length), row)

    def remove(self, owner: Any) -> Any:
        """Give a row up: its cache. The last row takes its place."""
        cache, row = self.copy(owner), self.owners.index(owner)
        for each in (self.owners, self._lengths):
            each[row] = each[-1]
            each.pop()
        with torch.inference_mode():
            for layer in self.cache.layers:
                layer.leave(row, max(self._lengths, default=0))
        return cache

    def grow(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """For a forward with one more token in each row: the attention mask (batch, tokens), the positions (batch,)."""
        lengths, longest = torch.tensor(self._lengths, device=device), max(self._lengths)
        self._lengths = [length + 1 for length in self._lengths]
        mask = torch.arange(longest + 1, device=device) >= (longest - lengths)[:, None]
        return mask.long(), lengths
