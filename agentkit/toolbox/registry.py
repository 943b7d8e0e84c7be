"""Tools by name: ours and anyone's, through the entry-point group `agentkit.tools`."""

from __future__ import annotations

from collections.abc import Callable, Collection
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agentkit.errors import ConfigurationError

GROUP = "agentkit.tools"
LANGCHAIN_NAMES = {"serpapi": "search", "llm-math": "calculator"}
"""Names that LangChain's `load_tools` gives to what we have."""


def name_of(tool: Any) -> str:
    """The name of a tool of any kind."""
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", ""))


def is_named(name: str, names: Collection[str]) -> bool:
    """Whether a tool's name is among `names`, in any letter case; LangChain's names for what we have count too."""
    return name.casefold() in {LANGCHAIN_NAMES.get(one, one).casefold() for one in names}


def find_tool(name: str, elsewhere: Callable[[str], Any]) -> Any:
    """The object behind a tool's name: a `Tool`, a typed function or a LangChain tool.

    `elsewhere` is asked for a name that no package registered; it gives the tool, or raises `LookupError` with where
    else one could look.
    """
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    key = LANGCHAIN_NAMES.get(name, name).casefold()
    if key in known:
        return load(known[key])
    try:
        return elsewhere(key)
    except LookupError as error:
        raise ConfigurationError(
            f"unknown tool {name!r}: expected one of {', '.join(sorted(known)) or 'no installed tool'}; "
            f"{error.args[0]}; a package adds its own through the entry-point group {GROUP!r}"
        ) from None


def load(entry: EntryPoint) -> Any:
    """What an entry point names; raises `ConfigurationError`."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"tool {entry.name!r} could not be loaded from {entry.value} ({error}); install or mend that package"
        ) from error
