"""Steps that go past a model's own forward: the tokens and log probabilities are those of the model itself."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from agentkit.models.backend import ChatRequest
from agentkit.models.local import packed_products
from agentkit.models.local.attention_cache import BatchCache
from agentkit.models.local.backend import LocalBackend
from agentkit.models.local.forward import Forward
from agentkit.models.local.packed_products import MOST_TOKENS, PACKING_STEPS, has_products

from .conftest import build_llama, build_tokenizer
from .test_kv_reuse import VOCABULARY, expected, of_another_class, tiny

ROPE = {"rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 32}
LLAMA3 = {**ROPE, "rope_type": "llama3", "low_freq_factor": 1.0, "high_freq_factor": 4.0}
LARGE = {"hidden_size": 256, "intermediate_size": 512, "head_dim": 64, "initializer_range": 0.06}
"""Large enough to be packed."""

FAMILY: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True, "tie_word_embeddings": True}),
    "llama 3": ("llama", {"rope_parameters": LLAMA3}),
    "another activation": ("llama", {"hidden_act": "gelu_pytorch_tanh", "num_key_value_heads": 4}),
    "eager attention": ("llama", {"attn_implementation": "eager"}),
    "mistral": ("mistral", {"sliding_window": None}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"tie_word_embeddings": True, "head_dim": 16}),
    "packed llama": ("llama", {**LARGE, "attention_bias": True}),
    "packed qwen3": ("qwen3", LARGE),
}


def built(name: str, dtype: torch.dtype = torch.float32) -> Any:
    """A model whose weights have been stored in 16 bits."""
    return tiny(*FAMILY[name]).bfloat16().to(dtype)


@contextmanager
def passes(model: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many tokens a row each pass of the model's own forward has computed."""
    own, seen = type(model).forward, []

    @functools.wraps(own)
    def counted(*args: Any, **kwargs: Any) -> Any:
        seen.append(kwargs["input_ids"].shape[1])
        return own(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(type(model), "forward", counted)
        yield seen


def check_steps(model: Any, forward: Forward, sizes: list[int], *, closeness: float = 2e-5) -> None:
    """Compute so many tokens at a time: the logits are those of the whole sequence at once."""
    ids: list[int] = []
    cache, logits = None, []
    for size in sizes:
        known = len(ids)
        ids += [(7 * n + n * n) % VOCABULARY for n in range(known, known + size)]
        computed, cache = forward(ids, known, cache)
        logits.append(computed)
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    for got, end in zip(logits, ends, strict=True):
        wanted = expected(model, ids[:end])
        assert (got - wanted).norm() <= closeness * wanted.norm()


@pytest.mark.parametrize("name", FAMILY)
def test_logits_are_those_of_the_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = built(name)
    forward = Forward(model)
    sizes = [9, *[1] * (PACKING_STEPS + 3), 3, MOST_TOKENS, 1, MOST_TOKENS + 1, 1]
    with passes(model, monkeypatch) as own:
        check_steps(copy.deepcopy(model), forward, sizes)
    assert forward.is_lean
    seen = own[: -len(sizes)]  # without those that were expected
    packing = [1] if "packed" in name else []
    assert seen == [9, 1, *packing, MOST_TOKENS + 1]


@pytest.mark.parametrize("name", FAMILY)
def test_rows_of_a_batch(name: str) -> None:
    model = built(name)
    forward = Forward(model)
    rows = [[(3 * n + row) % VOCABULARY for n in range(length)] for row, length in enumerate((4, 11, 7))]
    batch = BatchCache()
    batch.add([(number, forward(ids, 0, None)[1]) for number, ids in enumerate(rows)])
    for step in range(PACKING_STEPS + 4):
        for ids in rows:
            ids.append((len(ids) * 5 + step) % VOCABULARY)
        logits = forward.batch([ids[-1] for ids in rows], batch)
        for got, ids in zip(logits, rows, strict=True):
            wanted = expected(model, ids)
            assert (got - wanted).norm() <= 2e-5 * wanted.norm()
    assert forward.is_lean


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["packed llama", "qwen3"])
def test_half_precision_is_computed_more_exactly(name: str, dtype: torch.dtype) -> None:
    model = built(name, dtype)
    exact, forward = copy.deepcopy(model).float(), Forward(model)
    ids = [(7 * n + n * n) % VOCABULARY for n in range(12)]
    cache, errors = None, []
    for _ in range(PACKING_STEPS + 6):
        logits, cache = forward(ids, 0 if cache is None else len(ids) - 1, cache)
        wanted = expected(exact, ids)
        errors.append([float((got - wanted).norm() / wanted.norm()) for got in (logits, expected(model, ids))])
        ids.append(int(wanted.argmax()))
    ours, own = map(sum, zip(*errors[4:], strict=True))
    assert forward.is_lean
    assert ours < own


def test_weights_of_more_than_16_bits_stay_as_they_are() -> None:
    model = tiny(*FAMILY["packed llama"])
    forward = Forward(model)
    check_steps(model, forward, [9, *[1] * (PACKING_STEPS + 5)])
    assert forward.is_lean


def test_nothing_is_packed_where_memory_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_products, "free_bytes", lambda _device: 10_000)
    model = built("packed llama")
    with passes(model, monkeypatch) as own:
        check_steps(copy.deepcopy(model), Forward(model), [9, *[1] * (PACKING_STEPS + 5)])
    assert own[: PACKING_STEPS + 6] != [9, 1, 1]
    assert own[:2] == [9, 1]


# -- what goes through the model itself --------------------------------------------------------------------------------


def with_a_hook(model: Any) -> Any:
    model.model.layers[1].mlp.register_forward_hook(lambda _module, _inputs, output: output * 1.5)
    return model


def with_a_forward_of_its_own(model: Any) -> Any:
    mlp = model.model.layers[1].mlp
    own = mlp.forward
    mlp.forward = lambda states: own(states) * 1.5
    return model


def with_another_module(model: Any) -> Any:
    class Steered(type(model.model.layers[1].mlp)):  # type: ignore[misc]
        def forward(self, states: Any) -> Any:
            return super().forward(states) * 1.5

    steered = Steered(model.config)
    steered.load_state_dict(model.model.layers[1].mlp.state_dict())
    model.model.layers[1].mlp = steered
    return model.eval()


def with_an_adapter(model: Any) -> Any:
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(r=4, lora_alpha=64, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    return peft.get_peft_model(model, config).eval()


def in_training(model: Any) -> Any:
    return model.train()


DYNAMIC = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
OTHERS: dict[str, Callable[[], Any]] = {
    "a sliding window": lambda: tiny("mistral", {"sliding_window": 6}),
    "gemma 3": lambda: tiny("gemma3_text", {"sliding_window": 6}),
    "gpt 2": lambda: tiny("gpt2", {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_positions": 128}),
    "smollm3, which turns some layers": lambda: tiny("smollm3", {}),
    "a length that changes the keys": lambda: tiny("llama", {"rope_parameters": DYNAMIC}),
    "float64": lambda: tiny("llama", {}).double(),
    "a hook": lambda: with_a_hook(tiny("llama", {})),
    "a forward of its own": lambda: with_a_forward_of_its_own(tiny("llama", {})),
    "another class": lambda: of_another_class(tiny("llama", {})),
    "another module": lambda: with_another_module(tiny("llama", {})),
    "an adapter": lambda: with_an_adapter(tiny("llama", {})),
    "training": lambda: in_training(tiny("llama", {})),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", OTHERS.values(), ids=OTHERS)
def test_other_models_go_through_their_own_forward(build: Callable[[], Any]) -> None:
    model = build()
    forward = Forward(model)
    assert not forward.is_lean
    check_steps(model, forward, [9, 1, 1, 3, 1], closeness=2e-4)


PACKED: dict[str, Callable[[], Any]] = {
    "a sliding window": lambda: tiny("mistral", {**LARGE, "sliding_window": 6}),
    "gemma 3": lambda: tiny("gemma3_text", {**LARGE, "sliding_window": 6}),
    "phi 3": lambda: tiny("phi3", LARGE),
    "a hook": lambda: with_a_hook(tiny("llama", LARGE)),
    "an adapter": lambda: with_an_adapter(tiny("llama", {**LARGE, "attention_bias": True})),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("build", PACKED.values(), ids=PACKED)
def test_other_models_of_some_size_take_packed_weights(
    build: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed_products, "LEAST_WATCHED", 0)
    model = build().bfloat16().float()
    sizes = [9, *[1] * (PACKING_STEPS + 3), 3, MOST_TOKENS, 1, MOST_TOKENS + 1, 1]
    forward = Forward(model)
    assert not forward.is_lean
    with passes(getattr(model, "get_base_model", lambda: model)(), monkeypatch) as own:
        check_steps(model, forward, sizes)
    assert len(own) == 2 * len(sizes) + 1  # each step and what was expected; once they are packed, both ways
    check_steps(model, forward, [9, 1, 3, 1])


def test_what_is_compiled_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_products, "LEAST_WATCHED", 0)
    model = tiny("gemma3_text", {**LARGE, "sliding_window": 6})
    assert has_products(model)
    model.model.layers[1].compile()
    assert not has_products(model)


def test_a_forward_that_gives_something_else_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers.models.llama.modeling_llama import LlamaMLP

    own = LlamaMLP.forward

    @functools.wraps(own)  # so that it passes for the class's own
    def steered(self: Any, states: Any) -> Any:
        return own(self, states) * 1.01  # type: ignore[no-untyped-call]

    monkeypatch.setattr(LlamaMLP, "forward", steered)
    model = built("llama")
    forward = Forward(model)
    assert forward.is_lean
    check_steps(model, forward, [9, 1, 1, 3, 1])
    assert not forward.is_lean


# -- replies -----------------------------------------------------------------------------------------------------------

QUESTION = "What is 25 raised to the 0.43 power?"
GRAMMAR = 'start: "Thought: I " /[a-z ]{4,20}/ "need to look this up." /[a-z]{1,12}/'
REPLIES: dict[str, dict[str, Any]] = {
    "greedy": {"options": {}},
    "sampled": {"options": {"do_sample": True, "temperature": 0.8, "top_p": 0.9, "seed": 3}},
    "penalised": {"options": {"repetition_penalty": 1.3}},
    "constrained": {"grammar": GRAMMAR, "options": {}},
    "constrained and sampled": {"grammar": GRAMMAR, "options": {"do_sample": True, "seed": 3}},
}


def packed_llama() -> Any:
    return build_llama(build_tokenizer(), **LARGE).bfloat16().float()


def by_itself(model: Any) -> LocalBackend:
    """A backend that goes through the model's own forward: something listens there."""
    model = copy.deepcopy(model)
    model.register_forward_hook(lambda _module, _inputs, output: output)
    backend = LocalBackend(model, build_tokenizer())
    assert not backend.local.forward.is_lean
    return backend


def reply(
    backend: LocalBackend, asked: Mapping[str, Any], *, question: str = QUESTION, stop: tuple[str, ...] = ()
) -> tuple[str, str | None, list[float]]:
    """Its text, its end, and the log probabilities of its tokens."""
    options = {"max_new_tokens": 40, "do_sample": False, **asked["options"]}
    request = ChatRequest(
        messages=[{"role": "user", "content": question}],
        options=options,
        grammar=asked.get("grammar"),
        stop=stop,
        top_logprobs=2,
    )
    chunks = list(backend.generate_chat(request))
    logprobs = [each.logprob for chunk in chunks for each in chunk.logprobs]
    return "".join(chunk.text for chunk in chunks), chunks[-1].finish_reason, logprobs


def assert_same(got: tuple[Any, ...], wanted: tuple[Any, ...]) -> None:
    assert got[:2] == wanted[:2]
    assert got[2] == pytest.approx(wanted[2], abs=1e-4)


@pytest.mark.parametrize("asked", REPLIES.values(), ids=REPLIES)
def test_replies_are_those_of_the_model(asked: dict[str, Any]) -> None:
    model = packed_llama()
    lean, own = LocalBackend(model, build_tokenizer()), by_itself(model)
    wanted = reply(own, asked)
    assert 3 * len(wanted[2]) > 2 * PACKING_STEPS
    for _ in range(3):  # then the prompt is known, and in the end the weights are packed
        assert_same(reply(lean, asked), wanted)
    stop = wanted[0][9:13]
    assert_same(reply(lean, asked, stop=(stop,)), reply(own, asked, stop=(stop,)))
    assert lean.local.forward.is_lean


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_reply_by_itself_is_rounded_as_the_model_rounds(dtype: torch.dtype) -> None:
    """To the last bit, whatever was asked before."""
    model = packed_llama().to(dtype)
    lean, own = LocalBackend(model, build_tokenizer()), by_itself(model)
    alone = {"options": {"reuse": False}}
    wanted = reply(own, alone)
    assert reply(lean, alone) == wanted
    for _ in range(2):
        reply(lean, {"options": {}})
    assert lean.local.forward.is_lean
    assert reply(lean, alone) == wanted


@pytest.mark.slow
def test_replies_at_once_are_those_of_the_model() -> None:
    model = packed_llama()
    lean, own = LocalBackend(model, build_tokenizer()), by_itself(model)
    questions = [QUESTION[: 12 + 3 * number] for number in range(6)]
    wanted = [reply(own, REPLIES["greedy"], question=question) for question in questions]
    with ThreadPoolExecutor(6) as threads:
        for _ in range(3):
            got = threads.map(lambda question: reply(lean, REPLIES["greedy"], question=question), questions)
            for one, other in zip(got, wanted, strict=True):
                assert_same(one, other)
    assert lean.local.forward.is_lean


def trained(model: Any) -> None:
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    model(input_ids=torch.tensor([[1, 2, 3, 4]]), labels=torch.tensor([[5, 6, 7, 8]])).loss.backward()
    optimizer.step()


def loaded(model: Any) -> None:
    model.load_state_dict(build_llama(build_tokenizer(), seed=5, **LARGE).bfloat16().state_dict())


def by_hand(model: Any) -> None:
    model.model.layers[1].mlp.down_proj.weight.data.mul_(-2)


def adapted(model: Any) -> None:
    with_an_adapter(model)  # PEFT puts it into the model's own layers


CHANGES: dict[str, tuple[Callable[[Any], Any], bool]] = {
    "a step of training": (trained, True),
    "load_state_dict": (loaded, True),
    "one weight by hand": (by_hand, True),
    "an adapter": (adapted, False),
    "a hook": (with_a_hook, False),
    "a setting": (lambda model: [setattr(each.self_attn, "scaling", 1.0) for each in model.model.layers], True),
    "a setting of norms": (lambda model: setattr(model.model.norm, "variance_epsilon", 0.5), True),
    "another forward": (with_a_forward_of_its_own, False),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("change", "is_lean"), CHANGES.values(), ids=CHANGES)
def test_packed_weights_do_not_outlive_a_change(change: Callable[[Any], Any], is_lean: bool) -> None:
    model = packed_llama()
    backend = LocalBackend(model, build_tokenizer())
    asked = REPLIES["greedy"]
    before = reply(backend, asked)
    change(model)
    wanted = reply(by_itself(model), asked)
    assert wanted != before
    for _ in range(2):
        assert_same(reply(backend, asked), wanted)
    assert backend.local.forward.is_lean == is_lean
