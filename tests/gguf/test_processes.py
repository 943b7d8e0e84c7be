"""Interrupts, forks, ends and strangers' folders: each process ends as it was told, and runs nobody's code."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from agentkit.errors import ConfigurationError, ModelError
from agentkit.models.backend import ChatRequest
from agentkit.models.gguf.backend import GgufBackend
from agentkit.models.gguf.engine import Engine, Start

from .conftest import write_model
from .test_grammars import completion

LOADS = """
import sys
from agentkit.models.backend import ChatRequest
from agentkit.models.gguf.backend import GgufBackend
def ask(backend):
    request = ChatRequest(messages=[{"role": "user", "content": "hello"}], options={"max_new_tokens": 4})
    return sum(chunk.text != "" for chunk in backend.generate_chat(request))
"""


def started(code: str, *words: str, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", LOADS + code, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **more},
    )


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("late_s", [0.0, 0.05, 0.1, 0.2])
def test_an_interrupt_while_the_model_loads_ends_the_process(file: Path, tmp_path: Path, late_s: float) -> None:
    code = "b = GgufBackend(sys.argv[1])\nprint('loaded', flush=True)\nask(b)\nimport time\ntime.sleep(60)"
    process = started(code, str(file), TMPDIR=str(tmp_path))
    while not list(tmp_path.glob("agentkit-*")) and process.poll() is None:
        time.sleep(0.001)  # until its server is being started
    time.sleep(late_s)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == -signal.SIGINT, errors
    assert not list(tmp_path.glob("agentkit-*"))


def wait_for(is_so: Callable[[], bool], most_s: float = 30) -> bool:
    end = time.monotonic() + most_s
    while not is_so() and time.monotonic() < end:
        time.sleep(0.01)
    return is_so()


def runs(pid: int) -> bool:
    """Whether there is a process that has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pid_of(backend: GgufBackend) -> int:
    return backend._model.engine._process._process.pid


def request(tokens: int) -> ChatRequest:
    return ChatRequest(messages=[{"role": "user", "content": "hello"}], options={"max_new_tokens": tokens})


on_linux = pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of processes")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
def test_a_forked_process_is_told_and_ends(file: Path) -> None:
    code = """
import os
b = GgufBackend(sys.argv[1])
ask(b)
pid = os.fork()
if pid == 0:
    try:
        ask(b)
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    own = GgufBackend(sys.argv[1])
    print(ask(own), flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ask(b) > 0)
"""
    out, errors = started(code, str(file)).communicate(timeout=60)
    told, own, ended = out.splitlines()
    assert told.startswith("ModelError the model was loaded before this process was forked"), errors
    assert int(own) > 0
    assert ended == "7 True"


def test_loading_runs_no_module_of_the_current_folder(file: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("open('ran', 'w').close()")
    words = [str(Path(sys.executable).parent / "agentkit"), "doctor", f"local:{file}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120)
    assert "llama.cpp" in done.stdout
    assert not (tmp_path / "ran").exists()


def test_models_of_several_vocabularies_take_turns(tmp_path: Path) -> None:
    """llama.cpp keeps one vocabulary for grammars for a whole process, and takes the next at its address for it."""
    files = [
        write_model(tmp_path / f"{number}.gguf", others=[f"x{each}" for each in range(number * 60)])
        for number in range(3)
    ]
    grammar = '%llguidance {}\nstart: "a" | "b"'
    seen: list[str] = []

    def ask(file: Path) -> None:
        for _ in range(4):
            backend = GgufBackend(file, constrain="all")
            messages = [{"role": "user", "content": "hello"}]
            seen.append(completion(backend, messages=messages, grammar=grammar, options={"max_new_tokens": 4}).text)
            backend.close()

    threads = [threading.Thread(target=ask, args=(file,)) for file in files]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 12
    assert {*seen} <= {"a", "b"}


@on_linux
def test_an_end_while_it_computes_is_one_error_and_no_more(file: Path) -> None:
    backend = GgufBackend(file)
    reply = backend.generate_chat(request(500))
    next(reply)
    os.kill(pid_of(backend), signal.SIGKILL)
    with pytest.raises(ModelError, match=r"^llama\.cpp broke down \(the system ended it; .*\); ask again, and it is"):
        list(reply)
    assert [chunk.text for chunk in backend.generate_chat(request(4))]
    backend.close()


@on_linux
def test_it_ends_with_the_process_that_loaded_it(file: Path) -> None:
    code = """
b = GgufBackend(sys.argv[1])
print(b._model.engine._process._process.pid, flush=True)
import time
time.sleep(60)
"""
    process = started(code, str(file))
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert runs(pid)
    process.kill()
    process.communicate()
    assert wait_for(lambda: not runs(pid))


@on_linux
def test_a_model_that_is_let_go_of_ends(file: Path) -> None:
    backend = GgufBackend(file)
    pid = pid_of(backend)
    del backend
    gc.collect()
    assert not runs(pid)


@on_linux
def test_an_error_after_the_start_leaves_no_process(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pids: list[int] = []
    began = Engine.__init__

    def begin(engine: Engine, start: Start, **more: bool) -> None:
        began(engine, start, **more)
        pids.append(engine._process._process.pid)

    monkeypatch.setattr(Engine, "__init__", begin)
    with pytest.raises(ConfigurationError, match="template"):
        GgufBackend(file, chat_template="{{ raise_exception('no') }}{% broken")
    gc.collect()
    assert len(pids) == 1
    assert wait_for(lambda: not runs(pids[0]))


def test_closing_while_it_computes(file: Path) -> None:
    backend = GgufBackend(file)
    reply = backend.generate_chat(request(500))
    next(reply)
    backend.close()
    for wait in (lambda: list(reply), lambda: list(backend.generate_chat(request(4)))):
        with pytest.raises(ModelError, match="the model is closed; load it again"):
            wait()
