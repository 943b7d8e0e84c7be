"""How the steps so far go back to the model: as text in one message, or as messages of their own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_core.messages import BaseMessage


def format_log_to_str(
    intermediate_steps: Iterable[tuple[Any, Any]],
    observation_prefix: str = "Observation: ",
    llm_prefix: str = "Thought: ",
) -> str:
    """Steps as one text that ends where the model goes on: `…\\nObservation: 4\\nThought: `."""
    return "".join(
        f"{action.log}\n{observation_prefix}{observation}\n{llm_prefix}" for action, observation in intermediate_steps
    )


def format_log_to_messages(
    intermediate_steps: Sequence[tuple[Any, Any]], template_tool_response: str = "{observation}"
) -> list[BaseMessage]:
    """Steps as an AI message (the model's text) and a human message (the observation) each."""
    from langchain_core.messages import AIMessage, HumanMessage

    messages: list[BaseMessage] = []
    for action, observation in intermediate_steps:
        messages.append(AIMessage(content=action.log))
        messages.append(HumanMessage(content=template_tool_response.format(observation=observation)))
    return messages
