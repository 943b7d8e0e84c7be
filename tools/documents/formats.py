"""What a file's name says about its text."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Literal

Kind = Literal["marked", "plain", "lines"]
"""`marked` has headings with `#` or underlines, `plain` has paragraphs, each line of `lines` stands for itself."""

HTML = frozenset({".html", ".htm", ".xhtml"})
TABLES = {".csv": ",", ".tsv": "\t"}
_MARKED = HTML | {".md", ".markdown", ".mdown", ".rst", ".adoc", ".txt", ".text"}
_PLAIN = frozenset({"", ".pdf", ".tex", ".org", ".log", ".srt", ".eml"})


def suffix_of(path: str) -> str:
    """`.md` of `notes/READ.MD`."""
    return PurePosixPath(path).suffix.lower()


def kind_of(path: str) -> Kind:
    """How the file's text is built; code and tables are lines."""
    suffix = suffix_of(path)
    return "marked" if suffix in _MARKED else "plain" if suffix in _PLAIN else "lines"
