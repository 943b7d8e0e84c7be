"""Text in passages: pieces of a page or so that are found and shown as one, each under its heading."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["marked", "plain", "lines"]
"""`marked` has headings with `#` or underlines, `plain` has paragraphs, each line of `lines` stands for itself."""

HTML = frozenset({".html", ".htm", ".xhtml"})
TABLES = {".csv": ",", ".tsv": "\t"}
_MARKED = HTML | {".md", ".markdown", ".mdown", ".rst", ".adoc", ".txt", ".text"}
_PLAIN = frozenset({"", ".pdf", ".tex", ".org", ".log", ".srt", ".eml"})

BREAK = "\u2029"  # parts two blocks that stand on one line
ENOUGH = 900  # characters after which the next blank line ends a passage
LONGEST = 1600

_HEADING = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t#]*\Z")
_UNDERLINE = re.compile(r"([=\-~^\"'*+])\1{2,}[ \t]*\Z")
_FENCE = re.compile(r"[ \t]*(?:```|~~~)")
_END = re.compile(r"(?<=[.!?。！？;,])\s+|(?<=[。！？])|\s+")


class OutOfTime(BaseException):
    """A file took too long. No `Exception`: those are caught within pypdf."""


@dataclass(frozen=True, slots=True)
class Passage:
    """`line` and `page` count from 1; `page` is 0 where there are none. `heading` is the path of headings above it."""

    heading: str
    line: int
    page: int
    body: str


@dataclass
class _Open:
    """The passage that is being read."""

    line: int = 1
    last: int = 1
    lines: list[str] = field(default_factory=list)
    size: int = 0

    def add(self, piece: str, number: int) -> None:
        """A piece that stands on line `number`."""
        if not self.lines:
            self.line = self.last = number
        gap = "\n" * (number - self.last) or (BREAK if self.lines else "")
        self.lines.append(gap + piece)
        self.last = number
        self.size += len(piece) + 1


def suffix_of(path: str) -> str:
    """`.md` of `notes/READ.MD`."""
    return PurePosixPath(path).suffix.lower()


def kind_of(path: str) -> Kind:
    """How the file's text is built; code and tables are lines."""
    suffix = suffix_of(path)
    return "marked" if suffix in _MARKED else "plain" if suffix in _PLAIN else "lines"


def passages_of(
    text: str, kind: Kind, *, page: int = 0, each_line: Callable[[], None] = lambda: None
) -> Iterator[Passage]:
    """The text's passages; together they have every line that is no heading and not blank at an end.

    `each_line` is called for each line, and may end it all.
    """
    headings: list[tuple[int, str]] = []
    now = _Open()
    fenced = False
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        each_line()
        if not line and not now.lines:
            continue
        fenced ^= kind == "marked" and _FENCE.match(line) is not None
        following = lines[number] if number < len(lines) else ""
        if kind == "marked" and not fenced and _UNDERLINE.match(line):
            line = ""
        for piece in _cut(line):
            heading = None if fenced else _heading(piece, following, kind)
            if heading is not None and not now.lines and headings and heading[0] <= headings[-1][0]:
                now.add(headings[-1][1], now.line)  # a heading with nothing under it
            if heading is not None or now.size > LONGEST - len(piece) or (now.size > ENOUGH and not piece.strip()):
                yield from _closed(now, headings, page)
                now = _Open(number)
            if heading is not None:
                headings = [*((level, title) for level, title in headings if level < heading[0]), heading]
            elif now.lines or piece.strip():
                now.add(piece, number)
    if headings and not now.lines:
        now.add(headings[-1][1], now.line)
    yield from _closed(now, headings, page)


def _closed(now: _Open, headings: list[tuple[int, str]], page: int) -> Iterator[Passage]:
    body = "".join(now.lines).rstrip()
    if body:
        yield Passage(" > ".join(title for _, title in headings), now.line, page, body)


def _heading(line: str, following: str, kind: Kind) -> tuple[int, str] | None:
    """(level, title). An underline belongs to the line above it, which is short."""
    if kind != "marked":
        return None
    if match := _HEADING.match(line):
        return len(match[1]), match[2]
    underline = _UNDERLINE.match(following)
    if underline and line.strip() and len(line) <= len(following.rstrip()) + 2 and not _UNDERLINE.match(line):
        return {"=": 1, "-": 2}.get(underline[1], 3), line.strip()
    return None


def _cut(line: str) -> Iterator[str]:
    """A line in pieces: at `BREAK`, and where it is longer than a passage may be."""
    for block in line.split(BREAK):
        start = 0
        while len(block) - start > LONGEST:
            ends = [match.start() for match in _END.finditer(block, start + LONGEST // 2, start + LONGEST)]
            sentence = [end for end in ends if block[end - 1] in ".!?。！？"]
            end = (sentence or ends or [start + LONGEST])[-1]
            yield block[start:end]
            start = end
        yield block[start:]
