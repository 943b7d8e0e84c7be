"""The messages with calls that a model of another provider made, for it to get back as they were.

Besides the calls they hold what its provider may want back, each in a way of its own: thoughts, signatures, blocks.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Hashable, Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, message_chunk_to_message

from agentkit.models.backend import Message

MOST_MADE = 1000  # messages that are kept, and as many whose calls have the same ids


class MadeMessages:
    """The newest of one model's."""

    def __init__(self) -> None:
        self._of_ids: dict[Hashable, list[AIMessage]] = {}  # by the ids and names of the calls
        self._of_calls: dict[Hashable, AIMessage] = {}  # by their names and arguments
        self._lock = threading.Lock()

    def keep(self, message: Any) -> None:
        """A message that came; one with a call that cannot be read, or told from another, is none to get back."""
        if isinstance(message, AIMessageChunk):
            message = message_chunk_to_message(message)
        if not isinstance(message, AIMessage) or not message.tool_calls or message.invalid_tool_calls:
            return
        if len({call["id"] for call in message.tool_calls if call["id"]}) < len(message.tool_calls):
            return
        ids = tuple((call["id"], call["name"]) for call in message.tool_calls)
        calls = tuple((call["name"], _text(call["args"])) for call in message.tool_calls)
        with self._lock:
            self._of_ids[ids] = [*self._of_ids.pop(ids, []), message][-MOST_MADE:]
            self._of_calls.pop(calls, None)
            self._of_calls[calls] = message
            for kept in (self._of_ids, self._of_calls):
                if len(kept) > MOST_MADE:
                    del kept[next(iter(kept))]

    def message(self, asked: Message) -> AIMessage | None:
        """That which a message of a request stands for, whose calls may have got other ids; `None` for any other."""
        calls = asked.get("tool_calls") or ()
        made = self._of_ids.get(tuple((call["id"], call["function"]["name"]) for call in calls), [])
        if len(made) == 1 or not calls:
            return made[0] if made else None
        arguments = [json.loads(call["function"]["arguments"]) for call in calls]
        if made:
            return next((one for one in reversed(made) if [call["args"] for call in one.tool_calls] == arguments), None)
        named = zip(calls, arguments, strict=True)
        return self._of_calls.get(tuple((call["function"]["name"], _text(given)) for call, given in named))


def _text(arguments: Any) -> str:
    return json.dumps(arguments, sort_keys=True, default=str)


def made_ids(asked: Message, made: AIMessage) -> Mapping[str, str]:
    """The ids that a message was made with, by those that its calls have got."""
    return {got["id"]: call["id"] or "" for got, call in zip(asked["tool_calls"], made.tool_calls, strict=True)}
