"""Asks at the terminal before a tool with side effects runs. Where nobody can be asked, it does not run."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from agentkit.cli.view import printable, shortened

if TYPE_CHECKING:
    from agentkit.events import Action


_ASKING = threading.Lock()  # tools that run at once ask one after another


def approver(*, yes: bool, before: Callable[[], None] = lambda: None) -> Callable[[Action], bool]:
    """What the run asks; `yes` answers for the user, `before` clears the line."""

    def ask(action: Action) -> bool:
        with _ASKING:
            return _asked(action, before)

    return (lambda action: True) if yes else ask


def _asked(action: Action, before: Callable[[], None]) -> bool:
    before()
    text = action.tool_input
    shown = text if isinstance(text, str) else json.dumps(text, ensure_ascii=False, default=str)
    call = f"{printable(action.tool)}({printable(shortened(shown))})"
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        print(f"not run: {call} has side effects, and nobody can be asked here; --yes allows it", file=sys.stderr)
        return False
    print(f"{call} has side effects. Run it? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")
