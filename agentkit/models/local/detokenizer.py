"""Text of a growing token sequence, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

CONTEXT = 6  # prompt tokens a decoder needs to join the first generated token to (a leading space, an open character)


class Detokenizer:
    """Turns each new token into the text it completes; "" while a character is unfinished.

    Special tokens are left out unless asked for: some models begin a tool call with one.
    """

    def __init__(self, tokenizer: Any, prompt_ids: Sequence[int], *, keep_special: bool = False) -> None:
        self._skip = not keep_special
        self._tokenizer = tokenizer
        self._context = list(prompt_ids[-CONTEXT:])
        self._step: Callable[[int], str | None] = self._slow_step
        if backend := getattr(tokenizer, "backend_tokenizer", None):
            from tokenizers.decoders import DecodeStream

            stream = DecodeStream(ids=self._context, skip_special_tokens=self._skip)
            self._step = lambda token: stream.step(backend, token)

    def feed(self, token: int) -> str:
        """The text that `token` completes."""
        return self._step(token) or ""

    def _slow_step(self, token: int) -> str | None:
        before: str = self._tokenizer.decode(self._context, skip_special_tokens=self._skip)
        after: str = self._tokenizer.decode([*self._context, token], skip_special_tokens=self._skip)
        self._context.append(token)
        if after.endswith("\ufffd"):
            return ""
        self._context = self._context[-CONTEXT:]
        return after[len(before.rstrip("\ufffd")) :]
