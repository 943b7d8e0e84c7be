"""A chat server that calls tools in its own syntax, or says its turns in the dialect."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.core.mode import TOOL
from agentkit.models.backend import Completion
from tests.doubles import server
from tests.doubles.models import action, final, reply
from tests.doubles.server import ChatServer, Line, Play, Request

PROBE = TOOL["function"]["name"]
THINKS = "I should calculate."
NATIVE = (
    reply("Adding first.", [("calculator", '{"expression": "2+2"}')], thinking=THINKS),
    reply("Then the power.", [("power", '{"base": 4, "exponent": 2}')]),
    reply("16"),
)
DIALECT = (
    reply(action("calculator", {"expression": "2+2"}, "Adding first."), thinking=THINKS),
    reply(action("power", {"base": 4, "exponent": 2}, "Then the power.")),
    reply(final("16")),
)


@dataclass
class Server(ChatServer):
    """Says the turn whose number is that of the model's messages so far; an integer among them is an HTTP error.

    `tools`: whether a request with tools is answered by calls ("called"), in text ("ignored"), or "refused". One that
    is `strict` knows no dialect where it calls, and without calls makes its answer up where it is not told of one.
    """

    native: Sequence[Completion | int] = NATIVE
    dialect: Sequence[Completion | int] = DIALECT
    tools: str = "called"
    strict: bool = False
    probe: Completion | None = None
    by_request: bool = False  # instead: the turn whose number is that of the request
    hangs: threading.Event | None = None  # what an answer waits for
    models: Sequence[str | dict[str, Any]] | None = None
    keep_alive: bool = False

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Of the requests that are no probes."""
        return [body for body in super().bodies if not is_probe(body)]

    @property
    def probes(self) -> int:
        return sum(map(is_probe, super().bodies))

    def turn(self, body: dict[str, Any]) -> Completion | int:
        """What is answered to a request that was noted."""
        if body.get("tools") and self.tools == "refused":
            return 400
        if is_probe(body) and self.probe is not None:
            return self.probe
        if is_probe(body):
            return reply(calls=[(PROBE, '{"city": "Lisbon"}')]) if self.tools == "called" else reply("It is 21.")
        spoken = sum(message["role"] == "assistant" for message in body["messages"])
        place = len(self.bodies) - 1 if self.by_request else spoken
        if self.strict and bool(body.get("tools")) != (self.tools == "called"):
            return reply("Perhaps 100.")
        turns = self.native if body.get("tools") and self.tools == "called" else self.dialect
        return turns[min(place, len(turns) - 1)]

    def answer(self, request: Request, number: int) -> Play:
        turn = self.turn(request.body)
        play = server.error(turn, "scripted failure") if isinstance(turn, int) else server.reply(turn)

        def played(line: Line) -> None:
            if self.hangs is not None:
                self.hangs.wait(60)
            play(line)

        return played


def is_probe(body: dict[str, Any]) -> bool:
    """Whether it is the small question by which a model's way to call tools is found out."""
    return [tool["function"]["name"] for tool in body.get("tools") or ()] == [PROBE]
