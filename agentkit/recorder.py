"""What a run asks of whatever records or replays it. A cassette is one; the core and the models know only this.

recorder = active()
if recorder is not None and recorder.plays: ...      # nothing needs to be waited for
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from agentkit.events import Compacted, Event, Step

RecorderMode = Literal["record", "replay", "resume"]
MISSING: Any = object()


class Recorder(Protocol):
    """Records runs, replays them, or plays what there is and records what follows, while its block lasts."""

    path: Path
    mode: RecorderMode

    @property
    def block(self) -> object:
        """What lasts as long as the block: what is learnt within it of a server is learnt in a replay, too."""
        ...

    def backend(self, backend: Any) -> Any:
        """A `ChatBackend` whose replies are recorded or played; one whose HTTP is recorded is left to that."""
        ...

    def chat(self, model: Any, *, model_id: str) -> Any:
        """A planner's model (`complete`, `acomplete`), recorded where neither its backend nor its HTTP was."""
        ...

    def toolbox(self, toolbox: Any, *, played: Any = None) -> Any:
        """A run's tools (`agentkit.core.run.Tools`); here the run begins. Deterministic ones run again in a replay.

        `played(action, observation)` is told of each call that is answered without the tool.
        """
        ...

    @property
    def given_steps(self) -> Sequence[Step]:
        """Steps that the run takes as taken."""
        ...

    def event(self, event: Event) -> None:
        """An event of this context's run, as it happened: recorded, and compared in a replay."""
        ...

    def remembered(self, name: str, compute: Callable[[], Any], *, default: Any = MISSING) -> Any:
        """A plain value that is found out once per run: `compute()` while recording, what it gave then in a replay.

        A replay of a recording without it has the `default`; where there is none, it has drifted.
        """
        ...

    def compaction(self, *, summed_up: bool = False) -> Compacted | None:
        """What the recording has next, where that is a compaction which the run comes to without being told.

        `None` where it has none, or has the refusal that led to it. `summed_up`: the one that is under way, unless the
        recording has the request for a summary.
        """
        ...

    @property
    def plays(self) -> bool:
        """Whether what happens now was recorded, so that nothing needs to be waited for."""
        ...

    @property
    def returns_fields(self) -> bool:
        """Whether a model's server gets back what it sent with its calls: not where it did not in the recording."""
        ...

    def clock(self) -> float:
        """Seconds that have passed, as a limit of time counts them: in a replay, those of the recording."""
        ...


current: ContextVar[Recorder | None] = ContextVar("agentkit_recorder", default=None)


def active() -> Recorder | None:
    """The recorder in whose block this code runs. It costs nothing to ask."""
    return current.get()
