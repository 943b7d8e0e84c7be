"""What lives as long as one run: values that its tools found out once. Outside a run nothing is kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar

T = TypeVar("T")


class _Once:
    """A value that the first thread computes and the others wait for; a failure is not kept."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: list[Any] = []

    def get(self, compute: Callable[[], Any]) -> Any:
        with self._lock:
            if not self._values:
                self._values.append(compute())
            return self._values[0]


_kept: ContextVar[dict[Hashable, _Once] | None] = ContextVar("agentkit_run_scope", default=None)


def once(key: Hashable, compute: Callable[[], T]) -> T:
    """What `compute` gave for `key` earlier in this run, else what it gives now."""
    kept = _kept.get()
    found: T = compute() if kept is None else kept.setdefault(key, _Once()).get(compute)
    return found


_call_id: ContextVar[str | None] = ContextVar("agentkit_call_id", default=None)


def calling(call_id: str) -> AbstractContextManager[None]:
    """The block in which one action runs."""
    return set_within(_call_id, call_id)


@contextmanager
def set_within(variable: ContextVar[Any], value: Any) -> Iterator[None]:
    """The block in which a variable has this value."""
    outer = variable.get()
    variable.set(value)
    try:
        yield
    finally:
        variable.set(outer)  # not reset: what nobody awaits any more is closed in another context


def call_id() -> str | None:
    """The id of the action that runs here: the model's own where it called the tool in its own syntax."""
    return _call_id.get()


class ScopedToolbox:
    """A run's toolbox; `once` keeps values from its first call to its last.

    The scope is entered around each call, not around the run: a run is a generator, and what a generator sets in its
    context leaks to whoever drives it.
    """

    def __init__(self, toolbox: Any) -> None:
        self._toolbox = toolbox
        self._values: dict[Hashable, _Once] = {}

    def run(self, actions: Sequence[Any]) -> Any:
        with set_within(_kept, self._values):
            return self._toolbox.run(actions)

    async def arun(self, actions: Sequence[Any]) -> Any:
        with set_within(_kept, self._values):
            return await self._toolbox.arun(actions)
