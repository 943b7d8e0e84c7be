"""From messages to token ids: as much of a conversation as fits the model's context, encoded piece by piece.

What the model itself wrote keeps the tokens it was written with, so that a prompt that continues an earlier one shares
its tokens, not only its text.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence, Sized
from dataclasses import dataclass
from typing import Any, TypeVar

from agentkit.errors import ConfigurationError, PromptTooLong
from agentkit.events import IN_EVENTS
from agentkit.models.backend import Message
from agentkit.models.messages import Fitted, shortened_to

SEAM = "\ufdd0"
"""Stands in a prompt where tokens must not join (a Unicode noncharacter, never text)."""

Tokens = TypeVar("Tokens", bound=Sized)
REMEMBERED = 32
LEAST_REPLY = 64
"""Tokens, in which an agent's turn can be written."""
LARGER = "a model that reads more"
logger = logging.getLogger("agentkit")


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


def first_that_fits(
    messages: Sequence[Message],
    encode: Callable[[list[Message]], tuple[str, Tokens]],
    *,
    context: int,
    longest: int,
    more: str,
    shortens: bool = True,
) -> tuple[str, Tokens, Fitted]:
    """Prompt and ids of the longest shortening that leaves room for a reply of `longest` tokens, or a quarter.

    Where there is none, the shortest has to leave `LEAST_REPLY`; else raises `ConfigurationError`, which names `more`
    as what gives room. Unless it `shortens`, what does not fit as it is is a `PromptTooLong`.
    """
    encoded: list[tuple[str, Tokens, Fitted]] = []

    def size(fitted: Fitted) -> int:
        prompt, ids = encode(fitted.messages)
        encoded.append((prompt, ids, fitted))
        return len(ids)

    most = context - min(longest, context // 4)
    if not shortens and (tokens := size(Fitted([*messages]))) > most:
        raise PromptTooLong(str(too_long(tokens, context, more)), prompt_tokens=tokens, context_tokens=context)
    found = encoded[0][2] if encoded else shortened_to(messages, size, most)
    prompt, ids, fitted = next(one for one in encoded if one[2] is found)
    if len(ids) > context - min(longest, LEAST_REPLY):
        raise too_long(len(ids), context, more)
    if fitted.cut_characters:
        logger.warning(
            "The last observation is longer than the model reads: its last %d characters were cut; %s gives room",
            fitted.cut_characters,
            more,
            extra={IN_EVENTS: True},
        )
    return prompt, ids, fitted


def too_long(tokens: int, context: int, more: str = LARGER) -> ConfigurationError:
    """What is wrong with a prompt that leaves no room for a reply, and what to do."""
    return ConfigurationError(
        f"the prompt has {tokens} tokens, which leaves too little of the {context} that the model reads for a reply; "
        f"give {more}, a shorter prompt or fewer tools"
    )
