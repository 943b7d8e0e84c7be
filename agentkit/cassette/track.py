"""What is recorded of one run, as far as a replay has not played it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from agentkit.cassette.format.entries import Entry, Kind


@dataclass(slots=True, kw_only=True, eq=False)
class Track:
    """One recorded run: `left` holds what is not played yet, by its place in the file; `turns` counts those played."""

    number: int
    left: dict[int, Entry] = field(default_factory=dict)
    turns: int = 0
    turns_at_all: int = 0

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> dict[int, Track]:
        """The tracks of a recording by their runs' numbers."""
        tracks: dict[int, Track] = {}
        for place, entry in enumerate(entries):
            track = tracks.setdefault(entry.run, cls(number=entry.run))
            track.left[place] = entry
            track.turns_at_all += entry.kind == "turn"
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

    def window(self) -> dict[int, Entry]:
        """What is left of this step: up to the model's next turn, in any order."""
        window: dict[int, Entry] = {}
        for place, entry in self.left.items():
            if entry.kind == "turn":
                break
            window[place] = entry
        return window


def told(entry: Entry) -> str:
    """An entry in a few words."""
    if entry.kind == "turn":
        return "a turn of the model"
    if entry.kind == "tool":
        return f"the call {entry.name}({entry.body.get('input')!r})"
    return entry.name
