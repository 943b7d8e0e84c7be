"""What the commands do: build the run that settings or a cassette describe, and show it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from agentkit.cli.approval import approver
from agentkit.cli.view import View
from agentkit.errors import ConfigurationError
from agentkit.settings import Settings

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel

    from agentkit.cassette import RunSpec
    from agentkit.langchain.executor import AgentExecutor
    from agentkit.mcp import McpTools
    from agentkit.react_json.prompt import Prompt
    from agentkit.toolbox.toolbox import Approve

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


def run(
    question: str,
    settings: Settings,
    shown: View,
    *,
    record: Path | None,
    yes: bool = False,
    described: RunSpec | None = None,
) -> int:
    """Ask live. `described` is the recording of the same run that this one replaces."""
    if record is not None and not record.absolute().parent.is_dir():
        raise ConfigurationError(f"no folder {record.absolute().parent} to record into; make it first")
    shown.note(_model_line(settings.model))
    if settings.docs is not None:
        from agentkit.tools.documents import read_folder

        shown.wait(f"reading {settings.docs} …")
        for note in read_folder(settings.docs):
            shown.note(note)
    shown.wait("loading the model …")
    mcp = connect(settings)
    approve = approver(yes=yes, before=shown.settle)
    executor = build_executor(settings, prompt=described.read_prompt() if described else None, mcp=mcp, approve=approve)
    shown.settle()
    _show_log(shown)
    inputs = {"input": question}
    if record is None:
        return shown.show(executor.events(inputs), inputs=inputs, model=settings.model)
    from agentkit.cassette import Cassette, RunSpec

    spec = described or RunSpec.of(inputs, **asdict(settings))
    with what_is_left(record, shown), Cassette(record, mode="record", run=spec):
        if mcp is not None:
            mcp.remember()
        code = shown.show(executor.events(inputs), inputs=inputs, model=settings.model)
    shown.note(f"recorded in {record}; {next_command(record, code)}")
    return code


@contextmanager
def what_is_left(file: Path, shown: View) -> Iterator[None]:
    """Where this block is broken off, say what the cassette has of the run."""
    from agentkit.cassette.format.file import partial_of

    try:
        yield
    except BaseException:
        if (partial := partial_of(file)).exists():
            shown.settle()
            shown.note(f"what there was is in {partial}; agentkit resume {file} goes on with it")
        raise


def next_command(file: Path, code: int) -> str:
    """What to do with a recording of a run that ended with this exit code."""
    if code == 0:
        return f"agentkit replay {file} shows it again"
    return f"agentkit resume {file} goes on with it, given more --max-iterations, --timeout or --max-tokens"


def replay(file: Path, shown: View) -> int:
    """Show what was recorded."""
    from agentkit.cassette import Replay

    recorded = Replay(file)
    shown.note(recorded.title)
    return shown.show(recorded.events(), inputs=recorded.inputs, model=recorded.model)


def record(file: Path, shown: View, *, yes: bool) -> int:
    """Ask again what a cassette asked."""
    from agentkit.cassette import read_run_spec

    spec = read_run_spec(file)
    return run(spec.inputs["input"], Settings(**spec.settings), shown, record=file, yes=yes, described=spec)


def connect(settings: Settings) -> McpTools | None:
    """The tools of the MCP servers that settings name; the servers end when nobody holds their tools any more."""
    if not settings.mcp:
        return None
    from agentkit.mcp import mcp_tools

    return mcp_tools(*settings.mcp, taken=settings.tools)


def build_tools(settings: Settings) -> list[Any]:
    """The tools that settings name, but for those of MCP servers."""
    from agentkit.toolbox.registry import find_tool

    tools: list[Any] = [find_tool(name) for name in settings.tools]
    if settings.docs is not None:
        from agentkit.tools.documents import with_documents

        tools = with_documents(tools, settings.docs, brief=settings.model == "builtin")
    return tools


def build_executor(
    settings: Settings,
    *,
    prompt: Prompt | None = None,
    mcp: McpTools | None = None,
    approve: Approve | None = None,
) -> AgentExecutor:
    """The executor that settings describe. What is cheap to check is checked before the model loads."""
    from agentkit.react_json.prompt import read_prompt

    tools = [*build_tools(settings), *(mcp or connect(settings) or ())]
    prompt = prompt or read_prompt(settings.prompt)
    from agentkit.langchain.executor import AgentExecutor

    return AgentExecutor.from_model(
        load_model(settings.model, settings.fallbacks),
        tools,
        prompt,
        mode=cast("Any", settings.mode),
        max_iterations=settings.max_iterations,
        max_execution_time=settings.timeout,
        max_tokens=settings.max_tokens,
        max_cost=settings.max_cost,
        allow=settings.allow or None,
        approve=approve or approver(yes=False),
    )


def load_model(spec: str, fallbacks: Sequence[str] = ()) -> BaseChatModel:
    """The model, with the loaders' progress bars where there is somebody to watch, and something to wait for."""
    if spec == "builtin" or not sys.stderr.isatty():
        os.environ.setdefault("TQDM_DISABLE", "1")
    from agentkit.models import chat_model

    model = chat_model(spec, fallbacks=fallbacks)
    if spec == "builtin":
        import torch

        torch.set_num_threads(1)  # so small that a second thread costs more than it computes
    return model


def _show_log(shown: View) -> None:
    """Show what models log: that they wait for a server, or ask another one."""
    import logging

    class Notes(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            shown.note(record.getMessage())

    logger = logging.getLogger("agentkit")
    logger.setLevel(logging.INFO)
    logger.addHandler(Notes())


def _model_line(spec: str) -> str:
    if spec == "builtin":
        return f"model: builtin, which calculates and looks things up; {BIGGER}"
    return f"model: {spec}"
