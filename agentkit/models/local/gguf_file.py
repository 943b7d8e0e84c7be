"""What a GGUF file says of itself, read within its bounds: those who load it believe every count that stands in it.

Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import logging
import mmap
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError

logger = logging.getLogger("agentkit")
VERSIONS = (2, 3)
MOST_DIMENSIONS = 8
ALIGNMENT = 32
LOOK, LEAST_STEP, MOST_LOOKS = 64, 2**16, 2**10
"""Bytes that are looked at together, bytes from one look to the next at the least, and looks in all at the most."""
FORMS = dict(zip((*range(8), 10, 11, 12), "BbHhIif?Qqd", strict=True))
"""How a number is written, by its type's number."""
TEXT, LIST = 8, 9
FLOAT32, FLOAT16 = 0, 1
_OF_ONE = {FLOAT32: 4, FLOAT16: 2, 24: 1, 25: 2, 26: 4, 27: 8, 28: 8, 30: 2}
_OF_32 = {2: 18, 3: 20, 6: 22, 7: 24, 8: 34, 9: 40, 20: 18, 39: 17}
_OF_256 = {10: 84, 11: 110, 12: 144, 13: 176, 14: 210, 15: 292, 16: 66, 17: 74, 18: 98, 19: 50, 21: 110, 22: 82}
_OF_256 |= {23: 136, 29: 56, 34: 54, 35: 66}
BLOCKS: Mapping[int, tuple[int, int]] = {40: (64, 36), 41: (128, 18)} | {
    kind: (weights, taken)
    for weights, kinds in ((1, _OF_ONE), (32, _OF_32), (256, _OF_256))
    for kind, taken in kinds.items()
}
"""Weights of a block and its bytes, by the number of a tensor's kind (`ggml_type`)."""


@dataclass(frozen=True, slots=True)
class Values:
    """Where a list stands in its file, and of what kind it is."""

    kind: int
    count: int
    at: int


@dataclass(frozen=True, slots=True)
class Tensor:
    """The number of its kind, its shape, the innermost dimension first, and where among the data it begins and ends."""

    kind: int
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class GgufFile:
    """Its fields (a list as the place where it stands) and its tensors, whose data begins at a place in the file."""

    path: Path
    fields: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    data: int

    @property
    def architecture(self) -> str:
        """The name of the kind of model, which begins the names of the fields that describe it."""
        return str(self.fields["general.architecture"])

    @property
    def weights(self) -> int:
        """How many there are."""
        return sum(prod(tensor.shape) for tensor in self.tensors.values())

    @property
    def is_adapter(self) -> bool:
        """Whether it is what was learnt beyond a model, and no model by itself."""
        return self.fields.get("general.type") == "adapter" or "adapter.type" in self.fields

    def of_model(self, name: str) -> Any:
        """A field that describes the model: a number, or several where layers differ; `None` where there is none."""
        return self.values(f"{self.architecture}.{name}")

    def values(self, name: str) -> Any:
        """What a field holds, a list as a list."""
        value = self.fields.get(name)
        if not isinstance(value, Values):
            return value
        with _mapped(self.path) as data:
            return _Reader(data, value.at).items(value)


def warn_of_a_hole(file: GgufFile) -> None:
    """Say so where a matrix holds a long stretch of zeros: a model with one computes, and writes nonsense.

    Nobody can tell it for certain from zeros that are meant. Rows of words that no text has may be zeros, so those
    matrices are left out.
    """
    step = max(LEAST_STEP, file.path.stat().st_size // MOST_LOOKS)
    with _mapped(file.path) as data:
        for name, tensor in file.tensors.items():
            if len(tensor.shape) < 2 or not name.startswith("blk."):
                continue
            places = range(file.data + tensor.start, file.data + tensor.end - LOOK, step)
            empty = [not any(data[at : at + LOOK]) for at in places]
            if any(map(all, pairwise(empty))):
                logger.warning(
                    "%s may be damaged: %s holds a long stretch of zeros, as where a download has left a hole; if the "
                    "model writes nonsense, download it again",
                    file.path,
                    name,
                )
                return


class _Broken(Exception):
    """Why a file is none that can be loaded, and what to do."""

    def __init__(self, why: str, advice: str = "download it again") -> None:
        super().__init__(f"{why}; {advice}")


def read_gguf(file: Path) -> GgufFile:
    """Read what the file says of itself; raises `ConfigurationError` for one that is broken or not whole."""
    try:
        with _mapped(file) as data:
            fields, tensors, start = _Reader(data).read()
    except (_Broken, ValueError) as error:  # a file of no bytes cannot be mapped
        why = error if isinstance(error, _Broken) else _Broken("it is empty")
        raise ConfigurationError(f"{file} is no whole GGUF file: {why}") from error
    return GgufFile(file, fields, tensors, start)


@contextmanager
def _mapped(file: Path) -> Iterator[mmap.mmap]:
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


class _Reader:
    def __init__(self, data: mmap.mmap, at: int = 0) -> None:
        self._data = data
        self._end = len(data)
        self._at = at

    def read(self) -> tuple[dict[str, Any], dict[str, Tensor], int]:
        """The fields and the tensors of a file that is whole, and where the tensors' data begins."""
        if self._bytes(4) != b"GGUF":
            raise _Broken("it does not begin as one")
        version = self._number("I")
        if version not in VERSIONS:
            raise _Broken(f"it says version {version}, and {' and '.join(map(str, VERSIONS))} can be read")
        counts = self._number("Q"), self._number("Q")
        fields: dict[str, Any] = {}
        for _ in range(self._count(counts[1], least=8 + 4 + 1)):
            name = self._text()
            fields[name] = self._value(self._number("I"))
        parts = fields.get("split.count", 1)
        if not isinstance(parts, int) or parts > 1:
            raise _Broken(f"it is one of {parts} parts", "join them with llama-gguf-split --merge")
        tensors: dict[str, Tensor] = {}
        end = 0
        for _ in range(self._count(counts[0], least=8 + 4 + 4 + 8)):
            name = self._text()
            tensors[name] = self._tensor()
            end = max(end, tensors[name].end)
        alignment = fields.get("general.alignment") or ALIGNMENT
        start = self._at + -self._at % alignment if isinstance(alignment, int) else self._end
        if start + end > self._end:
            raise _Broken("it ends before its last weights")
        if not isinstance(fields.get("general.architecture"), str) or not any(map(_weights, tensors.values())):
            raise _Broken("it holds no model")
        return fields, tensors, start

    def items(self, values: Values) -> list[Any]:
        """What a list holds, which was read over before."""
        if values.kind == TEXT:
            return self._texts(values.count)
        form = f"<{values.count}{FORMS[values.kind]}"
        return list(struct.unpack(form, self._bytes(struct.calcsize(form))))

    def _tensor(self) -> Tensor:
        dimensions = self._number("I")
        if dimensions > MOST_DIMENSIONS:
            raise _Broken(f"a tensor has {dimensions} dimensions")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        kind, start = self._number("I"), self._number("Q")
        if kind not in BLOCKS:
            raise _Broken(f"a tensor is of the unknown kind {kind}")
        of_block, bytes_of_block = BLOCKS[kind]
        return Tensor(kind, shape, start, start + prod(shape) // of_block * bytes_of_block)

    def _value(self, kind: int) -> Any:
        if kind == TEXT:
            return self._text()
        if kind != LIST:
            return self._number(self._form(kind))
        inner, count = self._number("I"), self._number("Q")
        values = Values(inner, count, self._at)
        if inner == TEXT:
            self._skip_texts(self._count(count, least=8))
        else:
            self._skip(count * struct.calcsize(f"<{self._form(inner)}"))
        return values

    def _skip_texts(self, count: int) -> None:
        """Go on behind so many texts: of a vocabulary, hundreds of thousands."""
        length, at = struct.Struct("<Q").unpack_from, self._at
        try:
            for _ in range(count):
                at += 8 + length(self._data, at)[0]
        except (struct.error, OverflowError) as error:
            raise _Broken("it ends too early") from error
        self._skip(at - self._at)

    def _texts(self, count: int) -> list[str]:
        """So many texts, which are known to be there."""
        length, at, data, texts = struct.Struct("<Q").unpack_from, self._at, self._data, list[str]()
        for _ in range(count):
            start = at + 8
            at = start + length(data, at)[0]
            texts.append(data[start:at].decode("utf-8", "replace"))
        self._at = at
        return texts

    def _form(self, kind: int) -> str:
        if kind not in FORMS:
            raise _Broken(f"a value is of the unknown kind {kind}")
        return FORMS[kind]

    def _count(self, count: int, *, least: int) -> int:
        """A count of things that take so many bytes at least."""
        if count * least > self._end - self._at:
            raise _Broken("it ends too early")
        return count

    def _number(self, form: str) -> Any:
        start = self._at
        self._skip(struct.calcsize(f"<{form}"))
        return struct.unpack_from(f"<{form}", self._data, start)[0]

    def _text(self) -> str:
        return self._bytes(self._number("Q")).decode("utf-8", "replace")

    def _bytes(self, count: int) -> bytes:
        start = self._at
        self._skip(count)
        return self._data[start : self._at]

    def _skip(self, count: int) -> None:
        self._at += count
        if self._at > self._end:
            raise _Broken("it ends too early")


def _weights(tensor: Tensor) -> int:
    return prod(tensor.shape)
