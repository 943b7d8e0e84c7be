"""The messages with calls that a model of another provider made, for it to get back as they were.

Besides the calls they hold what its provider may want back, each in a way of its own: thoughts, signatures, blocks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Hashable
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message

from agentkit.models.backend import Message

MOST_MADE = 1000  # messages that are kept, and as many whose calls have the same ids


class MadeMessages:
    """The newest of one model's."""

    def __init__(self) -> None:
        self._messages: dict[Hashable, list[AIMessage]] = {}  # by the ids and names of the calls
        self._lock = threading.Lock()

    def keep(self, message: Any) -> None:
        """A message that came; one with a call that cannot be read is none to get back."""
        if isinstance(message, AIMessageChunk):
            message = message_chunk_to_message(message)
        if not isinstance(message, AIMessage) or not message.tool_calls or message.invalid_tool_calls:
            return
        key = tuple((call["id"], call["name"]) for call in message.tool_calls)
        with self._lock:
            self._messages[key] = [*self._messages.pop(key, []), message][-MOST_MADE:]
            if len(self._messages) > MOST_MADE:
                del self._messages[next(iter(self._messages))]

    def message(self, asked: Message) -> AIMessage | None:
        """That which a message of a request stands for; of several with the same ids, the one with its arguments."""
        calls = asked.get("tool_calls") or ()
        key = tuple((call["id"], call["function"]["name"]) for call in calls)
        made = self._messages.get(key, [])
        arguments = [json.loads(call["function"]["arguments"]) for call in calls] if len(made) > 1 else []
        same = [one for one in made if len(made) == 1 or [call["args"] for call in one.tool_calls] == arguments]
        return same[-1] if same else None
