"""What the doctor says, and what it asks of any chat model."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from agentkit.errors import ConfigurationError
from agentkit.models.backend import ChatBackend, ChatRequest, Completion, Message, capabilities_of
from agentkit.models.chat import BackendChat, ChatModel
from agentkit.number_words import count

if TYPE_CHECKING:
    from agentkit.models.local.chat_template import ChatTemplate

QUESTION: Sequence[Message] = (
    {"role": "system", "content": "You answer in a few words."},
    {"role": "user", "content": "Count: one, two, three, four, five."},
)
REPEAT: Message = {"role": "user", "content": "Repeat the word hello."}
CALL: Message = {"role": "user", "content": "Call the tool echo with the word hello."}
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


def _greedy(chat: ChatModel, **fields: Any) -> Completion:
    """A reply that is the same each time, of a model that can be asked for that."""
    try:
        return completion(chat, tokens=24, options={"temperature": 0.0}, **fields)
    except ConfigurationError:
        return completion(chat, tokens=24, **fields)


def _stop(chat: ChatModel) -> Finding:
    whole = _greedy(chat)
    stop = whole.text[len(whole.text) // 3 :][:3]
    if not stop:
        return Finding("stop", "note", "the model wrote nothing", "ask it something it answers")
    cut = _greedy(chat, stop=[stop])
    if stop in cut.text:
        return Finding("stop", "problem", f"{stop!r} in the answer", "please report this: we enforce stops")
    if not whole.text.startswith(cut.text):
        return Finding("stop", "note", "not to be told: it answered otherwise this time", "try again")
    used, limit = cut.usage.completion_tokens, whole.usage.completion_tokens
    if used and used >= limit:
        seen = f"{stop!r} cut off after {count(used, 'token')}"
        return Finding("stop", "note", seen, "the server writes on, which is paid for: use another")
    return Finding("stop", "ok", f"stopped at {stop!r} after {used} of {limit} tokens")


def _tool_call(chat: ChatModel) -> Finding:
    called, how = completion(chat, [REPEAT], tokens=128, tools=[ECHO], tool_choice="echo"), ""
    if not called.tool_calls:
        called, how = completion(chat, [CALL], tokens=128, tools=[ECHO]), ", unless it is made to"
    if not called.tool_calls:
        return Finding("tool call", "note", "none", "agents of this package need none; other agents may")
    call = called.tool_calls[0]
    asking = {"role": "assistant", "content": called.text, "tool_calls": [call.as_openai()]}
    result = {"role": "tool", "content": "hello", "tool_call_id": call.id, "name": call.name}
    completion(chat, [REPEAT, asking, result], tokens=8)
    return Finding("tool call", "ok", f"{call.name}, and back{how}")


PROBES: tuple[tuple[str, Callable[[ChatModel], Finding]], ...] = (
    ("answer", _answer),
    ("streaming", _streaming),
    ("stop", _stop),
    ("tool call", _tool_call),
)


# -- what models in this process have in common ------------------------------------------------------------------------


def chat_template(template: ChatTemplate) -> Finding:
    if not template.is_own:
        return Finding("chat template", "note", "none", "a plain one is used; prefer a model tuned for chat")
    if REPEAT["content"] not in template.prompt_text([REPEAT]):
        return Finding("chat template", "problem", "leaves out what is asked", "download it again, or give another")
    return Finding("chat template", "ok", "the model's own")


def call_syntax(template: ChatTemplate) -> Finding:
    if syntax := template.native_calls:
        return Finding("call syntax", "ok", f"the model's own: {syntax.opening!r}")
    return Finding("call syntax", "note", "none in the template", "tools are told in words and held to by grammar")


def prompt(backend: ChatBackend) -> Finding:
    return Finding("prompt", "ok", f"{capabilities_of(backend).best_prompt}, unless --prompt names another")


def grammar(backend: ChatBackend) -> Finding:
    text = completion(BackendChat(backend), tokens=32, grammar='start: "Answer: " /[0-9]{3}/').text
    good = text.startswith("Answer: ") and len(text) == 11
    return Finding("grammar", "ok" if good else "problem", repr(text), "" if good else "please report this")


def cache(backend: ChatBackend, reason: str = "no reuse") -> Finding:
    """`reason` is why nothing is reused, where nothing is."""
    _, again = (completion(BackendChat(backend), tokens=4).usage for _ in range(2))
    if again.cached_tokens:
        return Finding("cache", "ok", f"{again.cached_tokens} of {again.prompt_tokens} prompt tokens reused")
    return Finding("cache", "note", reason, "every step computes the whole prompt")
