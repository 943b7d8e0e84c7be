"""Replays runs: hands out what was recorded, and insists that they ask for exactly that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from agentkit.cassette.drift import Drift, NetworkBlocked, diff_lines, difference
from agentkit.cassette.format.entries import Entry, Kind, is_chat, tool_uri, without_surrogates
from agentkit.cassette.format.file import Document
from agentkit.cassette.format.outcome import outcome_of
from agentkit.cassette.lanes import Lanes
from agentkit.cassette.track import Track, told
from agentkit.errors import CassetteDrift, CassetteError
from agentkit.events import Finished
from agentkit.secrets import Secrets

_T = TypeVar("_T")
_E = TypeVar("_E", bound=CassetteDrift)
Matches = Callable[[Entry], bool]


class Replaying:
    """One replay. The first drift is kept and raised again at every later question and at the end.

    Where it `goes_on`, `None` is the answer to what comes after the recording's end, and stands for: live.
    """

    def __init__(
        self,
        path: Path,
        document: Document,
        environment: Mapping[str, str],
        *,
        lanes: Lanes | None = None,
        goes_on: bool = False,
    ) -> None:
        self.path = path
        self.secrets = Secrets(environment)
        self.drift: CassetteDrift | None = None
        self._document = document
        self._lanes = lanes or Lanes()
        self._goes_on = goes_on
        self._tracks = Track.of(document.entries)
        self._free = list(self._tracks.values())
        self._begun = list(document.begun)
        self._clock_ms = 0
        self._lock = threading.RLock()

    def has(self, kind: Kind) -> bool:
        """Whether the recording holds any of this kind."""
        return any(entry.kind == kind for entry in self._document.entries)

    def clock_s(self) -> float:
        """Seconds from the start of the recording to what was played last; to its end, once all is played."""
        with self._lock:
            is_over = not any(track.left for track in self._tracks.values())
            return max(self._clock_ms / 1000, self._document.seconds if is_over else 0.0)

    @property
    def plays(self) -> bool:
        """Whether this context's run is still within the recording."""
        with self._lock:
            track = self._tracks.get(self._lanes.current.number or 0)
            return not self._goes_on or bool(track.left if track is not None else self._free)

    # -- questions -------------------------------------------------------------------------------------------------

    def turn(self, body: Mapping[str, Any], *, any_model: bool = False, over_http: bool = False) -> Entry | None:
        """The model's next turn; what it is asked must be what it was asked.

        `any_model`: its name is not compared. `over_http`: it may be that HTTP was recorded instead; `None` then.
        """
        with self._lock:
            self._raise_again()

            def wanted(entry: Entry) -> dict[str, Any]:
                return {**body, "model": entry.body.get("model")} if any_model else dict(body)

            track = self._track(
                lambda entry: entry.kind == "turn" and not self._difference(entry.body, wanted(entry)), wait=over_http
            )
            if track is None:
                return None
            place = track.next_turn(over_http=over_http)
            if place is None:
                if (over_http and track.holds("http")) or (self._goes_on and not track.left):
                    return None
                track.turns += 1
                raise self._drifted(f"this run asks for another turn of the model, {self._recorded_turns(track)}")
            track.turns += 1
            entry = track.left[place]
            if found := self._difference(entry.body, wanted(entry)):
                raise self._drifted(found, entry.body, wanted(entry))
            return self._play(track, place)

    def tool(self, name: str, tool_input: Any) -> Entry | None:
        """The call's recorded result; `None` when it was recorded as HTTP, and the tool is to be executed again."""
        wanted = {"input": tool_input}
        with self._lock:
            self._raise_again()
            track = self._track(lambda e: e.uri == tool_uri(name) and not self._difference(e.body, wanted))
            if track is None:
                return None
            window = track.window()
            calls = {i: entry for i, entry in window.items() if entry.uri == tool_uri(name)}
            for place, entry in calls.items():
                if not self._difference(entry.body, wanted):
                    return self._play(track, place)
            if any(entry.kind == "http" for entry in window.values()) or (self._goes_on and track.is_at_its_end):
                return None
            if calls:
                entry = next(iter(calls.values()))
                found = self._difference(entry.body, wanted)
                raise self._drifted(f"{name}: {found}", entry.body, wanted)
            raise self._drifted(f"this run calls {name}, {_instead(window)}")

    def was_begun(self, name: str, tool_input: Any) -> bool:
        """Whether this call was under way when the recording ended. It is said once."""
        with self._lock:
            for entry in self._begun:
                same = (entry.run, entry.uri) == (self._lanes.current.number or 1, tool_uri(name))
                if same and not self._difference(entry.body, {"input": tool_input}):
                    self._begun.remove(entry)
                    return True
            return False

    def same_result(self, name: str, recorded: Any, seen: Any) -> None:
        """Compare what a deterministic tool gave with what it gave then."""
        if found := self._difference(str(recorded), str(seen), f"{name}'s result"):
            raise self._drifted(found, str(recorded), str(seen))

    def remembered(self, name: str, compute: Callable[[], Any]) -> Any:
        """What was kept under this name; found out anew where nothing was."""
        kept = self._document.head.get("remembered")
        return kept[name] if isinstance(kept, Mapping) and name in kept else compute()

    def ended(self, finished: Finished) -> None:
        """Compare how this context's run ended with how it ended then."""
        recorded = self._document.outcomes.get(self._lanes.current.number or 1)
        if recorded is None or self._goes_on:
            return
        seen = outcome_of(finished, self.secrets.scrub)
        for field in ("stop_reason", "output", "checksum"):
            old, new = getattr(recorded, field), getattr(seen, field)
            if found := self._difference(old, new, "the run's end" if field == "checksum" else f"the run's {field}"):
                raise self._drifted(found, old, new)

    # -- HTTP ------------------------------------------------------------------------------------------------------

    def http(self, matches: Matches, *, chat: bool = False) -> Entry | None:
        """The first exchange not played yet that `matches`. A `chat` tells which run asks."""
        with self._lock:
            self._raise_again()
            for track in self._http_tracks(matches, chat):
                place = next((i for i, e in track.left.items() if e.kind == "http" and matches(e)), None)
                if place is not None:
                    return self._play(track, place)
            return None

    def expects_http(self, matches: Matches, *, chat: bool = False) -> bool:
        """Whether `http` would find one."""
        with self._lock:
            self._raise_again()
            tracks = self._http_tracks(matches, chat)
            return any(e.kind == "http" and matches(e) for track in tracks for e in track.left.values())

    def _http_tracks(self, matches: Matches, chat: bool) -> list[Track]:
        """This context's run first; a thread that does not know its run may belong to any."""
        own = self._tracks.get(self._lanes.current.number or 0)
        if own is None and chat and self._lanes.is_known:
            own = self._track(lambda entry: entry.kind == "http" and matches(entry))
        return [*([own] if own is not None else []), *(track for track in self._tracks.values() if track is not own)]

    def goes_on_with_http(self) -> bool:
        """Whether a request that was not recorded may be sent: after the last recorded turn."""
        with self._lock:
            track = self._tracks.get(self._lanes.current.number or 0)
            tracks = [track] if track is not None else list(self._tracks.values())
            return self._goes_on and all(track.is_at_its_end for track in tracks)

    def unexpected_http(self, method: str, uri: str, body: Any) -> CassetteDrift:
        """The drift of a request that was not recorded."""
        with self._lock:
            if is_chat(body) and (track := self._tracks.get(self._lanes.current.number or 0)) is not None:
                track.turns += 1
            alike = [e for track in self._tracks.values() for e in track.left.values() if e.kind == "http"]
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

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self) -> None:
        """Raise the drift there was, or one for what was not played."""
        with self._lock:
            self._raise_again()
            left = [entry for track in self._tracks.values() for entry in track.left.values()]
            if left:
                what = f"{len(left)} of {len(self._document.entries)} recorded interactions"
                raise self._drifted(f"the run ended with {what} not played, first {told(left[0])}")

    # -- inside ----------------------------------------------------------------------------------------------------

    def _track(self, begins: Matches, *, wait: bool = False) -> Track | None:
        """What is recorded of this context's run: it takes the first recorded run that begins as it does.

        `None` for a run that the recording does not hold and that may go on without, and where there is HTTP to `wait`
        for, by which the run can be told.
        """
        lane = self._lanes.current
        if lane.number is not None:
            return self._tracks.get(lane.number) or self._not_recorded()
        openings = [(track, track.opening) for track in self._free]
        found = next((track for track, entry in openings if entry is not None and begins(entry)), None)
        if found is None and wait and any(entry is not None and entry.kind == "http" for _, entry in openings):
            return None
        if found is None and self._goes_on and len(self._tracks) != 1:
            return None
        if found is None and not self._free:
            return self._not_recorded()
        track = found or self._free[0]
        self._free.remove(track)
        lane.number = track.number
        return track

    def _not_recorded(self) -> Track | None:
        if self._goes_on:
            return None
        return Track(number=0)  # of which nothing is left

    def _play(self, track: Track, place: int) -> Entry:
        entry = track.left.pop(place)
        track.turns += entry.kind == "http" and entry.asks_a_model and "error" not in entry.response
        self._clock_ms = max(self._clock_ms, entry.at_ms)
        return entry

    def _difference(self, recorded: Any, seen: Any, field: str = "") -> str | None:
        seen = without_surrogates(seen)
        if recorded == seen:
            return None
        found = difference(self.secrets.scrub(recorded), self.secrets.scrub(seen), field)
        return str(found) if found else None

    def _recorded_turns(self, track: Track) -> str:
        interrupted = "" if self._document.complete else " (it was interrupted)"
        return f"the recording ends after {track.turns_at_all}{interrupted}"

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
        track = self._tracks.get(self._lanes.current.number or 0)
        run = f", run {track.number}" if track is not None and len(self._tracks) > 1 else ""
        step = f", step {track.turns}" if track is not None and track.turns else ""
        again = f"agentkit record {self.path}" if self._document.run is not None else 'mode="record"'
        edited = f" (interaction {self._document.changed[0]} was changed in the file)" if self._document.changed else ""
        return f"{self.path}{run}{step}: {what}{edited}; if that is meant, record it again ({again})"

    def _raise_again(self) -> None:
        if self.drift is not None:
            raise self.drift


def _instead(window: Mapping[int, Entry]) -> str:
    return f"recorded is {told(next(iter(window.values())))}" if window else "no call is recorded here"


def result_of(entry: Entry) -> Any:
    """A tool's recorded observation."""
    return entry.response["json"] if "json" in entry.response else entry.response["string"]


def read_as(path: Path, entry: Entry, read: Callable[[Entry], Iterable[_T]]) -> list[_T]:
    """What an entry holds; raises `CassetteError` when a hand or an accident made it something else."""
    try:
        return list(read(entry))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CassetteError(
            f"{path}: expected {told(entry)} in the recorded shape ({error}); record it again"
        ) from None
