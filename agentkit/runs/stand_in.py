"""A model that a replay need not load."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentkit.errors import CassetteError

if TYPE_CHECKING:
    from agentkit.models.backend import ChatRequest, Chunk


def stand_in(spec: str) -> Any:
    """A chat model of this spec for a replay: a model in this process is named, but not loaded."""
    from agentkit.models import ChatHuggingFace, chat_model

    scheme, _, rest = spec.partition(":")
    if spec == "builtin":
        return ChatHuggingFace(llm=_NotLoaded("builtin"), constrain="copy")
    if scheme == "local" and rest:
        return ChatHuggingFace(llm=_NotLoaded(str(Path(rest).expanduser())))
    return chat_model(spec)


class _NotLoaded:
    """Only the name of a model in this process."""

    in_process = True
    local = None  # what tells the chat model that grammars would work

    def __init__(self, model_id: str) -> None:
        self.model_id = model_id

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        raise CassetteError(f"{self.model_id} was not loaded, its cassette replays; ask it while the cassette is open")

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        raise CassetteError(f"{self.model_id} was not loaded, its cassette replays; ask it while the cassette is open")
