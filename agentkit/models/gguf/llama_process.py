"""llama.cpp, in the process that has it: asked on standard input, it answers on standard output, a line of JSON each.

The file is run by its path and imports nothing of the package, so that the process is there soon. The first line says
what to start with, every other one what is asked, under a number that the answers bear: `body` a completion, `address`
and `body` something else of llama.cpp's own server, `stop` that nobody waits any more. An answer without `answer` is
the last one; `failed` says why there are no more. Number 0 is the start: an answer once the package is imported, and
one once the model is loaded.

llama.cpp's server listens, whoever holds it; it cannot be told not to. So it listens on a Unix socket in a folder of
this user's alone, which is removed as soon as this process has connected to it: nobody can any more. Where there are no
such sockets it listens on this machine. Each of its addresses begins with a secret and asks for another.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, BinaryIO

ERRORS = 1
"""How much llama.cpp writes to standard error."""
PROMPT_TOKENS_AT_ONCE = 64
"""A prompt is computed in pieces of so many tokens, between which a reply can be given up."""
ON_GPU_AT_ONCE = 512
ANY_GRAMMAR = '%llguidance {}\nstart: "x"'
KEPT_MIB = 256
"""Memory for what was computed of conversations that have left their slots."""
MOST_S = 60.0
"""That llama.cpp takes for reading or writing what it computed."""
SOCKET = "llama.sock"
PR_SET_PDEATHSIG = 1
"""Linux's, of `prctl`: the signal that a process is sent when the thread that started it ends."""


class Line:
    """The only connection to llama.cpp's own server: made while that had a door, for what it does on no other way.

    The server ends a connection on which nothing is asked for some seconds, but waits for the rest of a request: so one
    is always begun. Raises `OSError`.
    """

    def __init__(self, path: str, prefix: str, key: str) -> None:
        self._prefix, self._key = prefix, key
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(MOST_S)
        self._socket.connect(path)
        self._one_at_a_time = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self._socket.sendall(b"POST ")

    def ask(self, address: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to a request; raises `OSError` where it is none, or an error."""
        import http.client

        sent = json.dumps(body).encode()
        head = f"{self._prefix}{address} HTTP/1.1\r\nHost: llama.cpp\r\nAuthorization: Bearer {self._key}\r\n"
        head += f"Content-Type: application/json\r\nContent-Length: {len(sent)}\r\n\r\n"
        with self._one_at_a_time:
            self._socket.sendall(head.encode() + sent)
            try:
                response = http.client.HTTPResponse(self._socket, method="POST")
                response.begin()
                answer = json.loads(response.read())
            except (http.client.HTTPException, ValueError) as error:
                raise OSError(f"llama.cpp's server: {error}") from error
            if response.status != http.client.OK:
                raise OSError(f"llama.cpp's server: status {response.status}")
            self._begin()
        return dict(answer)


def server(
    llama: Any,
    start: Mapping[str, Any],
    *,
    socket_folder: str | None,
    beginnings: str | None,
    verbosity: int = ERRORS,
) -> tuple[Any, Line | None]:
    """llama.cpp's server, and the line to it where it keeps what it computes of beginnings in a folder.

    `start` has the fields of `agentkit.models.gguf.loading.Start`. Raises `RuntimeError` where it cannot start.
    """
    asked = llama.CommonParams()
    asked.model.path = start["model"]
    asked.lora_adapters = [llama.CommonAdapterLoraInfo(file, 1.0) for file in start["adapters"]]
    asked.n_ctx, asked.n_parallel, asked.kv_unified = start["context"], start["slots"], True
    on_gpu = start["gpu_layers"] != 0 and len(llama.get_device_info()) > 1  # one of them is the processor
    at_once = ON_GPU_AT_ONCE if on_gpu else PROMPT_TOKENS_AT_ONCE
    asked.n_batch = asked.n_ubatch = min(max(at_once, start["slots"]), start["context"])
    asked.cpuparams.n_threads = asked.cpuparams_batch.n_threads = start["threads"]
    if start["gpu_layers"] is not None:
        asked.n_gpu_layers = start["gpu_layers"]
    asked.cache_ram_mib, asked.cache_idle_slots = KEPT_MIB, False  # a slot keeps what it holds until it is needed
    asked.verbosity = verbosity
    asked.warmup = asked.fit_params = False
    asked.use_jinja, asked.chat_template = False, "chatml"  # messages are none of its business
    asked.ui = asked.endpoint_slots = asked.endpoint_props = asked.endpoint_metrics = False
    asked.n_threads_http = 2  # one waits on the line
    prefix, key = f"/{secrets.token_hex(16)}", secrets.token_hex(32)
    asked.api_prefix, asked.api_keys = prefix, [key]
    if socket_folder is not None:
        asked.hostnames = [os.path.join(socket_folder, SOCKET)]
    if beginnings is not None and not on_gpu:
        asked.slot_save_path = f"{beginnings}{os.sep}"
    made = llama.Server(asked)
    line = None
    if socket_folder is not None and asked.slot_save_path:
        with suppress(OSError):  # replies are what they are without it
            line = Line(asked.hostnames[0], prefix, key)
    answer = made.handle_completions({"prompt": "x", "n_predict": 1})  # whether it computes at all
    if "error" in answer:
        raise RuntimeError(f"error: {answer['error']['message']}")
    return made, line


class _Answers:
    """Where the answers go."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._one_at_a_time = threading.Lock()

    def give(self, number: int, answer: Any = None) -> None:
        """An answer, or the end of them."""
        self._write({"id": number, "answer": answer} if answer is not None else {"id": number})

    def give_text(self, number: int, answer: str) -> None:
        """An answer that is JSON already."""
        self._write_text(f'{{"id": {number}, "answer": {answer}}}')

    def fail(self, number: int, error: BaseException) -> None:
        """Why there are no more of them."""
        self._write({"id": number, "failed": [type(error).__name__, str(error)]})

    def _write(self, message: Mapping[str, Any]) -> None:
        self._write_text(json.dumps(message))

    def _write_text(self, text: str) -> None:
        with self._one_at_a_time:
            try:
                self._stream.write(text.encode("utf-8", "backslashreplace") + b"\n")
                self._stream.flush()
            except OSError:
                os._exit(0)  # nobody is there any more


def main() -> None:
    """Answer until standard input ends: with the process that asks, however that ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # which is for who asks
    messages = sys.stdin.buffer
    given = json.loads(messages.readline())
    _end_with(given["parent"])
    sys.path[:] = given["path"]
    folder = given["places"]["socket_folder"]
    answers = _Answers(os.fdopen(os.dup(1), "wb"))
    os.dup2(2, 1)  # whatever else is written there comes between no answers
    try:
        import xllamacpp as llama

        answers.give(0, {})
        try:
            if folder is not None:
                os.chdir(folder)  # its path may be longer than a socket's can be
            door = None if folder is None else os.curdir
            made, line = server(llama, given["start"], socket_folder=door, beginnings=given["places"]["beginnings"])
            address = made.listening_address if folder is None else f"unix://{os.path.join(folder, SOCKET)}"
        finally:
            os.chdir(os.path.abspath(os.sep))
            _remove(folder)
    except BaseException as error:
        answers.fail(0, error)
        sys.exit(1)  # which writes what llama.cpp has to say of it
    _end_with(None)
    answers.give(0, {"address": address, "keeps_beginnings": line is not None})
    try:
        _answer(made, line, messages, answers, for_grammars=given["for_grammars"])
    finally:
        os._exit(0)  # an orderly end waits for llama.cpp's threads, which wait for the line


def _end_with(parent: int | None) -> None:
    """End with the process that started this one, even while no line of it can be read; `None`: no more.

    llama.cpp lets no other thread of Python run while it loads. Linux watches the thread that started this process,
    which waits meanwhile, and may end later.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, 0 if parent is None else int(signal.SIGKILL), 0, 0, 0)
    if parent is not None and os.getppid() != parent:
        os._exit(0)


def _answer(made: Any, line: Line | None, messages: BinaryIO, answers: _Answers, *, for_grammars: bool) -> None:
    """Do what is asked, each in a thread of its own."""
    preparing = threading.Thread(target=_prepare, args=(made,), daemon=True)
    if for_grammars:
        preparing.start()
    given_up: dict[int, threading.Event] = {}
    for text in messages:
        message = json.loads(text)
        number = message["id"]
        if "stop" in message:
            if (waiting := given_up.get(number)) is not None:
                waiting.set()
        elif "address" in message:
            _in_thread(answers, number, partial(_ask, line, answers, message))
        else:
            given_up[number] = threading.Event()
            _in_thread(answers, number, partial(_complete, made, preparing, answers, given_up, message))


def _prepare(made: Any) -> None:
    """Have llama.cpp read the vocabulary as its grammars need it, which takes as long as loading a small model."""
    made.handle_completions({"prompt": "x", "n_predict": 1, "grammar": ANY_GRAMMAR})


def _in_thread(answers: _Answers, number: int, work: Callable[[], None]) -> None:
    def run() -> None:
        try:
            work()
        except BaseException as error:
            answers.fail(number, error)
        else:
            answers.give(number)

    try:
        threading.Thread(target=run, daemon=True).start()
    except RuntimeError as error:  # no more threads
        answers.fail(number, error)


def _complete(
    made: Any,
    preparing: threading.Thread,
    answers: _Answers,
    given_up: dict[int, threading.Event],
    asked: Mapping[str, Any],
) -> None:
    number = asked["id"]
    stop = given_up[number]

    def take(chunk: str) -> bool:
        answers.give_text(number, chunk)
        return stop.is_set()

    try:
        if preparing.is_alive():
            preparing.join()
        made.handle_completions(json.dumps({**asked["body"], "stream": True}), take)
    finally:
        del given_up[number]


def _ask(line: Line | None, answers: _Answers, asked: Mapping[str, Any]) -> None:
    if line is None:
        raise OSError("no line to llama.cpp's server")
    answers.give(asked["id"], line.ask(asked["address"], asked["body"]))


def _remove(folder: str | None) -> None:
    """Take the server's door away."""
    if folder is not None:
        for remove, path in ((os.unlink, os.path.join(folder, SOCKET)), (os.rmdir, folder)):
            with suppress(OSError):  # whoever started this process removes it, too
                remove(path)


if __name__ == "__main__":
    main()
