"""Runs that begin with what a cassette holds and go on live: resumed where they stopped, or forked at a step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from agentkit.cassette.cassette import Cassette
from agentkit.cassette.format.entries import plain
from agentkit.cassette.format.file import finished_of, load, partial_of
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.tape import RunAgain
from agentkit.core.loop import MALFORMED
from agentkit.errors import CassetteDrift, ConfigurationError
from agentkit.events import (
    Action,
    Event,
    Finished,
    LimitReached,
    ModeFound,
    Observed,
    ParseError,
    RunStarted,
    Thought,
    Token,
)
from agentkit.react_json.prompt import Prompt
from agentkit.recorder import RecorderMode
from agentkit.runs.build import build as build_runner
from agentkit.runs.build import read_prompt
from agentkit.runs.replay import Replay, described
from agentkit.settings import SETTINGS, RunSettings


class Executor(Protocol):
    """What runs a question."""

    def events(self, input: dict[str, Any], /) -> Iterator[Event]: ...


Build = Callable[[RunSettings, Prompt], Executor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A run that goes on. `kept` are events of steps that a fork takes over; a resumed run gives its own again."""

    path: Path
    title: str
    run: RunSpec
    build: Build
    mode: RecorderMode
    kept: tuple[Event, ...] = ()
    run_again: RunAgain | None = None
    environment: MutableMapping[str, str]

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run was given."""
        return dict(self.run.inputs)

    @property
    def model(self) -> str:
        """The spec of the model that goes on."""
        return self.run.settings.model

    def events(self) -> Iterator[Event]:
        """The run, what it takes over first; raises what live runs raise, and `CassetteDrift`."""
        executor = self.build(self.run.settings, self.run.read_prompt())
        with Cassette(self.path, self.mode, run=self.run, run_again=self.run_again, environment=self.environment):
            for event in executor.events(self.inputs):
                yield event
                if isinstance(event, RunStarted):
                    yield from self.kept


def resume(
    path: str | os.PathLike[str],
    *,
    build: Build = build_runner,
    run_again: RunAgain | None = None,
    environment: MutableMapping[str, str] | None = None,
    **settings: Any,
) -> Continuation:
    """The run of a partial cassette, or of one that ended at a limit, to go on with; `settings` are usually limits.

    `build` makes what runs it, of its settings and its prompt.
    """
    target = finished_of(Path(path))
    partial = partial_of(target)
    source = partial if partial.exists() else target
    document = load(source)
    run = _changed(described(source, document.run), settings)
    turns = sum(entry.asks_a_model for entry in document.entries)
    return Continuation(
        path=target,
        title=f"resuming {source}: {run.settings.model}, after {_steps(turns)}",
        run=run,
        build=build,
        mode="resume",
        run_again=run_again,
        environment=os.environ if environment is None else environment,
    )


def fork(
    path: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    step: int,
    build: Build = build_runner,
    environment: MutableMapping[str, str] | None = None,
    **settings: Any,
) -> Continuation:
    """Another run, recorded in `into`, that begins with the first steps of the run in `path`."""
    if Path(into).resolve() == Path(path).resolve():
        raise ConfigurationError(f"expected another file than {path} to record into, which stays as it is")
    replay = Replay(path, environment=environment)
    kept = _first_steps(replay, step)
    run = replace(
        _changed(replay.run, settings),
        steps=kept.steps,
        forked_from=f"{Path(path).name}, step {step}",
    )
    return Continuation(
        path=Path(into),
        title=f"fork of {path}: {run.settings.model}, after {_steps(step)}",
        run=run,
        build=build,
        mode="record",
        kept=kept.events,
        environment=os.environ if environment is None else environment,
    )


def _changed(run: RunSpec, changes: dict[str, Any]) -> RunSpec:
    if strange := [name for name in changes if name not in SETTINGS]:
        raise ConfigurationError(f"expected settings of a run ({', '.join(SETTINGS)}), saw {', '.join(strange)}")
    settings = replace(run.settings, **changes)
    if "prompt" in changes:
        return run.with_settings(settings, text=read_prompt(settings.prompt))
    return replace(run, settings=settings)


def _steps(number: int) -> str:
    return f"{number} step" if number == 1 else f"{number} steps"


@dataclass(slots=True)
class _Kept:
    """The first turns of a run, each with its observations."""

    wanted: int
    turns: int = 0
    events: tuple[Event, ...] = ()
    steps: tuple[dict[str, Any], ...] = ()

    def read(self, events: Iterator[Event]) -> None:
        """Read on until the wanted turns are whole."""
        turn: list[Event] = []
        for event in events:
            is_result = isinstance(event, Observed | ParseError)
            if not is_result and turn and isinstance(turn[-1], Observed | ParseError):
                self._keep(turn)
                turn = []
            if self.turns == self.wanted or isinstance(event, Finished | LimitReached):
                return
            if not isinstance(event, RunStarted | Token | ModeFound):
                turn.append(event)

    def _keep(self, turn: list[Event]) -> None:
        self.turns += 1
        self.events += tuple(turn)
        thought = ""
        for event in turn:
            if isinstance(event, Thought):
                thought = event.text
            elif isinstance(event, Observed):
                self.steps += (_as_mapping(event.action, event.observation, thought),)
                thought = ""  # of the turn, not of each of its calls
            elif isinstance(event, ParseError):
                malformed = Action(MALFORMED, event.observation, event.text)
                self.steps += (_as_mapping(malformed, event.observation, thought),)


def _first_steps(replay: Replay, wanted: int) -> _Kept:
    """What comes after them may be missing, or have drifted."""
    kept = _Kept(wanted)
    if wanted > 0:
        drift = None
        with closing(replay.events()) as events:
            try:
                kept.read(events)
            except CassetteDrift as error:
                drift = error
        if kept.turns < wanted and drift is not None and replay.is_complete:
            raise drift
    if not 0 <= wanted == kept.turns:
        raise ConfigurationError(f"{replay.path}: expected a step from 0 to {kept.turns} to keep, saw {wanted}")
    return kept


def _as_mapping(action: Action, observation: Any, thought: str) -> dict[str, Any]:
    return {
        "thought": thought,
        "tool": action.tool,
        "tool_input": plain(action.tool_input),
        "log": action.log,
        "observation": plain(observation),
    }
