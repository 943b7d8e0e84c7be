"""How a run looks in a terminal. Consumes events; the answer goes to stdout, everything else to stderr."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TextIO

from agentkit.events import (
    IN_EVENTS,
    ActionChosen,
    Compacted,
    Event,
    Finished,
    LimitReached,
    ModeFound,
    Observed,
    ParseError,
    PartialAnswer,
    Pending,
    RunStarted,
    Source,
    StopReason,
    Thought,
    Token,
    Usage,
)
from agentkit.printable import json_text, printable, word
from agentkit.report.wording import ENDED, compaction, input_text
from agentkit.settings import SETTINGS, option

if TYPE_CHECKING:
    from rich.console import Console
    from rich.status import Status

SHOWN_CHARS = 2_000
WAITS = 5  # the exit code of a run that waits for a decision
WIDE = 160  # columns of a table where nobody's terminal bounds them
Cell = str | tuple[str, str]
"""A text in a table, or a text and its style."""
_MODE = {
    "tools": "this model calls tools in its own syntax, as a small question showed (--mode react-json asks for text)",
    "react-json": "this model names tools in its text (ReAct-JSON): a small question brought no call in its own syntax",
}


@dataclass
class View:
    """Shows one run. `verbose` adds the model's whole text, token by token."""

    as_json: bool = False
    quiet: bool = False
    verbose: bool = False
    is_typed: bool = False
    """Whether answers are values, which are shown as JSON."""
    stop_reason: StopReason | None = None
    """What ended the run that was shown last."""
    waiting: Sequence[Pending] = ()
    """The calls that it waits for."""
    _status: Status | None = None
    _console: Console | None = None

    def note(self, text: str) -> None:
        """A line beside the run."""
        if not self.quiet:
            self._show(text, style="dim")

    def wait(self, text: str) -> None:
        """A spinner, on a terminal, until the next line is shown."""
        if self.quiet or not sys.stderr.isatty():  # FORCE_COLOR asks for colour, not motion
            return
        self.settle()
        from rich.text import Text

        self._status = self.console.status(Text(printable(text)))  # a bare text is read as markup there
        self._status.start()

    def settle(self) -> None:
        """End the spinner."""
        if self._status is not None:
            self._status.stop()
            self._status = None

    def show(self, events: Iterable[Event], *, model: str) -> int:
        """Show a run to its end, and what its models log; the exit code."""
        seen: list[Event] = []
        try:
            with self._log(), _ended(events):
                for event in events:
                    if not isinstance(event, Token | PartialAnswer):
                        seen.append(event)
                    if not self.quiet:
                        self._show_event(event)
        finally:
            self.settle()
        finished = seen[-1]
        assert isinstance(finished, Finished)
        self.stop_reason, self.waiting = finished.summary.stop_reason, finished.waiting
        if self.as_json:
            from agentkit.secrets import public_address

            print(json_text(as_result(seen, public_address(model))), flush=True)
        elif finished.answered and (self.is_typed or not isinstance(finished.output, str)):
            print(json_text(finished.output), flush=True)
        elif finished.answered:
            self._show_answer(finished.output)
        if not finished.answered:
            say(f"{'no answer' if not finished.waiting else 'not over'}: {finished.output}", to=sys.stderr)
        elif finished.summary.ungrounded:  # which belongs to the answer, and is no note beside it
            self._show(f"not confirmed by any tool: {', '.join(finished.summary.ungrounded)}", style="dim")
        return 0 if finished.answered else WAITS if finished.waiting else 1

    def say_what_waits(self) -> None:
        """What to do about the calls that the run waits for."""
        for one in self.waiting:
            say(self.how_to_decide(one.id, one.action.tool, is_question=bool(one.question)), to=sys.stderr)

    def how_to_decide(self, id: str, tool: str, *, is_question: bool) -> str:
        """What to write for a call that waits."""
        which = f"answer {id} TEXT" if is_question else f"yes {id} (or no {id})"
        return f"agentkit approvals {which} goes on with {word(tool)}"

    def _show_answer(self, output: Any) -> None:
        say(output)

    @contextmanager
    def _log(self) -> Iterator[None]:
        """Notes of what models log within this block: that they wait for a server, or ask another one."""
        import logging

        class Notes(logging.Handler):
            def emit(_, record: logging.LogRecord) -> None:
                if not hasattr(record, IN_EVENTS):
                    self.note(record.getMessage())

        logger, handler = logging.getLogger("agentkit"), Notes()
        level = logger.level
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)

    @property
    def console(self) -> Console:
        if self._console is None:
            self._console = _plain_console(stderr=True)
            self._console.soft_wrap = not self._console.is_terminal  # in a file or a pipe, lines are left whole
        return self._console

    def _show_event(self, event: Event) -> None:
        match event:
            case Token(text):
                if self.verbose:
                    self._show(text, style="dim", end="")
            case ModeFound(mode):
                self.note(_MODE[mode])
            case Thought(text, thinking):
                if thinking:
                    self._show(f"Thinking: {shortened(thinking)}", style="dim")
                if self.verbose:
                    self._show("", style="")  # the text stands there, token by token
                elif text:
                    self._show(f"Thought: {shortened(text)}", style="italic")
            case ActionChosen(action):
                self._show(f"Action: {action.tool}({shortened(input_text(action.tool_input))})", style="cyan")
                self.wait(f"{action.tool} …")
            case Observed(_, observation, _, sources, readings):
                for reading in readings:
                    self._show(f"Read as: {shortened(reading)}", style="dim")
                self._show(f"Observation: {shortened(str(observation))}", style="green")
                for source in sources:
                    self._show(f"Source: {source.title}, {source.link}", style="dim")
                self.wait("thinking …")
            case ParseError(_, observation):
                self._show(f"Not understood: {shortened(observation)}", style="yellow")
                self.wait("thinking …")
            case Compacted():
                self._show(shortened(compaction(event)), style="dim")
            case LimitReached(reason, closing_turn):
                raised_by = f" ({raising})" if (raising := option_raising(reason)) else ""
                last = "; asking for a last answer" if closing_turn else ""
                self._show(f"{ENDED[reason]}{raised_by}{last}", style="yellow")
            case Finished(waiting=waiting):
                for one in waiting:
                    asks = one.question or "may it run?"
                    call = f"{one.action.tool}({shortened(input_text(one.action.tool_input))})"
                    self._show(f"Waits: {one.id} {call}: {shortened(asks)}", style="yellow")

    def _show(self, text: str, *, style: str, end: str = "\n") -> None:
        self.settle()
        if self._console is None and not _has_colour():
            say(text, to=sys.stderr, end=end)
        else:
            self.console.print(printable(text), style=style, end=end)


@contextmanager
def _ended(events: Iterable[Event]) -> Iterator[None]:
    """The block after which a run is over, whatever ended it: it lets go of what it held."""
    try:
        yield
    finally:
        if isinstance(events, Generator):
            events.close()


def option_raising(reason: StopReason | None) -> str:
    """The option of the limit that ended a run; "" where it was none."""
    setting = "timeout" if reason == "max_execution_time" else reason
    return option(setting) if setting is not None and setting in SETTINGS else ""


def as_result(events: Iterable[Event], model: str) -> dict[str, Any]:
    """A run as `--json` prints it; one without its end has no `stop_reason`."""
    result: dict[str, Any] = {"input": None, "output": None, "steps": [], "usage": asdict(Usage()), "model": model}
    result |= {"stop_reason": None, "seconds": None}
    thought, sources = "", dict[Source, None]()

    def add(tool: str | None, tool_input: Any, observation: Any) -> None:
        step = {"thought": thought, "tool": tool, "tool_input": tool_input, "observation": str(observation)}
        result["steps"].append(step)

    for event in events:
        match event:
            case RunStarted(inputs):
                result["input"] = inputs.get("input")
            case Thought(text):
                thought = text
            case Observed(action, observation):
                add(action.tool, action.tool_input, observation)
                thought = ""  # of the turn, not of each of its calls
                sources |= dict.fromkeys(event.sources)
            case ParseError(text, observation):
                add(None, text, observation)
                thought = ""
            case Finished(output, answered, summary):
                result["output"] = output if answered else None
                result["usage"] = asdict(summary.usage)
                result["stop_reason"] = summary.stop_reason
                result["seconds"] = round(summary.seconds, 3)
                if event.waiting:
                    result["waiting"] = [_as_waiting(one) for one in event.waiting]
    if sources:
        result["sources"] = [asdict(source) for source in sources]
    return result


def _as_waiting(pending: Pending) -> dict[str, Any]:
    action = pending.action
    return {"id": pending.id, "tool": action.tool, "tool_input": action.tool_input, "question": pending.question}


def say(text: Any, *, to: TextIO | None = None, end: str = "\n") -> None:
    """Print what may be foreign text, to standard output where nothing else is said."""
    print(printable(str(text)), end=end, file=to or sys.stdout, flush=True)


def _plain_console(**options: Any) -> Console:
    """A console that reads no text as markup, as emoji or as something to highlight."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False, **options)


def _has_colour() -> bool:
    """Whether standard error is a terminal, or is asked for colours nevertheless; rich is imported only then."""
    return sys.stderr.isatty() or bool(os.environ.get("FORCE_COLOR")) or os.environ.get("TTY_COMPATIBLE") == "1"


def output_console(*, width: int | None = None) -> Console:
    """Standard output for what people read: as wide as a terminal, `width` in a pipe (none: lines stay whole)."""
    console = _plain_console()
    if not console.is_terminal:
        console.soft_wrap = width is None
        console.width = width or console.width
    return console


def print_table(titles: Sequence[str], rows: Iterable[Sequence[Cell]], *, figures: Collection[str] = ()) -> None:
    """Print a table, wide in a pipe, so that lines stay whole; `figures` are the titles of columns of numbers."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in titles:
        table.add_column(Text(title), overflow="fold", justify="right" if title in figures else "left")
    for row in rows:
        cells = ((cell, "") if isinstance(cell, str) else cell for cell in row)
        table.add_row(*(Text(printable(text), style) for text, style in cells))
    output_console(width=WIDE).print(table, soft_wrap=False)


def shortened(text: str, most: int = SHOWN_CHARS) -> str:
    """The first part of a long text."""
    return text if len(text) <= most else f"{text[:most]} … ({len(text):,} characters)"
