"""A model in a GGUF file as a chat backend: llama.cpp computes it in this process, without torch."""

from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError, ModelError
from agentkit.models.backend import DROPPED_TO_FIT, Capabilities, ChatRequest, Chunk, Constrain, InProcess, Message
from agentkit.models.gguf.beginning import FEWEST_CHARACTERS, Beginnings, beginning_of, characters
from agentkit.models.gguf.engine import Engine, identity
from agentkit.models.gguf.loading import Adapters, check_generation, read_model, start_of
from agentkit.models.gguf.reply import Full, Model, Reply, as_prompt, check
from agentkit.models.gguf.slots import Slots
from agentkit.models.gguf.vocabulary import FileVocabulary, Piece, check_ends
from agentkit.models.local.backend import (
    DEFAULT_MAX_NEW_TOKENS,
    LENGTHS,
    TURN_GRAMMARS,
    actions_grammar,
    in_process,
    iterate_in_thread,
)
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.constraint import BeforeAnswer, begun_thought, check_grammar
from agentkit.models.local.encoding import LARGER, PromptEncoder, WrittenTurn, first_that_fits, too_long
from agentkit.models.local.loading import template_text
from agentkit.models.local.media import has_media
from agentkit.models.local.parameters import draws, merged, seed_in_32_bits
from agentkit.models.local.thoughts import unwritten_tokens
from agentkit.models.reply import ended_at

SAMPLERS = ("penalties", "temperature", "top_k", "typ_p", "top_p", "min_p")
"""What chooses a token, in the order in which transformers has it."""
LETTERS = 3  # of a token, at the least in most texts
TOP_K = 50  # of replies that are drawn, where nobody says another: that of transformers
NAMES = {"typical_p": "typical_p", "top_p": "top_p", "min_p": "min_p", "repetition_penalty": "repeat_penalty"}
"""Parameters of GenerationConfig whose value llama.cpp takes as it is, and what it calls them."""


class GgufBackend(InProcess):
    """The model in a GGUF file, with LoRA adapters.

    `n_ctx` tokens are the most that a prompt and its reply have together: by itself what the file says, or less where
    the memory has no room for that. `batch_size` replies are computed together; the others wait. `refusals` are the
    final answers that the model gives where it has none. What else it takes is as with `LocalBackend`; the rest of
    `options` is of `agentkit.models.gguf.loading`.
    """

    def __init__(
        self,
        file: str | Path,
        *,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        constrain: Constrain = "actions",
        refusals: frozenset[str] = frozenset(),
        reuse: bool = True,
        chat_template: str | Path | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> None:
        check_generation(pipeline_kwargs or {})
        template = template_text(chat_template)
        read = read_model(file)
        check_ends(read)
        self.model_id = str(file)
        self.weights = read.weights
        self.adapters = Adapters.of(options.pop("adapter", None), options.pop("adapter_scale", 1.0))
        start = replace(start_of(read, self.adapters, **options), keeps_beginnings=reuse)
        engine = Engine(start, for_grammars=constrain != "off")  # which loads meanwhile
        vocabulary = FileVocabulary(read)
        self.template = ChatTemplate(vocabulary, template=template).told(chat_template_kwargs or {})
        self._options = dict(pipeline_kwargs or {})
        self._stop = _texts(self._options.pop("stop_strings", None))
        self._constrain: Constrain = constrain
        self._refusals = refusals
        self._reuse = reuse
        self._vocabulary = vocabulary
        self._prompts = PromptEncoder(vocabulary)
        self._slots = Slots(start.slots, start.context)
        self.threads = start.threads
        self.context_tokens = start.context
        most = read.of_model("context_length")
        self._more = f"a larger n_ctx (of at most {most})" if start.context < most else LARGER
        before = BeforeAnswer(vocabulary, template=self.template.shown)
        self._model = Model(engine, vocabulary, before, start.context)
        if constrain != "off":
            _ = vocabulary.for_grammars  # read meanwhile, as the first reply needs it
        engine.ready()
        self._beginnings = Beginnings(engine, [*identity(start), start.context]) if engine.keeps_beginnings else None

    @cached_property
    def capabilities(self) -> Capabilities:
        """What this model can do; its template is asked how it writes tool calls."""
        learned: dict[str, Any] = {"prompt": self.adapters.prompt} if self.adapters.prompt else {}
        if lines := self.adapters.answer_lines:
            learned["turn_grammars"] = {**TURN_GRAMMARS, "actions": partial(actions_grammar, answer_lines=lines)}
        return in_process(
            self.template,
            weights=self.weights,
            options=self._limited({}),
            context_tokens=self.context_tokens,
            constrain=self._constrain,
            identity=self.model_id,
            refusals=self._refusals,
            **learned,
        )

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt that the model sees for these messages, for people to read."""
        return self.template.prompt_text(messages, tools)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply to a conversation."""
        options = self._limited(request.options)
        own = _texts(options.pop("stop_strings", None)) or self._stop
        check_generation(options, of_request=True)
        request = replace(request, stop=(*request.stop, *own), options=options)
        return ended_at(own, self._reply(request))

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, waited for in a thread."""
        return iterate_in_thread(lambda: self.generate_chat(request))

    def forget(self) -> None:
        """Let what was computed of earlier prompts count for no later one."""
        self._prompts = PromptEncoder(self._vocabulary)
        self._slots.forget()
        self._beginnings = None

    def close(self) -> None:
        """Give up what is computed, and let go of the model."""
        self._model.engine.close()

    def _limited(self, options: Mapping[str, Any]) -> dict[str, Any]:
        options = {"reuse": self._reuse, **merged(self._options, options)}
        if any(options.get(name) is not None for name in LENGTHS):
            return options
        return options | {"max_new_tokens": DEFAULT_MAX_NEW_TOKENS}

    def _reply(self, request: ChatRequest) -> Generator[Chunk]:
        self._model.engine.check()
        if request.grammar:
            check_grammar(request.grammar)
        if has_media(request.messages):
            raise ConfigurationError("expected messages of text, saw an image, sound or video; llama.cpp is given none")
        options = request.options
        body = self._sampling(options) | {"lora": self.adapters.scales(options.get("adapter"))}
        template = self.template.told(options.get("chat_template_kwargs") or {})

        def encode(messages: list[Message]) -> tuple[str, _Counted]:
            prompt = template.render(messages, tools=request.tools)
            return prompt, _Counted(self._prompts.encode(prompt), self)

        longest = options.get("max_new_tokens") or options["max_length"]
        prompt, pieces, fitted = first_that_fits(
            request.messages,
            encode,
            context=self.context_tokens,
            longest=longest,
            more=self._more,
            shortens=request.shortens,
        )
        if fitted.dropped:
            yield Chunk(metadata={DROPPED_TO_FIT: fitted.dropped})
        length = self._length(options, pieces)
        tokens = {str(token): id_ for id_, token in self._vocabulary.added_tokens_decoder.items()}
        left_out = () if request.tools else unwritten_tokens(self._vocabulary)
        body |= {
            "cache_prompt": options["reuse"] is not False,
            "preserved_tokens": [text for text, id_ in tokens.items() if id_ not in left_out],
            "n_probs": max(request.top_logprobs or 0, 1),
            "post_sampling_probs": request.top_logprobs is None,
            "return_progress": True,
            "timings_per_token": True,
        }
        written = list(pieces.pieces)
        reply = Reply(self._model, request, written, body=body, length=length, thought=begun_thought(prompt))
        try:
            yield from self._in_a_slot(reply, written, pieces.about() + length)
        finally:
            if not self._vocabulary.joins_pieces:
                begun: Any = tuple(pieces.pieces)
                ids: Any = tuple(reply.written)
                self._prompts.remember(WrittenTurn(prompt, begun, ids, tuple(reply.texts)))

    def _in_a_slot(self, reply: Reply, written: Sequence[Piece], tokens: int) -> Generator[Chunk]:
        """The reply's chunks; where all slots together have no room for it after all, it goes on alone."""
        try:
            with self._slots.taken(written, tokens) as (slot, held):
                reply.body["id_slot"] = slot
                reply.body["cache_prompt"] &= not self._slots.is_forgotten(slot)
                yield from self._brought(reply, written, slot, held)
                yield from reply.chunks()
                return
        except Full:
            pass
        with self._slots.taken(written, self.context_tokens) as (reply.body["id_slot"], _):
            try:
                yield from reply.chunks()
            except Full as full:
                raise ModelError(f"llama.cpp: {full}") from full

    def _brought(self, reply: Reply, prompt: Sequence[Piece], slot: int, held: int) -> Generator[Chunk]:
        """Before a reply in a slot that does not hold what its prompt begins with: that, as it was computed before."""
        beginnings = self._beginnings
        first = next((each["content"] for each in reply.request.messages if each["role"] != "system"), None)
        beginning = beginning_of(prompt, first) if isinstance(first, str) else []
        length = characters(beginning)
        if beginnings is None or not reply.body["cache_prompt"] or held >= length or length < FEWEST_CHARACTERS:
            return
        answers = beginnings.bring(beginning, as_prompt(beginning), slot, reply.body)
        while True:
            try:
                check(next(answers), self.context_tokens)
            except StopIteration as done:
                reply.computed = done.value
                return
            yield Chunk()

    def _length(self, options: Mapping[str, Any], pieces: _Counted) -> int:
        """How many tokens the reply has at most; raises for a prompt that leaves no room for one."""
        longest, total = options.get("max_new_tokens"), options.get("max_length")
        most = self.context_tokens if longest or not total else min(total, self.context_tokens)
        room = most - len(pieces)
        if room < (longest or 1):
            room = most - pieces.exactly()
        if room < 1 and most < self.context_tokens:
            raise ConfigurationError(f"max_length is {most}, and the prompt has {most - room} tokens; give more")
        if room < 1:
            raise too_long(most - room, most, self._more)
        return min(longest or room, room)

    def _sampling(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """How tokens are chosen, in llama.cpp's words."""
        temperature = options.get("temperature")
        body: dict[str, Any] = {
            "temperature": (1.0 if temperature is None else temperature) if draws(options) else 0.0,
            "top_k": TOP_K if options.get("top_k") is None else options["top_k"],
            "samplers": list(SAMPLERS),
        }
        body |= {"top_p": 1.0, "min_p": 0.0, "typical_p": 1.0, "repeat_penalty": 1.0}
        body |= {"repeat_last_n": self.context_tokens} | {
            theirs: options[ours] for ours, theirs in NAMES.items() if options.get(ours) is not None
        }
        return body | ({"seed": seed_in_32_bits(options["seed"])} if options.get("seed") is not None else {})

    def count(self, pieces: Sequence[Piece]) -> int:
        """How many tokens a prompt has, by llama.cpp itself, which computes none of it."""
        body = {"prompt": as_prompt(pieces), "n_predict": 1, "return_progress": True}
        with closing(self._model.engine.stream(body)) as answers:
            for answer in answers:
                if "n_prompt_tokens" in (error := answer.get("error") or {}):
                    return int(error["n_prompt_tokens"])
                check(answer, self.context_tokens)
                if progress := answer.get("prompt_progress"):
                    return int(progress["total"])
        return 0


class _Counted:
    """The pieces of a prompt as so many tokens: no fewer than they are, and just so many where that matters."""

    def __init__(self, pieces: Sequence[Any], backend: GgufBackend) -> None:
        self.pieces: list[Piece] = list(pieces)
        self._backend = backend

    def __len__(self) -> int:
        most = sum(len(each.encode()) + 1 if isinstance(each, str) else 1 for each in self.pieces)
        return most if most <= self._backend.context_tokens // 2 else self.exactly()

    def about(self) -> int:
        """How many they are, roughly."""
        return sum(len(each) // LETTERS + 1 if isinstance(each, str) else 1 for each in self.pieces)

    def exactly(self) -> int:
        """How many tokens there are, counted."""
        return self._exact

    @cached_property
    def _exact(self) -> int:
        return self._backend.count(self.pieces)


def _texts(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())
