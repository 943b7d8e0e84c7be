"""Interrupts, forks and strangers' folders: the process ends as it was told, and runs nobody's code."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

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


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.skipif(sys.platform != "linux", reason="only glibc lets a process end without C++")
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
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), ask(b) > 0)
"""
    out, errors = started(code, str(file)).communicate(timeout=60)
    told, ended = out.splitlines()
    assert told.startswith("ModelError the model was loaded before this process was forked"), errors
    assert ended == "7 True"


def test_a_first_load_runs_no_module_of_the_current_folder(file: Path, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("open('ran', 'w').close()")
    words = [str(Path(sys.executable).parent / "agentkit"), "doctor", f"local:{file}"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, check=False, timeout=120)
    assert list((tmp_path / "cache" / "agentkit" / "gguf").iterdir())
    assert not (tmp_path / "ran").exists()
