"""The question of a run: from the command line, or the whole of standard input."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from agentkit.cli.view import View

MOST_BYTES = 10_000_000
_LEFT_OUT = 'standard input was not read; to ask about it, pipe the question too: (echo "…"; cat FILE) | agentkit run -'


def read_question(given: str) -> str:
    """The question, `-` from standard input; raises `ConfigurationError` for what is no text."""
    return checked_question(_read() if given == "-" else given)


def checked_question(question: str) -> str:
    """The question; raises `ConfigurationError` for what is no text."""
    try:
        question.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(
            f"the question is no UTF-8 text, at character {error.start + 1}; write it as UTF-8"
        ) from None
    if "\0" in question:
        raise ConfigurationError("the question holds a NUL character, which no text has; is it a file of another kind?")
    if not question.strip():
        raise ConfigurationError('expected a question, saw nothing; write agentkit run "What is 2 + 2?"')
    return question.strip()


def _read() -> str:
    if sys.stdin.isatty():
        print("the question, then Ctrl-D on a line of its own:", file=sys.stderr, flush=True)
    data = sys.stdin.buffer.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigurationError(f"expected a question of at most {MOST_BYTES // 1_000_000} MB, saw a longer one")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigurationError(
            f"the question is no UTF-8 text, at byte {error.start + 1}; write it as UTF-8"
        ) from None


@contextmanager
def piped_text_told(view: View, *, is_read: bool) -> Iterator[None]:
    """Say of text that waits on standard input while this block runs, and is no part of the question.

    It is not read unasked: it may belong to a loop of the shell, it may never end, and it would be sent to a model.
    """
    told = not is_read and _waits()
    if told:
        view.note(_LEFT_OUT)
    try:
        yield
    finally:
        if not told and not is_read and _waits():  # of a command that took its time
            view.note(_LEFT_OUT)


def _waits() -> bool:
    """Whether standard input is a file or a pipe with something in it."""
    with suppress(OSError, ValueError, AttributeError, ImportError):
        descriptor = sys.stdin.fileno()
        facts = os.fstat(descriptor)
        if stat.S_ISREG(facts.st_mode):
            return facts.st_size > os.lseek(descriptor, 0, os.SEEK_CUR)
        if stat.S_ISFIFO(facts.st_mode) or stat.S_ISSOCK(facts.st_mode):
            import fcntl
            import termios

            return int.from_bytes(fcntl.ioctl(descriptor, termios.FIONREAD, bytes(4)), sys.byteorder) > 0
    return False
