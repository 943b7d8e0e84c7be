"""Renders messages with a model's own chat template; special tokens inside what people and tools wrote stay text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Message
from agentkit.models.plain_roles import alternating, refusals, with_system, without_system
from agentkit.models.prompt_ids import BREAK
from agentkit.models.tool_calls import instructions

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
        self._special = markup(tokenizer)

    def prompt_text(self, messages: Sequence[Message]) -> str:
        """The prompt for people to read."""
        return self.render(messages).replace(BREAK, "")

    def render(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt text, up to where the assistant's turn begins (or goes on, if the last message is its own).

        A template that refuses a role, or drops tools and their results without a word, gets them in words it takes.
        """
        guarded = [self._guard(message) for message in messages]
        told = with_system(guarded, instructions(tools)) if tools else guarded
        plain = alternating(told)
        refusal: Exception | None = None
        for attempt, native in ((guarded, tools), (told, ()), (plain, ()), (alternating(without_system(told)), ())):
            try:
                text = self._apply(attempt, native)
            except refusals() as error:
                refusal = error
                continue
            if (attempt is not guarded and attempt is not told) or _shows_tools(text, attempt, native):
                return text
        raise ConfigurationError(
            f"expected messages the model's chat template accepts, it refused: {' '.join(str(refusal).split())[:300]}"
        ) from refusal

    def takes_role(self, role: str) -> bool:
        """Whether the model's own template writes a message of this role into the prompt."""
        probe = "takes this role"
        messages: list[Message] = [{"role": "user", "content": "hello"}, {"role": role, "content": probe}]
        if role == "system":
            messages.reverse()
        if role == "tool":
            call = {"id": "call00000", "type": "function", "function": {"name": "echo", "arguments": "{}"}}
            messages.insert(1, {"role": "assistant", "content": "", "tool_calls": [call]})
            messages[2] |= {"tool_call_id": "call00000", "name": "echo"}
        try:
            text = self._apply(messages, ())
        except refusals():
            return False
        return probe in text and (role != "tool" or "echo" in text)

    def _apply(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
        continues = bool(messages) and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls")
        text: str = self._tokenizer.apply_chat_template(
            [_with_arguments(message) for message in messages],
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


def markup(tokenizer: Any) -> re.Pattern[str] | None:
    """A pattern of all added tokens that are markup (not runs of spaces or words a tokenizer keeps whole)."""
    tokens = {str(token) for token in getattr(tokenizer, "added_tokens_decoder", {}).values()}
    tokens |= set(tokenizer.all_special_tokens)
    markup = sorted((t for t in tokens if len(t) > 1 and re.search(r"[<\[|]", t)), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, markup))) if markup else None


def _shows_tools(text: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the tools, the calls and their results are all in the prompt."""
    wanted = [tool["function"]["name"] for tool in tools]
    for message in messages:
        wanted += [call["function"]["name"] for call in message.get("tool_calls") or ()]
        if message["role"] == "tool" and isinstance(message["content"], str):
            wanted.append(message["content"].strip())
    return all(each in text for each in wanted)


def _with_arguments(message: Message) -> Message:
    """Templates take a call's arguments as a value, the wire has them as text."""
    if not message.get("tool_calls"):
        return message
    calls = []
    for call in message["tool_calls"]:
        function = call["function"]
        calls.append({**call, "function": {**function, "arguments": json.loads(function["arguments"])}})
    return {**message, "tool_calls": calls}
