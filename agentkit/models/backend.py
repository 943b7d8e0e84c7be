"""What a chat model asks of the thing that computes: one request in, pieces of one reply out.

`ChatHuggingFace` drives a backend; `HuggingFacePipeline` (in process) and `HuggingFaceEndpoint` (HTTP) are two. Stop
strings, `<think>` text and tool-call syntax are handled once, by the chat model, whatever the backend did with them.

    class Echo:                                          # the smallest backend
        model_id = "echo"

        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            yield Chunk(text=request.messages[-1]["content"])
            yield Chunk(finish_reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=3))

        async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
            for chunk in self.generate_chat(request):
                yield chunk

A backend sends each option it understands and ignores none silently: one it cannot honour is a ConfigurationError.
Closing the iterator cancels the reply. Failures are ModelError or ConfigurationError.

A backend over HTTP may have to ask again when a reply breaks off. With `stream=False` it shows nothing before the reply
is whole; else what it has shown stays, and a repeated reply that does not begin with it is a ReplyChanged.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from agentkit.events import Usage

__all__ = ["ChatBackend", "ChatRequest", "Chunk", "TokenLogprob", "ToolCallPiece", "Usage"]

Message = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One turn to generate.

    `messages` are OpenAI-style dicts: `role` (system, user, assistant, tool), `content` (str, or a list of parts with
    `type` text, image, audio, video), `tool_calls` and `tool_call_id` where there are any. `tools` are OpenAI function
    schemas. `response_format` is `{"type": "json_object"}` or `{"type": "json_schema", "json_schema": {...}}`.
    `grammar` is an llguidance Lark text the whole reply must match; servers know none and are not sent it. `stream`
    says whether somebody reads along: without, the reply may come as one chunk. `top_logprobs` is None for none, 0 for
    the chosen tokens only. `options` are generation parameters by their GenerationConfig names (`max_new_tokens`).
    """

    messages: Sequence[Message]
    stop: Sequence[str] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    grammar: str | None = None
    top_logprobs: int | None = None
    stream: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token, its log probability, and the likeliest tokens at its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallPiece:
    """A tool call as a server streams it: pieces of one `index` add up; the first has `id` and `name`."""

    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a reply.

    `text` may hold `<think>` tags and overrun a stop string: the chat model separates and cuts. `thinking` is reasoning
    that came apart from the text already. `usage` is the total so far; the last one seen counts. `finish_reason` is set
    once, on the last chunk: "stop", "length" or "tool_calls". `metadata` is merged into `response_metadata`; a
    `model_name` in it is that of the model which answered.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None
    finish_reason: str | None = None
    metadata: Mapping[str, Any] | None = None


@runtime_checkable
class ChatBackend(Protocol):
    """Computes replies to chat requests."""

    model_id: str

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply to one request, piece by piece."""
        ...

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, asynchronously."""
        ...
