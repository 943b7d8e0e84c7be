"""`agentkit show`: a recorded or kept run as a person reads it, as JSON, or as a page of its own."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from agentkit.cli.keeping import find_store, is_run, store_option, stored_run
from agentkit.cli.options import PATH, check_folder, json_option
from agentkit.cli.view import View, as_result, output_console, shortened
from agentkit.errors import ConfigurationError
from agentkit.printable import json_text, printable
from agentkit.report.wording import compaction, duration, ending, exchange, input_text, made_with, tokens, totals

if TYPE_CHECKING:
    from rich.console import Console

    from agentkit.report.story import Story, StoryCall, StoryRun, StoryStep
    from agentkit.sessions.store import StoredRun


@click.command()
@click.argument("file", type=PATH, required=False, metavar="[FILE|RUN]")
@click.argument("page", type=PATH, required=False)
@click.option("--last", is_flag=True, help="The run that began last, of those that are kept.")
@click.option("--html", is_flag=True, help="Write a page that needs nothing else, to PAGE (FILE as .html).")
@store_option
@json_option
def show(file: Path | None, page: Path | None, last: bool, html: bool, store: str | None, as_json: bool) -> int:
    """Print a run step by step, or write it as a page. Shows what was recorded; nothing runs.

    RUN is the id of a run that is kept (agentkit logs), or its beginning.
    """
    if (file is None) is not last:
        raise ConfigurationError("expected a cassette, the id of a run, or --last; agentkit logs lists the runs")
    if page is not None and not html:
        raise ConfigurationError(f"expected one cassette, saw {page} too; a page is written with --html")
    story = _story(file, store).without_secrets()
    if html:
        return _write_page(story, page or story.path.with_suffix(".html"))
    if as_json:
        print(json_text(_as_mapping(story)))
        return 0
    console = output_console()
    for run in story.runs:
        _print_run(run, story, console)
    if not story.runs:
        console.print("nothing was recorded", style="yellow")
    return 0


def _story(file: Path | None, store: str | None) -> Story:
    """That of a cassette, of the kept run that is called so where there is no such file, or of the last one."""
    from agentkit.report.story import read_story

    if file is not None and not is_run(file):
        return read_story(file)
    with find_store(store) as found:
        id_ = str(file) if file is not None else found.last_run()
        if id_ is None:
            raise ConfigurationError(f"no run is kept in {found.address} yet; agentkit run keeps one")
        return story_of_run(stored_run(found, id_))


def story_of_run(run: StoredRun) -> Story:
    """A run of a store as a person reads it."""
    from agentkit.report.story import story_of_events

    ended = run.ended or run.started
    return story_of_events(
        run.id,
        run.spec,
        run.events,
        kept=f"{run.started.astimezone():%Y-%m-%d %H:%M:%S}" + (f" in session {run.session}" if run.session else ""),
        complete=run.status in ("finished", "waiting"),
        seconds=(ended - run.started).total_seconds(),
    )


def _write_page(story: Story, file: Path) -> int:
    from agentkit.cassette.format.place import check_replaceable, save
    from agentkit.report.page import is_page, page

    if file.suffix.lower() not in (".html", ".htm"):
        raise ConfigurationError(f"expected a page named *.html, saw {file}")
    check_folder(file)
    check_replaceable(file, is_page, "a page")
    save(file, page(story))
    View().note(f"written: {file}")
    return 0


def _as_mapping(story: Story) -> dict[str, Any]:
    """A run as `agentkit run --json` gave it, and beside that all that its cassette says of it."""
    result: dict[str, Any] = {}
    if len(story.runs) == 1:
        result = as_result(story.runs[0].events, story.model) | {"usage": asdict(story.runs[0].usage)}
        result["ended"] = ending(story.runs[0]) or None
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
        "ended": ending(run) or None,
        "usage": asdict(run.usage),
        "sources": [asdict(source) for source in run.sources],
        "steps": [asdict(step) for step in run.steps],
    }


def _print_run(run: StoryRun, story: Story, console: Console) -> None:
    _say(console, run.question, "bold")
    _say(console, " · ".join(made_with(story)), "dim")
    _say(console, f"{story.path}, {story.made}", "dim")
    if note := story.head.get("note"):
        _say(console, str(note), "dim")
    print_steps(run, console)
    console.print()
    if ending(run):
        _say(console, f"Ended: {ending(run)}", "yellow")
    if run.answered:
        _say(console, f"Answer: {input_text(run.output)}", "bold green")
    elif run.output is not None:
        _say(console, f"No answer: {run.output}", "bold yellow")
    if run.ungrounded:
        _say(console, f"Not confirmed by any tool: {', '.join(run.ungrounded)}", "yellow")
    for source in run.sources:
        _say(console, f"Source: {source.title}, {source.link}", "dim")
    _say(console, " · ".join(totals(run)), "dim")
    console.print()


def print_steps(run: StoryRun, console: Console) -> None:
    """The steps of a run, each with its calls."""
    for number, step in enumerate(run.steps, 1):
        _print_step(number, step, console)


def _print_step(number: int, step: StoryStep, console: Console) -> None:
    console.print()
    times = {"model": step.model_ms, "tools": step.tools_ms}
    figures = [*(f"{name} {duration(ms)}" for name, ms in times.items() if ms), tokens(step.usage)]
    figures.append("kept" if step.kept else "")
    _say(console, " · ".join([f"Step {number}", *filter(None, figures)]), "bold dim")
    for one in (*step.failures, *step.exchanges):
        _say(console, f"HTTP: {exchange(one)}", "red" if one in step.failures else "dim")
    for event in step.compactions:
        _say(console, compaction(event), "dim")
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
