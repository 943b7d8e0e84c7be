"""Budgets of tokens and money end a run cleanly, and bound the single call."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from langchain_core.agents import AgentAction
from langchain_core.language_models import FakeListLLM, GenericFakeChatModel
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda

from agentkit import AgentExecutor, chat_model
from agentkit.core.loop import FORCED_OUTPUT
from agentkit.errors import ConfigurationError
from agentkit.events import Finished, LimitReached, Usage
from agentkit.langchain.model import usage_of
from agentkit.models.backend import Capabilities, ChatRequest, Chunk, Completion, ToolCallPiece
from tests.doubles.models import Scripted, action, reply
from tests.hosted_agent.caller import TOOLS, Caller
from tests.hosted_agent.server import Server

QUESTION = {"input": "?"}
MODES: list[Any] = ["react-json", "tools"]


def priced(*costs: float | None) -> dict[str, list[Completion]]:
    """Turns that add and add, at these costs."""
    native = [reply(calls=[("calculator", f'{{"expression": "1+{n}"}}')], cost=cost) for n, cost in enumerate(costs)]
    dialect = [reply(action("calculator", f"1+{n}"), cost=cost) for n, cost in enumerate(costs)]
    return {"native": native, "dialect": dialect}


def script(server: Server, *costs: float | None) -> Server:
    server.native, server.dialect = priced(*costs).values()
    return server


@pytest.mark.parametrize("mode", MODES)
def test_a_cost_budget_ends_a_run(server: Server, mode: Any) -> None:
    script(server, 0.25, 0.25, 0.25, 0.25)
    executor = AgentExecutor.from_model(server.url, TOOLS, mode=mode, max_cost=0.6, early_stopping_method="generate")
    *_, limit, last = executor.events(QUESTION)
    assert limit == LimitReached("max_cost", closing_turn=False)
    assert isinstance(last, Finished)
    assert (last.output, last.answered, len(last.steps)) == (FORCED_OUTPUT["max_cost"], False, 3)
    assert (last.summary.stop_reason, last.summary.usage) == ("max_cost", Usage(60, 30, 0, 0.75))


async def test_a_price_table_counts_as_a_server_that_says(server: Server) -> None:
    script(server, None, None, None)
    model = chat_model(server.url, prices={"scripted": (0, 50_000)})  # half a dollar for the 10 tokens of a reply
    result = await AgentExecutor.from_model(model, TOOLS, mode="tools", max_cost=0.9, return_run=True).ainvoke(QUESTION)
    assert (result["run"]["stop_reason"], result["run"]["usage"]["cost_usd"]) == ("max_cost", 1.0)


def test_a_cost_budget_that_cannot_be_held_is_an_error_at_the_first_reply(server: Server) -> None:
    script(server, None, None)
    with pytest.raises(ConfigurationError, match="max_cost cannot be held: neither the server nor a price table"):
        AgentExecutor.from_model(server.url, TOOLS, mode="tools", max_cost=1).invoke(QUESTION)
    assert len(server.bodies) == 1


@pytest.mark.parametrize("mode", MODES)
def test_a_price_table_holds_no_budget_where_the_server_counts_no_tokens(server: Server, mode: Any) -> None:
    turn = (
        reply(calls=[("calculator", '{"expression": "1+1"}')]) if mode == "tools" else reply(action("calculator", "1"))
    )
    server.native = server.dialect = [replace(turn, usage=Usage())]
    model = chat_model(server.url, prices={"scripted": (1, 2)})
    executor = AgentExecutor.from_model(model, TOOLS, mode=mode, max_cost=1, max_repeats=None)
    with pytest.raises(ConfigurationError, match=r"max_cost cannot be held: .* does not count its tokens"):
        executor.invoke(QUESTION)
    assert len(server.bodies) == 1


def test_a_cost_that_becomes_unknown_ends_the_run(server: Server) -> None:
    script(server, 0.1, None, 0.1)
    executor = AgentExecutor.from_model(server.url, TOOLS, mode="tools", max_cost=1, return_run=True)
    result = executor.invoke(QUESTION)
    assert (result["run"]["stop_reason"], result["run"]["model_calls"]) == ("max_cost", 2)


def test_without_a_cost_budget_costs_are_only_counted(server: Server) -> None:
    script(server, 0.1, None, 0.2)
    executor = AgentExecutor.from_model(server.url, TOOLS, mode="tools", max_iterations=3, return_run=True)
    assert executor.invoke(QUESTION)["run"]["usage"]["cost_usd"] == pytest.approx(0.3)


@pytest.mark.parametrize(
    ("metadata", "cost"),
    [({"cost_usd": 0.5}, 0.5), ({"token_usage": {"cost": 0.25}}, 0.25), ({"token_usage": None}, None), ({}, None)],
)
def test_a_cost_is_read_where_clients_put_it(metadata: dict[str, Any], cost: float | None) -> None:
    assert usage_of(AIMessage("", response_metadata=metadata)).cost_usd == cost


@pytest.mark.parametrize("stated", [-20, -(10**9), "20", math.nan, math.inf, True, None, [20], 0])
def test_a_count_that_is_none_is_estimated_so_that_the_budget_holds(stated: Any) -> None:
    counts = {"input_tokens": stated, "output_tokens": stated, "total_tokens": stated}
    turn = AIMessage(action("calculator", "1+1")).model_copy(update={"usage_metadata": counts})
    model = GenericFakeChatModel(messages=itertools.repeat(turn))
    executor = AgentExecutor.from_model(
        model, TOOLS, mode="react-json", max_tokens=500, max_repeats=None, return_run=True
    )
    run = executor.invoke(QUESTION)["run"]
    assert run["stop_reason"] == "max_tokens"
    assert 500 <= run["usage"]["prompt_tokens"] + run["usage"]["completion_tokens"] < 2000


@pytest.mark.parametrize("counted", [[20, 10], "many", 30])
def test_usage_of_another_kind_says_nothing(counted: Any) -> None:
    assert usage_of(AIMessage("").model_copy(update={"usage_metadata": counted})) == Usage()


@pytest.mark.parametrize("cost", [-0.5, math.nan, math.inf, "0.2", [1], True])
def test_a_cost_that_is_none_does_not_count_as_one(cost: Any) -> None:
    turn = AIMessage(action("calculator", "1+1"), response_metadata={"cost_usd": cost})
    executor = AgentExecutor.from_model(
        GenericFakeChatModel(messages=itertools.repeat(turn)), TOOLS, mode="react-json", max_cost=1
    )
    with pytest.raises(ConfigurationError, match="max_cost cannot be held"):
        executor.invoke(QUESTION)


@pytest.mark.parametrize("mode", MODES)
def test_a_token_budget_bounds_the_single_call(server: Server, mode: Any) -> None:
    script(server, *[None] * 9)
    model = chat_model(server.url, max_new_tokens=64)
    result = AgentExecutor.from_model(model, TOOLS, mode=mode, max_tokens=110, return_run=True).invoke(QUESTION)
    assert [request["max_tokens"] for request in server.bodies] == [64, 64, 50, 20]
    assert (result["run"]["stop_reason"], result["run"]["model_calls"]) == ("max_tokens", 4)


def test_an_answer_that_the_budget_cut_off_is_none(server: Server) -> None:
    server.native = [reply("The answer is", finish_reason="length")]
    result = AgentExecutor.from_model(server.url, TOOLS, mode="tools", max_tokens=25, return_run=True).invoke(QUESTION)
    assert (result["run"]["stop_reason"], result["output"]) == ("max_tokens", FORCED_OUTPUT["max_tokens"])


class Bounded(Caller):
    """A model of LangChain's that takes `max_tokens`, as most do."""

    max_tokens: int | None = None


@pytest.mark.parametrize(("own", "expected"), [(None, [70, 40, 10]), (30, [None, None, 10])])
def test_a_model_of_langchains_is_bounded_where_it_takes_a_bound(own: int | None, expected: list[int | None]) -> None:
    model = Bounded(script=Server(**priced(None, None, None)), max_tokens=own)  # type: ignore[arg-type]
    AgentExecutor.from_model(model, TOOLS, mode="tools", max_tokens=70).invoke(QUESTION)
    assert [asked.get("max_tokens") for asked in model.options] == expected


def test_a_model_that_takes_no_bound_is_given_none() -> None:
    model = Scripted(turns=[action("calculator", "1+1"), action("calculator", "1+2")])
    result = AgentExecutor.from_model(model, TOOLS, max_tokens=50, return_run=True).invoke(QUESTION)
    assert result["run"]["stop_reason"] == "max_tokens"


class RunningOn:
    """A model that writes past the stop; its usage would come behind that."""

    model_id = "running on"

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        yield Chunk(text=action("calculator", "1+1"))
        yield Chunk(text="\nObservation: 41 and more")
        yield Chunk(usage=Usage(1500, 10), finish_reason="stop")

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


def test_a_token_budget_holds_where_a_stop_comes_before_the_usage() -> None:
    executor = AgentExecutor.from_model(
        RunningOn(), TOOLS, mode="react-json", max_tokens=500, max_repeats=50, return_run=True
    )
    run = executor.invoke(QUESTION)["run"]
    assert (run["stop_reason"], run["invented_observations"]) == ("max_tokens", 2)
    assert run["usage"]["prompt_tokens"] > run["usage"]["completion_tokens"] > 0


class Metered:
    """A model in this process that goes on and on, with a script of what its replies say they used."""

    model_id = "metered"
    capabilities = Capabilities(in_process=True, over_http=False, tools=True)

    def __init__(self, *said: list[Usage | None]) -> None:
        self.said = said
        self.asked = 0

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        said = self.said[min(self.asked, len(self.said) - 1)]
        self.asked += 1
        text = f'{{"expression": "{self.asked}+1"}}'
        if request.tools:
            yield Chunk(tool_calls=(ToolCallPiece(id="call00001", name="calculator", arguments=text),), usage=said[0])
        else:
            yield Chunk(text=action("calculator", f"{self.asked}+1"), usage=said[0])
        for usage in said[1:]:
            yield Chunk(usage=usage)
        yield Chunk(finish_reason="stop")

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


UNTOLD: dict[str, tuple[list[Usage | None], ...]] = {
    "nothing": ([None],),
    "zeros": ([Usage()],),
    "zeros at the end": ([Usage(900, 9), Usage()],),
    "the prompt first, the reply last": ([Usage(900, 0), None, Usage(0, 9)],),
    "the prompt alone": ([Usage(900, 0)],),
    "the reply alone": ([Usage(0, 900)],),
    "only at first": ([Usage(30, 9)], [None]),
    "only later": ([None], [Usage(900, 9)]),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("said", UNTOLD.values(), ids=UNTOLD.keys())
def test_a_token_budget_holds_whatever_a_model_says_of_its_usage(
    said: tuple[list[Usage | None], ...], mode: Any, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    model = Metered(*said)
    executor = AgentExecutor.from_model(model, TOOLS, mode=mode, max_tokens=800, max_iterations=None)
    for _ in range(2):
        model.asked = 0
        *_, last = executor.events(QUESTION, stream=stream)
        assert isinstance(last, Finished)
        assert last.summary.stop_reason == "max_tokens"
        assert model.asked <= 8
    told = all(
        usages[0] and usages[0].prompt_tokens and any(u and u.completion_tokens for u in usages) for usages in said
    )
    words = [record.getMessage() for record in caplog.records if "estimate" in record.getMessage()]
    assert words == (
        []
        if told
        else ["metered does not say how many tokens it used; max_tokens is held to an estimate from the text"]
    )


def test_without_a_token_budget_nothing_is_estimated(caplog: pytest.LogCaptureFixture) -> None:
    executor = AgentExecutor.from_model(Metered([None]), TOOLS, mode="tools", max_iterations=2, return_run=True)
    assert executor.invoke(QUESTION)["run"]["usage"]["prompt_tokens"] == 0
    assert not caplog.records


@pytest.mark.parametrize("told", [False, True])
async def test_a_chains_tokens_are_counted_whatever_its_model_says(
    told: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def think(inputs: dict[str, Any]) -> AgentAction:
        if told:
            GenericFakeChatModel(messages=iter(["x " * 100])).invoke("a question " * 100)
        return AgentAction("calculator", f"{len(inputs['intermediate_steps'])}+1", "I add. " * 10)

    executor = AgentExecutor(RunnableLambda(think), TOOLS, max_tokens=900, max_iterations=None, return_run=True)
    for run in (executor.invoke(QUESTION)["run"], (await executor.ainvoke(QUESTION))["run"]):
        assert (run["stop_reason"], run["model_calls"] < 10) == ("max_tokens", True)
    assert len([record for record in caplog.records if "estimate" in record.getMessage()]) == 2


def test_a_chain_one_of_whose_models_has_no_price_holds_no_cost() -> None:
    priced = AIMessage("", response_metadata={"cost_usd": 0.1})

    def think(inputs: dict[str, Any]) -> AgentAction:
        GenericFakeChatModel(messages=iter([priced])).invoke("?")
        FakeListLLM(responses=["x"]).invoke("?")
        return AgentAction("calculator", "1+1", "")

    with pytest.raises(ConfigurationError, match="max_cost cannot be held"):
        AgentExecutor(RunnableLambda(think), TOOLS, max_cost=1).invoke(QUESTION)
