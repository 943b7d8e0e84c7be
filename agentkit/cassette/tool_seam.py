"""Where tools meet a cassette: around the toolbox of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

from agentkit.cassette.entries import Entry, plain, tool_uri
from agentkit.cassette.recording import Call, Recording
from agentkit.cassette.replaying import Replaying, result_of
from agentkit.loop import Observation
from agentkit.react_json.turn import Action

Played = Callable[[Action, Observation], None]


class Toolbox(Protocol):
    """What runs a run's actions."""

    def run(self, actions: Sequence[Action]) -> Sequence[Observation]: ...

    async def arun(self, actions: Sequence[Action]) -> Sequence[Observation]: ...


class RecordedToolbox:
    """Records each call's observation, unless HTTP was recorded while it ran."""

    def __init__(self, toolbox: Toolbox, recording: Recording) -> None:
        self._toolbox = toolbox
        self._recording = recording

    def run(self, actions: Sequence[Action]) -> list[Observation]:
        return [self._run_one(action) for action in actions]

    async def arun(self, actions: Sequence[Action]) -> list[Observation]:
        return list(await asyncio.gather(*map(self._arun_one, actions)))

    def _run_one(self, action: Action) -> Observation:
        call = self._recording.begin()
        try:
            with self._recording.within(call):
                (observation,) = self._toolbox.run([action])
        finally:
            self._recording.end(call)
        self._record(action, observation, call)
        return observation

    async def _arun_one(self, action: Action) -> Observation:
        call = self._recording.begin()
        try:
            with self._recording.within(call):
                (observation,) = await self._toolbox.arun([action])
        finally:
            self._recording.end(call)
        self._record(action, observation, call)
        return observation

    def _record(self, action: Action, observation: Observation, call: Call) -> None:
        if not call.recorded:
            self._recording.add(_entry(action, observation), started_s=call.started_s)


class PlayedToolbox:
    """Gives the recorded observations; executes deterministic tools, and those that spoke HTTP, again.

    `played` is told of each call that was answered without the tool: nobody else announces it.
    """

    def __init__(
        self,
        toolbox: Toolbox,
        replaying: Replaying,
        *,
        deterministic: Collection[str] = (),
        played: Played | None = None,
    ) -> None:
        self._toolbox = toolbox
        self._replaying = replaying
        self._played = played
        self._deterministic = frozenset(name.casefold() for name in deterministic)

    def run(self, actions: Sequence[Action]) -> list[Observation]:
        return [self._run_one(action) for action in actions]

    async def arun(self, actions: Sequence[Action]) -> list[Observation]:
        return list(await asyncio.gather(*map(self._arun_one, actions)))

    def _run_one(self, action: Action) -> Observation:
        entry = self._replaying.tool(action.tool, action.tool_input)
        if entry is not None and not self._again(action, entry):
            return self._answer(action, entry)
        (observation,) = self._toolbox.run([action])
        return self._checked(action, entry, observation)

    async def _arun_one(self, action: Action) -> Observation:
        entry = self._replaying.tool(action.tool, action.tool_input)
        if entry is not None and not self._again(action, entry):
            return self._answer(action, entry)
        (observation,) = await self._toolbox.arun([action])
        return self._checked(action, entry, observation)

    def _answer(self, action: Action, entry: Entry) -> Observation:
        observation = _observation(entry)
        if self._played is not None and observation.executed:
            self._played(action, observation)
        return observation

    def _again(self, action: Action, entry: Entry) -> bool:
        return action.tool.strip().casefold() in self._deterministic and entry.response.get("executed", True)

    def _checked(self, action: Action, entry: Entry | None, observation: Observation) -> Observation:
        if entry is not None:
            self._replaying.same_result(action.tool, result_of(entry), observation.value)
        return observation


def _entry(action: Action, observation: Observation) -> Entry:
    value = plain(observation.value)
    response: dict[str, Any] = {"string": value} if isinstance(value, str) else {"json": value}
    if not observation.executed:
        response["executed"] = False
    if observation.return_direct:
        response["return_direct"] = True
    return Entry(uri=tool_uri(action.tool), body={"input": action.tool_input}, response=response)


def _observation(entry: Entry) -> Observation:
    response = entry.response
    return Observation(
        result_of(entry),
        executed=response.get("executed") is not False,
        return_direct=response.get("return_direct") is True,
    )
