"""Parameters of a reply by transformers: what they mean together, and what cannot be held."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from agentkit.errors import ConfigurationError
from agentkit.models.local.backend import LocalBackend
from agentkit.models.local.parameters import NO_SEED, seed_in_32_bits
from tests.models.conftest import build_llama, build_tokenizer
from tests.models.reply_parameters import DRAWN, GREEDY, OUTCOMES, REFUSED
from tests.models.test_local_backend import text_of

SHORT = {"max_new_tokens": 8}


def made(**options: Any) -> LocalBackend:
    tokenizer = build_tokenizer()
    return LocalBackend(build_llama(tokenizer), tokenizer, pipeline_kwargs={**SHORT, **options})


@pytest.mark.parametrize(("given", "asked", "outcome"), OUTCOMES, ids=str)
def test_what_is_said_last_says_how_tokens_are_chosen(
    given: dict[str, Any], asked: dict[str, Any], outcome: str
) -> None:
    greedy = text_of(made())
    replies = {text_of(made(**given), seed=seed, **asked) for seed in range(3)}
    assert (GREEDY if replies == {greedy} else DRAWN) == outcome


@pytest.mark.parametrize(
    ("options", "says"),
    [
        *REFUSED,
        (
            {"min_new_tokens": 9, "max_new_tokens": 8},
            "min_new_tokens is 9, and max_new_tokens is 8; give no less than 9, or leave min_new_tokens out",
        ),
        (
            {"min_length": 9, "max_length": 8},
            "min_length is 9, and max_length is 8; give no less than 9, or leave min_length out",
        ),
        *(
            ({name: value}, f"{name} belongs to a search that transformers has given up; leave it out")
            for name, value in {"penalty_alpha": 0.9, "dola_layers": "high", "diversity_penalty": 0.5}.items()
        ),
        ({"token_healing": True}, "token_healing changes the prompt, which stays as it is here; leave it out"),
        *(
            ({name: value}, f"generation parameters that cannot be: `{name}`: ")
            for name, value in {"length_penalty": 2.0, "early_stopping": True, "output_scores": True}.items()
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("with_the_model", [True, False])
def test_what_cannot_be_held_is_refused_when_given(options: dict[str, Any], says: str, with_the_model: bool) -> None:
    with pytest.raises(ConfigurationError) as caught:
        made(**options) if with_the_model else text_of(made(), **options)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_models_own_file_says_is_drawn() -> None:
    tokenizer = build_tokenizer()
    model = build_llama(tokenizer)
    model.generation_config.do_sample = True
    backend = LocalBackend(model, tokenizer, pipeline_kwargs={**SHORT, "top_p": 0.99})
    assert len({text_of(backend, seed=seed) for seed in range(3)}) == 3
    model.generation_config.temperature = 2  # a whole number, as people write it
    whole = text_of(backend, seed=1)
    model.generation_config.temperature = 2.0
    assert text_of(backend, seed=1) == whole
    model.generation_config.temperature = 0.0
    assert text_of(backend) == text_of(made())


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 2},
        {"repetition_penalty": 2},
        {"min_p": 0, "temperature": 1.5},
        {"typical_p": 1, "temperature": 1.5},
        {"epsilon_cutoff": 0, "eta_cutoff": 0, "temperature": 1.5},
        {"max_time": 60},
        {"repetition_penalty": 2, "num_beams": 2},
    ],
    ids=str,
)
def test_a_whole_number_is_the_number_that_it_is(options: dict[str, Any]) -> None:
    floats = {name: value if name == "num_beams" else float(value) for name, value in options.items()}
    assert text_of(made(**options), seed=1) == text_of(made(), seed=1, **options) == text_of(made(**floats), seed=1)


def test_a_bias_is_given_as_a_mapping_or_as_lists() -> None:
    bias = [[[5], 100.0]]
    assert text_of(made(sequence_bias=bias)) == text_of(made(), sequence_bias={(5,): 100.0}) != text_of(made())


def test_a_reply_may_be_asked_to_be_shorter_than_its_model_says(capfd: pytest.CaptureFixture[str]) -> None:
    whole = text_of(made(min_new_tokens=6))
    assert whole.startswith(text_of(made(min_new_tokens=6), max_new_tokens=3))
    with pytest.raises(ConfigurationError, match="min_new_tokens is 9, and max_new_tokens is 8; give no less"):
        text_of(made(), min_new_tokens=9)
    with pytest.raises(ConfigurationError, match="min_new_tokens is 600, and max_new_tokens is 512; give no less"):
        made(max_new_tokens=None, min_new_tokens=600)
    assert capfd.readouterr().err == ""


SEEDS = (0, 5, 2**32 - 2, NO_SEED, 2**32, 2**32 + 5, 2**63 + 5, 2**64 - 1)


def test_every_seed_is_one_of_its_own() -> None:
    assert [seed_in_32_bits(seed) for seed in SEEDS[:3]] == [*SEEDS[:3]]
    generators = [seed_in_32_bits(seed) for seed in SEEDS]
    assert len({*generators}) == len(SEEDS)
    assert all(0 <= each < NO_SEED for each in generators)
    replies = {seed: {text_of(made(temperature=2.0), seed=seed) for _ in range(2)} for seed in SEEDS}
    assert all(len(same) == 1 for same in replies.values())
    assert not any(a & b for (_, a), (_, b) in product(replies.items(), repeat=2) if a is not b)
