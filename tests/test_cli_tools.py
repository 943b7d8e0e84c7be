"""What the command line lets tools do: the allowlist, asking at the terminal, MCP servers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_cli import agentkit

WEATHER = f"{sys.executable} -m tests.mcp.servers weather"
ASK = """
import sys
from agentkit.cli.approval import approver
from agentkit.events import Action
print(approver(yes="--yes" in sys.argv)(Action("send", {"to": "Ada\\x1b[2J"})))
"""
CALL = 'send({"to": "Ada\\u001b[2J"})'


@pytest.mark.parametrize(("typed", "answer"), [("y\n", "True"), ("YES\n", "True"), ("\n", "False"), ("no\n", "False")])
def test_side_effects_are_asked_for_at_the_terminal(typed: str, answer: str) -> None:
    ours, theirs = os.openpty()
    os.write(ours, typed.encode())
    done = subprocess.run([sys.executable, "-c", ASK], stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True)
    shown = os.read(ours, 10_000).decode()
    os.close(ours)
    os.close(theirs)
    assert done.stdout == f"{answer}\n"
    assert f"{CALL} has side effects. Run it? [y/N] " in shown


@pytest.mark.parametrize(
    ("option", "answer", "told"),
    [
        ([], "False\n", f"not run: {CALL} has side effects, and nobody can be asked here; --yes allows it\n"),
        (["--yes"], "True\n", ""),
    ],
)
def test_where_nobody_can_be_asked_only_yes_allows_it(option: list[str], answer: str, told: str) -> None:
    done = subprocess.run([sys.executable, "-c", ASK, *option], input="y\n", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (answer, told)


@pytest.mark.torch
@pytest.mark.slow
def test_the_allowlist_names_tools_of_the_run() -> None:
    done = agentkit("run", "What is 6*7?", "--allow", "calculator,fly", "--model", "builtin")
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: expected allow to name tools of this run (Search, Calculator), saw fly; mend the name or add the tool"
    )


@pytest.mark.torch
@pytest.mark.slow
def test_a_run_with_an_mcp_server_replays_without_it(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    run = agentkit(
        "run", "What is 6 times 7?", "--allow", "calculator,forecast", "--mcp", WEATHER, "--record", str(file)
    )
    assert (run.returncode, run.stdout) == (0, "42\n"), run.stderr
    text = file.read_text(encoding="utf-8")
    assert "Tells the weather." in text
    file.write_text(text.replace(WEATHER, "no-such-command"), encoding="utf-8")
    replayed = agentkit("replay", str(file))
    assert (replayed.returncode, replayed.stdout) == (0, "42\n"), replayed.stderr


@pytest.mark.slow
def test_a_server_that_does_not_start_is_one_line() -> None:
    done = agentkit("run", "What is 6 times 7?", "--mcp", "no-such-command", "--quiet")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "no command 'no-such-command'" in done.stderr
