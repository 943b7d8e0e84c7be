"""Separates what a reasoning model writes inside `<think>…</think>`, or tags like it, from its answer, however the
pieces are cut."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache

from agentkit.models.text_so_far import CLOSED_QUOTES, TextSoFar
from agentkit.react_json.calls import OpenArgument, reader_of
from agentkit.react_json.marks import TABLE, Marks, leading_letters, literals

_JSON = re.compile(r'[{\[]|"[^"]*"\s*:')  # a line with it may hold strings of JSON, which have no line ends
_QUOTE = re.compile(r"\\.|\"")


class ThinkingText:
    """Splits a reply into thinking and answer; what stands in front of the part for the reader is dropped.

    A tag counts wherever it stands, unless it is quoted: between quotation marks, in code, in a string of JSON, or
    behind the beginning of a tool call. Inside an argument that a call writes as text, no tag counts. Only its own tag
    closes a thought. One that opens where a line begins and is never closed swallows the rest of the reply, so that
    nothing weighed up in it is taken for the answer; inside a line such a tag is text. Thoughts may stand in thoughts;
    where fewer tags close than open, the last one ends them all. What cannot be told before the reply ends is held back
    until then.
    """

    def __init__(self, table: Marks = TABLE) -> None:
        self._table = table
        self._closings, self._tag, self._first_letter = _tags_of(table)
        self._longest = max(map(len, (*self._closings, *self._closings.values())))
        self._held = ""
        self._skip_newlines = False
        # The answer so far, looked at when a tag comes.
        self._answered: list[str] = []
        self._before = TextSoFar()
        self._line = ""  # its last one
        self._call: OpenArgument | None = None
        # The thought that is open.
        self._opening = ""
        self._closing = ""
        self._within_line = False
        self._depth = 0
        self._searched = 0
        self._end: tuple[int, int] | None = None  # where it ends unless another tag closes it
        self._never_closed: set[str] = set()

    def feed(self, text: str) -> tuple[str, str]:
        """The (thinking, answer) that `text` completes."""
        self._held += text
        thinking, answer = "", ""
        goes_on = True
        while self._held and goes_on:
            if self._closing:
                taken, goes_on = self._thought()
                thinking += taken
            else:
                taken, goes_on = self._text()
                answer += taken
        return thinking, answer

    def flush(self) -> tuple[str, str]:
        """What was held back, when no more text comes."""
        thinking, answer = "", ""
        while self._closing:
            if self._end is not None:
                thinking += self._closed(*self._end)
            elif self._within_line:
                self._never_closed.add(self._closing)
                self._closing = ""
                answer += self._answer(self._opening)
            else:
                return thinking + self._held, answer
            more = self.feed("")
            thinking, answer = thinking + more[0], answer + more[1]
        held, self._held = self._held, ""
        return thinking, answer + self._answer(held)

    # -- inside a thought

    def _thought(self) -> tuple[str, bool]:
        """The thought up to its end, and whether that was reached."""
        held = self._held
        tags = [tag for tag, closing in self._closings.items() if closing == self._closing]
        for tag in _pattern((*tags, self._closing)).finditer(held, self._searched):
            self._searched = tag.end()
            if tag[0].lower() != self._closing:
                self._depth += 1
                continue
            self._depth -= 1
            self._end = tag.span()
            if not self._depth:
                return self._closed(*self._end), True
        cut = len(held) - self._unfinished(held, (*tags, self._closing))
        if self._within_line or self._end is not None:
            self._searched = max(self._searched, cut)
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
        tag = self._tag.search(held)
        if tag is None:
            cut = len(held) - self._unfinished(held, self._closings)
            self._held = held[cut:]
            return self._answer(held[:cut]), False
        answer = self._answer(held[: tag.start()])
        self._look_back()
        following = held[tag.end() : tag.end() + 1]
        if self._before.quotes and not following:
            self._held = held[tag.start() :]
            return answer, False
        self._held = held[tag.end() :]
        closing = self._closings[tag[0].lower()]
        in_argument = self._call is not None and self._call.is_open
        begins_line = self._before.is_open_line and not in_argument
        if not begins_line and (closing in self._never_closed or self._is_quoted(following)):
            return answer + self._answer(tag[0]), True
        if closing:
            self._opening, self._closing, self._within_line = tag[0], closing, not begins_line
            self._depth, self._searched, self._end = 1, 0, None
        else:
            self._begin_line(skip_newlines=begins_line)
        return answer, True

    def _is_quoted(self, following: str) -> bool:
        """Whether a tag between the answer so far and `following` is only written about."""
        line = self._line
        in_code = self._before.in_fence or line.count("`") % 2 == 1
        quotes = [mark[0] for mark in _QUOTE.finditer(line)].count('"') if _JSON.search(line) else 0
        between_quotes = self._before.quotes and following in CLOSED_QUOTES
        return in_code or quotes % 2 == 1 or self._call is not None or between_quotes

    def _unfinished(self, held: str, tags: Iterable[str]) -> int:
        """The length of the end of `held` that may be the beginning of a tag."""
        for letter in self._first_letter.finditer(held, max(0, len(held) - self._longest)):
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
        self._line = ""
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
        self._line = (self._line + text).rpartition("\n")[2]


@lru_cache(maxsize=8)
def _tags_of(table: Marks) -> tuple[Mapping[str, str], re.Pattern[str], re.Pattern[str]]:
    """What closes each opening tag ("": a tag that only goes), in small letters; a pattern for them, and one for the
    first letter of any tag."""
    closings = {opening.lower(): closing.lower() for opening, closing in table.thinking.items()}
    tags = {**dict.fromkeys((prelude.lower() for prelude in table.preludes), ""), **closings}
    first = leading_letters([*tags, *closings.values()])
    return tags, _pattern(tuple(tags)), re.compile(f"[{first}]", re.IGNORECASE)


@lru_cache(maxsize=64)
def _pattern(tags: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(literals(tags), re.IGNORECASE)
