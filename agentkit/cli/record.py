"""`agentkit record`: a cassette's question, asked again."""

from __future__ import annotations

from agentkit.cli.options import File, Json, Quiet, Verbose, Yes
from agentkit.cli.run import begin, check_folder, record_run
from agentkit.cli.view import View


def record(file: File, yes: Yes = False, as_json: Json = False, quiet: Quiet = False, verbose: Verbose = False) -> int:
    """Record a cassette's question again, live. The old recording is kept if that fails."""
    from agentkit.cassette import read_run_spec

    view = View(as_json=as_json, quiet=quiet, verbose=verbose)
    check_folder(file)
    spec = read_run_spec(file)
    runner = begin(spec.settings, view, yes=yes, prompt=spec.read_prompt())
    return record_run(spec, runner, view, file)
