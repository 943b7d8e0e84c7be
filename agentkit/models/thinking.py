"""Separates what a reasoning model writes inside `<think>…</think>`, or tags like it, from its answer, however the
pieces are cut."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from agentkit.models.stopping import unfinished_match
from agentkit.react_json.marks import TABLE, Marks, literals


class ThinkingText:
    """Splits a reply into thinking and answer; what stands in front of the part for the reader is dropped.

    A thought opens at the start of a line only: inside a line (a JSON string, a quotation) the tag is text. One that is
    never closed swallows the rest of the reply, so that nothing weighed up in it is taken for the answer. Only its own
    tag closes it.
    """

    def __init__(self, table: Marks = TABLE) -> None:
        self._closings, self._tags, self._line_tag = _tags_of(table)
        self._closing = ""  # of the thought that is open
        self._held = ""
        self._line_start = True
        self._skip_newlines = False

    def feed(self, text: str) -> tuple[str, str]:
        """The (thinking, answer) that `text` completes."""
        self._held += text
        thinking, answer = "", ""
        while self._held:
            if self._closing:
                taken, goes_on = self._thought()
                thinking += taken
            else:
                taken, goes_on = self._text()
                answer += self._answer(taken)
            if not goes_on:
                break
            self._skip_newlines, self._line_start = not self._closing, True
        return thinking, answer

    def flush(self) -> tuple[str, str]:
        """What was held back, when no more text comes."""
        held, self._held = self._held, ""
        return (held, "") if self._closing else ("", self._answer(held))

    def _thought(self) -> tuple[str, bool]:
        """The thought up to its end, and whether that was reached."""
        held = self._held
        if end := re.search(re.escape(self._closing), held, re.IGNORECASE):
            self._held, self._closing = held[end.end() :], ""
            return held[: end.start()], True
        cut = len(held) - unfinished_match(held[-len(self._closing) :].lower(), self._closing)
        self._held = held[cut:]
        return held[:cut], False

    def _text(self) -> tuple[str, bool]:
        """The text up to a tag, and whether one follows; the tag is dropped, a possible beginning of it held."""
        held = self._held
        tag = self._line_tag.search(held)
        if tag is not None and tag.start() == 0 and not self._line_start:
            tag = self._line_tag.search(held, 1)
        if tag is not None:
            self._held, self._closing = held[tag.end() :], self._closings.get(tag["tag"].lower(), "")
            return held[: tag.start("tag")], True
        cut = len(held) - self._unfinished(held)
        self._held = held[cut:]
        return held[:cut], False

    def _unfinished(self, held: str) -> int:
        """The length of the end of `held` that may be the beginning of a tag: all of its last line but blanks."""
        line = held.rpartition("\n")
        if not line[1] and not self._line_start:
            return 0
        begun = line[2].lstrip().lower()
        return len(begun) if begun and any(tag.startswith(begun) for tag in self._tags) else 0

    def _answer(self, text: str) -> str:
        if self._skip_newlines:
            text = text.lstrip("\n")
            self._skip_newlines = not text
        if text:
            line = text.rpartition("\n")
            self._line_start = not line[2].strip() and (bool(line[1]) or self._line_start)
        return text


@lru_cache(maxsize=8)
def _tags_of(table: Marks) -> tuple[Mapping[str, str], list[str], re.Pattern[str]]:
    """What closes each opening tag; all that begins a line; a pattern for it. In small letters."""
    closings = {opening.lower(): closing.lower() for opening, closing in table.thinking.items()}
    tags = [*closings, *(prelude.lower() for prelude in table.preludes)]
    return closings, tags, re.compile(rf"(?:\A|(?<=\n))[^\S\n]*(?P<tag>{literals(tags)})", re.IGNORECASE)
