"""Our own token loop: every token goes through the model once, forced tokens together, several sequences together."""

from __future__ import annotations

import copy
import threading
from collections import deque
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

import torch
from tokenizers.decoders import DecodeStream

from agentkit.models.local.attention_cache import BatchCache, fork
from agentkit.models.local.forward import Forward
from agentkit.models.local.media import MediaInputs
from agentkit.models.local.prefix_cache import CachedPrefix, PrefixCache, common_prefix
from agentkit.models.local.sampling import Choice, Sampler
from agentkit.models.local.thoughts import ReplyWatch
from agentkit.models.local.weights import Weights

WAIT_S = 1.0  # callers whose tokens another thread computes are woken; this is for the case that it dies
MOST_ROWS = 16  # replies under way at once; more callers wait, or their caches would outgrow the memory
CONTEXT = 6  # prompt tokens a decoder needs to join the first generated token to (a leading space, an open character)
MOST_SHARED = 8  # forced tokens fed one by one with the other rows; more are cheaper in a forward of their own


@dataclass(frozen=True, slots=True)
class NewToken:
    """A token and the text it completes; the last one has a `finish_reason`."""

    choice: Choice
    text: str = ""
    finish_reason: str | None = None


@dataclass(eq=False, slots=True)
class TokenSequence:
    """One reply being decoded. `ids` are the prompt's and the reply's tokens, the first `computed` are in `cache`.

    A sequence with `media` decodes alone, and shares what was computed with none but those that continue it. One that
    is `alone` shares nothing at all. `adapter` is the one that computes it, where not the active ones do.
    `detokenize` turns a token into text; `watch` sees that text.
    """

    ids: list[int]
    sampler: Sampler
    detokenize: Callable[[int], str]
    watch: ReplyWatch
    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed: int = 0
    cache: Any = None
    media: MediaInputs | None = None
    alone: bool = False
    adapter: str | None = None
    age: int = 0  # of what is kept, when it was let in
    finished: bool = False
    out: SimpleQueue[NewToken | Exception | None] = field(default_factory=SimpleQueue)

    @property
    def room(self) -> int:
        """How many tokens may still come."""
        return self.sampler.max_new_tokens - (len(self.ids) - self.prompt_tokens)

    def prefix(self, cache: Any, media: str = "") -> CachedPrefix:
        """What is computed of it so far, to be kept."""
        return CachedPrefix(self.ids[: self.computed], cache, self.prompt_tokens, media, self.adapter, self.age)


class Decoder:
    """Decodes sequences on one model. Whichever caller finds the model free computes for all that are under way."""

    def __init__(
        self, forward: Forward, prefixes: PrefixCache, weights: Weights, *, most_rows: int = MOST_ROWS
    ) -> None:
        self._forward = forward
        self._weights = weights
        self._most_rows = most_rows
        self._prefixes = prefixes
        self._lock = threading.Lock()
        self._arriving: deque[TokenSequence] = deque()
        self._leaving: deque[TokenSequence] = deque()
        self._active: list[TokenSequence] = []
        self._batch = BatchCache()

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
            sequence.finished = True
            self._leaving.append(sequence)
            while self._leaving and self._if_free(self._settle):
                pass  # who computes meanwhile settles it

    def _next(self, sequence: TokenSequence) -> NewToken:
        while True:
            try:
                new = sequence.out.get_nowait()
            except Empty:
                if self._if_free(self._step):
                    continue
                try:
                    new = sequence.out.get(timeout=WAIT_S)
                except Empty:
                    continue
            if isinstance(new, Exception):
                raise new
            if new is not None:
                return new

    def _if_free(self, work: Callable[[], None]) -> bool:
        """Do `work` on the model, unless another thread is at it; then wake those who found it taken."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            work()
        finally:
            self._lock.release()
            for waiting in (*self._arriving, *self._active):
                if waiting.out.empty():
                    waiting.out.put(None)
        return True

    def _step(self) -> None:
        """Compute a token for everyone."""
        self._settle()
        while self._arriving and len(self._active) < self._most_rows:
            self._admit(self._arriving.popleft())
        running = [sequence for sequence in self._active if not sequence.finished]
        together = [sequence for sequence in running if self._can_share_a_step(sequence)]
        self._gather(together if len(together) > 1 else [])
        alone = [sequence for sequence in running if sequence not in self._batch.owners]
        if self._batch.owners:
            self._step_together()
        for sequence in alone:
            self._step_alone(sequence)

    def _can_share_a_step(self, sequence: TokenSequence) -> bool:
        if not self._forward.can_batch or sequence.media is not None or sequence.alone or sequence.adapter is not None:
            return False
        known = sequence.cache is not None or sequence in self._batch.owners  # else lost to an interrupt
        few = 0 < len(sequence.ids) - sequence.computed <= MOST_SHARED
        return known and few and not self._forward.outdates(sequence.computed, sequence.computed + 1)

    def _gather(self, wanted: list[TokenSequence]) -> None:
        """Let those and no others take their steps together."""
        batch, self._batch = self._batch, BatchCache()  # an interrupt leaves rows that must not be used
        for sequence in [row for row in batch.owners if row not in wanted]:
            sequence.cache = batch.remove(sequence)
        coming = [sequence for sequence in wanted if sequence not in batch.owners]
        batch.add([(sequence, sequence.cache) for sequence in coming])
        for sequence in coming:
            sequence.cache = None
        if batch.owners:
            self._batch = batch

    def _admit(self, sequence: TokenSequence) -> None:
        """Let a sequence in: its prompt is computed from the longest beginning that is known already."""
        self._active.append(sequence)
        with _errors_go_to(sequence):
            if self._weights.changed():
                self._prefixes.clear()
                self._forward.renew()
            sequence.age = self._prefixes.age
            if self._forward.can_reuse_at(len(sequence.ids)) and not sequence.alone:
                self._reuse(sequence)
            sequence.cached_tokens = sequence.computed
            if sequence.sampler.constraint is not None:
                for token in sequence.sampler.constraint.begin():
                    _append(sequence, Choice(token), complete=False)
            _close_thought(sequence)
        if not sequence.finished:
            self._step_alone(sequence)
            self._weights.computed()
        kept = sequence.cache is not None and sequence.media is None and not sequence.alone
        if self._forward.reuse == "extend" and kept:
            snapshot = copy.deepcopy(sequence.cache)  # it cannot be cut back to here later
            self._prefixes.put(sequence.prefix(snapshot))

    def _reuse(self, sequence: TokenSequence) -> None:
        """Begin with what an earlier or another running sequence has computed of the same prompt."""
        if (media := sequence.media) is not None:
            if media.key is not None:
                sequence.cache, sequence.computed = self._prefixes.take(
                    sequence.ids, media=media.key, adapter=sequence.adapter, least=media.end
                )
            return
        sequence.cache, sequence.computed = self._prefixes.take(sequence.ids, adapter=sequence.adapter)
        if self._forward.reuse != "crop":
            return
        others = [
            other
            for other in self._active
            if other is not sequence
            and other.media is None
            and (other.adapter, other.age, other.alone) == (sequence.adapter, sequence.age, False)
        ]
        shared = [min(common_prefix(sequence.ids, o.ids[: o.computed]), len(sequence.ids) - 1) for o in others]
        longest = max(shared, default=0)
        if longest > sequence.computed:
            sequence.cache = self._copy(others[shared.index(longest)], longest)
            sequence.computed = longest if sequence.cache is not None else 0

    def _copy(self, other: TokenSequence, length: int) -> Any:
        """The first `length` tokens of a running sequence's cache, if it has one."""
        if other in self._batch.owners:
            return self._batch.copy(other, length)
        return None if other.cache is None else fork(other.cache, slice(length))

    def _step_alone(self, sequence: TokenSequence) -> None:
        with _errors_go_to(sequence):
            self._advance(sequence, self._logits(sequence))

    def _logits(self, sequence: TokenSequence) -> torch.Tensor:
        """The logits (1, vocabulary) after the sequence's last token."""
        cache, sequence.cache = sequence.cache, None  # an interrupted forward leaves a cache that must not be used
        if sequence.computed == len(sequence.ids):  # interrupted after the forward: its logits are gone
            cache = None
        if self._forward.outdates(sequence.computed, len(sequence.ids)):
            cache = None
        with self._weights.adapter(sequence.adapter):
            logits, sequence.cache = self._forward(
                sequence.ids,
                sequence.computed if cache is not None else 0,
                cache,
                sequence.media,
                in_its_own_way=sequence.alone,
            )
        sequence.computed = len(sequence.ids)
        return logits

    def _step_together(self) -> None:
        batch, self._batch = self._batch, BatchCache()
        rows: list[TokenSequence] = list(batch.owners)
        with _errors_go_to(*rows):
            logits = self._forward.batch([s.ids[s.computed] for s in rows], batch)
            self._batch = batch
            for number, sequence in enumerate(rows):
                sequence.computed += 1
                if sequence.computed == len(sequence.ids):  # else the grammar forced what comes next
                    with _errors_go_to(sequence):
                        self._advance(sequence, logits[number : number + 1])

    def _advance(self, sequence: TokenSequence, logits: torch.Tensor) -> None:
        """Choose the next token, and take those that must follow it."""
        _take(sequence, sequence.sampler.choose(sequence.ids, logits, room=sequence.room))

    def _settle(self) -> None:
        """Let go of sequences whose callers are done; what was computed is kept for prompts that go on from it."""
        while self._leaving:
            sequence = self._leaving.popleft()
            if sequence in self._arriving:
                self._arriving.remove(sequence)
                continue
            if sequence in self._batch.owners:
                self._gather([row for row in self._batch.owners if row is not sequence])
            if sequence in self._active:
                self._active.remove(sequence)
            self._keep(sequence)

    def _keep(self, sequence: TokenSequence) -> None:
        cache, sequence.cache = sequence.cache, None
        media = "" if sequence.media is None else sequence.media.key
        if cache is None or media is None or sequence.alone:
            return
        if not media or self._forward.holds(cache, sequence.computed):
            self._prefixes.put(sequence.prefix(cache, media))


def _take(sequence: TokenSequence, choice: Choice) -> None:
    """Append a token, those that the grammar forces after it, and those that close a thought which is long enough."""
    sampler, constraint = sequence.sampler, sequence.sampler.constraint
    forced: list[int] = []
    if constraint is not None and choice.token not in sampler.eos:
        forced = constraint.accept(choice.token)
    complete = sampler.ends(sequence.ids) or (constraint is not None and constraint.finished)
    new = [choice, *map(Choice, forced)]
    for each in new:
        _append(sequence, each, complete=complete and each is new[-1])
        if sequence.finished:
            return
    _close_thought(sequence)


def _close_thought(sequence: TokenSequence) -> None:
    sampler = sequence.sampler
    is_late = sampler.constraint is not None and sampler.is_nearly_full(sequence.room)
    held = sampler.constraint is not None
    allows = sampler.constraint.allows if sampler.constraint is not None else None
    for token in sequence.watch.closing(is_late=is_late, held=held, allows=allows):
        if sequence.finished or not sequence.watch.is_closing:  # a grammar forces the rest of a tag
            return
        _take(sequence, Choice(token))


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


@contextmanager
def _errors_go_to(*sequences: TokenSequence) -> Iterator[None]:
    """An error belongs to the callers of these sequences, who may be other threads."""
    try:
        yield
    except Exception as error:
        for sequence in sequences:
            sequence.finished = True
            sequence.out.put(error)


class Detokenizer:
    """Turns a new token into the text it completes: "" while a character is unfinished, and for tokens `left_out`."""

    def __init__(self, tokenizer: Any, prompt_ids: Sequence[int], *, left_out: Collection[int] = ()) -> None:
        self._left_out = left_out
        self._tokenizer = tokenizer
        self._context = [token for token in prompt_ids[-CONTEXT:] if token not in left_out]
        self._step: Callable[[int], str | None] = self._slow_step
        if backend := getattr(tokenizer, "backend_tokenizer", None):
            stream = DecodeStream(ids=self._context, skip_special_tokens=False)
            self._step = lambda token: stream.step(backend, token)

    def feed(self, token: int) -> str:
        """The text that `token` completes."""
        return "" if token in self._left_out else self._step(token) or ""

    def _slow_step(self, token: int) -> str | None:
        before: str = self._tokenizer.decode(self._context, skip_special_tokens=False)
        after: str = self._tokenizer.decode([*self._context, token], skip_special_tokens=False)
        self._context.append(token)
        if after.endswith("\ufffd"):
            return ""
        self._context = self._context[-CONTEXT:]
        return after[len(before.rstrip("\ufffd")) :]
