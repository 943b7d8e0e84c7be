"""What the seams of a run talk to: it has their answers from a recording, records them, or both in turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.lanes import Lanes
from agentkit.cassette.recording import Call, Recording
from agentkit.cassette.replaying import Replaying
from agentkit.events import Event, Finished

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
        if self._is_silent:
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

    def call(self, *, silent: bool = False) -> AbstractContextManager[Call]:
        """A call of a model or a tool."""
        return self.recording.call(silent=silent) if self.recording else nullcontext(Call(None, self.lanes.current))
