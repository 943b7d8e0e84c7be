"""What the seams ask of the cassette that is open, which makes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.recording import Call, Stands
from agentkit.cassette.replaying import Replaying
from agentkit.recorder import RecorderMode

RunAgain = Callable[[str, Any], bool]


class Tape(Protocol):
    """What was recorded, and where what happens now is written: as `Cassette` has it."""

    path: Path
    mode: RecorderMode
    run_again: RunAgain | None

    @property
    def plays(self) -> bool: ...

    @property
    def replaying(self) -> Replaying: ...

    def turn(self, body: Mapping[str, Any], *, any_model: bool = False, over_http: bool = False) -> Entry | None: ...

    def tool(self, name: str, tool_input: Any) -> Entry | None: ...

    def runs_again(self, begun: Entry) -> None: ...

    def call(self, *, silent: bool = False, stands: Stands | None = None) -> AbstractContextManager[Call]: ...
