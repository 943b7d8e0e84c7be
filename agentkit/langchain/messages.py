"""LangChain messages to a backend's dicts, and its chunks to LangChain's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import (
    AIMessage,
    AIMessageChunk,
    BaseMessage,
    BaseMessageChunk,
    ChatMessage,
    FunctionMessage,
    HumanMessage,
    ToolMessage,
    convert_to_messages,
    message_chunk_to_message,
    messages_from_dict,
)
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import PromptValue

from agentkit.errors import ConfigurationError, described, in_one_line
from agentkit.models.backend import Chunk, Message, TokenLogprob, Usage
from agentkit.models.finish_reasons import finish_reason_of, is_cut_off

_REASONS = ("finish_reason", "stop_reason", "stopReason", "done_reason")  # Anthropic's, Bedrock's, Ollama's
SAID_ELSEWHERE = ("tool_use", "tool_call", "thinking", "reasoning")  # calls stand beside; thoughts are not repeated
PROVIDER_FIELDS = "provider_fields"  # of calls by their ids, which their server wants back
ROLES = {"human": "user", "ai": "assistant", "system": "system", "tool": "tool", "function": "function"}


class MessageDict(dict[str, Any]):
    """A message as a chat dict, with LangChain's own beside it, which may hold more."""

    def __init__(self, message: BaseMessage) -> None:
        super().__init__(_to_dict(message))
        self.message = message


def as_langchain_message(message: Message) -> BaseMessage:
    """A chat dict as LangChain's message; raises `ConfigurationError` for a role that it has no message for."""
    if isinstance(message, MessageDict):
        return message.message
    fields = {call["id"]: call[PROVIDER_FIELDS] for call in message.get("tool_calls") or () if PROVIDER_FIELDS in call}
    try:
        (made,) = convert_to_messages([message])
        if fields:
            made.additional_kwargs[PROVIDER_FIELDS] = fields
        return made
    except ValueError as error:
        problem = str(error).partition("\n")[0]
        raise ConfigurationError(f"role {message['role']!r} of a message: {problem}; change the prompt") from error


def as_langchain_messages(given: Any, name: str) -> list[BaseMessage]:
    """Messages in any form that LangChain takes, and a text, which is the user's; `name` is whose value they are."""
    if given is None or isinstance(given, str):
        return [HumanMessage(given)] if given and given.strip() else []
    if isinstance(given, PromptValue):
        return given.to_messages()
    try:
        return [_message(one) for one in ([given] if isinstance(given, BaseMessage | dict) else given)]
    except (ValueError, TypeError, KeyError, NotImplementedError) as error:
        problem = in_one_line(str(error).partition("\nFor troubleshooting")[0], 200)
        raise ConfigurationError(
            f"{name}: expected messages, saw {described(given)} ({problem}); "
            'give messages, dicts of role and content, or pairs such as ("human", "Hello")'
        ) from error


def _message(given: Any) -> BaseMessage:
    """A message in any form, that of `messages_to_dict` among them."""
    is_stored = isinstance(given, dict) and given.keys() == {"type", "data"}
    (message,) = messages_from_dict([given]) if is_stored else convert_to_messages([given])
    return message


def to_dicts(messages: Sequence[BaseMessage], *, thoughts: bool = False) -> list[Message]:
    """OpenAI-style dicts; with what a model thought, for a chat template that shows it."""
    if not messages:
        raise ConfigurationError("expected at least one message, saw none")
    made = [_to_dict(message) for message in messages]
    for message, made_of in zip(made, messages, strict=True):
        if thoughts and (thought := made_of.additional_kwargs.get("reasoning_content")):
            message["reasoning_content"] = thought
    return made


def _to_dict(message: BaseMessage) -> Message:
    if isinstance(message, BaseMessageChunk):  # as agents of LangChain's keep what they streamed
        message = message_chunk_to_message(message)
    role = message.role if isinstance(message, ChatMessage) else ROLES.get(message.type)
    if role is None:
        raise ConfigurationError(f"expected a message of type {', '.join(ROLES)} or chat, saw {message.type!r}")
    result: Message = {"role": role, "content": content_of(message)}
    if isinstance(message, AIMessage) and message.tool_calls:
        fields = message.additional_kwargs.get(PROVIDER_FIELDS) or {}
        result["tool_calls"] = [
            {
                "id": c["id"],
                "type": "function",
                "function": {"name": c["name"], "arguments": json.dumps(c["args"])},
                **({PROVIDER_FIELDS: fields[c["id"]]} if fields.get(c["id"]) else {}),
            }
            for c in message.tool_calls
        ]
    if isinstance(message, ToolMessage):
        result["tool_call_id"] = message.tool_call_id
    if isinstance(message, ToolMessage | FunctionMessage) and message.name:
        result["name"] = message.name
    return result


def content_of(message: BaseMessage) -> Any:
    """Text where there is only text, else the parts."""
    content = message.content
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
    extra: dict[str, Any] = {"reasoning_content": chunk.thinking} if chunk.thinking else {}
    if fields := {call.id: call.provider_fields for call in chunk.tool_calls if call.provider_fields}:
        extra[PROVIDER_FIELDS] = fields
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


def reason_of(message: BaseMessage) -> str:
    """Why a reply ended, as `finish_reasons` says it, whichever client it came from; "stop" where it does not say."""
    said = map(message.response_metadata.get, _REASONS)
    return finish_reason_of(next((reason for reason in said if reason and isinstance(reason, str)), "stop"))


def without_cut_call(result: ChatResult) -> ChatResult:
    """A reply to its end whose last call may have been cut off, which LangChain completes: it is an invalid one."""
    (generation,) = result.generations
    message = generation.message
    if not isinstance(message, AIMessage) or not is_cut_off(reason := reason_of(message)):
        return result
    at_limit = "it was cut off at the token limit: give more max_new_tokens"
    error = at_limit if reason == "length" else f"it was broken off ({reason})"
    invalid = [*message.invalid_tool_calls]
    for call in invalid:
        call["error"] = call["error"] or error
    if message.tool_calls:
        *whole, cut = message.tool_calls
        arguments = json.dumps(cut["args"], ensure_ascii=False)
        invalid.append(invalid_tool_call(name=cut["name"], args=arguments, id=cut["id"], error=error))
        message.tool_calls = whole
    message.invalid_tool_calls = invalid
    return result


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
