"""Our own token loop: every token goes through the model once, forced tokens together, several sequences together."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

from agentkit.models.batch_cache import BatchCache, fork
from agentkit.models.forward import Forward
from agentkit.models.prefix_cache import CachedPrefix, PrefixCache, common_prefix
from agentkit.models.sampling import Choice, Sampler

if TYPE_CHECKING:
    import torch

POLL_S = 0.005  # how often a caller whose tokens another thread computes looks whether it must compute itself


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token and the text it completes; the last one has a `finish_reason`."""

    choice: Choice
    text: str = ""
    finish_reason: str | None = None


@dataclass(eq=False, slots=True)
class TokenSequence:
    """One reply being decoded. `ids` are the prompt's and the reply's tokens, the first `computed` are in `cache`.

    `media` are inputs beyond tokens, for the first forward: such a sequence shares nothing with others.
    `detokenize` turns a token into text; `watch` sees that text and says whether the reply is complete.
    """

    ids: list[int]
    sampler: Sampler
    detokenize: Callable[[int], str]
    watch: Callable[[str], bool]
    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed: int = 0
    cache: Any = None
    media: Mapping[str, Any] | None = None
    finished: bool = False
    out: SimpleQueue[NewToken | Exception] = field(default_factory=SimpleQueue)

    @property
    def room(self) -> int:
        """How many tokens may still come."""
        return self.sampler.max_new_tokens - (len(self.ids) - self.prompt_tokens)


class Decoder:
    """Decodes sequences on one model. Whichever caller finds the model free computes for all that are under way."""

    def __init__(self, forward: Forward, prefixes: PrefixCache) -> None:
        self._forward = forward
        self._prefixes = prefixes
        self._lock = threading.Lock()
        self._arriving: deque[TokenSequence] = deque()
        self._active: list[TokenSequence] = []
        self._together: list[TokenSequence] = []
        self._batch: BatchCache | None = None

    def decode(self, sequence: TokenSequence) -> Generator[NewToken]:
        """The reply's tokens as they come; closing the iterator ends the sequence."""
        sequence.prompt_tokens = len(sequence.ids)
        self._arriving.append(sequence)
        try:
            while True:
                new = self._next(sequence)
                yield new
                if new.finish_reason:
                    return
        finally:
            self._leave(sequence)

    def _next(self, sequence: TokenSequence) -> NewToken:
        while True:
            try:
                new = sequence.out.get_nowait()
            except Empty:
                if self._try_step():
                    continue
                try:
                    new = sequence.out.get(timeout=POLL_S)
                except Empty:
                    continue
            if isinstance(new, Exception):
                raise new
            return new

    def _try_step(self) -> bool:
        """Compute one token for everyone, unless another thread is doing so."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._step()
        finally:
            self._lock.release()
        return True

    def _step(self) -> None:
        if self._arriving:
            self._part()
        while self._arriving:
            self._admit(self._arriving.popleft())
        running = [sequence for sequence in self._active if not sequence.finished]
        together = [sequence for sequence in running if self._can_share_a_step(sequence)]
        if len(together) > 1:
            self._step_together(together)
        else:
            self._part()
            together = []
        for sequence in running:
            if sequence not in together:
                self._step_alone(sequence)

    def _can_share_a_step(self, sequence: TokenSequence) -> bool:
        outdated = self._forward.outdates(sequence.computed, sequence.computed + 1)
        return self._forward.can_batch and sequence.media is None and not outdated

    def _admit(self, sequence: TokenSequence) -> None:
        """Let a sequence in: its prompt is computed from the longest beginning that is known already."""
        if sequence.media is None and self._forward.can_reuse_at(len(sequence.ids)):
            self._reuse(sequence)
        sequence.cached_tokens = sequence.computed
        self._active.append(sequence)
        if sequence.sampler.constraint is not None:
            for token in sequence.sampler.constraint.begin():
                _append(sequence, Choice(token), complete=False)
        if not sequence.finished:
            self._step_alone(sequence)
        if self._forward.reuse == "extend" and sequence.cache is not None and sequence.media is None:
            snapshot = copy.deepcopy(sequence.cache)  # it cannot be cut back to the prompt's end later
            ids = sequence.ids[: sequence.prompt_tokens]
            self._prefixes.put(CachedPrefix(ids, snapshot, sequence.prompt_tokens))

    def _reuse(self, sequence: TokenSequence) -> None:
        """Begin with what an earlier or another running sequence has computed of the same prompt."""
        sequence.cache, sequence.computed = self._prefixes.take(sequence.ids)
        for other in self._active:
            if self._forward.reuse == "crop" and other.cache is not None and other.media is None:
                shared = min(common_prefix(sequence.ids, other.ids[: other.computed]), len(sequence.ids) - 1)
                if shared > sequence.computed:
                    sequence.cache, sequence.computed = fork(other.cache, shared), shared

    def _step_alone(self, sequence: TokenSequence) -> None:
        try:
            self._advance(sequence, self._logits(sequence))
        except Exception as error:  # belongs to the caller of this sequence, who may be another thread
            _fail(sequence, error)

    def _logits(self, sequence: TokenSequence) -> torch.Tensor:
        """The logits (1, vocabulary) after the sequence's last token."""
        cache, sequence.cache = sequence.cache, None  # an interrupted forward leaves a cache that must not be used
        if sequence.computed == len(sequence.ids):  # interrupted after the forward: its logits are gone
            cache = None
        if self._forward.outdates(sequence.computed, len(sequence.ids)):
            cache = None
        logits, sequence.cache = self._forward(
            sequence.ids, sequence.computed if cache is not None else 0, cache, sequence.media
        )
        sequence.computed = len(sequence.ids)
        return logits

    def _step_together(self, running: list[TokenSequence]) -> None:
        if running != self._together or self._batch is None:
            self._part()
            for sequence in running:
                if sequence.cache is None:  # lost to an interrupt
                    self._step_alone(sequence)
            running = [s for s in running if s.cache is not None and not s.finished]
            if len(running) < 2:
                return
            self._join(running)
        assert self._batch is not None
        batch, self._batch = self._batch, None
        mask, positions = batch.grow(self._forward.device)
        try:
            logits = self._forward.batch([s.ids[s.computed] for s in running], batch.cache, mask, positions)
        except Exception as error:
            for sequence in running:
                _fail(sequence, error)
            return
        self._batch = batch
        for number, sequence in enumerate(running):
            sequence.computed += 1
            if sequence.computed == len(sequence.ids):  # else the grammar forced what comes next
                try:
                    self._advance(sequence, logits[number : number + 1])
                except Exception as error:
                    _fail(sequence, error)

    def _join(self, running: list[TokenSequence]) -> None:
        caches = [sequence.cache for sequence in running]
        self._batch, self._together = BatchCache(caches, [s.computed for s in running]), list(running)
        for sequence in running:
            sequence.cache = None

    def _part(self) -> None:
        """Give every sequence of the batch its own cache back."""
        if self._batch is not None:
            for number, sequence in enumerate(self._together):
                sequence.cache = self._batch.row(number, own=sequence.finished)
        self._batch, self._together = None, []

    def _advance(self, sequence: TokenSequence, logits: torch.Tensor) -> None:
        """Choose the next token, and take those the grammar forces after it."""
        sampler, constraint = sequence.sampler, sequence.sampler.constraint
        choice = sampler.choose(sequence.ids, logits, room=sequence.room)
        forced: list[int] = []
        if constraint is not None and choice.token not in sampler.eos:
            forced = constraint.accept(choice.token)
        complete = sampler.ends(sequence.ids) or (constraint is not None and constraint.finished)
        new = [choice, *map(Choice, forced)]
        for each in new:
            _append(sequence, each, complete=complete and each is new[-1])
            if sequence.finished:
                return

    def _leave(self, sequence: TokenSequence) -> None:
        with self._lock:
            if sequence in self._arriving:
                self._arriving.remove(sequence)
            if sequence in self._together:
                sequence.finished = True
                self._part()
            if sequence in self._active:
                self._active.remove(sequence)
            if sequence.cache is not None and sequence.media is None:
                ids = sequence.ids[: sequence.computed]
                self._prefixes.put(CachedPrefix(ids, sequence.cache, sequence.prompt_tokens))
                sequence.cache = None


def _append(sequence: TokenSequence, choice: Choice, *, complete: bool) -> None:
    sampler = sequence.sampler
    sequence.ids.append(choice.token)
    ends = choice.token in sampler.eos
    text = "" if ends else sequence.detokenize(choice.token)
    reason = None
    if ends or sequence.watch(text) or complete:
        reason = "stop"
    elif sequence.room <= 0:
        reason = "length"
    sequence.finished = reason is not None
    sequence.out.put(NewToken(choice, text, reason))


def _fail(sequence: TokenSequence, error: Exception) -> None:
    sequence.finished = True
    sequence.out.put(error)
