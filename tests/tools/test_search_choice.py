"""What Search asks, how often in one run, and that a recorded run asks nobody."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentkit import AgentExecutor
from agentkit.errors import ToolError
from agentkit.events import Source
from agentkit.tool import Tool
from agentkit.toolbox.calling import in_daemon_thread
from agentkit.toolbox.run_scope import once
from agentkit.tools.search import Search, search
from agentkit.tools.serpapi import SerpAPIWrapper
from agentkit.tools.web_search import WebSearch
from tests.doubles.models import Scripted, action, final

SOURCES = [{"title": "Oslo", "link": "https://oslo"}]


@dataclass
class Engine:
    """A web that knows one page, and what it was asked."""

    asked: list[str] = field(default_factory=list)
    fails: int = 0
    failure: str = "no page today"

    def __call__(self, query: str) -> Sequence[Any]:
        self.asked.append(query)
        if len(self.asked) <= self.fails:
            raise ValueError(self.failure)
        return [{"title": "Oslo", "href": "https://oslo", "body": f"About {query}."}]


@pytest.fixture(autouse=True)
def _no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERPAPI_API_KEY", raising=False)


def tool_over(engine: Engine) -> Tool:
    return Search(web=WebSearch(engine)).as_tool()


def executor_of(engine: Engine, turns: list[str], **options: Any) -> AgentExecutor:
    return AgentExecutor.from_model(Scripted(turns=turns), [tool_over(engine)], return_run=True, **options)


def test_the_tool_reads_and_does_nothing_else() -> None:
    assert (search.name, search.takes_one_string, search.deterministic) == ("Search", True, False)
    assert (search.idempotent, search.side_effects) == (True, False)


def test_a_key_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = SerpAPIWrapper(base_url="http://127.0.0.1:9", timeout_s=0.05)
    tool, engine = Search(closed, WebSearch(Engine())), Engine()
    monkeypatch.setenv("SERPAPI_API_KEY", "0123456789abcdef")
    with pytest.raises(ToolError, match="SerpAPI"):
        tool.run("x")
    monkeypatch.delenv("SERPAPI_API_KEY")
    assert Search(closed, WebSearch(engine)).run("oslo").text == "1. Oslo\n   https://oslo\n   About oslo."


def test_with_nothing_to_ask_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    class NotInstalled(WebSearch):
        is_installed = False  # type: ignore[assignment]

    with pytest.raises(ToolError) as caught:
        Search(web=NotInstalled()).as_tool().call({"query": "age"})
    assert str(caught.value) == (
        "Error: Search has nothing to search: set SERPAPI_API_KEY (a key is at https://serpapi.com/manage-api-key), or "
        "pip install 'ddgs>=9.10', or give a folder with --docs."
    )


TURNS = [action("Search", "oslo"), action("Search", " OSLO "), action("Search", "rome"), final("Oslo")]


def test_a_run_asks_each_query_once() -> None:
    engine = Engine()
    executor = executor_of(engine, TURNS)
    run = executor.invoke({"input": "?"})["run"]
    assert (engine.asked, run["sources"], run["tools_executed"]) == (["oslo", "rome"], tuple(SOURCES), 3)
    executor_of(engine, TURNS).invoke({"input": "?"})
    assert engine.asked == ["oslo", "rome"] * 2


async def test_an_async_run_too() -> None:
    engine = Engine()
    await executor_of(engine, TURNS).ainvoke({"input": "?"})
    assert engine.asked == ["oslo", "rome"]
    await asyncio.gather(*(executor_of(engine, TURNS).ainvoke({"input": "?"}) for _ in range(4)))
    assert sorted(engine.asked) == ["oslo"] * 5 + ["rome"] * 5


def test_runs_in_a_batch_share_nothing() -> None:
    engine = Engine()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: executor_of(engine, TURNS).invoke({"input": "?"}), range(4)))
    assert sorted(engine.asked) == ["oslo"] * 4 + ["rome"] * 4


def test_a_failure_is_asked_again() -> None:
    engine = Engine(fails=1)
    steps = executor_of(engine, TURNS, return_intermediate_steps=True).invoke({"input": "?"})["intermediate_steps"]
    assert engine.asked == ["oslo", "OSLO", "rome"]
    assert [observation.splitlines()[0][:5] for _, observation in steps] == ["Error", "1. Os", "1. Os"]


def test_a_web_that_cannot_be_reached_is_not_asked_the_same_again() -> None:
    engine = Engine(fails=9, failure="ConnectError: refused")
    steps = executor_of(engine, TURNS, return_intermediate_steps=True).invoke({"input": "?"})["intermediate_steps"]
    assert engine.asked == ["oslo", "rome"]
    (observation,) = {observation for _, observation in steps}
    assert observation.startswith("Error: the web could not be reached")


def test_outside_a_run_nothing_is_kept() -> None:
    engine = Engine()
    tool_over(engine).call("oslo")
    tool_over(engine).call("oslo")
    assert engine.asked == ["oslo", "oslo"]
    assert once("key", lambda: 1) == 1
    assert once("key", lambda: 2) == 2


def test_a_recorded_run_asks_nobody(tmp_path: Path) -> None:
    engine, cassette = Engine(), tmp_path / "run.yaml"
    recorded = executor_of(engine, TURNS, cassette=cassette).invoke({"input": "?"})
    replayed = executor_of(engine, TURNS, cassette=cassette).invoke({"input": "?"})
    assert engine.asked == ["oslo", "rome"]
    assert [replayed["output"], replayed["run"]["sources"]] == [recorded["output"], recorded["run"]["sources"]]
    assert replayed["run"]["sources"] == tuple(SOURCES)


def test_two_threads_of_one_run_wait_for_one_answer() -> None:
    engine = Engine()
    begun, go_on = threading.Event(), threading.Event()

    def slow(query: str) -> Sequence[Any]:
        begun.set()
        go_on.wait(5)
        return engine(query)

    tool = Search(web=WebSearch(slow)).as_tool()

    def both(query: str) -> str:
        calls = [in_daemon_thread(tool.call, query) for _ in range(2)]
        begun.wait(5)
        go_on.set()
        return " ".join(str(call.result(5).sources == (Source("Oslo", "https://oslo"),)) for call in calls)

    tools = [Tool(name="Both", description="Asks twice.", run=both)]
    executor = AgentExecutor.from_model(
        Scripted(turns=[action("Both", "oslo"), final("Oslo")]), tools, return_intermediate_steps=True
    )
    assert executor.invoke({"input": "?"})["intermediate_steps"][0][1] == "True True"
    assert engine.asked == ["oslo"]
