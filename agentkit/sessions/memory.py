"""What an agent may keep from one run to the next: two tools over a store, for those who ask for them."""

from __future__ import annotations

from agentkit.errors import StoreError, ToolError
from agentkit.sessions.store import Store
from agentkit.tool import Tool

MOST_RECALLED = 5


def memory_tools(store: Store) -> list[Tool]:
    """The tools `remember`, which changes the store and is asked for with `approve`, and `recall`, which only reads."""

    def remember(text: str) -> str:
        try:
            return f"Remembered: {store.remember(text).text}"
        except StoreError as error:
            raise ToolError(f"Error: {error}") from error

    def recall(query: str) -> str:
        try:
            found = store.recall(query, MOST_RECALLED)
        except StoreError as error:
            raise ToolError(f"Error: {error}") from error
        return (
            "\n".join(f"- {memory.text} ({memory.at:%Y-%m-%d})" for memory in found) or "Nothing about that is known."
        )

    return [
        Tool(
            name="remember",
            description="Keep a fact for later conversations. Input is one sentence that says all of it.",
            run=remember,
            side_effects=True,
            idempotent=True,
        ),
        Tool(
            name="recall",
            description="Look up what was remembered in earlier conversations. Input is what it should be about.",
            run=recall,
            side_effects=False,
        ),
    ]
