"""The parameters of a reply, by their names in GenerationConfig: what each can be, and what they mean together.

Both kinds of models in this process go by this: transformers' own and those of llama.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from math import inf
from typing import Any, Union, get_args

from agentkit.errors import ConfigurationError, described, did_you_mean, in_one_line
from agentkit.models.local.loading import (
    BITS_KEYWORDS,
    LOADING,
    OF_BACKEND,
    OURS,
    loading_errors,
    without_advice,
)
from agentkit.option_kinds import check_kinds

OF_CLASS = frozenset(
    "config key_mapping low_cpu_mem_usage max_memory offload_buffers offload_folder offload_state_dict "
    "quantization_config use_safetensors variant".split()
)
"""What else people give to a model's class, for which there is `model_kwargs`."""
OBJECTS = frozenset(  # parameters of `generate` beside those of its configuration
    "assistant_model assistant_tokenizer generation_config logits_processor negative_prompt_ids "
    "prefix_allowed_tokens_fn stopping_criteria".split()
)
OTHER_NAMES = {
    **dict.fromkeys(("max_tokens", "max_completion_tokens", "n_predict", "num_predict"), "max_new_tokens"),
    **dict.fromkeys(("stop", "stop_sequences"), "stop_strings"),
    **dict.fromkeys(("context_length", "context_size", "ctx_size", "max_seq_len", "num_ctx"), "n_ctx"),
    **dict.fromkeys(("gpu_layers", "num_gpu"), "n_gpu_layers"),
    **dict.fromkeys(("num_thread", "threads"), "n_threads"),
    "repeat_penalty": "repetition_penalty",
}
"""What other programs call an option of a model in this process."""
OWN_PARAMETERS = ("seed", "max_thinking_tokens")
NUMBERS: Mapping[str, tuple[Any, float, float]] = {
    **dict.fromkeys(("max_new_tokens", "max_length"), (int, 1, inf)),
    **dict.fromkeys(("top_k", "min_length", "min_new_tokens", "max_thinking_tokens"), (int, 0, inf)),
    **dict.fromkeys(("temperature", "repetition_penalty", "max_time"), (int | float, 0, inf)),
    "num_beams": (int, 1, 1024),
    "num_return_sequences": (int, 1, 1),
    "seed": (int, 0, 2**64 - 1),
    "top_p": (int | float, 0, 1),
}
"""The parameters that people set most: what they are, the least that they can be, and the most."""
FILTERS = "top_k top_p top_h min_p typical_p epsilon_cutoff eta_cutoff".split()
"""What narrows a draw. The likeliest token is always left, so that a reply without draws keeps to them as it is."""
GONE = "constraints diversity_penalty dola_layers force_words_ids low_memory num_beam_groups penalty_alpha".split()
"""Parameters of searches that transformers has given up; to look for them it would run a repository's code."""
UNSAID = (None, False, 0, 1)
NO_SEED = 2**32 - 1
"""What llama.cpp takes for a seed that it is to choose."""


_KINDS: Mapping[str, Any] = {"int": int, "float": float, "bool": bool, "str": str, "dict": dict} | {
    **dict.fromkeys(("list", "tuple"), Sequence),
    **dict.fromkeys(("Union", "or"), None),
}


def _kinds_of(described_parameters: str) -> Mapping[str, Any]:
    """The types that a docstring of transformers names: `eos_token_id (`Union[int, list[int]]`, *optional*)`.

    Of a list or an object, what it holds is not told.
    """
    found = re.findall(r"^ +(\w+) \((`[^\n]*?)(?:, \*optional\*|\):)", described_parameters, re.MULTILINE)
    kinds: dict[str, Any] = {}
    for name, said in found:
        words = re.findall(r"\w+", re.sub(r"\b(list|dict|tuple)[\[(][^`]*?[\])]+", r"\1", said))
        if all(word in _KINDS for word in words):
            kinds[name] = Union[tuple(_KINDS[word] for word in (*words, "or"))]  # noqa: UP007
    return kinds


def check_numbers(options: Mapping[str, Any]) -> None:
    """Refuse numbers that the parameters which people set most cannot be."""
    for name, (kind, least, most) in NUMBERS.items():
        value = least if options.get(name) is None else options[name]
        is_number = isinstance(value, kind) and not isinstance(value, bool)
        if not is_number or not least <= value <= most:
            number = "a whole number" if kind is int else "a number"
            bound = f"at most {most}" if is_number and value > most else f"at least {least}"
            raise ConfigurationError(f"{name}: expected {number} of {bound}, saw {described(value)}")


@cache
def _parameters() -> tuple[frozenset[str], Mapping[str, Any]]:
    """The names of generation parameters, and the kinds of those that say it."""
    from transformers import GenerationConfig

    names = {name for name in vars(GenerationConfig()) if not name.startswith("_")}  # type: ignore[no-untyped-call]
    kinds = {**_kinds_of(GenerationConfig.__doc__ or ""), **dict.fromkeys(OWN_PARAMETERS, int | None)}
    more = {
        "stop_strings": str | Sequence[str] | None,
        "sequence_bias": Mapping | Sequence | None,
    }  # lists, out of JSON
    return frozenset(names.union(OBJECTS, OWN_PARAMETERS)), {**kinds, **more}


def with_floats(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with whole numbers as floats where transformers takes nothing else."""
    _, kinds = _parameters()
    floats = {name for name, kind in kinds.items() if float in get_args(kind) and int not in get_args(kind)}
    return {name: float(value) if name in floats and type(value) is int else value for name, value in options.items()}


def check_options(options: Mapping[str, Any]) -> None:
    """Refuse generation parameters that GenerationConfig does not have or does not take; no model is loaded for it."""
    with loading_errors(OURS):
        from transformers import GenerationConfig

        known, kinds = _parameters()
    for name in options.keys() - known:
        raise ConfigurationError(f"unknown option {name!r} for {OURS}{_advice(name, known)}")
    config = GenerationConfig()  # type: ignore[no-untyped-call]
    values = {name: value for name, value in options.items() if hasattr(config, name) and value is not None}
    check_numbers(options)
    check_kinds(options, kinds, what=OURS)
    for name in options.keys() & OBJECTS:
        if isinstance(options[name], str | int | float | Mapping):
            raise ConfigurationError(
                f"{name} is an object of Python's, not {described(options[name])} (an option of {OURS})"
            )
    for name in options.keys() & {*GONE}:
        if options[name] not in UNSAID:
            raise ConfigurationError(f"{name} belongs to a search that transformers has given up; leave it out")
    if options.get("token_healing"):
        raise ConfigurationError("token_healing changes the prompt, which stays as it is here; leave it out")
    check_together(options)
    values["do_sample"] = True  # what does not go with it was looked for
    try:
        with without_advice():
            config.update(**values)  # type: ignore[no-untyped-call]
            config.validate(strict=True)
    except (TypeError, ValueError) as error:
        why = in_one_line(error, 300).removeprefix("GenerationConfig is invalid: - ")
        raise ConfigurationError(f"generation parameters that cannot be: {why}") from error


# -- together ----------------------------------------------------------------------------------------------------------


def check_together(options: Mapping[str, Any]) -> None:
    """Refuse parameters of which one would have to be passed over for another."""
    temperature = options.get("temperature")
    if options.get("do_sample") is False and temperature not in (None, 0, 1):  # 1 is what there is without one
        raise ConfigurationError(
            f"do_sample=False draws no tokens, and temperature={temperature:g} says otherwise; leave one of them out"
        )
    for least, most in (("min_new_tokens", "max_new_tokens"), ("min_length", "max_length")):
        few, many = options.get(least), options.get(most)
        if few is not None and many is not None and few > many:
            raise ConfigurationError(
                f"{least} is {few}, and {most} is {many}; give no less than {few}, or leave {least} out"
            )


def merged(given: Mapping[str, Any], later: Mapping[str, Any]) -> dict[str, Any]:
    """Both, where the later ones count: what they contradict is left out."""
    given = {**given}
    if later.get("temperature") is not None:
        given.pop("do_sample", None)
    elif (said := later.get("do_sample")) is not None and bool(said) != bool(given.get("temperature")):
        given.pop("temperature", None)
    for least, most in (("min_new_tokens", "max_new_tokens"), ("min_length", "max_length")):
        if later.get(least) is None and given.get(least) is not None and later.get(most) is not None:
            given[least] = min(given[least], later[most])
    return {**given, **later}


def draws(options: Mapping[str, Any], *, unsaid: bool = False) -> bool:
    """Whether tokens are drawn. `unsaid`: whether the model's own configuration says so.

    A temperature of 0 draws none, whatever else is given. What only narrows a draw, such as `top_p`, makes none: by
    itself it changes nothing.
    """
    if (temperature := options.get("temperature")) is not None and not temperature:
        return False
    if (said := options.get("do_sample")) is not None:
        return bool(said)
    return temperature is not None or unsaid


def seed_in_32_bits(seed: int) -> int:
    """What a generator is given of a seed: itself where it is small enough, else a hash of it.

    llama.cpp and torch's generator of a processor take its last 32 bits, so that many seeds would be one.
    """
    if 0 <= seed < NO_SEED:
        return seed
    return int.from_bytes(blake2b(seed.to_bytes(16, "big"), digest_size=8).digest(), "big") % NO_SEED


# -- names -------------------------------------------------------------------------------------------------------------


def _advice(name: str, known: frozenset[str]) -> str:
    """What to do about an option that is no generation parameter."""
    of_loading = {*LOADING, *OF_BACKEND, "constrain"}
    if name in of_loading:
        return "'s replies; it is given with the model"
    if name.startswith(BITS_KEYWORDS):
        return "; write quantization='nf4' or 'int8'"
    if name in OF_CLASS:
        return f"; its class in transformers takes it: model_kwargs={{{name!r}: …}}"
    if name == "use_auth_token":
        return "; did you mean 'token'?"
    return meant(name, known | of_loading) or (
        f"; its chat template is told of one with chat_template_kwargs={{{name!r}: …}}"
    )


def meant(name: str, known: Collection[str]) -> str:
    """The end of a message about an option that is not known: the one that is meant by it, "" where none is near."""
    other = OTHER_NAMES.get(name, name)
    return did_you_mean(other if other in known else name, known)
