"""Reads what a chat server answers, whole or event by event, whatever dialect of OpenAI's format it speaks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentkit.events import Usage
from agentkit.models.backend import Chunk, TokenLogprob, ToolCallPiece
from agentkit.models.hosted.failures import Failure, not_a_completion, without_secrets

_FINISH_REASON = {
    "eos_token": "stop",  # as TGI says it
    "stop_sequence": "stop",
    "end_turn": "stop",
    "max_tokens": "length",
    "function_call": "tool_calls",
}
_BROKEN = ("error", "abort", "aborted", "cancelled")
_THINKING = ("reasoning_content", "reasoning", "thinking")

Cost = Callable[[Mapping[str, Any], Usage, str | None], float | None]
"""From what the server says of usage, the tokens in it, and its model's name to US dollars."""


class Answer:
    """One reply on its way in. Calls are handed out with the end of the reply, whole.

    `salt` goes into the ids of calls that come without one, which are the same when the same run is replayed.
    """

    def __init__(self, *, salt: int = 0, cost: Cost = lambda said, usage, model: None) -> None:
        self._salt = salt
        self._cost = cost
        self._calls: list[dict[str, Any]] = []
        self._usage: Usage | None = None
        self._finish_reason: str | None = None
        self._model: str | None = None
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether the server said that the reply is complete."""
        return self._ended or self._finish_reason is not None

    def read(self, data: str | bytes) -> Chunk | None:
        """What an event, or a whole body, adds. Raises `Failure` for one that is no part of a completion."""
        try:
            return self._read(data)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise not_a_completion(f"one with a field of the wrong type ({type(error).__name__})") from error

    def _read(self, data: str | bytes) -> Chunk | None:
        if isinstance(data, str) and data.strip() == "[DONE]":
            self._ended = True
            return None
        value = _object(data)
        if value.get("error"):
            raise _failed(value["error"])
        choices = value.get("choices")
        if not isinstance(choices, list):
            raise not_a_completion(f"JSON without choices ({', '.join(map(str, value))[:80] or 'empty'})")
        self._model = value.get("model") or self._model
        if isinstance(usage := value.get("usage"), Mapping):
            self._usage = self._counted(usage)
        return self._read_choice(choices[0]) if choices else None

    def end(self) -> Chunk:
        """The last chunk: calls, usage, and how the reply ended."""
        reason = self._finish_reason or ("tool_calls" if self._calls else "stop")
        calls = [call for call in self._calls if reason != "length" or _is_object(call["arguments"])]
        return Chunk(
            tool_calls=tuple(self._piece(number, call) for number, call in enumerate(calls)),
            usage=self._usage,
            finish_reason=reason,
            metadata={"model_name": self._model} if self._model else None,
        )

    def _read_choice(self, choice: Any) -> Chunk | None:
        self._finish(choice.get("finish_reason"))
        message = choice.get("delta") or choice.get("message") or {}
        for call in message.get("tool_calls") or ():
            self._read_call(call)
        thinking = next((message[name] for name in _THINKING if isinstance(message.get(name), str)), "")
        nested, text = _texts(message.get("content"))
        logprobs = _logprobs(choice.get("logprobs"))
        text = text or message.get("refusal") or ""
        if not (text or thinking or nested or logprobs):
            return None
        return Chunk(text=text, thinking=thinking + nested, logprobs=logprobs)

    def _finish(self, reason: Any) -> None:
        if reason is None or reason == "":
            return
        if reason in _BROKEN:
            raise Failure(f"broke the reply off (finish_reason {reason!r})")
        self._finish_reason = _FINISH_REASON.get(str(reason), str(reason))

    # -- calls -----------------------------------------------------------------------------------------------------

    def _read_call(self, piece: Any) -> None:
        function = piece.get("function") or {}
        arguments = function.get("arguments")
        if isinstance(arguments, Mapping):  # Ollama's own way
            arguments = json.dumps(arguments, ensure_ascii=False)
        call = self._call_of(piece.get("index"), piece.get("id"), function.get("name"))
        call["id"] = call["id"] or piece.get("id")
        call["name"] = call["name"] or function.get("name")
        call["arguments"] += arguments or ""

    def _call_of(self, index: Any, number: Any, name: Any) -> dict[str, Any]:
        """The call a piece belongs to: by its index, where it has one and its id does not contradict; else the last."""
        ours = [call for call in self._calls if index is None or call["index"] == index]
        last = ours[-1] if ours else None
        if last is not None:
            another_id = number and last["id"] and number != last["id"]
            begins_anew = index is None and name and _is_object(last["arguments"])
            if not another_id and not begins_anew:
                return last
        self._calls.append({"index": index, "id": None, "name": None, "arguments": ""})
        return self._calls[-1]

    def _piece(self, number: int, call: Mapping[str, Any]) -> ToolCallPiece:
        known = f"{self._salt} {number} {call['name']} {call['arguments']}"
        made = f"call_{hashlib.sha256(known.encode('utf-8', 'replace')).hexdigest()[:9]}"
        return ToolCallPiece(
            index=number, id=call["id"] or made, name=call["name"], arguments=call["arguments"] or "{}"
        )

    # -- usage -----------------------------------------------------------------------------------------------------

    def _counted(self, usage: Mapping[str, Any]) -> Usage:
        details = usage.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, Mapping) else None
        counted = Usage(_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")), _count(cached))
        return replace(counted, cost_usd=self._cost(usage, counted, self._model))


def _object(data: str | bytes) -> dict[str, Any]:
    if not data.strip():
        raise not_a_completion("an empty reply")
    value: Any
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        start = data[:60].decode("utf-8", "replace") if isinstance(data, bytes) else data[:60]
        seen = "an HTML page" if start.lstrip()[:1] == "<" else f"no JSON ({without_secrets(start)!r})"
        raise not_a_completion(seen) from None
    if not isinstance(value, dict):
        raise not_a_completion(f"a JSON {type(value).__name__}")
    return dict(value)


def _failed(error: Any) -> Failure:
    """An error that comes with status 200, in a stream above all."""
    code = error.get("code") if isinstance(error, Mapping) else None
    said = error.get("message") if isinstance(error, Mapping) else error
    status = code if isinstance(code, int) and 400 <= code < 600 else None
    retry = status is None or status >= 500 or status in (408, 409, 429)
    return Failure(f"broke off: {without_secrets(str(said))}", status=status, retry=retry)


def _texts(content: Any) -> tuple[str, str]:
    """The (thinking, text) of a message's content, which may be a list of parts (Mistral's)."""
    if isinstance(content, str) or content is None:
        return "", content or ""
    thinking, text = "", ""
    for part in content if isinstance(content, Sequence) else ():
        if isinstance(part, Mapping) and part.get("type") == "thinking":
            thinking += "".join(_texts(part.get("thinking")))
        elif isinstance(part, Mapping):
            text += str(part.get("text") or "")
    return thinking, text


def _logprobs(given: Any) -> tuple[TokenLogprob, ...]:
    content = given.get("content") if isinstance(given, Mapping) else None
    return tuple(
        TokenLogprob(
            str(each["token"]),
            float(each["logprob"]),
            tuple((str(one["token"]), float(one["logprob"])) for one in each.get("top_logprobs") or ()),
        )
        for each in content or ()
    )


def _is_object(arguments: str) -> bool:
    try:
        return isinstance(json.loads(arguments), dict)
    except (ValueError, RecursionError):
        return False


def _count(value: Any) -> int:
    return int(value) if isinstance(value, int | float) else 0
