"""A transformers model in this process as a chat backend: loaded or ready, with generation parameters of its own.

torch and transformers are imported with the first model: the files beside this one that compute import them at their
top and are imported from here only then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agentkit.errors import ConfigurationError, ModelError, described
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Constrain, InProcess, Message, TurnGrammar
from agentkit.models.builtin.copying import REFUSALS, copying_grammar
from agentkit.models.builtin.reading import role_of
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.constraint import refusal
from agentkit.models.local.encoding import of_characters
from agentkit.models.local.loading import (
    CLOSED,
    LOADING,
    Loading,
    load_model,
    load_tokenizer,
    loading_errors,
    memory_errors,
    template_text,
)
from agentkit.models.local.media import kinds_taken
from agentkit.models.local.parameters import check_options, check_together, merged
from agentkit.models.reply import ended_at
from agentkit.models.stopping import stop_strings
from agentkit.option_kinds import check_kinds
from agentkit.react_json.grammar import ANSWER_LINES, react_json_grammar
from agentkit.react_json.prompt import DEFAULT_PROMPT, WITH_EXAMPLES

if TYPE_CHECKING:
    from agentkit.events import Step
    from agentkit.models.local.local_model import LocalModel
    from agentkit.tool import Tool

DEFAULT_BATCH_SIZE = 16
DEFAULT_MAX_NEW_TOKENS = 512
ENDS: Mapping[str, Any] = {"eos_token_id": int | Sequence[int] | None}
OF_REPLIES: Mapping[str, Any] = {
    "adapter": str | None,
    "chat_template_kwargs": Mapping[str, Any] | None,
    "reuse": bool | None,
}
"""Options of a request that are no generation parameters, with their kinds."""
LENGTHS = ("max_new_tokens", "max_length")
"""The limits of a reply by itself, and together with its prompt; the first counts where both are named."""
NEEDS_EXAMPLES = 1_000_000_000  # parameters below which a model does what it has seen done, not what it is told

T = TypeVar("T")


def actions_grammar(
    tools: Sequence[Tool],
    question: str,
    steps: Sequence[Step],
    *,
    thought_open: bool,
    acts: bool = False,
    answer_lines: int = ANSWER_LINES,
    answer_schema: Any = None,
    closes: bool = False,
) -> str:
    """The grammar of a turn in which any tool may be called; neither the question nor the steps matter."""
    schemas = [] if closes else [(tool.name, tool.input_schema) for tool in tools]
    held = {"answer_lines": answer_lines, "answer_schema": answer_schema}
    return react_json_grammar(schemas, thought_open=thought_open, acts=acts, **held)


TURN_GRAMMARS: Mapping[str, TurnGrammar] = {"actions": actions_grammar, "copy": copying_grammar}


def in_process(template: ChatTemplate, *, weights: int, options: Mapping[str, Any], **more: Any) -> Capabilities:
    """What a model of so many `weights` in this process can do; `template` is asked how it writes tool calls."""
    declared: dict[str, Any] = {
        "prompt": WITH_EXAMPLES if weights < NEEDS_EXAMPLES else DEFAULT_PROMPT,
        "max_new_tokens": next(filter(None, map(options.get, LENGTHS))),
        "refusals": REFUSALS,
        "turn_grammars": TURN_GRAMMARS,
        "refuses": refusal,
        **more,
    }
    return Capabilities(
        in_process=True,
        over_http=False,
        grammar=True,
        tools=True,
        call_syntax=template.call_syntax,
        special_tokens=template.special,
        role_of=role_of,
        **declared,
    )


class LocalBackend(InProcess):
    """A model and its tokenizer (a processor where the model takes images, sound or video).

    `pipeline_kwargs` are generation parameters: whatever GenerationConfig has, and `seed`. Its `stop_strings`, the
    model's own or given, end every reply. At most `batch_size` replies are computed together, the others wait.
    `constrain` is the grammar that an agent asks for. With `reuse=False` every reply is computed by itself, from the
    beginning of its prompt and by the model's own forward, so that a greedy one is that of `generate`, in 16 bits too.
    `chat_template`, a text or a file, stands in for the model's own; `chat_template_kwargs` are told to it
    (`{"enable_thinking": False}`). The model and its tokenizer stay as they are; on a processor its weights are kept a
    second time, in 16 bits, if half of the memory that is free has room for them. A token then takes a third of the
    time in models of the Llama family, of which `local.forward.is_lean` is true, else two thirds.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        model_id: str = "",
        pipeline_kwargs: Mapping[str, Any] | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        constrain: Constrain = "actions",
        reuse: bool = True,
        chat_template: str | Path | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        if tokenizer is None:
            raise ConfigurationError("expected a model and its tokenizer (or processor), saw no tokenizer; give both")
        if not hasattr(tokenizer, "apply_chat_template"):
            raise ConfigurationError(f"expected a tokenizer (or processor) of transformers, saw {described(tokenizer)}")
        check_options(pipeline_kwargs or {})
        _check_model(model, tokenizer)
        from agentkit.models.local.local_model import LocalModel

        self.model_id = model_id or str(model.config.name_or_path) or "model"
        self._options = dict(pipeline_kwargs or {})
        self._constrain: Constrain = constrain
        self._reuse = reuse
        self._made_with: Mapping[str, Any] = {
            "model_id": self.model_id,
            "pipeline_kwargs": self._options,
            "batch_size": batch_size,
            "constrain": constrain,
            "reuse": reuse,
            "chat_template": chat_template,
            "chat_template_kwargs": chat_template_kwargs,
        }
        self._local: LocalModel | None = LocalModel(
            model,
            tokenizer,
            most_rows=batch_size,
            chat_template=template_text(chat_template),
            variables=chat_template_kwargs,
        )
        check_together(self._limited({}))

    @classmethod
    def from_model_id(
        cls,
        model_id: str,
        *,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        **options: Any,
    ) -> LocalBackend:
        """Load a model from a folder, a file or a repository: `options` are those of `Loading`, and its own."""
        if not model_id:
            raise ConfigurationError("expected a model_id, a pipeline, or a model and its tokenizer; saw none")
        check_options(pipeline_kwargs or {})
        template_text(options.get("chat_template"))
        loading = Loading(**{name: options.pop(name) for name in LOADING if name in options})
        model, tokenizer = load_model(model_id, loading)
        with loading_errors(model_id):  # of files that break only when they are used
            return cls(model, tokenizer, model_id=model_id, pipeline_kwargs=pipeline_kwargs, **options)

    @property
    def local(self) -> LocalModel:
        """The model with its caches; raises `ModelError` once it is closed."""
        if self._local is None:
            raise ModelError(CLOSED)
        return self._local

    @cached_property
    def capabilities(self) -> Capabilities:
        """What this model can do; its template is asked how it writes tool calls."""
        return in_process(
            self.local.template,
            weights=self.local.model.num_parameters(),
            options=self._limited({}),
            context_tokens=self.local.context_tokens,
            images="image" in kinds_taken(self.local.template.processor),
            constrain=self._constrain,
            identity=self.model_id,
        )

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt that the model sees for these messages, for people to read."""
        return self.local.template.prompt_text(messages, tools)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply to a conversation."""
        return self._reply("a reply of", request, self.local.generate_chat)

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, computed in a thread."""
        return iterate_in_thread(lambda: self.generate_chat(request))

    def generate_text(self, prompt: str, request: ChatRequest) -> Iterator[Chunk]:
        """The continuation of a bare text; the request has no messages."""
        tokenizer = self.local.tokenizer
        bos = tokenizer.bos_token
        prompt = of_characters(prompt)
        ids = tokenizer(prompt, add_special_tokens=not (bos and prompt.startswith(bos)))["input_ids"]
        return self._reply("a text of", request, lambda asked: self.local.generate_text(prompt, ids, asked))

    def _reply(
        self, doing: str, request: ChatRequest, compute: Callable[[ChatRequest], Generator[Chunk]]
    ) -> Iterator[Chunk]:
        """The reply by this backend's parameters, cut at its own stop strings; the caller cuts at the request's."""
        check_kinds(request.options, OF_REPLIES, what="a reply in this process")
        options = self._limited(request.options)
        if request.options:
            check_options({name: value for name, value in options.items() if name not in OF_REPLIES})
        own = stop_strings(options.pop("stop_strings", None) or self._own("stop_strings"))
        request = replace(request, stop=(*request.stop, *own), options=options)
        with memory_errors(self.model_id, doing):
            yield from ended_at(own, compute(request))

    def forget(self) -> None:
        """Let go of what was computed. A change of the model's weights and settings is noticed without."""
        if self._local is not None:
            self._local.forget()

    def close(self) -> None:
        """Let go of the model and of what was computed; a model that was given ready is still its owner's."""
        if self._local is not None:
            _ = self.capabilities  # which stay what they were
            self.forget()
            self._local = None

    def _limited(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The parameters of a reply; its length is that of the model's own configuration where nobody says another."""
        options = {"reuse": self._reuse, **merged(self._options, options)}
        if any(options.get(name) is not None for name in LENGTHS):
            return options
        lengths = {name: length for name in LENGTHS if (length := self._own(name)) is not None}
        return options | (lengths or {"max_new_tokens": DEFAULT_MAX_NEW_TOKENS})

    def _own(self, name: str) -> Any:
        """A generation parameter of the model's own configuration, which may change."""
        return getattr(getattr(self.local.model, "generation_config", None), name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy computes for itself: the model and its tokenizer are copied, no cache and no lock."""
        return _remade, (self.local.model, self.local.processor, self._made_with)


def hosted_prompt_text(model_id: str, messages: Sequence[Message]) -> str:
    """The prompt that a repository's chat template makes of messages; only its tokenizer is loaded."""
    return ChatTemplate(load_tokenizer(model_id)).prompt_text(messages)


async def iterate_in_thread(start: Callable[[], Iterator[T]]) -> AsyncIterator[T]:
    """The values of `start()`, computed in a daemon thread; cancelling ends the iterator after its current value."""
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[tuple[T | None, BaseException | None]] = asyncio.Queue()
    cancelled = threading.Event()

    def deliver(value: T | None, error: BaseException | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(arrived.put_nowait, (value, error))

    def pump() -> None:
        try:
            for value in start():
                deliver(value, None)
                if cancelled.is_set():
                    return
            deliver(None, StopAsyncIteration())
        except BaseException as error:
            deliver(None, error)

    threading.Thread(target=pump, name="agentkit-model", daemon=True).start()
    try:
        while True:
            value, error = await arrived.get()
            if isinstance(error, StopAsyncIteration):
                return
            if error is not None:
                raise error
            yield value  # type: ignore[misc]
    finally:
        cancelled.set()


def _remade(model: Any, tokenizer: Any, options: Mapping[str, Any]) -> LocalBackend:
    return LocalBackend(model, tokenizer, **options)


def _check_model(model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer of another model, and an ending of replies that is none."""
    embeddings = getattr(model.get_input_embeddings(), "weight", None)
    known = getattr(getattr(tokenizer, "tokenizer", tokenizer), "vocab_size", 0)
    few = 1.01  # some know a few tokens more than their model, which nobody writes
    if embeddings is not None and embeddings.ndim == 2 and known > few * len(embeddings):
        raise ConfigurationError(
            f"the tokenizer knows {known} tokens, and the model {len(embeddings)}: it was made for another one; give "
            "the model's own"
        )
    own = getattr(model, "generation_config", None)
    stop_strings(getattr(own, "stop_strings", None))
    check_kinds({"eos_token_id": getattr(own, "eos_token_id", None)}, ENDS, what="the model's generation config")
