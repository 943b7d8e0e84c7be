"""What an agent may keep from one run to the next: two tools over a store, for those who ask for them."""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING

from agentkit.errors import StoreError, ToolError
from agentkit.tool import Tool

if TYPE_CHECKING:
    from agentkit.sessions.store import Store

MOST_RECALLED = 5


def memory_tools(store: Store | str | os.PathLike[str] | None = None) -> list[Tool]:
    """The tools `remember`, which changes the store and is asked for with `approve`, and `recall`, which only reads.

    A store that is named by its address, or is the user's own, is opened when one of them runs.
    """

    @cache
    def opened() -> Store:
        from agentkit.sessions.store import Store

        if isinstance(store, Store):
            return store
        if (found := Store.find(store)) is None:
            raise StoreError("Nothing is remembered here, as AGENTKIT_STORE says none")
        return found

    def remember(text: str) -> str:
        try:
            return f"Remembered: {opened().remember(text).text}"
        except StoreError as error:
            raise ToolError(f"Error: {error}") from error

    def recall(query: str) -> str:
        try:
            found = opened().recall(query, MOST_RECALLED)
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


remember, recall = memory_tools()
"""Those of the user's own store."""
