"""Answers that are values, of models behind servers: those that keep a turn's schema, that refuse it, and that call."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

from agentkit import AgentExecutor, chat_model
from agentkit.events import PartialAnswer
from tests.doubles.models import action
from tests.doubles.server import ChatServer, Play, Request, error, say, serving


class City(BaseModel):
    name: str
    people: int = Field(ge=0)
    near: list[City] = []


OSLO = City(name="Oslo", people=4, near=[City(name="Moss", people=2)])
VALUE = OSLO.model_dump()
TEXT = json.dumps(VALUE)
ACTION = {"thought": "I calculate.", "action": "Calculator", "action_input": "2 * 2"}


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as running:
        yield running


def has_acted(request: Request) -> bool:
    return any("Answer: 4" in str(message["content"]) for message in request.body["messages"])


def keeps(request: Request) -> Play:
    assert "response_format" in request.body
    return say(json.dumps({"thought": "I know.", "final_answer": VALUE} if has_acted(request) else ACTION))


def ignores(request: Request) -> Play:
    if has_acted(request):
        return say(f"Thought: I know.\nFinal Answer:\n```json\n{TEXT}\n```")
    return say(action("Calculator", "2 * 2"))


def refuses(request: Request) -> Play:
    return (
        error(400, "response_format is not supported here") if "response_format" in request.body else ignores(request)
    )


@pytest.mark.parametrize("choose", [keeps, ignores, refuses])
def test_a_turn_in_the_dialect(server: ChatServer, choose: Callable[[Request], Play], tmp_path: Path) -> None:
    server.choose = choose

    def executor() -> AgentExecutor:
        model = chat_model(server.url, max_retries=0)
        return AgentExecutor.from_model(
            model, ["calculator"], mode="react-json", output_type=City, cassette=tmp_path / "run.yaml"
        )

    assert executor().invoke({"input": "?"})["output"] == OSLO
    sent = len(server.bodies)
    assert executor().invoke({"input": "?"})["output"] == OSLO  # from the cassette
    assert len(server.bodies) == sent
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    answer = schema["anyOf"][0]["properties"]["final_answer"]
    assert (answer["properties"]["people"], answer["required"]) == (
        {"minimum": 0, "title": "People", "type": "integer"},
        ["name", "people"],
    )


@pytest.mark.parametrize("choose", [keeps, ignores])
def test_the_answer_grows(server: ChatServer, choose: Callable[[Request], Play]) -> None:
    server.choose = choose
    executor = AgentExecutor.from_model(
        chat_model(server.url, max_retries=0), ["calculator"], mode="react-json", output_type=City
    )
    partial = [event.value for event in executor.events({"input": "?"}) if isinstance(event, PartialAnswer)]
    assert partial[-1] == VALUE


def calls(request: Request) -> Play:
    names = [tool["function"]["name"] for tool in request.body["tools"]]
    assert names == ["Calculator", "final_answer"]
    assert not {"response_format", "tool_choice"} & request.body.keys()
    name, arguments = ("final_answer", TEXT) if has_acted(request) else ("Calculator", '{"input": "2 * 2"}')
    call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
    return say(tool_calls=[call], finish="tool_calls")


def test_a_turn_of_native_calls(server: ChatServer, tmp_path: Path) -> None:
    server.choose = calls

    def executor(**options: Any) -> AgentExecutor:
        model = chat_model(server.url, max_retries=0)
        return AgentExecutor.from_model(model, ["calculator"], mode="tools", output_type=City, **options)

    assert executor(cassette=tmp_path / "run.yaml").invoke({"input": "?"})["output"] == OSLO
    server.choose = None
    assert executor(cassette=tmp_path / "run.yaml").invoke({"input": "?"})["output"] == OSLO


def test_a_model_that_calls_is_found_out_once(server: ChatServer) -> None:
    """Also where the answer is its first call."""

    def choose(request: Request) -> Play:
        names = [tool["function"]["name"] for tool in request.body.get("tools", ())]
        name, arguments = ("final_answer", TEXT) if "final_answer" in names else (names[0], '{"city": "Lisbon"}')
        call = {"index": 0, "id": "c1", "type": "function", "function": {"name": name, "arguments": arguments}}
        return say(tool_calls=[call], finish="tool_calls")

    server.choose = choose
    for _ in range(2):
        executor = AgentExecutor.from_model(chat_model(server.url, max_retries=0), ["calculator"], output_type=City)
        assert executor.invoke({"input": "?"})["output"] == OSLO
    assert [[tool["function"]["name"] for tool in sent["tools"]] for sent in server.bodies] == [
        ["look_up_area_code"],
        ["Calculator", "final_answer"],
        ["Calculator", "final_answer"],
    ]
