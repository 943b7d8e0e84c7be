"""`agentkit show` and `agentkit diff`: recorded runs as a person reads them."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.cli.view import View, printable, shortened
from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from agentkit.report.compare import Row, Words
    from agentkit.report.story import Story, StoryCall, StoryRun, StoryStep

DIFFERENT = 1
WIDE = 120
CHANGED = {"first": ("[-", "-]", "red"), "second": ("{+", "+}", "green")}


def show(file: Path, shown: View, *, html: bool, page_file: Path | None) -> int:
    """A cassette as text, as JSON, or as a page of its own."""
    from agentkit.report.story import read_story

    if page_file is not None and not html:
        raise ConfigurationError(f"expected one cassette, saw {page_file} too; a page is written with --html")
    story = read_story(file)
    if html:
        return _write_page(story, page_file or file.with_suffix(".html"), shown)
    if shown.as_json:
        print(json.dumps(_as_mapping(story), ensure_ascii=False, default=str))
        return 0
    console = _console()
    for run in story.runs:
        _print_run(run, story, console)
    if not story.runs:
        console.print("nothing was recorded", style="yellow")
    return 0


def _write_page(story: Story, page_file: Path, shown: View) -> int:
    from agentkit.cassette.format.writer import save
    from agentkit.report.page import page

    if page_file.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"expected a page named *.html, saw {page_file}")
    save(page_file, page(story))
    shown.note(f"written: {page_file}")
    return 0


def _as_mapping(story: Story) -> dict[str, Any]:
    """A run as `agentkit run --json` gave it, and beside that all that its cassette says of it."""
    result = story.runs[0].as_result(story.model) if len(story.runs) == 1 else {}
    return {
        **result,
        "file": str(story.path),
        "made": story.made,
        "complete": story.complete,
        "model": story.model,
        "seconds": story.seconds if result.get("seconds") is None else result["seconds"],
        "settings": asdict(story.spec.settings) if story.spec else None,
        "runs": [_run_as_mapping(run) for run in story.runs],
    }


def _run_as_mapping(run: StoryRun) -> dict[str, Any]:
    return {
        "input": run.question,
        "output": run.output if run.answered else None,
        "stop_reason": run.stop_reason,
        "usage": asdict(run.usage),
        "sources": [asdict(source) for source in run.sources],
        "steps": [asdict(step) for step in run.steps],
    }


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False)
    console.soft_wrap = not console.is_terminal
    return console


# -- one run -----------------------------------------------------------------------------------------------------------


def _print_run(run: StoryRun, story: Story, console: Console) -> None:
    from agentkit.report.wording import ending, made_with, totals

    _say(console, run.question, "bold")
    _say(console, " · ".join(made_with(story)), "dim")
    _say(console, f"{story.path}, {story.made}", "dim")
    if note := story.head.get("note"):
        _say(console, str(note), "dim")
    for number, step in enumerate(run.steps, 1):
        _print_step(number, step, console)
    console.print()
    if ending(run):
        _say(console, f"Ended: {ending(run)}", "yellow")
    if run.answered:
        _say(console, f"Answer: {run.output}", "bold green")
    elif run.output is not None:
        _say(console, f"No answer: {run.output}", "bold yellow")
    if run.ungrounded:
        _say(console, f"Not confirmed by any tool: {', '.join(run.ungrounded)}", "yellow")
    for source in run.sources:
        _say(console, f"Source: {source.title}, {source.link}", "dim")
    _say(console, " · ".join(totals(run)), "dim")
    console.print()


def _print_step(number: int, step: StoryStep, console: Console) -> None:
    from agentkit.report.wording import duration, exchange, tokens

    console.print()
    times = {"model": step.model_ms, "tools": step.tools_ms}
    figures = [*(f"{name} {duration(ms)}" for name, ms in times.items() if ms), tokens(step.usage)]
    figures.append("kept" if step.kept else "")
    _say(console, " · ".join([f"Step {number}", *filter(None, figures)]), "bold dim")
    for one in (*step.failures, *step.exchanges):
        _say(console, f"HTTP: {exchange(one)}", "red" if one in step.failures else "dim")
    if step.thinking:
        _say(console, f"Thinking: {step.thinking}", "dim")
    if step.thought:
        _say(console, f"Thought: {step.thought}", "italic")
    for call in step.calls:
        _print_call(call, console)
    if step.broken_off:
        _say(console, f"Broken off: {step.text}", "yellow")
    elif step.rejection is not None or (step.came_to_nothing and step.text):
        _say(console, f"Wrote: {step.text}", "")
    if step.rejection is not None:
        _say(console, f"Not understood: {step.rejection}", "yellow")


def _print_call(call: StoryCall, console: Console) -> None:
    from agentkit.report.wording import duration, exchange, input_text

    took = f"  ({duration(call.ms)})" if call.ms else ""
    _say(console, f"Action: {call.tool}({input_text(call.tool_input)}){took}", "cyan")
    for reading in call.readings:
        _say(console, f"Read as: {reading}", "dim")
    for one in call.exchanges:
        _say(console, f"HTTP: {exchange(one)}", "dim")
    if call.observation is None:
        _say(console, "Observation: none in this recording", "yellow")
    else:
        _say(console, f"Observation: {input_text(call.observation)}", "green" if call.executed else "yellow")


def _say(console: Console, text: str, style: str) -> None:
    console.print(printable(shortened(text)), style=style)


# -- two runs ----------------------------------------------------------------------------------------------------------


def diff(first: Path, second: Path, shown: View) -> int:
    """Two cassettes beside each other; the exit code is 1 when they differ."""
    from agentkit.report.compare import compare
    from agentkit.report.story import read_story

    one, other = read_story(first), read_story(second)
    found = compare(one, other)
    console = _console()
    if found.same:
        shown.note("the same questions, steps and answers")
        return 0
    if not console.is_terminal:
        console.width = WIDE
    _print_rows(console, one, other, (*found.settings, *found.steps, *found.endings))
    shown.note(f"they part at step {found.parted}" if found.parted else "the steps are the same")
    return DIFFERENT


def _print_rows(console: Console, first: Story, second: Story, rows: tuple[Row, ...]) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    from agentkit.report.wording import totals

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_lines=False, padding=(0, 2, 1, 0))
    table.add_column("", style="bold", max_width=18, overflow="fold")
    for story in (first, second):
        table.add_column(Text(f"{story.path}\n{story.made}"), ratio=1, overflow="fold")
    for row in rows:
        coloured = console.is_terminal and not console.no_color
        sides = (_words(row.first, "first", coloured), _words(row.second, "second", coloured))
        table.add_row(Text(row.label), *sides)
    came_to = (Text("\n".join(" · ".join(totals(run)) for run in story.runs), "dim") for story in (first, second))
    table.add_row(Text("came to"), *came_to)
    console.print(table, soft_wrap=False)


def _words(words: Words, side: str, coloured: bool) -> Text:
    """A text with its changed stretches in colour, or in brackets where there is none."""
    from rich.text import Text

    before, after, style = CHANGED[side]
    shown = Text()
    for changed, text in words:
        seen = printable(shortened(text))
        if changed and not coloured:
            seen = f"{before}{seen}{after}"
        shown.append(seen, style if changed and coloured else "")
    return shown or Text("–", style="dim")
