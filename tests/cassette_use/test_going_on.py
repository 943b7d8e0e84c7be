"""`agentkit resume` and `agentkit fork`: a run goes on after Ctrl-C, after `kill -9`, after a limit, and otherwise."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from agentkit.cassette.format.file import load
from agentkit.report.story import read_story
from tests.doubles.models import action, final
from tests.test_cli import SEEDS_RUN, agentkit

TURNS = (action("Calculator", "25*5"), action("Calculator", "125+7"), final("132"))


class Server:
    """An OpenAI-compatible server that says `TURNS`; it holds its breath at turn `stuck_at`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[int] = []
        self.stuck_at: int | None = None
        self.reached = threading.Event()
        self.released = threading.Event()


@contextmanager
def serving() -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            turn = sum(message["role"] == "assistant" for message in body["messages"])
            server.asked.append(turn)
            if turn == server.stuck_at:
                server.reached.set()
                server.released.wait(60)
            choice = {"index": 0, "delta": {"role": "assistant", "content": TURNS[turn]}, "finish_reason": "stop"}
            reply = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": "m", "choices": [choice]}
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.wfile.write(f"data: {json.dumps(reply)}\n\ndata: [DONE]\n\n".encode())

        def handle(self) -> None:
            with suppress(OSError):  # the run was ended while it waited
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        server = Server(f"http://127.0.0.1:{running.server_port}/v1")
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.released.set()
            running.shutdown()
            thread.join()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


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
    server.asked.clear()
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
    assert server.asked == [1, 2]
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
    assert server.asked == [0, 1, 2]
    again = agentkit("resume", str(file))
    assert again.returncode == 2
    assert "this run has its answer, nothing is left to go on with" in again.stderr


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
    assert server.asked == [0, 1, 2, 1, 2]
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
    with serving() as other:
        into = tmp_path / "other.yaml"
        agentkit("fork", str(file), "--step", "2", "--model", other.url, "--record", str(into))
        assert other.asked == [2]
    assert server.asked == [0, 1, 2]
    assert read_story(into).model == other.url


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
