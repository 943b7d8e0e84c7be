"""What the doctor says, and what it asks of any chat model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentkit.models.backend import ChatRequest, Completion, Message
from agentkit.models.chat import ChatModel
from agentkit.number_words import count

QUESTION: Sequence[Message] = (
    {"role": "system", "content": "You answer in a few words."},
    {"role": "user", "content": "Count: one, two, three, four, five."},
)
REPEAT: Message = {"role": "user", "content": "Repeat the word hello."}
ECHO: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "echo",
        "description": "Repeat a word",
        "parameters": {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    },
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at. `advice` is what to do about it, "" where nothing is to do."""

    name: str
    status: Literal["ok", "note", "problem"]
    seen: str
    advice: str = ""


def completion(chat: ChatModel, messages: Sequence[Message] = QUESTION, *, tokens: int, **fields: Any) -> Completion:
    """A reply of no more than `tokens`; `fields` are a request's."""
    *_, whole = chat.complete(ChatRequest(messages=messages, token_budget=tokens, stream=False, **fields))
    assert isinstance(whole, Completion)
    return whole


def _answer(chat: ChatModel) -> Finding:
    started_s = time.perf_counter()
    usage = completion(chat, tokens=32).usage
    seconds = time.perf_counter() - started_s
    if not usage.total_tokens:
        return Finding("answer", "note", f"{seconds:.1f} s, no token usage", "token budgets do not hold on this server")
    return Finding("answer", "ok", f"{count(usage.completion_tokens, 'token')} in {seconds:.1f} s")


def _streaming(chat: ChatModel) -> Finding:
    *texts, _ = chat.complete(ChatRequest(messages=QUESTION, token_budget=16))
    if len(texts) > 1:
        return Finding("streaming", "ok", f"{len(texts)} pieces")
    return Finding("streaming", "note", f"{len(texts)} piece", "answers appear all at once")


def _stop(chat: ChatModel) -> Finding:
    whole = completion(chat, tokens=24)
    stop = whole.text[len(whole.text) // 3 :][:3]
    if not stop:
        return Finding("stop", "note", "the model wrote nothing", "ask it something it answers")
    cut = completion(chat, tokens=24, stop=[stop])
    if stop in cut.text:
        return Finding("stop", "problem", f"{stop!r} in the answer", "please report this: we enforce stops")
    used, limit = cut.usage.completion_tokens, whole.usage.completion_tokens
    if used and used >= limit:
        seen = f"{stop!r} cut off after {count(used, 'token')}"
        return Finding("stop", "note", seen, "the server writes on, which is paid for: use another")
    return Finding("stop", "ok", f"stopped at {stop!r} after {used} of {limit} tokens")


def _tool_call(chat: ChatModel) -> Finding:
    called = completion(chat, [REPEAT], tokens=128, tools=[ECHO], tool_choice="echo")
    if not called.tool_calls:
        return Finding("tool call", "note", "none", "agents of this package need none; other agents may")
    call = called.tool_calls[0]
    function = {"name": call.name, "arguments": call.arguments}
    asking = {
        "role": "assistant",
        "content": called.text,
        "tool_calls": [{"id": call.id, "type": "function", "function": function}],
    }
    result = {"role": "tool", "content": "hello", "tool_call_id": call.id, "name": call.name}
    completion(chat, [REPEAT, asking, result], tokens=8)
    return Finding("tool call", "ok", f"{call.name}, and back")


PROBES: tuple[tuple[str, Callable[[ChatModel], Finding]], ...] = (
    ("answer", _answer),
    ("streaming", _streaming),
    ("stop", _stop),
    ("tool call", _tool_call),
)
