"""The Markdown that people read, taken apart: code blocks with what they are marked as, links, headings.

A mark stands on the line before a block: `<!-- checked: names -->`. What each kind of block gets:

- ```` ```python ```` runs, in one namespace for the page. `checked: names`: it is compiled, and its imports, names,
  attributes and keywords exist; for what needs a token, weights or a server.
- ```` ```console ```` of lines `$ …`: commands of agentkit and pytest run in the page's folder; `make`, `pip` and
  `python` name what is there. `checked: options`: those of agentkit are parsed only.
- ```` ```text ```` right after commands is what the last of them prints; `…` stands for anything. `checked: no`: it is
  an example.
- `file: NAME` before a block of any kind: it is written to that file in the page's folder, where later blocks find it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
SITE = ROOT / "notebooks"

_FENCE = re.compile(r"^(?P<fence>```+)(?P<language>\w*)\n(?P<text>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"<!-- (?P<key>checked|file): (?P<value>[^ ]+) -->\n+\Z")
_INLINE = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"!?\[[^\]\n]*\]\(<?([^)\s>]+)>?\)")
_HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block; `checked` and `file` are its marks, "" where it has none."""

    page: Path
    line: int
    language: str
    text: str
    checked: str = ""
    file: str = ""
    follows_another: bool = False

    @property
    def place(self) -> str:
        """Where it stands, as editors read it."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def site_pages() -> list[Path]:
    """Every page of the site."""
    return sorted(SITE.glob("*.md")) + sorted(SITE.glob("guide/*.md")) + sorted(SITE.glob("reference/*.md"))


def run_pages() -> list[Path]:
    """The pages whose code is run."""
    found = [page for page in site_pages() if page.parent.name != "reference"]
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *found]


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text(encoding="utf-8")
    end = 0
    for match in _FENCE.finditer(text):
        before = text[end : match.start()]
        mark = _MARK.search(before)
        marks = {mark["key"]: mark["value"]} if mark else {}
        plain = _MARK.sub("", before)
        yield Block(
            page,
            text.count("\n", 0, match.start()) + 2,
            match["language"],
            match["text"],
            follows_another=end > 0 and not plain.strip(),
            **marks,
        )
        end = match.end()


def prose(page: Path) -> str:
    """A page without its fenced blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def inline_code(page: Path) -> list[str]:
    """What stands in single backticks."""
    return _INLINE.findall(prose(page))


def links(page: Path) -> list[str]:
    """The targets of a page's links and pictures."""
    return _LINK.findall(_INLINE.sub("", prose(page)))


def anchors(page: Path) -> set[str]:
    """What `page.md#…` can name: its headings, in lower case with hyphens."""
    plain = (re.sub(r"[^\w\s-]", "", heading.lower()) for heading in _HEADING.findall(prose(page)))
    return {re.sub(r"[\s]+", "-", heading.strip()) for heading in plain}
