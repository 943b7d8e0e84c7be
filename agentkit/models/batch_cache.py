"""Attention caches of several sequences as one, left-padded, so that they take each step together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


class BatchCache:
    """Rows of different lengths in one cache; all grow by one token per step."""

    def __init__(self, caches: Sequence[Any], lengths: Sequence[int]) -> None:
        self._lengths = list(lengths)
        self.cache = _cache_of(_stack(layers) for layers in zip(*(cache.layers for cache in caches), strict=True))

    def grow(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Make room for one more token: the attention mask (batch, tokens) and the positions (batch,) it needs."""
        import torch

        self._lengths = [length + 1 for length in self._lengths]
        lengths = torch.tensor(self._lengths, device=device)
        columns = torch.arange(max(self._lengths), device=device)
        mask = columns >= (max(self._lengths) - lengths)[:, None]
        return mask.long(), lengths - 1

    def row(self, number: int, *, own: bool) -> Any:
        """One row's cache without its padding; with `own`, in memory of its own."""
        start = max(self._lengths) - self._lengths[number]

        def cut(states: torch.Tensor) -> torch.Tensor:
            piece = states[number : number + 1, :, start:]
            return piece.clone() if own else piece

        return _cache_of(_each(layer, cut) for layer in self.cache.layers)


def fork(cache: Any, length: int) -> Any:
    """A copy of the first `length` tokens of an attention cache."""
    return _cache_of(_each(layer, lambda states: states[:, :, :length].clone()) for layer in cache.layers)


def _each(layer: Any, change: Any) -> tuple[Any, Any]:
    if not layer.is_initialized:  # a layer that uses another one's keys and values
        return None, None
    return change(layer.keys), change(layer.values)


def _stack(layers: Sequence[Any]) -> tuple[Any, Any]:
    if not layers[0].is_initialized:
        return None, None
    return _pad([layer.keys for layer in layers]), _pad([layer.values for layer in layers])


def _pad(rows: Sequence[torch.Tensor]) -> torch.Tensor:
    """Rows (1, heads, tokens, size) as one tensor, shorter ones filled up on the left."""
    longest = max(rows, key=lambda row: row.shape[2])
    padded = longest.new_zeros(len(rows), *longest.shape[1:])
    for number, row in enumerate(rows):
        padded[number, :, longest.shape[2] - row.shape[2] :] = row[0]
    return padded


def _cache_of(layers: Iterable[tuple[Any, Any]]) -> Any:
    import torch
    from transformers import DynamicCache

    with torch.inference_mode():
        return DynamicCache(ddp_cache_data=list(layers))
