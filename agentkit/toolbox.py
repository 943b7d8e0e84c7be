"""Runs a turn's actions: finds the tool, asks for approval, holds its timeout, makes its errors observations."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from agentkit.errors import ToolError
from agentkit.loop import Observation
from agentkit.react_json.turn import Action
from agentkit.tool import Tool

Approve = Callable[[Action], bool]


class Toolbox:
    """Tools by name. A name in other letter case is taken when only one tool can be meant."""

    def __init__(
        self, tools: Sequence[Tool], *, timeout_s: float | None = None, approve: Approve | None = None
    ) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._timeout_s = timeout_s
        self._approve = approve

    @property
    def deterministic(self) -> frozenset[str]:
        """Names of the tools that give the same for the same input."""
        return frozenset(tool.name for tool in self._tools.values() if tool.deterministic)

    def run(self, actions: Sequence[Action]) -> list[Observation]:
        return [self._run_one(action) for action in actions]

    async def arun(self, actions: Sequence[Action]) -> list[Observation]:
        return list(await asyncio.gather(*map(self._arun_one, actions)))

    def _run_one(self, action: Action) -> Observation:
        tool = self._find(action.tool)
        if tool is None or not self._allowed(tool, action):
            return self._refusal(tool, action)
        try:
            if self._timeout_s is None:
                return Observation(tool.call(action.tool_input), return_direct=tool.return_direct)
            future = in_daemon_thread(tool.call, action.tool_input)
            return Observation(future.result(self._timeout_s), return_direct=tool.return_direct)
        except ToolError as error:
            return Observation(str(error))
        except TimeoutError:
            if self._timeout_s is None or not future.running():
                raise
            return self._timed_out(tool)

    async def _arun_one(self, action: Action) -> Observation:
        tool = self._find(action.tool)
        if tool is None or (self._must_ask(tool) and not await asyncio.to_thread(self._allowed, tool, action)):
            return self._refusal(tool, action)
        started = False
        try:
            async with asyncio.timeout(self._timeout_s) as deadline:
                started = True
                if tool.arun is not None:
                    value = await tool.acall(action.tool_input)
                else:
                    value = await asyncio.wrap_future(in_daemon_thread(tool.call, action.tool_input))
            return Observation(value, return_direct=tool.return_direct)
        except ToolError as error:
            return Observation(str(error))
        except TimeoutError:
            if not started or not deadline.expired():
                raise
            return self._timed_out(tool)

    def _find(self, name: str) -> Tool | None:
        if (tool := self._tools.get(name)) is not None:
            return tool
        alike = [tool for known, tool in self._tools.items() if known.casefold() == name.strip().casefold()]
        return alike[0] if len(alike) == 1 else None

    def _allowed(self, tool: Tool, action: Action) -> bool:
        return not self._must_ask(tool) or (self._approve is not None and bool(self._approve(action)))

    def _must_ask(self, tool: Tool) -> bool:
        return tool.side_effects and self._approve is not None

    def _refusal(self, tool: Tool | None, action: Action) -> Observation:
        if tool is None:
            return Observation(
                f"{action.tool} is not a valid tool, try one of [{', '.join(self._tools)}].", executed=False
            )
        return Observation(f"{tool.name} was not approved. Do without it.", executed=False)

    def _timed_out(self, tool: Tool) -> Observation:
        return Observation(f"Error: {tool.name} gave no result within {self._timeout_s:g} s.")


def in_daemon_thread(function: Callable[..., Any], *args: Any) -> Future[Any]:
    """Run `function` in a thread that does not keep the process alive (a pool's threads do), in this context."""
    future: Future[Any] = Future()
    context = contextvars.copy_context()

    def work() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(context.run(function, *args))
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    return future
