"""Tools by name: ours and anyone's, through the entry-point group `agentkit.tools`."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any

from agentkit.errors import ConfigurationError

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

GROUP = "agentkit.tools"
LANGCHAIN_NAMES = {"serpapi": "search", "llm-math": "calculator"}
"""Names that LangChain's `load_tools` gives to what we have."""


def name_of(tool: Any) -> str:
    """The name of a tool of any kind."""
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", ""))


def is_named(name: str, names: Collection[str]) -> bool:
    """Whether a tool's name is among `names`, in any letter case; LangChain's names for what we have count too."""
    return name.casefold() in {LANGCHAIN_NAMES.get(one, one).casefold() for one in names}


def find_tool(name: str, llm: Any = None) -> Any:
    """The object behind a tool's name: a `Tool`, a typed function or a LangChain tool."""
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    key = LANGCHAIN_NAMES.get(name, name).casefold()
    if key in known:
        return load(known[key])
    from agentkit.langchain.community import community_names, community_tool

    try:
        theirs, more = community_names(), "`agentkit tools` lists those of langchain-community"
    except ConfigurationError as error:
        theirs, more = [], str(error)
    if key in theirs:
        return community_tool(key, llm)
    raise ConfigurationError(
        f"unknown tool {name!r}: expected one of {', '.join(sorted(known)) or 'no installed tool'}; {more}; "
        f"a package adds its own through the entry-point group {GROUP!r}"
    )


def load(entry: EntryPoint) -> Any:
    """What an entry point names; raises `ConfigurationError`."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"tool {entry.name!r} could not be loaded from {entry.value} ({error}); install or mend that package"
        ) from error


def load_tools(names: Sequence[str], llm: Any = None) -> list[BaseTool]:
    """Tools for an executor. Knows LangChain's names `serpapi` and `llm-math` too, and those of langchain-community.

    `llm` is for those of the last that ask a model themselves.
    """
    from agentkit.langchain.tools import as_langchain

    return [as_langchain(find_tool(name, llm)) for name in names]
