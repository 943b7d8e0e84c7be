"""Replies that transformers' own `generate` computes in one piece: beam search, assisted decoding, encoder-decoders."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Chunk, Usage


def needs_generate(model: Any, options: Mapping[str, Any]) -> bool:
    """Whether these options (or this model) need a search that is not one token after the other."""
    from transformers.generation.configuration_utils import GenerationMode

    if getattr(model.config, "is_encoder_decoder", False):
        return True
    config = copy.copy(model.generation_config)
    config.update(**{name: value for name, value in options.items() if hasattr(config, name)})
    mode = config.get_generation_mode(options.get("assistant_model"))
    return mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def generate_whole(
    model: Any, tokenizer: Any, inputs: Mapping[str, Any], options: Mapping[str, Any]
) -> Iterator[Chunk]:
    """The reply as one chunk; nothing is cached, and a stop string is cut only afterwards."""
    import torch

    options = dict(options)
    if (seed := options.pop("seed", None)) is not None:
        torch.manual_seed(seed)
    prompt_tokens = inputs["input_ids"].shape[1]
    try:
        with torch.inference_mode():
            tokens = model.generate(**inputs, **options)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"expected generation parameters that GenerationConfig knows: {' '.join(str(error).split())[:300]}"
        ) from error
    start = 0 if getattr(model.config, "is_encoder_decoder", False) else prompt_tokens
    reply: Sequence[int] = tokens[0, start:].tolist()
    yield Chunk(
        text=tokenizer.decode(reply, skip_special_tokens=True).rstrip("\ufffd"),
        usage=Usage(prompt_tokens, len(reply)),
        finish_reason="length" if len(reply) >= options.get("max_new_tokens", len(reply) + 1) else "stop",
    )
