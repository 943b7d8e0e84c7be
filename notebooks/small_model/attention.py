"""Attention for training: torch's CPU flash kernel runs twice as fast in float32 as in bfloat16 (2.13, AMX machine)."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "float32_causal"


def float32_causal(
    module: torch.nn.Module, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: Any, **options: Any
) -> tuple[torch.Tensor, None]:
    """Causal attention outside autocast: (batch, heads, tokens, width) to (batch, tokens, heads, width)."""
    with torch.autocast("cpu", enabled=False):
        mixed = scaled_dot_product_attention(query.float(), key.float(), value.float(), is_causal=True)
    return mixed.transpose(1, 2).contiguous(), None


def use_float32_attention(model: torch.nn.Module) -> None:
    """Switch `model` to it; only for right-padded training batches, since masks are ignored."""
    AttentionInterface.register(NAME, float32_causal)
    model.set_attn_implementation(NAME)
