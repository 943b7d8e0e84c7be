"""Foreign text on its way to a terminal or a page: what models, tools, servers and files say can drive neither.

Whatever prints such text goes through here: `printable` for people to read, `json_text` for programs, which get all of
it back, and `escaped` where one line must stay one line and nothing may be hidden, `word` within such a line.
"""

from __future__ import annotations

import json
import re
from typing import Any

# Control characters but for tab and newline, overrides of the writing direction, halves of surrogate pairs, separators
# of lines that no terminal counts, and the invisible letters that spell out instructions (Unicode "tags").
_DRIVING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)
_UNSEEN = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0\ufe00-\ufe0e\U000e0100-\U000e01ef]")
_WORD = re.compile(r"[^\s?,;()\[\]{}]+")


def printable(text: str) -> str:
    """The text with a mark in the place of each character that drives a terminal; pieces of a text may be given."""
    return _DRIVING.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def json_text(value: Any) -> str:
    """The value as JSON, in which each such character is escaped."""
    return _DRIVING.sub(_escape, json.dumps(value, ensure_ascii=False, default=str))


def escaped(value: Any) -> str:
    """The value as JSON in one line, in which everything that cannot be seen is escaped."""
    text = _UNSEEN.sub(_escape, json_text(value))
    return "".join(letter if letter.isprintable() else _escape(letter) for letter in text)


def word(text: str) -> str:
    """The text as a part of a line: as `escaped` has it, in quotes, where it could be taken for more than a word."""
    whole = escaped(text)
    return text if text.isascii() and _WORD.fullmatch(text) and whole == f'"{text}"' else whole


def _escape(found: re.Match[str] | str) -> str:
    letter = found if isinstance(found, str) else found[0]
    return json.dumps(letter)[1:-1] if letter != "\x7f" else "\\u007f"
