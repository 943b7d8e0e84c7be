"""Token ids of a rendered prompt. What the model itself wrote keeps the tokens it was written with, so that a prompt
that continues an earlier one shares its tokens, not only its text."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BREAK = "\ufdd0"
"""Stands in a prompt where tokens must not join (a Unicode noncharacter, never text)."""

REMEMBERED = 32


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
        known, ids = self._known_beginning(prompt)
        for part in prompt[known:].split(BREAK):
            ids += self._encode_after(part) if ids else self._encode(part)
        return ids

    def remember(self, turn: WrittenTurn) -> None:
        """Keep the tokens of a turn for prompts that continue it."""
        self._written.append(turn)

    def _known_beginning(self, prompt: str) -> tuple[int, list[int]]:
        """The length of the longest beginning that was written before, and its ids."""
        best, ids = 0, list[int]()
        for turn in list(self._written):
            if len(turn.prompt) > best and prompt.startswith(turn.prompt):
                length, tokens = _follow(turn.pieces, prompt, len(turn.prompt))
                best, ids = length, [*turn.prompt_ids, *turn.reply_ids[:tokens]]
        return best, ids

    def _encode(self, text: str) -> list[int]:
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _encode_after(self, text: str) -> list[int]:
        """Ids of `text` in the middle of a prompt."""
        if not text or not self._adds_space:
            return self._encode(text) if text else []
        anchor = self._encode("\n")
        ids = self._encode("\n" + text)
        return ids[len(anchor) :] if ids[: len(anchor)] == anchor else self._encode(text)


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
