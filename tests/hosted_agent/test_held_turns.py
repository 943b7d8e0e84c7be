"""Turns of the dialect that a server holds to a schema, from the first malformed one on."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentExecutor, Cassette
from tests.doubles.server import ChatServer, Play, Request, error, say, serving

ASKED = {"input": "What is 6 * 7?"}
CHATTER = "I would love to help you with that!"
ACTION = {"thought": "I calculate.", "action": "Calculator", "action_input": "6 * 7"}
FINAL = {"thought": "I know.", "final_answer": "42"}


def turn_of(request: Request) -> str:
    """What a server that keeps schemas makes of a model that only chats without one."""
    if "response_format" not in request.body:
        return CHATTER
    acted = any("Answer: 42" in str(message["content"]) for message in request.body["messages"])
    return json.dumps(FINAL if acted else ACTION)


def keeps(request: Request) -> Play:
    return say(turn_of(request))


def ignores(request: Request) -> Play:
    return say(CHATTER)


def breaks(request: Request) -> Play:
    """It cannot make a grammar of the schema, and does not say which field it was."""
    return error(400, "cannot generate a parser") if "response_format" in request.body else say(CHATTER)


@dataclass
class Run:
    output: str
    steps: list[tuple[str, str]]
    held: list[bool]  # whether the request had the schema


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as running:
        yield running


def run(server: ChatServer, **options: Any) -> Run:
    executor = AgentExecutor.from_model(
        server.url, ["calculator"], mode="react-json", max_iterations=3, return_intermediate_steps=True, **options
    )
    result = executor.invoke(ASKED)
    steps = [(action.tool, str(observation)) for action, observation in result["intermediate_steps"]]
    return Run(result["output"], steps, ["response_format" in body for body in server.bodies])


def test_a_malformed_turn_is_asked_for_again_by_a_schema(server: ChatServer) -> None:
    server.choose = keeps
    assert run(server) == Run("42", [("Calculator", "Answer: 42")], [False, True, True])
    turn = {"type": "object", "additionalProperties": False}
    thought, answer = {"type": "string", "maxLength": 400}, {"type": "string", "minLength": 1, "maxLength": 2000}
    called = {"thought": thought, "action": {"const": "Calculator"}, "action_input": answer}
    answered = {"thought": thought, "final_answer": answer}
    each = [{**turn, "properties": one, "required": [*one]} for one in (answered, called)]
    wanted = {"type": "json_schema", "json_schema": {"name": "turn", "schema": {"anyOf": each}}}
    assert server.bodies[-1]["response_format"] == wanted


@pytest.mark.parametrize("choose", [ignores, breaks])
def test_a_server_that_keeps_none_is_asked_once(server: ChatServer, choose: Callable[[Request], Play]) -> None:
    server.choose = choose
    seen = run(server)
    assert (seen.held.index(True), seen.held.count(True)) == (1, 1)
    assert [tool for tool, _ in seen.steps] == ["_Exception"] * 3


def test_turns_that_are_well_formed_are_held_to_nothing(server: ChatServer) -> None:
    server.plays = [say("Thought: I know.\nFinal Answer: 42")]
    assert run(server) == Run("42", [], [False])


def test_a_cassette_replays_them(server: ChatServer, tmp_path: Path) -> None:
    server.choose = keeps
    recorded = run(server, cassette=Cassette(tmp_path / "run.yaml", mode="record"))
    asked = len(server.bodies)
    replayed = run(server, cassette=Cassette(tmp_path / "run.yaml", mode="replay"))
    assert (replayed, len(server.bodies)) == (recorded, asked)
