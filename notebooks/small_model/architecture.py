"""The shape of the built-in model and its structured initialisation.

A plain Llama of about two million parameters.  What it must do best is copy: names and numbers from the question
and the observations into the next action.  So two attention layers start as a working induction circuit instead of
noise (Olsson et al. 2022, "In-context Learning and Induction Heads"); everything stays trainable.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

HIDDEN, LAYERS, HEADS, HEAD_DIM, FFN = 192, 5, 6, 32, 512
EMBEDDED = 128  # dimensions that hold the token itself; the rest start empty and receive the previous tokens
ROPE_THETA = 1e6
EMBEDDING_STD = 0.07
SLOW_PAIRS = range(8, 16)  # rotary pairs slow enough to compare contents 500 tokens apart


def configuration(vocab_size: int, bos: int, eos: int, pad: int) -> LlamaConfig:
    """The model's configuration."""
    from transformers import LlamaConfig

    return LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=HIDDEN,
        intermediate_size=FFN,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD_DIM,
        max_position_embeddings=2048,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        tie_word_embeddings=True,
        bos_token_id=bos,
        eos_token_id=eos,
        pad_token_id=pad,
    )


def new_model(config: LlamaConfig, seed: int) -> LlamaForCausalLM:
    """A model with the induction circuit in place; its other parts begin silent (zero output matrices)."""
    import torch
    from transformers import LlamaForCausalLM

    torch.manual_seed(seed)
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        _embed(model)
        read = torch.randn(HEAD_DIM, EMBEDDED - 1) / (EMBEDDED - 1) ** 0.5
        for head, offset in enumerate((1, 2)):
            _previous_token_head(model.model.layers[0].self_attn, head, offset, read)
        basis = torch.linalg.qr(torch.randn(EMBEDDED, EMBEDDED)).Q
        for head in range(4):
            _induction_head(model.model.layers[1].self_attn, head, read, basis[:, 32 * head : 32 * head + 32])
    return model


def _embed(model: LlamaForCausalLM) -> None:
    """Random token codes in the first dimensions, a constant in dimension 0, nothing in the rest."""
    weight = model.model.embed_tokens.weight  # (vocabulary, HIDDEN)
    weight.normal_(0, EMBEDDING_STD)
    weight[:, 0] = 2 * EMBEDDING_STD
    weight[:, EMBEDDED:] = 0


def _previous_token_head(attention: torch.nn.Module, head: int, offset: int, read: torch.Tensor) -> None:
    """Attend to the token `offset` places back (through the rotary phase) and write its code behind EMBEDDED."""
    import torch

    rows = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
    half = HEAD_DIM // 2
    phase = offset * ROPE_THETA ** (-torch.arange(half) / half)
    query, key = torch.zeros(HEAD_DIM, HIDDEN), torch.zeros(HEAD_DIM, HIDDEN)
    strength = 3.9
    query[:half, 0] = strength
    key[:half, 0], key[half:, 0] = strength * phase.cos(), strength * phase.sin()
    value = torch.zeros(HEAD_DIM, HIDDEN)
    value[:, 1:EMBEDDED] = read
    attention.q_proj.weight[rows], attention.k_proj.weight[rows] = query, key
    attention.v_proj.weight[rows] = value
    start = EMBEDDED + HEAD_DIM * head
    attention.o_proj.weight[start : start + HEAD_DIM, rows] = EMBEDDING_STD * torch.eye(HEAD_DIM)


def _induction_head(attention: torch.nn.Module, head: int, read: torch.Tensor, span: torch.Tensor) -> None:
    """Attend to what followed the last two tokens where they stood before, and copy its code along `span`."""
    import torch

    rows = slice(HEAD_DIM * head, HEAD_DIM * (head + 1))
    slow = [*SLOW_PAIRS, *(HEAD_DIM // 2 + pair for pair in SLOW_PAIRS)]
    one, two = (torch.randn(len(slow), HEAD_DIM) / HEAD_DIM**0.5 for _ in range(2))
    previous, before = slice(EMBEDDED, EMBEDDED + 32), slice(EMBEDDED + 32, EMBEDDED + 64)
    strength = 3.5
    query, key = torch.zeros(HEAD_DIM, HIDDEN), torch.zeros(HEAD_DIM, HIDDEN)
    query[slow, 1:EMBEDDED], query[slow, previous] = strength * one @ read, strength * 0.7 * two
    key[slow, previous], key[slow, before] = strength * one, strength * 0.7 * two
    attention.q_proj.weight[rows], attention.k_proj.weight[rows] = query, key
    value = torch.zeros(HEAD_DIM, HIDDEN)
    value[:, :EMBEDDED] = span.T
    attention.v_proj.weight[rows] = value
    attention.o_proj.weight[:EMBEDDED, rows] = 0.35 * span
