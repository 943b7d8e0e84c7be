"""Tools by name: ours and anyone's, through the entry-point group `agentkit.tools`."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

GROUP = "agentkit.tools"
LANGCHAIN_NAMES = {"serpapi": "search", "llm-math": "calculator"}
"""Names that LangChain's `load_tools` gives to what we have."""


def find_tool(name: str) -> Any:
    """The object behind a tool's name: a `Tool`, a typed function or a LangChain tool."""
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    key = LANGCHAIN_NAMES.get(name, name).casefold()
    if key not in known:
        raise ConfigurationError(
            f"unknown tool {name!r}: expected one of {', '.join(sorted(known)) or 'no installed tool'}; "
            f"a package adds its own through the entry-point group {GROUP!r}"
        )
    return _load(known[key])


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"tool {entry.name!r} could not be loaded from {entry.value} ({error}); install or mend that package"
        ) from error


def load_tools(names: Sequence[str], llm: Any = None) -> list[BaseTool]:
    """Tools for an executor. Knows LangChain's names `serpapi` and `llm-math` too; `llm` is taken and not needed."""
    from agentkit.langchain_tools import as_langchain

    return [as_langchain(find_tool(name)) for name in names]
