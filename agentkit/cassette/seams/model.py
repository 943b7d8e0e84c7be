"""Where models meet a cassette: around a chat model's backend, or around a planner's model for any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any

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
from agentkit.cassette.replaying import read_as
from agentkit.cassette.tape import LiveCall, Tape
from agentkit.models.backend import Capabilities, ChatRequest, Completion, capabilities_of
from agentkit.models.chat import ChatModel

if TYPE_CHECKING:
    from agentkit.models.backend import ChatBackend, ChatRequest, Chunk


class TapedBackend:
    """A backend whose replies are played, or recorded as far as they were read.

    One over HTTP is not recorded here, and asked where its HTTP was recorded; of one that does not say, whichever of
    the two happens.
    """

    def __init__(self, backend: ChatBackend, tape: Tape) -> None:
        self._backend = backend
        self._tape = tape
        self.model_id = backend.model_id
        self.capabilities = capabilities_of(backend)
        self._over_http = self.capabilities.over_http

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        turn = _BackendTurn(self._backend, request)
        if (played := turn.played(self._tape, self._over_http is not False)) is not None:
            yield from played
            return
        with self._tape.call() as call, _closing(self._backend.generate_chat(request)) as chunks:
            try:
                for chunk in chunks:
                    turn.chunks.append(chunk)
                    yield chunk
            except GeneratorExit:
                self._record(turn, call, closed=True)
                raise
            self._record(turn, call)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        turn = _BackendTurn(self._backend, request)
        if (played := turn.played(self._tape, self._over_http is not False)) is not None:
            for chunk in played:
                yield chunk
            return
        with self._tape.call() as call:
            async with _aclosing(self._backend.agenerate_chat(request)) as chunks:
                try:
                    async for chunk in chunks:
                        turn.chunks.append(chunk)
                        yield chunk
                except GeneratorExit:
                    self._record(turn, call, closed=True)
                    raise
                self._record(turn, call)

    def _record(self, turn: _BackendTurn, call: LiveCall, *, closed: bool = False) -> None:
        """A reply that its reader closed is whole at a stop string; else the run was interrupted."""
        if self._over_http is not True and (not closed or reaches_stop(turn.chunks, turn.stop)):
            call.add(lambda: turn_entry(turn.body, from_chunks(turn.chunks)))


class _BackendTurn:
    """One request to a backend, and what came of it."""

    def __init__(self, backend: ChatBackend, request: ChatRequest) -> None:
        self.body = request_body(model_name(backend.model_id), request.messages, request.stop, request.tools)
        self.stop = request.stop
        self.chunks: list[Chunk] = []

    def played(self, tape: Tape, over_http: bool) -> list[Chunk] | None:
        entry = tape.turn(self.body, over_http=over_http)
        return None if entry is None else read_as(tape.path, entry, to_chunks)


class TapedChat:
    """A planner's model whose turns are played, or recorded unless something within it recorded them already."""

    def __init__(self, model: ChatModel, tape: Tape, *, model_id: str) -> None:
        self._model = model
        self._tape = tape
        self._name = model_name(model_id)
        self.model_id = model_id
        self.capabilities = model.capabilities

    def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
        turn = _ChatTurn(self._name, request)
        if (played := turn.played(self._tape)) is not None:
            yield from played
            return
        with self._tape.call() as call, _closing(iter(self._model.complete(request))) as pieces:
            while True:
                with call.within():
                    piece = next(pieces, None)
                if piece is None:
                    return
                turn.read(piece, call)
                yield piece

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        turn = _ChatTurn(self._name, request)
        if (played := turn.played(self._tape)) is not None:
            for piece in played:
                yield piece
            return
        with self._tape.call() as call:
            async with _aclosing(aiter(self._model.acomplete(request))) as pieces:
                while True:
                    with call.within():
                        apiece = await anext(pieces, None)
                    if apiece is None:
                        return
                    turn.read(apiece, call)
                    yield apiece


class _ChatTurn:
    """One turn on its way to the planner."""

    def __init__(self, name: str, request: ChatRequest) -> None:
        self._body = request_body(name, request.messages, request.stop, request.tools)
        self._pieces: list[str] = []

    def played(self, tape: Tape) -> list[str | Completion] | None:
        entry = tape.turn(self._body, over_http=True)
        return None if entry is None else read_as(tape.path, entry, to_completion)

    def read(self, piece: str | Completion, call: LiveCall) -> None:
        if isinstance(piece, str):
            self._pieces.append(piece)
        else:
            call.add(lambda: turn_entry(self._body, from_completion(self._pieces, piece)))


class ReplayedChat:
    """The model of a replay that loads none: any name answers. How it calls tools was recorded."""

    def __init__(self, tape: Tape, model_id: str) -> None:
        self._tape = tape
        self.model_id = model_id
        self.capabilities = Capabilities(tools=True, identity=model_id)

    def complete(self, request: ChatRequest) -> Iterator[str | Completion]:
        entry = self._tape.turn(request_body("", request.messages, request.stop, request.tools), any_model=True)
        assert entry is not None  # a strict replay has a turn or has drifted
        yield from read_as(self._tape.path, entry, to_completion)

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        for piece in self.complete(request):
            yield piece


@contextmanager
def _closing(pieces: Any) -> Iterator[Any]:
    """`contextlib.closing`, for iterators of which not all can be closed."""
    try:
        yield pieces
    finally:
        if hasattr(pieces, "close"):
            pieces.close()


@asynccontextmanager
async def _aclosing(pieces: Any) -> AsyncIterator[Any]:
    try:
        yield pieces
    finally:
        if hasattr(pieces, "aclose"):
            await pieces.aclose()
