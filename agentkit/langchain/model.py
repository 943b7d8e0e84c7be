"""LangChain's chat models as a planner asks them: through their public methods, with whoever watches told."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, aclosing, closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Any

import httpx
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBinding
from langchain_core.runnables.fallbacks import RunnableWithFallbacks

from agentkit.core.in_turn import FAILED
from agentkit.core.planner import status_of
from agentkit.deadline import remaining_s
from agentkit.errors import (
    LONGEST_SHOWN,
    AgentkitError,
    ConfigurationError,
    ModelError,
    PromptTooLong,
    in_one_line,
    said,
)
from agentkit.events import Usage
from agentkit.langchain.chat_model import ChatHuggingFace, as_chat_model
from agentkit.langchain.made_messages import MadeMessages, made_ids
from agentkit.langchain.messages import PROVIDER_FIELDS, MessageDict, as_langchain_message, reason_of
from agentkit.models.backend import (
    DROPPED_TO_FIT,
    SCHEMA_USE,
    Capabilities,
    ChatRequest,
    Completion,
    Message,
    NativeCall,
    ToolCallPiece,
    capabilities_of,
)
from agentkit.models.chat import ChatModel, arepeated, repeated
from agentkit.models.hosted.failures import without_secrets
from agentkit.models.hosted.limits import too_long
from agentkit.models.openai_format import usage_of as openai_usage_of
from agentkit.recorder import active
from agentkit.secrets import public_address
from agentkit.toolbox.calling import in_daemon_thread

MOST_CONVERTED = 10_000
WRONG_KEY = (401, 403)
TOO_LONG = (400, 413, 422)  # what servers answer to a prompt that is
_NAMES = ("model_id", "model_name", "model", "base_url", "openai_api_base", "provider")


def chat_of(model: BaseChatModel, config: RunnableConfig | None = None, *, over_http: bool | None = None) -> ChatModel:
    """A LangChain chat model for a planner. Without `config` nobody watches, and one of ours is asked directly.

    With `over_http=False`, as one that a spec names, its turns are recorded in the place of the HTTP that only its own
    client could read again, and what its server fails by is a `ModelError`, a wrong key a `ConfigurationError`.
    """
    if config is None and isinstance(model, ChatHuggingFace) and (direct := model.chat()) is not None:
        return direct
    return LangChainModel(model, config=config, over_http=over_http)


def as_model(model: Any) -> BaseChatModel | RunnableWithFallbacks[Any, Any]:
    """What a user calls a model, as an agent takes it; raises `ConfigurationError`."""
    return model if isinstance(model, RunnableWithFallbacks) else as_chat_model(model)


def models_in(model: Any) -> tuple[BaseChatModel, ...]:
    """The chat models that a model stands for, in the order in which they are asked: itself, where it is one."""
    if isinstance(model, RunnableWithFallbacks):
        return tuple(one for each in (model.runnable, *model.fallbacks) for one in models_in(each))
    model = as_chat_model(model)
    if not isinstance(model, ChatHuggingFace) or not (alternatives := model.capabilities.alternatives):
        return (model,)
    return tuple(
        model.model_copy(update={"llm": one, "model_id": one.model_id, "constrain": capabilities_of(one).constrain})
        for one in alternatives
    )


def failures_in(model: Any) -> tuple[type[BaseException], ...]:
    """By which exceptions such a model goes on to the next of those that it stands for."""
    return (*FAILED, *model.exceptions_to_handle) if isinstance(model, RunnableWithFallbacks) else FAILED


class LangChainModel:
    """A LangChain chat model as a `ChatModel`; its turns are recorded here, unless it is one of ours."""

    def __init__(
        self, model: BaseChatModel, *, config: RunnableConfig | None = None, over_http: bool | None = None
    ) -> None:
        self._live = _Live(model, config, over_http)
        self.model_id = self._live.model_id
        self.capabilities = self._live.capabilities
        self._named = _failures_named(_identity(model)) if over_http is False else nullcontext

    def complete(self, request: ChatRequest) -> Iterator[str | ToolCallPiece | Completion]:
        with self._named(), _length_refusals(request):
            yield from self._asked().complete(request)

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | ToolCallPiece | Completion]:
        with self._named(), _length_refusals(request):
            async for piece in self._asked().acomplete(request):
                yield piece

    def _asked(self) -> ChatModel:
        recorder = None if self._live.is_ours else active()
        if recorder is None:
            return self._live
        recorded: ChatModel = recorder.chat(self._live, model_id=self.model_id)
        return recorded


def _capabilities(model: BaseChatModel, over_http: bool | None) -> Capabilities:
    """Those of the backend of one of ours; of any other model, whether it takes tools."""
    images = bool((model.profile or {}).get("image_inputs"))
    if isinstance(model, ChatHuggingFace):
        return replace(model.capabilities, images=True) if images else model.capabilities
    takes_tools = type(model).bind_tools is not BaseChatModel.bind_tools
    return Capabilities(over_http=over_http, tools=takes_tools, images=images, identity=_identity(model))


def _identity(model: BaseChatModel) -> str:
    """What the model is, without user, password and query of an address."""
    names = [value for name in _NAMES if isinstance(value := getattr(model, name, None), str)]
    return " ".join(dict.fromkeys([type(model).__name__, *map(public_address, names)]))


class _Live:
    """The model itself."""

    def __init__(self, model: BaseChatModel, config: RunnableConfig | None, over_http: bool | None) -> None:
        self.model = model
        self.model_id = str(getattr(model, "model_id", None) or model._llm_type)
        self.capabilities = _capabilities(model, over_http)
        self.is_ours = isinstance(model, ChatHuggingFace)
        self._config = config
        self._messages: dict[int, tuple[Message, BaseMessage]] = {}
        self._made = MadeMessages()
        self._with_tools: tuple[Any, Any, dict[str, Any]] | None = None

    def complete(self, request: ChatRequest) -> Iterator[str | ToolCallPiece | Completion]:
        return repeated(lambda: self._complete(request))

    def acomplete(self, request: ChatRequest) -> AsyncIterator[str | ToolCallPiece | Completion]:
        return arepeated(lambda: self._acomplete(request))

    def _complete(self, request: ChatRequest) -> Generator[str | ToolCallPiece | Completion]:
        messages, (model, options) = self._converted(request.messages), self._asked(request)
        if not self._reads_chunks(request):
            yield self._completion(self._invoked_in_time(model, messages, options))
            return
        whole: Any = None
        with closing(model.stream(messages, self._config, **options)) as chunks:
            for chunk in chunks:
                whole = chunk if whole is None else whole + chunk
                if remaining_s() == 0 and getattr(chunk, "chunk_position", None) != "last":
                    raise TimeoutError
                yield from _shown(chunk, request)
        yield self._completion(whole)

    async def _acomplete(self, request: ChatRequest) -> AsyncGenerator[str | ToolCallPiece | Completion]:
        messages, (model, options) = self._converted(request.messages), self._asked(request)
        if not self._reads_chunks(request):
            yield self._completion(await model.ainvoke(messages, self._config, **options))
            return
        whole: Any = None
        async with aclosing(model.astream(messages, self._config, **options)) as chunks:
            async for chunk in chunks:
                whole = chunk if whole is None else whole + chunk
                for piece in _shown(chunk, request):
                    yield piece
        yield self._completion(whole)

    def _completion(self, message: Any) -> Completion:
        if not self.is_ours:  # which hand on what their server wants back with each call
            self._made.keep(message)
        return completion_of(message)

    def _reads_chunks(self, request: ChatRequest) -> bool:
        """Ours are read in chunks where it matters: to stop between two, and for calls as they were written.

        LangChain's whole messages hold calls that it mended, and what is cut off must not run; its cache knows no
        others, though.
        """
        if not self.is_ours:
            return request.stream
        in_time = self.capabilities.in_process and remaining_s() is not None
        return request.stream or in_time or bool(request.tools)

    def _invoked_in_time(self, model: Any, messages: list[BaseMessage], options: dict[str, Any]) -> Any:
        left_s = remaining_s()
        if left_s is None or self.is_ours:  # which hold the deadline themselves, over connections kept per thread
            return model.invoke(messages, self._config, **options)
        return in_daemon_thread(lambda: model.invoke(messages, self._config, **options)).result(left_s)

    # -- the request -----------------------------------------------------------------------------------------------

    def _converted(self, messages: Sequence[Message]) -> list[BaseMessage]:
        """LangChain's messages; a planner gives the same ones again at every turn, which are converted once."""
        converted, ids = [], dict[str, str]()
        for message in messages:
            if isinstance(message, MessageDict):
                converted.append(message.message)
                continue
            pair = self._messages.get(id(message))
            if pair is None:
                pair = self._messages[id(message)] = (message, self._as_made(message, ids))
            converted.append(pair[1])
        return converted

    def _as_made(self, message: Message, ids: dict[str, str]) -> BaseMessage:
        """The message that the model made itself, or LangChain's for it; `ids` are those of calls that got others."""
        if (made := self._made.message(message)) is not None:
            ids |= made_ids(message, made)
            return made
        if made_id := ids.get(message.get("tool_call_id", "")):
            message = {**message, "tool_call_id": made_id}
        if len(self._messages) > MOST_CONVERTED:  # of runs that are over
            self._messages.clear()
        return as_langchain_message(message)

    def _asked(self, request: ChatRequest) -> tuple[Any, dict[str, Any]]:
        """The model, with tools where it gets some, and the call's options."""
        model, options = self._bound(request.tools) if request.tools else (self.model, {})
        if request.tool_choice is not None and request.tools and self._takes_choice(request.tool_choice, options):
            options["tool_choice"] = request.tool_choice
        options |= request.options
        if request.stop:
            options["stop"] = list(request.stop)
        if request.grammar is not None:
            options["grammar"] = request.grammar
        if request.turn_schema is not None and self.is_ours:
            options["turn_schema"] = request.turn_schema
        if request.holds_answer and self.is_ours:
            options["holds_answer"] = True
        if not request.shortens and self.is_ours:
            options["shortens"] = False
        if request.token_budget is not None:
            options |= self._shortened(request.token_budget)
        return model, options

    def _takes_choice(self, choice: Any, bound: Mapping[str, Any]) -> bool:
        """Whether it is known how to say it: for one of ours, and "none" to any server that takes tools as OpenAI's."""
        tools = bound.get("tools") or ()
        is_openais = all(isinstance(tool, Mapping) and tool.get("type") == "function" for tool in tools)
        return self.is_ours or (choice == "none" and bool(tools) and is_openais)

    def _bound(self, tools: Sequence[Mapping[str, Any]]) -> tuple[Any, dict[str, Any]]:
        if self._with_tools is None or self._with_tools[0] is not tools:
            bound: Any = self.model.bind_tools([dict(tool) for tool in tools])
            is_only_bound = isinstance(bound, RunnableBinding) and bound.bound is self.model
            if is_only_bound and not bound.config_factories:
                self._with_tools = (tools, self.model, bound.kwargs)
            else:
                self._with_tools = (tools, bound, {})
        return self._with_tools[1], dict(self._with_tools[2])

    def _shortened(self, budget: int) -> dict[str, Any]:
        """The option that holds a reply to `budget` tokens, where it may have more."""
        if self.is_ours:
            own = self.capabilities.max_new_tokens
        elif "max_tokens" in type(self.model).model_fields:
            own = getattr(self.model, "max_tokens", None)
        else:
            return {}
        return {"max_tokens": budget} if own is None or budget < own else {}


@contextmanager
def _length_refusals(request: ChatRequest) -> Iterator[None]:
    """Makes a `PromptTooLong` of a provider's refusal of a prompt for its length, where one is asked for."""
    try:
        yield
    except Exception as error:
        if request.shortens or isinstance(error, AgentkitError) or status_of(error) not in TOO_LONG:
            raise
        found = too_long(said(error), code=str(getattr(error, "code", "")))
        if found is None:
            raise
        tokens = {"prompt_tokens": found.prompt_tokens, "context_tokens": found.context_tokens}
        raise PromptTooLong(in_one_line(error, LONGEST_SHOWN), **tokens) from error


def _failures_named(model: str) -> Callable[[], AbstractContextManager[None]]:
    """Makes errors of ours of those that a provider's client raises where its server fails."""

    @contextmanager
    def named() -> Iterator[None]:
        try:
            yield
        except Exception as error:
            status = status_of(error)
            if isinstance(error, AgentkitError | TimeoutError) or (status is None and not _is_of_a_connection(error)):
                raise
            why = without_secrets(in_one_line(error, LONGEST_SHOWN)) or type(error).__name__
            if status in WRONG_KEY:
                raise ConfigurationError(f"{model}: {why}; is the key of this provider right?") from error
            raise ModelError(f"{model}: {why}") from error

    return named


def _is_of_a_connection(error: BaseException | None) -> bool:
    """Whether a connection failed behind an error, whichever library raised it."""
    while error is not None:
        if isinstance(error, OSError | httpx.HTTPError):
            return True
        error = error.__cause__ or error.__context__
    return False


# -- the reply ---------------------------------------------------------------------------------------------------------


def _shown(chunk: Any, request: ChatRequest) -> Iterator[str | ToolCallPiece]:
    """What of a chunk a planner is given at once."""
    if chunk.text and request.stream:
        yield str(chunk.text)
    if request.stream and request.holds_answer:
        for call in getattr(chunk, "tool_call_chunks", ()):
            yield ToolCallPiece(index=call["index"] or 0, name=call["name"], arguments=call["args"] or "")


def completion_of(message: Any) -> Completion:
    """A chat model's message as a completion."""
    metadata = message.response_metadata
    return Completion(
        str(message.text),
        usage_of(message),
        reason_of(message),
        message.additional_kwargs.get("reasoning_content") or "",
        tuple(_calls(message)),
        turn=metadata.get("turn"),
        schema_use=metadata.get(SCHEMA_USE, ""),
        dropped=metadata.get(DROPPED_TO_FIT, {}),
    )


def _calls(message: Any) -> Iterator[NativeCall]:
    """The calls with their arguments as they were written, where the message still has them so."""
    fields = message.additional_kwargs.get(PROVIDER_FIELDS) or {}

    def made(call: Any, arguments: str) -> NativeCall:
        return NativeCall(call["id"] or "", call["name"] or "", arguments, fields.get(call["id"]) or {})

    if chunks := getattr(message, "tool_call_chunks", None):
        yield from (made(chunk, chunk["args"] or "") for chunk in chunks)
        return
    for call in getattr(message, "tool_calls", ()):
        yield made(call, json.dumps(call["args"], ensure_ascii=False))
    for call in getattr(message, "invalid_tool_calls", ()):
        yield made(call, call["args"] or "")


def usage_of(message: Any) -> Usage:
    """What a message says it used. Ours say its cost as "cost_usd"; OpenRouter's clients hand its usage on."""
    metadata = getattr(message, "response_metadata", None) or {}
    counts = metadata.get("token_usage")
    usage = openai_usage_of(counts) if isinstance(counts, Mapping) else Usage()
    usage = replace(usage, cost_usd=metadata.get("cost_usd", usage.cost_usd))
    counted = getattr(message, "usage_metadata", None)
    if not counted or not isinstance(counted, Mapping):
        return usage
    details = counted.get("input_token_details")
    return replace(
        usage,
        prompt_tokens=counted.get("input_tokens", 0),
        completion_tokens=counted.get("output_tokens", 0),
        cached_tokens=details.get("cache_read", 0) if isinstance(details, Mapping) else 0,
    )
