"""A file as passages, whatever its format."""

from __future__ import annotations

import csv
from collections.abc import Sequence

from agentkit.errors import import_failure
from agentkit.tools.documents.formats import HTML, TABLES, kind_of, suffix_of
from agentkit.tools.documents.passages import Passage, passages_of
from agentkit.tools.documents.text_file import text_of

MOST_BYTES = 20_000_000
NO_TEXT = "no text"


class Unread(Exception):
    """Why a file has no passages. `may_change`: it is worth another try though the file stays the same."""

    def __init__(self, reason: str, *, may_change: bool = False) -> None:
        super().__init__(reason)
        self.may_change = may_change


def read_file(path: str, content: bytes) -> Sequence[Passage]:
    """The passages of a file; raises `Unread`. Of more than `MOST_BYTES`, a text's beginning is read."""
    suffix = suffix_of(path)
    if suffix == ".pdf":
        return _pdf(content)
    title = ""
    if suffix in HTML:
        from agentkit.tools.documents.html_text import declared_encoding, html_text

        title, text = html_text(_text(content, declared_encoding(content)))
    else:
        text = _text(content)
    if suffix in TABLES:
        text = _rows(text, TABLES[suffix])
    found = list(passages_of(text, kind_of(path)))
    return [_under(title, passage) for passage in found] if title else found


def _text(content: bytes, declared: str = "") -> str:
    text = text_of(content[:MOST_BYTES], declared=declared)
    if text is None:
        raise Unread(NO_TEXT)
    return text


def _rows(text: str, delimiter: str) -> str:
    """A table with each row's values under their names, `price: 89, weight: 120`, on the line where the row begins."""
    lines = [""] * (text.count("\n") + 1)
    names: list[str] = []
    reader = csv.reader([f"{line}\n" for line in text.split("\n")], delimiter=delimiter)
    begins = 0
    try:
        for read in reader:
            row = [" ".join(value.split()) for value in read]
            if names and len(row) == len(names):
                lines[begins] = ", ".join(f"{name}: {value}" for name, value in zip(names, row, strict=True) if value)
            else:
                names, lines[begins] = names or row, ", ".join(row)
            begins = reader.line_num
    except csv.Error:  # no table after all
        return text
    return "\n".join(lines)


def _pdf(content: bytes) -> Sequence[Passage]:
    from agentkit.tools.documents.pdf_text import UnreadablePdf, pdf_pages

    try:
        pages = list(pdf_pages(content))
    except ImportError as error:
        reason = import_failure(error, "pypdf", purpose="to read PDF", install="'agentkit-react[docs]'")
        raise Unread(reason, may_change=True) from error
    except UnreadablePdf as error:
        raise Unread(str(error)) from error
    if not pages:
        raise Unread("its pages are pictures")
    return [passage for number, text in pages for passage in passages_of(text, "plain", page=number)]


def _under(title: str, passage: Passage) -> Passage:
    """The passage with the page's title above its headings."""
    inner = passage.heading.removeprefix(title).removeprefix(" > ")
    heading = f"{title} > {inner}" if inner else title
    return Passage(heading, passage.line, passage.page, passage.body)
