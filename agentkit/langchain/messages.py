"""LangChain messages to a backend's dicts, and its chunks to LangChain's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, ChatMessage, ToolMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Chunk, Message, TokenLogprob, Usage

SAID_ELSEWHERE = ("tool_use", "tool_call", "thinking", "reasoning")  # calls stand beside; thoughts are not repeated
ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool"}


def to_dicts(messages: Sequence[BaseMessage]) -> list[Message]:
    """OpenAI-style dicts."""
    if not messages:
        raise ConfigurationError("expected at least one message, saw none")
    return [_to_dict(message) for message in messages]


def _to_dict(message: BaseMessage) -> Message:
    role = message.role if isinstance(message, ChatMessage) else ROLES.get(message.type)
    if role is None:
        raise ConfigurationError(f"expected a message of type {', '.join(ROLES)} or chat, saw {message.type!r}")
    result: Message = {"role": role, "content": _content(message.content)}
    if isinstance(message, AIMessage) and message.tool_calls:
        result["tool_calls"] = [
            {"id": c["id"], "type": "function", "function": {"name": c["name"], "arguments": json.dumps(c["args"])}}
            for c in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        result["tool_call_id"] = message.tool_call_id
        if message.name:
            result["name"] = message.name
    return result


def _content(content: str | list[str | dict[str, Any]]) -> Any:
    """Text where there is only text, else the parts."""
    if isinstance(content, str):
        return content
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    parts = [part for part in parts if part.get("type") not in SAID_ELSEWHERE]
    if all(part.get("type") == "text" for part in parts):
        return "".join(part.get("text", "") for part in parts)
    return parts


def to_generation_chunk(chunk: Chunk) -> ChatGenerationChunk:
    """A piece of the reply; the last one carries usage and how it ended."""
    last = chunk.finish_reason is not None
    extra = {"reasoning_content": chunk.thinking} if chunk.thinking else {}
    metadata: dict[str, Any] = dict(chunk.metadata or {})
    usage = chunk.usage if last else None
    if last:
        metadata["finish_reason"] = chunk.finish_reason
        if usage is not None and usage.cost_usd is not None:
            metadata["cost_usd"] = usage.cost_usd
    if chunk.logprobs:
        metadata["logprobs"] = {"content": [_logprob(each) for each in chunk.logprobs]}
    message = AIMessageChunk(
        content=chunk.text,
        additional_kwargs=extra,
        response_metadata=metadata,
        usage_metadata=_usage(usage) if usage else None,
        tool_call_chunks=[
            tool_call_chunk(name=c.name, args=c.arguments, id=c.id, index=c.index) for c in chunk.tool_calls
        ],
        chunk_position="last" if last else None,
    )
    return ChatGenerationChunk(message=message, generation_info=metadata or None)


def _usage(usage: Usage) -> UsageMetadata:
    return UsageMetadata(
        input_tokens=usage.prompt_tokens,
        output_tokens=usage.completion_tokens,
        total_tokens=usage.total_tokens,
        input_token_details={"cache_read": usage.cached_tokens},
    )


def _logprob(logprob: TokenLogprob) -> dict[str, Any]:
    """OpenAI's shape."""
    return {
        "token": logprob.token,
        "logprob": logprob.logprob,
        "top_logprobs": [{"token": token, "logprob": value} for token, value in logprob.top],
    }
