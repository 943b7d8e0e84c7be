"""Whether a LangChain chat model may call tools in its own syntax, and what finds out if it does."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from langchain_core.language_models import BaseChatModel

from agentkit.core.known_modes import KnownModes
from agentkit.core.mode import ModeFinder

_NAMES = ("repo_id", "model_id", "model_name", "model", "endpoint_url", "base_url", "openai_api_base", "provider")


def may_call_tools(model: BaseChatModel) -> bool:
    """Whether it is worth asking: not in this process, where a grammar can hold a model to the dialect."""
    in_process = getattr(getattr(model, "llm", None), "in_process", False)
    return not in_process and type(model).bind_tools is not BaseChatModel.bind_tools


def asked_first(model: BaseChatModel) -> BaseChatModel:
    """The model without its fallbacks: what it cannot do, they must not be asked in its place."""
    backends = _backends(model)
    return model.model_copy(update={"llm": backends[0]}) if backends else model


def mode_finder(model: BaseChatModel) -> ModeFinder:
    """What finds out, and remembers, the model's mode."""
    first = asked_first(model)
    holders = (first, getattr(first, "llm", None))
    said = [value for holder in holders for name in _NAMES if isinstance(value := getattr(holder, name, None), str)]
    key = " ".join(dict.fromkeys([type(first).__name__, *map(_without_credentials, said)]))
    return ModeFinder(key, KnownModes(), has_fallbacks=bool(_backends(model)))


def _backends(model: BaseChatModel) -> Any:
    return getattr(getattr(model, "llm", None), "backends", ())


def _without_credentials(address: str) -> str:
    """An address without user, password and query; any other text as it is."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else address
