"""One pass over a turn: which decisions stand in it and where, what is reasoning, and where the model's own part ends.

The pass jumps from mark to mark. What has been read as JSON is skipped, so that nothing inside a string is a mark; so
are fenced code and reasoning. What the turn decides is judged in `agentkit.react_json.verdict`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from agentkit.react_json.passages import Passages
from agentkit.react_json.sections import BODY, CLOSING_FENCE, Sections, behind

__all__ = ["Answer", "Scan"]

_WORD = re.compile(r"\w")
_BLANK = re.compile(r"\s*")


@dataclass(frozen=True, slots=True)
class Answer:
    """Where an answer's label and its text begin; `bold` is markup that the label opened and did not close."""

    label: int
    start: int
    bold: str = ""


@dataclass
class Scan:
    """What stands in `text`, which is cut where the model's own part ends.

    `start`: behind reasoning that the prompt opened. `invented`: observations in what was cut off. `contradicted`: the
    end of such reasoning was among it. `marks`: where marks begin, in order.
    """

    text: str
    sections: Sections
    start: int = 0
    invented: int = 0
    contradicted: bool = False
    unclosed: bool = False
    wrapped: bool = False
    named_only: str | None = None
    passages: Passages = field(init=False)
    finals: list[Answer] = field(default_factory=list)
    final_ends: list[int] = field(default_factory=list)
    weak_finals: list[Answer] = field(default_factory=list)
    reasoning: list[tuple[int, int]] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    _question: int | None = None
    _settled: bool = False
    _unfenced: bool = False
    _first: int = 0

    def __post_init__(self) -> None:
        self.passages = Passages(self.sections)

    def run(self) -> Scan:
        """Read the whole text; raises `TooManyBroken`."""
        self._first = behind(_BLANK, self.text, 0)
        mark = self.sections.next_mark(self.text, 0)
        while mark is not None:
            self.marks.append(mark.start())
            kind = mark.lastgroup or ""
            at = _HANDLERS[kind](self, mark)
            # What follows reasoning stands where a line begins, whether there is a new line or not.
            fresh = kind in ("opening", "closing", "prelude")
            mark = (self.sections.mark_at(self.text, at) if fresh else None) or self.sections.next_mark(self.text, at)
        return self

    @property
    def in_answer(self) -> bool:
        """Whether an answer was begun and nothing has ended it."""
        return len(self.finals) > len(self.final_ends)

    def begins_at(self, at: int) -> bool:
        """Whether nothing but space stands before `at`."""
        return self._first >= at

    # Where the model's own part ends

    def _settle(self, at: int) -> None:
        """Cut the text at the first observation behind `at`, before anything there is read as JSON.

        JSON may hold anything but a raw line "Observation": a stop would have cut it there.
        """
        if not self._settled:
            self._settled = True
            if observation := self.sections.observation.search(self.text, at):
                self._cut(observation.start())

    def _cut(self, at: int) -> None:
        self.invented += sum(1 for _ in self.sections.observation.finditer(self.text, at))
        tag = next(self.sections.reasoning(self.text, at), None)
        closes = tag is not None and tag.lastgroup == "closing" and tag[0].lower() not in self.sections.turn_ends
        self.contradicted = closes
        self.text = self.text[:at]

    def _on_observation(self, mark: re.Match[str]) -> int:
        self._cut(mark.start())
        return mark.start()

    def _on_end(self, mark: re.Match[str]) -> int:
        if not self.begins_at(mark.start()):
            self.invented += sum(1 for _ in self.sections.observation.finditer(self.text, mark.end()))
            self.text = self.text[: mark.start()]
        return mark.end()

    # Reasoning

    def _on_opening(self, mark: re.Match[str]) -> int:
        if self.in_answer and self._within_line(mark):
            return mark.end()
        tags = self.sections.reasoning(self.text, mark.end())
        closing = next((tag for tag in tags if tag.lastgroup == "closing"), None)
        end = closing.end() if closing else len(self.text)
        self.reasoning.append((mark.start(), end))
        self.unclosed = closing is None and not self.finals
        return end

    def _on_closing(self, mark: re.Match[str]) -> int:
        """Reasoning that the prompt opened: nothing before counts."""
        if not (self.in_answer and self._within_line(mark)):
            self.start = mark.end()
            for seen in (self.passages.items, self.finals, self.final_ends, self.weak_finals, self.reasoning):
                seen.clear()
            self.named_only = self._question = None
        return mark.end()

    def _within_line(self, mark: re.Match[str]) -> bool:
        """Whether words of the answer stand on both sides of a tag, which is then part of it."""
        line_start = max(self.text.rfind("\n", mark.start() - 200, mark.start()) + 1, self.finals[-1].start)
        before = _WORD.search(self.text, max(line_start, mark.start() - 200), mark.start())
        return before is not None and self.text[mark.end() : mark.end() + 1] not in ("", "\n", "\r")

    # Labels

    def _on_thought(self, mark: re.Match[str]) -> int:
        if self.in_answer:
            # "Question: … Thought: …" is the model asking itself the next one.
            asked = self._question
            again = asked is not None and "\n" not in self.text[asked : mark.start()].strip()
            self.final_ends.append(asked if again and asked is not None else mark.start())
        return mark.end()

    def _on_question(self, mark: re.Match[str]) -> int:
        self._question = mark.start() if self.in_answer else None
        return mark.end()

    def _on_final(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        if self.in_answer:
            self.final_ends.append(mark.start())
        bold = "" if mark.lastgroup == "heading" else mark["bold"] or ""
        closed = mark[0].count("*") + mark[0].count("_") > len(bold)
        self.finals.append(Answer(mark.start(), mark.end(), "" if closed else bold))
        return mark.end()

    def _on_weak_final(self, mark: re.Match[str]) -> int:
        if not self.finals:
            self.weak_finals.append(Answer(mark.start(), mark.end()))
        return mark.end()

    def _on_action(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        at = behind(BODY, self.text, mark.end())
        native = self.sections.mark_at(self.text, at)
        if native is not None and native.lastgroup == "native":
            return self.passages.read_native(self.text, at, mark.start(), labelled=True)
        if self.text.startswith(("{", "["), at):
            doubtful = self.in_answer
            return self.passages.read_json(self.text, at, mark.start(), labelled=True, doubtful=doubtful)
        return self._read_text_action(mark)

    def _on_inline_action(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        at = behind(BODY, self.text, mark.end())
        if self.in_answer or not self.text.startswith(("{", "["), at):
            return mark.end()
        return self.passages.read_json(self.text, at, mark.start(), inline=True)

    def _on_other(self, mark: re.Match[str]) -> int:
        return mark.end()

    # Passages that may hold an action

    def _on_native(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        at = mark.start("native")
        return self.passages.read_native(self.text, at, mark.start(), doubtful=self.in_answer)

    def _on_json(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        if self.in_answer:
            return mark.end()
        return self.passages.read_json(self.text, mark.start("json"), mark.start())

    def _on_fence(self, mark: re.Match[str]) -> int:
        self._settle(mark.end())
        line_end = self.text.find("\n", mark.end()) + 1 or len(self.text)
        if not self.in_answer:
            at = behind(BODY, self.text, mark.start())
            if self.text.startswith(("{", "["), at):
                return self.passages.read_json(self.text, at, mark.start())
            inner = self.sections.mark_at(self.text, line_end)
            self.wrapped = self.wrapped or (inner is not None and self.begins_at(mark.start()))
            if inner is not None and (inner.lastgroup == "native" or self.begins_at(mark.start())):
                return line_end
        closing = None if self._unfenced else CLOSING_FENCE.search(self.text, line_end)
        self._unfenced = closing is None
        return closing.end() if closing else line_end  # a fence that is never closed hides nothing

    def _read_text_action(self, mark: re.Match[str]) -> int:
        at = behind(_BLANK, self.text, mark.end())
        if at >= len(self.text) or self.sections.mark_at(self.text, at) is not None:
            self.named_only = self.named_only or ""
            return mark.end()
        line_end = self.text.find("\n", at)
        line_end = len(self.text) if line_end < 0 else line_end
        name = self.text[at:line_end].strip(" \t\r*`\"'")
        label = self.sections.input.match(self.text, line_end)
        if label is None:
            self.named_only = self.named_only if self.in_answer else name
            return line_end
        end = self._input_end(label.end())
        self.passages.read_text_action(name, self.text[label.end() : end], mark.start(), end)
        return end

    def _input_end(self, at: int) -> int:
        while (mark := self.sections.next_mark(self.text, at)) is not None:
            if mark.lastgroup not in _INSIDE_INPUT:
                return mark.start()
            at = mark.end()
        return len(self.text)


_HANDLERS: dict[str, Callable[[Scan, re.Match[str]], int]] = {
    "opening": Scan._on_opening,
    "closing": Scan._on_closing,
    "prelude": Scan._on_other,
    "end": Scan._on_end,
    "stopped": Scan._on_observation,
    "observation": Scan._on_observation,
    "thought": Scan._on_thought,
    "question": Scan._on_question,
    "input": Scan._on_other,
    "action": Scan._on_action,
    "final": Scan._on_final,
    "heading": Scan._on_final,
    "answer": Scan._on_weak_final,
    "inline_final": Scan._on_weak_final,
    "inline_action": Scan._on_inline_action,
    "fence": Scan._on_fence,
    "native": Scan._on_native,
    "json": Scan._on_json,
}
_INSIDE_INPUT = {"prelude", "fence", "native", "json", "answer", "inline_final", "inline_action"}
