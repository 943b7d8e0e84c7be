"""The commands about cassettes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agentkit.cli.options import SPEC, File, Json, Quiet, Verbose, Yes, app, names

FileOrFolder = Annotated[
    Path | None, typer.Argument(metavar="FILE|FOLDER", help="A cassette, or a folder of them (cassettes).")
]
Turns = Annotated[int | None, typer.Option("--max-iterations", help="Turns of the model at most.", min=1)]
Seconds = Annotated[float | None, typer.Option("--timeout", help="Seconds at most.")]
Tokens = Annotated[int | None, typer.Option("--max-tokens", help="Tokens of the whole run at most.")]
Dollars = Annotated[float | None, typer.Option("--max-cost", help="US dollars of the whole run at most.")]
Page = Annotated[Path | None, typer.Argument(help="With --html: the page (FILE as .html).")]


@app.command()
def replay(file: FileOrFolder = None, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Show a run again, or check a folder of them. Takes no key, no network and no model."""
    from agentkit.cli import folder, live

    shown = live.view(as_json=as_json, quiet=quiet, verbose=verbose)
    place = file or folder.default()
    return folder.replay(place, shown) if place.is_dir() else live.replay(place, shown)


@app.command()
def record(file: File, yes: Yes = False, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Record a cassette's question again, live. The old recording is kept if that fails."""
    from agentkit.cli import live

    return live.record(file, live.view(as_json=as_json, quiet=quiet, verbose=verbose), yes=yes)


@app.command()
def show(
    file: File,
    page: Page = None,
    html: Annotated[bool, typer.Option("--html", help="Write a page that needs nothing else.")] = False,
    as_json: Json = False,
) -> int:
    """Print a run step by step, or write it as a page. Shows what was recorded; nothing runs."""
    from agentkit.cli import live, reading

    return reading.show(file, live.view(as_json=as_json, quiet=False, verbose=False), html=html, page_file=page)


@app.command()
def diff(
    first: Annotated[Path, typer.Argument(help="A cassette.")],
    second: Annotated[Path, typer.Argument(help="Another.")],
) -> int:
    """Put two runs side by side. The exit code is 0 when they are the same, 1 when not."""
    from agentkit.cli import live, reading

    return reading.diff(first, second, live.view(as_json=False, quiet=False, verbose=False))


@app.command()
def resume(
    file: File,
    max_iterations: Turns = None,
    timeout: Seconds = None,
    max_tokens: Tokens = None,
    max_cost: Dollars = None,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Go on with a run that was cut off. What it holds is played, the rest is live; also after a limit."""
    from agentkit.cli import going_on, live

    limits = {"max_iterations": max_iterations, "timeout": timeout, "max_tokens": max_tokens, "max_cost": max_cost}
    return going_on.resume(file, limits, live.view(as_json=as_json, quiet=quiet, verbose=verbose), yes=yes)


@app.command()
def fork(
    file: File,
    step: Annotated[int, typer.Option(help="How many steps of the recording to keep.", min=0)],
    model: Annotated[str | None, typer.Option(help=SPEC)] = None,
    tools: Annotated[str | None, typer.Option(help="Names, with commas.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A name, a file, or hub:OWNER/NAME.")] = None,
    max_iterations: Turns = None,
    timeout: Seconds = None,
    max_tokens: Tokens = None,
    max_cost: Dollars = None,
    record: Annotated[Path | None, typer.Option(help="The new cassette (FILE as .fork.yaml).")] = None,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Go on from a step with another model or prompt. The recording itself stays as it is."""
    from agentkit.cli import going_on, live

    given: dict[str, Any] = {"model": model, "tools": names(tools), "prompt": prompt}
    given |= {"max_iterations": max_iterations, "timeout": timeout, "max_tokens": max_tokens, "max_cost": max_cost}
    shown = live.view(as_json=as_json, quiet=quiet, verbose=verbose)
    return going_on.fork(file, step, given, record, shown, yes=yes)
