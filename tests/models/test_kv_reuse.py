"""Reuse of attention caches and recurrent states, architecture by architecture: the logits are those of no cache."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit import chat_model
from agentkit.errors import ModelError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.fallbacks import WithFallbacks
from agentkit.models.local.attention_cache import BatchCache
from agentkit.models.local.backend import LocalBackend
from agentkit.models.local.forward import Forward
from agentkit.models.local.prefix_cache import CachedPrefix, PrefixCache

from .conftest import build_llama, build_tokenizer

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


# -- nothing that was computed outlives the weights it was computed with -----------------------------------------------


def trained(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=5.0)
    model(input_ids=torch.tensor([[1, 2, 3, 4]]), labels=torch.tensor([[5, 6, 7, 8]])).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def by_hand(model: Any) -> None:
    """Which torch does not count."""
    for parameter in model.parameters():
        parameter.data *= 1.5


def loaded(model: Any, *, assign: bool) -> None:
    other = build_llama(build_tokenizer(), seed=5)
    model.load_state_dict(other.state_dict(), assign=assign)


def replaced(model: Any) -> None:
    model.model.layers[0].mlp = build_llama(build_tokenizer(), seed=6).model.layers[0].mlp


def steered(model: Any) -> None:
    model.model.layers[0].register_forward_hook(lambda _module, _inputs, output: output * 1.5)


def layer_by_hand(model: Any) -> None:
    model.model.layers[1].self_attn.v_proj.weight.data.mul_(-2)


def sharpened(model: Any) -> None:
    for layer in model.model.layers:
        layer.self_attn.scaling *= 8


def flattened(model: Any) -> None:
    for layer in model.model.layers:
        layer.input_layernorm.variance_epsilon = 1.0


def with_another_forward(model: Any) -> None:
    mlp = model.model.layers[0].mlp
    mlp.forward = lambda states, own=mlp.forward: -3 * own(states)


class Halved(torch.nn.Linear):
    def forward(self, states: Any) -> Any:
        return super().forward(states) / 2


def of_another_class(model: Any) -> Any:
    model.model.layers[0].mlp.down_proj.__class__ = Halved
    return model


CHANGES: dict[str, Callable[[Any], Any]] = {
    "a setting of its attention": sharpened,
    "a setting of its norms": flattened,
    "another forward": with_another_forward,
    "another class": of_another_class,
    "its rotary embedding": lambda model: model.model.rotary_emb.inv_freq.mul_(3),
    "a setting of its rotary embedding": lambda model: setattr(model.model.rotary_emb, "attention_scaling", 3.0),
    "a step of training": trained,
    "all weights by hand": by_hand,
    "one weight by hand": layer_by_hand,
    "load_state_dict": partial(loaded, assign=False),
    "load_state_dict(assign=True)": partial(loaded, assign=True),
    "another dtype": lambda model: model.bfloat16(),
    "another module": replaced,
    "a hook": steered,
    "weights drawn anew": lambda model: model.model.layers[0].self_attn.k_proj.reset_parameters(),
}
LORA = {"r": 4, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"], "init_lora_weights": False}


def rescaled(model: Any) -> None:
    for module in model.modules():
        if hasattr(module, "set_scale"):
            module.set_scale("first", 9.0)


def another_adapter(model: Any) -> None:
    import peft

    model.add_adapter("third", peft.LoraConfig(**LORA))
    model.set_adapter("third")
    model.eval()


CHANGES_OF_ADAPTERS: dict[str, Callable[[Any], Any]] = {
    "set_adapter": lambda model: model.set_adapter("second"),
    "disable_adapter": lambda model: model.base_model.disable_adapter_layers(),
    "a new adapter": another_adapter,
    "its strength": rescaled,
    "merge_and_unload": lambda model: model.merge_and_unload(),
    "its own training": trained,
    "delete_adapter": lambda model: model.delete_adapter("first"),
}
CONVERSATION = [{"role": "user", "content": "A question whose beginning is worth keeping: who was it, and why?"}]


def reply(backend: LocalBackend) -> tuple[str, int]:
    """Its text, and how many tokens of its prompt were known."""
    options = {"max_new_tokens": 12, "do_sample": False}
    chunks = list(backend.generate_chat(ChatRequest(messages=CONVERSATION, options=options)))
    return "".join(chunk.text for chunk in chunks), chunks[-1].usage.cached_tokens  # type: ignore[union-attr]


def check_a_change(model: Any, change: Callable[[Any], Any]) -> None:
    backend = LocalBackend(model, build_tokenizer())
    first = reply(backend)[0]
    assert (reply(backend)[0], reply(backend)[1] > 20) == (first, True)
    change(model)
    assert reply(backend) == (reply(LocalBackend(model, build_tokenizer()))[0], 0)
    assert reply(backend)[1] > 20


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_after_a_change_of_weights(change: Callable[[Any], Any]) -> None:
    check_a_change(build_llama(build_tokenizer()), change)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("change", CHANGES_OF_ADAPTERS.values(), ids=CHANGES_OF_ADAPTERS)
def test_after_a_change_of_adapters(change: Callable[[Any], Any]) -> None:
    peft = pytest.importorskip("peft")
    model = peft.get_peft_model(build_llama(build_tokenizer()), peft.LoraConfig(**LORA), adapter_name="first")
    model.add_adapter("second", peft.LoraConfig(**LORA))
    check_a_change(model.eval(), change)


def test_after_a_change_while_a_reply_is_under_way() -> None:
    model = build_llama(build_tokenizer())
    backend = LocalBackend(model, build_tokenizer())
    under_way = backend.generate_chat(ChatRequest(messages=CONVERSATION, options={"max_new_tokens": 12}))
    next(under_way)
    by_hand(model)
    fresh = reply(LocalBackend(model, build_tokenizer()))[0]
    assert reply(backend) == (fresh, 0)  # the other's beginning is not taken
    list(under_way)
    backend.forget()
    assert reply(backend) == (fresh, 0)


def test_what_is_forgotten_is_not_kept_after_all() -> None:
    backend = LocalBackend(build_llama(build_tokenizer()), build_tokenizer())
    under_way = backend.generate_chat(ChatRequest(messages=CONVERSATION, options={"max_new_tokens": 12}))
    next(under_way)
    backend.forget()
    list(under_way)
    assert backend.local.prefixes.entries == ()
    reply(backend)
    assert backend.local.prefixes.tokens > 20
    backend.forget()
    assert backend.local.prefixes.tokens == 0


class Counting(torch.nn.Linear):
    """Sets an attribute of its own each time it computes."""

    times = 0

    def forward(self, states: Any) -> Any:
        self.times += 1
        return super().forward(states)


def test_what_computing_sets_is_no_change() -> None:
    model = build_llama(build_tokenizer())
    model.lm_head.__class__ = Counting
    backend = LocalBackend(model, build_tokenizer())
    reply(backend)
    reply(backend)
    times = model.lm_head.times
    assert reply(backend)[1] > 20
    assert model.lm_head.times > times
    sharpened(model)
    assert reply(backend)[1] == 0


def test_what_is_forgotten_is_made_anew() -> None:
    """What nobody can see has changed: here a number in a list."""
    model = build_llama(build_tokenizer())
    factor, mlp = [1.0], model.model.layers[0].mlp
    mlp.forward = lambda states, own=mlp.forward: factor[0] * own(states)
    backend = LocalBackend(model, build_tokenizer())
    reply(backend)
    factor[0] = -3.0
    backend.forget()
    assert reply(backend) == (reply(LocalBackend(model, build_tokenizer()))[0], 0)


def test_a_chat_model_forgets() -> None:
    model = HuggingFacePipeline(model=build_llama(build_tokenizer()), tokenizer=build_tokenizer())
    chats = [ChatHuggingFace(llm=model), ChatHuggingFace(llm=WithFallbacks([model, model]))]
    for chat in chats:
        chat.invoke("hello", max_new_tokens=3)
        assert model.local.prefixes.tokens > 0
        chat.forget()
        assert model.local.prefixes.tokens == 0
    chat_model("http://127.0.0.1:9").forget()  # type: ignore[attr-defined]


def test_a_chat_model_that_is_closed() -> None:
    """What it held is let go of; a model that was given is still its owner's."""
    weights = build_llama(build_tokenizer())
    llm = HuggingFacePipeline(model=weights, tokenizer=build_tokenizer(), pipeline_kwargs={"max_new_tokens": 3})
    held = weakref.ref(llm.local)
    other = LocalBackend(weights, build_tokenizer())
    with ChatHuggingFace(llm=WithFallbacks([llm, other])) as model:
        answer = model.invoke("hello").content
    gc.collect()
    assert held() is None
    model.close()
    model.forget()
    with pytest.raises(ModelError, match="the model is closed; load it again"):
        model.invoke("hello")
    again = HuggingFacePipeline(model=weights, tokenizer=build_tokenizer(), pipeline_kwargs={"max_new_tokens": 3})
    assert ChatHuggingFace(llm=again).invoke("hello").content == answer
    with chat_model("http://127.0.0.1:9") as hosted:  # type: ignore[attr-defined]
        assert hosted.model_id == "http://127.0.0.1:9"


def test_without_reuse_a_reply_is_computed_by_itself() -> None:
    model = build_llama(build_tokenizer())
    backend, kept = LocalBackend(model, build_tokenizer(), reuse=False), LocalBackend(model, build_tokenizer())
    assert [reply(backend), reply(backend)] == [reply(kept), reply(backend)]
    assert backend.local.prefixes.entries == ()
    assert reply(kept)[1] > 20
    *_, last = kept.generate_chat(ChatRequest(messages=CONVERSATION, options={"reuse": False, "max_new_tokens": 3}))
    assert last.usage is not None
    assert last.usage.cached_tokens == 0
    rows: list[int] = []
    model.register_forward_pre_hook(lambda _, __, given: rows.append(len(given["input_ids"])), with_kwargs=True)
    with ThreadPoolExecutor(4) as threads:
        texts = list(threads.map(lambda _: reply(backend), range(4)))
    assert len(set(texts)) == 1
    assert max(rows) == 1
