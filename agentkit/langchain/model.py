"""LangChain's models as the loop sees them."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing, closing
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.base import RunnableBinding

from agentkit.core.planner import TurnRequest
from agentkit.deadline import remaining_s
from agentkit.errors import ConfigurationError, ReplyChanged
from agentkit.events import Usage
from agentkit.langchain.quiet import quiet_model
from agentkit.models.backend import Completion, NativeCall
from agentkit.toolbox.calling import in_daemon_thread

_MESSAGE: dict[str, type[BaseMessage]] = {"system": SystemMessage, "user": HumanMessage, "assistant": AIMessage}
CUT_OFF = ("max_tokens", "MAX_TOKENS")  # Anthropic's and Google's words for "length"
REPEATS = 2  # of a turn whose stream broke for good
LOCAL_TOKENS = 512  # what a model in this process generates at most unless told


class LangChainModel:
    """A LangChain chat model that completes turns; with `stream` its text arrives in pieces.

    Where a deadline is set (`agentkit.deadline`), a call that is under way when it comes is given up: `TimeoutError`.
    """

    def __init__(self, model: BaseChatModel, *, config: RunnableConfig | None = None, stream: bool = False) -> None:
        self._model = model
        self._config = config
        self._stream = stream
        self._is_ours = hasattr(model, "is_local")
        self._in_process = bool(getattr(getattr(model, "llm", None), "in_process", False))
        self._quiet = quiet_model(model) if config is None else None
        self._tooled: tuple[Any, Any, dict[str, Any]] | None = None

    def message(
        self, role: str, content: Any, *, calls: Sequence[NativeCall] = (), result_of: NativeCall | None = None
    ) -> BaseMessage:
        if result_of is not None:
            return ToolMessage(content, tool_call_id=result_of.id, name=result_of.name)
        if calls:
            return AIMessage(
                content, tool_calls=[{"name": c.name, "args": json.loads(c.arguments), "id": c.id} for c in calls]
            )
        try:
            return _MESSAGE[role](content=content)
        except KeyError:
            expected = ", ".join(_MESSAGE)
            raise ConfigurationError(
                f"expected a message of role {expected}, saw {role!r}; change the prompt"
            ) from None

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]:
        for left in reversed(range(REPEATS + 1)):
            try:
                yield from self._complete(request)
                return
            except ReplyChanged:  # a stream broke; what was shown of it is no part of the reply
                if not left:
                    raise

    async def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]:
        for left in reversed(range(REPEATS + 1)):
            try:
                async with aclosing(self._acomplete(request)) as pieces:
                    async for piece in pieces:
                        yield piece
                return
            except ReplyChanged:
                if not left:
                    raise

    def _complete(self, request: TurnRequest) -> Iterator[str | Completion]:
        messages, model, options = list(request.messages), *self._asked(request)
        if not self._reads_chunks(request):
            yield read_message(self._message_in_time(model, messages, options))
            return
        whole: Any = None
        with closing(model.stream(messages, self._config, **options)) as chunks:
            for chunk in chunks:
                whole = chunk if whole is None else whole + chunk
                if remaining_s() == 0 and getattr(chunk, "chunk_position", None) != "last":
                    raise TimeoutError
                if chunk.text and self._stream:
                    yield str(chunk.text)
        yield read_message(whole)

    async def _acomplete(self, request: TurnRequest) -> AsyncGenerator[str | Completion]:
        messages, model, options = list(request.messages), *self._asked(request)
        if not self._reads_chunks(request):
            yield read_message(await model.ainvoke(messages, self._config, **options))
            return
        whole: Any = None
        async with aclosing(model.astream(messages, self._config, **options)) as chunks:
            async for chunk in chunks:
                whole = chunk if whole is None else whole + chunk
                if chunk.text and self._stream:
                    yield str(chunk.text)
        yield read_message(whole)

    def _reads_chunks(self, request: TurnRequest) -> bool:
        """Ours are read in chunks where it matters: to stop between two, and for calls as they were written.

        LangChain's whole messages hold calls that it mended, and what is cut off must not run.
        """
        in_time = self._in_process and remaining_s() is not None
        return self._stream or in_time or (self._is_ours and bool(request.tools))

    def _message_in_time(self, model: Any, messages: list[Any], options: dict[str, Any]) -> Any:
        def call() -> Any:
            if self._quiet is not None and model is self._model:
                return self._quiet(messages, **options)
            return model.invoke(messages, self._config, **options)

        left_s = remaining_s()
        if left_s is None or self._is_ours:  # which hold the deadline themselves, over connections kept per thread
            return call()
        return in_daemon_thread(call).result(left_s)

    # -- options ---------------------------------------------------------------------------------------------------

    def _asked(self, request: TurnRequest) -> tuple[Any, dict[str, Any]]:
        """The model, with tools where it gets some, and the call's options."""
        model, options = self._with_tools(request.tools) if request.tools else (self._model, {})
        if request.stop:
            options["stop"] = list(request.stop)
        if request.grammar is not None:
            options["grammar"] = request.grammar
        if request.max_new_tokens is not None:
            options |= self._shortened(request.max_new_tokens)
        return model, options

    def _with_tools(self, tools: Sequence[Mapping[str, Any]]) -> tuple[Any, dict[str, Any]]:
        if self._tooled is None or self._tooled[0] is not tools:
            bound: Any = self._model.bind_tools([dict(tool) for tool in tools])
            plain = isinstance(bound, RunnableBinding) and bound.bound is self._model and not bound.config_factories
            self._tooled = (tools, self._model, bound.kwargs) if plain else (tools, bound, {})
        return self._tooled[1], dict(self._tooled[2])

    def _shortened(self, most: int) -> dict[str, Any]:
        """The option that holds a reply to `most` tokens, where it may have more."""
        if not self._is_ours and "max_tokens" not in type(self._model).model_fields:
            return {}
        own = _reply_limit(self._model)
        return {"max_tokens": most} if own is None or most < own else {}


def _reply_limit(model: Any) -> int | None:
    """How many tokens a reply may have anyway; `None` where nothing says."""
    llm = getattr(model, "llm", None)
    first = getattr(llm, "backends", (llm,))[0]
    generation = getattr(first, "pipeline_kwargs", None)
    own = (
        getattr(first, "max_new_tokens", None) if generation is None else generation.get("max_new_tokens", LOCAL_TOKENS)
    )
    limit: int | None = getattr(model, "max_tokens", None) or own
    return limit


def read_message(message: Any) -> Completion:
    """A chat model's message as a completion."""
    metadata = message.response_metadata
    reason = metadata.get("finish_reason") or metadata.get("stop_reason") or "stop"
    return Completion(
        str(message.text),
        usage_of(message),
        "length" if reason in CUT_OFF else reason,
        message.additional_kwargs.get("reasoning_content") or "",
        tuple(_calls(message)),
    )


def _calls(message: Any) -> Iterator[NativeCall]:
    """The calls with their arguments as they were written, where the message still has them so."""
    if chunks := getattr(message, "tool_call_chunks", None):
        for chunk in chunks:
            yield NativeCall(chunk["id"] or "", chunk["name"] or "", chunk["args"] or "")
        return
    for call in getattr(message, "tool_calls", ()):
        yield NativeCall(call["id"] or "", call["name"], json.dumps(call["args"], ensure_ascii=False))
    for call in getattr(message, "invalid_tool_calls", ()):
        yield NativeCall(call["id"] or "", call["name"] or "", call["args"] or "")


def usage_of(message: Any) -> Usage:
    """What a message says it used. Ours say its cost as "cost_usd"; OpenRouter's clients hand its usage on."""
    metadata = getattr(message, "response_metadata", {})
    cost = metadata.get("cost_usd", (metadata.get("token_usage") or {}).get("cost"))
    counted = getattr(message, "usage_metadata", None)
    if not counted:
        return Usage(cost_usd=cost)
    details = counted.get("input_token_details") or {}
    return Usage(counted["input_tokens"], counted["output_tokens"], details.get("cache_read") or 0, cost)
