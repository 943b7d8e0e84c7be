"""ChatHuggingFace: the chat model over an in-process pipeline or an HTTP endpoint."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any, Literal

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import agenerate_from_stream, generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from pydantic import ConfigDict

from agentkit.models.backend import ChatRequest, Chunk, Usage
from agentkit.models.messages import to_dicts, to_generation_chunk
from agentkit.models.reply import ReplyReader


class ChatHuggingFace(BaseChatModel):
    """A chat model whose `llm` is a HuggingFacePipeline, a HuggingFaceEndpoint, or any ChatBackend.

    `constrain` says which grammar an agent asks for on a local model: "actions" (well-formed actions on existing
    tools), "copy" (also inputs and answers that copy from question and observations), or "off".
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, protected_namespaces=())

    llm: Any
    model_id: str = ""
    constrain: Literal["actions", "copy", "off"] = "actions"

    def model_post_init(self, context: Any, /) -> None:
        super().model_post_init(context)
        self.model_id = self.model_id or self.llm.model_id

    @classmethod
    def from_model_id(cls, model_id: str, **options: Any) -> ChatHuggingFace:
        """A chat model in this process, from a folder or a repository; `options` as HuggingFacePipeline takes them."""
        from agentkit.models.pipeline import HuggingFacePipeline

        own = {name: options.pop(name) for name in tuple(options) if name in cls.model_fields}
        return cls(llm=HuggingFacePipeline.from_model_id(model_id, **options), **own)

    @property
    def is_local(self) -> bool:
        """Whether the model computes in this process, where grammars work."""
        return hasattr(self.llm, "local")

    def _to_chat_prompt(self, messages: list[BaseMessage]) -> str:
        """The prompt text the model sees."""
        return str(self.llm.local.template.render(to_dicts(messages)))

    @property
    def _llm_type(self) -> str:
        return "huggingface-chat-wrapper"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        return {"model_id": self.model_id}

    def _request(self, messages: list[BaseMessage], stop: list[str] | None, options: dict[str, Any]) -> ChatRequest:
        named = {n: options.pop(n) for n in ("tools", "tool_choice", "response_format", "grammar") if n in options}
        logprobs, top = options.pop("logprobs", None), options.pop("top_logprobs", None)
        named["top_logprobs"] = (top or 0) if logprobs or top is not None else None
        return ChatRequest(messages=to_dicts(messages), stop=tuple(stop or ()), options=options, **named)

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        request = self._request(messages, stop, kwargs)
        reply = _Reply(request)
        chunks = self.llm.generate_chat(request)
        try:
            for chunk in chunks:
                if (piece := reply.read(chunk)) is not None:
                    yield piece
                if reply.stopped:
                    break
        finally:
            chunks.close()
        yield reply.last()

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        request = self._request(messages, stop, kwargs)
        reply = _Reply(request)
        chunks = self.llm.agenerate_chat(request)
        try:
            async for chunk in chunks:
                if (piece := reply.read(chunk)) is not None:
                    yield piece
                if reply.stopped:
                    break
        finally:
            await chunks.aclose()
        yield reply.last()

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _plain(generate_from_stream(self._stream(messages, stop, **kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        return _plain(await agenerate_from_stream(self._astream(messages, stop, **kwargs)))


class _Reply:
    """One reply on its way from backend chunks to LangChain's."""

    def __init__(self, request: ChatRequest) -> None:
        self._reader = ReplyReader(request.stop)
        self._usage: Usage | None = None
        self._finish_reason: str | None = None

    @property
    def stopped(self) -> bool:
        return self._reader.stopped

    def read(self, chunk: Chunk) -> ChatGenerationChunk | None:
        """The piece to show now, if there is one."""
        self._usage = chunk.usage or self._usage
        piece = self._reader.read(chunk)
        self._finish_reason = piece.finish_reason or self._finish_reason
        shown = piece.text or piece.thinking or piece.tool_calls or piece.logprobs or piece.metadata
        return to_generation_chunk(replace(piece, finish_reason=None)) if shown else None

    def last(self) -> ChatGenerationChunk:
        """What was held back, with usage and how the reply ended."""
        rest = replace(self._reader.rest(), finish_reason=self._finish_reason or "stop")
        return to_generation_chunk(rest, usage=self._usage, last=True)


def _plain(result: ChatResult) -> ChatResult:
    return result
