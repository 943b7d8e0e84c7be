"""Holds a reply to a grammar: which tokens may come next, and which must (llguidance). A thought comes before it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy
import torch

from agentkit.errors import ConfigurationError, import_failure, in_one_line
from agentkit.react_json.marks import TABLE

CLOSERS = ("}", "]", '"', "\n", "`", "0", "e", "l", "u")  # what ends an object, a list, a string; a number, true, null
INSIDE = "q"  # where this may stand, so may nearly anything: inside a string, or in free text
GOES_ON = "\nAction:"  # what may end the free text of a turn


class GrammarVocabulary:
    """A model's vocabulary, prepared once for all grammars (about 1 s for 150,000 tokens)."""

    def __init__(self, tokenizer: Any, *, size: int, eos: Sequence[int]) -> None:
        try:
            import llguidance.hf
        except ImportError as error:
            reason = import_failure(error, "llguidance", purpose="for grammars")
            raise ConfigurationError(f'{reason}, or turn grammars off with constrain="off"') from error
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
    """One reply's place in a grammar (Lark text for llguidance), which holds once the model has thought.

    `thoughts` are the tokens that may open a thought, with those that close it: a vocabulary in which the tags are
    single tokens, as reasoning models have it. `closing` is that of a thought which the prompt has begun.
    """

    def __init__(
        self,
        grammar: str,
        vocabulary: GrammarVocabulary,
        *,
        thoughts: Mapping[int, int] = {},
        closing: int | None = None,
    ) -> None:
        from llguidance import LLMatcher

        self._matcher = LLMatcher(vocabulary.tokens, LLMatcher.grammar_from_lark(grammar), log_level=0)
        self._check()
        self._vocabulary = vocabulary
        self._bits = numpy.zeros((vocabulary.size + 31) // 32, dtype=numpy.int32)
        self._ending: list[int] = []
        self._thoughts = thoughts
        self._closing = closing

    @property
    def finished(self) -> bool:
        """Whether the grammar allows nothing more."""
        return self._matcher.is_stopped()

    def allowed(self) -> torch.Tensor:
        """A mask (vocabulary,) of the tokens that may come next."""
        if self._closing is not None:
            mask = torch.ones(self._vocabulary.size, dtype=torch.bool)
            mask[list(self._vocabulary.eos)] = False
            return mask
        self._matcher.unsafe_compute_mask_ptr(self._bits.ctypes.data, self._bits.nbytes)
        self._check()
        bits = numpy.unpackbits(self._bits.view(numpy.uint8), bitorder="little")
        mask = torch.from_numpy(bits[: self._vocabulary.size].view(numpy.bool_))
        mask[list(self._thoughts)] = True
        return mask

    def allows(self, token: int) -> bool:
        """Whether `token` may come next; far cheaper than the whole mask."""
        if token in self._vocabulary.eos:
            return self._closing is None and self._matcher.is_accepting()
        free = self._closing is not None or token in self._thoughts
        return free or self._matcher.validate_tokens([token]) == 1

    def begin(self) -> list[int]:
        """The tokens every reply begins with, already taken; none is certain while the model may still think."""
        return [] if self._thoughts or self._closing is not None else self._forced()

    def closer(self, *, text_only: bool = False) -> int | None:
        """A token that brings the reply nearer to its end: for when there is little room left.

        `text_only`: only one that ends free text, after which a reply has more to say than after the last of its JSON.
        """
        if self._closing is not None:
            return self._closing
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
        if self._closing is not None:
            if token != self._closing:
                return []
            self._closing = None
            return self._forced()
        self._closing, self._thoughts = self._thoughts.get(token), {}
        if self._closing is not None:
            return []
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
            reason = in_one_line(self._matcher.get_error(), 300)
            raise ConfigurationError(f"expected a grammar llguidance can follow, saw: {reason}")


def held_to(grammar: str, tokenizer: Any, vocabulary: GrammarVocabulary, *, begun: str) -> Constraint:
    """What holds a reply to `grammar` once the model has thought; `begun` is the tag of a thought in the prompt."""
    added = tokenizer.get_added_vocab()
    if not begun:
        pairs = TABLE.thinking.items()
        thoughts = {added[first]: added[last] for first, last in pairs if first in added and last in added}
        return Constraint(grammar, vocabulary, thoughts=thoughts)
    closing = TABLE.thinking[begun]
    if closing not in added:  # no token to wait for, so the grammar takes in the rest of the thought
        spelled = re.escape(closing).replace("/", r"\/")
        rest = f"start: thought answer\nthought[lazy]: /(.|\\n)*{spelled}/\nanswer:"
        grammar = re.sub(r"^start\s*:", lambda _: rest, grammar, count=1, flags=re.MULTILINE)
    return Constraint(grammar, vocabulary, closing=added.get(closing))


def begun_thought(prompt: str) -> str:
    """The tag with which a prompt has begun the model's thought; "" where it has not."""
    end = prompt.rstrip()
    return max((tag for tag in TABLE.thinking if end.endswith(tag)), key=len, default="")
