"""Attention caches of several sequences as one, so that they take each step together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import Cache
from transformers.cache_utils import DynamicLayer

from agentkit.models.local.prefix_cache import growing_cache

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
        row = self.owners.index(owner)
        start = self._end - self._lengths[row]
        with torch.inference_mode():
            columns = slice(start, self._end if length is None else start + length)
            return growing_cache(layer.read(row, columns) for layer in self.cache.layers)

    def remove(self, owner: Any) -> Any:
        """Give a row up: its cache. The last row takes its place."""
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
        columns = self.columns
        longest = max(length, columns.stop - columns.start)
        spare = max(LEAST_SPARE, longest // 4)
        with torch.inference_mode():
            for layer in self._layers():
                capacity = (max(rows, layer.capacity[0]), longest + 2 * spare)
                layer.move(len(self.owners), columns, spare + longest, capacity)
        self._end = spare + longest


def _filled(cache: Any) -> Iterator[Any]:
    """The layers with keys and values; others use those of an earlier one."""
    return (layer for layer in cache.layers if layer.is_initialized)


class RowsLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """One layer of a BatchCache, as transformers' attention sees it.

    Buffers (rows, heads, columns, size) for keys and values; which rows and columns count, the batch knows.
    """

    keys: Any
    values: Any

    def __init__(self, batch: BatchCache, like: Any) -> None:
        """`like` is a layer of one sequence."""
        super().__init__()  # type: ignore[no-untyped-call]
        self._batch = batch
        if like.is_initialized:
            self.lazy_initialization(like.keys, like.values)
            self.keys = like.keys.new_empty(0, *like.keys.shape[1:])
            self.values = like.values.new_empty(0, *like.values.shape[1:])

    @property
    def capacity(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.keys.shape[0], self.keys.shape[2]

    def get_seq_length(self) -> int:
        """The length of the longest row."""
        columns = self._batch.columns
        return int(columns.stop - columns.start)

    def update(self, key_states: Any, value_states: Any, *_: Any, **__: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """Take in each row's next token."""
        rows, columns = len(self._batch.owners), self._batch.columns
        self.keys[:rows, :, columns.stop] = key_states[:, :, 0]
        self.values[:rows, :, columns.stop] = value_states[:, :, 0]
        grown = slice(columns.start, columns.stop + 1)
        return self.keys[:rows, :, grown], self.values[:rows, :, grown]

    def read(self, row: int, columns: slice) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Keys and values (1, heads, tokens, size) of a row; None where the layer uses another one's."""
        if not self.is_initialized:
            return None
        return self.keys[row : row + 1, :, columns], self.values[row : row + 1, :, columns]

    def write(self, row: int, columns: slice, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Put keys and values (heads, tokens, size) into a row."""
        self.keys[row, :, columns] = keys
        self.values[row, :, columns] = values

    def move(self, rows: int, columns: slice, end: int, capacity: tuple[int, int]) -> None:
        """Move what counts to new buffers, so that it ends at column `end`."""
        self.keys = _moved(self.keys, rows, columns, end, capacity)
        self.values = _moved(self.values, rows, columns, end, capacity)


def _moved(states: torch.Tensor, rows: int, columns: slice, end: int, capacity: tuple[int, int]) -> torch.Tensor:
    _, heads, _, size = states.shape
    buffer = states.new_empty(capacity[0], heads, capacity[1], size)
    buffer[:rows, :, end - (columns.stop - columns.start) : end] = states[:rows, :, columns]
    return buffer
