"""The forward of the Llama family for a few tokens on a processor: their products and little around them.

A model's own forward serves every device, mask and kind of output; for one token of a small model that costs as much as
its products. And torch multiplies a matrix by one vector no faster than it reads 32 bits for each weight. Here the
matrices stand packed in 16 bits, which FBGEMM reads several times as fast and multiplies in float32. They are packed
where that changes nothing: weights that were stored in 16 bits, whatever they were loaded as.
"""

from __future__ import annotations

import copy
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from agentkit.models.local.loading import free_bytes

FAMILY = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""The types of models that compute so, and what their classes' names begin with in transformers."""
OF_TORCH = (nn.Linear, nn.Embedding, nn.ModuleList, nn.SiLU, nn.GELU, nn.ReLU)
"""The modules of torch's that they are made of."""
MOST_TOKENS = 16  # of all rows together; more are cheaper in the model's own forward
LEAST_PACKED = 2**17  # weights multiplied at once; fewer stay in the processor's cache as they are
PIECE = 2**21  # weights packed together: larger ones take longer for each weight
PACKING_STEPS = 16  # the steps over which packing is spread; it takes as long as twenty to forty of them
COMPARED = 2**17  # weights at once, which need no new memory of the operating system's
FLOAT32_ROUNDING = 2.0**-24
TOLERANCE = {torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 2e-1}
"""How far, of their norm, its logits may be from those of the model's own forward, which rounds to these numbers."""


class LeanForward:
    """Computes what the model's own forward does, from the model's own weights. The model stays as it is.

    Everything is computed in float32, whatever the weights are; keys and values are kept in the cache's own numbers.
    """

    def __init__(self, model: Any) -> None:
        """`model` is one that `is_lean` is true of."""
        decoder, config = model.model, model.config
        self._embedding = decoder.embed_tokens
        self._rotary = decoder.rotary_emb
        self._layers = [_Layer(layer) for layer in decoder.layers[: config.num_hidden_layers]]
        self._norm = decoder.norm
        self._head = _Product(model.lm_head)
        products = [*(product for layer in self._layers for product in layer.products), self._head]
        self._packing = self._pack(products)
        self.is_trusted = False
        """Whether it was seen to give what the model's own forward gives."""

    def __call__(
        self,
        ids: torch.Tensor,
        cache: Any,
        *,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The logits (rows, vocabulary) after `ids` (rows, tokens), whose keys and values go into `cache`.

        With several rows, of one token each, the mask and the positions are those of the model's own forward.
        """
        tokens, known = ids.shape[1], cache.get_seq_length()
        if position_ids is None:
            position_ids = torch.arange(known, known + tokens)[None]
        mask = None if attention_mask is None else attention_mask.bool()[:, None, None]
        if mask is None and tokens > 1:
            mask = torch.ones(tokens, known + tokens, dtype=torch.bool).tril(known)[None, None]
        states = functional.embedding(ids, self._embedding.weight).float()
        cos, sin = (each[:, :, None] for each in self._rotary(states, position_ids))
        half = sin.shape[-1] // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)
        for layer, kept in zip(self._layers, cache.layers, strict=True):
            states = layer(states, cos, sin, mask, kept)
        return self._head(_normed(self._norm, states[:, -1]))

    def agrees(self, ids: torch.Tensor, cache: Any, logits: torch.Tensor, **places: torch.Tensor) -> bool:
        """Whether it gives the `logits` that the model's own forward has given, which filled `cache`."""
        with torch.inference_mode():
            before = copy.deepcopy(cache)
            before.crop(-ids.shape[1])
            try:
                difference = self(ids, before, **places) - logits
            except Exception:  # what it cannot compute, the model itself can
                return False
            self.is_trusted = bool(difference.norm() <= TOLERANCE[logits.dtype] * logits.float().norm())
        return self.is_trusted

    def pack(self) -> None:
        """Pack a part of the weights, while any are left; what they give is to be compared again."""
        if next(self._packing, False):
            self.is_trusted = False

    def _pack(self, products: list[_Product]) -> Iterator[bool]:
        """Pack, a part at each step; yields whether all is packed now."""
        packs = torch.backends.quantized.engine in ("x86", "fbgemm")  # others have no products of this kind
        if not packs or 2 * sum(product.packed_bytes for product in products) > free_bytes("cpu"):
            return
        at_once = -(-sum(product.pieces for product in products) // PACKING_STEPS)
        pieces = itertools.chain.from_iterable(product.pack() for product in products)
        while list(itertools.islice(pieces, at_once)):
            yield False
        yield any(product.is_packed for product in products)


def is_lean(model: Any) -> bool:
    """Whether a model is of the family, on this processor, and with nothing in it that its class does not put there."""
    kind = getattr(model.config, "model_type", "")
    home = f"transformers.models.{kind}.modeling_{kind}"
    if kind not in FAMILY or type(model) is not getattr(sys.modules.get(home), f"{FAMILY[kind]}ForCausalLM", None):
        return False
    if model.config._attn_implementation not in ("sdpa", "eager") or getattr(model.config, "sliding_window", None):
        return False
    dtypes = {(each.device.type, each.dtype, type(each)) for each in model.parameters()}
    if dtypes not in [{("cpu", dtype, nn.Parameter)} for dtype in (torch.float32, torch.bfloat16, torch.float16)]:
        return False
    return all(_is_untouched(module, home) for module in model.modules())


def _is_untouched(module: nn.Module, home: str) -> bool:
    """Whether a module computes as its class says, which is one of the model's or of torch's."""
    ours = type(module).__module__ in (home, "transformers.activations") or type(module) in OF_TORCH
    hooks = module._forward_hooks or module._forward_pre_hooks
    return ours and not hooks and not module.training and "forward" not in vars(module)


class _Layer:
    """One layer of the decoder."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._before_attention, self._before_mlp = layer.input_layernorm, layer.post_attention_layernorm
        self._of_queries, self._of_keys = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        self._size, self._scaling = attention.head_dim, attention.scaling
        self._heads = attention.q_proj.out_features // self._size
        self._key_heads = attention.k_proj.out_features // self._size
        self._qkv = _Product(attention.q_proj, attention.k_proj, attention.v_proj)
        self._out = _Product(attention.o_proj)
        self._gate_up, self._down = _Product(mlp.gate_proj, mlp.up_proj), _Product(mlp.down_proj)
        self._activation = mlp.act_fn
        self.products = self._qkv, self._out, self._gate_up, self._down

    def __call__(
        self, states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor | None, kept: Any
    ) -> torch.Tensor:
        states = states + self._attention(_normed(self._before_attention, states), cos, sin, mask, kept)
        gate, up = self._gate_up(_normed(self._before_mlp, states)).chunk(2, -1)
        return states + self._down(self._activation(gate) * up)

    def _attention(
        self, states: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor | None, kept: Any
    ) -> torch.Tensor:
        rows, tokens, _ = states.shape
        heads, values = self._heads, self._key_heads
        states = self._qkv(states).view(rows, tokens, heads + 2 * values, self._size)
        turned, new_values = states[:, :, : heads + values], states[:, :, heads + values :]
        if self._of_queries is not None:
            parts = _normed(self._of_queries, turned[:, :, :heads]), _normed(self._of_keys, turned[:, :, heads:])
            turned = torch.cat(parts, 2)
        turned = torch.addcmul(turned * cos, turned.roll(self._size // 2, -1), sin)
        keys, all_values = kept.update(turned[:, :, heads:].transpose(1, 2), new_values.transpose(1, 2))
        # the heads that share keys are as many queries to them
        shared = heads // values
        queries = turned[:, :, :heads].view(rows, tokens, values, shared, self._size).permute(0, 2, 3, 1, 4)
        queries = queries.reshape(rows, values, shared * tokens, self._size)
        if mask is not None and tokens > 1:
            mask = mask.repeat(1, 1, shared, 1)
        found = functional.scaled_dot_product_attention(
            queries, keys.float(), all_values.float(), attn_mask=mask, scale=self._scaling
        )
        found = found.view(rows, values, shared, tokens, self._size).permute(0, 3, 1, 2, 4)
        return self._out(found.reshape(rows, tokens, heads * self._size))


class _Product:
    """The products of one vector with the matrices of some layers, one after the other; packed, they are one."""

    def __init__(self, *linears: Any) -> None:
        self._linears = linears
        self._packed: list[Any] = []
        weights = sum(linear.weight.numel() for linear in linears)
        self.pieces = 0 if weights < LEAST_PACKED else -(-weights // PIECE)

    def __call__(self, states: torch.Tensor) -> torch.Tensor:
        if self._packed:
            multiply = torch.ops.quantized.linear_dynamic_fp16.default
            return _joined([multiply(states, piece) for piece in self._packed])
        states = states.to(self._linears[0].weight.dtype)
        return _joined([functional.linear(states, each.weight, each.bias) for each in self._linears]).float()

    @property
    def is_packed(self) -> bool:
        """Whether its weights stand in 16 bits."""
        return bool(self._packed)

    @property
    def packed_bytes(self) -> int:
        """How much memory its packed weights take."""
        return 2 * sum(linear.weight.numel() for linear in self._linears) if self.pieces else 0

    def pack(self) -> Iterator[None]:
        """Pack the weights piece by piece, if 16 bits hold them all."""
        packed = []
        for weight, bias in self._split() if self.pieces else ():
            weight = weight.float()
            if not all(map(_fits_16_bits, weight.flatten().split(COMPARED))):  # type: ignore[no-untyped-call]
                return
            packed.append(torch.ops.quantized.linear_prepack_fp16(weight, bias))
            yield
        self._packed = packed

    def _split(self) -> Iterator[tuple[torch.Tensor, torch.Tensor | None]]:
        weights = _joined([linear.weight for linear in self._linears], 0)
        biases = [linear.bias for linear in self._linears]
        bias = None if biases[0] is None else _joined(biases, 0).float()
        size = -(-weights.shape[0] // self.pieces)
        for start in range(0, weights.shape[0], size):
            piece = slice(start, start + size)
            yield weights[piece], None if bias is None else bias[piece]


def _fits_16_bits(weight: torch.Tensor) -> bool:
    """Whether float16 has the same weights, or none that differ by more in sum than float32's own rounding."""
    rounded = weight.half().float()
    return torch.equal(rounded, weight) or bool((rounded - weight).abs().sum() <= FLOAT32_ROUNDING * weight.abs().sum())


def _joined(parts: list[torch.Tensor], dimension: int = -1) -> torch.Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts, dimension)


def _normed(norm: Any, states: torch.Tensor) -> torch.Tensor:
    weight = norm.weight.float()
    return functional.rms_norm(states, weight.shape, weight, norm.variance_epsilon)
