"""Tools by name: ours, other packages', langchain-community's; and what `agentkit tools` says of them."""

from __future__ import annotations

import json
import sys

import pytest
from click.testing import CliRunner

from agentkit import load_tools
from agentkit.cli.app import app
from agentkit.errors import ConfigurationError
from agentkit.langchain.community import community_tool
from agentkit.toolbox.registry import find_tool


def listed(*arguments: str) -> list[dict[str, object]]:
    result = CliRunner().invoke(app, ["tools", "--json", *arguments], standalone_mode=False)
    assert result.exception is None, result.exception
    return json.loads(result.stdout)  # type: ignore[no-any-return]


def test_langchain_communitys_tools_are_found_by_name() -> None:
    (search,) = load_tools(["ddg-search"])
    assert search.name == "duckduckgo_search"


def test_a_tool_whose_package_is_missing_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wikipedia", None)
    with pytest.raises(ConfigurationError, match=r"'wikipedia' of langchain-community .* pip install wikipedia"):
        find_tool("wikipedia", community_tool)


@pytest.mark.parametrize("name", ["terminal", "requests_get", "python_repl", "calculater"])
def test_what_runs_anything_or_is_unknown_is_no_tool(name: str) -> None:
    with pytest.raises(
        ConfigurationError,
        match=rf"unknown tool '{name}': expected one of ask_user, calculator, recall, ",
    ):
        find_tool(name, community_tool)


def test_the_list_says_what_there_is_and_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SERPAPI_API_KEY", raising=False)
    tools = {tool["name"]: tool for tool in listed()}
    assert tools["calculator"] | {"description": ""} == {
        "name": "calculator",
        "description": "",
        "origin": "agentkit-react",
        "needs": "",
        "schema": {"type": "string"},
        "side_effects": False,
    }
    assert tools["search"]["needs"] == "SERPAPI_API_KEY is not set"
    assert tools["arxiv"]["origin"] == "langchain-community"


@pytest.mark.slow
def test_a_servers_tools_are_listed_too() -> None:
    tools = {tool["name"]: tool for tool in listed("--mcp", f"{sys.executable} -m tests.mcp.servers weather")}
    assert (tools["order"]["origin"], tools["order"]["side_effects"]) == (
        f"MCP: {sys.executable} -m tests.mcp.servers weather",
        True,
    )


def test_the_table_is_for_people() -> None:
    result = CliRunner().invoke(app, ["tools"], standalone_mode=False)
    assert result.stdout.splitlines()[0].split() == ["name", "what", "it", "does", "from", "needs"]
    assert "wikipedia" in result.stdout
