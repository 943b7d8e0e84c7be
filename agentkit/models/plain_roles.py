"""Messages in the words a strict chat template takes: no system role, no tools, user and assistant in turns."""

from __future__ import annotations

import json
from collections.abc import Sequence

from agentkit.models.backend import Message


def refusals() -> tuple[type[Exception], ...]:
    """What a template raises for messages it does not take (`raise_exception`, or an operation on a missing field)."""
    from jinja2 import TemplateError

    return (TemplateError, ValueError, TypeError)


def with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """`text` added to the system message."""
    if messages and messages[0]["role"] == "system" and isinstance(messages[0]["content"], str):
        return [{**messages[0], "content": f"{messages[0]['content']}\n\n{text}"}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message's text at the head of the first user message."""
    system = "\n\n".join(str(m["content"]) for m in messages if m["role"] == "system")
    rest = [m for m in messages if m["role"] != "system"]
    if not system:
        return rest
    if rest and rest[0]["role"] == "user" and isinstance(rest[0]["content"], str):
        return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": system}, *rest]


def alternating(messages: Sequence[Message]) -> list[Message]:
    """Calls as text, their results as the user's observations, and neighbours of one role joined."""
    joined: list[Message] = []
    for message in map(_in_words, messages):
        last = joined[-1] if joined else None
        if last and last["role"] == message["role"] and isinstance(last["content"], str):
            joined[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            joined.append(message)
    return joined


def _in_words(message: Message) -> Message:
    if message["role"] == "tool":
        return {"role": "user", "content": f"Observation: {message['content']}"}
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        body = {"name": function["name"], "arguments": json.loads(function["arguments"])}
        calls.append(f"<tool_call>\n{json.dumps(body, ensure_ascii=False)}\n</tool_call>")
    return {"role": "assistant", "content": "\n".join(filter(None, [message.get("content"), *calls]))}
