"""aiohttp in a cassette: to what vcrpy's stub does, errors of the connection are added, and replies that come back in
their pieces and break where they broke."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import wraps
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from agentkit.cassette.seams.pieces import Pieces
from agentkit.errors import CassetteError

aiohttp_stubs: Any = None
if find_spec("aiohttp") is not None:  # vcrpy's stub imports it; without it no request goes that way
    aiohttp_stubs = import_module("vcr.stubs.aiohttp_stubs")


def patches() -> list[tuple[Any, str, Any]]:
    """What replaces what of vcrpy's."""
    if aiohttp_stubs is None:
        return []
    return [
        (aiohttp_stubs, "vcr_request", _with_failures(aiohttp_stubs.vcr_request)),
        (aiohttp_stubs, "record_response", _record_response),
        (aiohttp_stubs, "build_response", _with_pieces(aiohttp_stubs.build_response)),
    ]


def _with_failures(vcr_request: Any) -> Any:
    """vcrpy builds the request and asks the tape about it; what fails after that failed for this request."""

    def patched(tape: Any, real_request: Any) -> Any:
        @wraps(real_request)
        async def watched(session: Any, method: str, url: Any, **options: Any) -> Any:
            with tape.failures_of():
                return await real_request(session, method, url, **options)

        return vcr_request(tape, watched)

    return patched


async def _record_response(tape: Any, request: Any, response: Any) -> None:
    from aiohttp import ClientConnectionError

    pieces = Pieces(request.uri)
    failure: Exception | None = None
    try:
        async for piece in response.content.iter_any():
            pieces.keep(piece)
    except CassetteError:
        response.close()
        raise
    except ClientConnectionError as error:  # aiohttp's way to say that there is no body, unless there was some
        failure = error if pieces else None
    except Exception as error:
        failure = error
    if failure is None:
        response._body = b"".join(pieces)
    if pieces or failure is not None:
        response.content = _stream(pieces, failure)
    tape.append(
        request,
        {
            "status": {"code": response.status, "message": response.reason},
            "headers": aiohttp_stubs._serialize_headers(response.headers),
            "body": {"string": b"".join(pieces), "pieces": pieces, "error": failure},
        },
    )


def _with_pieces(build_response: Any) -> Any:
    @wraps(build_response)
    def patched(request: Any, played: Any, history: Any) -> Any:
        response = build_response(request, played, history)
        failure = played["body"]["error"]
        response.content = _stream(played["body"]["pieces"], failure)
        if failure is not None:

            async def broken(*_: Any, **__: Any) -> Any:
                raise failure

            response.read = response.text = response.json = broken
        return response

    return patched


def _stream(pieces: Sequence[bytes], failure: Exception | None) -> Any:
    """aiohttp's own reader, fed one piece whenever it waits for more."""
    import asyncio

    class Stream(aiohttp_stubs.streams.StreamReader):  # type: ignore[misc]
        def __init__(self) -> None:
            limit = max(sum(map(len, pieces)), 2**16)
            super().__init__(aiohttp_stubs._NoConnection(), limit, loop=asyncio.get_running_loop())
            self._left = deque(pieces)

        async def _wait(self, func_name: str) -> None:
            if self._left:
                self.feed_data(self._left.popleft())
            elif failure is not None:
                raise failure
            else:
                self.feed_eof()

    return Stream()
