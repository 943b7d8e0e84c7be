"""Messages as strict chat templates and short contexts take them: without a role, without old observations."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any, overload

from agentkit.models.backend import Message
from agentkit.react_json.scratchpad import DROPPED, SUMMARY, is_summary

# -- roles -------------------------------------------------------------------------------------------------------------


def without_system(messages: Sequence[Message]) -> list[Message]:
    """The system messages' text at the head of the first user message."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system:
        return rest
    content = reduce(joined_content, system)
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": joined_content(content, rest[0]["content"])}, *rest[1:]]
    return [{"role": "user", "content": content}, *rest]


def without_provider_fields(messages: Sequence[Message]) -> Sequence[Message]:
    """The messages without what the server of a call, which is another, would get back with it."""
    if not any("provider_fields" in call for message in messages for call in message.get("tool_calls") or ()):
        return messages
    return [_without_fields(message) if message.get("tool_calls") else message for message in messages]


def _without_fields(message: Message) -> Message:
    calls = [{name: part for name, part in call.items() if name != "provider_fields"} for call in message["tool_calls"]]
    return {**message, "tool_calls": calls}


def alternating(messages: Sequence[Message]) -> list[Message]:
    """The messages with neighbours of one role joined, but for those that call tools or hold results."""
    whole: list[Message] = []
    for message in messages:
        if whole and message["role"] == whole[-1]["role"] and _is_text(message) and _is_text(whole[-1]):
            whole[-1] = {**whole[-1], "content": joined_content(whole[-1]["content"], message["content"])}
        else:
            whole.append(message)
    return whole


def _is_text(message: Message) -> bool:
    return message["role"] != "tool" and not message.get("tool_calls")


def joined_content(first: Any, second: Any) -> Any:
    """Two contents as one: texts with an empty line between, or the parts of both."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*content_parts(first), *content_parts(second)]


def content_parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


# -- length ------------------------------------------------------------------------------------------------------------

CUT = "… (cut to fit the context)"
STRIDE = 4  # observations dropped at a time, so that the next steps keep the same beginning, and its cache
_IN_SCRATCHPAD = re.compile(rf"(\nObservation: )(?!{SUMMARY.partition('{')[0]})(.*?)(?=\nThought:|\Z)", re.DOTALL)
_LABEL = "Observation:"
_SHORTEST = 200  # characters that are left of an observation at least


@dataclass(frozen=True, slots=True)
class Fitted:
    """Messages of a conversation that outgrows its context, with how much was dropped from them."""

    messages: list[Message]
    dropped_observations: int = 0
    dropped_messages: int = 0
    cut_characters: int = 0

    @property
    def dropped(self) -> dict[str, int]:
        """What is missing of them; nothing where all of them fit."""
        found = {"observations": self.dropped_observations, "messages": self.dropped_messages}
        if self.cut_characters:
            return {**found, "characters": self.cut_characters}
        return found if any(found.values()) else {}


def shortened_to(messages: Sequence[Message], size: Callable[[Fitted], int], most: float) -> Fitted:
    """The longest shortening whose size is at most `most`, or the smallest that was looked at.

    What drops more is smaller, as a rule: where the end of a stage fits, the first that does is looked for by halves,
    so that the sizes of a few are asked for, however long the conversation is. What is found fits in any case, also
    where the rule does not hold.
    """
    sizes: list[tuple[int, Fitted]] = []

    def fits(fitted: Fitted) -> bool:
        sizes.append((size(fitted), fitted))
        return sizes[-1][0] <= most

    for stage in shortenings(messages):
        if fits(stage[-1]):
            bisect_left(stage[:-1], True, key=fits)
            break
    fitting = [fitted for tokens, fitted in sizes if tokens <= most]
    return fitting[-1] if fitting else min(sizes, key=lambda one: one[0])[1]


class Stage(Sequence[Fitted]):
    """Ever shorter conversations, each made when it is asked for."""

    def __init__(self, counts: Sequence[int], shortened: Callable[[int], Fitted]) -> None:
        self._counts = counts
        self._shortened = shortened

    def __len__(self) -> int:
        return len(self._counts)

    @overload
    def __getitem__(self, index: int) -> Fitted: ...
    @overload
    def __getitem__(self, index: slice) -> Stage: ...
    def __getitem__(self, index: int | slice) -> Fitted | Stage:
        if isinstance(index, slice):
            return Stage(self._counts[index], self._shortened)
        return self._shortened(self._counts[index])


def shortenings(messages: Sequence[Message]) -> Iterator[Stage]:
    """The conversation, then ever shorter ones, which keep the question, and each call with its result.

    After the oldest observations the oldest messages before the question go; then the oldest steps but the newest, and
    the end of the newest observation, whichever of the two is longer first. Each stage goes on from the end of the one
    before; none is empty.
    """
    whole = fitted = Fitted([*messages])
    yield Stage([0], lambda _: whole)
    for shorter in (_with_fewer_observations, _without_oldest_messages):
        if stage := shorter(fitted):
            yield stage
            fitted = stage[-1]
    start, end = _oldest_steps(fitted.messages)
    steps = sum(len(str(message["content"])) for message in fitted.messages[start:end])
    ways = [_without_oldest_steps, _with_newest_cut]
    for shorter in ways if steps > _newest_length(fitted.messages) else reversed(ways):
        if stage := shorter(fitted):
            yield stage
            fitted = stage[-1]


def _without_oldest_messages(fitted: Fitted) -> Stage:
    whole, at = fitted.messages, _question(fitted.messages)
    before = [number for number in range(at) if whole[number]["role"] != "system"]
    counts = [  # a user's message goes with what was answered
        count
        for count, number in enumerate(before, 1)
        if number + 1 >= at or whole[number + 1]["role"] not in ("assistant", "tool")
    ]

    def shortened(count: int) -> Fitted:
        gone = {*before[:count]}
        left = [message for number, message in enumerate(whole) if number not in gone]
        return replace(fitted, messages=left, dropped_messages=count)

    return Stage(counts, shortened)


def _without_oldest_steps(fitted: Fitted) -> Stage:
    start, end = _oldest_steps(fitted.messages)
    places = [at for at in range(start + 1, end + 1) if fitted.messages[at]["role"] == "assistant"]
    stride = 1 << max(0, (len(places) // (2 * STRIDE)).bit_length() - 1)  # of many steps several at a time, as above
    places = [*places[stride - 1 : -1 : stride], *places[-1:]]

    def shortened(at: int) -> Fitted:
        left = [*fitted.messages[:start], *fitted.messages[at:]]
        return replace(fitted, messages=left, dropped_messages=fitted.dropped_messages + at - start)

    return Stage(places, shortened)


def _oldest_steps(messages: Sequence[Message]) -> tuple[int, int]:
    """Where the steps before the newest begin and end; nothing: (0, 0)."""
    asked = _question(messages)
    turns = [n for n, message in enumerate(messages) if n > asked and message["role"] == "assistant"]
    return (turns[0], turns[-1]) if turns else (0, 0)


def _with_newest_cut(fitted: Fitted) -> Stage:
    length = _newest_length(fitted.messages)
    halves = [length >> times for times in range(1, length.bit_length())]

    def shortened(cut: int) -> Fitted:
        return replace(fitted, messages=_cut(fitted.messages, cut), cut_characters=length - cut)

    return Stage([half for half in halves if half >= _SHORTEST], shortened)


def _with_fewer_observations(fitted: Fitted) -> Stage:
    """Only what is longer than the mark in its place is dropped, so that each is shorter than the one before."""
    sizes = [size for message in fitted.messages for size in _observations(message)]
    total = len(sizes)
    ends = [*range(STRIDE, total - 1, STRIDE), total - 1] if total > 1 else []  # the newest one stays
    dropped = {sum(size > len(DROPPED) for size in sizes[:end]): end for end in ends}

    def shortened(count: int) -> Fitted:
        left = _without_oldest(fitted.messages, dropped[count])
        return replace(fitted, messages=left, dropped_observations=count)

    return Stage([*filter(None, dropped)], shortened)


def _observations(message: Message) -> list[int]:
    """How long the observations are that it holds."""
    content = message.get("content")
    if not isinstance(content, str):
        return []
    if message["role"] == "tool":
        return [len(content)]
    if content.startswith(_LABEL):
        return [len(content) - len(f"{_LABEL} ")]
    return [len(found[2]) for found in _IN_SCRATCHPAD.finditer(content)] if message["role"] == "user" else []


def _without_oldest(messages: Sequence[Message], count: int) -> list[Message]:
    shortened = []
    for message in messages:
        here = min(count, len(_observations(message))) if count else 0
        count -= here
        shortened.append(_drop(message, here) if here else message)
    return shortened


def _drop(message: Message, count: int) -> Message:
    if max(_observations(message)[:count]) <= len(DROPPED):
        return message
    content: str = message["content"]
    if message["role"] == "tool":
        return {**message, "content": DROPPED}
    if content.startswith(_LABEL):
        return {**message, "content": f"{_LABEL} {DROPPED}"}

    def mark(found: re.Match[str]) -> str:
        return f"{found[1]}{DROPPED}" if len(found[2]) > len(DROPPED) else found[0]

    return {**message, "content": _IN_SCRATCHPAD.sub(mark, content, count=count)}


def _question(messages: Sequence[Message]) -> int:
    """The place of the question: the last message of the user that is no observation, and no summary of steps."""
    asked = (n for n, m in enumerate(messages) if m["role"] == "user" and not _is_of_steps(m))
    return max(asked, default=0)


def _is_of_steps(message: Message) -> bool:
    """Whether it begins as an observation or a summary: that of a tool which gave a picture is a list of parts."""
    parts = content_parts(message["content"] or "")[:1]
    texts = [str(part.get("text", "")) for part in parts if isinstance(part, Mapping)]
    return any(text.startswith(_LABEL) or is_summary(text) for text in texts)


def _newest_span(messages: Sequence[Message]) -> tuple[int, int, int]:
    """The message that holds the newest observation, and where that begins and ends in it; nothing: (0, 0, 0)."""
    for number in reversed(range(len(messages))):
        if _observations(messages[number]):
            content: str = messages[number]["content"]
            if messages[number]["role"] == "tool" or content.startswith(_LABEL):
                return number, 0, len(content)
            *_, last = _IN_SCRATCHPAD.finditer(content)
            return number, *last.span(2)
    return 0, 0, 0


def _newest_length(messages: Sequence[Message]) -> int:
    _, start, end = _newest_span(messages)
    return end - start


def _cut(messages: Sequence[Message], length: int) -> list[Message]:
    number, start, end = _newest_span(messages)
    content = messages[number]["content"]
    cut = {**messages[number], "content": f"{content[: start + length]}{CUT}{content[end:]}"}
    return [*messages[:number], cut, *messages[number + 1 :]]
