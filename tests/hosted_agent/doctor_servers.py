"""Servers for the doctor: one keeps every field of a request, one hears none, one refuses them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from agentkit.doctor.hosted import CALL, COUNT, ODD_KEY, RANDOM
from tests.doubles.models import reply
from tests.doubles.server import Play, Request, body, events, message_of
from tests.hosted_agent.server import Server

NUMBERS = "one, two, three, four, five, six, seven, eight, nine, ten"
ALWAYS = ("messages", "model", "stream")


@dataclass
class Obedient(Server):
    """Keeps every field. `keeps_stop` leaves the stop's text in, as `transformers serve` does."""

    keeps_stop: bool = False
    usage: bool = True

    def answer(self, request: Request, number: int) -> Play:
        return self.play(request.body)

    def play(self, sent: dict[str, Any]) -> Play:
        """The reply to a request's body."""
        text, reason = self._text(sent)
        message = message_of(reply("", [("echo", '{"word": "hello"}')]) if _calls(sent) else reply(text))
        choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if _calls(sent) else reason}
        if sent.get("logprobs"):
            choice["logprobs"] = {"content": [{"token": "one", "logprob": -0.1, "top_logprobs": []}]}
        used = min(len(text.split()), sent.get("max_tokens", 99))
        usage = {"prompt_tokens": 9, "completion_tokens": used, "total_tokens": 9 + used, "cost": 0.001}
        whole = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        counted = {**whole, "usage": usage} if self.usage else whole
        if not sent.get("stream"):
            return body(json.dumps({**counted, "choices": [choice]}).encode())
        deltas: list[dict[str, Any]] = [{"content": f"{word} "} for word in str(message["content"] or "").split()]
        if calls := message.get("tool_calls"):
            deltas.append({"tool_calls": [{"index": n, **call} for n, call in enumerate(calls)]})
        pieces = [{**whole, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        end = {"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}
        return events(*pieces, {**counted, "choices": [end]})

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

    def play(self, sent: dict[str, Any]) -> Play:
        return super().play({name: sent[name] for name in ("messages", "model") if name in sent})


@dataclass
class Strict(Obedient):
    """Answers HTTP 422 to all but the plainest request."""

    def play(self, sent: dict[str, Any]) -> Play:
        strange = [name for name in sent if name not in (*ALWAYS, "max_tokens", "stream_options")]
        if strange:
            return body(json.dumps({"detail": f"Unexpected keys: {strange[0]}"}).encode(), 422)
        return super().play(sent)


@dataclass
class Willing(Obedient):
    """Calls a tool where it is asked to in words, or `required`; not one that is named."""

    required: bool = False

    def play(self, sent: dict[str, Any]) -> Play:
        choice = sent.get("tool_choice")
        if choice == "none" or (choice == "required" and self.required):
            return super().play(sent)
        return super().play({name: value for name, value in sent.items() if name != "tool_choice"})


def _calls(body: dict[str, Any]) -> bool:
    if not body.get("tools") or body.get("tool_choice") == "none" or body["messages"][-1]["role"] == "tool":
        return False
    wanted = body.get("tool_choice")
    return wanted == "required" or isinstance(wanted, dict) or body["messages"][-1]["content"] == CALL
