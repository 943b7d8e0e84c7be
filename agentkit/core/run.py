"""A run: its loop driven to the end, the planner asked, the tools run, the events yielded. Sync and async, both thin.

    run = Run(inputs={"input": question}, planner=planner, toolbox=toolbox)
    for event in run.events():
        ...

Whatever records or replays (`agentkit.recorder.active`) is told of every event, and stands around the toolbox.
"""

from __future__ import annotations

import json
import time
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Generator,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, asynccontextmanager, contextmanager, nullcontext, suppress
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Literal, Protocol, TypeVar

from agentkit.core.history import History
from agentkit.core.loop import Compaction, Limits, ModelCall, ReActLoop, Summary, ToolCalls, Turn
from agentkit.core.planner import Planned, Planner
from agentkit.deadline import within
from agentkit.errors import (
    AgentkitError,
    ConfigurationError,
    MalformedTurn,
    ModelError,
    PromptTooLong,
    in_one_line,
    short_repr,
)
from agentkit.events import (
    Action,
    BrokenOff,
    Event,
    Finished,
    Forgotten,
    LimitReached,
    Observation,
    Outcome,
    Pending,
    RunStarted,
    Step,
    Token,
    Verdict,
)
from agentkit.recorder import Recorder, active
from agentkit.secrets import REDACTED
from agentkit.toolbox.approval import ask
from agentkit.toolbox.run_scope import ScopedToolbox

Clock = Callable[[], float]
T = TypeVar("T")
WITHOUT_SECRET = "Its input held a secret, which is not kept. Do without it."
EARLY_S = 0.05  # timers may go off this much before their time


class Tools(Protocol):
    """Runs actions; one outcome each, in their order.

    `deterministic` are the names of tools that give the same for the same input, `not_twice` of those that must not run
    a second time for one call, `only_reads` of those that are said to change nothing.
    """

    @property
    def deterministic(self) -> frozenset[str]: ...

    @property
    def not_twice(self) -> frozenset[str]: ...

    @property
    def only_reads(self) -> frozenset[str]: ...

    def run(self, actions: Sequence[Action]) -> Sequence[Outcome]: ...

    async def arun(self, actions: Sequence[Action]) -> Sequence[Outcome]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A run that ended early, by its `events`, and what is needed to go on: verdicts on the calls that waited, by id.

    `run_again(tool, tool_input)` says of a call that was under way, may have run and must not run twice, whether it
    runs now.
    """

    events: Sequence[Event]
    verdicts: Mapping[str, Verdict] = field(default_factory=dict)
    run_again: Callable[[str, Any], bool] | None = None

    def verdict(self, action: Action, outcome: Outcome, under_way: bool, not_twice: Collection[str]) -> Verdict | None:
        """What becomes of an open call; None where it is as if it had just been made.

        Raises `ConfigurationError` where it waits, or was `under_way` and nobody says whether it runs again.
        """
        known = action.verdict
        if known is not None and known.says != "yes":
            return known
        if isinstance(outcome, Pending) and not under_way:
            known = self._decision(outcome)
        if known is not None and known.says != "yes":
            return known
        tool_input = action.tool_input if known is None or known.tool_input is None else known.tool_input
        if REDACTED in json.dumps(tool_input, default=str):
            return Verdict(known.id if known is not None else "", "no", WITHOUT_SECRET)
        if not under_way or action.tool.strip().casefold() not in map(str.casefold, not_twice):
            return known
        if self.run_again is None:
            raise ConfigurationError(
                f"{action.tool}({short_repr(tool_input)}) was under way when the run was broken off, and may "
                "have run; say with run_again whether it runs now"
            )
        if not ask(self.run_again, action.tool, deepcopy(tool_input), name="run_again"):
            return Verdict("", "interrupted")
        return known or Verdict("", "yes")

    def _decision(self, pending: Pending) -> Verdict:
        verdict = self.verdicts.get(pending.id)
        if verdict is None:
            raise ConfigurationError(
                f"this run waits for decision {pending.id}, on {pending.action.tool}; decide first"
            )
        return replace(verdict, message=pending.answered(verdict.message)) if verdict.says == "answer" else verdict


class Compactor(Protocol):
    """Carries out a `Compaction`; `how` says by what."""

    @property
    def how(self) -> Literal["summary", "function"]: ...

    def sum_up(self, task: Compaction) -> Summary: ...

    async def asum_up(self, task: Compaction) -> Summary: ...


class Keeper(Protocol):
    """Where a run is kept as it happens."""

    def holding(self) -> AbstractContextManager[Callable[[Event], None]]:
        """The block in which a run belongs to this process, and what is told of each event before anybody else is."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Within:
    """What a run belongs to: the turns before it, what happened in it before, and where it is kept."""

    history: History = field(default_factory=History)
    begun: Begun | None = None
    keeper: Keeper | None = None

    def fitted(self, context_tokens: int | None) -> Within:
        """The same for a model that reads so many tokens."""
        return replace(self, history=replace(self.history, context_tokens=context_tokens))


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of a question. `planner` serves this run only.

    `recover` gives what the model is told of a turn that cannot be parsed (`None`: the error is raised), `trim` which
    steps the model still sees. `given` is what an answer may hold that no tool gave. `replayed(action, observation)` is
    told of each call that was answered without the tool. `within` is what the run belongs to; one that was begun before
    goes on, and does not tell again what happened then.
    `compactor` sums up the oldest steps where a prompt leaves no room for a turn; without one, their observations are
    dropped where it is sent.
    """

    inputs: dict[str, Any]
    planner: Planner
    toolbox: Tools
    limits: Limits = field(default_factory=Limits)
    recover: Callable[[MalformedTurn], str] | None = str
    trim: Callable[[Sequence[Step]], Sequence[Step]] | None = None
    must_be_grounded: bool = False
    given: str = ""
    replayed: Callable[[Action, Observation], None] | None = None
    compactor: Compactor | None = None
    within: Within = field(default_factory=Within)

    def events(self) -> Generator[Event]:
        """The run's events; the last one is `Finished`. Errors that the model cannot mend are raised.

        Models and tools are told what is left of the time limit (`agentkit.deadline`); a call that ends because
        nothing is left ends the run.
        """
        keeper = self.within.keeper
        with nullcontext() if keeper is None else keeper.holding() as keep, _ending_told(active(), keep) as record:
            for event in self._events():
                record(event)
                if keep is not None:
                    keep(event)
                yield event

    async def aevents(self) -> AsyncGenerator[Event]:
        """`events`, awaiting. A call that is under way when the time is over is cancelled."""
        import asyncio

        keeper = self.within.keeper
        async with nullcontext() if keeper is None else entered_in_thread(keeper.holding()) as keep:
            with _ending_told(active(), keep) as record:
                async for event in self._aevents():
                    record(event)
                    if keep is not None and not isinstance(event, Token):
                        await asyncio.to_thread(keep, event)  # it may wait for a disk, or for another process
                    yield event

    def _events(self) -> Iterator[Event]:
        loop, toolbox, limit = self._parts()
        yield from self._start(loop)
        while True:
            match effect := loop.next(limit.clock()):
                case ModelCall():
                    if self._is_too_long_again(loop, effect):
                        continue
                    pieces = iter(self.planner.plan(effect))
                    try:
                        while (piece := limit.call(next, pieces, None)) is not None:
                            yield from _events(piece, loop)
                    except PromptTooLong as error:
                        _too_long(loop, effect, error)
                case Compaction():
                    if (summary := self._summary_again()) is None:
                        summary = limit.call(self._compactor.sum_up, effect)
                    yield from loop.compacted(summary) if summary is not None else ()
                case ToolCalls(actions):
                    outcomes = limit.call(toolbox.run, actions)
                    yield from loop.observed(outcomes) if outcomes is not None else ()
                case LimitReached():
                    yield effect
                case Finished():
                    yield effect
                    return

    async def _aevents(self) -> AsyncIterator[Event]:
        loop, toolbox, limit = self._parts()
        for event in self._start(loop):
            yield event
        while True:
            match effect := loop.next(limit.clock()):
                case ModelCall():
                    if self._is_too_long_again(loop, effect):
                        continue
                    pieces = aiter(self.planner.aplan(effect))
                    try:
                        while (piece := await limit.acall(anext(pieces, None))) is not None:
                            for event in _events(piece, loop):
                                yield event
                    except PromptTooLong as error:
                        _too_long(loop, effect, error)
                case Compaction():
                    if (summary := self._summary_again()) is None:
                        summary = await limit.acall(self._compactor.asum_up(effect))
                    for event in loop.compacted(summary) if summary is not None else ():
                        yield event
                case ToolCalls(actions):
                    outcomes = await limit.acall(toolbox.arun(actions))
                    for event in loop.observed(outcomes) if outcomes is not None else ():
                        yield event
                case LimitReached():
                    yield effect
                case Finished():
                    yield effect
                    return

    @property
    def _compactor(self) -> Compactor:
        assert self.compactor is not None  # without one the loop asks for no summary
        return self.compactor

    def _is_too_long_again(self, loop: ReActLoop, call: ModelCall) -> bool:
        """Whether the prompt was too long in the recording that is replayed: the model may not be here to say so."""
        recorder = None if call.shortens else active()
        recorded = recorder.compaction() if recorder is not None else None
        if recorded is not None:
            loop.too_long(PromptTooLong("in the recording"), last=recorded.last)
        return recorded is not None

    def _summary_again(self) -> Summary | None:
        """What was recorded in the place of a summary for which no model was asked."""
        recorder = active()
        recorded = recorder.compaction(summed_up=True) if recorder is not None else None
        return None if recorded is None else Summary(recorded.text, recorded.reason, recorded.usage)

    def _start(self, loop: ReActLoop) -> Iterator[Event]:
        yield RunStarted(loop.inputs)
        if (history := self.within.history).shown_from:
            yield Forgotten(history.told_from, history.shown_from)
        if (begun := self.within.begun) is not None:
            yield from loop.resume(partial(begun.verdict, not_twice=self.toolbox.not_twice))

    def _parts(self) -> tuple[ReActLoop, ScopedToolbox, _Limit]:
        recorder, toolbox = active(), self.toolbox
        clock: Clock = time.monotonic
        if recorder is not None:
            toolbox = recorder.toolbox(toolbox, played=self.replayed)
            clock = recorder.clock  # a replay has the recording's time
        loop = ReActLoop(
            self.inputs,
            limits=self.limits,
            recover=self.recover,
            trim=self.trim,
            must_be_grounded=self.must_be_grounded,
            started_s=clock(),
            steps=recorder.given_steps if recorder is not None else (),
            begun=self.within.begun.events if self.within.begun is not None else (),
            known=f"{self.within.history.confirms}\n{self.given}" if self.given else self.within.history.confirms,
            compacts=self.compactor.how if self.compactor is not None else None,
        )
        return loop, ScopedToolbox(toolbox), _Limit(loop, clock, self.limits.max_execution_time_s)


@asynccontextmanager
async def entered_in_thread(block: AbstractContextManager[T]) -> AsyncIterator[T]:
    """A block that waits for somebody before it begins, as an async one."""
    import asyncio

    entered = await asyncio.to_thread(block.__enter__)
    try:
        yield entered
    except BaseException as error:
        if not block.__exit__(type(error), error, error.__traceback__):
            raise
    else:
        block.__exit__(None, None, None)


@contextmanager
def _ending_told(recorder: Recorder | None, keep: Callable[[Event], None] | None) -> Iterator[Callable[[Event], None]]:
    """Tells a recorder of a run's events, and it and the keeper of the exception that breaks the run off."""
    if recorder is None and keep is None:
        yield lambda event: None
        return
    last: Event | None = None

    def record(event: Event) -> None:
        nonlocal last
        last = event
        if recorder is not None:
            recorder.event(event)

    try:
        yield record
    except BaseException as error:
        if not isinstance(last, Finished):
            broken_off = BrokenOff(type(error).__name__, in_one_line(error))
            for tell in (recorder.event if recorder is not None else None, keep):
                with suppress(AgentkitError):  # what broke the run off says more
                    if tell is not None:
                        tell(broken_off)
        raise


def _too_long(loop: ReActLoop, call: ModelCall, error: PromptTooLong) -> None:
    """To be called in an `except` block: raises the error again where the prompt has nothing that could go."""
    if call.shortens:
        raise error
    loop.too_long(error)


def _events(piece: Planned, loop: ReActLoop) -> Iterator[Event]:
    match piece:
        case str():
            yield Token(piece)
        case Turn():
            yield from loop.replied(piece)
        case _:
            yield piece


class _Limit:
    """Holds the calls of a run to its time limit. A call that the limit ended gives `None`, and the loop is stopped."""

    def __init__(self, loop: ReActLoop, clock: Clock, limit_s: float | None) -> None:
        self._loop = loop
        self.clock = clock
        self._end_s = None if limit_s is None else clock() + limit_s

    # The deadline is set around each call, not around the run: what a generator sets, its consumer sees.

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        if self._end_s is None:
            return function(*args)
        try:
            with within(self._left_s(self._end_s)):
                return function(*args)
        except (ModelError, TimeoutError):
            self._stop_if_over(self._end_s)
            return None

    async def acall(self, awaitable: Awaitable[Any]) -> Any:
        import asyncio

        if self._end_s is None:
            return await awaitable
        left_s = self._left_s(self._end_s)
        try:
            with within(left_s):
                return await asyncio.wait_for(awaitable, left_s)
        except (ModelError, TimeoutError):
            self._stop_if_over(self._end_s)
            return None

    def _left_s(self, end_s: float) -> float:
        return max(0.0, end_s - self.clock())

    def _stop_if_over(self, end_s: float) -> None:
        """To be called in an `except` block: raises the error again if it is the model's or the tool's own."""
        if self.clock() < end_s - EARLY_S:
            raise
        self._loop.stop("max_execution_time")
