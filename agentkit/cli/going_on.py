"""`agentkit resume` and `agentkit fork`: recorded runs that go on live."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.cli.approval import approver
from agentkit.cli.live import build_executor, connect, next_command, what_is_left
from agentkit.cli.view import View, printable, shortened
from agentkit.errors import ConfigurationError
from agentkit.events import Event
from agentkit.settings import Settings

if TYPE_CHECKING:
    from agentkit.langchain.executor import AgentExecutor
    from agentkit.mcp import McpTools
    from agentkit.react_json.prompt import Prompt
    from agentkit.runs.resume import Continuation


def resume(file: Path, given: Mapping[str, Any], shown: View, *, yes: bool) -> int:
    """Play what a cassette holds and go on from there."""
    from agentkit.cassette import resume

    live = _Live(shown, yes)
    run = resume(file, build=live.build, run_again=live.run_again, **_said(given))
    _refuse_answered(run.path)
    return _show(run, shown)


def fork(file: Path, step: int, given: Mapping[str, Any], into: Path | None, shown: View, *, yes: bool) -> int:
    """Go on from a step of a recorded run, otherwise; the recording itself is left alone."""
    from agentkit.cassette import fork

    return _show(fork(file, into or _free(file), step=step, build=_Live(shown, yes).build, **_said(given)), shown)


def _said(given: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}


def _refuse_answered(file: Path) -> None:
    """A run that has its answer would only be copied."""
    from agentkit.cassette.format.file import partial_of
    from agentkit.report.story import read_story

    if not partial_of(file).exists() and all(run.stop_reason == "answer" for run in read_story(file).runs):
        raise ConfigurationError(
            f"{file}: this run has its answer, nothing is left to go on with; agentkit fork {file} goes another way"
        )


def _free(file: Path) -> Path:
    """The first name beside `file` that no other fork has."""
    stem = file.stem.removesuffix(".partial")
    names = (f"{stem}.fork{'' if number == 1 else f'-{number}'}{file.suffix}" for number in range(1, 1000))
    return next(path for name in names if not (path := file.with_name(name)).exists())


def _show(run: Continuation, shown: View) -> int:
    shown.note(run.title)
    shown.wait("loading the model …")
    with what_is_left(run.path, shown):
        code = shown.show(run.events(), inputs=run.inputs, model=run.model)
    shown.note(f"recorded in {run.path}; {next_command(run.path, code)}")
    return code


@dataclass(frozen=True, slots=True)
class _Live:
    """What goes on."""

    shown: View
    yes: bool

    def build(self, settings: Settings, prompt: Prompt) -> Any:
        """The executor; one with MCP servers keeps what they offer in the cassette."""
        mcp = connect(settings)
        approve = approver(yes=self.yes, before=self.shown.settle)
        executor = build_executor(settings, prompt=prompt, mcp=mcp, approve=approve)
        return executor if mcp is None else _Remembering(executor, mcp)

    def run_again(self, tool: str, tool_input: Any) -> bool:
        """Whether a tool with side effects that was under way when the recording ended is to run again."""
        self.shown.settle()
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return False
        text = tool_input if isinstance(tool_input, str) else json.dumps(tool_input, ensure_ascii=False, default=str)
        call = f"{printable(tool)}({printable(shortened(text))})"
        print(f"{call} was under way when the recording ended, and may have had its effect.", file=sys.stderr)
        print("Run it again? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")


@dataclass(frozen=True, slots=True)
class _Remembering:
    executor: AgentExecutor
    mcp: McpTools

    def events(self, input: Any) -> Iterator[Event]:
        self.mcp.remember()
        yield from self.executor.events(input)
