"""Several conversations on one model, in any order: every token is the one that no cache would have given."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentkit.models.local.decoding import Decoder, TokenSequence
from agentkit.models.local.forward import Forward
from agentkit.models.local.media import MediaInputs
from agentkit.models.local.prefix_cache import PrefixCache
from agentkit.models.local.sampling import Sampler
from agentkit.models.local.thoughts import ReplyWatch
from agentkit.models.local.weights import Weights

from .test_kv_reuse import SHAPE, expected, named

watching_nothing = partial(ReplyWatch, (), lambda _: [])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model_type", ["llama", "mistral", "gemma3_text", "phi3", "qwen3_next", "mamba"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_conversations_decoded_in_any_order_are_those_of_no_cache(model_type: str, data: st.DataObject) -> None:
    """Turns of several conversations begin, go on, break off and end in any order; every token is the likeliest."""
    model = named(model_type)
    forward = Forward(model)
    decoder = Decoder(forward, PrefixCache(forward.reuse, max_conversations=2), Weights(model))
    conversations: list[list[int]] = [[3, 4, 5, 6, 7][:length] for length in (2, 5, 3)]
    turns: dict[int, tuple[TokenSequence, Any]] = {}

    def close(number: int) -> None:
        sequence, tokens = turns.pop(number)
        tokens.close()
        if sequence.prompt_tokens:  # it had begun
            assert_likeliest(model, sequence.ids[: sequence.prompt_tokens], sequence.ids[sequence.prompt_tokens :])
        conversations[number] = sequence.ids

    for _ in range(data.draw(st.integers(5, 30))):
        number = data.draw(st.integers(0, 2))
        if number not in turns:
            said = data.draw(st.lists(st.integers(3, 63), min_size=1, max_size=6))
            longest = data.draw(st.integers(1, 8))
            sampler = Sampler([], None, do_sample=False, max_new_tokens=longest, eos=frozenset())
            sequence = TokenSequence([*conversations[number], *said], sampler, lambda _: "", watching_nothing())
            turns[number] = sequence, decoder.decode(sequence)
        for _ in range(data.draw(st.integers(0, 4))):
            if next(turns[number][1], None) is None:
                close(number)
                break
        if number in turns and data.draw(st.booleans()) and data.draw(st.booleans()):
            close(number)
    for number in list(turns):
        close(number)


def assert_likeliest(model: Any, prompt: list[int], wrote: list[int]) -> None:
    """Every token written is that of the highest logit without a cache, or as good as it."""
    import torch

    if not wrote:
        return
    ids = [*prompt, *wrote]
    if len(ids) > 20 and model.config.model_type == "phi3":  # this one's keys depend on the length: prompt by prompt
        logits = torch.cat([expected(model, ids[:end]) for end in range(len(prompt), len(ids))])
    else:
        with torch.inference_mode():
            logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, len(prompt) - 1 : -1]
    chosen = logits.gather(1, torch.tensor(wrote)[:, None])[:, 0]
    assert (logits.max(-1).values - chosen <= 4e-4 * logits.abs().max()).all()


def test_a_longer_turn_may_follow_what_a_grammar_forced_on_a_recurrent_model() -> None:
    model = named("qwen3_next")
    forward = Forward(model)
    decoder = Decoder(forward, PrefixCache(forward.reuse), Weights(model))
    ids = [3, 4, 5, 6]
    for _ in range(3):
        sampler = Sampler([], None, do_sample=False, max_new_tokens=4, eos=frozenset(), constraint=Begins([8, 9]))
        sequence = TokenSequence([*ids, 7], sampler, lambda _: "", watching_nothing())
        wrote = [new.choice.token for new in decoder.decode(sequence)]
        assert wrote[:2] == [8, 9]
        assert_likeliest(model, [*ids, 7, 8, 9], wrote[2:])
        ids = [*ids, 7, 8, 9, 10]


class Begins:
    """A constraint that forces some tokens and then nothing."""

    finished = False

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def begin(self) -> list[int]:
        return self.tokens

    def closer(self, *, text_only: bool = False) -> None:
        return None

    def allows(self, token: int) -> bool:
        return True

    def accept(self, token: int) -> list[int]:
        return []


@cache
def seeing() -> Any:
    """A model whose positions are places in a picture: later ones are moved, by as much as each picture takes up."""
    import torch
    from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration

    torch.manual_seed(0)
    rope = {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0}
    vision = {"depth": 1, "embed_dim": 32, "num_heads": 4, "hidden_size": 32, "mlp_ratio": 2, "patch_size": 14}
    config = Qwen2VLConfig(
        text_config={**SHAPE, "num_hidden_layers": 2, "rope_parameters": rope},
        vision_config=vision,
        image_token_id=60,
        video_token_id=61,
        vision_start_token_id=62,
        vision_end_token_id=63,
    )
    return Qwen2VLForConditionalGeneration(config).eval()


def pictured(ids: list[int], seed: int) -> dict[str, Any]:
    """A model's inputs for one picture of 64 patches."""
    import torch

    patches = torch.randn(64, 1176, generator=torch.Generator().manual_seed(seed))
    kinds = torch.tensor([[int(token == 60) for token in ids]])
    return {"pixel_values": patches, "image_grid_thw": torch.tensor([[1, 8, 8]]), "mm_token_type_ids": kinds}


def test_conversations_about_pictures_and_text_do_not_mix() -> None:
    """The next turn computes its new tokens only, and those at the places they have without a cache."""
    import torch

    model = seeing()
    forward = Forward(model)
    decoder = Decoder(forward, PrefixCache(forward.reuse), Weights(model))
    picture = [5, 6, 62, *[60] * 16, 63]
    talks: dict[int | None, list[int]] = {1: [*picture, 7], 2: [*picture, 7], None: [5, 6, 7, 8]}
    for turn in range(3):
        running = []
        for seed, ids in talks.items():
            sampler = Sampler([], None, do_sample=False, max_new_tokens=6, eos=frozenset())
            media = None if seed is None else MediaInputs.of(model.config, ids, pictured(ids, seed))
            sequence = TokenSequence(list(ids), sampler, lambda _: "", watching_nothing(), media=media)
            running.append((seed, sequence, decoder.decode(sequence)))
        for _ in range(6):
            for _, _, tokens in running:
                next(tokens)
        for seed, sequence, tokens in running:
            assert next(tokens, None) is None
            assert sequence.cached_tokens == (len(talks[seed]) - 2 if turn else 0)
            model.model.rope_deltas = None
            inputs = {} if seed is None else pictured(sequence.ids, seed)
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([sequence.ids]), use_cache=False, **inputs).logits[0]
            start = len(talks[seed])
            chosen = logits[start - 1 : -1].gather(1, torch.tensor(sequence.ids[start:])[:, None])[:, 0]
            assert (logits[start - 1 : -1].max(-1).values - chosen <= 4e-4 * logits.abs().max()).all()
            talks[seed] = [*sequence.ids, 9]
