"""A transformers model in this process as a chat backend: loaded or ready, with generation parameters of its own.

torch and transformers are imported with the first model: the files beside this one that compute import them at their
top and are imported from here only then.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Constrain, Message, TurnGrammar
from agentkit.models.builtin import builtin_folder
from agentkit.models.builtin.copying import CALCULATOR, SEARCH, copying_grammar
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.loading import check_options, load_model, load_tokenizer, memory_errors
from agentkit.models.reply import ReplyReader
from agentkit.react_json.grammar import react_json_grammar

if TYPE_CHECKING:
    from agentkit.models.local.local_model import LocalModel

DEFAULT_BATCH_SIZE = 16
DEFAULT_MAX_NEW_TOKENS = 512
TURN_GRAMMARS: Mapping[str, TurnGrammar] = {"actions": react_json_grammar, "copy": copying_grammar}

T = TypeVar("T")


class LocalBackend:
    """A model and its tokenizer (a processor where the model takes images, sound or video).

    `pipeline_kwargs` are generation parameters: whatever GenerationConfig has, and `seed`. Its `stop_strings`, the
    model's own or given, end every reply. At most `batch_size` replies are computed together, the others wait.
    `constrain` is the grammar that an agent asks for. The model and its tokenizer stay as they are.
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
    ) -> None:
        if tokenizer is None:
            raise ConfigurationError("expected a model and its tokenizer (or processor), saw no tokenizer; give both")
        from agentkit.models.local.local_model import LocalModel

        self.model_id = model_id or str(model.config.name_or_path) or "model"
        self._options = dict(pipeline_kwargs or {})
        own = getattr(getattr(model, "generation_config", None), "stop_strings", None)
        self._stop = _texts(self._options.pop("stop_strings", None) or own)
        self._constrain: Constrain = constrain
        self.local: LocalModel = LocalModel(model, tokenizer, most_rows=batch_size)

    @classmethod
    def from_model_id(
        cls,
        model_id: str,
        *,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        batch_size: int = DEFAULT_BATCH_SIZE,
        constrain: Constrain = "actions",
        **loading: Any,
    ) -> LocalBackend:
        """Load a model from a folder or a repository; `loading` is what `load_model` takes."""
        if not model_id:
            raise ConfigurationError("expected a model_id, a pipeline, or a model and its tokenizer; saw none")
        check_options(pipeline_kwargs or {})
        model, tokenizer = load_model(model_id, **loading)
        return cls(
            model,
            tokenizer,
            model_id=model_id,
            pipeline_kwargs=pipeline_kwargs,
            batch_size=batch_size,
            constrain=constrain,
        )

    @cached_property
    def capabilities(self) -> Capabilities:
        """What this model can do; its template is asked how it writes tool calls."""
        template = self.local.template
        return Capabilities(
            in_process=True,
            over_http=False,
            grammar=True,
            turn_grammars=TURN_GRAMMARS,
            constrain=self._constrain,
            tools=True,
            call_syntax=template.call_syntax,
            special_tokens=template.special,
            max_new_tokens=self._options.get("max_new_tokens", DEFAULT_MAX_NEW_TOKENS),
            made_for=frozenset((SEARCH, CALCULATOR)) if self.model_id == str(builtin_folder()) else frozenset(),
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
        ids = tokenizer(prompt, add_special_tokens=not (bos and prompt.startswith(bos)))["input_ids"]
        return self._reply("a text of", request, lambda asked: self.local.generate_text(prompt, ids, asked))

    def _reply(
        self, doing: str, request: ChatRequest, compute: Callable[[ChatRequest], Generator[Chunk]]
    ) -> Iterator[Chunk]:
        """The reply by this backend's parameters, cut at its own stop strings; the caller cuts at the request's."""
        options = {"max_new_tokens": DEFAULT_MAX_NEW_TOKENS, **self._options, **request.options}
        own = _texts(options.pop("stop_strings", None)) or self._stop
        reader = ReplyReader(own) if own else None
        request = replace(request, stop=(*request.stop, *own), options=options)
        with memory_errors(self.model_id, doing), closing(compute(request)) as chunks:
            for chunk in chunks:
                yield reader.read(chunk) if reader else chunk
                if reader and reader.stopped:
                    break
        if reader:
            yield reader.rest()


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


def _texts(value: str | Sequence[str] | None) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value or ())
