"""How much time a run has left, for whatever waits inside it: requests, retries, tools."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

LONGEST_S = threading.TIMEOUT_MAX / 2  # a century and more: what waits for longer is refused by the platform

_end_s: ContextVar[float | None] = ContextVar("agentkit_deadline", default=None)


@contextmanager
def within(limit_s: float | None, *, clock: Callable[[], float] = time.monotonic) -> Iterator[None]:
    """A block that has `limit_s` seconds (`None`: no limit of its own); an earlier end of an outer block holds."""
    outer_s = _end_s.get()
    own_s = None if limit_s is None else clock() + min(limit_s, LONGEST_S)
    _end_s.set(min((end_s for end_s in (outer_s, own_s) if end_s is not None), default=None))
    try:
        yield
    finally:
        _end_s.set(outer_s)  # not reset: a generator may be closed in another context


def remaining_s(*, clock: Callable[[], float] = time.monotonic) -> float | None:
    """Seconds left, at least 0; `None` where there is no limit."""
    end_s = _end_s.get()
    return None if end_s is None else max(0.0, end_s - clock())
