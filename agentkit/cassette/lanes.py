"""Several runs in one cassette, at once or one after the other: which of them this context belongs to."""

from __future__ import annotations

import threading
from contextvars import ContextVar
from dataclasses import dataclass, field

from agentkit.events import Event


@dataclass(slots=True, eq=False)
class Lane:
    """One run; `number` is its place in the file, from 1, once it has done something that is recorded.

    `waiting` are its events until then.
    """

    number: int | None = None
    waiting: list[Event] = field(default_factory=list)


class Lanes:
    """The runs of one cassette. A context in which none was begun belongs to a run of its own."""

    def __init__(self, taken: int = 0) -> None:
        self._taken = taken
        self._anyone = Lane()
        self._current: ContextVar[Lane] = ContextVar("agentkit_lane", default=self._anyone)
        self._lock = threading.Lock()

    def begin(self) -> None:
        """What happens in this context from here on is another run."""
        self._current.set(Lane())

    @property
    def current(self) -> Lane:
        """The run of this context."""
        return self._current.get()

    @property
    def is_known(self) -> bool:
        """Whether this context knows its run; a thread that a tool started without it does not."""
        return self.current is not self._anyone

    def number(self, lane: Lane | None = None) -> int:
        """The place of a run (this context's); the next free one, where it has none yet."""
        lane = lane or self.current
        with self._lock:
            if lane.number is None:
                self._taken += 1
                lane.number = self._taken
            return lane.number
