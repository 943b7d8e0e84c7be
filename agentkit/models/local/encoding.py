"""From messages to token ids: as much of a conversation as fits the model's context, encoded piece by piece.

What the model itself wrote keeps the tokens it was written with, so that a prompt that continues an earlier one shares
its tokens, not only its text.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar, cast

from agentkit.models.backend import Message

SEAM = "\ufdd0"
"""Stands in a prompt where tokens must not join (a Unicode noncharacter, never text)."""

Tokens = TypeVar("Tokens", bound=Sequence[Any])
REMEMBERED = 32
DROPPED = "(dropped to fit the context)"
logger = logging.getLogger("agentkit")
STRIDE = 4  # observations dropped at a time, so that the next steps keep the same beginning, and its cache
_IN_SCRATCHPAD = re.compile(r"(\nObservation: )(.*?)(?=\nThought:|\Z)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class WrittenTurn:
    """A prompt and what the model wrote after it: a piece of text for each of `reply_ids`, "" for an open character."""

    prompt: str
    prompt_ids: tuple[int, ...]
    reply_ids: tuple[int, ...]
    pieces: tuple[str, ...]


class PromptEncoder:
    """Encodes prompts for one tokenizer and remembers the last turns written."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._written: deque[WrittenTurn] = deque(maxlen=REMEMBERED)
        first = tokenizer.convert_ids_to_tokens(self._encode("x"))
        self._adds_space = bool(first) and first[0].startswith("▁")  # sentencepiece: each text gets a leading space

    def encode(self, prompt: str) -> list[int]:
        """Ids of `prompt`, whose special tokens are those of its template: none is added."""
        start, ids = self._remembered_beginning(prompt)
        for part in prompt[start:].split(SEAM):
            ids += self.encode_after(part) if ids else self._encode(part)
        return ids

    def remember(self, turn: WrittenTurn) -> None:
        """Keep the tokens of a turn for prompts that continue it."""
        self._written.append(turn)

    def _remembered_beginning(self, prompt: str) -> tuple[int, list[int]]:
        """The length of the longest beginning that was written before, and its ids."""
        best, ids = 0, list[int]()
        for turn in list(self._written):
            if len(turn.prompt) > best and prompt.startswith(turn.prompt):
                length, tokens = _follow(turn.pieces, prompt, len(turn.prompt))
                best, ids = length, [*turn.prompt_ids, *turn.reply_ids[:tokens]]
        return best, ids

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(of_characters(text), add_special_tokens=False)["input_ids"])

    def encode_after(self, text: str) -> list[int]:
        """Ids of `text` in the middle of a prompt."""
        if not text or not self._adds_space:
            return self._encode(text) if text else []
        anchor = self._encode("\n")
        ids = self._encode("\n" + text)
        return ids[len(anchor) :] if ids[: len(anchor)] == anchor else self._encode(text)


def of_characters(text: str) -> str:
    """`text` as tokenizers take it: half of a surrogate pair, which JSON can hold, is no character."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _follow(pieces: Sequence[str], text: str, start: int) -> tuple[int, int]:
    """How far `text` from `start` repeats `pieces`: the end in `text`, and the number of pieces."""
    end, count = start, 0
    for number, piece in enumerate(pieces, 1):
        if not text.startswith(piece, start):
            break
        start += len(piece)
        if piece:
            end, count = start, number
    return end, count


@dataclass(frozen=True, slots=True)
class Fitted:
    """Messages of a conversation that outgrows its context, with how much was dropped from them."""

    messages: list[Message]
    dropped_observations: int = 0
    dropped_messages: int = 0
    cut_tokens: int = 0

    @property
    def dropped(self) -> dict[str, int]:
        """What is missing of them; nothing where all of them fit."""
        found = {"observations": self.dropped_observations, "messages": self.dropped_messages}
        return {**found, "tokens": self.cut_tokens} if self.cut_tokens else found if any(found.values()) else {}


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
    messages: Sequence[Message], encode: Callable[[list[Message]], tuple[str, Tokens]], limit: int
) -> tuple[str, Tokens, Fitted]:
    """Prompt and ids of the longest shortening within `limit` tokens; the last resort is cut from its beginning.

    A cut takes instructions and the question with it, so it is said aloud.
    """
    fitted, *shorter = shortenings(messages)
    prompt, ids = encode(fitted.messages)
    while len(ids) > limit and shorter:
        fitted = shorter.pop(0)
        prompt, ids = encode(fitted.messages)
    if len(ids) <= limit:
        return prompt, ids, fitted
    cut = len(ids) - limit
    logger.warning(
        "A message is longer than the model reads: of %d tokens the first %d were cut; shorten it, or take fewer "
        "tools, or a model that reads more",
        len(ids),
        cut,
    )
    return prompt, cast("Tokens", ids[cut:]), replace(fitted, cut_tokens=cut)


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
