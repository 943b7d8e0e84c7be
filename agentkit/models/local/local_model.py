"""A transformers model and its tokenizer: renders, encodes, decodes."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import ChatRequest, Chunk, Message, TokenLogprob, Usage
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.constraint import GrammarVocabulary, begun_thought, held_to
from agentkit.models.local.decoding import MOST_ROWS, Decoder, Detokenizer, NewToken, TokenSequence
from agentkit.models.local.encoding import PromptEncoder, WrittenTurn, first_that_fits
from agentkit.models.local.forward import Forward
from agentkit.models.local.media import MediaInputs, has_media, media_inputs
from agentkit.models.local.prefix_cache import PrefixCache
from agentkit.models.local.sampling import Choice, generate_whole, needs_generate, prepare_sampler
from agentkit.models.reply import ReplyReader


class LocalModel:
    """A transformers model and tokenizer with everything decoding needs. Safe to share between threads."""

    def __init__(self, model: Any, tokenizer: Any, *, most_rows: int = MOST_ROWS) -> None:
        """`tokenizer` is a processor where the model takes images, sound or video."""
        self.model = model
        self.processor = tokenizer
        self.tokenizer = getattr(tokenizer, "tokenizer", tokenizer)
        self.template = ChatTemplate(self.processor)
        self.prompts = PromptEncoder(self.tokenizer)
        forward = Forward(model)
        self.prefixes = PrefixCache(forward.reuse)
        self._decoder = Decoder(forward, self.prefixes, most_rows=most_rows)

    @cached_property
    def eos(self) -> frozenset[int]:
        """Every token that ends a reply: the generation config's and the tokenizer's."""
        configured = self.model.generation_config.eos_token_id
        ids = configured if isinstance(configured, list) else [configured]
        return frozenset(i for i in (*ids, self.tokenizer.eos_token_id) if i is not None)

    @cached_property
    def vocabulary(self) -> GrammarVocabulary:
        """The vocabulary as grammars need it."""
        size = self.model.get_output_embeddings().weight.shape[0]
        return GrammarVocabulary(self.tokenizer, size=size, eos=sorted(self.eos))

    @property
    def context_tokens(self) -> int:
        """How many tokens prompt and reply may have together."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or 2**31)

    def generate_chat(self, request: ChatRequest) -> Generator[Chunk]:
        """The reply to a conversation; the request's options name `max_new_tokens`."""
        if has_media(request.messages):
            prompt, ids, media = media_inputs(self.template, request.messages, request.tools, self.model.config)
            yield from self.generate_text(prompt, ids, request, media=media)
            return

        def encode(messages: list[Message]) -> tuple[str, list[int]]:
            prompt = self.template.render(messages, tools=request.tools)
            return prompt, self.prompts.encode(prompt)

        limit = self.context_tokens - min(request.options["max_new_tokens"], self.context_tokens // 4)
        prompt, ids, fitted = first_that_fits(request.messages, encode, limit)
        if fitted.dropped_observations or fitted.dropped_messages:
            dropped = {"observations": fitted.dropped_observations, "messages": fitted.dropped_messages}
            yield Chunk(metadata={"dropped_to_fit": dropped})
        yield from self.generate_text(prompt, ids, request)

    def generate_text(
        self, prompt: str, ids: Sequence[int], request: ChatRequest, *, media: MediaInputs | None = None
    ) -> Generator[Chunk]:
        """The continuation of `prompt`, whose tokens are `ids`."""
        request = replace(request, options=self._options(ids, request))
        if needs_generate(self.model, request.options):
            if request.grammar:
                raise ConfigurationError(
                    'expected no grammar with beam search, assisted decoding or an encoder-decoder; set constrain="off"'
                )
            yield from generate_whole(self.model, self.tokenizer, ids, request.options)
            return
        thought = begun_thought(prompt)
        sequence = self._sequence(ids, request, thought=thought, media=media)
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

    def _options(self, ids: Sequence[int], request: ChatRequest) -> dict[str, Any]:
        options = dict(request.options)
        room = self.context_tokens - len(ids)
        if room < 1:
            raise ConfigurationError(
                f"expected a prompt shorter than the model's {self.context_tokens} tokens, saw {len(ids)}; shorten it"
            )
        options["max_new_tokens"] = min(options["max_new_tokens"], room)
        if "do_sample" not in options and "temperature" in options:  # transformers ignores a temperature otherwise
            options["do_sample"] = bool(options["temperature"])
        if not options.get("temperature", 1):
            del options["temperature"]
        return options

    def _sequence(
        self, ids: Sequence[int], request: ChatRequest, *, thought: str, media: MediaInputs | None
    ) -> TokenSequence:
        constraint = None
        if request.grammar:
            constraint = held_to(request.grammar, self.tokenizer, self.vocabulary, begun=thought)
        sampler = prepare_sampler(
            self.model, ids, request.options, eos=self.eos, constraint=constraint, top_logprobs=request.top_logprobs
        )
        reader = ReplyReader(request.stop)

        def watch(text: str) -> bool:
            reader.read(Chunk(text=text))
            return reader.stopped

        detokenizer = Detokenizer(self.tokenizer, ids, keep_special=bool(request.tools))
        return TokenSequence(list(ids), sampler, detokenizer.feed, watch, media=media)

    def _chunk(self, sequence: TokenSequence, new: NewToken, count: int) -> Chunk:
        usage = Usage(sequence.prompt_tokens, count, sequence.cached_tokens)
        logprobs = () if new.choice.logprob is None else (self._logprob(new.choice),)
        return Chunk(text=new.text, logprobs=logprobs, usage=usage, finish_reason=new.finish_reason)

    def _logprob(self, choice: Choice) -> TokenLogprob:
        text = self.tokenizer.decode
        top = tuple((text([token]), logprob) for token, logprob in choice.top)
        return TokenLogprob(text([choice.token]), choice.logprob or 0.0, top)
