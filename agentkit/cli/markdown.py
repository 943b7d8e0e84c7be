"""An answer as it looks on a terminal: Markdown, of which nothing is lost that was no Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agentkit.printable import printable

if TYPE_CHECKING:
    from markdown_it.rules_inline import StateInline
    from rich.markdown import Markdown


def rendered(text: str) -> Markdown:
    """The text for a console of rich's. HTML, entities and `17*3*2` are text; lines end where they ended."""
    from markdown_it import MarkdownIt
    from rich.markdown import Markdown

    shown = Markdown(printable(text), hyperlinks=False)
    reader = MarkdownIt("commonmark", {"html": False, "breaks": True}).enable(["table", "strikethrough"])
    reader.disable(["entity", "html_block", "html_inline"])
    reader.inline.ruler.at("emphasis", _emphasis)
    shown.parsed = reader.parse(shown.markup)
    for token in shown.parsed:
        for child in token.children or ():
            if child.type == "softbreak":
                child.type = "hardbreak"
    return shown


def _emphasis(state: StateInline, silent: bool) -> bool:
    """Markdown's rule, but for asterisks between letters or figures, and underscores: `17*3*2`, `__init__`."""
    from markdown_it.rules_inline.emphasis import tokenize

    mark = state.src[state.pos]
    if not silent and mark in "*_":
        scanned = state.scanDelims(state.pos, False)
        if mark == "_" or not (scanned.can_open or scanned.can_close):
            state.pending += mark * scanned.length
            state.pos += scanned.length
            return True
    return tokenize(state, silent)
