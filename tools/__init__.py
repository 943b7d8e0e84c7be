"""agentkit's own tools, one file each; other packages add theirs through the entry-point group `agentkit.tools`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.tools.search import SerpAPIWrapper

__all__ = ["SerpAPIWrapper"]


def __getattr__(name: str) -> Any:
    if name != "SerpAPIWrapper":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from agentkit.tools.search import SerpAPIWrapper

    return SerpAPIWrapper
