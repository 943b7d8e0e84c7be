"""Asks at the terminal before a tool with side effects runs. Where nobody can be asked, it does not run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from agentkit.cli.view import shortened
from agentkit.report.wording import input_text, printable

if TYPE_CHECKING:
    from agentkit.events import Action


def approver(*, yes: bool, before: Callable[[], None] = lambda: None) -> Callable[[Action], bool]:
    """What the run asks; `yes` answers for the user, `before` clears the line."""
    lock = threading.Lock()  # tools that run at once ask one after another

    def approve(action: Action) -> bool:
        with lock:
            before()
            if can_ask():
                return ask(action.tool, action.tool_input, "has side effects. Run it?")
            call = _call(action.tool, action.tool_input)
            print(f"not run: {call} has side effects, and nobody can be asked here; --yes allows it", file=sys.stderr)
            return False

    return (lambda action: True) if yes else approve


def can_ask() -> bool:
    """Whether somebody is at a terminal to answer."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def ask(tool: str, tool_input: Any, question: str) -> bool:
    """Ask about one call of a tool; anything but yes is no."""
    print(f"{_call(tool, tool_input)} {question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _call(tool: str, tool_input: Any) -> str:
    return printable(f"{tool}({shortened(input_text(tool_input))})")
