"""httpx and httpx2 in a cassette, in place of vcrpy's stub: replies stream while they are recorded, keep their pieces,
and errors of the connection are recorded too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from vcr import request as vcr_request
from vcr.stubs import httpx_stubs

from agentkit.cassette.seams.pieces import Pieces
from agentkit.errors import CassetteError

_Request: Any = vcr_request.Request  # untyped


def patches() -> list[tuple[Any, str, Any]]:
    """What replaces what of vcrpy's."""
    return [(httpx_stubs, "_vcr_handle_request", _handle), (httpx_stubs, "_vcr_handle_async_request", _ahandle)]


def _handle(tape: Any, real: Any, transport: Any, request: Any, httpx: Any) -> Any:
    asked = _asked(request, b"".join(request.stream), httpx)
    if tape.can_play_response_for(asked):
        return _played(tape, asked, httpx)
    with tape.failures_of(asked):
        response = real(transport, request)
    return _watched(tape, asked, response, httpx)


async def _ahandle(tape: Any, real: Any, transport: Any, request: Any, httpx: Any) -> Any:
    asked = _asked(request, b"".join([part async for part in request.stream]), httpx)
    if tape.can_play_response_for(asked):
        return _played(tape, asked, httpx)
    with tape.failures_of(asked):
        response = await real(transport, request)
    return _watched(tape, asked, response, httpx)


def _asked(request: Any, body: bytes, httpx: Any) -> Any:
    request.stream = httpx.ByteStream(body)  # reading it consumed it
    return _Request(request.method, str(request.url), body, request.headers)


def _played(tape: Any, asked: Any, httpx: Any) -> Any:
    played = tape.play_response(asked, httpx)
    message = played["status"]["message"]
    return httpx.Response(
        played["status"]["code"],
        headers=[(name, value) for name, values in played["headers"].items() for value in values],
        stream=_streams(httpx)[0](played["body"]),
        extensions={"reason_phrase": message.encode("ascii", "replace")} if message else None,
    )


def _watched(tape: Any, asked: Any, response: Any, httpx: Any) -> Any:
    response.stream = _streams(httpx)[1](tape, asked, response)
    return response


@lru_cache
def _streams(httpx: Any) -> tuple[Any, Any]:
    """A played and a watched stream, which must be of this httpx's own kinds."""

    class Played(httpx.SyncByteStream, httpx.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, body: Any) -> None:
            self._body = body

        def __iter__(self) -> Iterator[bytes]:
            yield from self._body["pieces"]
            if self._body["error"] is not None:
                raise self._body["error"]

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self:
                yield piece

    class Watched(httpx.SyncByteStream, httpx.AsyncByteStream):  # type: ignore[misc]
        """A response on its way to whoever reads it, recorded when it ends, breaks, or is closed by its reader."""

        def __init__(self, tape: Any, asked: Any, response: Any) -> None:
            self._tape = tape
            self._asked = asked
            self._response = response
            self._stream = response.stream
            self._pieces = Pieces(asked.uri)
            self._is_over = False

        def __iter__(self) -> Iterator[bytes]:
            with self._to_its_end():
                for piece in self._stream:
                    self._pieces.keep(piece)
                    yield piece

        async def __aiter__(self) -> AsyncIterator[bytes]:
            with self._to_its_end():
                async for piece in self._stream:
                    self._pieces.keep(piece)
                    yield piece

        def close(self) -> None:
            self._stream.close()
            self._over(closed=True)

        async def aclose(self) -> None:
            await self._stream.aclose()
            self._over(closed=True)

        @contextmanager
        def _to_its_end(self) -> Iterator[None]:
            try:
                yield
            except CassetteError:
                self._is_over = True
                raise
            except Exception as error:
                self._over(error=error)
                raise
            self._over()

        def _over(self, *, error: Exception | None = None, closed: bool = False) -> None:
            if self._is_over:
                return
            self._is_over = True
            response = self._response
            headers: dict[str, list[str]] = {}
            for name, value in response.headers.multi_items():
                headers.setdefault(name, []).append(value)
            body = {"string": b"".join(self._pieces), "pieces": self._pieces, "error": error, "closed": closed}
            status = {"code": response.status_code, "message": response.reason_phrase}
            self._tape.append(self._asked, {"status": status, "headers": headers, "body": body})

    return Played, Watched
