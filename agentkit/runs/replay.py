"""Replays a recorded run by itself: no key, no network, no weights, and no LangChain where the model was in process."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, MutableMapping
from pathlib import Path
from typing import Any, cast

from agentkit.cassette.cassette import Cassette
from agentkit.cassette.format.file import load
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.seams.model import ReplayedChat
from agentkit.core.agent import ReactAgent
from agentkit.core.loop import Limits
from agentkit.core.run import Run
from agentkit.errors import CassetteError
from agentkit.events import Event
from agentkit.tool import Tool
from agentkit.toolbox.toolbox import Toolbox

DEFAULT = "react-json"  # the prompt that native calls replace by their own


class Replay:
    """The run in a cassette that describes it. Raises `CassetteError` for one that cannot be read or does not."""

    def __init__(self, path: str | os.PathLike[str], *, environment: MutableMapping[str, str] = os.environ) -> None:
        self.path = Path(path)
        self._environment = environment
        self._document = load(self.path)
        self.run = described(self.path, self._document.run)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run was given."""
        return dict(self.run.inputs)

    @property
    def model(self) -> str:
        """The spec of the model that was recorded."""
        return self.run.model

    @property
    def is_complete(self) -> bool:
        """Whether the recording came to its end."""
        return self._document.complete

    @property
    def title(self) -> str:
        """The recording in one line."""
        head = self._document.head
        how = "transcribed" if head.get("transcribed") is True else f"recorded {head.get('recorded', 'some time ago')}"
        cut = "" if self._document.complete else ", interrupted"
        return f"replay of {self.path}: {self.model}, {how}{cut}"

    def events(self) -> Generator[Event, None, None]:
        """The run as it happened, at once; raises `CassetteDrift`."""
        with Cassette(self.path, mode="replay", environment=self._environment) as cassette:
            over_http = any(entry.kind == "http" and entry.asks_a_model for entry in self._document.entries)
            hosted = over_http and self.model.partition(":")[0] not in ("builtin", "local")
            if hosted:
                yield from self._with_executor()
                return
            yield from self._light(cassette)

    def _light(self, cassette: Cassette) -> Iterator[Event]:
        tools = _light_tools(self.run)
        agent = ReactAgent(
            ReplayedChat(cassette.tape, self.run.model), tools, self.run.read_prompt(), cast(Any, self.run.mode)
        )
        limits = Limits(
            max_iterations=self.run.max_iterations,
            max_execution_time_s=self.run.timeout,
            max_tokens=self.run.max_tokens,
            max_cost_usd=self.run.max_cost,
        )
        copies = self.run.model == "builtin" and self.run.options.get("constrain", "copy") == "copy"
        run = Run(
            inputs=self.inputs,
            planner=agent.planner(),
            toolbox=Toolbox(tools, max_observation_tokens=8_000),
            limits=limits,
            must_be_grounded=copies,  # as AgentExecutor.from_model has it
        )
        return run.events()

    def _with_executor(self) -> Iterator[Event]:
        """A hosted model: its client asks, the recorded HTTP answers."""
        from agentkit.langchain.executor import AgentExecutor
        from agentkit.models import chat_model

        executor = AgentExecutor.from_model(
            chat_model(self.run.model, fallbacks=self.run.fallbacks, **self.run.options),
            _tools(self.run),
            self.run.read_prompt(),
            mode=cast(Any, self.run.mode),
            max_iterations=self.run.max_iterations,
            max_execution_time=self.run.timeout,
            max_tokens=self.run.max_tokens,
            max_cost=self.run.max_cost,
        )
        return executor.events(self.inputs)


def replay_run(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of the run in a cassette, as `Replay(path).events()`."""
    return Replay(path).events()


def read_run_spec(path: str | os.PathLike[str]) -> RunSpec:
    """What the run in a cassette was started with."""
    return described(Path(path), load(Path(path)).run)


def described(path: Path, run: RunSpec | None) -> RunSpec:
    if run is None:
        raise CassetteError(
            f"{path}: expected agentkit.run, which says what to run; this was recorded by a script: "
            f'replay it there, with Cassette("{path}", mode="replay")'
        )
    return run


def _light_tools(run: RunSpec) -> list[Tool]:
    return [tool if isinstance(tool, Tool) else _from_langchain(tool) for tool in _tools(run)]


def _tools(run: RunSpec) -> list[Any]:
    """The run's tools. The folder of `docs` need not be there: what was found in it is in the cassette."""
    from agentkit.toolbox.registry import find_tool, is_named, name_of

    tools: list[Any] = [find_tool(name) for name in run.tools]
    if run.docs is not None:
        from agentkit.tools.documents import with_documents

        tools = with_documents(tools, run.docs)
    if run.mcp:
        from agentkit.mcp import mcp_tools

        tools += mcp_tools(*run.mcp, taken=run.tools)  # what the servers offered is in the cassette
    return [tool for tool in tools if not run.allow or is_named(name_of(tool), run.allow)]


def _from_langchain(tool: Any) -> Tool:
    from agentkit.langchain.tools import as_langchain, from_langchain

    return from_langchain(as_langchain(tool))
