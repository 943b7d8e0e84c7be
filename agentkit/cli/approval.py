"""Asks at the terminal before a tool runs that does not say that it only reads. Where nobody can, few such tools run.

No line of the question is the model's: its input stands escaped behind a margin, whole, and the tool's name comes last.
"""

from __future__ import annotations

import os
import re
import sys
import threading
import unicodedata
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from agentkit.cli.view import shortened
from agentkit.printable import escaped, word

if TYPE_CHECKING:
    from agentkit.events import Action

MARGIN, MARGIN_OF_NAME, MARGIN_OF_QUESTION = "input | ", " tool | ", " asks | "
ANSWER = "Your answer, or nothing:"
HINT = " [y/N] "
ASKED_AGAIN = 2  # times, where what was typed is neither yes nor no
NARROWEST = 20
SHOWN_CHARS = 400  # of an input that nobody is asked about


def approver(
    *, yes: bool, unasked: Collection[str] = (), before: Callable[[], None] = lambda: None
) -> Callable[[Action], bool]:
    """What the run asks; `yes` answers for the user, `before` clears the line.

    `unasked` are names of tools that run where nobody can be asked.
    """
    lock = threading.Lock()  # tools that run at once ask one after another

    def approve(action: Action) -> bool:
        with lock:
            before()
            if can_ask():
                return ask(action.tool, action.tool_input, "This may have side effects.", "Run it")
            if action.tool in unasked:
                return True
            may = f"{word(action.tool)} may have side effects, and nobody can be asked here; --yes allows it"
            print(f"not run: {may}; its input: {shortened(escaped(action.tool_input), SHOWN_CHARS)}", file=sys.stderr)
            return False

    return (lambda action: True) if yes else approve


def answerer(*, before: Callable[[], None] = lambda: None) -> Callable[[str, Action], str | None]:
    """What the run asks where a tool wants to know something; None where nobody answers. `before` clears the line."""
    lock = threading.Lock()

    def answer(question: str, action: Action) -> str | None:
        with lock:
            before()
            return asked_for(question, action.tool, action.tool_input) if can_ask() else None

    return answer


def can_ask() -> bool:
    """Whether somebody is at a terminal to answer."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def ask(tool: str, tool_input: Any, reason: str, deed: str) -> bool:
    """Ask about one call of a tool; anything but yes is no, and so is what was typed before the question."""
    asks, name = f"{deed} with this input:", f"{word(tool)}?"
    last = [f"{asks} {name}"]
    if len(list(in_margin(last[0], HINT))) > 1:  # a name that the terminal breaks could pass for a line of ours
        last = [asks, *in_margin(name, MARGIN_OF_NAME)]
    return confirmed([*in_margin(escaped(tool_input), MARGIN), reason, *last])


def asked_for(question: str, tool: str, tool_input: Any) -> str | None:
    """What somebody answers to a tool's question; None for nothing."""
    name = f"Your answer to {word(tool)}, or nothing:"
    last = [name] if len(list(in_margin(name, " "))) == 1 else [*in_margin(word(tool), MARGIN_OF_NAME), ANSWER]
    lines = [*in_margin(escaped(tool_input), MARGIN), *in_margin(escaped(question), MARGIN_OF_QUESTION), *last]
    _forget_what_was_typed()
    print("\n".join(lines), end=" ", file=sys.stderr, flush=True)
    answer = _line()
    if not answer.endswith(("\n", "\r")):
        print(file=sys.stderr)
        return None
    return answer.strip() or None


def confirmed(question: Sequence[str]) -> bool:
    """Whether yes is the answer to these lines, of which the last one asks; what was typed before is none.

    Nothing is no; what is neither is asked about again, and is no in the end.
    """
    for asks in ("\n".join(question), *["Yes or no?"] * ASKED_AGAIN):
        _forget_what_was_typed()
        print(asks, end=HINT, file=sys.stderr, flush=True)
        answer = _line()
        if not answer.endswith(("\n", "\r")):
            print(file=sys.stderr)  # the end of the input is no line that somebody sent off
            return False
        if (said := answer.strip().lower()) in ("", "n", "no", "y", "yes"):
            return said.startswith("y")
    return False


def in_margin(text: str, margin: str, further: str = "") -> Iterator[str]:
    """The text in lines that a terminal does not break again, each behind the margin; `further` ones behind another."""
    room, line, used = max(NARROWEST, _columns() - len(margin) - 1), "", 0
    for part in re.findall(r" *[^ ]+| +", text):
        widths = [2 if unicodedata.east_asian_width(letter) in "WFA" else 1 for letter in part]
        if line and used + sum(widths) > room:
            yield margin + line
            margin, line, used = further or margin, "", 0
        for letter, width in zip(part, widths, strict=True):
            if used + width > room:
                yield margin + line
                margin, line, used = further or margin, "", 0
            line, used = line + letter, used + width
    yield margin + line


def _columns() -> int:
    with suppress(OSError, ValueError):
        if columns := os.get_terminal_size(sys.stderr.fileno()).columns:
            return columns
    given = os.environ.get("COLUMNS", "")
    return int(given) if given.isdecimal() else 80


def _forget_what_was_typed() -> None:
    try:
        import termios
    except ImportError:  # Windows
        import msvcrt

        while msvcrt.kbhit():  # type: ignore[attr-defined, unused-ignore]
            msvcrt.getwch()  # type: ignore[attr-defined, unused-ignore]
        return
    with suppress(termios.error, OSError):
        termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)


def _line() -> str:
    """A line from the terminal itself: a file object may hold what was read ahead."""
    read = b""
    with echo(True):
        while not read.endswith((b"\n", b"\r")) and (more := os.read(sys.stdin.fileno(), 1024)):
            read += more
    return read.decode(errors="replace")


@contextmanager
def echo(is_on: bool) -> Iterator[None]:
    """The block in which the terminal shows what is typed, or keeps it for whoever reads next."""
    try:
        import termios
    except ImportError:  # Windows
        yield
        return
    try:
        terminal = sys.stdin.fileno()
        before = termios.tcgetattr(terminal)
    except (termios.error, OSError, ValueError):  # no terminal
        yield
        return
    mode = [*before]
    mode[3] = mode[3] | termios.ECHO if is_on else mode[3] & ~termios.ECHO
    termios.tcsetattr(terminal, termios.TCSANOW, mode)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSANOW, before)
