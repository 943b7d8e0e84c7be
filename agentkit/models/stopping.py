"""Ends a stream of text at the first of some strings, however it is cut."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from agentkit.errors import ConfigurationError


def stop_strings(stop: object) -> tuple[str, ...]:
    """Stop strings as people give them: one text, several, or `None`."""
    given = (stop,) if isinstance(stop, str) else () if stop is None else stop
    if not isinstance(given, Collection) or not all(isinstance(each, str) and each for each in given):
        raise ConfigurationError(f"expected a list of non-empty stop strings, saw {stop!r}; leave out empty ones")
    return tuple(given)


class StopText:
    """Releases text up to the first stop string; holds back the longest end that could begin one.

    The match that is complete first wins, the longest of those that end together, so that the result does not depend
    on how the text was cut into pieces.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self._stop = stop_strings(stop)
        self._held = ""
        self.stopped = False
        self.cut_off = ""
        """What came with the first stop string, from it on."""

    def feed(self, text: str) -> str:
        """The text that is certain to stand before any stop string."""
        if self.stopped or not text:
            return ""
        if not self._stop:
            return text
        held = self._held + text
        if (start := self._first_match(held)) is not None:
            self.stopped, self._held, self.cut_off = True, "", held[start:]
            return held[:start]
        keep = self._unfinished(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def flush(self) -> str:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, text: str) -> int | None:
        found = [(text.find(stop) + len(stop), text.find(stop)) for stop in self._stop if stop in text]
        return min(found)[1] if found else None

    def _unfinished(self, text: str) -> int:
        """The length of the longest end of `text` that begins a stop string."""
        return max((unfinished_match(text, stop) for stop in self._stop), default=0)


def unfinished_match(text: str, wanted: str) -> int:
    """The length of the longest end of `text` that is a beginning of `wanted`, short of all of it."""
    for length in range(min(len(text), len(wanted) - 1), 0, -1):
        if text.endswith(wanted[:length]):
            return length
    return 0
