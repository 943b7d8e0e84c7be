"""Runs a turn's actions: finds the tools, holds them to the run's rules, makes their errors observations."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from agentkit.approximate_tokens import cut_to_tokens
from agentkit.deadline import remaining_s
from agentkit.errors import ToolError
from agentkit.events import Action, Observation, Source, ToolInput
from agentkit.retry import RetryPolicy
from agentkit.secrets import Secrets
from agentkit.tool import Result, Tool
from agentkit.toolbox.approval import Approve, aask, ask, check_approve
from agentkit.toolbox.calling import OutOfTime, ThreadCall, acall, call
from agentkit.toolbox.registry import check_names

if TYPE_CHECKING:
    import asyncio


@dataclass(frozen=True, slots=True)
class _Call:
    """A tool with its input, and the action that must be approved first (None: nobody is asked)."""

    tool: Tool
    tool_input: ToolInput
    asked: Action | None = None


class Toolbox:
    """Tools by name. A name in other letter case is taken when only one tool can be meant.

    Several actions run at once, each in a thread of its own, after every approval was asked for, one after another.
    `approve` is asked before every tool that does not say that it only reads: about a copy of the very arguments that
    the tool gets. `timeout_s` holds for tools without a time limit of their own; no tool outlasts the run's deadline.
    `allow` has the names of those that may run (`None`: all). `max_observation_tokens` is where an observation is cut.
    """

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        timeout_s: float | None = None,
        approve: Approve | None = None,
        allow: Collection[str] | None = None,
        max_observation_tokens: int | None = None,
        retries: RetryPolicy | None = None,
    ) -> None:
        check_names([tool.name for tool in tools])
        check_approve(approve)
        self._tools = {tool.name: tool for tool in tools}
        self._allowed = [name for name in self._tools if allow is None or name in allow]
        self._timeout_s = timeout_s
        self._approve = approve
        self._asking = threading.Lock()  # a recorder runs each action by itself: they ask one after another, too
        self._aasking: asyncio.Lock | None = None
        self._max_tokens = max_observation_tokens
        self._retries = retries or RetryPolicy()
        self._known_secrets = Secrets(os.environ)

    @property
    def deterministic(self) -> frozenset[str]:
        """Names of the tools that give the same for the same input."""
        return frozenset(tool.name for tool in self._tools.values() if tool.deterministic)

    @property
    def only_reads(self) -> frozenset[str]:
        """Names of the tools that are said to change nothing."""
        return frozenset(tool.name for tool in self._tools.values() if tool.only_reads)

    @property
    def not_twice(self) -> frozenset[str]:
        """Names of the tools that must not run a second time for one call."""
        found = (tool for tool in self._tools.values() if tool.side_effects)
        return frozenset(tool.name for tool in found if not (tool.idempotent or tool.deterministic))

    @property
    def _secrets(self) -> Secrets:
        """The keys that this process has now, and what looks like a token."""
        if self._known_secrets.environment_changed():
            self._known_secrets = Secrets(os.environ)
        return self._known_secrets

    def run(self, actions: Sequence[Action]) -> list[Observation]:
        chosen = [self._approved(self._chosen(action)) for action in actions]
        begun = [self._begun(one, alone=len(actions) == 1) for one in chosen]
        return [observation() for observation in begun]

    async def arun(self, actions: Sequence[Action]) -> list[Observation]:
        import asyncio

        chosen = [await self._aapproved(self._chosen(action)) for action in actions]
        return list(await asyncio.gather(*map(self._arun_one, chosen)))

    def _begun(self, chosen: _Call | Observation, *, alone: bool) -> Callable[[], Observation]:
        """The call under way; calling the result waits for it. One call without a time limit needs no thread."""
        if isinstance(chosen, Observation):
            return lambda: chosen
        tool, tool_input, limit_s = chosen.tool, chosen.tool_input, self._limit_s(chosen.tool)
        if alone and limit_s is None:
            return partial(self._observed, tool, partial(call, tool, tool_input, self._retries))
        return partial(self._observed, tool, ThreadCall(tool, tool_input, self._retries, limit_s).result)

    def _observed(self, tool: Tool, get: Callable[[], Any]) -> Observation:
        try:
            return self._told(tool, get())
        except (ToolError, OutOfTime) as error:
            return self._failed(tool, error)

    async def _arun_one(self, chosen: _Call | Observation) -> Observation:
        if isinstance(chosen, Observation):
            return chosen
        tool = chosen.tool
        try:
            return self._told(tool, await acall(tool, chosen.tool_input, self._retries, self._limit_s(tool)))
        except (ToolError, OutOfTime) as error:
            return self._failed(tool, error)

    # -- which tool, and for how long ------------------------------------------------------------------------------

    def _chosen(self, action: Action) -> _Call | Observation:
        """The tool to run, or why none is."""
        tool = self._find(action.tool)
        names = ", ".join(self._allowed)
        if tool is None:
            return _refused(f"{action.tool} is not a valid tool, try one of [{names}].")
        if tool.name not in self._allowed:
            return _refused(f"{tool.name} is not allowed in this run, try one of [{names}].")
        if self._approve is None or tool.only_reads:
            return _Call(tool, action.tool_input)
        try:
            arguments = deepcopy(tool.arguments(action.tool_input))
        except ToolError as error:
            return self._failed(tool, error)
        return _Call(tool, arguments, replace(action, tool=tool.name, tool_input=deepcopy(arguments)))

    def _approved(self, chosen: _Call | Observation) -> _Call | Observation:
        if isinstance(chosen, Observation) or chosen.asked is None or self._approve is None:
            return chosen
        with self._asking:
            said_yes = ask(self._approve, chosen.asked)
        return chosen if said_yes else _not_approved(chosen)

    async def _aapproved(self, chosen: _Call | Observation) -> _Call | Observation:
        import asyncio

        if isinstance(chosen, Observation) or chosen.asked is None or self._approve is None:
            return chosen
        self._aasking = self._aasking or asyncio.Lock()
        async with self._aasking:
            said_yes = await aask(self._approve, chosen.asked)
        return chosen if said_yes else _not_approved(chosen)

    def _find(self, name: str) -> Tool | None:
        if (tool := self._tools.get(name)) is not None:
            return tool
        alike = [tool for known, tool in self._tools.items() if known.casefold() == name.strip().casefold()]
        return alike[0] if len(alike) == 1 else None

    def _limit_s(self, tool: Tool) -> float | None:
        limits_s = (self._own_limit_s(tool), remaining_s())
        return min((limit_s for limit_s in limits_s if limit_s is not None), default=None)

    def _own_limit_s(self, tool: Tool) -> float | None:
        return self._timeout_s if tool.timeout_s is None else tool.timeout_s

    # -- what came of it -------------------------------------------------------------------------------------------

    def _told(self, tool: Tool, value: Any) -> Observation:
        result = value if isinstance(value, Result) else Result(value)
        observation = Observation(
            result.text, return_direct=tool.return_direct, sources=result.sources, readings=result.readings
        )
        return self._admitted(observation)

    def _failed(self, tool: Tool, error: ToolError | OutOfTime) -> Observation:
        if isinstance(error, ToolError):
            return self._admitted(Observation(str(error)))
        own_s = self._own_limit_s(tool)
        limit = "the time the run had left" if own_s is None or remaining_s() == 0 else f"{own_s:g} s"
        return Observation(f"Error: {tool.name} gave no result within {limit}.")

    def _admitted(self, observation: Observation) -> Observation:
        """The observation with its secrets redacted and its text cut; what is returned to the caller is not cut."""
        secrets = self._secrets
        value = _redacted(observation.value, secrets)
        if self._max_tokens is not None and not observation.return_direct:
            value = _cut(value, self._max_tokens)
        if value is observation.value and not observation.sources and not observation.readings:
            return observation
        sources = tuple(Source(secrets.scrub_text(s.title), secrets.scrub_text(s.link)) for s in observation.sources)
        readings = tuple(map(secrets.scrub_text, observation.readings))
        return replace(observation, value=value, sources=sources, readings=readings)


def _not_approved(chosen: _Call) -> Observation:
    return _refused(f"{chosen.tool.name} was not approved. Do without it.")


def _refused(why: str) -> Observation:
    return Observation(why, executed=False)


def _redacted(value: Any, secrets: Secrets) -> Any:
    """The value without secrets: one of its type, or its text where they cannot be taken out of its parts."""
    if isinstance(value, str):
        return secrets.scrub_text(value)
    text = str(value)
    if (scrubbed := secrets.scrub_text(text)) == text:
        return value
    with suppress(Exception):  # whatever an object of the tool's makes of being taken apart
        same = secrets.scrub(value)
        if secrets.scrub_text(str(same)) == str(same):
            return same
    return scrubbed


def _cut(value: Any, max_tokens: int) -> Any:
    text = value if isinstance(value, str) else str(value)
    if len(text) <= max_tokens or (kept := cut_to_tokens(text, max_tokens)) == text:
        return value
    cut = len(text) - len(kept.removesuffix("..."))
    return f"{kept}\n[{cut:,} of {len(text):,} characters were cut here; ask for less, or for one part]"
