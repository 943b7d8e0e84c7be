"""LangChain's text-in, text-out interface over a backend's chunks."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models.llms import BaseLLM
from langchain_core.outputs import GenerationChunk

from agentkit.models.backend import Capabilities, ChatRequest, Chunk
from agentkit.models.chat import Reply


class TextModel(BaseLLM):
    """A model that completes a prompt: up to the first stop string, without what it thought."""

    @abstractmethod
    def _text(self, prompt: str, stop: list[str] | None, options: Mapping[str, Any], *, stream: bool) -> Iterator[str]:
        """The text of a completion, piece by piece; `stream` says whether somebody reads along."""

    def _stream(
        self,
        prompt: str,
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[GenerationChunk]:
        for text in self._text(prompt, stop, kwargs, stream=True):
            if run_manager:
                run_manager.on_llm_new_token(text)
            yield GenerationChunk(text=text)


def text_of(chunks: Iterator[Chunk], request: ChatRequest) -> Iterator[str]:
    """The text of a reply, piece by piece where somebody reads along; what is behind a stop string is not computed."""
    reply = Reply(request, Capabilities(), "")
    for piece in reply.pieces(chunks):
        if piece.text and request.stream:
            yield piece.text
    if not request.stream:
        yield reply.completion().text


async def atext_of(chunks: AsyncIterator[Chunk], request: ChatRequest) -> AsyncGenerator[str]:
    """`text_of`, awaiting."""
    reply = Reply(request, Capabilities(), "")
    async with aclosing(reply.apieces(chunks)) as pieces:
        async for piece in pieces:
            if piece.text and request.stream:
                yield piece.text
    if not request.stream:
        yield reply.completion().text
