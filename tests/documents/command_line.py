"""Writes the page of the command line from the commands' own help.

python -m tests.documents.command_line
"""

from __future__ import annotations

import os
import subprocess
import sys

from tests.documents.pages import ROOT, SITE

AS_INSTALLED = "import sys; from agentkit.cli import main; sys.argv[0] = 'agentkit'; main()"
PAGE = SITE / "reference" / "command-line.md"
HEAD = """# Command line

The answer goes to standard output, everything else to standard error. What the exit codes mean stands in
[Errors](../guide/errors.md). Settings come from the command line, then from `AGENTKIT_MODEL`, `AGENTKIT_MAX_TOKENS` and
the like, then from `agentkit.toml` here or in `~/.config/agentkit/`, then from defaults. Every setting has a place in
all three: `--max-repeats 5`, `AGENTKIT_MAX_REPEATS=5`, `max_repeats = 5`; the names of the file are those of
`agentkit.settings.RunSettings`. `none` lifts a limit. A cassette keeps them all.

<!-- Below: python -m tests.documents.command_line writes it. -->
"""


def commands() -> list[str]:
    """Every command's words, as help lists them, each followed by those beneath it."""
    import click

    from agentkit.cli.app import app

    found = []
    for name, command in app.commands.items():
        beneath = command.commands if isinstance(command, click.Group) else ()
        found += [name, *(f"{name} {one}" for one in beneath)]
    return found


def help_text(*words: str) -> str:
    """What `agentkit WORDS --help` prints at a fixed width."""
    plain = {name: value for name, value in os.environ.items() if name not in ("FORCE_COLOR", "TERMINAL_WIDTH")}
    shown = subprocess.run(
        [sys.executable, "-c", AS_INSTALLED, *words, "--help"],
        cwd=ROOT, env={**plain, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"},
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    return "\n".join(line.rstrip() for line in shown.strip().splitlines())


def page() -> str:
    """The page's whole text."""
    sections = [f"```text\n{help_text()}\n```\n"]
    sections += [f"## agentkit {name}\n\n```text\n{help_text(*name.split())}\n```\n" for name in commands()]
    return "\n".join([HEAD, *sections])


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
