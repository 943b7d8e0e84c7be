"""Messages in the words a strict chat template takes: no system role, no tools, user and assistant in turns."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import reduce
from typing import Any

from agentkit.models.backend import Message


def refusals() -> tuple[type[Exception], ...]:
    """What a template raises for messages it does not take (`raise_exception`, or an operation on a missing field)."""
    from jinja2 import TemplateError

    return (TemplateError, ValueError, TypeError)


def with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """`text` added to the system message."""
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": _joined(messages[0]["content"], text)}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message's text at the head of the first user message."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system:
        return rest
    content = reduce(_joined, system)
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": _joined(content, rest[0]["content"])}, *rest[1:]]
    return [{"role": "user", "content": content}, *rest]


def alternating(messages: Sequence[Message]) -> list[Message]:
    """Calls as text, their results as the user's observations, and neighbours of one role joined."""
    joined: list[Message] = []
    for message in map(_in_words, messages):
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {**joined[-1], "content": _joined(joined[-1]["content"], message["content"])}
        else:
            joined.append(message)
    return joined


def _joined(first: Any, second: Any) -> Any:
    """Two contents as one: texts with an empty line between, or the parts of both."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _in_words(message: Message) -> Message:
    content = message.get("content") or ""
    if message["role"] == "tool":
        observed = f"Observation: {content}" if isinstance(content, str) else _joined("Observation:", content)
        return {"role": "user", "content": observed}
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        body = {"name": function["name"], "arguments": json.loads(function["arguments"])}
        calls.append(f"<tool_call>\n{json.dumps(body, ensure_ascii=False)}\n</tool_call>")
    called = "\n".join(calls)
    if not isinstance(content, str):
        return {"role": "assistant", "content": _joined(content, called)}
    return {"role": "assistant", "content": f"{content}\n{called}" if content else called}
