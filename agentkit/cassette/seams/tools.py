"""Where tools meet a cassette: around the toolbox of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

from agentkit.cassette.format.entries import Entry, plain, tool_uri
from agentkit.cassette.format.events import facts_of, read_facts
from agentkit.cassette.recording import Call
from agentkit.cassette.replaying import read_as, result_of
from agentkit.cassette.tape import Tape
from agentkit.core.run import Tools
from agentkit.errors import CassetteError
from agentkit.events import Action, Observation
from agentkit.toolbox.approval import ask, interrupted
from agentkit.toolbox.calling import in_daemon_thread

Played = Callable[[Action, Observation], None]


class TapedToolbox:
    """Gives recorded observations, and records the others unless HTTP was recorded in their place.

    Played runs execute tools that only read again: deterministic ones, to compare, and those that spoke HTTP. Any other
    tool is recorded by its result alone, and no replay runs it, whatever a file says; that one which must not run
    twice begins is recorded before it does. `played` is told of each call that was answered without the tool: nobody
    else announces it.
    """

    def __init__(self, toolbox: Tools, cassette: Tape, *, played: Played | None = None) -> None:
        self.deterministic = toolbox.deterministic
        self.not_twice = toolbox.not_twice
        self.only_reads = toolbox.only_reads
        self._toolbox = toolbox
        self._cassette = cassette
        self._played = played
        self._not_twice = frozenset(name.casefold() for name in toolbox.not_twice)
        self._only_reads = frozenset(name.casefold() for name in toolbox.only_reads)
        self._executed_again = self._only_reads & {name.casefold() for name in toolbox.deterministic}

    def run(self, actions: Sequence[Action]) -> list[Observation]:
        if len(actions) == 1 or self._cassette.plays:
            return [self._run_one(action) for action in actions]
        under_way = [in_daemon_thread(self._run_one, action) for action in actions]
        return [call.result() for call in under_way]

    async def arun(self, actions: Sequence[Action]) -> list[Observation]:
        return list(await asyncio.gather(*map(self._arun_one, actions)))

    def _run_one(self, action: Action) -> Observation:
        entry = self._cassette.tool(action.tool, action.tool_input)
        if (known := self._known(action, entry)) is not None:
            return known
        with self._cassette.call(silent=self._is_silent(action, entry)) as call:
            self._begin(action, entry)
            (observation,) = call.run(self._toolbox.run, [action])
            return self._ended(action, entry, observation, call)

    async def _arun_one(self, action: Action) -> Observation:
        entry = self._cassette.tool(action.tool, action.tool_input)
        if (known := self._known(action, entry)) is not None:
            return known
        with self._cassette.call(silent=self._is_silent(action, entry)) as call:
            self._begin(action, entry)
            (observation,) = await call.arun(self._toolbox.arun([action]))
            return self._ended(action, entry, observation, call)

    # -- before the tool -------------------------------------------------------------------------------------------

    def _known(self, action: Action, entry: Entry | None) -> Observation | None:
        """What is known without the tool, if it is."""
        if entry is None:
            if self._cassette.mode == "replay" and _name(action) not in self._only_reads:
                raise self._cassette.replaying.missing(
                    f"what {action.tool} gave, and a replay runs no tool that does not say that it only reads "
                    "(side_effects=False)"
                )
            return None if self._may_run(action) else self._not_run_again(action)
        if _name(action) in self._executed_again and entry.response.get("executed", True):
            return None
        (observation,) = read_as(self._cassette.path, entry, lambda one: [observation_of(one)])
        if self._played is not None and observation.executed:
            self._played(action, observation)
        return observation

    def _may_run(self, action: Action) -> bool:
        """Whether it is known that this call did not run before, or that it may run again."""
        cassette, tool, tool_input = self._cassette, action.tool, action.tool_input
        begun = cassette.replaying.begun(tool, tool_input) if _name(action) in self._not_twice else None
        if begun is None:
            return True
        if cassette.run_again is None:
            raise CassetteError(
                f"{cassette.path}: {tool}({tool_input!r}) was under way when the recording ended and may have run; "
                "say with run_again whether it runs now"
            )
        if not ask(cassette.run_again, tool, deepcopy(tool_input), name="run_again"):
            return False
        cassette.runs_again(begun)
        return True

    def _not_run_again(self, action: Action) -> Observation:
        observation = Observation(interrupted(action.tool), executed=False)
        self._begin(action, None)  # the result ends one beginning: it is as open as before
        with self._cassette.call() as call:
            call.add(lambda: _entry(action, observation))
        return observation

    def _is_silent(self, action: Action, entry: Entry | None) -> bool:
        return entry is not None or _name(action) not in self._only_reads

    def _begin(self, action: Action, entry: Entry | None) -> None:
        if entry is None and _name(action) in self._not_twice:
            body = {"input": action.tool_input}
            with self._cassette.call() as call:
                call.add(lambda: Entry(uri=tool_uri(action.tool), body=body, response={"begun": True}))

    # -- after it --------------------------------------------------------------------------------------------------

    def _ended(self, action: Action, entry: Entry | None, observation: Observation, call: Call) -> Observation:
        if entry is None:
            call.add(lambda: _entry(action, observation))
        else:
            self._cassette.replaying.same_result(action.tool, result_of(entry), observation.value)
        return observation


def _name(action: Action) -> str:
    return action.tool.strip().casefold()


def observation_body(observation: Observation) -> dict[str, Any]:
    """An observation as a response body."""
    value = plain(observation.value)
    response: dict[str, Any] = {"string": value} if isinstance(value, str) else {"json": value}
    if observation.return_direct:
        response["return_direct"] = True
    return response | facts_of(observation)


def _entry(action: Action, observation: Observation) -> Entry:
    return Entry(uri=tool_uri(action.tool), body={"input": action.tool_input}, response=observation_body(observation))


def observation_of(entry: Entry) -> Observation:
    """The observation again; raises what comes of another shape."""
    return_direct = entry.response.get("return_direct") is True
    return Observation(result_of(entry), return_direct=return_direct, **read_facts(entry.response))
