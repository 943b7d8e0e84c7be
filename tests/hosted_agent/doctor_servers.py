"""Servers for the doctor: one keeps every field of a request, one hears none, one refuses them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agentkit.doctor.hosted import CALL, COUNT, ODD_KEY, RANDOM
from tests.hosted_agent.server import Server, Turn

NUMBERS = "one, two, three, four, five, six, seven, eight, nine, ten"
ALWAYS = ("messages", "model", "stream")


@dataclass
class Obedient(Server):
    """Keeps every field. `keeps_stop` leaves the stop's text in, as `transformers serve` does."""

    keeps_stop: bool = False
    usage: bool = True

    def answer(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        self.requests.append(body)
        text, reason = self._text(body)
        called = _calls(body)
        choice = {"index": 0, "message": _message(text, called), "finish_reason": "tool_calls" if called else reason}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "one", "logprob": -0.1, "top_logprobs": []}]}
        used = min(len(text.split()), body.get("max_tokens", 99))
        usage = {"prompt_tokens": 9, "completion_tokens": used, "total_tokens": 9 + used, "cost": 0.001}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "usage": usage}
        if not self.usage:
            del whole["usage"]
        if not body.get("stream"):
            return 200, "application/json", json.dumps({**whole, "choices": [choice]}).encode()
        return 200, "text/event-stream", self._streamed(whole, choice)

    def _streamed(self, whole: dict[str, Any], choice: dict[str, Any]) -> bytes:
        pieces = [piece + " " for piece in str(choice["message"]["content"] or "").split()]
        deltas: list[dict[str, Any]] = [{"content": piece} for piece in pieces]
        if calls := choice["message"].get("tool_calls"):
            deltas.append({"tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]})
        without = {key: value for key, value in whole.items() if key != "usage"}
        events = [{**without, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        events.append({**whole, "choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
        return "".join(f"data: {json.dumps(event)}\n\n" for event in [*events]).encode() + b"data: [DONE]\n\n"

    def _text(self, body: dict[str, Any]) -> tuple[str, str]:
        question = str(body["messages"][-1]["content"])
        text = NUMBERS if question == COUNT or "Count" in question else "Hello there."
        if question == RANDOM:
            text = f"word{body.get('seed', 0) if body.get('temperature') else 0}"
        if body.get("response_format", {}).get("type") == "json_schema":
            text = json.dumps({ODD_KEY: 3})
        for stop in body.get("stop") or ():
            before, found, _ = text.partition(stop)
            text = before + (found if self.keeps_stop else "")
        words = text.split()
        most = body.get("max_tokens", 99)
        return " ".join(words[:most]), "length" if len(words) > most else "stop"


@dataclass
class Deaf(Obedient):
    """Hears nothing but the messages, calls no tool, and does not stream or count."""

    usage: bool = False

    def answer(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        return super().answer({name: body[name] for name in ("messages", "model") if name in body})


@dataclass
class Strict(Obedient):
    """Answers HTTP 422 to all but the plainest request."""

    def answer(self, body: dict[str, Any]) -> tuple[int, str, bytes]:
        strange = [name for name in body if name not in (*ALWAYS, "max_tokens", "stream_options")]
        if strange:
            return 422, "application/json", json.dumps({"detail": f"Unexpected keys: {strange[0]}"}).encode()
        return super().answer(body)


def _calls(body: dict[str, Any]) -> bool:
    if not body.get("tools") or body.get("tool_choice") == "none" or body["messages"][-1]["role"] == "tool":
        return False
    wanted = body.get("tool_choice")
    return wanted == "required" or isinstance(wanted, dict) or body["messages"][-1]["content"] == CALL


def _message(text: str, called: bool) -> dict[str, Any]:
    return Turn("" if called else text, [("echo", '{"word": "hello"}')] if called else []).message()
