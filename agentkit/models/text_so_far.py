"""What of a reply's text has come, as far as it says whether the next mark is meant or quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentkit.react_json.calls import is_place

WORD = re.compile(r"\w")
FENCE = re.compile(r"^[ \t]{0,3}(?:`{3,}|~{3,})", re.MULTILINE)
_FENCE_BEHIND_LABEL = re.compile(r":[ \t]*(?:`{3,}|~{3,})\w*[ \t]*\Z")
CLOSED_QUOTES = "\"'`”’»"
_OPEN_QUOTES = "\"'`“‘«"


@dataclass
class TextSoFar:
    """The text so far: whether it has words, its last characters, and whether it stops inside a fence."""

    has_words: bool = False
    in_fence: bool = False
    tail: str = ""
    _line: str = ""
    _line_end: str = ""
    _backticks: int = 0

    def add(self, text: str) -> None:
        self.tail = (self.tail + text)[-80:]
        for number, part in enumerate(text.split("\n")):
            if number:
                if FENCE.match(self._line) or (not self.in_fence and _FENCE_BEHIND_LABEL.search(self._line_end)):
                    self.in_fence = not self.in_fence
                self._line, self._line_end, self._backticks = "", "", 0
            self._line = (self._line + part)[:8]
            self._line_end = (self._line_end + part)[-40:]
            self._backticks += part.count("`")
            if not self.has_words and not FENCE.match(self._line):  # the language of a fence is no word
                self.has_words = WORD.search(part) is not None

    @property
    def quotes(self) -> bool:
        """Whether a quotation begins where the text stops."""
        return self.tail[-1:] != "" and self.tail[-1] in _OPEN_QUOTES

    @property
    def in_backticks(self) -> bool:
        """Whether the text stops between two backticks of a line."""
        return self._backticks % 2 == 1

    @property
    def is_open_line(self) -> bool:
        """Whether the text stops where a line of its own begins, outside any fence: elsewhere a mark may be quoted."""
        return not self.in_fence and not self.tail.rpartition("\n")[2].strip()

    def is_place(self, token: str) -> bool:
        """Whether a call that begins with `token` can stand here."""
        return is_place(self.tail.rpartition("\n")[2], token)
