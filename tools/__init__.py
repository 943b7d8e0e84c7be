"""agentkit's own tools, one file each; other packages add theirs through the entry-point group `agentkit.tools`."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.tools.documents import document_search
    from agentkit.tools.serpapi import SerpAPIWrapper

__all__ = ["SerpAPIWrapper", "document_search"]

_HOMES = {"SerpAPIWrapper": "agentkit.tools.serpapi", "document_search": "agentkit.tools.documents"}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
