"""How the steps so far go back to the model as text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from agentkit.react_json.hostile import defused
from agentkit.tool import is_content, pictures_of, text_of

OWN_WORDS = "_Exception"  # the tool of a turn that could not be parsed: its observation is the loop's own
CLOSING_NOTE = "\n\nNo more actions are possible. Give your best final answer now, in the form that was asked for."
"""Behind the last observation, where a limit leaves one more turn."""

DROPPED = "(dropped to fit the context)"
"""In the place of an observation that the model no longer sees."""
SUMMARY = "Notes on the first {number} steps, which are no longer shown:"

_AGAIN = (
    "That is turn {number} in a row that could not be read. Begin anew: a short thought, then one action alone.",
    "Turn {number} in a row that could not be read. If no tool helps, write the final answer now.",
)


def told_again(message: str, before: int) -> str:
    """What is wrong with a malformed turn, behind `before` others: a model that is told the same does the same."""
    return f"{message} {_AGAIN[(before - 1) % len(_AGAIN)].format(number=before + 1)}"


def summary_text(summary: str, number: int) -> str:
    """What stands in the place of the first steps of a run, as the model sees it: it may hold what a tool gave."""
    return f"{SUMMARY.format(number=number)}\n{defused(summary)}"


def is_summary(text: str) -> bool:
    """Whether a message of the user's holds the summary of steps, and no question."""
    return text.startswith(SUMMARY.partition("{")[0])


def observation_text(action: Any, observation: Any) -> str:
    """A step's observation as the model sees it: what a tool gave cannot speak for the loop or for the model."""
    text = text_of(observation) if is_content(observation) else str(observation)
    return text if action.tool == OWN_WORDS else defused(text)


def with_pictures(text: str, observations: Iterable[Any]) -> str | list[dict[str, Any]]:
    """A message's content: a text about observations, with the pictures that they hold, if any."""
    pictures = [picture for observation in observations for picture in pictures_of(observation)]
    return [{"type": "text", "text": text}, *pictures] if pictures else text


def format_log_to_str(
    intermediate_steps: Iterable[tuple[Any, Any]],
    observation_prefix: str = "Observation: ",
    llm_prefix: str = "Thought: ",
) -> str:
    """Steps as one text that ends where the model goes on, as LangChain has it: `…\\nObservation: 4\\nThought: `.

    Observations are as they came; see `harmless_steps`.
    """
    return "".join(
        f"{action.log}\n{observation_prefix}{observation}\n{llm_prefix}" for action, observation in intermediate_steps
    )


def harmless_steps(steps: Iterable[tuple[Any, Any]]) -> Iterator[tuple[Any, Any]]:
    """The steps with observations as the model may see them: those that are harmless as they came."""
    for action, observation in steps:
        text = observation_text(action, observation)
        yield action, observation if text == str(observation) else text
