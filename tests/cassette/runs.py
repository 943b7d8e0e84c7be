"""A run that meets a cassette at its seams: a scripted model in this process, and tools of every kind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentkit.cassette import Cassette
from agentkit.core.loop import Limits
from agentkit.core.planner import ReactJsonPlanner
from agentkit.core.run import Run
from agentkit.errors import ToolError
from agentkit.events import Event, Finished, Observed
from agentkit.models.backend import Capabilities, ChatRequest, Completion, Usage
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.prompt import Prompt
from agentkit.recorder import active
from agentkit.tool import Tool
from agentkit.toolbox.toolbox import Toolbox
from tests.doubles.models import action, final

UNDECLARED = Capabilities()
QUESTION = "Who is 25, and what is 5 times that?"
PROMPT = "[system]\nTools: Search, Calculator.\n[human]\n{input}\n[messages agent_scratchpad]"
TURNS = (
    action("Search", "who is 25") + "\nObservation: made up",
    "<think>five times</think>\n" + action("Calculator", "25*5"),
    final("125"),
)


@dataclass
class ScriptedModel:
    """A planner's model that is no chat model of ours: only the planner's seam sees it."""

    turns: Sequence[str] = TURNS
    asked: int = 0
    model_id: str = "other"
    capabilities: Capabilities = UNDECLARED

    def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
        text = self.turns[self.asked].partition("\nObservation")[0].rpartition("</think>\n")[2]
        self.asked += 1
        yield text[:5]
        yield text[5:]
        yield Completion(text, Usage(7, 3), "stop", "hm" if self.asked == 2 else "")

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
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


def a_run(
    model: Any,
    tools: Tools | list[Tool],
    *,
    prompt: str = PROMPT,
    question: str = QUESTION,
    limits: Limits | None = None,
    replayed: Any = None,
) -> Run:
    """A run as an executor makes it, to be recorded or replayed by the cassette in whose block it is."""
    known = tools.both() if isinstance(tools, Tools) else tools
    chat: Any = BackendChat(model) if isinstance(model, ScriptedBackend) else RecordedChat(model)
    return Run(
        inputs={"input": question},
        planner=ReactJsonPlanner(chat, Prompt.parse(prompt), stream=True),
        toolbox=Toolbox(known),
        limits=limits or Limits(max_iterations=8),
        replayed=replayed,
    )


@dataclass
class RecordedChat:
    """A planner's model that asks the cassette, as those of LangChain do."""

    model: Any
    model_id: str = "other"
    capabilities: Capabilities = UNDECLARED

    def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
        cassette: Any = active()
        yield from cassette.chat(self.model, model_id=self.model.model_id).complete(request)

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        cassette: Any = active()
        async for piece in cassette.chat(self.model, model_id=self.model.model_id).acomplete(request):
            yield piece


def run(path: Path, mode: Any, model: Any, tools: Any, *, environment: Any = None, **options: Any) -> list[Event]:
    """One run in a cassette of its own."""
    with Cassette(path, mode, environment={} if environment is None else environment):
        return list(a_run(model, tools, **options).events())


def play(path: Path, use: Callable[[Cassette], object]) -> None:
    """Something else than a run, in a replay."""
    with Cassette(path, "replay", environment={}) as cassette:
        use(cassette)


async def arun(path: Path, mode: Any, model: Any, tools: Any, **options: Any) -> list[Event]:
    """`run`, awaiting."""
    with Cassette(path, mode, environment={}):
        return [event async for event in a_run(model, tools, **options).aevents()]


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
