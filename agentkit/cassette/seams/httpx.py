"""httpx and httpx2 in a cassette, in place of vcrpy's stub: replies stream while they are recorded, keep their pieces,
and errors of the connection are recorded too."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any

from vcr import request as vcr_request
from vcr.stubs import httpx_stubs


def patches() -> list[tuple[Any, str, Any]]:
    """What replaces what of vcrpy's."""
    return [(httpx_stubs, "_vcr_handle_request", _handle), (httpx_stubs, "_vcr_handle_async_request", _ahandle)]


def _handle(tape: Any, real: Any, transport: Any, request: Any, httpx: Any) -> Any:
    body = b"".join(request.stream)
    roundtrip = _Roundtrip(tape, request, body, httpx)
    if (played := roundtrip.played()) is not None:
        return played
    try:
        response = real(transport, request)
    except Exception as error:
        tape.failed(roundtrip.request, error)
        raise
    return roundtrip.watched(response)


async def _ahandle(tape: Any, real: Any, transport: Any, request: Any, httpx: Any) -> Any:
    body = b"".join([part async for part in request.stream])
    roundtrip = _Roundtrip(tape, request, body, httpx)
    if (played := roundtrip.played()) is not None:
        return played
    try:
        response = await real(transport, request)
    except Exception as error:
        tape.failed(roundtrip.request, error)
        raise
    return roundtrip.watched(response)


class _Roundtrip:
    """One request, and the response on its way to whoever reads it."""

    def __init__(self, tape: Any, request: Any, body: bytes, httpx: Any) -> None:
        request.stream = httpx.ByteStream(body)  # reading it consumed it
        make: Any = vcr_request.Request
        self.request: Any = make(request.method, str(request.url), body, request.headers)
        self.pieces: list[bytes] = []
        self._tape = tape
        self._httpx = httpx
        self._response: Any = None

    def played(self) -> Any:
        if not self._tape.can_play_response_for(self.request):
            return None
        httpx = self._httpx
        played = self._tape.play_response(self.request, httpx)
        message = played["status"]["message"]
        return httpx.Response(
            played["status"]["code"],
            headers=[(name, value) for name, values in played["headers"].items() for value in values],
            stream=_streams(httpx)[0](played["body"]),
            extensions={"reason_phrase": message.encode("ascii", "replace")} if message else None,
        )

    def watched(self, response: Any) -> Any:
        self._response = response
        response.stream = _streams(self._httpx)[1](self, response.stream)
        return response

    def over(self, *, error: Exception | None = None, closed: bool = False) -> None:
        """The reply came to its end, broke, or was closed by its reader."""
        if self._response is None:
            return
        response, self._response = self._response, None
        body = {"string": b"".join(self.pieces), "pieces": self.pieces, "error": error, "closed": closed}
        headers: dict[str, list[str]] = {}
        for name, value in response.headers.multi_items():
            headers.setdefault(name, []).append(value)
        status = {"code": response.status_code, "message": response.reason_phrase}
        self._tape.append(self.request, {"status": status, "headers": headers, "body": body})


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
        def __init__(self, roundtrip: _Roundtrip, stream: Any) -> None:
            self._roundtrip = roundtrip
            self._stream = stream

        def __iter__(self) -> Iterator[bytes]:
            try:
                for piece in self._stream:
                    self._roundtrip.pieces.append(piece)
                    yield piece
            except Exception as error:
                self._roundtrip.over(error=error)
                raise
            self._roundtrip.over()

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                async for piece in self._stream:
                    self._roundtrip.pieces.append(piece)
                    yield piece
            except Exception as error:
                self._roundtrip.over(error=error)
                raise
            self._roundtrip.over()

        def close(self) -> None:
            self._stream.close()
            self._roundtrip.over(closed=True)

        async def aclose(self) -> None:
            await self._stream.aclose()
            self._roundtrip.over(closed=True)

    return Played, Watched
