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


def is_listing() -> bool:
    """Whether the command stands alone, and lists."""
    return click.get_current_context().invoked_subcommand is None


def outer(given: str | None) -> str | None:
    """The store that was named to a command beneath, or to the one above it."""
    parent = click.get_current_context().parent
    return given if given is not None or parent is None else parent.params.get("store")
