"""Where models meet a cassette: around a chat model's backend, or around a planner's model for any other."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.turns import (
    from_chunks,
    from_completion,
    model_name,
    reaches_stop,
    request_body,
    to_chunks,
    to_completion,
    turn_entry,
)
from agentkit.cassette.recording import Call
from agentkit.cassette.replaying import read_as
from agentkit.cassette.tape import Tape
from agentkit.models.backend import Capabilities, ChatRequest, Completion, capabilities_of
from agentkit.models.chat import ChatModel

if TYPE_CHECKING:
    from agentkit.models.backend import ChatBackend, Chunk


class TapedBackend:
    """A backend whose replies are played, or recorded as far as they were read, unless their HTTP was.

    One that says it is over HTTP is recorded by that; where no HTTP was seen, its turn is recorded all the same.
    """

    def __init__(self, backend: ChatBackend, cassette: Tape) -> None:
        self._backend = backend
        self._cassette = cassette
        self.model_id = backend.model_id
        self.capabilities = capabilities_of(backend)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        return self._turn(request).pieces(partial(self._backend.generate_chat, request))

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        return self._turn(request).apieces(partial(self._backend.agenerate_chat, request))

    def _turn(self, request: ChatRequest) -> _Turn:
        return _BackendTurn(self._cassette, model_name(self.model_id), request, self.capabilities.over_http)


class TapedChat:
    """A planner's model whose turns are played, or recorded unless something within it recorded them already."""

    def __init__(self, model: ChatModel, cassette: Tape, *, model_id: str) -> None:
        self._model = model
        self._cassette = cassette
        self.model_id = model_id
        self.capabilities = model.capabilities

    def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
        return self._turn(request).pieces(partial(self._model.complete, request))

    def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        return self._turn(request).apieces(partial(self._model.acomplete, request))

    def _turn(self, request: ChatRequest) -> _Turn:
        return _ChatTurn(self._cassette, model_name(self.model_id), request, self.capabilities.over_http)


class _Turn(ABC):
    """One turn on its way to whoever asked for it: what was recorded of it, else what the model gives."""

    def __init__(self, cassette: Tape, name: str, request: ChatRequest, over_http: bool | None) -> None:
        self.body = request_body(name, request.messages, request.stop, request.tools)
        self.request = request
        self.came: list[Any] = []
        self._cassette = cassette
        self._over_http = over_http

    def pieces(self, ask: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        if (played := self._played()) is not None:
            yield from played
            return
        with self._cassette.call(stands=self._is_brought_by) as call:
            pieces, is_whole = iter(ask()), False
            try:
                while (piece := call.run(next, pieces, None)) is not None:
                    self.read(piece, call)
                    yield piece
                is_whole = True
            except GeneratorExit:
                is_whole = self.is_over
                raise
            finally:
                call.run(_close, pieces)  # which is when HTTP is recorded
                if is_whole:
                    self.end(call)

    async def apieces(self, ask: Callable[[], AsyncIterator[Any]]) -> AsyncIterator[Any]:
        if (played := self._played()) is not None:
            for piece in played:
                yield piece
            return
        with self._cassette.call(stands=self._is_brought_by) as call:
            pieces, is_whole = aiter(ask()), False
            try:
                while (apiece := await call.arun(anext(pieces, None))) is not None:
                    self.read(apiece, call)
                    yield apiece
                is_whole = True
            except GeneratorExit:
                is_whole = self.is_over
                raise
            finally:
                await call.arun(_aclose(pieces))
                if is_whole:
                    self.end(call)

    def _played(self) -> list[Any] | None:
        entry = self._cassette.turn(self.body, over_http=self._over_http is not False)
        return None if entry is None else read_as(self._cassette.path, entry, self.played)

    def _is_brought_by(self, exchange: Entry) -> bool:
        """Whether it had the reply: a model in this process may look up other things on its way."""
        return self._over_http is True or (self._over_http is None and exchange.is_a_models_reply)

    @abstractmethod
    def played(self, entry: Entry) -> Iterable[Any]:
        """The recorded reply, in its pieces."""

    def read(self, piece: Any, call: Call) -> None:
        """A piece has come."""
        self.came.append(piece)

    @property
    def is_over(self) -> bool:
        """Whether a reply that its reader closed is whole; else the run was interrupted."""
        return False

    def end(self, call: Call) -> None:  # noqa: B027 (only one of the two has more to do)
        """The reply is whole, and nothing more is asked."""


class _BackendTurn(_Turn):
    """Of a backend: its chunks, recorded once no more of them are read."""

    def played(self, entry: Entry) -> Iterator[Chunk]:
        return to_chunks(entry)

    @property
    def is_over(self) -> bool:
        return reaches_stop(self.came, self.request.stop)

    def end(self, call: Call) -> None:
        call.add(lambda: turn_entry(self.body, from_chunks(self.came)))


class _ChatTurn(_Turn):
    """Of a planner's model: pieces of text, then the completion, recorded before the planner has it."""

    def played(self, entry: Entry) -> Iterator[str | Completion]:
        return to_completion(entry, self.request)

    def read(self, piece: Any, call: Call) -> None:
        if isinstance(piece, Completion):
            call.add(lambda: turn_entry(self.body, from_completion(self.came, piece)))
        else:
            self.came.append(piece)


class ReplayedChat:
    """The model of a replay that loads none: any name answers. How it calls tools was recorded.

    `in_process`: the recorded one was, as its thoughts were given back to it. `refusals` are final answers by which it
    declined.
    """

    def __init__(
        self, cassette: Tape, model_id: str, *, in_process: bool = False, refusals: frozenset[str] = frozenset()
    ) -> None:
        self._cassette = cassette
        self.model_id = model_id
        self.capabilities = Capabilities(in_process=in_process, tools=True, identity=model_id, refusals=refusals)

    def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
        entry = self._cassette.turn(request_body("", request.messages, request.stop, request.tools), any_model=True)
        assert entry is not None  # a strict replay has a turn or has drifted
        yield from read_as(self._cassette.path, entry, lambda one: to_completion(one, request))

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        for piece in self.complete(request):
            yield piece


def _close(pieces: Iterator[Any]) -> None:
    if isinstance(pieces, Generator):  # not every iterator can be closed
        pieces.close()


async def _aclose(pieces: AsyncIterator[Any]) -> None:
    if isinstance(pieces, AsyncGenerator):
        await pieces.aclose()
