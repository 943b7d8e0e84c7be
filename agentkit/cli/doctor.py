"""`agentkit doctor`: the findings about an installation and a model, as a table or as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import click

from agentkit.cli.options import json_option, model_option
from agentkit.cli.run import for_models_here
from agentkit.cli.view import View, print_table
from agentkit.errors import ConfigurationError, ModelError
from agentkit.printable import json_text
from agentkit.settings import MODELS

MARK = {"ok": "✓", "note": "•", "problem": "✗"}
STYLE = {"ok": "green", "note": "yellow", "problem": "red"}


@click.command(epilog=f"SPEC is {MODELS}")
@click.argument("spec", required=False)
@model_option
@json_option
def doctor(spec: str | None, as_json: bool, options: Mapping[str, Any]) -> int:
    """Probe the installation, and a model: what works, what does not, and what to do."""
    from agentkit.doctor import examine

    if options and spec is None:
        raise ConfigurationError("--option is for a model; name one: agentkit doctor SPEC --option …")
    view = View(as_json=as_json)
    view.wait("looking …")
    with for_models_here([] if spec is None else [spec]):
        findings = list(examine(spec, options))
    view.settle()
    if as_json:
        print(json_text([asdict(finding) for finding in findings]))
    else:
        rows = [((MARK[one.status], STYLE[one.status]), one.name, one.seen, one.advice) for one in findings]
        print_table(("", "what", "seen", "what to do"), rows)
    return ModelError.exit_code if any(finding.status == "problem" for finding in findings) else 0
