"""The command line: what stands before every command, and the commands in the order that help lists them."""

from __future__ import annotations

import click

from agentkit import __version__
from agentkit.cli.approvals import approvals
from agentkit.cli.chat import chat
from agentkit.cli.diff import diff
from agentkit.cli.doctor import doctor
from agentkit.cli.fork import fork
from agentkit.cli.logs import logs
from agentkit.cli.mcp import mcp
from agentkit.cli.memory import memory
from agentkit.cli.record import record
from agentkit.cli.replay import replay
from agentkit.cli.resume import resume
from agentkit.cli.run import run
from agentkit.cli.sessions import sessions
from agentkit.cli.show import show
from agentkit.cli.tools import tools

COMMANDS = (
    *(run, chat, approvals, resume, logs, show, sessions, memory),
    *(replay, record, diff, fork, tools, mcp, doctor),
)
WIDEST = 100  # columns of help


class _InOrder(click.Group):
    """Commands as they were added, not by their letters."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_InOrder, context_settings={"max_content_width": WIDEST}, no_args_is_help=True)
@click.version_option(__version__, message="agentkit %(version)s", help="Print it.")
def app() -> None:
    """Ask a question of an open chat model that thinks, uses tools and answers.

    Answers go to standard output, everything else to standard error.
    """


for command in COMMANDS:
    app.add_command(command)
