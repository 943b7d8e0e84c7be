"""Models in a row: where one has failed for good, the next is asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from typing import Any

from agentkit.errors import ConfigurationError, ModelError, ReplyChanged
from agentkit.models.backend import ChatBackend, ChatRequest, Chunk
from agentkit.models.hosted.shown import Shown
from agentkit.recorder import active

_LOG = logging.getLogger("agentkit")


class WithFallbacks:
    """A backend that asks `backends` one after the other until one gives a whole reply.

    Each has made its own retries by then. What was shown of a reply that broke must be the beginning of the next one's,
    else `ReplyChanged` is raised. `response_metadata["model_name"]` says which model answered.
    """

    def __init__(self, backends: Sequence[ChatBackend], *, notice: Callable[[str], None] | None = None) -> None:
        if not backends:
            raise ConfigurationError("expected at least one model, saw none")
        self.backends = tuple(backends)
        self.model_id = self.backends[0].model_id
        self._notice = notice

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply of the first model that gives one."""
        shown = Shown()
        for backend in self.backends:
            shown.begin()
            try:
                with closing(_recorded(backend).generate_chat(request)) as chunks:
                    for chunk in chunks:
                        yield from shown.new(_signed(chunk, backend))
                yield from shown.end()
                return
            except ReplyChanged:
                raise
            except ModelError as error:
                self._go_on(backend, error)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, awaiting."""
        shown = Shown()
        for backend in self.backends:
            shown.begin()
            try:
                async with aclosing(_recorded(backend).agenerate_chat(request)) as chunks:
                    async for chunk in chunks:
                        for new in shown.new(_signed(chunk, backend)):
                            yield new
                for new in shown.end():
                    yield new
                return
            except ReplyChanged:
                raise
            except ModelError as error:
                self._go_on(backend, error)

    def _go_on(self, backend: ChatBackend, error: ModelError) -> None:
        """On to the next model; raises what the last one raised."""
        place = self.backends.index(backend)
        if place + 1 == len(self.backends):
            raise error
        line = f"{error}; asking {self.backends[place + 1].model_id}"
        _LOG.info("%s", line)
        if self._notice is not None:
            self._notice(line)


def _recorded(backend: ChatBackend) -> Any:
    """The backend, or what a cassette has of it."""
    cassette = active()
    return backend if cassette is None else cassette.backend(backend)


def _signed(chunk: Chunk, backend: ChatBackend) -> Chunk:
    """The last chunk of a reply with the name of the model."""
    if chunk.finish_reason is None:
        return chunk
    return replace(chunk, metadata={"model_name": backend.model_id, **(chunk.metadata or {})})
