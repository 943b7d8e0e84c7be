"""Drives a `ReActLoop`: asks the agent, runs the tools, yields the events. Once for sync, once for async, both thin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, Protocol

from agentkit.core.loop import ModelCall, Observation, ReActLoop, Reply, ToolCalls
from agentkit.deadline import within
from agentkit.errors import ModelError
from agentkit.events import Action, Event, Finished, LimitReached, ModeFound, RunStarted, Token

Clock = Callable[[], float]
EARLY_S = 0.05  # timers may go off this much before their time


class Agent(Protocol):
    """Plans the next step: pieces of text as they arrive (or none), or news, then one `Reply`."""

    def plan(self, call: ModelCall) -> Iterator[str | ModeFound | Reply]: ...

    def aplan(self, call: ModelCall) -> AsyncIterator[str | ModeFound | Reply]: ...


class Toolbox(Protocol):
    """Runs actions; one observation each, in their order."""

    def run(self, actions: Sequence[Action]) -> Sequence[Observation]: ...

    async def arun(self, actions: Sequence[Action]) -> Sequence[Observation]: ...


def run(
    loop: ReActLoop, agent: Agent, toolbox: Toolbox, *, clock: Clock = time.monotonic, limit_s: float | None = None
) -> Iterator[Event]:
    """The run's events; the last one is `Finished`. Errors that the model cannot mend are raised.

    Models and tools are told what is left of `limit_s` (`agentkit.deadline`); a call that ends because nothing is left
    ends the run.
    """
    limit = _Limit(loop, clock, limit_s)
    yield RunStarted(loop.inputs)
    while True:
        match effect := loop.next(clock()):
            case ModelCall():
                pieces = iter(agent.plan(effect))
                while (piece := limit.call(next, pieces, None)) is not None:
                    yield from _events(piece, loop)
            case ToolCalls(actions):
                observations = limit.call(toolbox.run, actions)
                yield from loop.observed(observations) if observations is not None else ()
            case LimitReached():
                yield effect
            case Finished():
                yield effect
                return


async def arun(
    loop: ReActLoop, agent: Agent, toolbox: Toolbox, *, clock: Clock = time.monotonic, limit_s: float | None = None
) -> AsyncIterator[Event]:
    """`run`, awaiting. A call that is under way after `limit_s` is cancelled."""
    limit = _Limit(loop, clock, limit_s)
    yield RunStarted(loop.inputs)
    while True:
        match effect := loop.next(clock()):
            case ModelCall():
                pieces = aiter(agent.aplan(effect))
                while (piece := await limit.acall(anext(pieces, None))) is not None:
                    for event in _events(piece, loop):
                        yield event
            case ToolCalls(actions):
                observations = await limit.acall(toolbox.arun(actions))
                for event in loop.observed(observations) if observations is not None else ():
                    yield event
            case LimitReached():
                yield effect
            case Finished():
                yield effect
                return


def _events(piece: str | ModeFound | Reply, loop: ReActLoop) -> Iterator[Event]:
    match piece:
        case str():
            yield Token(piece)
        case Reply():
            yield from loop.replied(piece)
        case _:
            yield piece


class _Limit:
    """Holds the calls of a run to its time limit. A call that the limit ended gives `None`, and the loop is stopped."""

    def __init__(self, loop: ReActLoop, clock: Clock, limit_s: float | None) -> None:
        self._loop = loop
        self._clock = clock
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
        return max(0.0, end_s - self._clock())

    def _stop_if_over(self, end_s: float) -> None:
        """To be called in an `except` block: raises the error again if it is the model's or the tool's own."""
        if self._clock() < end_s - EARLY_S:
            raise
        self._loop.stop("max_execution_time")
