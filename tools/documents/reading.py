"""A file as passages: its text, whatever its format and its encoding."""

from __future__ import annotations

import codecs
import csv
import logging
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice

from agentkit.errors import import_failure
from agentkit.tools.documents.passages import HTML, TABLES, OutOfTime, Passage, kind_of, passages_of, suffix_of

MOST_BYTES = 20_000_000
MOST_PAGES = 2000  # of a PDF
MOST_PDF_S = 30.0  # of the processor, for all its pages
MOST_S = 10.0  # of the processor, for each thing that is done with a text
LARGER = 4  # times that the rows of a table may grow by the names that are put before their values
MOST_PAGE_BYTES = 10_000_000  # of a page's drawing, unpacked
LONGEST_END = 2000  # of a PDF: pypdf goes back byte by byte, however long a line is
_STARTS = re.compile(rb"[\r\n]startxref\b")
_HYPHEN = re.compile(r"(?<=[^\W\d_])-\n(?=[a-z])")
NO_TEXT = "no text"
TOO_LONG = "it takes too long to read"


class Unread(Exception):
    """Why a file has no passages. `may_change`: it is worth another try though the file stays the same."""

    def __init__(self, reason: str, *, may_change: bool = False) -> None:
        super().__init__(reason)
        self.may_change = may_change


class Passages(list[Passage]):
    """The passages of a file; `left_out` says why they are those of its beginning only, "" where they are all."""

    left_out = ""


class Patience:
    """Raises `OutOfTime` when it is called after so many seconds of the processor."""

    def __init__(self, most_s: float = MOST_S) -> None:
        self._ends_s = time.thread_time() + most_s
        self._calls = 0

    def __call__(self) -> None:
        self._calls += 1
        if self._calls % 256 == 0 and time.thread_time() > self._ends_s:
            raise OutOfTime


def read_file(path: str, content: bytes) -> Passages:
    """The passages of a file; raises `Unread`. Of more than `MOST_BYTES`, a text's beginning is read."""
    suffix = suffix_of(path)
    if suffix == ".pdf":
        return _pdf(content)
    found, title, is_whole = Passages(), "", True
    if suffix in HTML:
        from agentkit.tools.documents.html_text import declared_encoding, html_text

        title, text, is_whole = html_text(_text(content, declared_encoding(content)), Patience())
    else:
        text = _text(content)
    if suffix in TABLES:
        text, is_whole = _rows(text, TABLES[suffix])
    try:
        for passage in passages_of(text, kind_of(path), each_line=Patience()):
            found.append(_under(title, passage) if title else passage)
    except OutOfTime:
        is_whole = False
    if not is_whole:
        found.left_out = TOO_LONG
    elif len(content) > MOST_BYTES:
        found.left_out = f"it is larger than {MOST_BYTES // 1_000_000} MB"
    return found


def _text(content: bytes, declared: str = "") -> str:
    text = text_of(content[:MOST_BYTES], declared=declared)
    if text is None:
        raise Unread(NO_TEXT)
    return text


def _rows(text: str, delimiter: str) -> tuple[str, bool]:
    """A table with each row's values under their names, `price: 89, weight: 120`, on the line where the row begins.

    Whether that is all of it is said, too.
    """
    lines = [""] * (text.count("\n") + 1)
    names: list[str] = []
    reader = csv.reader([f"{line}\n" for line in text.split("\n")], delimiter=delimiter)
    begins, room, each_row = 0, MOST_BYTES + LARGER * len(text), Patience()
    try:
        for read in reader:
            each_row()
            row = [" ".join(value.split()) for value in read]
            if names and len(row) == len(names):
                lines[begins] = ", ".join(f"{name}: {value}" for name, value in zip(names, row, strict=True) if value)
            else:
                names, lines[begins] = names or row, ", ".join(row)
            room -= len(lines[begins])
            if room < 0:
                raise OutOfTime
            begins = reader.line_num
    except csv.Error:  # no table after all
        return text, True
    except OutOfTime:
        return "\n".join(lines[:begins]), False
    return "\n".join(lines), True


def _pdf(content: bytes) -> Passages:
    pages: list[tuple[int, str]] = []
    left_out = ""
    try:
        with _processor_seconds(MOST_PDF_S):
            pages.extend(_pages(content))
    except Unread:
        raise
    except OutOfTime:
        left_out = TOO_LONG
        if not pages:
            raise Unread(TOO_LONG) from None
    except ImportError as error:
        reason = import_failure(error, "pypdf", purpose="to read PDF")
        raise Unread(reason, may_change=True) from error
    except Exception as error:  # pypdf raises what a damaged file makes its code raise: KeyError, RecursionError …
        raise Unread(f"it is damaged ({type(error).__name__})") from error
    if not pages:
        raise Unread("its pages are pictures")
    found = Passages(one for number, text in pages for one in passages_of(text, "plain", page=number))
    found.left_out = left_out
    return found


def _pages(content: bytes) -> Iterator[tuple[int, str]]:
    """(number, text) of each page that has text."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").addHandler(logging.NullHandler())  # or its warnings are printed
    end = content.rfind(b"%%EOF")
    if not _STARTS.search(content, max(0, end - LONGEST_END), max(0, end)):
        raise Unread("it is damaged (it has no end)")
    reader = PdfReader(BytesIO(content[: end + 5]))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Unread("it needs a password")
    for number, page in enumerate(islice(reader.pages, MOST_PAGES), 1):
        drawing = page.get_contents()
        if drawing is not None and len(drawing.get_data()) > MOST_PAGE_BYTES:
            continue
        text = page.extract_text()
        if text.strip():
            yield number, _HYPHEN.sub("", text.encode("utf-8", "replace").decode())


@contextmanager
def _processor_seconds(most_s: float) -> Iterator[None]:
    """Raises `OutOfTime` in code of Python's that runs on within this block: what it calls is counted.

    A page tree may come back to itself, and a few bytes may stand for millions of operators.
    """
    each_call, before = Patience(most_s), sys.getprofile()
    sys.setprofile(lambda frame, event, argument: each_call())
    try:
        yield
    finally:
        sys.setprofile(before)


def _under(title: str, passage: Passage) -> Passage:
    """The passage with the page's title above its headings."""
    inner = passage.heading.removeprefix(title).removeprefix(" > ")
    heading = f"{title} > {inner}" if inner else title
    return Passage(heading, passage.line, passage.page, passage.body)


# -- text of which nobody wrote down the encoding -------------------------------------------------------------------

MOST_CONTROLS = 0.02  # share of control characters in a text
SNIFFED = 65_536
MOST_ACCENTS = 0.25  # share of bytes that are not ASCII in a text in Latin letters; guessing is wrong too often below
_GUESSES = ["cp1250", "cp1251", "cp1252", "cp1253", "koi8_r", "shift_jis", "euc_jp", "gb18030", "big5", "euc_kr"]
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_CONTROLS = bytes(set(range(32)) - set(b"\t\n\r\f\x1b"))


def text_of(content: bytes, *, declared: str = "") -> str | None:
    """The text with `\\n` line ends, or `None` for what is no text; `declared` is the encoding that it names itself."""
    text = _decoded(content, declared)
    return None if text is None else text.replace("\r\n", "\n").replace("\r", "\n")


def _decoded(content: bytes, declared: str) -> str | None:
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding, "replace")
    head = content[:SNIFFED]
    if b"\0" in head or len(head.translate(None, _CONTROLS)) < len(head) * (1 - MOST_CONTROLS):
        return None
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        if error.start >= len(content) - 3:  # cut in the middle of a character
            return content.decode("utf-8", "ignore")
    return content.decode(declared if _is_known(declared) else _guessed(head), "replace")


def _is_known(encoding: str) -> bool:
    try:
        return bool(codecs.lookup(encoding)._is_text_encoding)
    except (LookupError, ValueError):
        return False


def _guessed(head: bytes) -> str:
    from charset_normalizer import from_bytes

    if sum(byte > 127 for byte in head) < len(head) * MOST_ACCENTS:
        return "cp1252"
    best = from_bytes(head, cp_isolation=_GUESSES).best()
    return best.encoding if best is not None else "cp1252"
