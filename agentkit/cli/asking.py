"""`agentkit run` and `agentkit doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from agentkit.cli.options import SPEC, Json, Quiet, Verbose, Yes, app, names

Question = Annotated[str, typer.Argument(help="What to ask; - reads it from standard input.")]


@app.command()
def run(
    question: Question,
    model: Annotated[str | None, typer.Option(help=SPEC)] = None,
    tools: Annotated[str | None, typer.Option(help="Names, with commas.")] = None,
    docs: Annotated[str | None, typer.Option(help="A folder whose files Search looks through.")] = None,
    mcp: Annotated[
        list[str] | None, typer.Option(metavar="SERVER", help="An MCP server's command or address; may be repeated.")
    ] = None,
    allow: Annotated[str | None, typer.Option(help="Names of the tools that may run, with commas.")] = None,
    prompt: Annotated[str | None, typer.Option(help="A name, a file, or hub:OWNER/NAME.")] = None,
    mode: Annotated[str | None, typer.Option(help="How the model names a tool: auto, react-json or tools.")] = None,
    fallback: Annotated[
        list[str] | None, typer.Option(metavar="SPEC", help="A model to ask when the first fails; may be repeated.")
    ] = None,
    max_iterations: Annotated[int | None, typer.Option(help="Turns of the model at most.")] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds at most.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens of the whole run at most.")] = None,
    max_cost: Annotated[float | None, typer.Option(help="US dollars of the whole run at most.")] = None,
    record: Annotated[Path | None, typer.Option(help="Write the run to this cassette.")] = None,
    yes: Yes = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Ask a question; thoughts, actions and observations show as they come."""
    from agentkit.cli import live
    from agentkit.settings import read_settings

    given: dict[str, Any] = {
        "model": model,
        "tools": names(tools),
        "docs": docs,
        "mcp": tuple(mcp) if mcp else None,
        "allow": names(allow),
        "prompt": prompt,
        "mode": mode,
        "fallbacks": tuple(fallback) if fallback else None,
        "max_iterations": max_iterations,
        "timeout": timeout,
        "max_tokens": max_tokens,
        "max_cost": max_cost,
    }
    view = live.view(as_json=as_json, quiet=quiet, verbose=verbose)
    return live.run(live.read_question(question), read_settings(given), view, record=record, yes=yes)


@app.command()
def doctor(
    spec: Annotated[str | None, typer.Argument(help=f"A model to probe: {SPEC}")] = None, as_json: Json = False
) -> int:
    """Probe the installation, and a model: what works, what does not, and what to do."""
    from agentkit.cli import examine, live

    return examine.examine(spec, live.view(as_json=as_json, quiet=False, verbose=False))
