"""`max_execution_time` holds within a call, awaited or not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda

from agentkit import AgentExecutor, chat_model
from agentkit.core.loop import FORCED_OUTPUT
from agentkit.deadline import remaining_s
from agentkit.errors import ModelError
from agentkit.events import Finished, LimitReached
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.scripted import ScriptedBackend
from agentkit.tool import Tool
from tests.doubles.models import Scripted, action, final, reply
from tests.hosted_agent.caller import TOOLS
from tests.hosted_agent.server import Server

QUESTION = {"input": "?"}
OVER = FORCED_OUTPUT["max_execution_time"]


@pytest.fixture
def release() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def check(*events: Any) -> None:
    *_, limit, last = events
    assert limit == LimitReached("max_execution_time", closing_turn=False)
    assert isinstance(last, Finished)
    assert (last.output, last.answered, last.summary.stop_reason) == (OVER, False, "max_execution_time")


def hung(server: Server, release: threading.Event, mode: Any = "tools", **options: Any) -> AgentExecutor:
    server.hangs = release
    return AgentExecutor.from_model(server.url, TOOLS, mode=mode, max_execution_time=0.3, **options)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["react-json", "tools", "auto"])
def test_a_server_that_hangs_ends_the_run(server: Server, release: threading.Event, mode: Any, stream: bool) -> None:
    check(*hung(server, release, mode, early_stopping_method="generate").events(QUESTION, stream=stream))


@pytest.mark.parametrize("mode", ["react-json", "tools", "auto"])
async def test_a_server_that_hangs_ends_the_awaited_run(server: Server, release: threading.Event, mode: Any) -> None:
    check(*[event async for event in hung(server, release, mode).aevents(QUESTION)])


def test_what_was_done_is_kept(server: Server, release: threading.Event) -> None:
    def hang(text: str) -> str:
        server.hangs = release
        return "done"

    server.native = [reply(calls=[("work", '{"input": "x"}')]), reply("never")]
    tools = [Tool(name="work", description="Works.", run=hang)]
    executor = AgentExecutor.from_model(
        server.url, tools, mode="tools", max_execution_time=1, return_intermediate_steps=True
    )
    result = executor.invoke(QUESTION)
    assert (result["output"], [seen for _, seen in result["intermediate_steps"]]) == (OVER, ["done"])


class Hanging(Scripted):
    """Waits before it answers, and knows of no deadline."""

    release: threading.Event

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self.release.wait(60)
        return super()._generate(*args, **kwargs)


def test_a_model_that_knows_no_deadline_is_given_up(release: threading.Event) -> None:
    model = Hanging(turns=[final("4")], release=release)
    check(*AgentExecutor.from_model(model, TOOLS, max_execution_time=0.1).events(QUESTION, stream=False))


def test_a_chain_that_knows_no_deadline_is_given_up(release: threading.Event) -> None:
    executor = AgentExecutor(RunnableLambda(lambda x: release.wait(60)), TOOLS, max_execution_time=0.1)
    check(*executor.events(QUESTION))


class Endless(ScriptedBackend):
    """Talks until its reader leaves."""

    closed = False

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        try:
            while True:
                yield Chunk(text="word ")
        finally:
            self.closed = True


@pytest.mark.parametrize("stream", [False, True])
def test_a_model_in_this_process_stops_between_two_tokens(stream: bool) -> None:
    backend = Endless(())
    executor = AgentExecutor.from_model(ChatHuggingFace(llm=backend), TOOLS, max_execution_time=0.1)
    check(*executor.events(QUESTION, stream=stream))
    assert backend.closed


def test_a_model_that_fails_in_time_has_failed(server: Server) -> None:
    server.native = [400]
    with pytest.raises(ModelError, match="HTTP 400"):
        AgentExecutor.from_model(server.url, TOOLS, mode="tools", max_execution_time=60).invoke(QUESTION)
    with pytest.raises(ModelError):
        AgentExecutor.from_model(
            chat_model("http://127.0.0.1:9", max_retries=0), TOOLS, mode="tools", max_execution_time=60
        ).invoke(QUESTION)


def test_tools_are_told_and_the_caller_is_not() -> None:
    told: list[float | None] = []

    def look(text: str) -> str:
        told.append(remaining_s())
        return "seen"

    model = Scripted(turns=[action("look", "x"), final("ok")])
    tools = [Tool(name="look", description="Looks.", run=look)]
    for _ in AgentExecutor.from_model(model, tools, max_execution_time=60).events(QUESTION):
        assert remaining_s() is None
    (left_s,) = told
    assert left_s is not None
    assert 0 < left_s <= 60
