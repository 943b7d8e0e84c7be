"""What a model was asked and said in a recorded interaction, whether in this process or over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.turns import to_completion
from agentkit.core.loop import Turn
from agentkit.core.planner import turn_of
from agentkit.errors import MalformedTurn
from agentkit.events import Action, FinalAnswer, Usage
from agentkit.models.backend import Completion, NativeCall

_PROMPTS = ("inputs", "prompt")  # of servers that take a text instead of messages


def asked(entry: Entry) -> list[tuple[str, str]]:
    """The messages the model was asked, as role and text."""
    body = entry.body if isinstance(entry.body, Mapping) else {}
    messages = body.get("messages")
    if isinstance(messages, list):
        return [_message(message) for message in messages]
    return [("user", body[name]) for name in _PROMPTS if isinstance(body.get(name), str)]


def said(entry: Entry) -> Completion | None:
    """The model's reply; `None` where the interaction holds none."""
    try:
        if entry.kind == "turn":
            return next(piece for piece in to_completion(entry) if isinstance(piece, Completion))
        return _over_http(entry) if entry.kind == "http" else None
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):  # a stranger's idea of a reply
        return None


def decided(entry: Entry, completion: Completion) -> Turn:
    """What the reply comes to: in a model's own calls where it was given tools, else in the dialect."""
    if not (isinstance(entry.body, Mapping) and entry.body.get("tools")):
        return turn_of(completion)
    text, usage = completion.text.strip(), completion.usage
    calls = completion.tool_calls
    whole = "\n".join([text, *map(_call_text, calls)]).strip("\n")
    decision: Any = tuple(Action(call.name, _arguments(call)) for call in calls)
    if not calls:
        answer = text.removeprefix("Final Answer:").strip()
        decision = FinalAnswer(answer, text) if answer else MalformedTurn("The model said nothing.")
    return Turn(decision, whole, text if calls else "", completion.thinking, usage=usage)


def _arguments(call: NativeCall) -> Any:
    try:
        found = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
    return found if isinstance(found, dict) else str(found)


def _call_text(call: NativeCall) -> str:
    return f"{call.name}({call.arguments})"


def text_of(content: Any) -> str:
    """A message's content as text; parts that are none are named."""
    if isinstance(content, list):
        return "\n".join(_part(part) for part in content)
    return "" if content is None else str(content)


def _part(part: Any) -> str:
    if not isinstance(part, Mapping):
        return str(part)
    return str(part["text"]) if "text" in part else f"({part.get('type', 'something')})"


def _message(message: Any) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        return "user", str(message)
    calls = map(_call_text, _calls([message]) if message.get("tool_calls") else ())
    return str(message.get("role", "user")), "\n".join([text_of(message.get("content")), *calls]).strip("\n")


# -- over HTTP ---------------------------------------------------------------------------------------------------------


def _over_http(entry: Entry) -> Completion | None:
    """OpenAI's shape, whole or streamed, and that of text-generation-inference."""
    if not (asked(entry) and 200 <= int(entry.status.get("code", 200)) < 300):
        return None
    pieces = list(_pieces(entry.response))
    choices = [choice for piece in pieces for choice in piece.get("choices") or ()]
    parts = [choice.get("message") or choice.get("delta") or choice for choice in choices]
    texts = [text_of(part.get("content") or part.get("text")) for part in parts]
    if not choices:
        generated = [piece["generated_text"] for piece in pieces if isinstance(piece.get("generated_text"), str)]
        if not generated:
            return None
        texts = generated[-1:]
    thinking = "".join(text_of(part.get("reasoning_content") or part.get("reasoning")) for part in parts)
    ends = [choice["finish_reason"] for choice in choices if choice.get("finish_reason")]
    usage = next((_usage(piece["usage"]) for piece in reversed(pieces) if piece.get("usage")), Usage())
    calls = _calls(parts)
    return _read("".join(texts), thinking, _stop(entry), calls, usage, ends[-1] if ends else "stop")


def _read(
    text: str, thinking: str, stop: tuple[str, ...], calls: tuple[NativeCall, ...], usage: Usage, end: str
) -> Completion:
    """The reply as a chat model gives it on: cut at a stop string, `<think>` apart."""
    from agentkit.models.backend import Chunk
    from agentkit.models.reply import ReplyReader

    reader = ReplyReader(stop)
    read, rest = reader.read(Chunk(text=text)), reader.rest()
    return Completion(read.text + rest.text, usage, end, thinking + read.thinking + rest.thinking, calls)


def _stop(entry: Entry) -> tuple[str, ...]:
    found = entry.body.get("stop") or ()
    return (found,) if isinstance(found, str) else tuple(str(one) for one in found)


def _pieces(response: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The JSON objects of a body: one, a list of them, or server-sent events."""
    body = response.get("json", response.get("string"))
    if isinstance(body, str):
        lines = (line.removeprefix("data:").strip() for line in body.splitlines() if line.startswith("data:"))
        body = [json.loads(line) for line in lines if line.startswith("{")]
    for piece in body if isinstance(body, list) else [body]:
        if isinstance(piece, Mapping):
            yield piece


def _usage(counted: Mapping[str, Any]) -> Usage:
    details = counted.get("prompt_tokens_details") or {}
    cost = counted.get("cost")
    return Usage(
        int(counted.get("prompt_tokens") or 0),
        int(counted.get("completion_tokens") or 0),
        int(details.get("cached_tokens") or 0),
        float(cost) if isinstance(cost, int | float) else None,
    )


def _calls(parts: Iterable[Mapping[str, Any]]) -> tuple[NativeCall, ...]:
    """Tool calls in the model's own syntax, which streams spell in pieces."""
    calls: dict[Any, NativeCall] = {}
    for number, piece in enumerate(piece for part in parts for piece in part.get("tool_calls") or ()):
        key, function = piece.get("index", f"#{number}"), piece.get("function") or {}
        before = calls.get(key, NativeCall("", "", ""))
        arguments = function.get("arguments") or ""
        text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        calls[key] = NativeCall(
            piece.get("id") or before.id, function.get("name") or before.name, before.arguments + text
        )
    return tuple(calls.values())
