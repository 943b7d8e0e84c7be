"""Reuse of attention caches and recurrent states, architecture by architecture: the logits are those of no cache."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit.models.local.attention_cache import BatchCache
from agentkit.models.local.forward import Forward
from agentkit.models.local.prefix_cache import CachedPrefix, PrefixCache

VOCABULARY = 64
SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
LINEAR = {
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 2,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 16,
    "shared_expert_intermediate_size": 16,
}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
JAMBA = {"num_experts": 2, "mamba_d_state": 8, "use_mamba_kernels": False, "attn_layer_period": 2}
PER_LAYER = {"vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 8}
LONGROPE = {"rope_type": "longrope", "rope_theta": 10000.0, "short_factor": [1.0] * 4, "long_factor": [4.0] * 4}

# model type, what differs from SHAPE, what its cache may be used for
ARCHITECTURES: list[tuple[str, dict[str, Any], str]] = [
    ("llama", {}, "crop"),
    ("qwen3", {}, "crop"),
    ("mistral", {"sliding_window": 6}, "crop"),
    ("gemma2", {"sliding_window": 6}, "crop"),
    ("gemma3_text", {"sliding_window": 6}, "crop"),
    ("gemma4_text", {"sliding_window": 6, **PER_LAYER}, "crop"),
    ("gpt2", {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128}, "crop"),
    ("bloom", {"n_layer": 4, "n_head": 4}, "crop"),
    ("gpt_oss", {"sliding_window": 6, "num_local_experts": 4, "num_experts_per_tok": 2}, "crop"),
    ("llama4_text", {"attention_chunk_size": 6, "num_local_experts": 2, "intermediate_size_mlp": 64}, "crop"),
    ("phi3", {"rope_parameters": {**LONGROPE, "original_max_position_embeddings": 20}}, "crop"),
    ("qwen3_next", LINEAR, "extend"),
    ("lfm2", {"layer_types": ["conv", "full_attention"] * 2}, "extend"),
    ("granitemoehybrid", {"layer_types": ["mamba", "attention"] * 2, "num_local_experts": 0, **MAMBA}, "extend"),
    ("mamba2", {"state_size": 8, "num_heads": 8, "n_groups": 2, "chunk_size": 8}, "extend"),
    ("mamba", {"state_size": 8}, "none"),
    ("falcon_mamba", {"state_size": 8}, "none"),
    ("jamba", {**JAMBA, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1}, "none"),
    ("recurrent_gemma", {"lru_width": 32, "attention_window_size": 8, "num_hidden_layers": 3}, "none"),
]
BATCHED = [(name, changes) for name, changes, reuse in ARCHITECTURES if reuse == "crop"]


@cache
def llama() -> Any:
    return tiny("llama", {})


@cache
def named(model_type: str) -> Any:
    return tiny(*next((name, changes) for name, changes, _ in ARCHITECTURES if name == model_type))


def tiny(model_type: str, changes: dict[str, Any]) -> Any:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(CONFIG_MAPPING[model_type](**{**SHAPE, **changes})).eval()


def expected(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return model(input_ids=torch.tensor([ids]), use_cache=False).logits[:, -1]


def assert_same(logits: Any, wanted: Any) -> None:
    assert (logits - wanted).abs().max() <= 2e-4 * wanted.abs().max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_type", "changes", "reuse"), ARCHITECTURES, ids=[a[0] for a in ARCHITECTURES])
def test_logits_are_those_of_no_cache(model_type: str, changes: dict[str, Any], reuse: str) -> None:
    model = tiny(model_type, changes)
    forward = Forward(model)
    assert forward.reuse == reuse
    prefixes = PrefixCache(forward.reuse)
    run = [(7 * n + n * n) % VOCABULARY for n in range(60)]
    prompts = [
        run[:16],
        run[:25],
        [*run[:22], 5, 6, 7],
        run[:17],
        run[:40],
        [9, 8, 7],
        run[:41],
    ]  # go on, turn back, start anew
    for prompt in prompts:
        ids = list(prompt)
        known, computed = prefixes.take(ids)
        if not forward.can_reuse_at(len(ids)):
            known, computed = None, 0
        for _ in range(5):
            if forward.outdates(computed, len(ids)):
                known, computed = None, 0
            logits, known = forward(ids, computed, known)
            assert_same(logits, expected(model, ids))
            computed = len(ids)
            ids.append(int(logits.argmax()))
        prefixes.put(CachedPrefix(ids[:computed], known, len(prompt)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("model_type", "changes"), BATCHED, ids=[a[0] for a in BATCHED])
def test_rows_of_a_batch_have_the_logits_they_have_alone(model_type: str, changes: dict[str, Any]) -> None:
    import torch

    model = tiny(model_type, changes)
    forward = Forward(model)
    if not forward.can_batch:
        pytest.skip("decodes one by one")
    rows = [[(3 * n + row) % VOCABULARY for n in range(length)] for row, length in enumerate((4, 11, 7))]
    batch = BatchCache()
    batch.add([(number, forward(ids, 0, None)[1]) for number, ids in enumerate(rows)])
    for step in range(6):
        for ids in rows:
            ids.append((len(ids) * 5 + step) % VOCABULARY)
        logits = forward.batch([ids[-1] for ids in rows], batch)
        for number, ids in enumerate(rows):
            assert_same(logits[number : number + 1], expected(model, ids))
    for number, ids in enumerate(rows):
        alone = forward([*ids, 3], len(ids), batch.remove(number))[0]
        assert_same(alone, expected(model, [*ids, 3]))
        assert torch.isfinite(alone).all()


@pytest.mark.slow
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(3, 5), min_size=1, max_size=12), min_size=1, max_size=12))
def test_any_sequence_of_prompts_is_exact(prompts: list[list[int]]) -> None:
    model = llama()
    forward = Forward(model)
    prefixes = PrefixCache("crop", max_conversations=3, max_tokens=40)
    for ids in prompts:
        known, computed = prefixes.take(ids)
        assert computed < len(ids)
        logits, known = forward(ids, computed, known)
        assert_same(logits, expected(model, ids))
        prefixes.put(CachedPrefix(ids, known, max(1, len(ids) - 3)))
        assert prefixes.tokens <= 40


@pytest.mark.slow
def test_rows_of_a_batch_come_and_go() -> None:
    """Longer and shorter ones, so that buffers move and places are taken over."""
    model = llama()
    forward, batch = Forward(model), BatchCache()
    rows: dict[int, list[int]] = {}
    for step in range(40):
        if step % 3 == 0:
            ids = [(5 * step + n) % VOCABULARY for n in range(3 + (17 * step) % 60)]
            batch.add([(step, forward(ids, 0, None)[1])])
            rows[step] = ids
        if step % 5 == 4:
            leaving = batch.owners[(7 * step) % len(batch.owners)]
            ids = rows.pop(leaving)
            assert_same(forward([*ids, 9], len(ids), batch.remove(leaving))[0], expected(model, [*ids, 9]))
        for ids in rows.values():
            ids.append((len(ids) * 5 + step) % VOCABULARY)
        logits = forward.batch([rows[owner][-1] for owner in batch.owners], batch)
        for number, owner in enumerate(batch.owners):
            assert_same(logits[number : number + 1], expected(model, rows[owner]))
