"""One layer of a BatchCache, as transformers' attention sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transformers.cache_utils import DynamicLayer

if TYPE_CHECKING:
    import torch

    from agentkit.models.local.batch_cache import BatchCache


class RowsLayer(DynamicLayer):  # type: ignore[no-untyped-call]
    """Buffers (rows, heads, columns, size) for keys and values; which rows and columns count, the batch knows."""

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
