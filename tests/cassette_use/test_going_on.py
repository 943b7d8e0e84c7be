"""`agentkit resume` and `agentkit fork`: a run goes on after Ctrl-C, after `kill -9`, after a limit, and otherwise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from agentkit.cassette.format.file import load
from agentkit.models.backend import Completion
from agentkit.report.story import read_story
from tests.doubles.models import action, final
from tests.doubles.server import ChatServer, Line, Play, Request, reply, serving
from tests.test_cli import SEEDS_RUN, agentkit

TURNS = (action("Calculator", "25*5"), action("Calculator", "125+7"), final("132"))


@dataclass
class Server(ChatServer):
    """Gives `TURNS`; it holds its breath at turn `stuck_at`."""

    stuck_at: int | None = None
    reached: threading.Event = field(default_factory=threading.Event)
    released: threading.Event = field(default_factory=threading.Event)
    keep_alive: bool = False

    @property
    def turns(self) -> list[int]:
        """The numbers of the turns that were asked for."""
        return [turn_of(body) for body in self.bodies]

    def answer(self, request: Request, number: int) -> Play:
        turn = turn_of(request.body)

        def play(line: Line) -> None:
            if turn == self.stuck_at:
                self.reached.set()
                self.released.wait(60)
            reply(Completion(TURNS[turn]))(line)

        return play


def turn_of(body: dict[str, Any]) -> int:
    return sum(message["role"] == "assistant" for message in body["messages"])


@pytest.fixture
def server() -> Iterator[Server]:
    with serving(Server()) as started:
        yield started
        started.released.set()


def words(server: Server, file: Path) -> list[str]:
    options = ["--model", server.url, "--tools", "calculator", "--mode", "react-json"]
    return ["run", "What is 25*5+7?", *options, "--record", str(file)]


def broken_off(server: Server, file: Path, how: signal.Signals) -> str:
    """Start a run, end it while it waits for its second turn, and say what it told."""
    server.stuck_at = 1
    command = [sys.executable, "-m", "agentkit", *words(server, file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert server.reached.wait(60)
    process.send_signal(how)
    _, told = process.communicate(timeout=60)
    server.stuck_at = None
    server.released.set()
    server.requests.clear()
    return told


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_was_ended_goes_on_where_it_was(tmp_path: Path, server: Server, how: signal.Signals) -> None:
    file = tmp_path / "run.yaml"
    told = broken_off(server, file, how)
    if how == signal.SIGINT:
        assert f"agentkit resume {file} goes on with it" in told
    assert f"agentkit resume {file} goes on with it" in agentkit("replay", str(file)).stderr
    resumed = agentkit("resume", str(file))
    assert (resumed.returncode, resumed.stdout) == (0, "132\n"), resumed.stderr
    assert server.turns == [1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
    assert agentkit("replay", str(file)).stdout == "132\n"


@pytest.mark.slow
def test_a_run_that_met_a_limit_goes_on_with_more(tmp_path: Path, server: Server) -> None:
    file = tmp_path / "run.yaml"
    first = agentkit(*words(server, file), "--max-iterations", "1")
    assert first.returncode == 1
    assert f"agentkit resume {file} goes on with it" in first.stderr
    done = agentkit("resume", str(file), "--max-iterations", "5", "--json", "--quiet")
    assert json.loads(done.stdout)["output"] == "132"
    assert server.turns == [0, 1, 2]
    again = agentkit("resume", str(file))
    assert again.returncode == 2
    assert "this run has its answer, nothing is left to go on with" in again.stderr
    text = file.read_text()
    file.write_text(text[: text.index("final answer")])  # in the first prompt: no turn is left of it
    cut = agentkit("resume", str(file), "--json", "--quiet")
    assert json.loads(cut.stdout)["output"] == "132"


@pytest.mark.slow
def test_a_fork_begins_the_same_and_goes_on_otherwise(tmp_path: Path, server: Server) -> None:
    file = tmp_path / "run.yaml"
    assert agentkit(*words(server, file)).returncode == 0
    before = file.read_bytes()
    prompt = tmp_path / "mine.txt"
    prompt.write_text(
        "[system]\nBe brief. {tools} {tool_names}\n[human]\n{input}\n[messages agent_scratchpad]", encoding="utf-8"
    )
    forked = agentkit("fork", str(file), "--step", "1", "--prompt", str(prompt))
    assert (forked.returncode, forked.stdout) == (0, "132\n"), forked.stderr
    assert server.turns == [0, 1, 2, 1, 2]
    assert file.read_bytes() == before
    into = tmp_path / "run.fork.yaml"
    (run,) = read_story(into).runs
    assert [step.kept for step in run.steps] == [True, False, False]
    assert [call.observation for step in run.steps for call in step.calls] == ["Answer: 125", "Answer: 132"]
    assert "forked from run.yaml, step 1" in agentkit("show", str(into)).stdout
    assert agentkit("replay", str(into)).stdout == "132\n"
    agentkit("fork", str(file), "--step", "2", "--max-iterations", "9")
    assert load(tmp_path / "run.fork-2.yaml").run.settings.max_iterations == 9  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_fork_takes_another_model(tmp_path: Path, server: Server) -> None:
    file = tmp_path / "run.yaml"
    assert agentkit(*words(server, file)).returncode == 0
    with serving(Server()) as other:
        into = tmp_path / "other.yaml"
        agentkit("fork", str(file), "--step", "2", "--model", other.url, "--record", str(into))
        assert other.turns == [2]
    assert server.turns == [0, 1, 2]
    assert read_story(into).model == other.url


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["resume", "none.yaml"], 4, "none.yaml: no such cassette"),
        (["fork", "none.yaml", "--step", "1"], 4, "none.yaml: no such cassette"),
        (["fork", "run.yaml", "--step", "9"], 2, "expected a step from 0 to"),
        (["fork", "run.yaml", "--step", "1", "--record", "run.yaml"], 2, "which stays as it is"),
        (["fork", "run.yaml", "--step", "-1"], 2, "--step"),
        (["fork", "run.yaml"], 2, "--step"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, options: list[str], code: int, said: str) -> None:
    (tmp_path / "run.yaml").write_bytes(SEEDS_RUN.read_bytes())
    done = agentkit(*options, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (code, "")
    assert said in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["run.yaml"]
