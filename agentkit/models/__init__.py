"""Open models: in this process, over HTTP, and the small one that ships with the package."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from agentkit.langchain.chat_model import ChatHuggingFace, chat_model
    from agentkit.langchain.endpoint import HuggingFaceEndpoint, HuggingFaceHub, HuggingFaceTextGenInference
    from agentkit.langchain.pipeline import HuggingFacePipeline

__all__ = [
    "ChatHuggingFace",
    "HuggingFaceEndpoint",
    "HuggingFaceHub",
    "HuggingFacePipeline",
    "HuggingFaceTextGenInference",
    "chat_model",
]

_HOME = {
    "ChatHuggingFace": "agentkit.langchain.chat_model",
    "HuggingFaceEndpoint": "agentkit.langchain.endpoint",
    "HuggingFaceHub": "agentkit.langchain.endpoint",
    "HuggingFacePipeline": "agentkit.langchain.pipeline",
    "HuggingFaceTextGenInference": "agentkit.langchain.endpoint",
    "chat_model": "agentkit.langchain.chat_model",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first asked for: LangChain alone takes half a second."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
