"""Tools by name: ours and anyone's, through the entry-point group `agentkit.tools`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Sequence
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from agentkit.errors import ConfigurationError, did_you_mean

GROUP = "agentkit.tools"
LANGCHAIN_NAMES = {"serpapi": "search", "llm-math": "calculator"}
"""Names that LangChain's `load_tools` gives to what we have."""


def name_of(tool: Any) -> str:
    """The name of a tool of any kind."""
    return str(getattr(tool, "name", None) or getattr(tool, "__name__", ""))


def canonical(name: str) -> str:
    """The name under which a package registers what is asked for by `name`."""
    return LANGCHAIN_NAMES.get(name, name).casefold()


def is_named(name: str, names: Collection[str]) -> bool:
    """Whether a tool's name is among `names` as it is written, or is that of an installed tool among them."""
    return name in names or any(name == _installed_name(one) for one in names)


def _installed_name(key: str) -> str | None:
    """What the tool is called that is installed under this name: `Calculator` for `calculator` and `llm-math`."""
    found = entry_points(group=GROUP, name=LANGCHAIN_NAMES.get(key, key))
    return name_of(load(next(iter(found)))) if found else None


def plain_name(name: str) -> str:
    """A tool's name as a model reads it."""
    return " ".join(unicodedata.normalize("NFKC", name).split())


def check_names(names: Sequence[str]) -> None:
    """Raise `ConfigurationError` for two tools that a model could not tell apart."""
    seen: dict[str, str] = {}
    for name in names:
        plain = plain_name(name)
        if plain in seen:
            both = repr(name) if name == seen[plain] else f"{seen[plain]!r} and {name!r}, which is one name to a model"
            raise ConfigurationError(f"Two tools are named {both}; rename one, or leave it out")
        seen[plain] = name


def find_tool(name: str, elsewhere: Callable[[str], Any]) -> Any:
    """The object behind a tool's name: a `Tool`, a typed function or a LangChain tool.

    `elsewhere` is asked for a name that no package registered; it gives the tool, or raises `LookupError` with where
    else one could look.
    """
    known = {entry.name: entry for entry in entry_points(group=GROUP)}
    key = canonical(name)
    if key in known:
        return load(known[key])
    try:
        return elsewhere(key)
    except LookupError as error:
        raise ConfigurationError(
            f"unknown tool {name!r}: expected one of {', '.join(sorted(known)) or 'no installed tool'}"
            + (did_you_mean(key, known) or f"; {error.args[0]}; a package adds its own by entry points of {GROUP!r}")
        ) from None


def load(entry: EntryPoint) -> Any:
    """What an entry point names; raises `ConfigurationError`."""
    try:
        return entry.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            f"tool {entry.name!r} could not be loaded from {entry.value} ({error}); install or mend that package"
        ) from error
