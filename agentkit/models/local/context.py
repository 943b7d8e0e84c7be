"""Conversations that outgrow the model's context: the oldest observations give way first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from agentkit.models.backend import Message

DROPPED = "(dropped to fit the context)"
STRIDE = 4  # observations dropped at a time, so that the next steps keep the same beginning, and its cache
_IN_SCRATCHPAD = re.compile(r"(\nObservation: )(.*?)(?=\nThought:|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Fitted:
    """Messages with how much was dropped from them."""

    messages: list[Message]
    dropped_observations: int = 0
    dropped_messages: int = 0


def shortenings(messages: Sequence[Message]) -> Iterator[Fitted]:
    """The conversation, then ever shorter ones: without its oldest observations, then without its oldest messages."""
    fitted = Fitted(list(messages))
    yield fitted
    total = sum(_observations(message) for message in messages)
    for count in (*range(STRIDE, total - 1, STRIDE), total - 1):  # the newest one stays
        if count > 0:
            fitted = Fitted(_without_oldest(messages, count), count)
            yield fitted
    while (body := [m for m in fitted.messages if m["role"] != "system"])[1:]:
        oldest = body[0]
        rest = [message for message in fitted.messages if message is not oldest]
        fitted = replace(fitted, messages=rest, dropped_messages=fitted.dropped_messages + 1)
        yield fitted


def first_that_fits(
    messages: Sequence[Message], encode: Callable[[list[Message]], tuple[str, list[int]]], limit: int
) -> tuple[str, list[int], Fitted]:
    """Prompt and ids of the longest shortening within `limit` tokens; the last resort is cut from its beginning."""
    prompt, ids, fitted = "", list[int](), Fitted(list(messages))
    for fitted in shortenings(messages):
        prompt, ids = encode(fitted.messages)
        if len(ids) <= limit:
            return prompt, ids, fitted
    return prompt, ids[-limit:], fitted


def _observations(message: Message) -> int:
    content = message.get("content")
    if not isinstance(content, str):
        return 0
    if message["role"] == "tool" or content.startswith("Observation:"):
        return 1
    return len(_IN_SCRATCHPAD.findall(content)) if message["role"] == "user" else 0


def _without_oldest(messages: Sequence[Message], count: int) -> list[Message]:
    shortened = []
    for message in messages:
        here = min(count, _observations(message))
        count -= here
        shortened.append(_drop(message, here) if here else message)
    return shortened


def _drop(message: Message, count: int) -> Message:
    content: str = message["content"]
    if message["role"] == "tool":
        return {**message, "content": DROPPED}
    if content.startswith("Observation:"):
        return {**message, "content": f"Observation: {DROPPED}"}
    return {**message, "content": _IN_SCRATCHPAD.sub(rf"\g<1>{DROPPED}", content, count=count)}
