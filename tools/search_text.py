"""What every search gives: the answer line, then numbered title, link and snippet, and the sources of what is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentkit.approximate_tokens import count_tokens, cut_to_tokens
from agentkit.errors import ToolError
from agentkit.events import Source
from agentkit.tool import Result

NAME = "Search"  # of the tool, whatever it searches
MOST_RESULTS = 6
MOST_TOKENS = 700
LONGEST_SNIPPET = 400
LONGEST_QUERY = 2000
NOTHING_FOUND = "No good search result found"


@dataclass(frozen=True, slots=True)
class Hit:
    """One search result. `link` is an address or a place in a file."""

    title: str
    link: str = ""
    snippet: str = ""

    @property
    def text(self) -> str:
        """The result's lines, each once."""
        lines = (self.title or self.link, self.link, cut(self.snippet, LONGEST_SNIPPET))
        return "\n   ".join(dict.fromkeys(line for line in lines if line))


def search_result(
    head: Sequence[str], hits: Sequence[Hit], *, sources: Sequence[Source] = (), most_tokens: int = MOST_TOKENS
) -> Result:
    """As many whole hits as fit under the lines of `head`, whose sources are `sources`; the first piece may be cut."""
    pieces = ["\n".join(dict.fromkeys(head))] if head else []
    pieces += [f"{number}. {hit.text}" for number, hit in enumerate(hits, 1)]
    shown: list[str] = []
    left = most_tokens
    for piece in pieces:
        tokens = count_tokens(piece)
        if tokens > left and shown:
            break
        shown.append(cut_to_tokens(piece, left))
        left -= tokens
    listed = hits[: len(shown) - bool(head)]
    found = [*(sources if head else ()), *(Source(hit.title or hit.link, hit.link) for hit in listed if hit.link)]
    by_link: dict[str, Source] = {}
    for source in found:
        by_link.setdefault(source.link, source)
    return Result("\n".join(shown) or NOTHING_FOUND, tuple(by_link.values()))


def cut(text: str, most: int) -> str:
    """The text, or its beginning up to a word's end."""
    if len(text) <= most:
        return text
    head = text[: most - 3]
    return (head.rsplit(None, 1)[0] if " " in head[most // 2 :] else head) + "..."


def checked_query(query: object) -> str:
    """The query on one line; raises `ToolError` for what cannot be asked."""
    if not isinstance(query, str) or not query.strip():
        raise ToolError("Error: expected a search query, got nothing; write what to look for.")
    if len(query) > LONGEST_QUERY:
        raise ToolError(f"Error: expected a query of at most {LONGEST_QUERY} characters, got {len(query)}; shorten it.")
    return " ".join(query.encode("utf-8", "ignore").decode().split())
