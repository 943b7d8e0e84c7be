"""A recorded interaction as a person reads it: what a model was asked, and its reply, in this process or over HTTP."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.turns import to_completion
from agentkit.cassette.replaying import result_of
from agentkit.cassette.seams.tools import observation_of
from agentkit.events import Action, Observation, Observed
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Completion
from agentkit.models.chat import Reply
from agentkit.models.openai_format import BrokenReply, NotACompletion, chunks_of

_PROMPTS = ("inputs", "prompt")  # of servers that take a text instead of messages


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An HTTP exchange within a step; `outcome` is its status, or the error."""

    request: str
    outcome: str
    ms: int

    @classmethod
    def of(cls, entry: Entry) -> Exchange:
        """The interaction in a line."""
        code, error = entry.status.get("code"), entry.response.get("error")
        if error is not None:
            outcome = str(error.get("type", "error")) if isinstance(error, Mapping) else str(error)
        else:
            outcome = str(code) if isinstance(code, int) else "no answer"
        return cls(request=entry.name, outcome=outcome, ms=entry.ms)


# -- what was asked ----------------------------------------------------------------------------------------------------


def prompt_of(entry: Entry) -> list[tuple[str, str]]:
    """The messages a model was asked, as role and text; none where no model was."""
    body = entry.body if isinstance(entry.body, Mapping) else {}
    messages = body.get("messages")
    if isinstance(messages, list):
        return [_message(message) for message in messages]
    return [("user", body[name]) for name in _PROMPTS if isinstance(body.get(name), str)]


def _message(message: Any) -> tuple[str, str]:
    if not isinstance(message, Mapping):
        return "user", str(message)
    calls = [call.get("function") for call in message.get("tool_calls") or () if isinstance(call, Mapping)]
    texts = [f"{call.get('name')}({call.get('arguments')})" for call in calls if isinstance(call, Mapping)]
    return str(message.get("role", "user")), "\n".join([_text_of(message.get("content")), *texts]).strip("\n")


def _text_of(content: Any) -> str:
    """A message's content as text; parts that are none are named."""
    if not isinstance(content, list):
        return "" if content is None else str(content)
    parts = (part if isinstance(part, Mapping) else {"text": part} for part in content)
    return "\n".join(str(part["text"]) if "text" in part else f"({part.get('type', 'something')})" for part in parts)


def request_of(entry: Entry) -> ChatRequest:
    """What a model was asked, as far as the interaction says."""
    body = entry.body if isinstance(entry.body, Mapping) else {}
    stop, tools = body.get("stop") or (), body.get("tools") or ()
    if isinstance(tools, Mapping):  # those of a model in this process are kept by their names
        tools = [{"type": "function", "function": {"name": name}} for name in tools.get("names", ())]
    texts = (stop,) if isinstance(stop, str) else tuple(map(str, stop))
    return ChatRequest(messages=body.get("messages") or (), stop=texts, tools=tools)


# -- what came back ----------------------------------------------------------------------------------------------------


def completion_of(entry: Entry) -> Completion | None:
    """The model's reply, as far as it came; `None` where the interaction holds none."""
    try:
        request = request_of(entry)
        if entry.kind == "turn":
            return next(one for one in to_completion(entry, request) if isinstance(one, Completion))
        if entry.kind != "http" or not prompt_of(entry) or not 200 <= int(entry.status.get("code", 200)) < 300:
            return None
        chunks = list(_chunks(entry.response.get("json", entry.response.get("string"))))
    except (TypeError, KeyError, ValueError, AttributeError, IndexError):  # a stranger's idea of a reply
        return None
    if not chunks:
        return None
    reply = Reply(request, Capabilities(), "")
    for chunk in chunks:
        reply.read(chunk)
    reply.last()
    return reply.completion()


def _chunks(body: Any) -> Iterator[Chunk]:
    """The pieces of a reply in OpenAI's format, whole or streamed, or in that of text-generation-inference."""
    if (text := _generated_text(body)) is not None:
        yield Chunk(text=text)
        return
    if isinstance(body, Mapping) and not body.get("choices"):
        return
    try:
        yield from chunks_of(body)
    except (NotACompletion, BrokenReply):
        return


def _generated_text(body: Any) -> str | None:
    value = body[-1] if isinstance(body, list) and body else body
    if not isinstance(value, Mapping):
        return None
    choices = value.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], Mapping):
        value = {"generated_text": choices[0].get("text")}
    text = value.get("generated_text")
    return text if isinstance(text, str) else None


def observation_in(entry: Entry) -> Observation:
    """What a recorded call gave."""
    try:
        return observation_of(entry)
    except (TypeError, KeyError, ValueError, AttributeError):  # a stranger's idea of a result
        return Observation(result_of(entry))


def observed_of(action: Action, entry: Entry) -> Observed:
    """What a recorded call gave, as the event."""
    seen = observation_in(entry)
    return Observed(action, seen.value, seen.executed, seen.sources, seen.readings, seen.failed)


def place_of(action: Action, results: Sequence[Entry]) -> int | None:
    """Where a call's recorded result stands among others: the one with its input, else one of its tool."""
    name = action.tool.strip().casefold()
    named = [place for place, entry in enumerate(results) if entry.name.strip().casefold() == name]
    same = [place for place in named if results[place].body.get("input") == action.tool_input]
    return next(iter([*same, *named]), None)
