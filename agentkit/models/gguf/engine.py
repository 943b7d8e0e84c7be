"""llama.cpp in this process, by the package xllamacpp: its server without a door, asked through a function.

The server listens, whoever holds it; it cannot be told not to. So it listens on a Unix socket in a folder of this
user's alone, which is removed as soon as this process has connected to it: nobody can any more. Where there are no such
sockets it listens on this machine. Each of its addresses begins with a secret and asks for another.

llama.cpp ends the process at some files that are broken in ways it does not expect, and at processors that lack what it
was built for. A file is therefore loaded by a process of its own once before this one loads it.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import json
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from queue import SimpleQueue
from typing import Any, TypeVar

from agentkit.errors import ConfigurationError, ModelError, import_failure, in_one_line
from agentkit.models.gguf.beginning import Line
from agentkit.models.gguf.beginning import folder as beginnings
from agentkit.models.gguf.loading import Start
from agentkit.models.local.loading import LLAMA
from agentkit.user_files import user_folder

Made = TypeVar("Made")
SILENT, ERRORS = -1, 1
"""How much llama.cpp writes to standard error."""
PROMPT_TOKENS_AT_ONCE = 64
"""A prompt is computed in pieces of so many tokens, between which a reply can be given up."""
ON_GPU_AT_ONCE = 512
SLOWEST_DISK = 5_000_000
"""Bytes a second."""
ANY_GRAMMAR = '%llguidance {}\nstart: "x"'
KEPT_MIB = 256
"""Memory for what was computed of conversations that have left their slots."""
_REASON = re.compile(r"error loading model: (.*)|(?:apply|init)_lora\w*: (.*)|GGML_ASSERT\((.*)\) failed|error: (.*)")
ALONE = (sys.executable, "-P", "-c")
"""Python, which takes no module out of the current folder."""
_TRIAL = """
import json, sys
given = json.load(sys.stdin)
sys.path[:] = given["path"]
from agentkit.models.gguf.engine import Start, try_out
try_out(Start(**given["start"]))
"""


def server(start: Start, verbosity: int = SILENT) -> tuple[Any, Line | None]:
    """A server of llama.cpp that nobody can reach, and the line to it where it keeps what it computes of beginnings.

    Raises `RuntimeError` where it cannot start.
    """
    llama = llama_cpp()
    asked = llama.CommonParams()
    asked.model.path = start.model
    asked.lora_adapters = [llama.CommonAdapterLoraInfo(file, 1.0) for file in start.adapters]
    asked.n_ctx, asked.n_parallel, asked.kv_unified = start.context, start.slots, True
    on_gpu = start.gpu_layers != 0 and len(llama.get_device_info()) > 1  # one of them is the processor
    at_once = ON_GPU_AT_ONCE if on_gpu else PROMPT_TOKENS_AT_ONCE
    asked.n_batch = asked.n_ubatch = min(max(at_once, start.slots), start.context)
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = start.threads
    if start.gpu_layers is not None:
        asked.n_gpu_layers = start.gpu_layers
    asked.cache_ram_mib = KEPT_MIB
    asked.verbosity = verbosity
    asked.warmup = asked.fit_params = False
    asked.use_jinja, asked.chat_template = False, "chatml"  # messages are none of its business
    asked.ui = asked.endpoint_slots = asked.endpoint_props = asked.endpoint_metrics = False
    asked.n_threads_http = 2  # one waits on the line
    prefix, key = f"/{secrets.token_hex(16)}", secrets.token_hex(32)
    asked.api_prefix, asked.api_keys = prefix, [key]
    line = None
    if start.keeps_beginnings and not on_gpu:
        asked.slot_save_path = f"{beginnings()}{os.sep}"
    folder = tempfile.mkdtemp(prefix="agentkit-") if hasattr(socket, "AF_UNIX") else None  # of this user alone
    try:
        if folder is not None:
            asked.hostnames = [os.path.join(folder, "llama.sock")]
        made = llama.Server(asked)
        if folder is not None and asked.slot_save_path:
            with suppress(OSError):
                line = Line(asked.hostnames[0], prefix, key)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
    try:
        # one that is let go of before it has begun to wait for requests waits for itself, for ever
        answer = made.handle_completions({"prompt": "x", "n_predict": 1})
        if "error" in answer:
            raise RuntimeError(f"error: {answer['error']['message']}")
    except BaseException:
        if line is not None:
            line.close()
        raise
    return made, line


def try_out(start: Start) -> None:
    """Load everything and compute a token: in a process that may end at it."""
    try:
        server(start, ERRORS)
    except RuntimeError as error:
        sys.exit(str(error))


class Engine:
    """llama.cpp with one model. Safe to share between threads: it computes as many replies together as it has slots."""

    def __init__(self, start: Start, *, for_grammars: bool = False) -> None:
        """`for_grammars`: get ready for the first one meanwhile, which takes as long as loading a small model."""
        check_loads(start)
        try:
            self._server, self.line = _in_peace(lambda: server(start), _end_line)
        except RuntimeError as error:
            raise ModelError(f"{start.model} loaded before and does not now; see if there is memory for it") from error
        except OverflowError as error:
            raise ConfigurationError(f"an option of llama.cpp is too large: {in_one_line(error)}; give less") from error
        _engines.add(self)
        self._asking: set[threading.Thread] = set()
        self._closed = threading.Event()
        self._why_closed = "the model is closed; load it again"
        self._preparing = threading.Thread(target=self._prepare, name="agentkit-llama", daemon=True)
        if for_grammars:
            self._asking.add(self._preparing)
            self._preparing.start()

    def _prepare(self) -> None:
        """Have llama.cpp read the vocabulary as its grammars need it."""
        self._server.handle_completions({"prompt": "x", "n_predict": 1, "grammar": ANY_GRAMMAR})
        self._asking.discard(self._preparing)

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """The chunks of a completion as they come; closing the iterator gives it up, whatever is computed just now."""
        if self._preparing.is_alive():
            self._preparing.join()
        arrived: SimpleQueue[Any] = SimpleQueue()
        given_up = threading.Event()

        def take(chunk: Any) -> bool:
            arrived.put(chunk)
            return given_up.is_set() or self._closed.is_set()

        def ask() -> None:
            try:
                self._server.handle_completions({**body, "stream": True}, take)
            except BaseException as error:
                arrived.put(error)
            finally:
                arrived.put(None)
                self._asking.discard(threading.current_thread())

        if self._closed.is_set():
            raise ModelError(self._why_closed)
        thread = threading.Thread(target=ask, name="agentkit-llama", daemon=True)
        self._asking.add(thread)
        thread.start()
        try:
            while (chunk := arrived.get()) is not None:
                if isinstance(chunk, BaseException):
                    raise ModelError(f"llama.cpp failed: {in_one_line(chunk, 300)}") from chunk
                yield chunk
            if self._closed.is_set():
                raise ModelError(self._why_closed)
        finally:
            given_up.set()

    def close(self) -> None:
        """Give up what is computed, and let go of the model."""
        self._closed.set()
        if self._server is None:
            return
        for thread in list(self._asking):
            if thread is not threading.current_thread():
                thread.join()
        if self.line is not None:
            self.line.close()
        self._server = None

    def __del__(self) -> None:
        """The server, let go of before its line, would wait for that for ever."""
        line: Line | None = getattr(self, "line", None)
        if line is not None:
            line.close()

    def leave(self) -> None:
        """In a process that was forked from the model's: it has none of the threads that would compute, or end."""
        self._why_closed = "the model was loaded before this process was forked; load it here, or spawn processes"
        self._closed = threading.Event()  # the other's may be held
        self._closed.set()
        self._asking, self._preparing = set(), threading.Thread()
        for held in (self._server, self.line):
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))  # nothing may end it here
        self._server = self.line = None


_engines: weakref.WeakSet[Engine] = weakref.WeakSet()


def _end_line(made: tuple[Any, Line | None]) -> None:
    if made[1] is not None:
        made[1].close()


def _leave_all() -> None:
    """What a forked process does: llama.cpp's own end would wait for threads that are not there, so it does without."""
    for engine in list(_engines):
        engine.leave()
    if _engines:
        with suppress(AttributeError, OSError):  # of glibc: called with the exit status, before whatever C++ ends
            libc = ctypes.CDLL(None)
            libc.on_exit(libc._exit, None)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)


def _in_peace(make: Callable[[], Made], drop: Callable[[Made], None]) -> Made:
    """What is made in a thread of its own, and dropped where an interrupt came: one in the middle would never end."""
    made: list[Made] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            made.append(make())
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    threading.Thread(target=run, name="agentkit-llama", daemon=True).start()
    while not done.is_set():
        try:
            done.wait()
        except BaseException as error:
            errors.append(error)
    if errors:
        for each in made:
            drop(each)
        raise errors[0]
    return made.pop()


@atexit.register
def _close_all() -> None:
    """A thread that the interpreter ends inside llama.cpp would end the process with an error."""
    for engine in list(_engines):
        engine.close()


def llama_cpp() -> Any:
    """The package; raises `ConfigurationError` where it cannot be imported."""
    try:
        return import_module(LLAMA)
    except ImportError as error:
        why = import_failure(error, LLAMA, purpose="for GGUF files")
        raise ConfigurationError(f"{why}, or give gguf_file=… to have transformers read the file") from error


def wheel_version() -> str:
    """The version of the package, "" where it is not installed."""
    try:
        return version(LLAMA)
    except PackageNotFoundError:
        return ""


def identity(start: Start) -> list[Any]:
    """What computes, by what the file system says of it; raises `OSError`."""
    seen = [
        (file, status.st_size, status.st_mtime_ns)
        for file in (start.model, *start.adapters)
        if (status := os.stat(file))
    ]
    return [wheel_version(), platform.node(), seen]


def check_loads(start: Start) -> None:
    """Raise `ConfigurationError` for files that llama.cpp does not load, or at which it ends the process.

    Those that loaded are remembered, by what the file system says of them, and not tried again.
    """
    files = [start.model, *start.adapters]
    name = hashlib.sha256(json.dumps(identity(start)).encode()).hexdigest()
    mark = user_folder("cache", os.environ) / "gguf" / name
    if mark.exists() or not sys.executable:
        return
    trial = Start(model=start.model, adapters=start.adapters)
    given = json.dumps({"path": sys.path, "start": asdict(trial)})
    environment = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    most_s = 120 + sum(map(os.path.getsize, files)) / SLOWEST_DISK
    try:
        done = subprocess.run(
            [*ALONE, _TRIAL],
            input=given,
            env=environment,
            timeout=most_s,
            capture_output=True,
            text=True,
            errors="replace",
        )
    except subprocess.TimeoutExpired:
        raise ConfigurationError(f"llama.cpp does not come to an end with {files[0]}; take another file") from None
    if done.returncode:
        raise ConfigurationError(_why(done.returncode, done.stderr, files))
    with suppress(OSError):
        mark.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()


def _why(code: int, errors: str, files: Sequence[str]) -> str:
    """What a trial came to, in one line."""
    subject = files[0] if len(files) == 1 else f"{files[0]} with {', '.join(files[1:])}"
    if "Error: " in (last := errors.strip().rpartition("\n")[2]):  # Python's own: the package does not import
        return f"{LLAMA}, needed for GGUF files, does not work here: {in_one_line(last, 300)}; install it again"
    found = next(filter(None, map(_REASON.search, errors.splitlines())), None)
    reason = in_one_line(next(filter(None, found.groups())), 300) if found else ""
    if code == 1:
        return f"llama.cpp cannot load {subject}{f': {reason}' if reason else ''}; give a file that is made for it"
    if not reason and not _runs():
        return f"{LLAMA} does not run on this processor; run pip uninstall {LLAMA}, and transformers reads the file"
    return f"llama.cpp breaks down at {subject}{f' ({reason})' if reason else ''}; download it again, or take another"


def _runs() -> bool:
    """Whether the package can be imported at all."""
    return subprocess.run([*ALONE, f"import {LLAMA}"], capture_output=True, check=False).returncode == 0
