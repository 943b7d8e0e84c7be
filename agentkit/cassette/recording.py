"""Records a run: collects its interactions in the order they happen, and writes them at the end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentkit.cassette.entries import Entry, without_surrogates
from agentkit.cassette.file import Document, render, save
from agentkit.cassette.run_spec import RunSpec
from agentkit.cassette.secrets import Secrets
from agentkit.errors import CassetteError

Clock = Callable[[], float]


@dataclass(slots=True)
class Call:
    """A call of a model or a tool that is under way. `recorded`: something within it was, so it needs no entry."""

    started_s: float
    recorded: bool = False
    outer: Call | None = None

    def mark(self) -> None:
        """An interaction was recorded within this call."""
        self.recorded = True
        if self.outer is not None:
            self.outer.mark()


class Recording:
    """One recording. Threads may add to it."""

    def __init__(
        self, path: Path, run: RunSpec | None, environment: Mapping[str, str], *, clock: Clock = time.monotonic
    ) -> None:
        self.path = path
        self.secrets = Secrets(environment)
        self._environment = environment
        self._run = run
        self._clock = clock
        self._started_s = clock()
        self._entries: list[Entry] = []
        self._lock = threading.Lock()
        self._current: ContextVar[Call | None] = ContextVar("agentkit_recorded_call", default=None)
        self._open: list[Call] = []
        _check_place(path)

    def now_s(self) -> float:
        """The recording's clock."""
        return self._clock()

    # -- calls -----------------------------------------------------------------------------------------------------

    def begin(self) -> Call:
        """A call begins; end it with `end`."""
        call = Call(self._clock(), outer=self._current.get())
        with self._lock:
            self._open.append(call)
        return call

    def end(self, call: Call) -> None:
        """The call is over, however."""
        with self._lock:
            self._open.remove(call)

    @contextmanager
    def within(self, call: Call) -> Iterator[None]:
        """What is recorded in this block belongs to `call`. A generator must not yield in it."""
        before = self._current.get()
        self._current.set(call)
        try:
            yield
        finally:
            self._current.set(before)

    # -- entries ---------------------------------------------------------------------------------------------------

    def add(self, entry: Entry, *, started_s: float) -> None:
        """Record an interaction that has just ended, within the call of this context."""
        self._append(entry, started_s)
        if (call := self._current.get()) is not None:
            call.mark()

    def add_http(self, entry: Entry) -> None:
        """Record an exchange. In a thread that knows no context it may belong to any call under way."""
        self._append(entry, self._clock())
        call = self._current.get()
        with self._lock:
            for one in self._open if call is None else [call]:
                one.mark()

    def _append(self, entry: Entry, started_s: float) -> None:
        now_s = self._clock()
        ms, at_ms = round((now_s - started_s) * 1000), round((now_s - self._started_s) * 1000)
        timed = replace(self._scrubbed(entry), ms=ms, at_ms=at_ms)
        with self._lock:
            self._entries.append(timed)

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
        values = {name: getattr(self._run, name) for name in ("inputs", "options", "prompt", "prompt_text")}
        return replace(self._run, **without_surrogates(self.secrets.scrub(values)))

    # -- the file --------------------------------------------------------------------------------------------------

    def save(self, *, complete: bool) -> Path | None:
        """Write the cassette. One that is not complete never replaces another: it goes beside it, as `*.partial.*`."""
        if not complete and not self._entries:
            return None
        run = self._scrubbed_run()
        document = Document(
            entries=self._entries,
            run=run,
            head=self._head(),
            complete=complete,
            seconds=self._clock() - self._started_s,
        )
        text = render(document)
        if secret := Secrets(self._environment).find(text):
            raise CassetteError(f"{self.path}: not written, {secret} is in it; keep it out of prompts and tool results")
        path = self.path
        if not complete and path.exists():
            path = path.with_name(f"{path.stem}.partial{path.suffix}")
        save(path, text)
        return path

    def _head(self) -> dict[str, Any]:
        from datetime import UTC, datetime

        head: dict[str, Any] = {"recorded": datetime.now(UTC).date().isoformat()}
        if self.secrets.used:
            head["keys"] = sorted(self.secrets.used)
        return head


def _check_place(path: Path) -> None:
    """Fail before the run, not after it."""
    if path.is_dir():
        raise CassetteError(f"{path}: expected a file for the cassette, saw a folder; name a file in it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CassetteError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
