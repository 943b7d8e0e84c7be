"""Chooses tokens as transformers' own GenerationConfig says: `generate` prepares the processors, we run the loop.

Beam search, assisted decoding and encoder-decoders are no loop over tokens: `generate` computes their replies whole.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from transformers import EosTokenCriteria, LogitsProcessorList, MaxLengthCriteria, StoppingCriteriaList
from transformers.generation.configuration_utils import GenerationMode

from agentkit.errors import AgentkitError, ConfigurationError, ModelError, in_one_line
from agentkit.models.backend import Chunk, Usage
from agentkit.models.local.constraint import Constraint
from agentkit.models.local.forward import input_device
from agentkit.models.local.loading import PURPOSE, errors_of_the_model, missing_package, without_advice
from agentkit.models.local.parameters import FILTERS, seed_in_32_bits, with_floats

CLOSING_TOKENS = 64  # where a grammar holds, the last tokens of the limit (at most a third) are for ending well,
# and as many before them for going on from free text to what must follow it


@dataclass(frozen=True, slots=True)
class Choice:
    """A chosen token; with logprobs asked for, its own and the likeliest tokens' (ids and log probabilities)."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(eq=False, slots=True)
class Sampler:
    """Chooses the next token of one sequence from its logits."""

    processors: Any
    criteria: Any
    _: KW_ONLY
    do_sample: bool
    max_new_tokens: int
    eos: frozenset[int]
    generator: torch.Generator | None = None
    constraint: Constraint | None = None
    top_logprobs: int | None = None

    def choose(self, ids: Sequence[int], logits: torch.Tensor, *, room: int) -> Choice:
        """The next token from `logits` (1, vocabulary) after `ids`, when `room` tokens may still come."""
        if self.constraint is not None and self.is_nearly_full(room):
            closer = self.constraint.closer(text_only=room > min(CLOSING_TOKENS, self.max_new_tokens // 3))
            if closer is not None:
                if self.constraint.ends_content and not self.constraint.is_cut:
                    own = logits if self.constraint.allows(int(logits.argmax(-1))) else masked(logits, self.constraint)
                    self.constraint.is_cut = int(own.argmax(-1)) not in (closer, *self._same_end(closer))
                return self._with_logprob(closer, logits)
        scores = logits
        if self.processors:
            so_far, scores = torch.tensor([list(ids)], device=logits.device), scores.float()
            with errors_of_the_model("a logits processor"):
                for processor in self.processors:  # the list's own call inspects signatures each time: 0.5 ms
                    scores = processor(so_far, scores)
        if self.do_sample:
            probabilities = scores.softmax(-1)
            if not bool(probabilities.isfinite().all()):
                raise _no_choice(logits)
            chosen = torch.multinomial(probabilities, 1, generator=self.generator)
        else:
            chosen = scores.argmax(-1)
            if self.constraint is not None and not self.constraint.allows(int(chosen)):  # mostly it does: no mask then
                chosen = masked(scores, self.constraint).argmax(-1)
        return self._with_logprob(int(chosen), logits)

    def _same_end(self, token: int) -> frozenset[int]:
        """The tokens that end a reply as well as this one, if it does."""
        return self.eos if token in self.eos else frozenset()

    def is_nearly_full(self, room: int) -> bool:
        """Whether a reply that is held to a grammar has to come to its end, when `room` tokens may still come."""
        return room <= min(2 * CLOSING_TOKENS, self.max_new_tokens // 2)

    def ends(self, ids: Sequence[int]) -> bool:
        """Whether a criterion of the configuration (`max_time` …) ends the sequence."""
        if not self.criteria:
            return False
        with errors_of_the_model("a stopping criterion"):
            return bool(self.criteria(torch.tensor([list(ids)]), None).all())

    def _with_logprob(self, token: int, logits: torch.Tensor) -> Choice:
        if bool(logits[0, token].isnan()):  # which counts as the largest of all
            raise _no_choice(logits)
        if self.top_logprobs is None:
            return Choice(token)
        logprobs = logits[0].float().log_softmax(-1)
        top = logprobs.topk(min(self.top_logprobs, len(logprobs)))
        likeliest = zip(top.indices.tolist(), top.values.tolist(), strict=True)
        return Choice(token, float(logprobs[token]), tuple(likeliest))


def _no_choice(logits: torch.Tensor) -> AgentkitError:
    """Why no token can be chosen."""
    if bool(logits.isnan().any()):
        dtype = str(logits.dtype).removeprefix("torch.")
        advice = "download it again" if dtype == "float32" else "take dtype='float32', or download it again"
        return ModelError(f"the model computes no numbers (NaN in {dtype}); {advice}")
    return ConfigurationError("the generation parameters leave no token to choose; forbid fewer")


def masked(logits: torch.Tensor, constraint: Constraint) -> torch.Tensor:
    """`logits` with every token the grammar forbids at minus infinity."""
    allowed = constraint.allowed().to(logits.device)
    return logits.masked_fill(~allowed, float("-inf"))


def prepare_sampler(
    model: Any,
    ids: Sequence[int],
    options: Mapping[str, Any],
    *,
    eos: frozenset[int],
    constraint: Constraint | None = None,
    top_logprobs: int | None = None,
) -> Sampler:
    """A sampler for `ids` with whatever GenerationConfig has in `options`, plus `seed`."""
    options = dict(options)
    seed = options.pop("seed", None)
    options.pop("max_thinking_tokens", None)
    sampled = options.get("do_sample", model.generation_config.do_sample)
    masks = [lambda _, scores: masked(scores, constraint)] if constraint is not None and sampled else []  # before top_k
    prepared = _generate(model, ids, options, custom_generate=_capture, logits_processor=LogitsProcessorList(masks))
    config = prepared["generation_config"]
    generator = None
    if config.do_sample:
        generator = torch.Generator(device=input_device(model))
        generator.manual_seed(seed_in_32_bits(seed)) if seed is not None else generator.seed()
    return Sampler(
        prepared["logits_processor"],
        _own_criteria(prepared["stopping_criteria"]),
        do_sample=config.do_sample,
        max_new_tokens=config.max_length - len(ids),
        eos=eos.union(several(options.get("eos_token_id"))),
        generator=generator,
        constraint=constraint,
        top_logprobs=top_logprobs,
    )


def several(ids: int | Sequence[int] | None) -> Sequence[int]:
    """Token ids as configurations have them: one, several or none."""
    return () if ids is None else (ids,) if isinstance(ids, int) else ids


def _capture(_model: Any, _ids: Any, **prepared: Any) -> dict[str, Any]:
    """Stands where `generate` would run its loop (its documented `custom_generate`): hands back what it prepared."""
    return prepared


def _own_criteria(criteria: Any) -> Any:
    """The criteria beyond length and end of sequence, which the loop itself knows."""
    return StoppingCriteriaList([c for c in criteria if not isinstance(c, EosTokenCriteria | MaxLengthCriteria)])


def needs_generate(model: Any, options: Mapping[str, Any]) -> bool:
    """Whether these options (or this model) need a search that is not one token after the other."""
    if getattr(model.config, "is_encoder_decoder", False):
        return True
    config = copy.copy(model.generation_config)
    with _errors_of_parameters():
        config.update(**{name: value for name, value in options.items() if hasattr(config, name)})
    mode = config.get_generation_mode(options.get("assistant_model"))
    return mode not in (GenerationMode.GREEDY_SEARCH, GenerationMode.SAMPLE)


def generate_whole(
    model: Any, tokenizer: Any, ids: Sequence[int], options: Mapping[str, Any], *, left_out: Collection[int] = ()
) -> Iterator[Chunk]:
    """The reply as one chunk, without `left_out`; nothing is cached, and a stop string is cut only afterwards."""
    options = dict(options)
    seed = options.pop("seed", None)
    devices = range(torch.cuda.device_count())
    failing = errors_of_the_model("computing a reply")
    with failing, torch.inference_mode(), torch.random.fork_rng(devices, enabled=seed is not None):
        if seed is not None:  # `generate` draws from torch's own generators, which belong to the whole process
            torch.manual_seed(seed_in_32_bits(seed))
        tokens = _generate(model, ids, options)
    start = 0 if getattr(model.config, "is_encoder_decoder", False) else len(ids)
    reply: Sequence[int] = tokens[0, start:].tolist()
    yield Chunk(
        text=tokenizer.decode([token for token in reply if token not in left_out]).rstrip("\ufffd"),
        usage=Usage(len(ids), len(reply)),
        finish_reason="length" if len(reply) >= options.get("max_new_tokens", len(reply) + 1) else "stop",
    )


def _generate(model: Any, ids: Sequence[int], options: Mapping[str, Any], **own: Any) -> Any:
    """`generate` without its stop strings, for which it would build tables at every call: replies are cut as text."""
    prompt = torch.tensor([list(ids)], device=input_device(model))
    whole = {name: value for name, value in vars(model.generation_config).items() if type(value) is int}
    of_model = {name: value for name, value in with_floats(whole).items() if type(value) is float}
    sampled = options.get("do_sample", model.generation_config.do_sample)
    # what is not used may be set in the model's own: it is warned of
    unused = {} if sampled else dict.fromkeys(("temperature", *FILTERS))
    with _errors_of_parameters():
        return model.generate(prompt, **with_floats({**of_model, **options, **unused, "stop_strings": None}), **own)


@contextmanager
def _errors_of_parameters() -> Iterator[None]:
    """Turns what transformers says of generation parameters, those of the model's own file too, into one line."""
    try:
        with without_advice():
            yield
    except ImportError as error:
        raise missing_package(error, PURPOSE) from error
    except (TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise ConfigurationError(
            f"expected generation parameters that GenerationConfig knows: {in_one_line(error, 300)}"
        ) from error
