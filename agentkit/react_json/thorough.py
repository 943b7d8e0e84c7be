"""The parser for turns in any form."""

from __future__ import annotations

from agentkit.errors import MalformedTurn
from agentkit.react_json.passages import TooManyBroken
from agentkit.react_json.turn import Turn
from agentkit.react_json.turn_scan import Scan
from agentkit.react_json.verdict import judged, malformed

__all__ = ["parse_turn_thoroughly"]


def parse_turn_thoroughly(text: str) -> Turn:
    """Read a turn in any form; raises `MalformedTurn`."""
    try:
        return _read(text)
    except MalformedTurn as error:
        error.text = text
        raise


def _read(text: str) -> Turn:
    if not text.strip():
        raise malformed("the turn is empty. Write Thought:, and then an Action: or the Final Answer:.")
    try:
        text.encode()
        return judged(Scan(text).run())
    except UnicodeEncodeError:
        raise malformed("the turn holds half of a surrogate pair, which cannot be sent. Leave it out.") from None
    except TooManyBroken:
        raise malformed("the turn is full of damaged JSON. Write one action, or the final answer.") from None
    except RecursionError:
        raise malformed("the action_input is nested too deeply. Write a flat one.") from None
