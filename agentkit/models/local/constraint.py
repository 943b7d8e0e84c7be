"""Holds a reply to a grammar: which tokens may come next, and which must (llguidance). A thought comes before it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import numpy
import torch

from agentkit.errors import ConfigurationError
from agentkit.models.thinking import CLOSE, OPEN

CLOSERS = ("}", "]", '"', "\n", "`", "0", "e", "l", "u")  # what ends an object, a list, a string; a number, true, null
INSIDE = "q"  # where this may stand, so may nearly anything: inside a string, or in free text
GOES_ON = "\nAction:"  # what may end the free text of a turn


class GrammarVocabulary:
    """A model's vocabulary, prepared once for all grammars (about 1 s for 150,000 tokens)."""

    def __init__(self, tokenizer: Any, *, size: int, eos: Sequence[int]) -> None:
        try:
            import llguidance.hf
        except ImportError:
            raise ConfigurationError(
                "expected the package llguidance for grammars; run pip install 'agentkit-react[local]', "
                'or turn grammars off with constrain="off"'
            ) from None
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ConfigurationError(
                f'grammars need a fast tokenizer, saw {type(tokenizer).__name__}; turn them off with constrain="off"'
            )
        self.size = size
        self.eos = frozenset(eos)
        self.tokens = llguidance.hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=list(eos))
        single = {text: self.tokens.tokenize_str(text) for text in (*CLOSERS, INSIDE)}
        self.single = {text: ids[0] for text, ids in single.items() if len(ids) == 1}
        self.goes_on: list[int] = self.tokens.tokenize_str(GOES_ON)


class Constraint:
    """One reply's place in a grammar (Lark text for llguidance)."""

    def __init__(self, grammar: str, vocabulary: GrammarVocabulary) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(vocabulary.tokens, LLMatcher.grammar_from_lark(grammar), log_level=0)
        self._check()
        self._vocabulary = vocabulary
        self._bits = numpy.zeros((vocabulary.size + 31) // 32, dtype=numpy.int32)
        self._ending: list[int] = []

    @property
    def eos(self) -> frozenset[int]:
        """The tokens that end a reply."""
        return self._vocabulary.eos

    @property
    def finished(self) -> bool:
        """Whether the grammar allows nothing more."""
        return self._matcher.is_stopped()

    def allowed(self) -> torch.Tensor:
        """A mask (vocabulary,) of the tokens that may come next."""
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = numpy.unpackbits(self._bits.view(numpy.uint8), bitorder="little")
        return torch.from_numpy(bits[: self._vocabulary.size].view(numpy.bool_))

    def allows(self, token: int) -> bool:
        """Whether `token` may come next; far cheaper than the whole mask."""
        if token in self._vocabulary.eos:
            return self._matcher.is_accepting()
        return self._matcher.validate_tokens([token]) == 1

    def begin(self) -> list[int]:
        """The tokens every reply begins with, already taken."""
        return self._forced()

    def closer(self, *, text_only: bool = False) -> int | None:
        """A token that brings the reply nearer to its end: for when there is little room left.

        `text_only`: only one that ends free text, after which a reply has more to say than after the last of its JSON.
        """
        if self._ending:
            return self._ending[0]
        if self._matcher.is_accepting():
            return None if text_only else min(self._vocabulary.eos, default=None)
        single, goes_on = self._vocabulary.single, self._vocabulary.goes_on
        inside = INSIDE in single and self.allows(single[INSIDE])
        if inside and self._matcher.validate_tokens(goes_on) == len(goes_on):
            self._ending = list(goes_on)
            return goes_on[0]
        if text_only:
            return None
        order = ('"',) if inside else CLOSERS
        return next((single[text] for text in order if text in single and self.allows(single[text])), None)

    def accept(self, token: int) -> list[int]:
        """Take `token`; the tokens that must follow it, already taken."""
        self._ending = self._ending[1:] if self._ending[:1] == [token] else []
        self._matcher.consume_token(token)
        self._check()
        return [] if self._ending else self._forced()

    def _forced(self) -> list[int]:
        forced: list[int] = self._matcher.compute_ff_tokens()
        if forced:
            self._matcher.consume_tokens(forced)
            self._check()
        return forced

    def _check(self) -> None:
        if self._matcher.is_error():
            reason = " ".join(self._matcher.get_error().split())
            raise ConfigurationError(f"expected a grammar llguidance can follow, saw: {reason[:300]}")


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
