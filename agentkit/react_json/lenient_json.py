"""JSON as models write it: strict where it is JSON, repaired where one reading is possible, refused where two are.

Repaired: trailing commas, raw newlines in strings, Python and JSON5 literals, comments, smart quotes, doubled braces,
`\\d` and `\\_`. Refused: cut-off text, keys given twice with different values, NaN, numbers that overflow, lone
surrogates, quotes that could end a string in two places. Every character is read a bounded number of times.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

__all__ = ["MAX_DEPTH", "BrokenJson", "read_json", "read_value"]

MAX_DEPTH = 256
"""Deeper values are refused: serialisers down the line recurse."""

# Between tokens: white space, invisible marks (right-to-left, BOM), comments.
_GAP = re.compile(r"(?:[\s\ufeff\u200b-\u200f\u2060\u202a-\u202e]+|//[^\n]*|\#[^\n]*|/\*.*?\*/)*", re.DOTALL)
# What opens a string, and what may close it. A smart quote is also closed by its ASCII twin.
_STRINGS = {
    '"': re.compile(r'"([^"\\]*(?:\\.[^"\\]*)*)"', re.DOTALL),
    "'": re.compile(r"'([^'\\]*(?:\\.[^'\\]*)*)'", re.DOTALL),
    **dict.fromkeys("“”„", re.compile(r'[“”„]([^“”"\\]*(?:\\.[^“”"\\]*)*)[“”"]', re.DOTALL)),
    **dict.fromkeys("‘’‚", re.compile(r"[‘’‚]([^‘’'\\]*(?:\\.[^‘’'\\]*)*)[‘’']", re.DOTALL)),
}
_KEY = re.compile(r"[A-Za-z_$][\w$\u200b-]*")  # a zero-width space breaks a key of a page: it must stay a part of it
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?(?![\w.])")
_WORD = re.compile(r"-?[A-Za-z]\w*")
_WORDS = {"true": True, "false": False, "null": None, "True": True, "False": False, "None": None}
_NO_NUMBERS = {"NaN", "nan", "Infinity", "-Infinity", "inf", "-inf"}
_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_ESCAPED = {'"': '"', "\\": "\\", "/": "/", "'": "'", "_": "_"}
_CONTROLS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_OTHER_ESCAPES = re.compile(r"[^\W_dDwWsS]|[\x00-\x1f]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f]")


class BrokenJson(ValueError):
    """What stands in the text has no single reading as JSON; `at` is how far it was read."""

    def __init__(self, reason: str, at: int) -> None:
        super().__init__(reason)
        self.at = at


class _Refused(ValueError):
    """Proper JSON syntax that is refused for its meaning."""


def read_json(text: str, start: int, *, repair: bool = True) -> tuple[Any, int]:
    """The value that starts at `start`, an object or a list, and where it ends; raises `BrokenJson`."""
    try:
        value, end = _STRICT.raw_decode(text, start)
    except (ValueError, RecursionError):
        if not repair:
            raise BrokenJson("is no strict JSON", start) from None
        return read_value(text, start)
    return _checked(text, start, value, end)


def read_value(text: str, start: int, *, quote: str = "") -> tuple[Any, int]:
    """Any value that starts at `start`, with repairs, and where it ends; raises `BrokenJson`.

    `quote` is a token that stands around strings besides the usual quotes: nothing inside it is an escape.
    """
    value, end = _Reader(text, start, quote).read()
    return _checked(text, start, value, end)


def _checked(text: str, start: int, value: Any, end: int) -> tuple[Any, int]:
    if text.count("{", start, end) + text.count("[", start, end) > MAX_DEPTH and _depth(value) > MAX_DEPTH:
        raise BrokenJson(f"is nested more than {MAX_DEPTH} levels deep", end)
    if text.find("\\u", start, end) >= 0 and not _encodable(value):
        raise BrokenJson("holds half of a surrogate pair", end)
    return value, end


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        for key, item in pairs:
            if value[key] != item or type(value[key]) is not type(item):
                raise _Refused(f"gives the key {key[:40]!r} twice with different values")
    return value


def _finite(literal: str) -> float:
    number = float(literal)
    if not math.isfinite(number):
        raise _Refused("holds a number too large for JSON readers")
    return number


def _no_constant(literal: str) -> Any:
    raise _Refused(f"holds {literal}, which is no JSON")


_STRICT = json.JSONDecoder(object_pairs_hook=_object, parse_float=_finite, parse_constant=_no_constant)


def _depth(value: Any) -> int:
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if isinstance(item, dict) else item)]
    return depth


def _encodable(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Reader:
    """Reads one value with repairs."""

    def __init__(self, text: str, start: int, quote: str = "") -> None:
        self._quote = quote
        self._text = text
        self._at = start

    def read(self) -> tuple[Any, int]:
        """The value and where it ends."""
        try:
            return self._value(0), self._at
        except _Refused as refused:
            raise BrokenJson(str(refused), self._at) from None
        except RecursionError:  # of a caller that stands deep itself
            raise BrokenJson("is nested too deep", self._at) from None

    def _value(self, depth: int) -> Any:
        """One value, in `depth` others. Lists and objects call nothing but this, so that the deepest fits the stack."""
        char = self._next()
        if char not in "{[":
            return self._scalar(char)
        if depth == MAX_DEPTH:
            raise BrokenJson(f"is nested more than {MAX_DEPTH} levels deep", self._at)
        # Doubled braces come from prompt templates; no object can begin with an object, so one is meant.
        closer = "]" if char == "[" else "}}" if self._text.startswith("{{", self._at) else "}"
        self._at += len(closer)
        items: list[Any] = []
        while not self._text.startswith(closer, self._skip_gap()):
            if items:
                if (char := self._next()) != ",":
                    raise self._unexpected(f"a comma or {closer}", char)
                self._at += 1
                if self._text.startswith(closer, self._skip_gap()):  # behind a trailing comma
                    break
            if closer == "]":
                items.append(self._value(depth + 1))
            else:
                items.append((self._key(self._next()), self._value(depth + 1)))
        self._at += len(closer)
        return items if closer == "]" else _object(items)

    def _scalar(self, char: str) -> Any:
        if self._quote and self._text.startswith(self._quote, self._at):
            return self._quoted()
        if char in _STRINGS:
            return self._string(char)
        if match := _NUMBER.match(self._text, self._at):
            self._at = match.end()
            return _finite(match[0]) if match[1] or match[2] else _integer(match[0])
        match = _WORD.match(self._text, self._at)
        if match and match[0] in _WORDS:
            self._at = match.end()
            return _WORDS[match[0]]
        raise self._unexpected("a value", match[0] if match else char)

    def _key(self, char: str) -> str:
        if self._quote and self._text.startswith(self._quote, self._at):
            key = self._quoted()
        elif char in _STRINGS:
            key = self._string(char)
        elif match := _KEY.match(self._text, self._at):
            key, self._at = match[0], match.end()
        else:
            raise self._unexpected("a key in quotes", char)
        if (char := self._next()) != ":":
            raise self._unexpected("a colon after the key", char)
        self._at += 1
        return key

    def _string(self, char: str) -> str:
        match = _STRINGS[char].match(self._text, self._at)
        if match is None:
            raise BrokenJson("ends inside a string", len(self._text))
        self._at = match.end()
        return _unescaped(match[1])

    def _quoted(self) -> str:
        start = self._at + len(self._quote)
        end = self._text.find(self._quote, start)
        if end < 0:
            raise BrokenJson("ends inside a string", len(self._text))
        self._at = end + len(self._quote)
        return self._text[start:end]

    def _next(self) -> str:
        """The next character that means something."""
        if self._skip_gap() >= len(self._text):
            raise BrokenJson("is cut off", self._at)
        return self._text[self._at]

    def _skip_gap(self) -> int:
        match = _GAP.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._at

    def _unexpected(self, expected: str, seen: str) -> BrokenJson:
        if seen in _NO_NUMBERS:
            return BrokenJson(f"holds {seen}, which is no JSON", self._at)
        return BrokenJson(f"has {seen[:20]!r} where {expected} should be", self._at)


def _integer(literal: str) -> int:
    try:
        return int(literal)
    except ValueError:
        raise _Refused("holds a number with too many digits") from None


def _unescaped(raw: str) -> str:
    """The string a literal means; backslashes that could be meant in two ways are refused."""
    if _CONTROL.search(raw):
        raise _Refused("has a raw control character in a string")
    if "\\" not in raw:
        return raw
    letters = {match[2] for match in _ESCAPE.finditer(raw)}  # None stands for \uXXXX
    literal = {letter for letter in letters if letter and letter not in _ESCAPED and letter not in _CONTROLS}
    if literal and (None in letters or letters & _CONTROLS.keys() or _OTHER_ESCAPES.search("".join(literal))):
        # "C:\new\data": a new line or a folder? "\x41": three characters or Python's "A"?
        raise _Refused("has backslashes that are no JSON escapes; double each backslash")
    text = _ESCAPE.sub(_character, raw)
    # \ud83d\ude00 is one character in two escapes; one half alone stays, and is refused by the caller.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass") if None in letters else text


def _character(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return _ESCAPED.get(match[2]) or _CONTROLS.get(match[2]) or match[0]
