"""One pass of a model over new tokens, and what its architecture's cache can be trusted with."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.modeling_outputs import CausalLMOutputWithPast

from agentkit.models.local.attention_cache import BatchCache, growing_cache
from agentkit.models.local.lean_forward import LeanForward, is_lean
from agentkit.models.local.loading import errors_of_the_model, without_advice
from agentkit.models.local.media import MediaInputs
from agentkit.models.local.packed_products import MOST_TOKENS, FewTokens, PackedForward, has_products
from agentkit.models.local.prefix_cache import Reuse

CACHE_NAME = "cache" if hasattr(CausalLMOutputWithPast, "cache") else "past_key_values"  # until transformers 5.23
OTHER_CACHE_NAMES = ("past_key_values", "cache_params", "state")  # models with code of their own; Mamba, xLSTM; RWKV
PROBE_TOKENS, PROBE_SPLIT = 14, 6
TOLERANCE = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 3e-2}  # of the largest logit


class Forward:
    """Computes the logits after some tokens, given the cache of those before them.

    Attention keeps its keys and values apart per token, so its cache can be cut back and continued. Recurrent states
    cannot be cut back; some implementations are exact only token by token, and a few not even that. What is not plain
    attention is therefore measured once, on a few tokens, against no cache at all.

    Steps of a few tokens on a processor are taken with packed weights, those of the Llama family past the model's own
    forward, once it has been seen that they give the same; everything else goes through the model itself.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        adapted = getattr(model, "get_base_model", None)  # PEFT's hands on what it is given
        parameters = inspect.signature(adapted().forward if adapted else model.forward).parameters
        self._cache_name = next((n for n in (CACHE_NAME, *OTHER_CACHE_NAMES) if n in parameters), CACHE_NAME)
        self._options = {"logits_to_keep": 1} if "logits_to_keep" in parameters else {}
        self.plain_attention = _is_plain_attention(model)
        self._rope_limit = _rope_limit(model)
        in_chunks = bool(getattr(_text_config(model), "attention_chunk_size", None))
        self.can_batch = self.plain_attention and "position_ids" in parameters and not in_chunks
        self._moving = [module for module in model.modules() if hasattr(module, "rope_deltas")]
        self.renew()
        self.steps, self.extends = True, True
        if not self.plain_attention:
            with without_advice():
                self.steps, self.extends = self._measure()

    def renew(self) -> None:
        """Let go of what was made of the weights, which have changed."""
        self._few: FewTokens | None = None
        if self.plain_attention and has_products(self._model):
            self._few = PackedForward(self._model, lambda *args, **places: self._run_model(*args, **places)[0])
        if self.can_batch and self._rope_limit is None and is_lean(self._model):
            with suppress(AttributeError):  # where a version of transformers calls its parts otherwise
                self._few = LeanForward(self._model)

    @property
    def is_lean(self) -> bool:
        """Whether steps of a few tokens go past the model's own forward, as far as is known by now."""
        return isinstance(self._few, LeanForward)

    @property
    def device(self) -> torch.device:
        """Where the model's inputs go."""
        return input_device(self._model)

    def outdates(self, computed: int, tokens: int) -> bool:
        """Whether growing to `tokens` makes the first `computed` keys wrong: some scalings change with length."""
        return self._rope_limit is not None and computed <= self._rope_limit < tokens

    def can_reuse_at(self, tokens: int) -> bool:
        """Whether keys of an earlier sequence hold in a prompt of this length."""
        return self._rope_limit is None or tokens <= self._rope_limit

    @property
    def reuse(self) -> Reuse:
        """What a finished sequence's cache is good for."""
        if not self.extends:
            return "none"
        return "crop" if self.plain_attention else "extend"

    def holds(self, cache: Any, tokens: int) -> bool:
        """Whether `cache` has the keys of so many tokens, and nothing else: some layers attend to a picture's own."""
        if not self.plain_attention:
            return False
        return {layer.get_seq_length() for layer in cache.layers if layer.is_initialized} == {tokens}

    def __call__(
        self,
        ids: Sequence[int],
        computed: int,
        cache: Any,
        media: MediaInputs | None = None,
        *,
        in_its_own_way: bool = False,
    ) -> tuple[torch.Tensor, Any]:
        """The logits (1, vocabulary) after `ids`, and their cache; the first `computed` are in `cache`.

        `media` goes in with the first tokens, whose placeholders it fills. With `in_its_own_way` every step is the
        model's own, and is rounded as it rounds.
        """
        few = None if in_its_own_way else self._few
        if not self.steps:
            return self._run([ids], None, use_cache=False)
        if cache is None and media is not None:
            return self._run([ids], None, media=media.inputs)
        if cache is not None and not self.extends:
            for token in ids[computed:-1]:
                _, cache = self._run([[token]], cache, few=few)
            return self._run([ids[-1:]], cache, few=few)
        return self._run([ids[computed:]], cache, few=few)

    def batch(self, tokens: Sequence[int], cache: BatchCache) -> torch.Tensor:
        """The logits (batch, vocabulary) after one more token in each row of `cache`."""
        mask, positions = cache.grow(self.device)
        rows = [[token] for token in tokens]
        logits, _ = self._run(rows, cache.cache, few=self._few, attention_mask=mask, position_ids=positions[:, None])
        return logits

    def _run(
        self,
        rows: Sequence[Sequence[int]],
        cache: Any,
        *,
        few: FewTokens | None = None,
        use_cache: bool = True,
        media: Mapping[str, Any] | None = None,
        **places: torch.Tensor,
    ) -> tuple[torch.Tensor, Any]:
        """The logits (batch, vocabulary) after the tokens of each row, and the cache."""
        if cache is None or media or len(rows) * len(rows[0]) > MOST_TOKENS:
            few = None
        if few is not None and few.is_trusted:
            with torch.inference_mode(), errors_of_the_model("computing a reply"):
                logits = few(rows, cache, **places)
                few.pack()
            return logits, cache
        logits, cache = self._run_model(rows, cache, use_cache=use_cache, media=media, **places)
        if few is not None and not few.agrees(rows, cache, logits, **places):
            self._few = None
        return logits, cache

    def _run_model(
        self,
        rows: Sequence[Sequence[int]],
        cache: Any,
        *,
        use_cache: bool = True,
        media: Mapping[str, Any] | None = None,
        **places: torch.Tensor,
    ) -> tuple[torch.Tensor, Any]:
        """One pass of the model's own forward."""
        if cache is None and use_cache and self.plain_attention:
            cache = growing_cache()
        inputs = {**places, **{name: self._place(value) for name, value in (media or {}).items()}}
        if cache is not None:
            inputs[self._cache_name] = cache
        with torch.inference_mode(), self._offset(getattr(cache, "rope_deltas", None)):
            ids = torch.tensor(rows, device=self.device)
            with errors_of_the_model("computing a reply"):
                output = self._model(input_ids=ids, use_cache=use_cache, **inputs, **self._options)
            cache = getattr(output, CACHE_NAME, None) if use_cache else None
            if use_cache and cache is None:
                cache = getattr(output, self._cache_name, None)
            if media and self._moving and cache is not None:
                cache.rope_deltas = self._moving[0].rope_deltas
        return output.logits[:, -1], cache

    @contextmanager
    def _offset(self, offset: Any) -> Iterator[None]:
        """How far positions have moved from token numbers: models with positions in space keep that of the last prompt.

        It belongs to one sequence, so it travels with its cache; the model's own is put back.
        """
        own = [module.rope_deltas for module in self._moving]
        for module in self._moving:
            module.rope_deltas = offset
        try:
            yield
        finally:
            for module, before in zip(self._moving, own, strict=True):
                module.rope_deltas = before

    def _place(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self.device, self._model.dtype if value.is_floating_point() else None)

    def _measure(self) -> tuple[bool, bool]:
        """Whether continuing a cache token by token is exact, and whether several tokens at once are."""
        if getattr(self._model.config, "is_encoder_decoder", False):
            return False, False
        vocabulary = self._model.get_output_embeddings().weight.shape[0]
        ids = [(7 + 31 * n) % vocabulary for n in range(PROBE_TOKENS)]
        expected, _ = self._run([ids], None, use_cache=False)
        try:
            _, cache = self._run([ids[:PROBE_SPLIT]], None)
            logits, _ = self._run([ids[PROBE_SPLIT:]], copy.deepcopy(cache))
            extends = _close(logits, expected)
            for token in ids[PROBE_SPLIT:]:
                logits, cache = self._run([[token]], cache)
            return _close(logits, expected), extends and _close(logits, expected)
        except Exception:  # whatever an architecture cannot do with its cache, it can do without
            return False, False


def input_device(model: Any) -> torch.device:
    """Where a model's inputs go: one whose first weights lie on disk says of them that they are nowhere ("meta")."""
    device: torch.device = model.device
    if device.type != "meta":
        return device
    place = getattr(getattr(model, "_hf_hook", None), "execution_device", None)  # accelerate's
    return torch.device("cpu" if place is None else place)


def _is_plain_attention(model: Any) -> bool:
    if getattr(model.config, "is_encoder_decoder", False) or not model._supports_default_dynamic_cache():
        return False
    kinds = {type(layer) for layer in DynamicCache(config=model.config).layers}
    return kinds <= {DynamicLayer, DynamicSlidingWindowLayer}


def _text_config(model: Any) -> Any:
    return model.config.get_text_config(decoder=True)


def _rope_limit(model: Any) -> int | None:
    """The length beyond which "dynamic" and "longrope" rotary embeddings turn every key differently."""
    config = _text_config(model)
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type") not in ("dynamic", "longrope"):
        return None
    return int(rope.get("original_max_position_embeddings") or config.max_position_embeddings)


def _close(logits: torch.Tensor, expected: torch.Tensor) -> bool:
    tolerance = TOLERANCE.get(str(expected.dtype).removeprefix("torch."), 3e-2)
    return bool((logits - expected).abs().max() <= tolerance * expected.abs().max())
