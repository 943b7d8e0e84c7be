"""Recorded runs of scripted models and tools, for tests of what is done with a cassette afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentkit import AgentExecutor
from agentkit.cassette import Cassette, RunSpec
from agentkit.errors import ToolError
from agentkit.events import Source, Usage
from agentkit.models import ChatHuggingFace
from agentkit.models.scripted import ScriptedBackend, ScriptedReply
from agentkit.tool import Result, Tool
from tests.doubles.models import action, final

QUESTION = "Who is 25, and what is 5 times that?"
FOUND = "Ada is 25. See https://example.org/ada."
TURNS = (
    "<think>whom to ask</think>" + action("Search", "who is 25", "I look it up."),
    "I would say 125.",
    action("Calculator", "25*5", "Five times."),
    final("Ada, and 125"),
)


def speaker(turns: Sequence[ScriptedReply]) -> ScriptedBackend:
    """A model in this process that says its turns; an exception among them is raised."""
    return ScriptedBackend(turns, model_id="speaker", usage=Usage(100, 60, 40))


def tools(found: str = FOUND) -> list[Tool]:
    """Search with a source, Calculator with a reading of its input."""

    def search(query: str) -> Result:
        if query == "nothing":
            raise ToolError("Error: nothing found.")
        return Result(found, (Source("Ada's page", "https://example.org/ada"), Source("notes", "javascript:alert(1)")))

    def calculate(expression: str) -> Result:
        return Result("Answer: 125", readings=(expression.replace("*", " × "),))

    return [
        Tool(name="Search", description="Finds.", run=search),
        Tool(name="Calculator", description="Calculates.", run=calculate),
    ]


def record(
    path: Path,
    turns: Sequence[ScriptedReply] = TURNS,
    *,
    question: str = QUESTION,
    found: str = FOUND,
    described: bool = True,
    **settings: Any,
) -> Path:
    """Record one run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    limits = {name: settings[name] for name in ("max_iterations", "max_tokens") if name in settings}
    executor = AgentExecutor.from_model(
        ChatHuggingFace(llm=speaker(turns), constrain="off"),
        tools(found),
        settings.get("prompt"),
        mode="react-json",
        **limits,
    )
    settings = {"model": "local:ORG/SPEAKER", "prompt": "react-json", **settings}
    run = RunSpec.of({"input": question}, **settings) if described else None
    with Cassette(path, "record", run=run, environment={}):
        for _ in executor.events({"input": question}):
            pass
    return path
