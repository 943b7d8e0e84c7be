"""Attention caches of several sequences as one, so that they take each step together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

LEAST_SPARE = 128  # columns, for the next steps and for longer rows that come in


class BatchCache:
    """A row for each owner, in buffers that rows enter and leave one by one.

    Rows of different lengths end at the same column, so that distances between tokens are those they have alone; what
    stands before a shorter row is masked. A step writes its tokens to the next column, and `grow` makes them count.
    """

    def __init__(self) -> None:
        self.owners: list[Any] = []
        self.cache: Any = None
        self._lengths: list[int] = []
        self._end = 0

    @property
    def columns(self) -> slice:
        """Where the longest row stands."""
        return slice(self._end - max(self._lengths, default=0), self._end)

    def add(self, rows: Sequence[tuple[Any, Any, int]]) -> None:
        """Take in owners with copies of their caches, and how many tokens those hold."""
        import torch
        from transformers import Cache

        from agentkit.models.local.rows_layer import RowsLayer

        if not rows:
            return
        with torch.inference_mode():
            if self.cache is None:
                self.cache = Cache(layers=[RowsLayer(self, layer) for layer in rows[0][1].layers])
            longest = max(length for _, _, length in rows)
            if longest > self._end or not self._has_room(len(self.owners) + len(rows), self._end):
                self._make_room(len(self.owners) + len(rows), longest)
            self._clear(slice(0, len(self.owners)), slice(self._end - longest, self.columns.start))
            first = min(self._end - longest, self.columns.start)
            for owner, cache, length in rows:
                row, start = len(self.owners), self._end - length
                self._clear(slice(row, row + 1), slice(first, start))
                for mine, layer in zip(self._layers(), _filled(cache), strict=True):
                    mine.write(row, slice(start, self._end), layer.keys[0], layer.values[0])
                self.owners.append(owner)
                self._lengths.append(length)

    def copy(self, owner: Any, length: int | None = None) -> Any:
        """A row's first `length` tokens (or all) as a cache of its own."""
        import torch

        from agentkit.models.local.attention_cache import growing_cache

        row = self.owners.index(owner)
        start = self._end - self._lengths[row]
        with torch.inference_mode():
            columns = slice(start, self._end if length is None else start + length)
            return growing_cache(layer.read(row, columns) for layer in self.cache.layers)

    def remove(self, owner: Any) -> Any:
        """Give a row up: its cache. The last row takes its place."""
        import torch

        cache = self.copy(owner)
        row, last = self.owners.index(owner), len(self.owners) - 1
        if row != last:
            columns = slice(self._end - self._lengths[last], self._end)
            with torch.inference_mode():
                for layer in self._layers():
                    layer.write(row, columns, *(states[0] for states in layer.read(last, columns)))
        for each in (self.owners, self._lengths):
            each[row] = each[-1]
            each.pop()
        return cache

    def places(self, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """What the next token of each row needs: the attention mask (batch, tokens) and its position (batch,)."""
        import torch

        if not self._has_room(len(self.owners), self._end + 1):
            self._make_room(len(self.owners), 0)
        lengths, longest = torch.tensor(self._lengths, device=device), max(self._lengths)
        mask = torch.arange(longest + 1, device=device) >= (longest - lengths)[:, None]
        return mask.long(), lengths

    def grow(self) -> None:
        """The last step's tokens count from now on."""
        self._end += 1
        self._lengths = [length + 1 for length in self._lengths]

    def _clear(self, rows: slice, columns: slice) -> None:
        """Make room that a row does not fill hold finite numbers: even what is masked is multiplied."""
        if columns.start < columns.stop:
            for layer in self._layers():
                layer.keys[rows, :, columns] = 0
                layer.values[rows, :, columns] = 0

    def _layers(self) -> Iterator[Any]:
        return _filled(self.cache)

    def _has_room(self, rows: int, columns: int) -> bool:
        capacity: tuple[int, int] = next(self._layers()).capacity
        return rows <= capacity[0] and columns <= capacity[1]

    def _make_room(self, rows: int, length: int) -> None:
        """Move to buffers for `rows` rows, one of them of `length` tokens, with columns to spare on both sides."""
        import torch

        known = self.columns
        longest = max(length, known.stop - known.start)
        spare = max(LEAST_SPARE, longest // 4)
        with torch.inference_mode():
            for layer in self._layers():
                capacity = (max(rows, layer.capacity[0]), longest + 2 * spare)
                layer.move(len(self.owners), known, spare + longest, capacity)
        self._end = spare + longest


def _filled(cache: Any) -> Iterator[Any]:
    """The layers with keys and values; others use those of an earlier one."""
    return (layer for layer in cache.layers if layer.is_initialized)
