"""What the seams of a run talk to: it has their answers from a recording, records them, or both in turn."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.lanes import Lanes
from agentkit.cassette.recording import Call, Recording
from agentkit.cassette.replaying import Replaying
from agentkit.events import Event, Finished, Token

RunAgain = Callable[[str, Any], bool]


@dataclass(slots=True)
class Tape:
    """A cassette in use: `replaying` answers what it holds, `recording` takes what is live; one of them, or both."""

    path: Path
    lanes: Lanes
    recording: Recording | None = None
    replaying: Replaying | None = None
    run_again: RunAgain | None = None

    @property
    def plays(self) -> bool:
        """Whether what happens now was recorded."""
        return self.replaying is not None and self.replaying.plays

    # -- answers ---------------------------------------------------------------------------------------------------

    def turn(self, body: Mapping[str, Any], *, any_model: bool = False, over_http: bool = False) -> Entry | None:
        """A turn's reply; `None`: ask the model."""
        if self.replaying is None or self._is_silent:
            return None
        return self.replaying.turn(body, any_model=any_model, over_http=over_http)

    def tool(self, name: str, tool_input: Any) -> Entry | None:
        """A call's result; `None`: run the tool."""
        if self.replaying is None or self._is_silent:
            return None
        return self.replaying.tool(name, tool_input)

    @property
    def _is_silent(self) -> bool:
        return self.recording is not None and self.recording.is_silent

    def remembered(self, name: str, compute: Callable[[], Any]) -> Any:
        """See `Cassette.remembered`."""
        if self.recording is not None:
            return self.recording.remembered(name, compute)
        assert self.replaying is not None
        return self.replaying.remembered(name, compute)

    def was_begun(self, name: str, tool_input: Any) -> bool:
        """Whether this call was under way when the recording that is played ended."""
        return self.replaying is not None and self.replaying.was_begun(name, tool_input)

    # -- events ----------------------------------------------------------------------------------------------------

    def event(self, event: Event) -> None:
        """An event of this context's run; those before its first interaction wait until it is known which run it is."""
        if isinstance(event, Token) or self._is_silent:
            return
        lane = self.lanes.current
        lane.waiting.append(event)
        if lane.number is None and not isinstance(event, Finished):
            return
        waiting, lane.waiting = lane.waiting, []
        for one in waiting:
            if self.replaying is not None and self.replaying.event(one):
                continue
            if self.recording is not None:
                self.recording.event(one, after=self.replaying.last_played if self.replaying is not None else None)

    # -- calls that are live -----------------------------------------------------------------------------------------

    @contextmanager
    def call(self, *, silent: bool = False) -> Iterator[LiveCall]:
        """A call of a model or a tool."""
        call = LiveCall(self.recording, self.recording.begin(silent=silent) if self.recording is not None else None)
        try:
            yield call
        finally:
            if self.recording is not None and call.call is not None:
                self.recording.end(call.call)


@dataclass(slots=True)
class LiveCall:
    """A call under way; nothing happens to it where nothing is recorded."""

    recording: Recording | None
    call: Call | None

    def run(self, function: Callable[..., Any], *args: Any) -> Any:
        """What the function gives; what is recorded meanwhile belongs to this call."""
        with self._within():
            return function(*args)

    async def arun(self, awaitable: Awaitable[Any]) -> Any:
        """`run`, awaiting."""
        with self._within():
            return await awaitable

    def _within(self) -> Any:
        if self.recording is None or self.call is None:
            return nullcontext()
        return self.recording.within(self.call)

    def add(self, make: Callable[[], Entry]) -> None:
        """Record the call, unless something within it was."""
        if self.recording is not None and self.call is not None and not self.call.recorded:
            self.recording.add(make(), started_s=self.call.started_s)
