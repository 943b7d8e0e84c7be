"""A recorded run as a person reads it: its steps, what they took, and how it ended.

Everything comes from the file alone. Nothing is asked, executed or compared, so a recording that drifted, was cut off
or was made by a script can be read too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.cassette.format.run_spec import RunSpec
from agentkit.events import Source, Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """An HTTP exchange within a step; `came_to` is its status, or the error."""

    request: str
    came_to: str
    ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryCall:
    """An action and its observation, `None` where the recording holds none."""

    tool: str
    tool_input: Any
    observation: Any = None
    executed: bool = True
    ms: int = 0
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryStep:
    """One turn of the model and what came of it.

    `told` is what the model was told of a turn that is none. `asked` are the messages, as role and text. `failed` are
    tries that the server refused, `other` exchanges that belong to no call. `broken_off`: the reply is not whole. A
    fork has `kept` steps of another run.
    """

    text: str
    thought: str = ""
    thinking: str = ""
    calls: tuple[StoryCall, ...] = ()
    told: str | None = None
    answer: Any = None
    invented: int = 0
    usage: Usage = field(default_factory=Usage)
    model_ms: int = 0
    tools_ms: int = 0
    asked: tuple[tuple[str, str], ...] = ()
    failed: tuple[Exchange, ...] = ()
    other: tuple[Exchange, ...] = ()
    broken_off: bool = False
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryRun:
    """One question's run. `stop_reason` is `None` where the recording does not hold its end."""

    question: str
    steps: tuple[StoryStep, ...]
    output: Any = None
    answered: bool = False
    stop_reason: str | None = None
    ungrounded: tuple[str, ...] = ()

    @property
    def usage(self) -> Usage:
        """Tokens of the whole run."""
        return sum((step.usage for step in self.steps), Usage())

    @property
    def model_ms(self) -> int:
        """Time the model took."""
        return sum(step.model_ms for step in self.steps)

    @property
    def tools_ms(self) -> int:
        """Time the tools took."""
        return sum(step.tools_ms for step in self.steps)

    @property
    def tools_executed(self) -> int:
        """How many calls ran."""
        return sum(call.executed and call.observation is not None for step in self.steps for call in step.calls)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the observations rest on."""
        return tuple(dict.fromkeys(one for step in self.steps for call in step.calls for one in call.sources))


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A cassette: mostly one run, more where a script made several. `spec` is `None` for a script's."""

    path: Path
    runs: tuple[StoryRun, ...]
    spec: RunSpec | None
    models: tuple[str, ...]
    complete: bool
    seconds: float
    head: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model's spec, or the names that the requests give."""
        return self.spec.settings.model if self.spec else ", ".join(self.models) or "no model"

    @property
    def made(self) -> str:
        """How and when the recording was made."""
        how = "transcribed" if self.head.get("transcribed") is True else f"recorded {self.head.get('recorded') or ''}"
        if self.spec is None:
            how = f"{how.strip()} by a script"
        elif self.spec.forked_from:
            how += f", forked from {self.spec.forked_from}"
        return how.strip() + ("" if self.complete else ", cut off")


def read_story(path: Path) -> Story:
    """The story of a cassette; raises `CassetteError` for a file that is none."""
    from agentkit.report.telling import tell

    return tell(path)
