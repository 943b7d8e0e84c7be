"""Asks before a run starts, reads or sends what a file of anybody's names."""

from __future__ import annotations

import os
import sys
from collections.abc import Collection
from typing import TYPE_CHECKING

from agentkit.cli.approval import can_ask, confirmed, in_margin
from agentkit.cli.options import Given
from agentkit.cli.view import View, say
from agentkit.errors import ConfigurationError
from agentkit.settings import RunSettings, find_settings

if TYPE_CHECKING:
    from agentkit.runs.trust import Origin

MARGIN, FURTHER = "  - ", "  | "  # an effect that goes on is none of its own


def own_settings(given: Given, view: View, *, trust: bool) -> tuple[RunSettings, Collection[str]]:
    """The settings that this run has, and the names of those that a file in this folder decided."""
    from agentkit.runs.build import settled
    from agentkit.runs.trust import Origin

    found = find_settings(given)
    for note in found.notes:
        say(f"note: {note}", to=sys.stderr)
    foreign = agreed(Origin.of_settings(found), found.settings, view, trust=trust)
    return settled(found.settings), foreign


def agreed(origin: Origin | None, settings: RunSettings, view: View, *, trust: bool) -> Collection[str]:
    """The settings whose values are a file's and not the user's; raises `ConfigurationError` without consent.

    What a file was allowed once it may do again, as long as it says the same. `trust` answers for the user.
    """
    if origin is None:
        return ()
    from agentkit.runs.trust import foreign_names, remember

    def consent(file: str, wanted: list[str]) -> None:
        if not trust:
            _ask(file, wanted, view, is_run=bool(origin.run))
        remember(origin, wanted, "trusted", os.environ)

    return foreign_names(origin, settings, os.environ, consent)


def _ask(file: str, wanted: list[str], view: View, *, is_run: bool) -> None:
    if not can_ask():
        raise ConfigurationError(
            f"{file} asks to {'; '.join(wanted)}; nobody can be asked here: read {'it' if is_run else 'the file'}, and "
            "give --trust to let it"
        )
    view.settle()
    lines = [line for effect in wanted for line in in_margin(effect, MARGIN, FURTHER)]
    source = "The store" if is_run else "The file"
    if not confirmed([f"{file} asks to", *lines, f"{source} says so, not you. Let it, now and later?"]):
        raise ConfigurationError(f"{file} was not allowed that; give options of your own in the place of what it says")
