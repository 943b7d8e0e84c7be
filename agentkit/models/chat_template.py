"""Renders messages with a model's own chat template; special tokens inside what people and tools wrote stay text."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Message
from agentkit.models.prompt_ids import BREAK

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)
"""For base models that come without a template."""


class ChatTemplate:
    """One tokenizer's (or processor's) template."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._template = None if getattr(tokenizer, "chat_template", None) else PLAIN_TEMPLATE
        self._special = _markup(tokenizer)

    def render(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt text, up to where the assistant's turn begins (or goes on, if the last message is its own)."""
        guarded = [self._guard(message) for message in messages]
        for attempt in (guarded, _alternating(guarded), _alternating(_without_system(guarded))):
            try:
                return self._apply(attempt, tools)
            except _refusals() as error:
                refusal = error
        raise ConfigurationError(
            f"expected messages the model's chat template accepts, it refused: {' '.join(str(refusal).split())[:300]}"
        ) from refusal

    def _apply(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
        continues = bool(messages) and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls")
        text: str = self._tokenizer.apply_chat_template(
            list(messages),
            chat_template=self._template,
            tools=list(tools) or None,
            tokenize=False,
            add_generation_prompt=not continues,
            continue_final_message=continues,
        )
        return text

    def _guard(self, message: Message) -> Message:
        """The message with a break inside everything that would become a special token."""
        if self._special is None or not isinstance(message.get("content"), str):
            return message
        content = message["content"].replace(BREAK, "")
        return {**message, "content": self._special.sub(lambda m: m[0][0] + BREAK + m[0][1:], content)}


def _markup(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern of all added tokens that are markup (not runs of spaces or words a tokenizer keeps whole)."""
    tokens = {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}
    tokens |= set(tokenizer.all_special_tokens)
    markup = sorted((t for t in tokens if len(t) > 1 and re.search(r"[<\[|]", t)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, markup))) if markup else None


def _refusals() -> tuple[type[Exception], ...]:
    from jinja2 import TemplateError

    return (TemplateError, ValueError, TypeError)


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message's text at the head of the first user message."""
    system = "\n\n".join(str(m["content"]) for m in messages if m["role"] == "system")
    rest = [m for m in messages if m["role"] != "system"]
    if not system:
        return rest
    if rest and rest[0]["role"] == "user" and isinstance(rest[0]["content"], str):
        return [{**rest[0], "content": f"{system}\n\n{rest[0]['content']}"}, *rest[1:]]
    return [{"role": "user", "content": system}, *rest]


def _alternating(messages: Sequence[Message]) -> list[Message]:
    """Neighbours of one role joined, tool results as the user's observations: for templates that insist on turns."""
    joined: list[Message] = []
    for message in messages:
        if message["role"] == "tool":
            message = {"role": "user", "content": f"Observation: {message['content']}"}
        elif message.get("tool_calls"):
            message = {"role": "assistant", "content": f"{message.get('content') or ''}{message['tool_calls']}"}
        last = joined[-1] if joined else None
        if last and last["role"] == message["role"] != "system" and isinstance(last["content"], str):
            joined[-1] = {**last, "content": f"{last['content']}\n\n{message['content']}"}
        else:
            joined.append(message)
    return joined
