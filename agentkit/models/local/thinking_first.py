"""Lets a reasoning model think freely before a grammar holds its reply."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Literal

from agentkit.models.local.constraint import Constraint
from agentkit.models.thinking import CLOSE, OPEN

if TYPE_CHECKING:
    import torch


class ThinkingFirst:
    """A constraint that begins after `</think>`, or at once where the model does not open a thought.

    Only for vocabularies in which the tags are single tokens, as reasoning models have them.
    """

    def __init__(self, constraint: Constraint, *, opening: int, closing: int, inside: bool) -> None:
        self._constraint = constraint
        self._opening = opening
        self._closing = closing
        self._state: Literal["may think", "thinking", "held"] = "thinking" if inside else "may think"

    @property
    def finished(self) -> bool:
        """Whether nothing more may come."""
        return self._state == "held" and self._constraint.finished

    def allowed(self) -> torch.Tensor:
        """A mask (vocabulary,) of the tokens that may come next."""
        mask = self._constraint.allowed()
        if self._state == "thinking":
            mask = mask.new_ones(mask.shape)
            mask[list(self._constraint.eos)] = False
        elif self._state == "may think":
            mask = mask.clone()
            mask[self._opening] = True
        return mask

    def allows(self, token: int) -> bool:
        """Whether `token` may come next."""
        if self._state == "thinking":
            return token not in self._constraint.eos
        return self._constraint.allows(token) or (self._state == "may think" and token == self._opening)

    def begin(self) -> list[int]:
        """No token is certain while the model may still think."""
        return []

    def closer(self, *, text_only: bool = False) -> int | None:
        """A token that brings the reply nearer to its end."""
        return self._closing if self._state == "thinking" else self._constraint.closer(text_only=text_only)

    def accept(self, token: int) -> list[int]:
        """Take `token`; the tokens that must follow it, already taken."""
        if self._state == "may think":
            self._state = "thinking" if token == self._opening else "held"
            return [] if self._state == "thinking" else self._constraint.accept(token)
        if self._state == "thinking":
            if token != self._closing:
                return []
            self._state = "held"
            return self._constraint.begin()
        return self._constraint.accept(token)


def after_thought(grammar: str, tokenizer: Any, *, inside: bool) -> str:
    """`grammar`, with the rest of a thought before it where one is open whose end is spelled, no token to wait for."""
    if not inside or CLOSE in tokenizer.get_added_vocab():
        return grammar
    spelled = re.escape(CLOSE).replace("/", r"\/")
    begun = f"start: thought answer\nthought[lazy]: /(.|\\n)*{spelled}/\nanswer:"
    return re.sub(r"^start\s*:", lambda _: begun, grammar, count=1, flags=re.MULTILINE)


def thinking_first(constraint: Constraint, tokenizer: Any, *, inside: bool) -> Constraint | ThinkingFirst:
    """`constraint` for a model that may think first, if this tokenizer's model is one; `inside`: it has begun to."""
    added = tokenizer.get_added_vocab()
    if OPEN not in added or CLOSE not in added:
        return constraint
    return ThinkingFirst(constraint, opening=added[OPEN], closing=added[CLOSE], inside=inside)
