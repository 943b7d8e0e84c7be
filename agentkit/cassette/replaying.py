"""Replays a run: hands out what was recorded, and insists that the run asks for exactly that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agentkit.cassette.drift import Drift, NetworkBlocked, diff_lines, difference
from agentkit.cassette.entries import Entry, Kind, tool_uri, without_surrogates
from agentkit.cassette.file import Document
from agentkit.cassette.secrets import Secrets
from agentkit.errors import CassetteDrift, CassetteError

_T = TypeVar("_T")
_E = TypeVar("_E", bound=CassetteDrift)


class Replaying:
    """One replay. The first drift is kept and raised again at every later question and at the end."""

    def __init__(self, path: Path, document: Document, environment: Mapping[str, str]) -> None:
        self.path = path
        self.secrets = Secrets(environment)
        self.drift: CassetteDrift | None = None
        self._document = document
        self._entries = document.entries
        self._unplayed = dict(enumerate(document.entries))
        self._clock_ms = 0
        self._turns = 0
        self._lock = threading.RLock()

    def has(self, kind: Kind) -> bool:
        """Whether the recording holds any of this kind."""
        return any(entry.kind == kind for entry in self._entries)

    def clock_s(self) -> float:
        """Seconds from the start of the recorded run to what was played last."""
        return self._clock_ms / 1000

    # -- questions -------------------------------------------------------------------------------------------------

    def turn(self, body: Mapping[str, Any], *, any_model: bool = False) -> Entry:
        """The model's next turn; what it is asked must be what it was asked. `any_model`: the name is not compared."""
        with self._lock:
            self._raise_again()
            self._turns += 1
            place = next((i for i, entry in self._unplayed.items() if entry.kind == "turn"), None)
            if place is None:
                raise self._drifted(f"this run asks for another turn of the model, {self._recorded_turns()}")
            entry = self._unplayed[place]
            wanted = {**body, "model": entry.body.get("model")} if any_model else dict(body)
            if found := self._difference(entry.body, wanted):
                raise self._drifted(found, entry.body, wanted)
            return self._play(place)

    def tool(self, name: str, tool_input: Any) -> Entry | None:
        """The call's recorded result; `None` when it was recorded as HTTP, and the tool is to be executed again."""
        with self._lock:
            self._raise_again()
            window = self._window()
            calls = {i: entry for i, entry in window.items() if entry.uri == tool_uri(name)}
            wanted = {"input": tool_input}
            for place, entry in calls.items():
                if not self._difference(entry.body, wanted):
                    return self._play(place)
            if calls:
                entry = next(iter(calls.values()))
                found = self._difference(entry.body, wanted)
                raise self._drifted(f"{name}: {found}", entry.body, wanted)
            if any(entry.kind == "http" for entry in window.values()):
                return None
            raise self._drifted(f"this run calls {name}, {self._instead(window)}")

    def same_result(self, name: str, recorded: Any, seen: Any) -> None:
        """Compare what a deterministic tool gave with what it gave then."""
        if found := self._difference(str(recorded), str(seen), f"{name}'s result"):
            raise self._drifted(found, str(recorded), str(seen))

    def http(self, matches: Callable[[Entry], bool]) -> Entry | None:
        """The first exchange not played yet that `matches`."""
        with self._lock:
            place = next((i for i, e in self._unplayed.items() if e.kind == "http" and matches(e)), None)
            return None if place is None else self._play(place)

    def expects_http(self, matches: Callable[[Entry], bool]) -> bool:
        """Whether `http` would find one."""
        with self._lock:
            self._raise_again()
            return any(entry.kind == "http" and matches(entry) for entry in self._unplayed.values())

    def unexpected_http(self, method: str, uri: str, body: Any) -> CassetteDrift:
        """The drift of a request that was not recorded."""
        with self._lock:
            alike = [e for e in self._unplayed.values() if e.kind == "http"]
            same_place = [e for e in alike if e.uri.partition("?")[0] == uri.partition("?")[0]]
            if not alike:
                return self._drifted(f"this run asks for {method} {uri}, no HTTP is left in the recording")
            entry = (same_place or alike)[0]
            recorded = {"method": entry.method, "uri": entry.uri, "body": entry.body}
            seen = {"method": method, "uri": uri, "body": body}
            return self._drifted(f"HTTP: {difference(recorded, seen)}", recorded, seen)

    def network(self, host: str) -> NetworkBlocked:
        """The drift of a connection that is opened past the recorded HTTP."""
        error = NetworkBlocked(self._message(f"this run connects to {host}, the recording does not; it was blocked"))
        return self._keep(error)

    def finish(self) -> None:
        """Raise the drift there was, or one for what was not played."""
        with self._lock:
            self._raise_again()
            if self._unplayed:
                first = next(iter(self._unplayed.values()))
                left = f"{len(self._unplayed)} of {len(self._entries)} recorded interactions"
                raise self._drifted(f"the run ended with {left} not played, first {_told(first)}")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _play(self, place: int) -> Entry:
        entry = self._unplayed.pop(place)
        self._clock_ms = max(self._clock_ms, entry.at_ms)
        return entry

    def _window(self) -> dict[int, Entry]:
        """What is not played yet of this step: up to the model's next turn, in any order."""
        window: dict[int, Entry] = {}
        for place, entry in self._unplayed.items():
            if entry.kind == "turn":
                break
            window[place] = entry
        return window

    def _difference(self, recorded: Any, seen: Any, field: str = "") -> str | None:
        seen = without_surrogates(seen)
        if recorded == seen:
            return None
        found = difference(self.secrets.scrub(recorded), self.secrets.scrub(seen), field)
        return str(found) if found else None

    def _recorded_turns(self) -> str:
        turns = sum(entry.kind == "turn" for entry in self._entries)
        interrupted = "" if self._document.complete else " (it was interrupted)"
        return f"the recording ends after {turns}{interrupted}"

    def _instead(self, window: Mapping[int, Entry]) -> str:
        return f"recorded is {_told(next(iter(window.values())))}" if window else "no call is recorded here"

    def _drifted(self, what: str, recorded: Any = None, seen: Any = None) -> CassetteDrift:
        error = Drift(self._message(what))
        if recorded is not None:
            error.details = diff_lines(self.secrets.scrub(recorded), self.secrets.scrub(without_surrogates(seen)))
        return self._keep(error)

    def _keep(self, error: _E) -> _E:
        with self._lock:
            self.drift = self.drift or error
        return error

    def _message(self, what: str) -> str:
        step = f", step {self._turns}" if self._turns else ""
        again = f"agentkit record {self.path}" if self._document.run is not None else 'mode="record"'
        return f"{self.path}{step}: {what}; if that is meant, record it again ({again})"

    def _raise_again(self) -> None:
        if self.drift is not None:
            raise self.drift


def _told(entry: Entry) -> str:
    if entry.kind == "turn":
        return "a turn of the model"
    if entry.kind == "tool":
        return f"the call {entry.name}({entry.body.get('input')!r})"
    return entry.name


def result_of(entry: Entry) -> Any:
    """A tool's recorded observation."""
    return entry.response["json"] if "json" in entry.response else entry.response["string"]


def read_as(path: Path, entry: Entry, read: Callable[[Entry], Iterable[_T]]) -> list[_T]:
    """What an entry holds; raises `CassetteError` when a hand or an accident made it something else."""
    try:
        return list(read(entry))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CassetteError(
            f"{path}: expected {_told(entry)} in the recorded shape ({error}); record it again"
        ) from None
