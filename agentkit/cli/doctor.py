"""`agentkit doctor`: the findings about an installation and a model, as a table or as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

import click

from agentkit.cli.options import json_option
from agentkit.cli.view import View, print_table
from agentkit.errors import ModelError
from agentkit.settings import MODELS

if TYPE_CHECKING:
    from agentkit.doctor import Finding

MARK = {"ok": "✓", "note": "•", "problem": "✗"}
STYLE = {"ok": "green", "note": "yellow", "problem": "red"}


@click.command(epilog=f"SPEC is {MODELS}")
@click.argument("spec", required=False)
@json_option
def doctor(spec: str | None, as_json: bool) -> int:
    """Probe the installation, and a model: what works, what does not, and what to do."""
    from agentkit.doctor import examine_installation, examine_model

    view = View(as_json=as_json)
    view.wait("looking …")
    findings = list(chain(examine_installation(), examine_model(spec) if spec else ()))
    view.settle()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        _print_table(findings)
    return ModelError.exit_code if any(finding.status == "problem" for finding in findings) else 0


def _print_table(findings: list[Finding]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "what", "seen", "what to do"):
        table.add_column(title, overflow="fold")
    for finding in findings:
        mark = Text(MARK[finding.status], style=STYLE[finding.status])
        table.add_row(mark, finding.name, Text(finding.seen), Text(finding.advice))
    print_table(table)
