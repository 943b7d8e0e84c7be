"""The command line, as a process: what is on stdout, what on stderr, and the exit code."""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.doubles.server import ChatServer, serving

ROOT = Path(__file__).parent.parent
SEEDS_RUN = ROOT / "cassettes" / "leo-dicaprio.yaml"


def agentkit(
    *words: str, cwd: Path | None = None, stdin: str = "", model: str | None = "builtin", **environment: str
) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("AGENTKIT_", "SERPAPI", "HF_", "XDG_"))
    }
    return subprocess.run(
        [sys.executable, "-m", "agentkit", *words],
        capture_output=True,
        text=True,
        cwd=cwd or ROOT,
        env={
            **clean,
            "HOME": str(cwd or ROOT / "nobody"),
            "XDG_DATA_HOME": os.environ["XDG_DATA_HOME"],
            "XDG_STATE_HOME": os.environ["XDG_STATE_HOME"],
            **({"AGENTKIT_MODEL": model} if model else {}),
            **environment,
        },
        input=stdin,
        timeout=120,
    )


def test_version_and_help() -> None:
    assert agentkit("--version").stdout == "agentkit 0.1.0\n"
    shown = agentkit("--help").stdout
    assert all(command in shown for command in ("run", "replay", "record"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", ""], "expected a question, saw nothing"),
        (["run", "  "], "expected a question, saw nothing"),
        (["run", "x", "--model", "nonsense"], "unknown model 'nonsense'"),
        (["run", "x", "--model", "local:./nowhere"], "no folder ./nowhere"),
        (
            ["run", "x", "--tools", "fly"],
            "unknown tool 'fly': expected one of ask_user, calculator, recall, remember, search",
        ),
        (["run", "x", "--prompt", "nope"], "unknown prompt 'nope'"),
        (["run", "x", "--max-iterations", "0"], "at least 1"),
        (["run", "x", "--record", "/nowhere/x.yaml"], "/nowhere"),
        (["run", "x", "--model", "hf:a/b"], "set HF_TOKEN"),
        (["rnu", "x"], "Did you mean 'run'?"),
        (["run", "What", "is", "2+2?"], "put what has spaces in quotes"),
        (["run", "x", "--timeout", "0"], "--timeout is more than 0"),
        (["run", "x", "--max-cost", "1"], "max_cost cannot be held for builtin"),
        (["run", "x", "--allow", "calculater"], "calculater"),
        (["run", "x", "--record", "."], ". is a folder"),
        (["run", "x", "--model", "gpt-4"], "write openai:gpt-4"),
        (["run", "x\udcff"], "the question is no UTF-8 text"),
        (["mcp", "--http", "99999"], "99999"),
        (["run", "hi", "--prompt", "x" * 300], "give a shorter name"),
        (["resume", "x" * 300], "give a shorter name"),
        (["run", "hi", "--mcp", "'"], "expected an MCP server's command or address"),
        (["run", "hi", "--model", "http://127.0.0.1:1", "--option", "timeout=-1"], "timeout is seconds, more than 0"),
        *(
            (["run", "hi", "--model", "http://127.0.0.1:1", "--option", option], said)
            for option, said in (
                ("max_retries=x", "max_retries is a whole number, not of type str"),
                ("temperature=x", "temperature is a number, not of type str"),
                ("model_kwargs=3", "model_kwargs is an object of names and values, not 3"),
                ("notice=x", "notice is a function, not of type str"),
                ('server_kwargs={"headers": 3}', "headers is an object of names and values, not 3"),
                ('model_kwargs={"top_k": "x"}', "top_k is a whole number, not of type str"),
                ("stop_sequences=[1]", "stop_sequences is a list of text, not a list"),
            )
        ),
        *(
            (["run", "hi", "--option", option], said)
            for option, said in (
                ("model_kwargs=3", "model_kwargs is an object of names and values, not 3"),
                ("pipeline_kwargs=[]", "pipeline_kwargs is an object of names and values, not a list"),
                ("batch_size=x", "batch_size is a whole number, not 'x'"),
                ("batch_size=0", "batch_size is at least 1, not 0"),
                ("attn_implementation=3", "attn_implementation is text, not 3"),
                ("generation_config=3", "generation_config is an object of Python's, not 3"),
                ("eos_token_id=x", "eos_token_id is a whole number or a list, not 'x'"),
                ("max_time=x", "max_time: expected a number of at least 0, saw 'x'"),
                ("seed=x", "seed: expected a whole number of at least 0, saw 'x'"),
                ("stop_strings=3", "stop_strings is text or a list of text, not 3"),
                ("dtype=nope", "expected a dtype as 'bfloat16', 'float16' or 'float32', saw 'nope'"),
            )
        ),
    ],
)
def test_wrong_use_is_one_clear_line_and_exit_code_2(words: list[str], message: str) -> None:
    done = agentkit(*words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    errors = [line for line in done.stderr.splitlines() if not line.startswith("model: ")]
    assert len(errors) == 1
    assert errors[0].startswith("error: ")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("piped", "message"),
    [
        (b"", "expected a question, saw nothing"),
        (b" \n\xef\xbb\xbf"[2:], "expected a question, saw nothing"),
        (b"a\xff", "the question is no UTF-8 text, at byte 2"),
        (b"a\0b", "a NUL character"),
        (b"a" * 10_000_001, "at most 10 MB"),
    ],
)
def test_a_piped_question_that_is_none_is_refused(piped: bytes, message: str) -> None:
    done = subprocess.run([sys.executable, "-m", "agentkit", "run", "-"], input=piped, capture_output=True)
    assert (done.returncode, done.stdout) == (2, b"")
    assert done.stderr.decode().startswith("error: ")
    assert message in done.stderr.decode()


@pytest.mark.slow
def test_piped_text_beside_a_question_is_said_to_be_left_out() -> None:
    words = ["run", "summarise", "--model", "http://127.0.0.1:9", "--option", "max_retries=0", "--mode", "react-json"]
    assert "standard input was not read" in agentkit(*words, stdin="The moon is made of basalt.\n").stderr
    assert "standard input" not in agentkit(*words).stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [["replay", "-q", str(SEEDS_RUN)], ["show", str(SEEDS_RUN)], ["--help"]])
def test_an_answer_that_cannot_be_written_is_one_line(words: list[str]) -> None:
    shell = shlex.join([sys.executable, "-m", "agentkit", *words])
    for end, code, said in (
        (" > /dev/full", 2, "error: the answer cannot be written"),
        (" >&-", 2, "error: standard output is closed"),
        (" | true; exit ${PIPESTATUS[0]}", None, ""),
    ):
        done = subprocess.run(["bash", "-c", shell + end], capture_output=True, text=True)
        assert done.returncode == code or (code is None and done.returncode in (0, 1))
        assert "Traceback" not in done.stderr
        assert "Exception ignored" not in done.stderr
        assert said in done.stderr


@pytest.mark.slow
def test_nothing_for_a_closed_standard_error_is_among_the_answers() -> None:
    shell = shlex.join([sys.executable, "-m", "agentkit", "replay", str(SEEDS_RUN)])
    done = subprocess.run(["bash", "-c", shell + " 2>&-"], capture_output=True, text=True)
    assert done.stdout.startswith("Vittoria Ceretti")
    assert done.stdout.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "content", ["", "just text", "version: 1\ninteractions: 7", "!!python/object/apply:os.system [ls]"]
)
def test_a_file_that_is_no_cassette_is_refused(tmp_path: Path, content: str) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(content)
    done = agentkit("replay", str(file))
    assert (done.returncode, done.stdout) == (4, "")
    assert len(done.stderr.strip().splitlines()) == 1
    assert "broken.yaml" in done.stderr


def test_a_cassette_that_is_not_there_is_refused(tmp_path: Path) -> None:
    done = agentkit("replay", str(tmp_path / "none.yaml"))
    assert done.returncode in (2, 4)
    assert "none.yaml" in done.stderr


@pytest.mark.slow
def test_the_seeds_run_replays() -> None:
    done = agentkit("replay", str(SEEDS_RUN))
    assert done.returncode == 0, done.stderr
    assert done.stdout == (
        "Vittoria Ceretti, Leo DiCaprio's current girlfriend, when raised to the power of 0.43 is approximately 4.0 "
        "rounded to two decimal places. Her current age is 25 years old.\n"
    )
    assert "Action: Calculator(25^0.43)" in done.stderr
    assert "Observation: Answer: 3.991298452658078" in done.stderr


@pytest.mark.slow
def test_the_seeds_run_as_json() -> None:
    shown = json.loads(agentkit("replay", str(SEEDS_RUN), "--json", "--quiet").stdout)
    assert [step["tool"] for step in shown["steps"]] == ["Search", "Search", "Calculator"]
    assert shown["steps"][2]["observation"] == "Answer: 3.991298452658078"
    assert shown["stop_reason"] == "answer"
    assert set(shown) == {"input", "output", "steps", "usage", "model", "stop_reason", "seconds"}


@pytest.mark.torch
@pytest.mark.slow
def test_the_built_in_model_answers() -> None:
    done = agentkit("run", "What is 25 raised to the 0.43 power?")
    assert done.returncode == 0, done.stderr
    assert "3.99" in done.stdout
    assert done.stderr.startswith("model: builtin")
    assert "--model" in done.stderr
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.torch
@pytest.mark.slow
def test_a_question_comes_from_stdin_and_json_goes_to_stdout() -> None:
    done = agentkit("run", "-", "--json", "--quiet", stdin="What is 12 times 12?\n")
    shown = json.loads(done.stdout)
    assert (done.returncode, done.stderr) == (0, "")
    assert shown["input"] == "What is 12 times 12?"
    assert shown["output"].endswith("144")
    assert shown["usage"]["completion_tokens"] > 0


@pytest.mark.torch
@pytest.mark.slow
def test_a_run_records_and_replays(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    live = agentkit("run", "What is 12 times 12?", "--record", str(file))
    again = agentkit("replay", str(file))
    assert live.returncode == again.returncode == 0, live.stderr + again.stderr
    assert live.stdout == again.stdout
    assert agentkit("record", str(file)).stdout == live.stdout


@pytest.mark.slow
def test_a_changed_cassette_is_a_drift(tmp_path: Path) -> None:
    file = tmp_path / "run.yaml"
    file.write_text(SEEDS_RUN.read_text(encoding="utf-8").replace("Answer: 3.99", "Answer: 4.99"), encoding="utf-8")
    done = agentkit("replay", str(file))
    assert done.returncode == 4
    assert "error: " in done.stderr


@pytest.mark.torch
@pytest.mark.slow
def test_a_limit_ends_without_an_answer() -> None:
    done = agentkit("run", "What is 12 times 12?", "--max-tokens", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert "no answer: " in done.stderr


@pytest.mark.slow
def test_settings_come_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text('model = "nonsense"')
    assert "unknown model 'nonsense'" in agentkit("run", "x", model=None, cwd=tmp_path).stderr
    assert "unknown model 'other'" in agentkit("run", "x", cwd=tmp_path, AGENTKIT_MODEL="other").stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "left"),
    [("", "there is no {file}"), ("version: 1\nagentkit:\n  format: 2\ninteractions: []\n", "{file} is as it was")],
    ids=["a new file", "an earlier recording"],
)
def test_ctrl_c_ends_a_run_that_waits_for_its_model(before: str, left: str, tmp_path: Path) -> None:
    """Nothing is there to go on with, which is said."""
    file = tmp_path / "run.yaml"
    if before:
        file.write_text(before)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        words = ["run", "x", "--model", address, "--record", str(file), "--force"]
        process = subprocess.Popen([sys.executable, "-m", "agentkit", *words], stderr=subprocess.PIPE, text=True)
        connection, _ = server.accept()
        with connection:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=30)
    assert process.returncode == 130
    note = f"no turn was over yet, so nothing is recorded, and {left.format(file=file)}; start again"
    assert errors.endswith(f"{note}\n\ninterrupted\n")
    assert "Traceback" not in errors
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("run.yaml", before)] * bool(before)


def test_the_doctor_takes_a_models_options() -> None:
    with serving(ChatServer()) as server:
        done = agentkit("doctor", server.url, "--option", "max_retries=0", "--option", 'headers={"x-team": "a"}')
        assert done.returncode in (0, 3), done.stderr
        assert {request.headers.get("x-team") for request in server.requests} == {"a"}
    alone = agentkit("doctor", "--option", "max_retries=0")
    assert (alone.returncode, alone.stderr) == (
        2,
        "error: --option is for a model; name one: agentkit doctor SPEC --option …\n",
    )


@pytest.mark.torch
@pytest.mark.slow
def test_doctor_says_what_works() -> None:
    empty = agentkit("doctor", "")
    assert (empty.returncode, "error: unknown model '': expected" in empty.stderr) == (2, True)
    done = agentkit("doctor", "builtin", "--json")
    findings = {finding["name"]: finding for finding in json.loads(done.stdout)}
    assert done.returncode == 0, done.stdout
    assert {"python", "torch", "stop", "streaming", "bos", "context"} <= findings.keys()
    assert findings["stop"]["status"] == "ok"
    assert "what to do" in agentkit("doctor").stdout
