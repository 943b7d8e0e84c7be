"""`agentkit mcp` as other programs see it: through the official package's own client."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters, types

from agentkit import AgentExecutor, Cassette
from agentkit.errors import AgentkitError, ToolError
from agentkit.mcp import mcp_tools
from agentkit.mcp.serving import ask_agent, server_of
from agentkit.tool import Result, Tool
from tests.doubles.models import Scripted, action, final


def answer(question: str) -> str:
    if "?" not in question:
        raise AgentkitError("no answer: that is no question")
    return f"42, to {question}"


def fail(text: str) -> str:
    raise ToolError("Error: 403 with key b7f3-winter-sun")


def break_down(text: str) -> str:
    raise RuntimeError("no route to https://bob:b7f3-winter-sun@host")


TOOLS = [
    Tool(
        name="Shout", description="Shouts.", run=lambda text: Result(text.upper()), idempotent=True, side_effects=False
    ),
    Tool(name="fail", description="Fails.", run=fail, side_effects=True),
    Tool(name="break", description="Breaks down.", run=break_down, side_effects=True),
    ask_agent(answer),
]


async def test_tools_are_offered_with_their_schemas() -> None:
    async with Client(server_of(TOOLS)) as client:
        offered = (await client.list_tools()).tools
    assert [(tool.name, tool.input_schema["required"]) for tool in offered] == [
        ("Shout", ["input"]),
        ("fail", ["input"]),
        ("break", ["input"]),
        ("ask_agent", ["question"]),
    ]
    hints = [tool.annotations for tool in offered]
    assert [(hint.read_only_hint, hint.idempotent_hint) for hint in hints if hint] == [
        *((True, True), (False, False), (False, False), (True, False))
    ]


@pytest.mark.parametrize(
    ("name", "arguments", "text", "is_error"),
    [
        ("Shout", {"input": "hi"}, "HI", False),
        ("ask_agent", {"question": "What?"}, "42, to What?", False),
        ("ask_agent", {"question": "No"}, "no answer: that is no question", True),
        ("fail", {"input": "x"}, "Error: 403 with key <REDACTED>", True),
        ("break", {"input": "x"}, "RuntimeError: no route to https://bob:<REDACTED>@host", True),
        ("fly", {}, "unknown tool 'fly': expected one of Shout, fail, break, ask_agent", True),
    ],
)
async def test_calls_give_text_or_an_error(
    name: str, arguments: dict[str, Any], text: str, is_error: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WEATHER_API_KEY", "b7f3-winter-sun")
    async with Client(server_of(TOOLS)) as client:
        result = await client.call_tool(name, arguments)
    assert (result.content, result.is_error) == ([types.TextContent(text=text)], is_error)


@pytest.mark.torch
@pytest.mark.slow
async def test_the_command_speaks_nothing_but_the_protocol() -> None:
    command = StdioServerParameters(command=sys.executable, args=["-m", "agentkit", "mcp", "--tools", "calculator"])
    async with Client(command) as client:
        about = client.server_info
        offered = [tool.name for tool in (await client.list_tools()).tools]
        result = await client.call_tool("Calculator", {"input": "25^0.43"})
        asked = await client.call_tool("ask_agent", {"question": "What is 6 times 7?"})
    assert (about.name, offered) == ("agentkit", ["Calculator", "ask_agent"])
    assert result.content == [types.TextContent(text="Answer: 3.991298452658078")]
    assert "42" in asked.content[0].text  # type: ignore[union-attr]


@pytest.mark.slow
async def test_the_command_serves_http() -> None:
    with _serving() as address:
        async with Client(address) as client:
            result = await client.call_tool("Calculator", {"input": "6*7"})
    assert result.content == [types.TextContent(text="Answer: 42")]


def test_http_answers_to_names_of_this_machine_only() -> None:
    from starlette.testclient import TestClient

    start = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}
    with TestClient(server_of(TOOLS).streamable_http_app(), base_url="http://attacker.example") as client:
        reply = client.post("/mcp", content=json.dumps(start), headers={"content-type": "application/json"})
    assert reply.status_code == 421


@contextmanager
def _serving() -> Iterator[str]:
    command = [sys.executable, "-m", "agentkit", "mcp", "--tools", "calculator", "--http", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            _, _, address = process.stderr.readline().partition("serving ")  # it says where, when it listens
            yield address.strip()
        finally:
            process.terminate()


@pytest.mark.slow
def test_our_client_reaches_our_server_over_http_and_a_replay_needs_neither(tmp_path: Path) -> None:
    def run(mode: Any, address: str) -> Any:
        with Cassette(tmp_path / "run.yaml", mode=mode):
            tools = mcp_tools(address)
            model = Scripted(turns=[action("Calculator", "6*7"), final("42")])
            return AgentExecutor.from_model(model, [*tools], return_intermediate_steps=True).invoke("?")

    with _serving() as address:
        recorded = run("record", address)
    assert [observation for _, observation in recorded["intermediate_steps"]] == ["Answer: 42"]
    assert f"uri: {address}" not in (tmp_path / "run.yaml").read_text(encoding="utf-8")
    assert run("replay", address) == recorded
