"""requests, urllib3 and urllib in a cassette: errors of the connection are added to what vcrpy's stub does, and replies
that come back in their pieces and break where they broke."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any
from unittest import mock

from vcr import stubs
from vcr.patch import force_reset

from agentkit.cassette.seams.pieces import Pieces
from agentkit.errors import CassetteError

PIECE_BYTES = 65536
_vcr: Any = stubs  # untyped
_VCRHTTPResponse: Any = _vcr.VCRHTTPResponse


def patches() -> list[tuple[Any, str, Any]]:
    """What replaces what of vcrpy's."""
    return [(_vcr.VCRConnection, "getresponse", _getresponse), (_vcr.VCRConnection, "connect", _connect)]


def without_waiting() -> AbstractContextManager[Any]:
    """In this block, urllib3's retries do not wait: what they would wait for was recorded."""
    if find_spec("urllib3") is None:  # it is requests that brings it, and a run may have none
        return nullcontext()
    from urllib3.util.retry import Retry

    return mock.patch.object(Retry, "sleep", return_value=None)


def _connect(connection: Any, *args: Any, **kwargs: Any) -> None:
    """Only when a request is sent after all."""
    connection._deferred_connect = (args, kwargs)


def _getresponse(connection: Any, _: bool = False, **kwargs: Any) -> Any:
    request, tape = connection._vcr_request, connection.cassette
    if tape.can_play_response_for(request):
        return _Response(tape.play_response(request), request.uri)
    with tape.failures_of(request):
        response = _sent(connection, request)
    pieces, failure = _read(response, request.uri)
    body = {"string": b"".join(pieces), "pieces": pieces, "error": failure}
    headers = _vcr.serialize_headers(response)
    read = {"status": {"code": response.status, "message": response.reason}, "headers": headers, "body": body}
    tape.append(request, read)
    return _Response(read, request.uri)


def _sent(connection: Any, request: Any) -> Any:
    with force_reset():
        if deferred := connection.__dict__.get("_deferred_connect"):
            connection._deferred_connect = None
            connection.real_connection.connect(*deferred[0], **deferred[1])
        connection.real_connection.request(
            method=request.method,
            url=connection._url(request.uri),
            body=request.body_bytes,
            headers=request.headers,
            **_unread(connection.real_connection),
        )
    return connection.real_connection.getresponse()


def _unread(connection: Any) -> dict[str, Any]:
    """What keeps urllib3, unlike http.client, from reading the body at once: it would lose where it broke."""
    return {"preload_content": False} if type(connection).__module__.startswith("urllib3") else {}


def _read(response: Any, uri: str) -> tuple[list[bytes], Exception | None]:
    """The body as it came, and what it broke off with."""
    pieces = Pieces(uri)
    streams = hasattr(response, "stream")
    try:
        for piece in response.stream(PIECE_BYTES) if streams else iter(lambda: response.read1(PIECE_BYTES), b""):
            pieces.keep(piece)
        if not streams and response.length:
            import http.client

            raise http.client.IncompleteRead(b"".join(pieces), response.length)
    except CassetteError:
        response.close()
        raise
    except Exception as error:
        return pieces, error
    return pieces, None


class _Response(_VCRHTTPResponse):  # type: ignore[misc]
    """A response that breaks where the recorded one did."""

    def __init__(self, response: Any, uri: str) -> None:
        super().__init__(response, uri)
        self._pieces = list(response["body"]["pieces"])
        self._failure = response["body"]["error"]

    def read(self, *args: Any, **kwargs: Any) -> Any:
        content = super().read(*args, **kwargs)
        if self._failure is not None and (not content or not args or args[0] in (None, -1)):
            raise self._failure
        return content

    def close(self) -> None:
        super().close()  # which returns True, and a `with` block would swallow what is raised in it

    def stream(self, amt: int = PIECE_BYTES, decode_content: bool | None = None) -> Iterator[bytes]:
        if len(self._pieces) > 1 and self._content.tell() == 0:
            for piece in self._pieces:
                yield super().read(len(piece))
            amt = 1
        yield from iter(lambda: self.read(amt), b"")
