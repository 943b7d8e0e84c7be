"""A transformers model and its tokenizer: renders, encodes, decodes."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import DROPPED_TO_FIT, ChatRequest, Chunk, Message, TokenLogprob, Usage
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.constraint import BeforeAnswer, Constraint, GrammarVocabulary, begun_thought, cut_off
from agentkit.models.local.decoding import (
    MOST_ROWS,
    Decoder,
    Detokenizer,
    NewToken,
    TokenSequence,
)
from agentkit.models.local.encoding import LARGER, PromptEncoder, WrittenTurn, first_that_fits, too_long
from agentkit.models.local.forward import Forward
from agentkit.models.local.media import MediaInputs, has_media, media_inputs
from agentkit.models.local.parameters import draws
from agentkit.models.local.prefix_cache import PrefixCache
from agentkit.models.local.sampling import Choice, generate_whole, needs_generate, prepare_sampler, several
from agentkit.models.local.thoughts import ReplyWatch, unwritten_tokens
from agentkit.models.local.weights import Weights

OWN_OPTIONS = ("adapter", "chat_template_kwargs", "reuse")
"""Options of a request that are none of `generate`."""
SEARCHES = "beam search, assisted decoding or an encoder-decoder"


class LocalModel:
    """A transformers model and tokenizer with everything decoding needs. Safe to share between threads.

    Options of a request that are its own: `adapter` names the one that computes the reply, `reuse=False` computes it by
    itself, whatever was asked before or is asked meanwhile, and `chat_template_kwargs` are told to the template.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        most_rows: int = MOST_ROWS,
        chat_template: str | None = None,
        variables: Mapping[str, Any] | None = None,
    ) -> None:
        """`tokenizer` is a processor where the model takes images, sound or video."""
        self.model = model
        self.processor = tokenizer
        self.tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self.template = ChatTemplate(self.processor, template=chat_template).told(variables or {})
        self.prompts = PromptEncoder(self.tokenizer)
        self.forward = Forward(model)
        self.prefixes = PrefixCache(self.forward.reuse)
        self.weights = Weights(model)
        self._decoder = Decoder(self.forward, self.prefixes, self.weights, most_rows=most_rows)

    def forget(self) -> None:
        """Let go of what was made of earlier prompts, of the model's weights and settings, and of its vocabulary."""
        self.prefixes.clear()
        self.weights.forget()
        self.prompts = PromptEncoder(self.tokenizer)
        for name in ("vocabulary", "before_answer", "_unwritten"):
            vars(self).pop(name, None)

    @property
    def eos(self) -> frozenset[int]:
        """Every token that ends a reply: the generation config's, which may change, and the tokenizer's."""
        return frozenset((*several(self.model.generation_config.eos_token_id), *several(self.tokenizer.eos_token_id)))

    @cached_property
    def vocabulary(self) -> GrammarVocabulary:
        """The vocabulary as grammars need it."""
        size = self.model.get_output_embeddings().weight.shape[0]
        return GrammarVocabulary.of(self.tokenizer, size=size, eos=sorted(self.eos))

    @cached_property
    def before_answer(self) -> BeforeAnswer:
        """What it may write in front of the part of a reply that a grammar holds."""
        return BeforeAnswer(self.tokenizer, template=self.template.shown)

    @cached_property
    def _unwritten(self) -> frozenset[int]:
        return unwritten_tokens(self.tokenizer)

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and reply may have together."""
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None) or 0
        return int(limit) if limit > 0 else 2**31

    def generate_chat(self, request: ChatRequest) -> Generator[Chunk]:
        """The reply to a conversation; its options name `max_new_tokens`, or a `max_length` that counts the prompt."""
        template = self.template.told(request.options.get("chat_template_kwargs") or {})
        if has_media(request.messages):
            prompt, ids, media = media_inputs(template, request.messages, request.tools, self.model.config)
            yield from self.generate_text(prompt, ids, request, media=media)
            return

        def encode(messages: list[Message]) -> tuple[str, list[int]]:
            prompt = template.render(messages, tools=request.tools)
            return prompt, self.prompts.encode(prompt)

        longest = request.options.get("max_new_tokens") or request.options["max_length"]
        prompt, ids, fitted = first_that_fits(
            request.messages,
            encode,
            context=self.context_tokens,
            longest=longest,
            more=LARGER,
            shortens=request.shortens,
        )
        if fitted.dropped:
            yield Chunk(metadata={DROPPED_TO_FIT: fitted.dropped})
        yield from self.generate_text(prompt, ids, request)

    def generate_text(
        self, prompt: str, ids: Sequence[int], request: ChatRequest, *, media: MediaInputs | None = None
    ) -> Generator[Chunk]:
        """The continuation of `prompt`, whose tokens are `ids`."""
        adapter, alone = request.options.get("adapter"), request.options.get("reuse") is False
        if adapter is not None:
            self.weights.check_adapter(adapter)
        request = replace(request, options=self._options(ids, request))
        thought = begun_thought(prompt)
        if needs_generate(self.model, request.options) or self.weights.has_virtual_tokens:
            if adapter is not None:
                raise ConfigurationError(f"expected no adapter with {SEARCHES}; leave it out")
            yield Chunk(text=thought)
            yield from self._whole(ids, request)
            return
        sequence = self._sequence(ids, request, thought=thought, media=media)
        sequence.adapter, sequence.alone = adapter, alone
        if thought:  # the template began it: so does the reply
            yield Chunk(text=thought)
            sequence.watch(thought)
        pieces: list[str] = []
        try:
            with closing(self._decoder.decode(sequence)) as tokens:
                for new in tokens:
                    pieces.append(new.text)
                    yield self._chunk(sequence, new, len(pieces))
        finally:
            if media is None:
                written = tuple(sequence.ids[len(ids) :][: len(pieces)])
                self.prompts.remember(WrittenTurn(prompt, tuple(ids), written, tuple(pieces)))

    def _whole(self, ids: Sequence[int], request: ChatRequest) -> Iterator[Chunk]:
        if request.grammar:
            raise ConfigurationError(f'expected no grammar with {SEARCHES}; set constrain="off"')
        if request.top_logprobs is not None:
            raise ConfigurationError(f"expected no log probabilities with {SEARCHES}; leave logprobs out")
        if request.options.get("max_thinking_tokens") is not None:
            raise ConfigurationError(f"max_thinking_tokens holds no reply of {SEARCHES}; leave it out")
        left_out = () if request.tools else self._unwritten
        return generate_whole(self.model, self.tokenizer, ids, request.options, left_out={*left_out, *self.eos})

    def _longest(self, options: Mapping[str, Any]) -> int:
        """How many tokens prompt and reply may have together; `max_length` counts where no other limit is named."""
        limit = None if options.get("max_new_tokens") else options.get("max_length")
        return min(self.context_tokens, limit or self.context_tokens)

    def _options(self, ids: Sequence[int], request: ChatRequest) -> dict[str, Any]:
        options = {name: value for name, value in request.options.items() if name not in OWN_OPTIONS}
        longest = self._longest(options)
        room = longest - len(ids)
        if room < 1:
            if longest < self.context_tokens:
                raise ConfigurationError(f"max_length is {longest}, and the prompt has {len(ids)} tokens; give more")
            raise too_long(len(ids), longest)
        options["max_new_tokens"] = min(options.get("max_new_tokens") or room, room)
        options.pop("max_length", None)
        for name, most in (("min_new_tokens", room), ("min_length", longest)):
            if options.get(name) is not None:
                options[name] = min(options[name], most)
        own = self.model.generation_config
        options["do_sample"] = draws(options, unsaid=bool(own.do_sample) and own.temperature != 0)
        if not options["do_sample"] or options.get("temperature") is None:
            options.pop("temperature", None)
        return options

    def _sequence(
        self, ids: Sequence[int], request: ChatRequest, *, thought: str, media: MediaInputs | None
    ) -> TokenSequence:
        constraint = None
        if request.grammar:
            constraint = Constraint(
                request.grammar,
                self.vocabulary,
                before=self.before_answer,
                begun=thought,
                tells_cut=request.holds_values,
            )
        sampler = prepare_sampler(
            self.model, ids, request.options, eos=self.eos, constraint=constraint, top_logprobs=request.top_logprobs
        )
        limit = request.options.get("max_thinking_tokens")
        watch = ReplyWatch(request.stop, self.prompts.encode_after, max_thinking_tokens=limit)
        detokenizer = Detokenizer(self.tokenizer, ids, left_out=() if request.tools else self._unwritten)
        return TokenSequence(list(ids), sampler, detokenizer.feed, watch, media=media)

    def _chunk(self, sequence: TokenSequence, new: NewToken, count: int) -> Chunk:
        usage = Usage(sequence.prompt_tokens, count, sequence.cached_tokens)
        logprobs = () if new.choice.logprob is None else (self._logprob(new.choice),)
        metadata = cut_off(sequence.watch, sequence.sampler.constraint) if new.finish_reason is not None else None
        return Chunk(text=new.text, logprobs=logprobs, usage=usage, finish_reason=new.finish_reason, metadata=metadata)

    def _logprob(self, choice: Choice) -> TokenLogprob:
        text = self.tokenizer.decode
        top = tuple((text([token]), logprob) for token, logprob in choice.top)
        return TokenLogprob(text([choice.token]), choice.logprob or 0.0, top)
