"""The programs in notebooks/examples run, as they stand."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from agentkit import AgentExecutor, chat_model
from agentkit.errors import ModelError
from tests.doubles.models import Scripted
from tests.notebooks.execution import FOLDER

pytestmark = pytest.mark.slow

EXAMPLES = FOLDER / "examples"
QUESTION = "What is 17 times 23?"


def imported(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where annotations are looked up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("question", "printed", "code"),
    [
        (QUESTION, "391\n", 0),
        ("Send a mail to Ann.", "I cannot do that: none of my tools can.\n", 1),
        (
            "Who painted the Mona Lisa?",
            "I could not find an answer that my tools confirm. (Not confirmed: Leonardo da Vinci)\n",
            1,
        ),
    ],
)
def test_the_script_answers(question: str, printed: str, code: int) -> None:
    words = [sys.executable, str(EXAMPLES / "script.py"), question]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == (printed, code), done.stderr


# -- FastAPI -----------------------------------------------------------------------------------------------------------


async def streamed(executor: AgentExecutor | None = None) -> list[tuple[str, dict[str, Any]]]:
    """The events that the endpoint sends."""
    example = imported("fastapi_stream")
    if executor is not None:
        example.app.dependency_overrides[example.agent] = lambda: executor
    transport = httpx.ASGITransport(app=example.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://example") as client:
        response = await client.get("/ask", params={"question": QUESTION})
    assert response.headers["content-type"].startswith("text/event-stream")
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    lines = [event.split("\n") for event in events]
    return [(name.removeprefix("event: "), json.loads(values.removeprefix("data: "))) for name, values in lines]


async def test_the_endpoint_streams_the_steps() -> None:
    events = await streamed()
    names = [name for name, _ in events]
    assert [name for name in names if name != "Token"] == [
        "RunStarted",
        "Replied",
        "Thought",
        "ActionChosen",
        "Observed",
        "Replied",
        "Thought",
        "Finished",
    ]
    text = "".join(values["text"] for name, values in events if name == "Token")
    assert text.startswith("Thought: I need to calculate 17*23\nAction:")
    values = dict(events)
    assert values["ActionChosen"]["action"]["tool_input"] == "17*23"
    assert values["Observed"]["observation"] == "Answer: 391"
    assert values["Finished"]["output"] == "391"


async def test_the_endpoint_tells_of_a_model_that_fails() -> None:
    failing = AgentExecutor.from_model(Scripted(turns=[ModelError("the server is down")]), ["calculator"])
    events = await streamed(failing)
    assert events[-1] == ("Error", {"message": "the server is down"})


# -- LangGraph ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "answered"),
    [
        (QUESTION, {"answer": "391", "steps": ["Calculator(17*23) = Answer: 391"]}),
        ("How are you?", {"answer": "I only calculate.", "steps": []}),
    ],
)
def test_the_graph_asks_the_agent(question: str, answered: dict[str, Any]) -> None:
    assert imported("langgraph_node").app.invoke({"question": question}) == {"question": question, **answered}


# -- pytest ------------------------------------------------------------------------------------------------------------


WITHOUT_TORCH = """
import sys
import pytest
sys.modules["torch"] = None
sys.exit(pytest.main(["-q", "-p", "no:asyncio"]))
"""


def test_the_test_replays_without_a_model(tmp_path: Path) -> None:
    shutil.copy(EXAMPLES / "test_with_cassette.py", tmp_path)
    shutil.copytree(EXAMPLES / "cassettes", tmp_path / "cassettes")
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


# -- the server --------------------------------------------------------------------------------------------------------


def test_the_server_answers_with_the_model_of_the_package() -> None:
    server = imported("chat_server").start()
    try:
        reply = chat_model(server.url, top_k=50, temperature=0.1).invoke(QUESTION, stop=["\nAction"])
        cut = chat_model(server.url, max_new_tokens=4).invoke(QUESTION)
    finally:
        server.shutdown()
        server.server_close()
    assert reply.content == "Thought: I need to calculate 17*23"
    assert cut.response_metadata["finish_reason"] == "length"
    sent = {name: server.asked[0][name] for name in ("top_k", "temperature", "stop")}
    assert sent == {"top_k": 50, "temperature": 0.1, "stop": ["\nAction"]}
