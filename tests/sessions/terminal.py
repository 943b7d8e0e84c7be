"""A command at a terminal of its own: what is typed, and what stands there."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import termios
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

RUN = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
sys.path[:0] = os.environ["PACKAGES"].split(os.pathsep)
sys.argv = ["agentkit", *sys.argv[1:]]
from agentkit.cli import main
main()
"""
WAIT_S = 25.0
PROMPT = "\N{KEYBOARD}"  # stands in a terminal's text where a prompt begins to read keys
_BEGINS = "\x1b[?2004h"
_OURS = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\r")


class Terminal:
    """One command and its terminal."""

    def __init__(self, words: Sequence[str], folder: Path, environment: Mapping[str, str], *, columns: int) -> None:
        self._ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, columns))
        self.process = subprocess.Popen(
            [sys.executable, "-c", RUN, *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env={**os.environ, "TERM": "xterm", "PROMPT_TOOLKIT_NO_CPR": "1", **environment},
        )
        os.close(theirs)
        self.raw = ""
        self._seen = 0

    @property
    def text(self) -> str:
        """All that was printed, without what moves the cursor."""
        return _OURS.sub("", self.raw.replace(_BEGINS, PROMPT))

    def ask(self, text: str) -> None:
        """Type this at the next prompt, and send it."""
        self.wait_for(PROMPT)
        self.type(f"{text}\r")

    def leave(self) -> int:
        """Ctrl-D at the next prompt; the exit code."""
        self.wait_for(PROMPT)
        self.type("\x04")
        return self.end()

    def type(self, text: str) -> None:
        """Keys."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: str) -> str:
        """Read until this is printed, after what was waited for before; gives what came until then."""
        while (at := self.text.find(text, self._seen)) < 0:
            assert self._read(), f"{text!r} was not printed: {self.text[self._seen :]}"
        before, self._seen = self.text[self._seen : at], at + len(text)
        return before

    def end(self) -> int:
        """Read to the end; the exit code."""
        while self._read():
            pass
        return self.process.wait(timeout=WAIT_S)

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], WAIT_S)[0]:
            return False
        try:
            read = os.read(self._ours, 65_536)
        except OSError:  # the other end is closed
            return False
        self.raw += read.decode(errors="replace")
        return bool(read)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@contextmanager
def at_terminal(
    *words: str, folder: Path, packages: Sequence[str] = (), columns: int = 200, **environment: str
) -> Iterator[Terminal]:
    """The command, running."""
    terminal = Terminal(words, folder, {"PACKAGES": os.pathsep.join(packages), **environment}, columns=columns)
    try:
        yield terminal
    finally:
        terminal.close()
