"""Passages of a turn that may hold an action: JSON, native tool calls, the older text form."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentkit.events import Action, FinalAnswer
from agentkit.react_json.calls import NotADecision, decisions_in
from agentkit.react_json.lenient_json import BrokenJson, read_json
from agentkit.react_json.native_calls import read_native
from agentkit.react_json.sections import TRAILER, behind
from agentkit.react_json.text_action import text_action

__all__ = ["Found", "Passages", "TooManyBroken"]

_MAX_BROKEN = 100
_MEANT_AS_ACTION = re.compile(r"[{,]\s*+[\"'“]?(?:action|tool|function|name)(?:[\"'”_]|\s*+:)", re.IGNORECASE)
_MORE_ON_THE_LINE = re.compile(r"[ \t]*+[,;]?[ \t]*+(?=\{)")
_RUN_ON = re.compile(r"[ \t]*+(?:[:\"'“]|,[ \t]*+[\"'“\w])")


class TooManyBroken(ValueError):
    """More damaged JSON than a turn can mean; reading on would cost more than it could give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A passage: what it asks for, or what is wrong with it.

    `labelled`: `Action:` begins its line; `inline`: `Action:` stands behind a sentence.
    """

    start: int
    end: int
    decisions: Sequence[Action | FinalAnswer] = ()
    problem: str = ""
    labelled: bool = False
    inline: bool = False


@dataclass
class Passages:
    """What was found so far; `hint` is what was wrong with a passage that need not be an action.

    Each `read_…` notes what it finds and returns where to go on.
    """

    found: list[Found] = field(default_factory=list)
    hint: str = ""
    _blocked: int = 0
    _broken: int = 0

    def read_json(
        self, text: str, at: int, start: int, *, labelled: bool = False, inline: bool = False, doubtful: bool = False
    ) -> int:
        """The JSON at `at`, and more of it on the same line. `doubtful`: it may be part of an answer."""
        end = self._one(text, at, start, labelled=labelled, inline=inline, doubtful=doubtful)
        while end is not None and (more := _MORE_ON_THE_LINE.match(text, end)):
            at = more.end()
            end = self._one(text, at, at, labelled=labelled, inline=inline, doubtful=doubtful)
        return at + 1 if end is None else end

    def _one(self, text: str, at: int, start: int, *, labelled: bool, inline: bool, doubtful: bool) -> int | None:
        """One JSON value; none where there is none. What was read in vain is not read again."""
        if at < self._blocked:
            if labelled:
                self.found.append(Found(start=start, end=at + 1, problem="its JSON is damaged", labelled=True))
            return None
        try:
            value, value_end = read_json(text, at)
        except BrokenJson as broken:
            self._blocked = broken.at
            meant = (labelled and not doubtful) or _MEANT_AS_ACTION.search(text, at, broken.at) is not None
            self._fail(start, at + 1, f"its JSON {broken}", meant=meant and not inline, labelled=labelled)
            return None
        end = behind(TRAILER, text, value_end)
        try:
            decisions = decisions_in(value)
            if _RUN_ON.match(text, end):
                raise NotADecision("goes on behind its end", meant=True)
        except NotADecision as error:
            meant = error.meant or (labelled and not doubtful)
            self._fail(start, end, f"its JSON {error}", meant=meant and not inline, labelled=labelled)
            return end
        self.found.append(Found(start=start, end=end, decisions=decisions, labelled=labelled, inline=inline))
        return end

    def read_native(self, text: str, at: int, start: int, *, labelled: bool = False, doubtful: bool = False) -> int:
        """Tool calls in a format of their own."""
        try:
            decisions, end = read_native(text, at)
        except (NotADecision, BrokenJson) as error:
            self._fail(start, at + 1, f"it {error}", meant=not doubtful, labelled=labelled)
            return at + 1
        self.found.append(Found(start=start, end=end, decisions=decisions, labelled=labelled))
        return end

    def read_text_action(self, name: str, written: str, start: int, end: int) -> None:
        """The older dialect's action."""
        try:
            decision = text_action(name, written.strip())
        except (NotADecision, BrokenJson) as error:
            self._fail(start, end, f"its input {error}", meant=True, labelled=True)
        else:
            self.found.append(Found(start=start, end=end, decisions=[decision], labelled=True))

    def _fail(self, start: int, end: int, problem: str, *, meant: bool, labelled: bool) -> None:
        self._broken += 1
        if self._broken > _MAX_BROKEN:
            raise TooManyBroken
        if meant:
            self.found.append(Found(start=start, end=end, problem=problem, labelled=labelled))
        else:
            self.hint = self.hint or problem
