"""What one turn of the model says: an action to take, or the final answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ToolInput = str | dict[str, Any]

BREAK = "\u200b"
"""Stands where a tool's text would have begun something (`agentkit.react_json.hostile`): what holds it is quoted."""


@dataclass(frozen=True, slots=True)
class Called:
    """How a model called a tool in its own syntax: the call's `id`, the `text` beside it, and the step its turn began.

    Calls of one `turn` stood in one message.
    """

    id: str
    turn: int
    text: str = ""


@dataclass(frozen=True, slots=True)
class Action:
    """Call `tool` with `tool_input`; `log` is the model's own text up to and including the action.

    For one that was `called` in the model's own syntax, `log` is what the dialect would say.
    """

    tool: str
    tool_input: ToolInput
    log: str = ""
    called: Called | None = None


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """The run's answer; `log` is the model's own text."""

    output: str
    log: str = ""


@dataclass(frozen=True, slots=True)
class Turn:
    """One parsed turn.

    `thought` is the free text before the decision, without its label; `invented` counts the observations the model
    wrote itself, which were cut off together with all that followed them.
    """

    decision: Action | FinalAnswer
    thought: str = ""
    invented: int = 0
