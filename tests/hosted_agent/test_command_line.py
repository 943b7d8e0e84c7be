"""`agentkit run` with a hosted model: what is shown of the mode, the budgets and the fallbacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.models import reply
from tests.doubles.server import serving
from tests.hosted_agent.server import Server
from tests.test_cli import agentkit

pytestmark = pytest.mark.slow

QUESTION = "What is 2 + 2?"


@pytest.fixture
def adds(server: Server) -> Server:
    """A server that adds, and then knows."""
    server.native = [reply("Adding.", [("Calculator", '{"input": "2+2"}')], cost=0.25), reply("4", cost=0.25)]
    return server


def run(server: Server, tmp_path: Path, *words: str) -> Any:
    given = ("--model", server.url, "--tools", "calculator", *words)
    return agentkit("run", QUESTION, *given, cwd=tmp_path, XDG_CACHE_HOME=str(tmp_path / "cache"))


def test_the_mode_is_told_where_it_was_found_out(adds: Server, tmp_path: Path) -> None:
    first, second = run(adds, tmp_path), run(adds, tmp_path)
    assert (first.returncode, first.stdout, second.stdout) == (0, "4\n", "4\n")
    told = "this model calls tools in its own syntax"
    assert (told in first.stderr, told in second.stderr, adds.probes) == (True, False, 1)
    assert "Action: Calculator(2+2)" in first.stderr


def test_json_is_the_same_in_either_mode(adds: Server, tmp_path: Path) -> None:
    result = json.loads(run(adds, tmp_path, "--mode", "tools", "--json").stdout)
    assert result["steps"] == [
        {"thought": "Adding.", "tool": "Calculator", "tool_input": "2+2", "observation": "Answer: 4"}
    ]
    assert (result["output"], result["usage"]["cost_usd"], result["stop_reason"]) == ("4", 0.5, "answer")


def test_a_spent_budget_is_no_answer(adds: Server, tmp_path: Path) -> None:
    done = run(adds, tmp_path, "--max-cost", "0.2")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no answer: Agent stopped due to its cost budget." in done.stderr


def test_another_model_is_asked_when_the_first_fails(adds: Server, tmp_path: Path) -> None:
    with serving(Server(native=[400], dialect=[400])) as broken:
        done = run(broken, tmp_path, "--fallback", adds.url, "--mode", "tools")
    assert (done.returncode, done.stdout) == (0, "4\n")
    assert f"asking {adds.url}" in done.stderr


def test_a_recorded_run_of_a_fallback_in_this_process_replays(tmp_path: Path) -> None:
    words = ["run", "What is 2 + 2?", "--tools", "calculator", "--option", "max_retries=0"]
    words += ["--model", "http://127.0.0.1:9", "--fallback", "builtin", "--record", "run.yaml"]
    assert agentkit(*words, cwd=tmp_path).stdout == "4\n"
    assert agentkit("replay", "run.yaml", cwd=tmp_path).stdout == "4\n"


def test_a_recorded_run_of_native_calls_replays(adds: Server, tmp_path: Path) -> None:
    assert run(adds, tmp_path, "--record", "run.yaml").returncode == 0
    asked = len(adds.requests)
    assert agentkit("replay", "run.yaml", cwd=tmp_path).stdout == "4\n"
    assert len(adds.requests) == asked


def test_a_run_with_a_key_of_its_own_replays_and_is_recorded_again_with_the_environments(
    adds: Server, tmp_path: Path
) -> None:
    key, other = "sesame-1234567890abc", "other-0987654321xyz"
    assert run(adds, tmp_path, "--option", f"api_key={key}", "--record", "run.yaml").returncode == 0
    assert adds.requests[-1].headers["authorization"] == f"Bearer {key}"
    assert key not in (tmp_path / "run.yaml").read_text()
    assert agentkit("replay", "run.yaml", cwd=tmp_path).stdout == "4\n"
    again = agentkit("record", "run.yaml", "--trust", "--yes", cwd=tmp_path, AGENTKIT_API_KEY=other)
    assert (again.returncode, again.stdout) == (0, "4\n"), again.stderr
    assert adds.requests[-1].headers["authorization"] == f"Bearer {other}"


PLUGIN = """
from agentkit.tool import Tool

def look(q: str) -> str:
    "Looks."
    return "seen"

send = Tool(name="send", description="Sends.", run=lambda text: "sent", side_effects=True)
"""


@pytest.mark.parametrize(
    ("tool", "settings", "options", "observation"),
    [
        ("look", "", ["--tools", "look"], "seen"),
        ("look", 'tools = ["look"]', ["--trust"], "look was not approved. Do without it."),
        ("look", 'tools = ["look"]', ["--trust", "--yes"], "seen"),
        ("send", "", ["--tools", "send"], "send was not approved. Do without it."),
        ("send", "", ["--tools", "send", "--yes"], "sent"),
    ],
)
def test_where_nobody_can_be_asked_a_tool_that_says_nothing_runs_if_the_user_named_it(
    server: Server, tmp_path: Path, tool: str, settings: str, options: list[str], observation: str
) -> None:
    info = tmp_path / "theirs-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[agentkit.tools]\nlook = theirs:look\nsend = theirs:send\n")
    (tmp_path / "theirs.py").write_text(PLUGIN)
    (tmp_path / "agentkit.toml").write_text(settings)
    server.native = [reply("", [(tool, '{"q": "x"}' if tool == "look" else '{"input": "x"}')]), reply("ok")]
    given = ("--model", server.url, "--mode", "tools", "--json", *options)
    done = agentkit("run", "hi", *given, cwd=tmp_path, PYTHONPATH=str(tmp_path))
    assert [step["observation"] for step in json.loads(done.stdout)["steps"]] == [observation]
