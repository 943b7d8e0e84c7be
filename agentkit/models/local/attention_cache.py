"""Attention caches that grow in place: a new token costs its own keys and values, not a copy of all before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    import torch

LEAST_ROOM = 64  # tokens


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
    import torch

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
