"""Records runs: collects their interactions in the order they happen, and has each written at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentkit.cassette.format.entries import Entry, without_surrogates
from agentkit.cassette.format.file import Document
from agentkit.cassette.format.journal import Journal
from agentkit.cassette.format.outcome import Outcome, outcome_of
from agentkit.cassette.format.render import end_text, head_text, render
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.lanes import Lane, Lanes
from agentkit.errors import CassetteError
from agentkit.events import Finished
from agentkit.secrets import Secrets

Clock = Callable[[], float]


@dataclass(slots=True)
class Call:
    """A call of a model or a tool that is under way.

    `recorded`: something within it was, so it needs no entry. `silent`: nothing within it is.
    """

    started_s: float
    lane: Lane
    recorded: bool = False
    silent: bool = False
    outer: Call | None = None

    def mark(self) -> None:
        """An interaction was recorded within this call."""
        if self.silent:
            return
        self.recorded = True
        if self.outer is not None:
            self.outer.mark()


class Recording:
    """One recording. Threads may add to it. `before` is what an earlier one left, for this to go on with."""

    def __init__(
        self,
        path: Path,
        run: RunSpec | None,
        environment: Mapping[str, str],
        *,
        lanes: Lanes | None = None,
        before: Document | None = None,
        clock: Clock = time.monotonic,
    ) -> None:
        self.secrets = Secrets(environment)
        self.failure: CassetteError | None = None
        self._environment = environment
        self._run = run
        self._lanes = lanes or Lanes()
        self._clock = clock
        self._entries: list[Entry] = list(before.entries) if before else []
        self._head = dict(before.head) if before else {}
        self._remembered: dict[str, Any] = dict(self._head.pop("remembered", {}))
        self.secrets.used.update(self._head.pop("keys", ()))
        self._outcomes: dict[int, Outcome] = {}
        self._started_s = clock() - max((entry.at_ms for entry in self._entries), default=0) / 1000
        self._lock = threading.RLock()
        self._current: ContextVar[Call | None] = ContextVar("agentkit_recorded_call", default=None)
        self._open: list[Call] = []
        self._journal = Journal(path, self._refuse_secrets)

    def now_s(self) -> float:
        """The recording's clock."""
        return self._clock()

    # -- calls -----------------------------------------------------------------------------------------------------

    def begin(self, *, silent: bool = False) -> Call:
        """A call begins; end it with `end`."""
        outer = self._current.get()
        silent = silent or (outer is not None and outer.silent)
        call = Call(self._clock(), self._lanes.current, silent=silent, outer=outer)
        with self._lock:
            self._open.append(call)
        return call

    def end(self, call: Call) -> None:
        """The call is over, however."""
        with self._lock:
            self._open.remove(call)

    @property
    def is_silent(self) -> bool:
        """Whether what happens in this context is no part of the recording."""
        call = self._current.get()
        return call is not None and call.silent

    @contextmanager
    def within(self, call: Call) -> Iterator[None]:
        """What is recorded in this block belongs to `call`. A generator must not yield in it."""
        before = self._current.get()
        self._current.set(call)
        try:
            yield
        finally:
            self._current.set(before)

    def remembered(self, name: str, compute: Callable[[], Any]) -> Any:
        """Compute a value once, with nothing recorded meanwhile, and keep it in the head."""
        with self._lock:
            if name in self._remembered:
                return self._remembered[name]
        call = self.begin(silent=True)
        try:
            with self.within(call):
                value = compute()
        finally:
            self.end(call)
        with self._lock:
            return self._remembered.setdefault(name, value)

    # -- entries ---------------------------------------------------------------------------------------------------

    def add(self, entry: Entry, *, started_s: float) -> None:
        """Record an interaction that has just ended, within the call of this context."""
        if not self.is_silent:
            self._append(replace(entry, run=self._lanes.number()), started_s)
        if (call := self._current.get()) is not None:
            call.mark()

    def add_http(self, entry: Entry, *, started_s: float) -> None:
        """Record an exchange. In a thread that knows no context it may belong to any call under way."""
        calls = self._calls()
        if not calls or not all(call.silent for call in calls):
            lanes = {id(call.lane): call.lane for call in calls}
            lane = next(iter(lanes.values())) if len(lanes) == 1 else None
            self._append(replace(entry, run=self._lanes.number(lane)), started_s)
        self.mark_http()

    def mark_http(self) -> None:
        """An exchange of this context was recorded, now or earlier."""
        for call in self._calls():
            call.mark()

    def _calls(self) -> list[Call]:
        call = self._current.get()
        with self._lock:
            return list(self._open) if call is None else [call]

    def _append(self, entry: Entry, started_s: float) -> None:
        now_s = self._clock()
        ms, at_ms = round((now_s - started_s) * 1000), round((now_s - self._started_s) * 1000)
        timed = replace(self._scrubbed(entry), ms=ms, at_ms=at_ms)
        with self._lock:
            if self.failure is not None:
                raise self.failure
            self._entries.append(timed)
            try:
                self._journal.add(head_text(self._scrubbed_run(), self._whole_head()), self._entries)
            except CassetteError as error:
                self.failure = error
                raise

    def _scrubbed(self, entry: Entry) -> Entry:
        response = without_surrogates(self.secrets.scrub(entry.response))
        if response.get("string") != entry.response.get("string"):
            response.pop("pieces", None)  # lengths of a text that is no longer the same
        return replace(
            entry,
            uri=self.secrets.scrub_text(entry.uri),
            headers=self.secrets.scrub(entry.headers),
            body=without_surrogates(self.secrets.scrub(entry.body)),
            response_headers=self.secrets.scrub(entry.response_headers),
            response=response,
        )

    def _scrubbed_run(self) -> RunSpec | None:
        if self._run is None:
            return None
        return self._run.scrubbed(lambda value: without_surrogates(self.secrets.scrub(value)))

    # -- the file --------------------------------------------------------------------------------------------------

    def ended(self, finished: Finished) -> None:
        """How this context's run ended."""
        with self._lock:
            self._outcomes[self._lanes.number()] = outcome_of(finished, self.secrets.scrub)

    def save(self, *, complete: bool) -> Path | None:
        """Write the cassette, or say in the partial file that it ends here. `None` when nothing was recorded."""
        seconds = self._clock() - self._started_s
        with self._lock:
            if self.failure is not None:
                raise self.failure
            if complete:
                self._journal.finish(render(self._document(seconds)))
                return self._journal.path
            self._journal.end(end_text(outcomes=self._outcomes, seconds=seconds, complete=False))
            return self._journal.partial if self._entries else None

    def _document(self, seconds: float) -> Document:
        return Document(
            entries=[entry for entry in self._entries if not entry.begun],
            run=self._scrubbed_run(),
            head=self._whole_head(),
            outcomes=self._outcomes,
            complete=True,
            seconds=seconds,
        )

    def _whole_head(self) -> dict[str, Any]:
        from datetime import UTC, datetime

        self._head.setdefault("recorded", datetime.now(UTC).date().isoformat())
        head = dict(self._head)
        if self._remembered:
            head["remembered"] = without_surrogates(self.secrets.scrub(self._remembered))
        if self.secrets.used:
            head["keys"] = sorted(self.secrets.used)
        return head

    def _refuse_secrets(self, text: str) -> None:
        secrets, written = self.secrets, text
        if secrets.environment_changed():
            secrets, written = Secrets(self._environment), text + self._journal.written()
        if secret := secrets.find(written):
            self._journal.remove()
            raise CassetteError(
                f"{self._journal.path}: not written, {secret} is in it; keep it out of prompts and tool results"
            )
