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

from .conftest import ENDLESS, write_model
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
def test_an_end_while_it_computes_is_one_error_and_no_more(endless: Path) -> None:
    backend = GgufBackend(endless)
    reply = backend._model.engine.stream(ENDLESS)
    next(reply)
    os.kill(pid_of(backend), signal.SIGKILL)
    with pytest.raises(ModelError, match=r"^llama\.cpp broke down \(the system ended it; .*\); ask again, and it is"):
        list(reply)
    assert [chunk.text for chunk in backend.generate_chat(request(4))]
    backend.close()


@on_linux
@pytest.mark.parametrize(("said", "has"), [({}, "1000"), ({"GOMP_SPINCOUNT": "7"}, "7")])
def test_its_threads_wait_for_each_other_a_little(
    file: Path, monkeypatch: pytest.MonkeyPatch, said: dict[str, str], has: str
) -> None:
    """The command line has the threads of this process sleep at once, which takes llama.cpp twice the time."""
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    backend = GgufBackend(file)
    seen = Path(f"/proc/{pid_of(backend)}/environ").read_bytes().split(b"\0")
    assert f"GOMP_SPINCOUNT={has}".encode() in seen
    backend.close()


@on_linux
def test_who_waits_can_look_at_the_time(file: Path) -> None:
    """Even where the process computes nothing."""
    backend = GgufBackend(file)
    os.kill(pid_of(backend), signal.SIGSTOP)
    reply = backend.generate_chat(request(4))
    assert not next(reply).holds_something
    os.kill(pid_of(backend), signal.SIGCONT)
    assert "".join(chunk.text for chunk in reply)
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


LOADING_FOREVER = """
import ctypes, os, pathlib

class CommonParams:
    def __getattr__(self, name):
        return CommonParams()

def get_device_info():
    return []

class Server:
    def __init__(self, asked):
        pathlib.Path(__file__).with_name("pid").write_text(f"{os.getpid()}.")
        ctypes.PyDLL(None).sleep(60)  # as llama.cpp, lets no other thread run
"""


@on_linux
@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_process_that_waits_for_it_to_load(file: Path, tmp_path: Path, end: signal.Signals) -> None:
    (tmp_path / "xllamacpp.py").write_text(LOADING_FOREVER)
    process = started("sys.path.insert(0, sys.argv[2])\nGgufBackend(sys.argv[1])", str(file), str(tmp_path))
    said = tmp_path / "pid"
    assert wait_for(lambda: said.is_file() and said.read_text().endswith("."))
    pid = int(said.read_text().rstrip("."))
    assert runs(pid)
    process.send_signal(end)
    process.communicate()
    assert wait_for(lambda: not runs(pid))


@on_linux
def test_it_outlives_the_thread_that_loaded_it(file: Path) -> None:
    made: list[GgufBackend] = []
    thread = threading.Thread(target=lambda: made.append(GgufBackend(file)))
    thread.start()
    thread.join()
    pid = pid_of(made[0])
    assert [chunk.text for chunk in made[0].generate_chat(request(4))]
    assert pid_of(made[0]) == pid
    made[0].close()


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


def test_closing_while_it_computes(endless: Path) -> None:
    backend = GgufBackend(endless)
    reply = backend._model.engine.stream(ENDLESS)
    next(reply)
    backend.close()
    for wait in (lambda: list(reply), lambda: list(backend.generate_chat(request(4)))):
        with pytest.raises(ModelError, match="the model is closed; load it again"):
            wait()


@on_linux
@pytest.mark.slow
@pytest.mark.parametrize("late_s", [0.1, 0.15, 0.2, 0.25, 0.3])
def test_an_interrupt_of_its_process_alone_is_nothing(file: Path, late_s: float) -> None:
    engine = Engine(Start(model=str(file)), for_grammars=True)
    time.sleep(late_s)
    os.kill(engine._process._process.pid, signal.SIGINT)
    engine.ready()
    assert list(engine.stream({"prompt": "x", "n_predict": 1}))
    engine.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("asks", ["list(reply)", "ask(b)"], ids=["a reply of before", "with every slot taken"])
def test_a_forked_process_waits_for_nothing(file: Path, asks: str) -> None:
    code = f"""
import os, signal
b = GgufBackend(sys.argv[1], batch_size=2)
request = ChatRequest(messages=[{{"role": "user", "content": "hello"}}], options={{"max_new_tokens": 400}})
replies = [b.generate_chat(request) for _ in range(2)]
[next(each) for each in replies]
reply = b._model.engine.stream({{"prompt": "x", "n_predict": 900, "ignore_eos": True}})
next(reply)
os.kill(b._model.engine._process._process.pid, signal.SIGSTOP)
pid = os.fork()
if pid == 0:
    signal.alarm(20)
    try:
        {asks}
    except Exception as error:
        print(type(error).__name__, error, flush=True)
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""
    out, errors = started(code, str(file)).communicate(timeout=60)
    told, ended = out.splitlines()
    assert told.startswith("ModelError the model was loaded before this process was forked"), errors
    assert ended == "7"


PLACES = {
    "a long folder": ({"TMPDIR": "x" * 120}, {}),
    "letters that the locale lacks": ({"TMPDIR": "ünï cödé", "XDG_CACHE_HOME": "ünï cödé"}, {"LC_ALL": "C"}),
    "no UTF-8": ({"TMPDIR": "\udcff", "XDG_CACHE_HOME": "\udcff"}, {}),
    "no folder": ({"XDG_CACHE_HOME": "/proc/nothing"}, {"TMPDIR": "/proc/nothing"}),
}


@on_linux
@pytest.mark.parametrize(("folders", "more"), PLACES.values(), ids=PLACES)
def test_folders_of_any_name(file: Path, tmp_path: Path, folders: dict[str, str], more: dict[str, str]) -> None:
    environment = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", **more}
    for variable, name in folders.items():
        environment[variable] = str(tmp_path / name)
        if not name.startswith("/"):
            (tmp_path / name).mkdir(exist_ok=True)
    code = "b = GgufBackend(sys.argv[1])\nprint(ask(b) > 0, b._model.engine.address.startswith('unix:'))"
    out, errors = started(code, str(file), **environment).communicate(timeout=60)
    assert (out, errors) == ("True True\n", "")
    assert not list(tmp_path.glob("*/agentkit-*"))


@on_linux
def test_a_model_whose_name_is_no_text(file: Path, tmp_path: Path) -> None:
    name = tmp_path / "\udcff.gguf"
    name.write_bytes(file.read_bytes())
    with pytest.raises(
        ConfigurationError, match=r"takes no path that is not in UTF-8, .*udcff.*; give it another name"
    ):
        GgufBackend(name)


@on_linux
def test_entries_of_the_path_that_are_no_text(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [Path("nowhere"), *sys.path])
    engine = Engine(Start(model=str(file)))
    engine.ready()
    engine.close()


@on_linux
def test_it_starts_anew_with_the_very_files(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("model.gguf").write_bytes(file.read_bytes())
    engine = Engine(Start(model="model.gguf"))

    def broken_down() -> Engine:
        os.kill(engine._process._process.pid, signal.SIGKILL)
        assert engine._process._answers.have_ended.wait(30)
        return engine

    engine.ready()
    monkeypatch.chdir("/")
    assert list(broken_down().stream({"prompt": "x", "n_predict": 1}))
    (tmp_path / "model.gguf").unlink()
    for is_there in (False, True):
        if is_there:
            write_model(tmp_path / "model.gguf", others=["other"])
        with pytest.raises(ModelError, match=r"model\.gguf is not what it was when it was loaded; load it again"):
            list(broken_down().stream({"prompt": "x", "n_predict": 1}))
    engine.close()


@on_linux
def test_the_reason_of_an_end_is_no_earlier_error(file: Path) -> None:
    engine = Engine(Start(model=str(file)))
    engine.ready()
    assert "error" in next(engine.stream({"prompt": "x", "grammar": "root ::= ((("}))
    for number, reason in ((signal.SIGTERM, "signal 15"), (signal.SIGKILL, "the system ended it; see if .*")):
        assert list(engine.stream({"prompt": "x", "n_predict": 1}))
        reply = engine.stream({"prompt": "x", "n_predict": -1, "ignore_eos": True})
        next(reply)
        os.kill(engine._process._process.pid, number)
        with pytest.raises(ModelError, match=rf"^llama\.cpp broke down \({reason}\); ask again"):
            list(reply)
        assert engine._process._answers.have_ended.wait(30)
    engine.close()


def test_a_request_that_cannot_be_sent_ends_nothing(file: Path) -> None:
    engine = Engine(Start(model=str(file)))
    engine.ready()
    with pytest.raises(TypeError):
        next(engine.stream({"prompt": b"x"}))
    assert list(engine.stream({"prompt": "x", "n_predict": 1}))
    engine.close()


@on_linux
def test_a_model_that_is_let_go_of_leaves_no_vocabulary(file: Path) -> None:
    """What a grammar's tokenizer and its vocabulary hold of each other is seen by no collector."""

    def tokenizers() -> int:
        gc.collect()
        return sum(type(each).__name__ == "TokenizerWrapper" for each in gc.get_objects())

    before = tokenizers()
    backend = GgufBackend(file)
    assert tokenizers() == before + 1
    del backend
    assert tokenizers() == before
