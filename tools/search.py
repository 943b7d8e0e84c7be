"""The Search tool: Google through SerpAPI where a key is set, else a web search that needs none."""

from __future__ import annotations

from dataclasses import dataclass, field

from agentkit.errors import ToolError, pip_install
from agentkit.tool import Result, Tool
from agentkit.toolbox.run_scope import once
from agentkit.tools.search_text import NAME, NOTHING_FOUND, checked_query
from agentkit.tools.serpapi import KEY_PAGE, KEY_VARIABLE, SerpAPIWrapper
from agentkit.tools.web_search import Unreachable, WebSearch


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Chooses at each call: SerpAPI with a key, else ddgs where it is installed. A run asks each query once."""

    serpapi: SerpAPIWrapper = field(default_factory=SerpAPIWrapper)
    web: WebSearch = field(default_factory=WebSearch)

    def run(self, query: str) -> Result:
        """The observation for one query."""
        query = checked_query(query)
        if self.serpapi.has_key:
            chosen = self.serpapi.search
        elif self.web.is_installed:
            chosen = self.web.search
        else:
            raise ToolError(
                f"Error: Search has nothing to search: set {KEY_VARIABLE} (a key is at {KEY_PAGE}), or "
                f"{pip_install('ddgs')}, or give a folder with --docs."
            )

        def ask() -> Result | Unreachable:
            try:
                return chosen(query)
            except Unreachable as error:
                return error

        found = once((self, query.casefold()), ask)
        if isinstance(found, Unreachable):
            raise found
        return found

    def as_tool(self) -> Tool:
        """The tool that models know as Search."""
        return Tool(
            name=NAME,
            description=(
                "Useful for when you need to answer questions about current events, people and facts. "
                "Input is a search query."
            ),
            run=self.run,
            idempotent=True,
            side_effects=False,
            reads=("SERPAPI_API_KEY",),
        )


search = Search().as_tool()

__all__ = ["NOTHING_FOUND", "Search", "SerpAPIWrapper", "search"]
