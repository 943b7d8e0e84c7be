"""The commands about cassettes."""

from __future__ import annotations

from agentkit.cli.options import File, Json, Quiet, Verbose, app


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
