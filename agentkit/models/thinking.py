"""Separates what a reasoning model writes inside `<think>…</think>`, or tags like it, from its answer, and cuts that
where the turn ends, however the pieces are cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from agentkit.models.text_so_far import CLOSED_QUOTES, TextSoFar
from agentkit.react_json.calls import OpenArgument, reader_of
from agentkit.react_json.marks import RUN_ON, TABLE, Marks, leading_letters, literals

_JSON = re.compile(r'[{\[]|"[^"]*"\s*:')  # a line with it may hold strings of JSON, which have no line ends
_BEHIND_END = 20  # characters behind the end of a turn that say whether it is one
_RUN_ON = re.compile(RUN_ON, re.IGNORECASE)
_SAME_TURN = re.compile(r"\s*<\|start\|>assistant")
_ROLE = re.compile(r"(?:assistant|model)?(?:<\|end_header_id\|>)?")
_RUN_ON_OTHERS = re.compile(r"\s*(?:user|human|system|tool|ipython|observation)\b", re.IGNORECASE)
_QUOTE = re.compile(r"\\.|\"")


class ThinkingText:
    """Splits a reply into thinking and answer; what stands in front of the part for the reader is dropped.

    A tag counts wherever it stands, unless it is quoted: between quotation marks, in code, in a string of JSON, or
    behind the beginning of a tool call. Inside an argument that a call writes as text, no tag counts. Only its own tag
    closes a thought. One that opens where a line begins and is never closed swallows the rest of the reply, so that
    nothing weighed up in it is taken for the answer; inside a line such a tag is text. Thoughts may stand in thoughts;
    where fewer tags close than open, the last one ends them all. A tag that closes what none opened ends a thought that
    the prompt opened: all before it is thinking, also what was given as answer already, which `restarts` tells. Behind
    the end of the turn nothing is part of the reply. What cannot be told before the reply ends is held back until then.
    """

    def __init__(self, table: Marks = TABLE) -> None:
        self.restarts = 0
        """How often what had come as answer turned out to be thinking."""
        self._table = table
        self._tags = _tags_of(table)
        self._held = ""
        self._is_whole = False
        self._ended = False
        self._skip_newlines = False
        # The answer so far, looked at when a tag comes.
        self._answered: list[str] = []
        self._before = TextSoFar()
        self._line = _Line()  # its last one
        self._call: OpenArgument | None = None
        # The thought that is open.
        self._opening = ""
        self._closing = ""
        self._within_line = False
        self._depth = 0
        self._searched = 0
        self._end: tuple[int, int] | None = None  # where it ends unless another tag closes it
        self._never_closed: set[str] = set()

    @property
    def open_thoughts(self) -> tuple[str, ...]:
        """What would close the thoughts that are open, the innermost first."""
        return (self._tags.as_written[self._closing],) * self._depth if self._closing else ()

    def feed(self, text: str) -> tuple[str, str]:
        """The (thinking, answer) that `text` completes."""
        self._held += text
        thinking, answer = "", ""
        goes_on = True
        while self._held and goes_on:
            restarts = self.restarts
            if self._closing:
                taken, goes_on = self._thought()
                thinking += taken
            else:
                taken, goes_on = self._text()
                answer += taken
            if self.restarts > restarts:
                thinking, answer = thinking + answer, ""
        return thinking, answer

    def flush(self) -> tuple[str, str]:
        """What was held back, when no more text comes."""
        self._is_whole = True
        thinking, answer = self.feed("")
        while self._closing:
            if self._end is not None:
                thinking += self._closed(*self._end)
            elif self._within_line:
                self._never_closed.add(self._closing)
                self._closing = ""
                answer += self._answer(self._opening)
            else:
                return thinking + self._held, answer
            restarts = self.restarts
            more = self.feed("")
            if self.restarts > restarts:
                thinking, answer = thinking + answer, ""
            thinking, answer = thinking + more[0], answer + more[1]
        held, self._held = self._held, ""
        return thinking, answer + self._answer(held)

    # -- inside a thought

    def _thought(self) -> tuple[str, bool]:
        """The thought up to its end, and whether that was reached."""
        held = self._held
        tags = [tag for tag, closing in self._tags.closings.items() if closing == self._closing]
        for tag in _pattern((*tags, self._closing)).finditer(held, self._searched):
            self._searched = tag.end()
            if tag[0].lower() != self._closing:
                self._depth += 1
                continue
            self._depth -= 1
            self._end = tag.span()
            if not self._depth:
                return self._closed(*self._end), True
        cut = max(self._searched, len(held) - self._unfinished(held, (*tags, self._closing)))
        if self._within_line or self._end is not None:
            self._searched = cut
            return "", False
        self._held, self._searched = held[cut:], 0
        return held[:cut], False

    def _closed(self, start: int, end: int) -> str:
        """The thought that ends here; what follows stands where a line begins."""
        thought, self._held = self._held[:start], self._held[end:]
        self._closing = ""
        self._begin_line(skip_newlines=not self._within_line)
        return thought

    # -- outside

    def _text(self) -> tuple[str, bool]:
        """The answer up to a tag and over it, and whether one was there; a possible beginning of it is held."""
        held = self._held
        if self._ended:
            self._held = ""
            return "", False
        tag = self._tags.pattern.search(held)
        if tag is None:
            cut = len(held) - self._unfinished(held, self._tags.every)
            self._held = held[cut:]
            return self._answer(held[:cut]), False
        name = tag[0].lower()
        answer = self._answer(held[: tag.start()])
        self._look_back()
        following = held[tag.end() :]
        wanted = _BEHIND_END if name in self._tags.ends else 1 if name in self._tags.alone or self._before.quotes else 0
        if len(following) < wanted and not self._is_whole:
            self._held = held[tag.start() :]
            return answer, False
        self._held = following
        in_argument = self._call is not None and self._call.is_open
        begins_line = self._before.is_open_line and not in_argument
        if name not in self._tags.closings:
            meant = begins_line or not (in_argument or self._is_quoted(following[:1], in_call=False))
            if name in self._tags.ends and meant and self._ends_here(name, following):
                goes_on = not self._ended and self._before.has_words  # with another message
                self._held = "" if self._ended else self._held
                return answer + (self._answer("\n") if goes_on else ""), True
            if name in self._tags.alone and meant and (begins_line or self._closes_here(following)):
                self._restart()
                return answer, True
            return answer + self._answer(tag[0]), True
        closing = self._tags.closings[name]
        if not begins_line and (closing in self._never_closed or self._is_quoted(following[:1])):
            return answer + self._answer(tag[0]), True
        if closing:
            self._opening, self._closing, self._within_line = tag[0], closing, not begins_line
            self._depth, self._searched, self._end = 1, 0, None
        else:
            self._begin_line(skip_newlines=begins_line)
        return answer, True

    def _ends_here(self, name: str, following: str) -> bool:
        """Whether the turn's end, or the next one's beginning, is meant; it is dropped in front of a reply, and between
        two messages of one turn."""
        if name == "</s>" and "<s>" in self._line.tail:
            return False
        if not self._before.has_words:
            role = _ROLE.match(following)
            self._held = following[role.end() if role else 0 :]
            self._ended = _RUN_ON_OTHERS.match(following) is not None
            self._begin_line(skip_newlines=True)
            return True
        if _SAME_TURN.match(following):
            return True
        before = self._line.tail[-1:]
        attached = before.strip() != "" and before not in "([{<"
        self._ended = attached or _RUN_ON.match(following) is not None
        return self._ended

    def _closes_here(self, following: str) -> bool:
        """Whether a closing tag inside a line is meant: not where a sentence about it goes on."""
        before = self._line.tail
        spoken_of = before[-1:] in (" ", "\t") and before.rstrip()[-1:].isalnum()
        return not spoken_of or following[:1] in ("\n", "\r")

    def _restart(self) -> None:
        self.restarts += 1
        self._answered.clear()
        self._before, self._call = TextSoFar(), None
        self._begin_line(skip_newlines=True)

    def _is_quoted(self, following: str, *, in_call: bool = True) -> bool:
        """Whether a tag between the answer so far and `following` is only written about."""
        in_code = self._before.in_fence or self._before.in_backticks
        quotes = self._line.quotes if self._line.holds_json else 0
        between_quotes = self._before.quotes and following in CLOSED_QUOTES
        return in_code or quotes % 2 == 1 or (in_call and self._call is not None) or between_quotes

    def _unfinished(self, held: str, tags: Iterable[str]) -> int:
        """The length of the end of `held` that may be the beginning of a tag."""
        for letter in self._tags.first_letter.finditer(held, max(0, len(held) - self._tags.longest)):
            begun = held[letter.start() :].lower()
            if any(tag.startswith(begun) for tag in tags):
                return len(begun)
        return 0

    def _answer(self, text: str) -> str:
        if self._skip_newlines:
            text = text.lstrip("\n")
            self._skip_newlines = not text
        if text:
            self._answered.append(text)
        return text

    def _begin_line(self, *, skip_newlines: bool) -> None:
        self._skip_newlines = skip_newlines
        self._line = _Line()
        self._before.add("\n")

    def _look_back(self) -> None:
        """Take in what came since the last tag."""
        text = "".join(self._answered)
        self._answered.clear()
        if self._call is not None:
            self._call.follow(text)
        elif reader_of(self._table).search(self._before.tail + text):
            self._call = OpenArgument(reader_of(self._table))
            self._call.follow(self._before.tail + text)
        self._before.add(text)
        _, line_end, last = text.rpartition("\n")
        if line_end:
            self._line = _Line()
        self._line.add(last)


class _Line:
    """What of a line has come, as far as it says whether it stops inside a string of JSON."""

    def __init__(self) -> None:
        self.tail = ""
        self.quotes = 0
        self.holds_json = False
        self._backslash = ""

    def add(self, text: str) -> None:
        self.holds_json = self.holds_json or _JSON.search(self.tail + text) is not None
        self.tail = (self.tail + text)[-200:]
        text = self._backslash + text
        self._backslash = "\\" if (len(text) - len(text.rstrip("\\"))) % 2 else ""
        self.quotes += sum(mark[0] == '"' for mark in _QUOTE.finditer(text.removesuffix(self._backslash)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tags:
    """The tags of a table in small letters.

    `closings` says what closes each opening tag ("": a tag that only goes), `alone` are closing tags, which may stand
    alone, `ends` those of turns; `pattern` finds any of them, `first_letter` where one may begin. `as_written` has each
    closing tag in the letters that models write it in.
    """

    closings: Mapping[str, str]
    as_written: Mapping[str, str]
    alone: frozenset[str]
    ends: frozenset[str]
    every: tuple[str, ...]
    longest: int
    pattern: re.Pattern[str]
    first_letter: re.Pattern[str]


@lru_cache(maxsize=8)
def _tags_of(table: Marks) -> _Tags:
    opened = {opening.lower(): closing.lower() for opening, closing in table.thinking.items()}
    closings = {**dict.fromkeys((prelude.lower() for prelude in table.preludes), ""), **opened}
    ends = frozenset(end.lower() for end in table.turn_ends)
    alone = frozenset(opened.values()) - ends
    every = (*closings, *alone, *ends)
    return _Tags(
        closings=closings,
        as_written={closing.lower(): closing for closing in table.thinking.values()},
        alone=alone,
        ends=ends,
        every=every,
        longest=max(map(len, every)),
        pattern=_pattern(every),
        first_letter=re.compile(f"[{leading_letters(every)}]", re.IGNORECASE),
    )


@lru_cache(maxsize=64)
def _pattern(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(literals(tags), re.IGNORECASE)
