"""A command that lists something, and has others beneath it that change it: `agentkit sessions delete NAME`."""

from __future__ import annotations

from typing import Any

import click


class Listing(click.Group):
    """Its commands stand in the order in which they were added; alone, it lists."""

    def __init__(self, *args: Any, **named: Any) -> None:
        super().__init__(*args, **{"invoke_without_command": True, **named})

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


def is_listing(context: click.Context) -> bool:
    """Whether the command stands alone; an option that was given to it holds for the one beneath it, too."""
    return context.invoked_subcommand is None


def outer(context: click.Context, given: str | None) -> str | None:
    """The store that was named to a command beneath, or to the one above it."""
    above = context.parent.params.get("store") if context.parent is not None else None
    return given if given is not None else above
