"""`agentkit doctor`: the findings about an installation and a model, as a table or as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain
from typing import TYPE_CHECKING

from agentkit.cli.table import print_table
from agentkit.cli.view import View
from agentkit.errors import ModelError

if TYPE_CHECKING:
    from agentkit.doctor.local import Finding

MARK = {"ok": "✓", "note": "•", "problem": "✗"}
STYLE = {"ok": "green", "note": "yellow", "problem": "red"}


def examine(spec: str | None, shown: View) -> int:
    """Probe the installation, and the model behind `spec`; the exit code is 3 when there is a problem."""
    from agentkit.doctor.local import examine_installation

    shown.wait("looking …")
    findings = list(chain(examine_installation(), _examine_model(spec) if spec else ()))
    shown.settle()
    if shown.as_json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False))
    else:
        _print_table(findings)
    return ModelError.exit_code if any(finding.status == "problem" for finding in findings) else 0


def _examine_model(spec: str) -> Iterator[Finding]:
    from agentkit.cli.live import load_model
    from agentkit.doctor.local import examine_model

    return examine_model(load_model(spec))


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
