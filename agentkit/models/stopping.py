"""Ends a stream of text at the first of some strings, and without the tokens of a turn's end, however it is cut."""

from __future__ import annotations

import re
from collections.abc import Sequence

from agentkit.errors import ConfigurationError
from agentkit.react_json.marks import TURN_ENDS, literals

_ENDED = re.compile(rf"(?:{literals(TURN_ENDS)})\s*\Z")
_LONGEST_END = max(map(len, TURN_ENDS))


class StopText:
    """Releases text up to the first stop string; holds back the longest end that could begin one.

    The match that is complete first wins, the longest of those that end together, so that the result does not depend
    on how the text was cut into pieces.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        if isinstance(stop, str) or not all(stop):
            raise ConfigurationError(f"expected a list of non-empty stop strings, saw {stop!r}; leave out empty ones")
        self._stop = tuple(stop)
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


class TurnEndText:
    """Drops the turn's end that a server left behind a reply. Inside a text such a token is the model's to quote."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> str:
        """The text that is certain to be followed by more, or to hold no such token."""
        if not self._held and "<" not in text:
            return text
        text = self._held + text
        at = self._unfinished(text)
        while (ended := _ENDED.search(text, max(0, at - 2 * _LONGEST_END), at)) is not None:
            at = ended.start()
        self._held = text[at:]
        return text[:at]

    def flush(self) -> str:
        """What was held back and is no turn's end."""
        text, self._held = self._held, ""
        while (ended := _ENDED.search(text)) is not None:
            text = text[: ended.start()]
        return text

    @staticmethod
    def _unfinished(text: str) -> int:
        """Where a token begins that is not yet complete; the end of the text if there is none."""
        start = text.rfind("<", max(0, len(text) - _LONGEST_END))
        return start if start >= 0 and any(end.startswith(text[start:]) for end in TURN_ENDS) else len(text)


def unfinished_match(text: str, wanted: str) -> int:
    """The length of the longest end of `text` that is a beginning of `wanted`, short of all of it."""
    for length in range(min(len(text), len(wanted) - 1), 0, -1):
        if text.endswith(wanted[:length]):
            return length
    return 0
