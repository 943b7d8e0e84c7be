"""Where models meet a cassette: around a chat model's backend, or around a planner's model for any other."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
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
from agentkit.cassette.recording import Call
from agentkit.cassette.replaying import read_as
from agentkit.cassette.tape import Tape
from agentkit.models.backend import Capabilities, ChatRequest, Completion, capabilities_of
from agentkit.models.chat import ChatModel

if TYPE_CHECKING:
    from agentkit.models.backend import ChatBackend, ChatRequest, Chunk


class TapedBackend:
    """A backend whose replies are played, or recorded as far as they were read, unless their HTTP was.

    One that says it is over HTTP is recorded by that; where no HTTP was seen, its turn is recorded all the same.
    """

    def __init__(self, backend: ChatBackend, tape: Tape) -> None:
        self._backend = backend
        self._tape = tape
        self.model_id = backend.model_id
        self.capabilities = capabilities_of(backend)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        turn = _BackendTurn(self._backend, request)
        if (played := turn.played(self._tape)) is not None:
            yield from played
            return
        with self._tape.call() as call:
            chunks, is_whole = iter(self._backend.generate_chat(request)), False
            try:
                while (chunk := call.run(next, chunks, None)) is not None:
                    turn.chunks.append(chunk)
                    yield chunk
                is_whole = True
            except GeneratorExit:
                is_whole = turn.reaches_stop
                raise
            finally:
                call.run(_close, chunks)  # which is when HTTP is recorded
                if is_whole:
                    turn.record(call)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        turn = _BackendTurn(self._backend, request)
        if (played := turn.played(self._tape)) is not None:
            for chunk in played:
                yield chunk
            return
        with self._tape.call() as call:
            chunks, is_whole = aiter(self._backend.agenerate_chat(request)), False
            try:
                while (achunk := await call.arun(anext(chunks, None))) is not None:
                    turn.chunks.append(achunk)
                    yield achunk
                is_whole = True
            except GeneratorExit:
                is_whole = turn.reaches_stop
                raise
            finally:
                await call.arun(_aclose(chunks))
                if is_whole:
                    turn.record(call)


class _BackendTurn:
    """One request to a backend, and what came of it."""

    def __init__(self, backend: ChatBackend, request: ChatRequest) -> None:
        self.body = request_body(model_name(backend.model_id), request.messages, request.stop, request.tools)
        self.stop = request.stop
        self.may_be_over_http = capabilities_of(backend).over_http is not False
        self.chunks: list[Chunk] = []

    def played(self, tape: Tape) -> list[Chunk] | None:
        entry = tape.turn(self.body, over_http=self.may_be_over_http)
        return None if entry is None else read_as(tape.path, entry, to_chunks)

    @property
    def reaches_stop(self) -> bool:
        """Whether a reply that its reader closed is whole; else the run was interrupted."""
        return reaches_stop(self.chunks, self.stop)

    def record(self, call: Call) -> None:
        call.add(lambda: turn_entry(self.body, from_chunks(self.chunks)))


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
        with self._tape.call() as call:
            pieces = iter(self._model.complete(request))
            try:
                while (piece := call.run(next, pieces, None)) is not None:
                    turn.read(piece, call)
                    yield piece
            finally:
                call.run(_close, pieces)

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        turn = _ChatTurn(self._name, request)
        if (played := turn.played(self._tape)) is not None:
            for piece in played:
                yield piece
            return
        with self._tape.call() as call:
            pieces = aiter(self._model.acomplete(request))
            try:
                while (apiece := await call.arun(anext(pieces, None))) is not None:
                    turn.read(apiece, call)
                    yield apiece
            finally:
                await call.arun(_aclose(pieces))


class _ChatTurn:
    """One turn on its way to the planner."""

    def __init__(self, name: str, request: ChatRequest) -> None:
        self._body = request_body(name, request.messages, request.stop, request.tools)
        self._request = request
        self._pieces: list[str] = []

    def played(self, tape: Tape) -> list[str | Completion] | None:
        entry = tape.turn(self._body, over_http=True)
        return None if entry is None else read_as(tape.path, entry, lambda one: to_completion(one, self._request))

    def read(self, piece: str | Completion, call: Call) -> None:
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
        yield from read_as(self._tape.path, entry, lambda one: to_completion(one, request))

    async def acomplete(self, request: ChatRequest) -> AsyncIterator[str | Completion]:
        for piece in self.complete(request):
            yield piece


def _close(pieces: Iterator[Any]) -> None:
    if isinstance(pieces, Generator):  # not every iterator can be closed
        pieces.close()


async def _aclose(pieces: AsyncIterator[Any]) -> None:
    if isinstance(pieces, AsyncGenerator):
        await pieces.aclose()
