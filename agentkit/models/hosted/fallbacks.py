"""Models in a row: where one has failed for good, the next is asked."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import aclosing, closing
from dataclasses import replace
from functools import cached_property

from agentkit.deadline import remaining_s
from agentkit.errors import ConfigurationError, ModelError, PromptTooLong, ReplyChanged
from agentkit.models.backend import Capabilities, ChatBackend, ChatRequest, Chunk, capabilities_of
from agentkit.models.chat import prepared, recorded
from agentkit.models.hosted.delivery import Delivery

_LOG = logging.getLogger("agentkit")


class WithFallbacks:
    """A backend that asks `backends` one after the other until one gives a whole reply.

    Each has made its own retries by then, and each is recorded by itself. What was delivered of a reply that broke must
    be the beginning of the next one's, else `ReplyChanged` is raised. `response_metadata["model_name"]` says which
    model answered. A run asks them by itself (`agentkit.core.in_turn`): what one of them can do is known of it alone.
    """

    def __init__(self, backends: Sequence[ChatBackend], *, notice: Callable[[str], None] | None = None) -> None:
        if not backends:
            raise ConfigurationError("expected at least one model, saw none")
        self.backends = tuple(backends)
        self.model_id = self.backends[0].model_id
        self._notice = notice

    @cached_property
    def capabilities(self) -> Capabilities:
        """What all of them can do."""
        each = [capabilities_of(backend) for backend in self.backends]
        limits = [one.max_new_tokens for one in each if one.max_new_tokens is not None]
        return Capabilities(
            in_process=all(one.in_process for one in each),
            over_http=True if all(one.over_http for one in each) else None,
            tools=all(one.tools for one in each),
            max_new_tokens=max(limits) if len(limits) == len(each) else None,
            identity=each[0].identity,
            served=each[0].served,
            alternatives=self.backends,
        )

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply of the first model that gives one."""
        delivery = Delivery()
        for place, backend in enumerate(self.backends):
            delivery.begin()
            asked = self._asked(place, request)
            try:
                with closing(recorded(backend).generate_chat(asked)) as chunks:
                    for chunk in chunks:
                        yield from delivery.add(_signed(chunk, backend))
                yield from delivery.end()
                return
            except (ReplyChanged, PromptTooLong):
                raise
            except ModelError as error:
                self._go_on(place, error)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, awaiting."""
        delivery = Delivery()
        for place, backend in enumerate(self.backends):
            delivery.begin()
            asked = self._asked(place, request)
            try:
                async with aclosing(recorded(backend).agenerate_chat(asked)) as chunks:
                    async for chunk in chunks:
                        for new in delivery.add(_signed(chunk, backend)):
                            yield new
                for new in delivery.end():
                    yield new
                return
            except (ReplyChanged, PromptTooLong):
                raise
            except ModelError as error:
                self._go_on(place, error)

    def _asked(self, place: int, request: ChatRequest) -> ChatRequest:
        """The request as one of them is given it."""
        return prepared(request, capabilities_of(self.backends[place]))

    def _go_on(self, place: int, error: ModelError) -> None:
        """On to the next model; raises what the last one raised."""
        if place + 1 == len(self.backends):
            raise error
        line = f"{error}; asking {self.backends[place + 1].model_id}"
        _LOG.info("%s", line)
        if self._notice is not None:
            self._notice(line)


def _signed(chunk: Chunk, backend: ChatBackend) -> Chunk:
    """The last chunk of a reply with the name of the model; any other of one in this process must come in time."""
    if chunk.finish_reason is None:
        if capabilities_of(backend).in_process and remaining_s() == 0:
            raise TimeoutError
        return chunk
    return replace(chunk, metadata={"model_name": backend.model_id, **(chunk.metadata or {})})
