"""llama.cpp with one model, in a process of its own: its end, at a broken file or a failed assertion, is not ours.

llama.cpp ends the process at what it does not expect: files that are broken in odd ways, processors that lack what it
was built for, a second model beside one whose grammar it keeps. In a process of its own all of that is an error of one
line, an interrupt or a fork meets none of its threads, and closing a model gives its memory back at once.
"""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import IO, Any

from agentkit.errors import ConfigurationError, ModelError, import_failure, in_one_line
from agentkit.models.gguf import llama_process
from agentkit.models.gguf.beginning import folder as beginnings
from agentkit.models.gguf.loading import Start, is_installed
from agentkit.models.local.loading import CLOSED, LLAMA

SLOWEST_DISK = 5_000_000
"""Bytes a second."""
ENVIRONMENT = {"GOMP_SPINCOUNT": "1000"}
"""How long llama.cpp's threads wait for each other before they sleep, unless the user says: a few microseconds. Asleep
at once, two take twice the time of one; awake, they take a processor that others want."""
LINES_KEPT = 100
"""Of what llama.cpp writes to standard error, for the reason of its end."""
ALONE = (sys.executable or "", "-I", "-S", "-X", "utf8")
"""Python, which takes no module out of the current folder, is there soon, and reads paths as UTF-8."""
ENDS_WITHIN_S = 5.0
LOOKED_UP_AFTER_S = 0.5
"""Whoever waits for an answer may look at the time so often."""
WAITING: dict[str, Any] = {"prompt_progress": None, "choices": [{"text": "", "finish_reason": None}]}
"""What a completion answers meanwhile."""
FORKED = "the model was loaded before this process was forked; load it here, or spawn processes"
OTHER_FILES = "is not what it was when it was loaded; load it again"
_CRASH = r"GGML_ASSERT\((.*)\) failed|^\s*what\(\):\s+(.*)"
_REASON_OF_CRASH = re.compile(_CRASH)
_REASON = re.compile(rf"error loading model: (.*)|(?:apply|init)_lora\w*: (.*)|{_CRASH}|error: (.*)")
NO_INSTRUCTION = (-4, 0xC000001D)
"""How a process ends whose processor lacks an instruction: SIGILL, and what Windows calls it."""


class Engine:
    """llama.cpp with one model. Safe to share between threads: it computes as many replies together as it has slots.

    It loads while the caller does something else; `ready` waits for that. A process that ended while it computed is
    started anew for what is asked next.
    """

    def __init__(self, start: Start, *, for_grammars: bool = False) -> None:
        """`for_grammars`: get ready for the first one, too. Raises `ConfigurationError` without the package."""
        if not is_installed():
            missing = ModuleNotFoundError(name=LLAMA)
            why = import_failure(missing, LLAMA, purpose="for GGUF files")
            raise ConfigurationError(f"{why}, or give gguf_file=… to have transformers read the file")
        model, adapters = os.path.abspath(start.model), tuple(map(os.path.abspath, start.adapters))
        self._start, self._for_grammars = replace(start, model=model, adapters=adapters), for_grammars
        self._files = _files(self._start)
        self._one_at_a_time = threading.Lock()
        self._pid = os.getpid()
        self._is_closed = False
        self._process = _Process(self._start, for_grammars=for_grammars)

    def ready(self) -> None:
        """Wait until the model is loaded; raises `ConfigurationError` for files that llama.cpp does not load."""
        self._process.wait_until_loaded()

    @property
    def keeps_beginnings(self) -> bool:
        """Whether it can keep what it computed, once it is loaded."""
        return bool(self._process.said.get("keeps_beginnings"))

    @property
    def address(self) -> str:
        """Where the server of llama.cpp listens, once it is loaded."""
        return str(self._process.said.get("address", ""))

    def stream(self, body: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """The chunks of a completion as they come; closing the iterator gives it up, whatever is computed just now."""
        with closing(self._running().ask({"body": body})) as answers:
            try:
                yield from answers
            except EOFError as error:
                raise ModelError(self._unusable() or str(error)) from None

    def ask(self, address: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """What llama.cpp's server answers at an address; raises `OSError` where it cannot be asked, or failed."""
        with closing(self._running().ask({"address": address, "body": body})) as answers:
            try:
                return next(answer for answer in answers if answer is not WAITING)
            except (ModelError, EOFError, StopIteration) as error:
                raise OSError(str(error)) from error

    def close(self) -> None:
        """Give up what is computed, and let go of the model."""
        self._is_closed = True
        self._process.end()

    def check(self) -> None:
        """Raise `ModelError` where it answers nothing any more, before anything is waited for."""
        if why := self._unusable():
            raise ModelError(why)

    def _unusable(self) -> str:
        return FORKED if self._pid != os.getpid() else CLOSED if self._is_closed else ""

    def _running(self) -> _Process:
        self.check()
        with self._one_at_a_time:
            self.check()
            if self._process.has_ended:
                if _files(self._start) != self._files:
                    raise ModelError(f"{self._start.model} {OTHER_FILES}")
                self._process = _Process(self._start, for_grammars=self._for_grammars)
                if self._is_closed:  # meanwhile
                    self._process.end()
                self._process.wait_until_loaded()
            return self._process


class _Answers:
    """Who waits for what the process answers. It outlives the process, and knows nothing of it."""

    def __init__(self) -> None:
        self._waiting: dict[int, SimpleQueue[dict[str, Any]]] = {}
        self._numbers = itertools.count()
        self.have_ended = threading.Event()

    def expect(self) -> tuple[int, SimpleQueue[dict[str, Any]]]:
        """A number, and where its answers arrive."""
        number, arrived = next(self._numbers), SimpleQueue[dict[str, Any]]()
        self._waiting[number] = arrived
        if self.have_ended.is_set():
            arrived.put({"ended": True})
        return number, arrived

    def forget(self, number: int) -> None:
        """Nobody waits any more."""
        self._waiting.pop(number, None)

    def read(self, lines: IO[bytes]) -> None:
        """Hand out what comes, to the end of the process."""
        with lines, suppress(ValueError):  # a line that was cut by the end
            for line in lines:
                message = json.loads(line)
                if (arrived := self._waiting.get(message["id"])) is not None:
                    arrived.put(message)
        self.end()

    def end(self) -> None:
        """There will be none any more."""
        self.have_ended.set()
        for arrived in list(self._waiting.values()):
            arrived.put({"ended": True})


class _Process:
    """A process of llama.cpp, from its start to its end."""

    def __init__(self, start: Start, *, for_grammars: bool) -> None:
        self.said: Mapping[str, Any] = {}
        self._start = start
        self._imported = False
        self._answers = _Answers()
        self._sent: SimpleQueue[bytes | None] = SimpleQueue()
        self._errors: deque[str] = deque(maxlen=LINES_KEPT)
        _, self._loaded = self._answers.expect()
        kept = _in_utf8(beginnings()) if start.keeps_beginnings else None
        with _interrupts_wait():
            self._folder = folder = _folder()
            self._end: weakref.finalize[..., Any] = weakref.finalize(self, _remove, folder)
        places = {"socket_folder": folder and _in_utf8(folder), "beginnings": kept if kept and _is_utf8(kept) else None}
        files = {"model": _in_utf8(start.model), "adapters": tuple(map(_in_utf8, start.adapters))}
        path = [_in_utf8(each) for each in sys.path if isinstance(each, str) and (os.path.isabs(each) or _has_folder())]
        given = {
            "path": path,
            "parent": os.getpid(),
            "start": {**asdict(start), **files},
            "places": places,
            "for_grammars": for_grammars,
        }
        self._sent.put(_line(given))
        with _interrupts_wait():
            try:
                self._process = subprocess.Popen(
                    [*ALONE, llama_process.__file__],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    env={**ENVIRONMENT, **os.environ, "GGML_NO_BACKTRACE": "1"},
                    start_new_session=True,  # an interrupt at the terminal is not for it
                )
            except OSError as error:
                self.end()
                raise _not_started(error) from error
            self._end.detach()
            self._end = weakref.finalize(self, _end, self._process, folder, self._sent, os.getpid())
        _processes.add(self)
        try:
            _in_thread(self._answers.read, self._process.stdout)
            _in_thread(_send, self._process.stdin, self._sent)
            self._last_words = _in_thread(_keep, self._process.stderr, self._errors)
        except RuntimeError as error:  # no more threads
            self.end()
            raise _not_started(error) from error

    @property
    def has_ended(self) -> bool:
        """Whether there is nothing to ask any more."""
        return self._answers.have_ended.is_set()

    def wait_until_loaded(self) -> None:
        """Raises `ConfigurationError` for files that llama.cpp does not load, or at which it ends."""
        files = [self._start.model, *self._start.adapters]
        most_s = 120 + sum(os.path.getsize(file) for file in files if os.path.exists(file)) / SLOWEST_DISK
        try:
            while not self.said:
                message = self._loaded.get(timeout=most_s)
                if "answer" not in message:
                    raise ConfigurationError(self._why_not_loaded(message, files))
                self._imported = True
                self.said = message["answer"]
        except Empty:
            self.end()
            raise ConfigurationError(f"llama.cpp does not come to an end with {files[0]}; take another file") from None
        except BaseException:
            self.end()
            raise
        finally:
            _remove(self._folder)

    def ask(self, message: Mapping[str, Any]) -> Generator[dict[str, Any]]:
        """The answers; raises `EOFError` where the process ended, and `ModelError` where llama.cpp says of an error."""
        number, arrived = self._answers.expect()
        has_ended = False
        try:
            self._sent.put(_line({"id": number, **message}))
            while True:
                try:
                    answer = arrived.get(timeout=LOOKED_UP_AFTER_S)
                except Empty:
                    yield WAITING
                    continue
                if "answer" not in answer:
                    break
                yield answer["answer"]
            has_ended = True
            if "failed" in answer:
                raise ModelError(f"llama.cpp failed: {in_one_line(answer['failed'][1], 300)}")
            if "ended" in answer:
                reason = self._reason(self._ended())
                raise EOFError(f"llama.cpp broke down{reason}; ask again, and it is started anew")
        finally:
            self._answers.forget(number)
            if not has_ended:
                self._sent.put(_line({"id": number, "stop": True}))

    def end(self) -> None:
        """Let go of the model."""
        self._end()

    def leave(self) -> None:
        """In a process that was forked from the one that started it: hold none of its ends open, wait for nothing."""
        self._process.returncode = 0  # it is no child of this one
        self._answers.end()
        with suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
                if stream is not None and not stream.closed:
                    os.dup2(nothing, stream.fileno(), inheritable=False)
            os.close(nothing)

    def _ended(self) -> int:
        """The exit status of the process, whose last words have been read."""
        self._last_words.join(ENDS_WITHIN_S)
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(ENDS_WITHIN_S)
        return 0

    def _reason(self, status: int) -> str:
        """What is known of it, in brackets."""
        if status == -getattr(signal, "SIGKILL", 9):
            return " (the system ended it; see if there is memory for it)"
        pattern = _REASON_OF_CRASH if self.said else _REASON  # once it is loaded, its errors are those of requests
        if found := next(filter(None, map(pattern.search, list(self._errors))), None):
            return f" ({in_one_line(next(filter(None, found.groups())), 300)})"
        return f" (signal {-status})" if status < 0 else ""

    def _why_not_loaded(self, message: Mapping[str, Any], files: Sequence[str]) -> str:
        """What its start came to, in one line."""
        subject = files[0] if len(files) == 1 else f"{files[0]} with {', '.join(files[1:])}"
        kind, said = message.get("failed") or ("", "")
        status = self._ended()
        reason = self._reason(status)
        if kind == "OverflowError":
            return f"an option of llama.cpp is too large: {in_one_line(said)}; give less"
        if kind == "UnicodeEncodeError":
            return f"llama.cpp takes no path that is not in UTF-8, as one of {subject!r}; give it another name"
        if not self._imported and kind:
            why = in_one_line(f"{kind}: {said}", 300)
            return f"{LLAMA}, needed for GGUF files, does not work here: {why}; install it again"
        if not self._imported and status in NO_INSTRUCTION:
            return f"{LLAMA} does not run on this processor; run pip uninstall {LLAMA}, and transformers reads the file"
        if not self._imported:
            last = next((f" ({in_one_line(line, 300)})" for line in reversed(self._errors) if line.strip()), "")
            return f"llama.cpp's process ended as it started{reason or last}; try again, or install {LLAMA} again"
        if kind:
            found = _REASON.search(said) if not reason else None
            reason = f" ({in_one_line(next(filter(None, found.groups())), 300)})" if found else reason
            reason = f": {reason[2:-1]}" if reason else ""
            return f"llama.cpp cannot load {subject}{reason}; give a file that is made for it"
        return f"llama.cpp breaks down at {subject}{reason}; download it again, or take another"


_processes: weakref.WeakSet[_Process] = weakref.WeakSet()


def _leave_all() -> None:
    for process in list(_processes):
        process.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)


def _end(process: subprocess.Popen[bytes], folder: str | None, sent: SimpleQueue[Any], pid: int) -> None:
    """End a process, which has nothing to save."""
    if os.getpid() != pid:
        return
    try:
        process.kill()
        process.wait()
    finally:  # after a second interrupt, too
        sent.put(None)
        _remove(folder)


@contextmanager
def _interrupts_wait() -> Iterator[None]:
    """For this thread, and for a process that it starts until that says otherwise."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _in_thread(work: Callable[..., None], *given: Any) -> threading.Thread:
    thread = threading.Thread(target=work, args=given, name="agentkit-llama", daemon=True)
    thread.start()
    return thread


def _keep(lines: IO[bytes], errors: deque[str]) -> None:
    with lines:
        errors.extend(line.decode(errors="replace").rstrip() for line in lines)


def _send(stream: IO[bytes], lines: SimpleQueue[bytes | None]) -> None:
    """Write what is put there: a put can be interrupted at no place that tears a line."""
    with suppress(OSError), stream:
        while (line := lines.get()) is not None:
            stream.write(line)
            stream.flush()


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"


def _not_started(error: Exception) -> ConfigurationError:
    return ConfigurationError(f"llama.cpp's process cannot be started: {in_one_line(error)}")


def _folder() -> str | None:
    """A new folder of this user alone, where there is room for one and use."""
    with suppress(OSError):  # without a place for temporary files
        return tempfile.mkdtemp(prefix="agentkit-") if hasattr(socket, "AF_UNIX") else None
    return None


def _has_folder() -> bool:
    """Whether there still is a current folder."""
    with suppress(OSError):
        return bool(os.getcwd())
    return False


def _in_utf8(path: str | Path) -> str:
    """A path from the root, its bytes read as UTF-8, whatever they are read as here."""
    return os.fsencode(os.path.abspath(path)).decode("utf-8", "surrogateescape")


def _is_utf8(path: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in path)


def _files(start: Start) -> list[Any] | None:
    """What the file system says of a model's files; `None` where one is gone."""
    with suppress(OSError):
        return identity(start)
    return None


def _remove(folder: str | None) -> None:
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)


def wheel_version() -> str:
    """The version of the package, "" where it is not installed."""
    try:
        return version(LLAMA)
    except PackageNotFoundError:
        return ""


def identity(start: Start) -> list[Any]:
    """What computes, by what the file system says of it; raises `OSError`."""
    seen = [
        (str(file), status.st_size, status.st_mtime_ns)
        for file in map(Path, (start.model, *start.adapters))
        if (status := file.stat())
    ]
    return [wheel_version(), platform.node(), seen]
