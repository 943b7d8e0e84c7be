"""Calls that a server streams in odd pieces: the tool runs with what was meant, or it does not run."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.tools import BaseTool, tool

from agentkit import AgentExecutor, chat_model
from tests.doubles.server import ChatServer, Play, Request, events, say, serving
from tests.test_call_pieces import BERGEN, DOUBTFUL, ONE, OSLO, TWO, Entry

QUESTION = {"input": "Is it sunny?"}
Run = Callable[[str, list[BaseTool]], Any]


def in_a_run(url: str, tools: list[BaseTool]) -> Any:
    return AgentExecutor.from_model(chat_model(url), tools, mode="tools", max_iterations=3).invoke(QUESTION)


def in_langchains(url: str, tools: list[BaseTool]) -> Any:
    """An agent of LangChain's, which completes what is cut off."""
    agents = pytest.importorskip("langchain_classic.agents")
    from langchain_core.prompts import ChatPromptTemplate

    prompt = ChatPromptTemplate([("human", "{input}"), ("placeholder", "{agent_scratchpad}")])
    agent = agents.create_tool_calling_agent(chat_model(url), tools, prompt)
    return AgentExecutor(agent=agent, tools=tools, max_iterations=3).invoke(QUESTION)


every_run = pytest.mark.parametrize("run", [in_a_run, in_langchains])


def ran(run: Run, pieces: list[Any]) -> list[Any]:
    """What ran, where the server streams these pieces and takes any result for the end."""
    done: list[Any] = []

    @tool
    def get_weather(city: str = "nowhere") -> str:
        """Notes a city for good."""
        done.append({"city": city})
        return "sunny"

    @tool
    def add(x: int = 0, y: int = 0) -> str:
        """Notes numbers for good."""
        done.append({"x": x, "y": y})
        return "noted"

    @tool
    def get(key: str = "") -> str:
        """Notes a key for good."""
        done.append({"key": key})
        return "noted"

    last = {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]}

    def choose(request: Request) -> Play:
        if any(message["role"] == "assistant" for message in request.body["messages"]):
            return say("It is.")
        listed = [piece if isinstance(piece, list) else [piece] for piece in pieces]
        return events(*({"choices": [{"index": 0, "delta": {"tool_calls": one}}]} for one in listed), last)

    with serving(ChatServer(choose=choose)) as server:
        run(server.url, [get_weather, add, get])
    return done


@every_run
@pytest.mark.parametrize("pieces", ONE.values(), ids=ONE)
def test_a_call_runs_once_with_its_arguments(run: Run, pieces: list[Entry | list[Entry]]) -> None:
    assert ran(run, pieces) == [OSLO]


@every_run
@pytest.mark.parametrize("pieces", TWO.values(), ids=TWO)
def test_two_calls_run_once_each(run: Run, pieces: list[Entry | list[Entry]]) -> None:
    assert sorted(ran(run, pieces), key=json.dumps) == [BERGEN, OSLO]


@pytest.mark.parametrize("pieces", DOUBTFUL.values(), ids=DOUBTFUL)
def test_what_has_two_readings_runs_nothing(pieces: list[Entry]) -> None:
    assert ran(in_a_run, pieces) == []


@pytest.mark.parametrize(
    "name", ["two objects", "an object twice", "all of it again and again", "no name", "a name or two"]
)
def test_langchain_mends_nothing_of_it(name: str) -> None:
    assert ran(in_langchains, DOUBTFUL[name]) == []
