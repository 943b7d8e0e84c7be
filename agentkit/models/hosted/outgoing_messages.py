"""Messages as they are sent: without thoughts, and without anything that a chat template would take for its markup."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.models.backend import Message
from agentkit.models.hosted.parts import wire_part
from agentkit.models.thinking import ThinkingText

BREAK = "\u200b"
_MARKUP = re.compile(
    r"<[|｜][^<>|｜\s]{1,40}[|｜]>"  # ChatML, Llama 3, Phi, GLM, DeepSeek
    r"|</?s>|<(?:bos|eos|pad|unk)>|<(?:start|end)_of_(?:turn|image)>|<</?SYS>>"  # Llama 2, Gemma
    r"|\[/?(?:INST|AVAILABLE_TOOLS|TOOL_RESULTS|TOOL_CALLS|SYSTEM_PROMPT|TOOL_CONTENT|ARGS|CALL_ID)\]"  # Mistral
    r"|</?(?:tool_call|tool_response|tools|think)>"  # Qwen, Hermes
    r"|\[gMASK\]|<sop>"
)


def outgoing_messages(messages: Sequence[Message]) -> list[Message]:
    """The messages in OpenAI's shape."""
    return [_outgoing(message) for message in messages]


def without_markup(text: str) -> str:
    """The text with every special token of a chat template broken after its first character."""
    return _MARKUP.sub(lambda match: match[0][0] + BREAK + match[0][1:], text)


def _outgoing(message: Message) -> Message:
    content, role = message.get("content"), message["role"]
    if isinstance(content, str):
        return {**message, "content": _text(role, content)}
    if content is None:
        return {**message, "content": ""}
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return {**message, "content": [_part(role, part) for part in parts]}


def _part(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": _text(role, part["text"])} if part.get("type") == "text" else wire_part(part)


def _text(role: str, text: str) -> str:
    if role in ("user", "tool"):
        return without_markup(text)
    return _without_thoughts(text) if role == "assistant" else text


def _without_thoughts(text: str) -> str:
    thinking = ThinkingText()
    return thinking.feed(text)[1] + thinking.flush()[1]
