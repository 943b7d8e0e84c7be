"""A web search that needs no key: ddgs (https://github.com/deedy5/ddgs, MIT), which reads the public pages of several
engines (DuckDuckGo, Brave, Mojeek, Wikipedia …).

Best effort: those pages change, and engines refuse a machine that asks often. ddgs speaks HTTP in Rust, which a
cassette cannot see: what is recorded is the tool's observation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from agentkit.errors import ToolError, import_failure
from agentkit.tool import Result
from agentkit.tools.json_text import line_of
from agentkit.tools.search_text import MOST_RESULTS, MOST_TOKENS, NOTHING_FOUND, Hit, checked_query, search_result

TIMEOUT_S = 4
_UNREACHABLE = "the web could not be reached; check the network connection, or search a folder with --docs"
_REFUSES = ("ratelimit", "rate limit", " 429", " 202", " 403")
_NOTHING = f"{NOTHING_FOUND}: there is none, or the engines that need no key refuse this machine for now."

Engine = Callable[[str], Sequence[Mapping[str, Any]]]


class Unreachable(ToolError):
    """No engine could be reached: to ask again takes as long, and gives no more."""


@dataclass(frozen=True, slots=True)
class WebSearch:
    """Searches the web without a key.

    `engine` gives mappings with title, href and body; by default it is ddgs, which asks engine after engine and waits
    `timeout_s` for each: about four times that if none answers.
    """

    engine: Engine | None = None
    timeout_s: int = TIMEOUT_S
    most_results: int = MOST_RESULTS
    most_tokens: int = MOST_TOKENS

    @property
    def is_installed(self) -> bool:
        """Whether there is an engine to ask."""
        return self.engine is not None or find_spec("ddgs") is not None

    def search(self, query: str) -> Result:
        """The results as text, with their sources; raises `ToolError`."""
        query = checked_query(query)
        try:
            found = (self.engine or self._ddgs)(query)
        except ImportError as error:
            failure = import_failure(error, "ddgs", purpose="to search without a key")
        except Exception as error:  # ddgs lets through what its engines raise: parsers, codecs, TLS
            failure = _failure(error)
            if not failure:
                return Result(_NOTHING)
        else:
            hits = [_hit(item) for item in found if isinstance(item, Mapping)]
            return search_result((), [hit for hit in hits if hit.link], most_tokens=self.most_tokens)
        raise (Unreachable if failure == _UNREACHABLE else ToolError)(f"Error: {failure}.")

    def _ddgs(self, query: str) -> Sequence[Mapping[str, Any]]:
        from ddgs import DDGS

        found: Sequence[Mapping[str, Any]] = DDGS(timeout=self.timeout_s).text(query, max_results=self.most_results)
        return found


def _hit(item: Mapping[str, Any]) -> Hit:
    return Hit(line_of(item.get("title")), line_of(item.get("href")), line_of(item.get("body")))


def _failure(error: Exception) -> str:
    """What to tell, "" where nothing was found."""
    said = f"{error}".lower()
    if type(error).__name__ == "DDGSException" and "no results" in said:
        return ""
    if type(error).__name__ == "RatelimitException" or any(mark in said for mark in _REFUSES):
        return "the web search without a key is refused for now; wait some minutes, or set SERPAPI_API_KEY"
    if type(error).__name__ == "TimeoutException" or "timed out" in said:
        return "the web search gave no answer in time; try again, or check the network connection"
    if any(mark in said for mark in ("dns", "connect", "network", "proxy", "tunnel")):
        return _UNREACHABLE
    return f"the web search without a key failed ({type(error).__name__}); try again, or set SERPAPI_API_KEY"
