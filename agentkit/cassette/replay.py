"""Replays a recorded run by itself: no key, no network, no weights, and no LangChain where the model was in process."""

from __future__ import annotations

import os
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any

from agentkit import runner
from agentkit.cassette.cassette import Cassette
from agentkit.cassette.file import load
from agentkit.cassette.model_seam import ReplayModel
from agentkit.cassette.run_spec import RunSpec
from agentkit.errors import CassetteError
from agentkit.events import Event
from agentkit.loop import Limits, ReActLoop
from agentkit.planner import ReactJsonPlanner
from agentkit.react_json.prompt import Prompt, render_text_description
from agentkit.tool import Tool
from agentkit.toolbox import Toolbox


class Replay:
    """The run in a cassette that describes it. Raises `CassetteError` for one that cannot be read or does not."""

    def __init__(self, path: str | os.PathLike[str], *, environment: MutableMapping[str, str] = os.environ) -> None:
        self.path = Path(path)
        self._environment = environment
        self._document = load(self.path)
        self.run = _described(self.path, self._document.run)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run was given."""
        return dict(self.run.inputs)

    @property
    def model(self) -> str:
        """The spec of the model that was recorded."""
        return self.run.model

    @property
    def title(self) -> str:
        """The recording in one line."""
        head = self._document.head
        how = "transcribed" if head.get("transcribed") is True else f"recorded {head.get('recorded', 'some time ago')}"
        cut = "" if self._document.complete else ", interrupted"
        return f"replay of {self.path}: {self.model}, {how}{cut}"

    def events(self) -> Iterator[Event]:
        """The run as it happened, at once; raises `CassetteDrift`."""
        with Cassette(self.path, mode="replay", environment=self._environment) as cassette:
            over_http = cassette.replaying.has("http") and not cassette.replaying.has("turn")
            hosted = over_http and self.model.partition(":")[0] not in ("builtin", "local")
            yield from self._with_executor() if hosted else self._light(cassette)

    def _light(self, cassette: Cassette) -> Iterator[Event]:
        tools = _light_tools(self.run.tools)
        toolbox = cassette.toolbox(Toolbox(tools), [tool.name for tool in tools if tool.deterministic])
        planner = ReactJsonPlanner(ReplayModel(cassette.replaying), _filled(self.run.read_prompt(), tools))
        limits = Limits(
            max_iterations=self.run.max_iterations,
            max_execution_time_s=self.run.timeout,
            max_tokens=self.run.max_tokens,
        )
        copies = self.run.model == "builtin" and self.run.options.get("constrain", "copy") == "copy"
        loop = ReActLoop(self.inputs, limits=limits, must_be_grounded=copies)  # as AgentExecutor.from_model has it
        return runner.run(loop, planner, toolbox, clock=cassette.replaying.clock_s)

    def _with_executor(self) -> Iterator[Event]:
        """A hosted model: its client asks, the recorded HTTP answers."""
        from agentkit.executor import AgentExecutor
        from agentkit.models import chat_model

        executor = AgentExecutor.from_model(
            chat_model(self.run.model, **self.run.options),
            list(self.run.tools),
            self.run.read_prompt(),
            max_iterations=self.run.max_iterations,
            max_execution_time=self.run.timeout,
            max_tokens=self.run.max_tokens,
        )
        return executor.events(self.inputs)


def replay_run(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of the run in a cassette, as `Replay(path).events()`."""
    return Replay(path).events()


def read_run_spec(path: str | os.PathLike[str]) -> RunSpec:
    """What the run in a cassette was started with."""
    return _described(Path(path), load(Path(path)).run)


def _described(path: Path, run: RunSpec | None) -> RunSpec:
    if run is None:
        raise CassetteError(
            f"{path}: expected agentkit.run, which says what to run; this was recorded by a script: "
            f'replay it there, with Cassette("{path}", mode="replay")'
        )
    return run


def _light_tools(names: tuple[str, ...]) -> list[Tool]:
    from agentkit.tool_registry import find_tool

    return [tool if isinstance(tool, Tool) else _from_langchain(tool) for tool in map(find_tool, names)]


def _from_langchain(tool: Any) -> Tool:
    from agentkit.langchain_tools import as_langchain, from_langchain

    return from_langchain(as_langchain(tool))


def _filled(prompt: Prompt, tools: list[Tool]) -> Prompt:
    return prompt.filled(tools=render_text_description(tools), tool_names=", ".join(tool.name for tool in tools))
