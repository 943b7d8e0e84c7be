"""Products of weights with a few vectors on a processor, for which the weights are packed in 16 bits.

torch multiplies a matrix by one vector no faster than it reads 32 bits for each weight. FBGEMM, which is part of it,
reads 16 bits several times as fast and multiplies them in float32. Weights are packed where that changes nothing: those
that were stored in 16 bits, whatever they were loaded as. The model keeps its own.
"""

from __future__ import annotations

import copy
import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from agentkit.models.local.loading import free_bytes

MOST_TOKENS = 16  # of all rows together; more are cheaper in the model's own forward
LEAST_PACKED = 2**17  # weights multiplied at once; fewer stay in the processor's cache as they are
LEAST_WATCHED = 2**24  # weights of a model for which it pays to look at every operation for its products
PIECE = 2**21  # weights packed together: larger ones take longer for each weight
PACKING_STEPS = 16  # the steps over which packing is spread; it takes as long as twenty to forty of them
COMPARED = 2**16  # weights at once, which need no new memory of the operating system's
FLOAT32_ROUNDING = 2.0**-24
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""How far, of their norm, logits may be from those of the model's own forward, which rounds to these numbers."""


class FewTokens(ABC):
    """Computes a few tokens faster than the model's own forward, and is compared with it before it is trusted."""

    def __init__(self, products: Sequence[Product], *, is_trusted: bool) -> None:
        self._packing = _pack(products)
        self.is_trusted = is_trusted
        """Whether it is known to give what the model's own forward gives."""

    @abstractmethod
    def __call__(self, rows: Sequence[Sequence[int]], cache: Any, **places: torch.Tensor) -> torch.Tensor:
        """The logits (rows, vocabulary) after the tokens of each row, whose keys and values go into `cache`."""

    def agrees(self, rows: Sequence[Sequence[int]], cache: Any, logits: torch.Tensor, **places: torch.Tensor) -> bool:
        """Whether it gives the `logits` that the model's own forward has given, which filled `cache`."""
        with torch.inference_mode():
            before = copy.deepcopy(cache)
            before.crop(-len(rows[0]))
            try:
                difference = self(rows, before, **places) - logits
            except Exception:  # what it cannot compute, the model itself can
                return False
            self.is_trusted = bool(difference.norm() <= TOLERANCE[logits.dtype] * logits.float().norm())
        return self.is_trusted

    def pack(self) -> None:
        """Pack a part of the weights, while any are left; what they give is to be compared again."""
        if next(self._packing, False):
            self.is_trusted = False


class PackedForward(FewTokens):
    """The model's own forward, whatever it is, in which the products with packed weights are computed with those."""

    def __init__(self, model: Any, forward: Callable[..., torch.Tensor]) -> None:
        """`model` is one that `has_products` is true of."""
        self._forward = forward
        linears = {id(linear.weight): linear for linear in _linears(model)}
        products = [Product(linear) for linear in linears.values()]
        super().__init__(products, is_trusted=True)
        self._products = _InProducts(products)

    def __call__(self, rows: Sequence[Sequence[int]], cache: Any, **places: torch.Tensor) -> torch.Tensor:
        with self._products:
            return self._forward(rows, cache, **places)


class _InProducts(TorchFunctionMode):
    """Stands in for torch's products, in this thread and while it is entered."""

    def __init__(self, products: Sequence[Product]) -> None:
        super().__init__()
        self._products = {id(product.weight): product for product in products}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.linear and not kwargs:
            states, weight, bias = (*args, None)[:3]
            product = self._products.get(id(weight))
            if product is not None and product.is_packed and bias is product.bias:
                return product(states.float()).to(states.dtype)
        return func(*args, **(kwargs or {}))


def has_products(model: Any) -> bool:
    """Whether a model has enough weights that can be packed, and nothing compiled, which no product can be seen of."""
    modules = list(model.modules())
    if any(module._compiled_call_impl is not None or "_orig_mod" in module._modules for module in modules):
        return False
    return sum(int(linear.weight.numel()) for linear in _linears(model)) >= LEAST_WATCHED


def _linears(model: Any) -> Iterator[Any]:
    for module in model.modules():
        if type(module) is not nn.Linear or type(weight := module.weight) is not nn.Parameter:
            continue
        if weight.device.type == "cpu" and weight.dtype in TOLERANCE and weight.numel() >= LEAST_PACKED:
            yield module


def _pack(products: Sequence[Product]) -> Iterator[bool]:
    """Pack, a part at each step; yields whether all is packed now."""
    packs = torch.backends.quantized.engine in ("x86", "fbgemm")  # others have no products of this kind
    if not packs or 2 * sum(product.packed_bytes for product in products) > free_bytes("cpu"):
        return
    at_once = -(-sum(product.pieces for product in products) // PACKING_STEPS)
    room = torch.empty(max(product.piece_size for product in products))  # new memory for each would take as long again
    pieces = itertools.chain.from_iterable(product.pack(room) for product in products)
    while list(itertools.islice(pieces, at_once)):
        yield False
    yield any(product.is_packed for product in products)


class Product:
    """The products of one vector with the matrices of some layers, one after the other; packed, they are one."""

    def __init__(self, *linears: Any) -> None:
        self._linears = linears
        self._packed: list[Any] = []
        self.weight, self.bias = linears[0].weight, linears[0].bias
        self._height, self._width = sum(linear.out_features for linear in linears), linears[0].in_features
        weights = self._height * self._width
        self.pieces = 0 if weights < LEAST_PACKED else -(-weights // PIECE)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if self._packed:
            multiply = torch.ops.quantized.linear_dynamic_fp16.default
            return joined([multiply(states, piece) for piece in self._packed])
        states = states.to(self._linears[0].weight.dtype)
        return joined([functional.linear(states, each.weight, each.bias) for each in self._linears]).float()

    @property
    def is_packed(self) -> bool:
        """Whether its weights stand in 16 bits."""
        return bool(self._packed)

    @property
    def packed_bytes(self) -> int:
        """How much memory its packed weights take."""
        return 2 * self._height * self._width if self.pieces else 0

    @property
    def piece_size(self) -> int:
        """How many weights are packed together."""
        return -(-self._height // self.pieces) * self._width if self.pieces else 0

    def pack(self, room: torch.Tensor) -> Iterator[None]:
        """Pack the weights piece by piece, each of them put into `room` before, if 16 bits hold them all."""
        packed = []
        for weight, bias in self._split(room) if self.pieces else ():
            if not all(map(_fits_16_bits, weight.flatten().split(COMPARED))):  # type: ignore[no-untyped-call]
                return
            packed.append(torch.ops.quantized.linear_prepack_fp16(weight, bias))
            yield
        self._packed = packed

    def _split(self, room: torch.Tensor) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        bias = None if self.bias is None else joined([linear.bias for linear in self._linears]).float()
        size = self.piece_size // self._width
        for start in range(0, self._height, size):
            stop, first, parts = min(start + size, self._height), 0, []
            for linear in self._linears:
                parts.append(linear.weight[max(start - first, 0) : max(stop - first, 0)])
                first += linear.out_features
            weight = torch.cat(parts, out=room[: (stop - start) * self._width].view(-1, self._width))
            yield weight, None if bias is None else bias[start:stop]


def _fits_16_bits(weight: torch.Tensor) -> bool:
    """Whether float16 has the same weights, or none that differ by more in sum than float32's own rounding."""
    rounded = weight.half().float()
    return torch.equal(rounded, weight) or bool((rounded - weight).abs().sum() <= FLOAT32_ROUNDING * weight.abs().sum())


def joined(parts: list[torch.Tensor]) -> torch.Tensor:
    """The same numbers one after the other."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, -1)
