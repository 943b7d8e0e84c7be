"""The commands. Each one reads its options, builds a run, and hands the events to a view."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="agentkit",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Ask a question of an open chat model that thinks, uses tools and answers.",
)

Spec = "builtin, local:FOLDER, local:ORG/NAME, hf:ORG/NAME, http(s)://ADDRESS, PROVIDER:NAME."
Question = Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")]
File = Annotated[Path, typer.Argument(help="A cassette.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show the answer only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Show the model's whole text, and tracebacks.")]


def _version(wanted: bool) -> None:
    if wanted:
        from agentkit import __version__

        typer.echo(f"agentkit {__version__}")
        raise typer.Exit


@app.callback()
def agentkit(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    """Answers go to standard output, everything else to standard error."""


@app.command()
def run(
    question: Question,
    model: Annotated[str | None, typer.Option(help=Spec)] = None,
    tools: Annotated[str | None, typer.Option(help="Names, with commas.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A name, a file, or hub:OWNER/NAME.")] = None,
    max_iterations: Annotated[int | None, typer.Option(help="Turns of the model at most.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of the whole run at most.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the run to this cassette.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Ask a question; thoughts, actions and observations show as they come."""
    from agentkit.cli import live
    from agentkit.settings import read_settings

    given: dict[str, Any] = {
        "model": model,
        "tools": None if tools is None else tuple(name.strip() for name in tools.split(",") if name.strip()),
        "prompt": prompt,
        "max_iterations": max_iterations,
        "timeout": timeout,
        "max_tokens": max_tokens,
    }
    view = live.view(as_json=as_json, quiet=quiet, verbose=verbose)
    return live.run(live.read_question(question), read_settings(given), view, record=record)


@app.command()
def replay(file: File, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Show a recorded run again: no key, no network, no model."""
    from agentkit.cli import live

    return live.replay(file, live.view(as_json=as_json, quiet=quiet, verbose=verbose))


@app.command()
def record(file: File, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Run a cassette's question again, live, and write it anew; the old one is kept if that fails."""
    from agentkit.cli import live

    return live.record(file, live.view(as_json=as_json, quiet=quiet, verbose=verbose))


@app.command()
def doctor(
    spec: Annotated[str | None, typer.Argument(help=f"A model to probe: {Spec}")] = None, as_json: Json = False
) -> int:
    """Probe the installation, and a model: what works, what does not, and what to do."""
    from agentkit.cli import examine, live

    return examine.examine(spec, live.view(as_json=as_json, quiet=False, verbose=False))
