"""agentkit's own tools, one file each; other packages add theirs through the entry-point group `agentkit.tools`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.tools.calculator import calculator as calculator
    from agentkit.tools.search import SerpAPIWrapper as SerpAPIWrapper
    from agentkit.tools.search import search as search

__all__ = ["SerpAPIWrapper", "calculator", "search"]

_HOMES = {"calculator": "calculator", "search": "search", "SerpAPIWrapper": "search"}


class _Tools(ModuleType):
    """Imports a tool when it is first asked for."""

    def __getattr__(self, name: str) -> Any:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        setattr(self, name, value)
        return value

    def __setattr__(self, name: str, value: object) -> None:
        # Importing agentkit.tools.search sets that module here: `from agentkit.tools import search` must stay the tool,
        # whatever was imported before.
        if isinstance(value, ModuleType) and name in _HOMES:
            value = getattr(value, name)
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        return sorted(__all__)


sys.modules[__name__].__class__ = _Tools
