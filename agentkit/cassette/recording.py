"""Records runs: collects their interactions and events in the order they happen, and has each written at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from agentkit.cassette.format.entries import Entry, without_surrogates
from agentkit.cassette.format.event_stream import scrubbed_lines
from agentkit.cassette.format.events import Item, RecordedEvent, as_mapping
from agentkit.cassette.format.file import Document, without_result
from agentkit.cassette.format.place import Place
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.format.turns import scrubbed_reply
from agentkit.cassette.format.writer import Journal
from agentkit.cassette.lanes import Lane, Lanes
from agentkit.errors import CassetteError
from agentkit.events import BrokenOff, Event, Finished, LimitReached, RunStarted, Thought
from agentkit.react_json.scratchpad import CLOSING_NOTE
from agentkit.react_json.summary import INSTRUCTION
from agentkit.secrets import Secrets

Stands = Callable[[Entry], bool]


@dataclass(slots=True, eq=False)
class Call:
    """A call of a model or a tool that is under way; nothing happens to one in a replay, which has no `recording`.

    It is recorded once: by what was recorded within it, by its exchanges over HTTP (`held` until its end) if one of
    them `stands` for it, else by its own result. `silent`: nothing within it is recorded. `unsure`: there was HTTP of a
    thread that does not say whether it belongs to this call or to another, so that a replay must do without.
    """

    recording: Recording | None
    lane: Lane
    started_s: float = 0.0
    silent: bool = False
    stands: Stands | None = None
    outer: Call | None = None
    recorded: bool = False
    ended: bool = False
    unsure: bool = False
    held: list[Entry] = field(default_factory=list)

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function gives; what is recorded meanwhile belongs to this call."""
        with self._within():
            return function(*args)

    async def arun(self, awaitable: Awaitable[Any]) -> Any:
        """`run`, awaiting."""
        with self._within():
            return await awaitable

    def _within(self) -> AbstractContextManager[None]:
        return nullcontext() if self.recording is None else self.recording.within(self)

    def add(self, make: Callable[[], Entry]) -> None:
        """The call came to its end: record its result, unless something within it stands for it."""
        if self.recording is not None:
            self.recording.end(self, make)

    def keeps_http(self, *, has_result: bool) -> bool:
        """Whether its exchanges are enough to have its result again; without a result, whether they asked a model."""
        return not self.unsure and any(
            self.stands is None or self.stands(entry) or (not has_result and entry.asks_a_model) for entry in self.held
        )

    def mark(self) -> None:
        """An interaction was recorded within this call."""
        if self.silent:
            return
        self.recorded = True
        if self.outer is not None:
            self.outer.mark()


class Recording:
    """One recording. Threads may add to it. It goes on with what an earlier one left, `before`."""

    def __init__(
        self,
        place: Place,
        run: RunSpec | None,
        environment: Mapping[str, str],
        *,
        lanes: Lanes,
        before: Document,
    ) -> None:
        self.secrets = Secrets(environment)
        self.failure: CassetteError | None = None
        self._environment = environment
        self._run = run
        self._lanes = lanes
        self._open_before = before.begun  # which stay open until they are decided
        self._items: list[Item] = [*before.items, *before.begun]
        self._head = dict(before.head)
        self._remembered: dict[str, Any] = dict(self._head.pop("remembered", {}))
        self.secrets.used.update(self._head.pop("keys", ()))
        self._started_s = time.monotonic() - max((entry.at_ms for entry in before.entries), default=0) / 1000
        self._lock = threading.RLock()
        self._current: ContextVar[Call | None] = ContextVar("agentkit_recorded_call", default=None)
        self._open: list[Call] = []
        self._journal = Journal(place, self._refuse_secrets)

    # -- calls -----------------------------------------------------------------------------------------------------

    @contextmanager
    def call(self, *, silent: bool = False, stands: Stands | None = None) -> Iterator[Call]:
        """A call, from its beginning to its end, however."""
        outer = self._current.get()
        silent = silent or (outer is not None and outer.silent)
        call = Call(self, self._lanes.current, time.monotonic(), silent, stands, outer)
        with self._lock:
            self._open.append(call)
        try:
            yield call
        finally:
            with self._lock:
                self._open.remove(call)
            if not call.ended:
                self.end(call)

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
        with self.call(silent=True) as call:
            value = call.run(compute)
        with self._lock:
            return self._remembered.setdefault(name, value)

    # -- entries ---------------------------------------------------------------------------------------------------

    def end(self, call: Call, result: Callable[[], Entry] | None = None) -> None:
        """Record a call that has ended: by its exchanges, else by its result, if it came to one."""
        with self._lock:
            call.ended = True
            if call.recorded or call.keeps_http(has_result=result is not None):
                for entry in call.held:
                    self._write(entry)
                if call.held:
                    call.mark()
            elif result is not None and not self.is_silent:
                self._write(self._timed(result(), self._lanes.number(), call.started_s))
                if call.outer is not None:
                    call.outer.mark()

    def add_http(self, entry: Entry, *, started_s: float) -> None:
        """Record an exchange with the call that it belongs to; where that may be another one, neither needs it."""
        calls = self._calls()
        call = calls[0] if calls else None
        with self._lock:
            if len(calls) > 1:
                for one in calls:
                    one.unsure = True
            elif call is None or not call.silent:
                timed = self._timed(entry, self._lanes.number(call.lane if call is not None else None), started_s)
                if call is None or call.recorded:
                    self._write(timed)
                elif not call.ended:
                    call.held.append(timed)

    def runs_again(self, begun: Entry) -> None:
        """A call that was under way begins anew, and what is written of that stands for both."""
        with self._lock:
            self._items = [item for item in self._items if item is not begun]
            self._journal.rewrite()

    def mark_http(self, entry: Entry) -> None:
        """An exchange of this context was recorded earlier."""
        for call in self._calls():
            if call.stands is None or call.stands(entry):
                call.mark()

    def _calls(self) -> list[Call]:
        """This context's call; in a thread that knows no context, each that is under way."""
        call = self._current.get()
        if call is not None:
            return [call]
        with self._lock:
            outer = {call.outer for call in self._open}
            return [call for call in self._open if call not in outer]

    def _timed(self, entry: Entry, run: int, started_s: float) -> Entry:
        """An entry of what has just ended, as it may be written."""
        now_s = time.monotonic()
        ms, at_ms = round((now_s - started_s) * 1000), round((now_s - self._started_s) * 1000)
        return replace(self._scrubbed(entry), run=run, ms=ms, at_ms=at_ms)

    def event(self, event: Event, *, after: Entry | None = None) -> None:
        """Record an event of this context's run: the newest of all, or one that belongs `after` an earlier entry."""
        if self.is_silent:
            return
        values = without_surrogates(self.secrets.scrub(as_mapping(event)))
        item = RecordedEvent(event, self._lanes.number(), values)
        with self._lock:
            if after is None:
                self._write(item)
                return
            place = next(place for place, other in enumerate(self._items, 1) if other is after)
            while place < len(self._items) and isinstance(self._items[place], RecordedEvent):
                place += 1
            self._items.insert(place, item)
            self._journal.rewrite()

    def _write(self, item: Item) -> None:
        """Events wait for the first interaction, and stand below it: without one there is nothing to go on from."""
        if self.failure is not None:
            raise self.failure
        is_first = isinstance(item, Entry) and not self._holds_entries
        self._items.insert(0 if is_first else len(self._items), item)
        if not self._holds_entries:
            return
        try:
            self._journal.add(self.written_run, self._whole_head(), self._items)
        except CassetteError as error:
            self.failure = error
            raise

    @property
    def _holds_entries(self) -> bool:
        entries = (item for item in self._items if isinstance(item, Entry))
        return any(all(entry is not open_ for open_ in self._open_before) for entry in entries)

    def _scrubbed(self, entry: Entry) -> Entry:
        response = dict(entry.response)
        if entry.kind == "turn":
            response = scrubbed_reply(response, self.secrets)
        else:
            response = dict(self.secrets.scrub(response))
            if isinstance(text := response.get("string"), str):
                response["string"] = scrubbed_lines(text, self.secrets)
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

    @cached_property
    def written_run(self) -> RunSpec | None:
        """The description of the run as it stands in the file."""
        return self._run and self._run.scrubbed(lambda value: without_surrogates(self.secrets.scrub(value)))

    # -- the file --------------------------------------------------------------------------------------------------

    def save(self, *, complete: bool) -> None:
        """Write the cassette, or say in the partial file that it ends here."""
        seconds = time.monotonic() - self._started_s
        with self._lock:
            if self.failure is not None:
                raise self.failure
            gap = self._gap() if complete else ""
            if complete and not gap:
                self._journal.finish(self._document(seconds))
                return
            self._journal.stop(seconds)
            if gap:
                raise CassetteError(f"{self._journal.path}: {gap}")

    def _gap(self) -> str:
        """What is missing, of a run whose model was asked past the cassette."""
        recorded = {item.run for item in self._items if isinstance(item, Entry) and item.kind != "tool"}
        ends = [item for item in self._items if isinstance(item, RecordedEvent) and isinstance(item.event, Finished)]
        for run in (item.run for item in ends if item.run not in recorded and _tokens(item.event)):
            return f"not complete, run {run} asked a model of which nothing was recorded; give the executor the model"
        return ""

    def _document(self, seconds: float) -> Document:
        still_open = without_result(item for item in self._items if isinstance(item, Entry))
        ended = [item for item in self._items if not (isinstance(item, Entry) and item.begun)]
        return Document(
            items=[*ended, *still_open],  # a run that ended at a limit goes on, and may come to such a call again
            run=self.written_run,
            head=self._whole_head(),
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


def _tokens(event: Event) -> int:
    return event.summary.usage.total_tokens if isinstance(event, Finished) else 0


# -- to go on from -----------------------------------------------------------------------------------------------------

_CLOSING = CLOSING_NOTE.strip().partition("`")[0]  # the words in it that a prompt may not defuse


def without_loose_ends(document: Document) -> Document:
    """A recording up to where it was cut off, less what broke it off, which is tried again, and what closed the run."""
    items = list(document.items)
    for run in document.runs:
        items = _without_loose_end(items, run)
    return replace(document, items=items, endings={}, complete=False)


def _without_loose_end(items: list[Item], run: int) -> list[Item]:
    own = [place for place, item in enumerate(items) if item.run == run]
    ends = (place for place in own if _is_end(items[place]))
    end = next(ends, len(items))
    loose = {place for place in own if place >= end and not _is_result(items[place])}
    broke_off = any(_is_event(item, BrokenOff) for item in items[end : end + 1])
    for place in reversed([place for place in own if place < end]):
        if _is_event(items[place], RunStarted):  # it is written behind what a run asked first
            continue
        if not _is_loose(items[place], broke_off=broke_off):
            break
        loose.add(place)
    left = [item for place, item in enumerate(items) if place not in loose]
    if any(isinstance(item, Entry) and item.run == run for item in left):
        return left
    return [item for item in left if item.run != run]


def _is_end(item: Item) -> bool:
    return _is_event(item, LimitReached, Finished, BrokenOff)


def _is_event(item: Item, *kinds: type[Event]) -> bool:
    return isinstance(item, RecordedEvent) and isinstance(item.event, kinds)


def _is_result(item: Item) -> bool:
    """Whether it came of a tool, which may have run on after the end."""
    return isinstance(item, Entry) and not item.asks_a_model


def _is_loose(item: Item, *, broke_off: bool) -> bool:
    """Whether nothing came of what was recorded last; where events were recorded, they would stand behind it."""
    if not isinstance(item, Entry):
        return broke_off and _is_event(item, Thought)
    if item.response.get("closed") is True or item.has_failed:
        return True
    return item.asks_a_model and (broke_off or is_asked_to_close(item) or is_asked_to_sum_up(item))


def is_asked_to_close(entry: Entry) -> bool:
    """Whether the model was asked for its last answer, by the words for that in its prompt."""
    return _CLOSING in _last_message(entry)


def is_asked_to_sum_up(entry: Entry) -> bool:
    """Whether the model was asked for a summary of steps."""
    return INSTRUCTION in _last_message(entry)


def _last_message(entry: Entry) -> str:
    messages = entry.body.get("messages") if isinstance(entry.body, Mapping) else None
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    return str(last.get("content") if isinstance(last, dict) else "")
