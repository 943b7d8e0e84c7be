"""How the steps so far go back to the model as text."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentkit.react_json.hostile import defused

OWN_WORDS = "_Exception"  # the tool of a turn that could not be parsed: its observation is the loop's own
CLOSING_NOTE = "\n\nNo more actions are possible. Give your best final answer now, in the form that was asked for."
"""Behind the last observation, where a limit leaves one more turn."""


def observation_text(action: Any, observation: Any) -> str:
    """A step's observation as the model sees it: what a tool gave cannot speak for the loop or for the model."""
    text = str(observation)
    return text if action.tool == OWN_WORDS else defused(text)


def format_log_to_str(
    intermediate_steps: Iterable[tuple[Any, Any]],
    observation_prefix: str = "Observation: ",
    llm_prefix: str = "Thought: ",
) -> str:
    """Steps as one text that ends where the model goes on: `…\\nObservation: 4\\nThought: `."""
    return "".join(
        f"{action.log}\n{observation_prefix}{observation_text(action, observation)}\n{llm_prefix}"
        for action, observation in intermediate_steps
    )
