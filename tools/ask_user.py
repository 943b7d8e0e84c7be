"""The Ask tool: the model asks the user, where it needs to know what nobody but the user does."""

from __future__ import annotations

from agentkit.errors import Ask
from agentkit.tool import Tool


def _ask(question: str) -> str:
    raise Ask(question.strip())


ask_user = Tool(
    name="AskUser",
    description="Asks the user, for what only the user knows. The input is the question.",
    run=_ask,
    side_effects=False,
)
