"""Replays runs: hands out what was recorded, and insists that they ask for exactly that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from agentkit.cassette.drift import SHOWN_CHARS, Drift, NetworkBlocked, diff_lines, difference
from agentkit.cassette.format.entries import Entry, Kind, is_chat, plain, tool_uri, without_surrogates
from agentkit.cassette.format.events import RecordedEvent, as_mapping, compared
from agentkit.cassette.format.file import Document
from agentkit.cassette.lanes import Lanes
from agentkit.cassette.recording import is_asked_to_sum_up
from agentkit.errors import CassetteDrift, CassetteError
from agentkit.events import BrokenOff, Compacted, Event, Finished, ModeFound, Thought
from agentkit.models.openai_format import returned_fields
from agentkit.recorder import MISSING
from agentkit.secrets import Secrets

_T = TypeVar("_T")
_E = TypeVar("_E", bound=CassetteDrift)
Matches = Callable[[Entry], bool]
FIRST_WITH_EVENTS = 3  # the format in which a text may stand once for several places, so that a change shows in none
_LABELS = {"finished": "stop_reason", "action": "tool", "observed": "observation", "limit": "stop_reason"}


@dataclass(slots=True, kw_only=True, eq=False)
class Track:
    """One recorded run: `left` holds what is not played yet, by its place in the file; `turns` counts those played.

    `last` was played last; `events` are those that did not come again yet. `thinks` says whether the run that is
    compared has thoughts at all: some planners keep them to themselves.
    """

    number: int
    left: dict[int, Entry] = field(default_factory=dict)
    last: Entry | None = None
    events: list[RecordedEvent] = field(default_factory=list)
    holds_events: bool = False
    thinks: bool | None = None
    turns: int = 0
    turns_at_all: int = 0

    @classmethod
    def of(cls, document: Document) -> dict[int, Track]:
        """The tracks of a recording by their runs' numbers."""
        tracks = {number: cls(number=number) for number in document.runs}
        for place, entry in enumerate(document.entries):
            tracks[entry.run].left[place] = entry
            tracks[entry.run].turns_at_all += entry.kind == "turn"
        for recorded in document.events:
            tracks[recorded.run].holds_events = True
            if not isinstance(recorded.event, BrokenOff):
                tracks[recorded.run].events.append(recorded)
        return tracks

    @property
    def opening(self) -> Entry | None:
        """What a run is recognized by: the first thing its model was asked, else the first of all."""
        entries = self.left.values()
        return next((entry for entry in entries if entry.asks_a_model), next(iter(entries), None))

    @property
    def is_at_its_end(self) -> bool:
        """Whether no turn of a model is left."""
        return not any(entry.asks_a_model for entry in self.left.values())

    def holds(self, kind: Kind) -> bool:
        """Whether any of this kind is left."""
        return any(entry.kind == kind for entry in self.left.values())

    def next_turn(self, *, over_http: bool) -> int | None:
        """The place of the next turn; none where HTTP comes before it and may stand for one."""
        for place, entry in self.left.items():
            if entry.kind == "turn":
                return place
            if over_http and entry.kind == "http" and entry.asks_a_model:
                return None
        return None

    def comes_next(self, kind: type[Event]) -> bool:
        """Whether the next recorded event is of this kind."""
        return bool(self.events) and isinstance(self.events[0].event, kind)

    def leave_out(self, event: Event) -> None:
        """Pass over recorded events that need not come before this one."""
        if self.comes_next(ModeFound) and not isinstance(event, ModeFound):  # it is found out once
            self.events.pop(0)
        if self.comes_next(Thought) and self.thinks is None:
            self.thinks = isinstance(event, Thought)
        if self.comes_next(Thought) and not self.thinks:
            self.events.pop(0)

    def window(self) -> dict[int, Entry]:
        """What is left of this step: up to the model's next turn, in any order."""
        window: dict[int, Entry] = {}
        for place, entry in self.left.items():
            if entry.kind == "turn":
                break
            window[place] = entry
        return window


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
        lanes: Lanes,
        goes_on: bool = False,
    ) -> None:
        self.path = path
        self.secrets = Secrets(environment)
        self.drift: CassetteDrift | None = None
        self._document = document
        self._lanes = lanes
        self._goes_on = goes_on
        self._tracks = Track.of(document)
        self._free = list(self._tracks.values())
        self._begun = list(document.begun)
        self._clock_ms = 0
        self._lock = threading.RLock()

    def has(self, kind: Kind) -> bool:
        """Whether the recording holds any of this kind."""
        return any(entry.kind == kind for entry in self._document.entries)

    @cached_property
    def returns_fields(self) -> bool:
        """Whether a recorded request returns what a model's server sent with its calls."""
        bodies = (entry.body for entry in self._document.entries if entry.kind == "http" and is_chat(entry.body))
        return any(returned_fields(body["messages"]) for body in bodies)

    def clock_s(self) -> float:
        """Seconds from the start of the recording to what was played last; to its end, once all is played."""
        with self._lock:
            return max(self._clock_ms / 1000, self._document.seconds if self.is_over else 0.0)

    @property
    def is_over(self) -> bool:
        """Whether all that was recorded is played."""
        return not any(track.left for track in self._tracks.values())

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

            def begins(entry: Entry) -> bool:
                if entry.kind == "turn":
                    return not self._difference(entry.body, wanted(entry))
                is_asked_so = over_http and is_chat(entry.body)
                return is_asked_so and not self._difference(entry.body["messages"], body["messages"])

            track = self._track(begins, wait=over_http)
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

    def begun(self, name: str, tool_input: Any) -> Entry | None:
        """The call that was under way when the recording ended, if it is this one, however it is written.

        That of a recorded run that nobody took up may be any run's: the run may have begun otherwise this time.
        """
        name, tool_input = name.strip().casefold(), _bare(tool_input)
        with self._lock:
            others = self._tracks.keys() - {track.number for track in self._free} - {self._lanes.current.number}
            for entry in self._begun:
                is_same_tool = entry.run not in others and entry.name.strip().casefold() == name
                if is_same_tool and not self._difference(_bare(entry.body.get("input")), tool_input):
                    return entry
            return None

    def runs_again(self, entry: Entry) -> None:
        """Forget that this call was under way. One that may not run again stays, for the model may repeat it."""
        with self._lock:
            self._begun.remove(entry)

    def same_result(self, name: str, recorded: Any, seen: Any) -> None:
        """Compare what a deterministic tool gave with what it gave then."""
        if found := self._difference(str(recorded), str(seen), f"{name}'s result"):
            raise self._drifted(found, str(recorded), str(seen))

    def remembered(self, name: str, default: Any) -> Any:
        """What was kept under this name; where nothing was, the default, without which that is drift."""
        kept = self._document.head.get("remembered")
        if isinstance(kept, Mapping) and name in kept:
            return kept[name]
        if default is MISSING:
            raise self.missing(name)
        return default

    def missing(self, what: str) -> CassetteDrift:
        """The drift of a run that needs what is not recorded."""
        return self._drifted(f"the recording does not hold {what}")

    # -- events ----------------------------------------------------------------------------------------------------

    def event(self, event: Event) -> bool:
        """Whether this event of this context's run was recorded; one that differs from the next recorded is drift."""
        with self._lock:
            self._raise_again()
            track = self._event_track()
            if track is None:
                return False
            if not track.holds_events:
                self._check_ending(track.number, event)
                return False
            track.leave_out(event)
            if not track.events and (self._goes_on or not self._document.complete):
                return False
            if isinstance(event, Compacted) and event.within_call and not track.comes_next(Compacted):
                return False  # recorded before there were such events
            if isinstance(event, ModeFound) and not track.comes_next(ModeFound):
                return False  # found out anew, where a question to the model is no part of the recording
            if not track.events:
                raise self._drifted(f"this run goes on with {_event_text(event)}, the recording ended before")
            self._compare(track.events.pop(0).event, event)
            if isinstance(event, Finished) and track.number in self._document.changed_runs:
                raise self._drifted("the events of this run were changed in the file")
            return True

    def compaction(self, *, summed_up: bool = False) -> Compacted | None:
        """The compaction that is recorded next, unless a request is that leads to it.

        That is one for its summary, where it is to be `summed_up`; else one that was refused for its length.
        """
        with self._lock:
            track = self._tracks.get(self._lanes.current.number or 0)
            if track is None or not track.comes_next(Compacted):
                return None
            recorded = track.events[0].event
            assert isinstance(recorded, Compacted)
            asked = next((entry for entry in track.left.values() if entry.asks_a_model), None)
            is_for_summary = asked is not None and is_asked_to_sum_up(asked)
            is_refused = asked is not None and asked.has_failed and not is_for_summary
            return None if recorded.within_call or (is_for_summary if summed_up else is_refused) else recorded

    @property
    def last_played(self) -> Entry | None:
        """The interaction that this context's run was given last, while there are more of them."""
        track = self._tracks.get(self._lanes.current.number or 0)
        return track.last if track is not None and track.left else None

    def _event_track(self) -> Track | None:
        """A run that asked nobody is known by its end."""
        lane = self._lanes.current
        if lane.number is None:
            without = next((track for track in self._free if not track.left), None)
            if without is None:
                return None
            self._free.remove(without)
            lane.number = without.number
        return self._tracks.get(lane.number)

    def _compare(self, recorded: Event, event: Event) -> None:
        if recorded == event:
            return
        old, new = compared(as_mapping(recorded)), compared(without_surrogates(as_mapping(event)))
        if next(iter(old)) != next(iter(new)):
            raise self._drifted(f"{_event_text(recorded)} was recorded, this run has {_event_text(event)}", old, new)
        for name, label in _LABELS.items():
            if name in old:
                old, new = ({label if key == name else key: one[key] for key in one} for one in (old, new))
        if found := self._difference(old, new):
            raise self._drifted(f"the run's {found}", old, new)

    def _check_ending(self, number: int, event: Event) -> None:
        """Format 2 keeps of what was decided how the run ended."""
        recorded = self._document.endings.get(number)
        if recorded is None or self._goes_on or not isinstance(event, Finished):
            return
        for name, new in (("stop_reason", event.summary.stop_reason), ("output", plain(event.output))):
            if found := self._difference(recorded.get(name), new, f"the run's {name}"):
                raise self._drifted(found, recorded.get(name), new)

    # -- HTTP ------------------------------------------------------------------------------------------------------

    def http(self, matches: Matches, *, chat: bool = False, play: bool = True) -> Entry | None:
        """The first exchange not played yet that `matches`. A `chat` tells which run asks."""
        with self._lock:
            self._raise_again()
            for track in self._http_tracks(matches, chat):
                for place, entry in track.left.items():
                    if entry.kind == "http" and matches(entry):
                        return self._play(track, place) if play else entry
            return None

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
                raise self._drifted(f"the run ended with {what} not played, first {entry_text(left[0])}")

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
        entry = track.last = track.left.pop(place)
        track.turns += entry.kind == "http" and entry.asks_a_model and "error" not in entry.response
        self._clock_ms = max(self._clock_ms, entry.at_ms)
        if entry.number in self._document.changed and self._document.format >= FIRST_WITH_EVENTS:
            raise self._drifted("what was asked of the model, or its reply, is not what was recorded")
        return entry

    def _difference(self, recorded: Any, seen: Any, field: str = "") -> str | None:
        recorded, seen = without_surrogates(recorded), without_surrogates(seen)  # a response keeps them, a request not
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
            error.details = diff_lines(*(self.secrets.scrub(without_surrogates(one)) for one in (recorded, seen)))
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


def _bare(tool_input: Any) -> Any:
    """A tool's input without an object around its one value, which tools of one string take off, too."""
    if isinstance(tool_input, Mapping) and len(tool_input) == 1:
        (tool_input,) = tool_input.values()
    return tool_input.strip() if isinstance(tool_input, str) else tool_input


def entry_text(entry: Entry) -> str:
    """An interaction in a few words."""
    if entry.kind == "turn":
        return "a turn of the model"
    if entry.kind == "tool":
        return f"the call {entry.name}({entry.body.get('input')!r})"
    return entry.name


def _event_text(event: Event) -> str:
    """An event in a few words."""
    kind, value = next(iter(as_mapping(event).items()))
    name = kind.replace("_", " ")
    return f"{name} {value!r}" if isinstance(value, str) and len(value) <= SHOWN_CHARS else f"another {name}"


def _instead(window: Mapping[int, Entry]) -> str:
    return f"recorded is {entry_text(next(iter(window.values())))}" if window else "no call is recorded here"


def result_of(entry: Entry) -> Any:
    """A tool's recorded observation."""
    return entry.response["json"] if "json" in entry.response else entry.response["string"]


def read_as(path: Path, entry: Entry, read: Callable[[Entry], Iterable[_T]]) -> list[_T]:
    """What an entry holds; raises `CassetteError` when a hand or an accident made it something else."""
    try:
        return list(read(entry))
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise CassetteError(
            f"{path}: expected {entry_text(entry)} in the recorded shape ({error}); record it again"
        ) from None
