"""Passages of a turn that may hold an action: JSON, native tool calls, and the older dialect's text form, which models
fall back to: `Action: name` and `Action Input: text or JSON`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from agentkit.events import Action, FinalAnswer
from agentkit.react_json.lenient_json import BrokenJson, read_json
from agentkit.react_json.sections import BODY, Sections, behind
from agentkit.react_json.turn import NotADecision, decisions_in, is_no_tool, named_action

__all__ = ["Passage", "Passages", "TooManyBroken"]

_MAX_BROKEN = 100
_MEANT_AS_ACTION = re.compile(r"[{,]\s*[\"'“]?(?:action|tool|function|name)(?:[\"'”_]|\s*:)", re.IGNORECASE)
_MORE_ON_THE_LINE = re.compile(r"[ \t]*(?:[,;][ \t]*)?(?=\{)")
_RUN_ON = re.compile(r"[ \t]*(?:[:\"'“]|,[ \t]*[\"'“\w])")
_WORD = re.compile(r"\w")
_FENCE = re.compile(r"(`{3,}|~{3,})[^\n`]*\n")


class TooManyBroken(ValueError):
    """More damaged JSON than a turn can mean; reading on would cost more than it could give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What a passage asks for, or what is wrong with it.

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
    """The passages so far; `hint` is what was wrong with one that need not be an action.

    Each `read_…` notes what it reads and returns where to go on.
    """

    sections: Sections
    items: list[Passage] = field(default_factory=list)
    hint: str = ""
    _blocked: int = 0
    _blocked_tokens: int = 0
    _broken: int = 0

    def read_json(
        self, text: str, at: int, start: int, *, labelled: bool = False, inline: bool = False, doubtful: bool = False
    ) -> int:
        """The JSON at `at`, and more of it on the same line. `doubtful`: it may be part of an answer."""
        if self.sections.calls.is_python_list(text, at):
            doubtful = doubtful or not labelled
            return self.read_native(text, at, start, labelled=labelled, inline=inline, doubtful=doubtful)
        end = self._one(text, at, start, labelled=labelled, inline=inline, doubtful=doubtful)
        while end is not None and (more := _MORE_ON_THE_LINE.match(text, end)):
            at = more.end()
            end = self._one(text, at, at, labelled=labelled, inline=inline, doubtful=doubtful)
        return at + 1 if end is None else end

    def _one(self, text: str, at: int, start: int, *, labelled: bool, inline: bool, doubtful: bool) -> int | None:
        """One JSON value; none where there is none. What was read in vain is not read again."""
        if at < self._blocked:
            if labelled:
                self.items.append(Passage(start=start, end=at + 1, problem="its JSON is damaged", labelled=True))
            return None
        try:
            value, value_end = read_json(text, at)
        except BrokenJson as broken:
            self._blocked = broken.at
            meant = (labelled and not doubtful) or _MEANT_AS_ACTION.search(text, at, broken.at) is not None
            self._fail(start, at + 1, f"its JSON {broken}", meant=meant and not inline, labelled=labelled)
            return None
        end = behind(self.sections.trailer, text, value_end)
        try:
            decisions = decisions_in(value)
            if _RUN_ON.match(text, end):
                raise NotADecision("goes on behind its end", meant=True)
        except NotADecision as error:
            meant = error.meant or (labelled and not doubtful)
            self._fail(start, end, f"its JSON {error}", meant=meant and not inline, labelled=labelled)
            return end
        self.items.append(Passage(start=start, end=end, decisions=decisions, labelled=labelled, inline=inline))
        return end

    def read_native(
        self, text: str, at: int, start: int, *, labelled: bool = False, inline: bool = False, doubtful: bool = False
    ) -> int:
        """Tool calls in a syntax of the model's own. A run of tokens that was read in vain is not read again."""
        if at < self._blocked_tokens:
            return at + 1
        try:
            decisions, end = self.sections.calls.read(text, at)
        except (NotADecision, BrokenJson) as error:
            self._blocked_tokens = self.sections.calls.behind_tokens(text, at)
            self._fail(start, at + 1, f"it {error}", meant=not doubtful, labelled=labelled)
            return at + 1
        self.items.append(Passage(start=start, end=end, decisions=decisions, labelled=labelled, inline=inline))
        return end

    def read_text_action(self, name: str, text: str, start: int, end: int) -> None:
        """The older dialect's action, whose input is `text`."""
        try:
            decision = self._text_action(name, text.strip())
        except (NotADecision, BrokenJson) as error:
            self._fail(start, end, f"its input {error}", meant=True, labelled=True)
        else:
            self.items.append(Passage(start=start, end=end, decisions=[decision], labelled=True))

    def _text_action(self, name: str, text: str) -> Action | FinalAnswer:
        at = behind(BODY, text, 0)
        if not text.startswith(("{", "["), at):
            return named_action(name, _bare_input(text))
        value, end = read_json(text, at)
        if _WORD.search(text, behind(self.sections.trailer, text, end)):
            raise NotADecision("goes on behind its JSON", meant=True)
        if not isinstance(value, dict):
            return named_action(name, text)
        if value.keys() == {"action", "action_input"}:
            if value["action"] != name:
                raise NotADecision("names another action inside", meant=True)
            value = value["action_input"]
        return named_action(name, value)

    def _fail(self, start: int, end: int, problem: str, *, meant: bool, labelled: bool) -> None:
        self._broken += 1
        if self._broken > _MAX_BROKEN:
            raise TooManyBroken
        if meant:
            self.items.append(Passage(start=start, end=end, problem=problem, labelled=labelled))
        else:
            self.hint = self.hint or problem


def _bare_input(text: str) -> str:
    """An input without its fence or its quotes."""
    fence = _FENCE.match(text)
    if fence is not None and text.endswith("\n" + fence[1]) and fence.end() < len(text) - len(fence[1]):
        text = text[fence.end() : -len(fence[1]) - 1]
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" and text.count(text[0]) == 2 and "\\" not in text:
        text = text[1:-1]
    if not text or is_no_tool(text):
        raise NotADecision("is missing", meant=True)
    return text
