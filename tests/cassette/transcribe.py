"""Writes cassettes/leo-dicaprio.yaml: a run that was printed, not recorded, as the cassette it would have been.

The turns and observations are the printed ones, to the letter; what the model was asked follows from them, from the
prompt and from the tools' descriptions. When one of those changes: python -m tests.cassette.transcribe
"""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from agentkit import render_text_description
from agentkit.cassette import Cassette, RunSpec
from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.events import RecordedEvent
from agentkit.cassette.format.file import load
from agentkit.cassette.format.place import save
from agentkit.cassette.format.writer import render
from agentkit.core.planner import ReactJsonPlanner
from agentkit.core.run import Run
from agentkit.events import Action, Event, Finished, Observation
from agentkit.langchain.community import community_tool
from agentkit.models.backend import Capabilities, ChatRequest, Completion
from agentkit.react_json.prompt import read_prompt
from agentkit.settings import RunSettings
from agentkit.toolbox.registry import find_tool

FILE = Path(__file__).parents[2] / "cassettes" / "leo-dicaprio.yaml"
NOTE = (
    "Turns and observations as printed in LangChain's documentation of the chat model for Hugging Face, section "
    "'Take it for a spin as an agent!' (https://python.langchain.com/v0.1/docs/integrations/chat/huggingface). "
    "The fences around the JSON, which that page's markup swallowed, are put back."
)
MODEL = "HuggingFaceH4/zephyr-7b-beta"
QUESTION = "Who is Leo DiCaprio's girlfriend? What is her current age raised to the 0.43 power?"
ANSWER = (
    "Vittoria Ceretti, Leo DiCaprio's current girlfriend, when raised to the power of 0.43 is approximately 4.0 "
    "rounded to two decimal places. Her current age is 25 years old."
)


def _turn(thought: str, tool: str, tool_input: str) -> str:
    call = f'{{\n  "action": "{tool}",\n  "action_input": "{tool_input}"\n}}'
    return f"{thought}\n\nAction:\n```\n{call}\n```"


TURNS = (
    _turn(
        f"Question: {QUESTION}\n\n"
        "Thought: I need to use the Search tool to find out who Leo DiCaprio's current girlfriend is. Then, I can use "
        "the Calculator tool to raise her current age to the power of 0.43.",
        "Search",
        "leo dicaprio girlfriend",
    ),
    _turn(
        "Now that we know Leo DiCaprio's current girlfriend is Vittoria Ceretti, let's find out her current age.",
        "Search",
        "vittoria ceretti age",
    ),
    _turn(
        "Now that we know Vittoria Ceretti's current age is 25, let's use the Calculator tool to raise it to the power "
        "of 0.43.",
        "Calculator",
        "25^0.43",
    ),
    f"Final Answer: {ANSWER}",
)
OBSERVATIONS = (
    "Leonardo DiCaprio may have found The One in Vittoria Ceretti. “They are in love,” a source exclusively reveals in "
    "the latest issue of Us Weekly. “Leo was clearly very proud to be showing Vittoria off and letting everyone see "
    "how happy they are together.”",
    "25 years",
    "Answer: 3.991298452658078",
)


class _Printed:
    """The model and the tools, as printed."""

    def __init__(self) -> None:
        self._turns = iter(TURNS)
        self._observations = iter(OBSERVATIONS)

    model_id = MODEL
    capabilities = Capabilities()
    deterministic: frozenset[str] = frozenset()
    not_twice: frozenset[str] = frozenset()
    only_reads: frozenset[str] = frozenset()

    def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
        yield Completion(next(self._turns))

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        for piece in self.complete(request):
            yield piece

    def run(self, actions: Sequence[Action]) -> list[Observation]:
        return [Observation(next(self._observations)) for _ in actions]

    async def arun(self, actions: Sequence[Action]) -> list[Observation]:
        return self.run(actions)


def transcript() -> str:
    """The file's text."""
    names = ("search", "calculator")
    tools = [find_tool(name, community_tool) for name in names]
    prompt = read_prompt("react-json-text").filled(
        tools=render_text_description(tools), tool_names=", ".join(tool.name for tool in tools)
    )
    settings = RunSettings(model=f"hf:{MODEL}", tools=names, prompt="as-printed")
    run = RunSpec.of({"input": QUESTION}, settings, text=prompt)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        with Cassette(path, "record", run=run, environment={}) as cassette:
            printed = _Printed()
            planner = ReactJsonPlanner(cassette.chat(printed, model_id=MODEL), prompt)
            list(Run(inputs=dict(run.inputs), planner=planner, toolbox=printed).events())
        document = load(path)
    items = [
        replace(item, response={"string": item.response["string"]}, ms=0, at_ms=0) if isinstance(item, Entry) else item
        for item in document.items
    ]
    items = [replace(item, event=_timeless(item.event)) if isinstance(item, RecordedEvent) else item for item in items]
    return render(replace(document, items=items, head={"transcribed": True, "note": NOTE}, seconds=0.0))


def _timeless(event: Event) -> Event:
    return replace(event, summary=replace(event.summary, seconds=0.0)) if isinstance(event, Finished) else event


if __name__ == "__main__":
    save(FILE, transcript())
