"""The cassette this context records into or replays from. Kept apart, so that asking costs no import."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from agentkit.cassette.cassette import Cassette

current: ContextVar[Cassette | None] = ContextVar("agentkit_cassette", default=None)


def active() -> Cassette | None:
    """The cassette whose `with` block this code runs in."""
    return current.get()
