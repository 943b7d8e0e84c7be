"""Drives a `ReActLoop`: asks the agent, runs the tools, yields the events. Once for sync, once for async, both thin."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

from agentkit.events import Event, Finished, LimitReached, RunStarted, Token
from agentkit.loop import ModelCall, Observation, ReActLoop, Reply, ToolCalls
from agentkit.react_json.turn import Action

Clock = Callable[[], float]


class Agent(Protocol):
    """Plans the next step: pieces of text as they arrive (or none), then one `Reply`."""

    def plan(self, call: ModelCall) -> Iterator[str | Reply]: ...

    def aplan(self, call: ModelCall) -> AsyncIterator[str | Reply]: ...


class Toolbox(Protocol):
    """Runs actions; one observation each, in their order."""

    def run(self, actions: Sequence[Action]) -> Sequence[Observation]: ...

    async def arun(self, actions: Sequence[Action]) -> Sequence[Observation]: ...


def run(loop: ReActLoop, agent: Agent, toolbox: Toolbox, *, clock: Clock = time.monotonic) -> Iterator[Event]:
    """The run's events; the last one is `Finished`. Errors that the model cannot mend are raised."""
    yield RunStarted(loop.inputs)
    while True:
        match effect := loop.next(clock()):
            case ModelCall():
                for piece in agent.plan(effect):
                    if isinstance(piece, str):
                        yield Token(piece)
                    else:
                        yield from loop.replied(piece)
            case ToolCalls(actions):
                yield from loop.observed(toolbox.run(actions))
            case LimitReached():
                yield effect
            case Finished():
                yield effect
                return


async def arun(
    loop: ReActLoop, agent: Agent, toolbox: Toolbox, *, clock: Clock = time.monotonic, limit_s: float | None = None
) -> AsyncIterator[Event]:
    """`run`, awaiting. A call that is under way after `limit_s` is cancelled, and the run ends there."""
    deadline_s = None if limit_s is None else clock() + limit_s
    yield RunStarted(loop.inputs)
    while True:
        match effect := loop.next(clock()):
            case ModelCall():
                pieces = agent.aplan(effect)
                async for piece in _until(pieces, loop, clock, deadline_s):
                    if isinstance(piece, str):
                        yield Token(piece)
                    else:
                        for event in loop.replied(piece):
                            yield event
            case ToolCalls(actions):
                observations = await _within(toolbox.arun(actions), loop, clock, deadline_s)
                for event in loop.observed(observations) if observations is not None else ():
                    yield event
            case LimitReached():
                yield effect
            case Finished():
                yield effect
                return


async def _within(awaitable: Any, loop: ReActLoop, clock: Clock, deadline_s: float | None) -> Any:
    """The result, or `None` (and the loop stopped) when the deadline comes first."""
    if deadline_s is None:
        return await awaitable
    try:
        return await asyncio.wait_for(awaitable, max(0.0, deadline_s - clock()))
    except TimeoutError:
        if clock() < deadline_s:  # the tool's or the model's own
            raise
        loop.stop("max_execution_time")
        return None


async def _until(
    pieces: AsyncIterator[str | Reply], loop: ReActLoop, clock: Clock, deadline_s: float | None
) -> AsyncIterator[str | Reply]:
    end = object()
    while (piece := await _within(anext(pieces, end), loop, clock, deadline_s)) is not None and piece is not end:
        yield piece
