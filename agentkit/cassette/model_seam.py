"""Where models meet a cassette: around a chat model's backend, or around a planner's model for any other."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from agentkit.cassette.recording import Recording
from agentkit.cassette.replaying import Replaying, read_as
from agentkit.cassette.turns import (
    from_chunks,
    from_completion,
    model_name,
    reaches_stop,
    request_body,
    to_chunks,
    to_completion,
    turn_entry,
)
from agentkit.planner import Completion, TurnModel, TurnRequest
from agentkit.react_json.prompt import as_messages

if TYPE_CHECKING:
    from agentkit.models.backend import ChatBackend, ChatRequest, Chunk


def _asked_of_backend(backend: ChatBackend, request: ChatRequest) -> dict[str, Any]:
    return request_body(model_name(backend.model_id), request.messages, request.stop)


def _asked_of_model(model: str, request: TurnRequest) -> dict[str, Any]:
    return request_body(model, as_messages(request.messages), request.stop)


class RecordedBackend:
    """A backend in this process whose replies are recorded, as far as they were read."""

    in_process = True

    def __init__(self, backend: ChatBackend, recording: Recording) -> None:
        self._backend = backend
        self._recording = recording
        self.model_id = backend.model_id

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        started_s, chunks = self._recording.now_s(), []
        inner = self._backend.generate_chat(request)
        try:
            for chunk in inner:
                chunks.append(chunk)
                yield chunk
        except GeneratorExit:
            _close(inner)
            self._record_stopped(request, chunks, started_s)
            raise
        self._record(request, chunks, started_s)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        started_s, chunks = self._recording.now_s(), []
        inner = self._backend.agenerate_chat(request)
        try:
            async for chunk in inner:
                chunks.append(chunk)
                yield chunk
        except GeneratorExit:
            await _aclose(inner)
            self._record_stopped(request, chunks, started_s)
            raise
        self._record(request, chunks, started_s)

    def _record_stopped(self, request: ChatRequest, chunks: list[Chunk], started_s: float) -> None:
        """A reply that its reader closed: at a stop string it is whole, else the run was interrupted."""
        if reaches_stop(chunks, request.stop):
            self._record(request, chunks, started_s)

    def _record(self, request: ChatRequest, chunks: list[Chunk], started_s: float) -> None:
        body = _asked_of_backend(self._backend, request)
        self._recording.add(turn_entry(body, from_chunks(chunks)), started_s=started_s)


class PlayedBackend:
    """A backend whose replies are the recorded ones."""

    in_process = True

    def __init__(self, backend: ChatBackend, replaying: Replaying) -> None:
        self._backend = backend
        self._replaying = replaying
        self.model_id = backend.model_id

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        entry = self._replaying.turn(_asked_of_backend(self._backend, request))
        yield from read_as(self._replaying.path, entry, to_chunks)

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


class RecordedModel:
    """A planner's model whose turns are recorded, unless something within it recorded them already."""

    def __init__(self, model: TurnModel, recording: Recording, *, model_id: str) -> None:
        self._model = model
        self._recording = recording
        self._name = model_name(model_id)

    def message(self, role: str, content: Any) -> Any:
        return self._model.message(role, content)

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]:
        turn = _Turn(self._name, request, self._recording)
        inner = iter(self._model.complete(request))
        try:
            while True:
                with self._recording.within(turn.call):
                    piece = next(inner, None)
                if piece is None:
                    return
                turn.read(piece)
                yield piece
        finally:
            self._recording.end(turn.call)
            _close(inner)

    async def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]:
        turn = _Turn(self._name, request, self._recording)
        inner = aiter(self._model.acomplete(request))
        try:
            while True:
                with self._recording.within(turn.call):
                    piece = await anext(inner, None)
                if piece is None:
                    return
                turn.read(piece)
                yield piece
        finally:
            self._recording.end(turn.call)
            await _aclose(inner)


class _Turn:
    """One turn on its way to the planner."""

    def __init__(self, name: str, request: TurnRequest, recording: Recording) -> None:
        self.call = recording.begin()
        self._body = _asked_of_model(name, request)
        self._recording = recording
        self._pieces: list[str] = []

    def read(self, piece: str | Completion) -> None:
        if isinstance(piece, str):
            self._pieces.append(piece)
        elif not self.call.recorded:
            entry = turn_entry(self._body, from_completion(self._pieces, piece))
            self._recording.add(entry, started_s=self.call.started_s)


class PlayedModel:
    """A planner's model whose turns are the recorded ones."""

    def __init__(self, model: TurnModel, replaying: Replaying, *, model_id: str) -> None:
        self._model = model
        self._replaying = replaying
        self._name = model_name(model_id)

    def message(self, role: str, content: Any) -> Any:
        return self._model.message(role, content)

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]:
        entry = self._replaying.turn(_asked_of_model(self._name, request))
        yield from read_as(self._replaying.path, entry, to_completion)

    async def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]:
        for piece in self.complete(request):
            yield piece


class ReplayModel:
    """The model of a replay that has none: any name answers, messages are plain chat dicts."""

    def __init__(self, replaying: Replaying) -> None:
        self._replaying = replaying

    def message(self, role: str, content: Any) -> dict[str, Any]:
        return {"role": role, "content": content}

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]:
        body = request_body("", request.messages, request.stop)
        entry = self._replaying.turn(body, any_model=True)
        yield from read_as(self._replaying.path, entry, to_completion)

    async def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]:
        for piece in self.complete(request):
            yield piece


def _close(pieces: Iterable[Any]) -> None:
    if hasattr(pieces, "close"):
        pieces.close()


async def _aclose(pieces: Any) -> None:
    if hasattr(pieces, "aclose"):
        await pieces.aclose()
