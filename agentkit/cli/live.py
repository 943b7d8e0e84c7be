"""What the commands do: build the run that settings or a cassette describe, and show it."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.cli.view import View
from agentkit.errors import ConfigurationError
from agentkit.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agentkit.executor import AgentExecutor

BIGGER = "bigger: --model local:ORG/NAME or hf:ORG/NAME"


def view(*, as_json: bool, quiet: bool, verbose: bool) -> View:
    """The view the options ask for."""
    return View(as_json=as_json, quiet=quiet, verbose=verbose)


def read_question(given: str) -> str:
    """The question itself, from standard input for `-`."""
    question = (sys.stdin.read() if given == "-" else given).strip()
    if not question:
        raise ConfigurationError('expected a question, saw nothing; write agentkit run "What is 2 + 2?"')
    return question


def run(question: str, settings: Settings, shown: View, *, record: Path | None) -> int:
    """Ask live."""
    if record is not None and not record.absolute().parent.is_dir():
        raise ConfigurationError(f"no folder {record.absolute().parent} to record into; make it first")
    shown.note(_model_line(settings.model))
    shown.wait("loading the model …")
    executor = build_executor(settings)
    shown.settle()
    inputs = {"input": question}
    if record is None:
        return shown.show(executor.events(inputs), inputs=inputs, model=settings.model)
    from agentkit.cassette import Cassette, RunSpec

    with Cassette(record, mode="record", run=RunSpec.of(inputs, **asdict(settings))):
        code = shown.show(executor.events(inputs), inputs=inputs, model=settings.model)
    shown.note(f"recorded in {record}; agentkit replay {record} shows it again")
    return code


def replay(file: Path, shown: View) -> int:
    """Show what was recorded."""
    from agentkit.cassette import Replay

    recorded = Replay(file)
    shown.note(recorded.title)
    return shown.show(recorded.events(), inputs=recorded.inputs, model=recorded.model)


def record(file: Path, shown: View) -> int:
    """Ask again what a cassette asked."""
    from agentkit.cassette import read_run_spec

    spec = read_run_spec(file)
    return run(spec.inputs["input"], Settings(**spec.settings), shown, record=file)


def build_executor(settings: Settings) -> AgentExecutor:
    """The executor that settings describe. What is cheap to check is checked before the model loads."""
    from agentkit.react_json.prompt import read_prompt
    from agentkit.tool_registry import find_tool

    tools: list[Any] = [find_tool(name) for name in settings.tools]
    prompt = read_prompt(settings.prompt)
    from agentkit.executor import AgentExecutor

    return AgentExecutor.from_model(
        load_model(settings.model),
        tools,
        prompt,
        max_iterations=settings.max_iterations,
        max_execution_time=settings.timeout,
        max_tokens=settings.max_tokens,
    )


def load_model(spec: str) -> BaseChatModel:
    """The model, with the loaders' progress bars where there is somebody to watch, and something to wait for."""
    if spec == "builtin" or not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    from agentkit.models import chat_model

    model = chat_model(spec)
    if spec == "builtin":
        import torch

        torch.set_num_threads(1)  # so small that a second thread costs more than it computes
    return model


def _model_line(spec: str) -> str:
    if spec == "builtin":
        return f"model: builtin, which calculates and looks things up; {BIGGER}"
    return f"model: {spec}"
