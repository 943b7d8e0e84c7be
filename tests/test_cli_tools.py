"""What the command line lets tools do: the allowlist, asking at the terminal, MCP servers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import termios
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from agentkit.printable import word
from tests.test_cli import agentkit

WEATHER = f"{sys.executable} -m tests.mcp.servers weather"
ASK = """
import json, sys
from agentkit.cli.approval import approver
from agentkit.events import Action
name, given = json.loads(sys.argv[1])
print("asking", file=sys.stderr, flush=True)
print(approver(yes="--yes" in sys.argv)(Action(name, given)))
"""


def asked_at_a_terminal(name: str, given: Any, typed: str, *, before: str = "", columns: int = 60) -> tuple[bool, str]:
    """The decision, and what stood on the terminal."""
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, columns))
    os.write(ours, before.encode())
    words = [sys.executable, "-c", ASK, json.dumps([name, given])]
    asking = subprocess.Popen(words, stdin=theirs, stderr=theirs, stdout=subprocess.PIPE, text=True)
    shown = b""
    for line in typed.splitlines(keepends=True):
        asked = len(shown)
        while not shown[asked:].endswith(b"? [y/N] "):
            shown += os.read(ours, 65_536)
        os.write(ours, line.encode())
    decided = asking.communicate(timeout=30)[0]
    os.close(ours)
    os.close(theirs)
    return decided == "True\n", shown.decode().replace("\r\n", "\n").partition("asking\n")[2]


@pytest.mark.parametrize(
    ("typed", "yes"),
    [
        ("y\n", True),
        (" YES \n", True),
        ("\n", False),
        ("no\n", False),
        ("yy\nmaybe\nyy\n", False),
        ("yy\nn\n", False),
        ("yy\nmaybe\nyes\n", True),
        ("yy\n\x04", False),
        ("\x04", False),
        ("y\x04\x04", False),
    ],
)
def test_only_yes_is_a_yes(typed: str, yes: bool) -> None:
    assert asked_at_a_terminal("send", {"to": "Ada"}, typed)[0] is yes


def test_what_was_typed_before_the_question_is_no_answer() -> None:
    assert asked_at_a_terminal("send", {"to": "Ada"}, "n\n", before="y\ny\n")[0] is False


FORGED = "\n\nrefused, nothing was sent\r\x1b[2J\u202e\u200b\u0085\u2028\u3164Calculator"


@pytest.mark.parametrize(
    "given",
    [
        FORGED,
        {"to": FORGED},
        {FORGED: "Ada"},
        {"to": "x" * 2_500 + " everybody"},
        {"to": "Ada" + " " * 500 + FORGED},
        {"to": "漢字" * 300 + "🙂" * 100 + FORGED},
    ],
)
def test_the_question_is_the_whole_input_and_no_line_of_it_is_the_models(given: Any) -> None:
    shown = asked_at_a_terminal("send", given, "n\n")[1]
    *lines, reason, question = shown.split("\n")
    assert (reason, question) == ("This may have side effects.", "Run it with this input: send? [y/N] ")
    assert all(line.startswith("input | ") for line in lines)
    assert json.loads("".join(line.removeprefix("input | ") for line in lines)) == given
    assert all(character.isprintable() and character != "\u3164" for line in lines for character in line)
    assert all(sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) < 60 for line in lines)


def test_a_name_that_could_be_a_question_stands_in_quotes() -> None:
    shown = asked_at_a_terminal("Calculator? [y/N] y", "1+1", "n\n")[1]
    assert shown.endswith('Run it with this input: "Calculator? [y/N] y"? [y/N] ')


@pytest.mark.parametrize("filling", [" ", "-", "漢", "a word "])
def test_no_line_of_the_question_is_a_long_name_either(filling: str) -> None:
    name = f"deploy{filling * 60}Run it with this input: Calculator"[-128:]
    *lines, last = asked_at_a_terminal(name, "1+1", "n\n")[1].removesuffix(" [y/N] ").split("\n")
    assert lines[:3] == ['input | "1+1"', "This may have side effects.", "Run it with this input:"]
    named = [*lines[3:], last]
    assert all(line.startswith(" tool | ") for line in named)
    assert "".join(line.removeprefix(" tool | ") for line in named) == f"{word(name)}?"
    assert all(sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line) < 60 for line in named)


@pytest.mark.parametrize(
    ("option", "answer", "told"),
    [
        (
            [],
            "False\n",
            "not run: send may have side effects, and nobody can be asked here; --yes allows it; "
            'its input: {"to": "Ada\\u001b[2J"}\n',
        ),
        (["--yes"], "True\n", ""),
    ],
)
def test_where_nobody_can_be_asked_only_yes_allows_it(option: list[str], answer: str, told: str) -> None:
    words = [sys.executable, "-c", ASK, json.dumps(["send", {"to": "Ada\x1b[2J"}]), *option]
    done = subprocess.run(words, input="y\n", capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (answer, f"asking\n{told}")


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
