"""An executor whose calls wait, in a node of a graph: that is interrupted, and resumed with what was decided."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, TypedDict

import pytest
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command

from agentkit import AgentExecutor, Ask, Store
from agentkit.models.backend import Capabilities, Completion, NativeCall
from agentkit.models.scripted import ScriptedBackend
from tests.doubles.models import action, final

DONE: list[str] = []
CONFIG: Any = {"configurable": {"thread_id": "1"}}


class State(TypedDict, total=False):
    question: str
    answer: str


@tool
def send(text: str) -> str:
    """Sends a text."""
    DONE.append(text)
    return f"sent {text}"


@tool
def pay(amount: str) -> str:
    """Pays."""
    raise Ask("Which account?")


pay.metadata = {"side_effects": False}


@pytest.fixture(autouse=True)
def nothing_done() -> None:
    DONE.clear()


def graph(path: Path, *turns: Any, mode: Any = "react-json", asynchronous: bool = False) -> Any:
    model = ScriptedBackend(turns, capabilities=Capabilities(tools=True))
    run = AgentExecutor.from_model(model, [send, pay], mode=mode, approve="defer", store=path)

    def node(state: State) -> State:
        return {"answer": run.invoke({"input": state["question"]})["output"]}

    async def anode(state: State) -> State:
        return {"answer": (await run.ainvoke({"input": state["question"]}))["output"]}

    made = StateGraph(State)
    made.add_node("agent", anode if asynchronous else node)
    made.add_edge(START, "agent")
    made.add_edge("agent", END)
    return made.compile(checkpointer=InMemorySaver())


def waiting(state: Any) -> list[dict[str, Any]]:
    (one,) = state["__interrupt__"]
    found: list[dict[str, Any]] = one.value["waiting"]
    return found


def test_a_call_interrupts_the_graph_and_its_decision_goes_on_with_it(tmp_path: Path) -> None:
    app = graph(tmp_path / "s.db", action("send", "a"), action("send", "b"), final("done"))
    first = waiting(app.invoke({"question": "q"}, CONFIG))
    assert [(one["tool"], one["tool_input"]) for one in first] == [("send", {"text": "a"})]
    second = waiting(app.invoke(Command(resume=True), CONFIG))
    assert (DONE, [one["tool_input"] for one in second]) == (["a"], [{"text": "b"}])
    assert app.invoke(Command(resume={"yes": True, "edit": {"text": "c"}}), CONFIG)["answer"] == "done"
    assert DONE == ["a", "c"]
    assert [one.status for one in Store(tmp_path / "s.db").runs()] == ["finished"]


def test_an_async_node_is_interrupted_too(tmp_path: Path) -> None:
    async def run() -> Any:
        app = graph(tmp_path / "s.db", action("send", "a"), final("done"), asynchronous=True)
        await app.ainvoke({"question": "q"}, CONFIG)
        return await app.ainvoke(Command(resume=False), CONFIG)

    assert (asyncio.run(run())["answer"], DONE) == ("done", [])


def test_a_question_is_resumed_with_its_answer(tmp_path: Path) -> None:
    app = graph(tmp_path / "s.db", action("pay", "5"), final("paid"))
    assert waiting(app.invoke({"question": "q"}, CONFIG))[0]["question"] == "Which account?"
    assert app.invoke(Command(resume="savings"), CONFIG)["answer"] == "paid"


def test_calls_of_one_turn_are_decided_each_by_its_id(tmp_path: Path) -> None:
    calls = tuple(NativeCall(f"id{n}", "send", json.dumps({"text": text})) for n, text in enumerate("ab"))
    app = graph(tmp_path / "s.db", Completion("", tool_calls=calls), Completion("done"), mode="tools")
    first, second = waiting(app.invoke({"question": "q"}, CONFIG))
    assert app.invoke(Command(resume={first["id"]: False, second["id"]: True}), CONFIG)["answer"] == "done"
    assert DONE == ["b"]


def test_what_was_decided_elsewhere_counts(tmp_path: Path) -> None:
    app = graph(tmp_path / "s.db", action("send", "a"), final("done"))
    (asked,) = waiting(app.invoke({"question": "q"}, CONFIG))
    Store(tmp_path / "s.db").decide(asked["id"], False)
    assert (app.invoke(Command(resume=True), CONFIG)["answer"], DONE) == ("done", [])


@pytest.mark.parametrize(
    "given", [3, "yes", {"yes": True, "more": 1}, {"yes": "no"}, {"yes": True, "edit": {"text": "a", "to": "b"}}]
)
def test_what_is_no_decision_is_asked_for_again(given: Any, tmp_path: Path) -> None:
    app = graph(tmp_path / "s.db", action("send", "a"), final("done"))
    app.invoke({"question": "q"}, CONFIG)
    again = app.invoke(Command(resume=given), CONFIG)
    (asked,) = again["__interrupt__"]
    assert ("error" in asked.value, DONE) == (True, [])
    assert (app.invoke(Command(resume=True), CONFIG)["answer"], DONE) == ("done", ["a"])


def test_two_runs_of_one_node_are_two_runs(tmp_path: Path) -> None:
    turns = [action("send", "a"), final("one"), action("send", "b"), final("two")]
    model = ScriptedBackend(turns)
    run = AgentExecutor.from_model(model, [send], approve="defer", store=tmp_path / "s.db")

    def node(state: State) -> State:
        return {"answer": " ".join(run.invoke({"input": state["question"]})["output"] for _ in range(2))}

    made = StateGraph(State)
    made.add_node("agent", node)
    made.add_edge(START, "agent")
    app = made.compile(checkpointer=InMemorySaver())
    app.invoke({"question": "q"}, CONFIG)
    app.invoke(Command(resume=True), CONFIG)
    assert app.invoke(Command(resume=True), CONFIG)["answer"] == "one two"
    assert DONE == ["a", "b"]


def test_without_defer_and_outside_a_graph_nothing_is_interrupted(tmp_path: Path) -> None:
    model = ScriptedBackend([action("send", "a"), final("done")])
    run = AgentExecutor.from_model(model, [send], approve="defer", store=tmp_path / "s.db")
    assert "waiting" in run.invoke({"input": "q"}, CONFIG)
