"""A run that meets a cassette at its seams: a scripted model in this process, and tools of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentkit.cassette import Cassette
from agentkit.core import runner
from agentkit.core.loop import Limits, ReActLoop
from agentkit.core.planner import ReactJsonPlanner, TurnRequest
from agentkit.errors import ToolError
from agentkit.events import Event, Finished, Observed
from agentkit.langchain.model import LangChainModel
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import ChatRequest, Chunk, Completion, Usage
from agentkit.react_json.prompt import Prompt
from agentkit.tool import Tool
from agentkit.toolbox.toolbox import Toolbox
from tests.conftest import action, final

QUESTION = "Who is 25, and what is 5 times that?"
PROMPT = "[system]\nTools: Search, Calculator.\n[human]\n{input}\n[messages agent_scratchpad]"
TURNS = (
    action("Search", "who is 25") + "\nObservation: made up",
    "<think>five times</think>\n" + action("Calculator", "25*5"),
    final("125"),
)


@dataclass
class ScriptedBackend:
    """Says its turns in pieces, in this process; an exception among them is raised half way through."""

    turns: Sequence[str | BaseException] = TURNS
    model_id: str = "scripted"
    in_process: bool = True
    asked: list[ChatRequest] = field(default_factory=list)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        turn = self.turns[len(self.asked)]
        self.asked.append(request)
        if isinstance(turn, BaseException):
            yield Chunk(text="Thought: I ")
            raise turn
        for start in range(0, len(turn), 9):
            yield Chunk(text=turn[start : start + 9])
        yield Chunk(finish_reason="stop", usage=Usage(100, len(turn), 50))

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


@dataclass
class ScriptedModel:
    """A planner's model that is no chat model of ours: only the planner's seam sees it."""

    turns: Sequence[str] = TURNS
    asked: int = 0

    def message(self, role: str, content: Any) -> Any:
        return (role, content)

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]:
        text = self.turns[self.asked].partition("\nObservation")[0].rpartition("</think>\n")[2]
        self.asked += 1
        yield text[:5]
        yield text[5:]
        yield Completion(text, Usage(7, 3), "stop", "hm" if self.asked == 2 else "")

    async def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]:
        for piece in self.complete(request):
            yield piece


@dataclass
class Tools:
    """Search is not deterministic, Calculator is; `executed` counts."""

    found: str = "Ada is 25."
    factor: int = 1
    executed: list[str] = field(default_factory=list)

    def search(self, query: str) -> str:
        self.executed.append(f"Search {query}")
        return self.found

    def calculate(self, expression: str) -> Any:
        self.executed.append(f"Calculator {expression}")
        left, times, right = expression.partition("*")
        if not times:
            raise ToolError("Error: expected a product.")
        return f"Answer: {int(left) * int(right) * self.factor}"

    def both(self) -> list[Tool]:
        return [
            Tool(name="Search", description="Finds.", run=self.search),
            Tool(name="Calculator", description="Calculates.", run=self.calculate, deterministic=True),
        ]


def parts(
    cassette: Cassette, model: Any, tools: Tools | list[Tool], *, prompt: str = PROMPT, question: str = QUESTION
) -> tuple[ReActLoop, ReactJsonPlanner, Any]:
    """What a driver takes, wrapped at the cassette's seams, as an executor does it."""
    known = tools.both() if isinstance(tools, Tools) else tools
    if isinstance(model, ScriptedBackend):
        turn_model: Any = LangChainModel(ChatHuggingFace(llm=model), stream=True)  # which asks the cassette itself
    else:
        turn_model = cassette.chat(model, model_id=getattr(model, "model_id", "other"))
    planner = ReactJsonPlanner(turn_model, Prompt.parse(prompt))
    toolbox = cassette.toolbox(Toolbox(known), [tool.name for tool in known if tool.deterministic])
    return ReActLoop({"input": question}, limits=Limits(max_iterations=8)), planner, toolbox


def run(path: Path, mode: Any, model: Any, tools: Any, *, environment: Any = None, **options: Any) -> list[Event]:
    """One run in a cassette of its own."""
    with Cassette(path, mode, environment={} if environment is None else environment) as cassette:
        return list(runner.run(*parts(cassette, model, tools, **options)))


def play(path: Path, use: Callable[[Cassette], object]) -> None:
    """Something else than a run, in a replay."""
    with Cassette(path, "replay", environment={}) as cassette:
        use(cassette)


async def arun(path: Path, mode: Any, model: Any, tools: Any, **options: Any) -> list[Event]:
    """`run`, awaiting."""
    with Cassette(path, mode, environment={}) as cassette:
        return [event async for event in runner.arun(*parts(cassette, model, tools, **options))]


def answer(events: list[Event]) -> Any:
    """The run's output."""
    assert isinstance(events[-1], Finished)
    return events[-1].output


def observations(events: list[Event]) -> list[Any]:
    """What the tools gave."""
    return [event.observation for event in events if isinstance(event, Observed)]


def without_times(events: list[Event]) -> list[Any]:
    """The events, less how long they took."""
    last = events[-1]
    assert isinstance(last, Finished)
    return [*events[:-1], replace(last, summary=replace(last.summary, seconds=0.0))]
