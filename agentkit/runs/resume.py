"""Runs that begin with what a cassette holds and go on live: resumed where they stopped, or forked at a step."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

from agentkit.cassette.cassette import Cassette
from agentkit.cassette.format.entries import Entry, plain
from agentkit.cassette.format.events import called_as_mapping
from agentkit.cassette.format.file import finished_of, load, partial_of
from agentkit.cassette.format.place import Place
from agentkit.cassette.format.run_spec import RunSpec, is_bundled
from agentkit.cassette.recording import without_loose_ends
from agentkit.cassette.tape import RunAgain
from agentkit.core.loop import MALFORMED
from agentkit.errors import AgentkitError, ConfigurationError
from agentkit.events import (
    Action,
    ActionChosen,
    BrokenOff,
    Event,
    Finished,
    LimitReached,
    ModeFound,
    Observed,
    ParseError,
    PartialAnswer,
    Replied,
    RunStarted,
    Thought,
    Token,
)
from agentkit.number_words import count
from agentkit.react_json.prompt import Prompt
from agentkit.recorder import RecorderMode
from agentkit.runs.build import build as build_runner
from agentkit.runs.build import read_prompt, read_schema
from agentkit.runs.replay import Replay, described
from agentkit.runs.trust import Origin, foreign_names
from agentkit.secrets import public_address
from agentkit.settings import SETTINGS, RunSettings


class Executor(Protocol):
    """What runs a question."""

    def events(self, input: dict[str, Any], /) -> Iterator[Event]: ...


Build = Callable[[RunSettings, Prompt | None], Executor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Continuation:
    """A run that goes on. A fork takes over `kept` events, and calls that may have had their effect, `under_way`.

    `origin` is the file that says what the run is made of, and `begun` is told of the one that is written.
    """

    path: Path
    title: str
    run: RunSpec
    build: Build
    mode: RecorderMode
    kept: tuple[Event, ...] = ()
    run_again: RunAgain | None = None
    under_way: tuple[Entry, ...] = ()
    environment: MutableMapping[str, str]
    replaces: bool = True
    origin: Origin
    begun: Callable[[Path, RunSpec | None], None] | None = None

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
        with Place(self.path, replaces=self.replaces) as place:
            executor = self.build(self.run.settings, self.run.read_prompt())
            with Cassette(
                self.path,
                self.mode,
                run=self.run,
                run_again=self.run_again,
                under_way=self.under_way,
                environment=self.environment,
                place=place,
            ) as cassette:
                if self.begun is not None:
                    self.begun(self.path, cassette.written_run)
                for event in executor.events(self.inputs):
                    yield event
                    if isinstance(event, RunStarted):
                        yield from self.kept


def resume(
    path: str | os.PathLike[str],
    *,
    build: Build | None = None,
    trusted: bool = False,
    run_again: RunAgain | None = None,
    environment: MutableMapping[str, str] | None = None,
    **settings: Any,
) -> Continuation:
    """The run of a partial cassette, or of one that ended at a limit, to go on with; `settings` are usually limits.

    `build` makes what runs it, of its settings and its prompt. Without one, what the file makes it start, read and send
    must have been agreed to: `trusted` says that it is.
    """
    target = finished_of(Path(path))
    partial = partial_of(target)
    source = partial if partial.exists() else target
    document = load(source)
    recorded = described(source, document.run)
    run, origin = _changed(recorded, settings), Origin.of_cassette(source, recorded, settings)
    turns = sum(entry.asks_a_model and not entry.has_failed for entry in without_loose_ends(document).entries)
    return Continuation(
        path=target,
        title=f"resuming {source}: {public_address(run.settings.model)}, after {count(turns, 'step')}",
        run=run,
        build=build or _trusted(origin, trusted, environment),
        origin=origin,
        mode="resume",
        run_again=run_again,
        environment=os.environ if environment is None else environment,
    )


def fork(
    path: str | os.PathLike[str],
    into: str | os.PathLike[str],
    *,
    step: int,
    build: Build | None = None,
    trusted: bool = False,
    run_again: RunAgain | None = None,
    environment: MutableMapping[str, str] | None = None,
    replaces: bool = True,
    **settings: Any,
) -> Continuation:
    """Another run, recorded in `into`, that begins with the first steps of the run in `path`.

    `replaces` says whether a recording that is there already may be written over. A call that was under way when the
    recording ended runs again only if `run_again(tool, tool_input)` says so.
    """
    if os.path.realpath(into) == os.path.realpath(path):
        raise ConfigurationError(f"expected another file than {path} to record into, which stays as it is")
    replay = Replay(path, environment=environment)
    given = replay.run.steps  # of a fork, which its own events do not hold
    turns = _first_turns(replay, step - len(given)) if step > len(given) else []
    if not 0 <= step <= len(given) + len(turns):
        raise ConfigurationError(f"{path}: expected a step from 0 to {len(given) + len(turns)} to keep, saw {step}")
    origin = Origin.of_cassette(Path(path), replay.run, settings)
    run = replace(
        _changed(replay.run, settings),
        steps=(*given[:step], *(one for turn in turns for one in _as_steps(turn))),
        forked_from=f"{Path(path).name}, step {step}",
    )
    return Continuation(
        path=Path(into),
        title=f"fork of {path}: {public_address(run.settings.model)}, after {count(step, 'step')}",
        run=run,
        build=build or _trusted(origin, trusted, environment),
        origin=origin,
        mode="record",
        kept=tuple(event for turn in turns for event in turn),
        run_again=run_again,
        under_way=replay.under_way,
        replaces=replaces,
        environment=os.environ if environment is None else environment,
    )


def _trusted(origin: Origin, trusted: bool, environment: Mapping[str, str] | None) -> Build:
    """What builds the run, once it is known that it may."""

    def build(settings: RunSettings, prompt: Prompt | None) -> Executor:
        known = os.environ if environment is None else environment
        return build_runner(settings, prompt, foreign=foreign_names(origin, settings, known, consent))

    def consent(file: str, wanted: list[str]) -> None:
        if not trusted:
            asked = f"{file} asks to {'; '.join(wanted)}"
            raise ConfigurationError(f"{asked}; read the file, and pass trusted=True to let it")

    return build


def _changed(run: RunSpec, changes: dict[str, Any]) -> RunSpec:
    if strange := [name for name in changes if name not in SETTINGS]:
        raise ConfigurationError(f"expected settings of a run ({', '.join(SETTINGS)}), saw {', '.join(strange)}")
    settings = replace(run.settings, **changes)
    if isinstance(settings.schema, str):  # the recording has the schema, not where it was
        settings = replace(settings, schema=read_schema(settings.schema))
    if "prompt" in changes:
        own = not is_bundled(settings.prompt)
        return run.with_settings(settings, text=read_prompt(settings.prompt) if own else None)
    return replace(run, settings=settings)


def _turns(events: Iterator[Event]) -> Iterator[list[Event]]:
    """The first turns of a run, each with its observations, up to where it ended."""
    turn: list[Event] = []
    waiting = 0
    for event in events:
        if isinstance(event, Finished | LimitReached | BrokenOff):
            return
        if isinstance(event, RunStarted | Token | PartialAnswer | Replied | ModeFound):
            continue
        turn.append(event)
        waiting += isinstance(event, ActionChosen) - isinstance(event, Observed)
        if isinstance(event, Observed | ParseError) and not waiting:
            yield turn
            turn = []


def _first_turns(replay: Replay, wanted: int) -> list[list[Event]]:
    """What comes after them may be missing, or have drifted, or have broken the run off."""
    turns: list[list[Event]] = []
    ended_by = None
    with closing(replay.events()) as events:
        try:
            turns.extend(islice(_turns(events), max(0, wanted)))
        except AgentkitError as error:
            ended_by = error
    if len(turns) < wanted and ended_by is not None and replay.is_complete:
        raise ended_by
    return turns


def _as_steps(turn: Sequence[Event]) -> Iterator[dict[str, Any]]:
    thought = ""
    for event in turn:
        match event:
            case Thought(thought):
                pass
            case Observed(action, observation):
                yield _as_mapping(action, observation, thought)
                thought = ""  # of the turn, not of each of its calls
            case ParseError(text, observation):
                yield _as_mapping(Action(MALFORMED, observation, text), observation, thought)


def _as_mapping(action: Action, observation: Any, thought: str) -> dict[str, Any]:
    return {
        "thought": thought,
        "tool": action.tool,
        "tool_input": plain(action.tool_input),
        "log": action.log,
        "observation": plain(observation),
        **({"called": called_as_mapping(action.called)} if action.called else {}),
    }
