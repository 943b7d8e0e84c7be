"""What one turn of the model says: an action to take, or the final answer."""

from __future__ import annotations

from dataclasses import dataclass

from agentkit.events import Action, FinalAnswer

BREAK = "\u200b"
"""Stands where a tool's text would have begun something (`agentkit.react_json.hostile`): what holds it is quoted."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One parsed turn.

    `thought` is the free text before the decision, without its label; `invented` counts the observations the model
    wrote itself, which were cut off together with all that followed them.
    """

    decision: Action | FinalAnswer
    thought: str = ""
    invented: int = 0
