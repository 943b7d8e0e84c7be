"""The text of a web page, each word on the line where the file has it."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

from agentkit.tools.documents.passages import BREAK, LONGEST, OutOfTime

_UNSEEN = frozenset({"script", "style", "template", "svg", "noscript", "iframe", "object", "nav", "select", "math"})
_CELLS = frozenset({"td", "th"})
_BLOCKS = frozenset(
    "address article aside blockquote body br caption dd details dialog div dl dt fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hr li main ol option p pre section summary table tbody tfoot thead tr ul".split()
)
_HEADING = re.compile(r"h[1-6]\Z")
_DECLARED = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?([\w:.-]{1,40})", re.IGNORECASE)
_DATA = re.compile(r"\bdata:[\w/.+-]{1,80};base64,[\w+/=%]*")
CHUNK = 16_384
MOST_PENDING = 131_072  # characters; html.parser takes quadratic time for what is opened and never closed
_SPACE = re.compile(r"\s+")
_TAG = re.compile(r"<[^<>]{0,2000}>")


def declared_encoding(content: bytes) -> str:
    """The encoding that a page's `meta` names, "" without one."""
    match = _DECLARED.search(content[:4096])
    return match[1].decode("ascii", "ignore") if match else ""


def html_text(markup: str, each_tag: Callable[[], None] = lambda: None) -> tuple[str, str, bool]:
    """(title, text, whether that is all). Scripts, styles and menus are left out; a heading is a line behind `#`.

    The text has line breaks only where the file has them; blocks that share a line are parted by `BREAK`.
    `each_tag` is called for each tag, and raises `OutOfTime` to end it.
    """
    page, is_whole = _Page(each_tag), True
    markup = _DATA.sub("", markup)
    try:
        for start in range(0, len(markup), CHUNK):
            page.feed(markup[start : start + CHUNK])
            if len(page.rawdata) > MOST_PENDING:
                break
        if len(page.rawdata) <= CHUNK // 8:
            page.close()
    except (AssertionError, ValueError):  # what html.parser cannot read (python/cpython#77057)
        pass
    except OutOfTime:
        is_whole = False
    if page.rawdata and is_whole:
        line, column = page.getpos()
        page.handle_data(_TAG.sub(" ", markup.split("\n", line - 1)[-1][column:]))
    return " ".join("".join(page.titles).split())[:LONGEST], "".join(page.pieces), is_whole


class _Page(HTMLParser):
    def __init__(self, each_tag: Callable[[], None]) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self.titles: list[str] = []
        self._each_tag = each_tag
        self._line = 1
        self._unseen: list[str] = []
        self._in_title = False
        self._in_heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._each_tag()
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif tag == "title":
            self._in_title = not self.titles
        elif tag in _CELLS:
            if self._in_a_line():
                self.pieces.append(", ")
        elif tag in _BLOCKS:
            self._break()
        if _HEADING.match(tag) and not self._unseen:
            self._in_heading = True
            self._reach(self.getpos()[0])
            self.pieces.append("#" * int(tag[1]) + " ")

    def handle_endtag(self, tag: str) -> None:
        self._each_tag()
        if tag in self._unseen:
            while self._unseen.pop() != tag:
                pass
        elif tag in _BLOCKS:
            self._break()
        elif tag in ("title", "head"):
            self._in_title = False
        if _HEADING.match(tag):
            self._in_heading = False

    def handle_data(self, data: str) -> None:
        self._each_tag()
        if self._in_title:
            self.titles.append(data)
        elif not self._unseen and (data.strip() or self._in_a_line()):
            text = _SPACE.sub(" ", data) if self._in_heading or not data.strip() else data.replace(BREAK, " ")
            self._reach(self.getpos()[0])
            self.pieces.append(text)
            self._line += text.count("\n")

    def _in_a_line(self) -> bool:
        return bool(self.pieces) and not self.pieces[-1].endswith((" ", "\n", BREAK))

    def _reach(self, line: int) -> None:
        if line > self._line:
            self.pieces.append("\n" * (line - self._line))
            self._line = line

    def _break(self) -> None:
        if self.pieces and self.pieces[-1] != BREAK:
            self.pieces.append(BREAK)
