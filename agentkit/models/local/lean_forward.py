"""The forward of the Llama family for a few tokens on a processor: their products and little around them.

A model's own forward serves every device, mask and kind of output; for one token of a small model that costs as much as
its products.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from agentkit.models.local.packed_products import FewTokens, Product

FAMILY = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
"""The types of models that compute so, and what their classes' names begin with in transformers."""
OF_TORCH = (nn.Linear, nn.Embedding, nn.ModuleList, nn.SiLU, nn.GELU, nn.ReLU)
"""The modules of torch's that they are made of."""


class LeanForward(FewTokens):
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
        self._head = Product(model.lm_head)
        products = [*(product for layer in self._layers for product in layer.products), self._head]
        super().__init__(products, is_trusted=False)

    def __call__(self, rows: Sequence[Sequence[int]], cache: Any, **places: torch.Tensor) -> torch.Tensor:
        """With several rows, of one token each, the mask and the positions are those of the model's own forward."""
        ids = torch.tensor(rows)
        tokens, known = ids.shape[1], cache.get_seq_length()
        positions = places.get("position_ids", torch.arange(known, known + tokens)[None])
        mask = None
        if "attention_mask" in places:
            mask = places["attention_mask"].bool()[:, None, None]
        elif tokens > 1:
            mask = torch.ones(tokens, known + tokens, dtype=torch.bool).tril(known)[None, None]
        states = functional.embedding(ids, self._embedding.weight).float()
        cos, sin = (each[:, :, None] for each in self._rotary(states, positions))
        half = sin.shape[-1] // 2
        sin = torch.cat((-sin[..., :half], sin[..., half:]), -1)
        for layer, kept in zip(self._layers, cache.layers, strict=True):
            states = layer(states, cos, sin, mask, kept)
        return self._head(_normed(self._norm, states[:, -1]))


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
    kind, hooks = type(module), module._forward_hooks or module._forward_pre_hooks
    ours = kind.__module__ in (home, "transformers.activations") or kind in OF_TORCH
    own_forward = "forward" not in vars(module) and kind.forward.__module__.startswith(("torch.", "transformers."))
    return ours and own_forward and not hooks and not module.training


class _Layer:
    """One layer of the decoder."""

    def __init__(self, layer: Any) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self._before_attention, self._before_mlp = layer.input_layernorm, layer.post_attention_layernorm
        self._of_queries, self._of_keys = getattr(attention, "q_norm", None), getattr(attention, "k_norm", None)
        self._size, self._scaling = attention.head_dim, attention.scaling
        self._heads = attention.q_proj.out_features // self._size
        self._key_heads = attention.k_proj.out_features // self._size
        self._qkv = Product(attention.q_proj, attention.k_proj, attention.v_proj)
        self._out = Product(attention.o_proj)
        self._gate_up, self._down = Product(mlp.gate_proj, mlp.up_proj), Product(mlp.down_proj)
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


def _normed(norm: Any, states: torch.Tensor) -> torch.Tensor:
    weight = norm.weight.float()
    return functional.rms_norm(states, weight.shape, weight, norm.variance_epsilon)
