"""What of a reply's text has come, as far as it says whether the next mark is meant or quoted."""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentkit.react_json.marks import TURN_ENDS, literals

WORD = re.compile(r"\w")
FENCE = re.compile(r"^[ \t]{0,3}(?:`{3,}|~{3,})", re.MULTILINE)
CLOSED_QUOTES = "\"'`”’»"
_OPEN_QUOTES = "\"'`“‘«"
_SENTENCE_END = re.compile(r"[.!?。！？…][ \t]*\Z")
_TOKEN_PLACE = re.compile(r"[.!?。！？…:：)\]][ \t]*\Z|\w\Z")
_LINE_END = re.compile(rf"\n|{literals(TURN_ENDS)}")


@dataclass
class TextSoFar:
    """The text so far: whether it has words, its last characters, and whether it stops inside a fence."""

    has_words: bool = False
    in_fence: bool = False
    tail: str = ""
    _line: str = ""

    def add(self, text: str) -> None:
        self.has_words = self.has_words or WORD.search(text) is not None
        self.tail = (self.tail + text)[-80:]
        first, *others = text.split("\n") if "\n" in text else [text]
        self._line = (self._line + first)[:8]
        for line in others:
            self.in_fence ^= FENCE.match(self._line) is not None
            self._line = line[:8]

    @property
    def quotes(self) -> bool:
        """Whether a quotation begins where the text stops."""
        return self.tail[-1:] != "" and self.tail[-1] in _OPEN_QUOTES

    @property
    def is_open_line(self) -> bool:
        """Whether the text stops where a line of its own begins, outside any fence: elsewhere a mark may be quoted."""
        return not self.in_fence and not self.tail.rpartition("\n")[2].strip()

    def is_place(self, token: str) -> bool:
        """Whether a call that begins with `token` can stand here: on a line of its own, behind a message's end or a
        sentence, and tokens that no prose has behind any word."""
        line = _LINE_END.split(self.tail)[-1]
        if not line.strip():
            return True
        tag = re.match(r"<\w|\Z", token) is not None
        return (_SENTENCE_END if tag else _TOKEN_PLACE).search(line) is not None
