"""An HTTP exchange as an entry, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

from vcr.filters import decode_response
from vcr.request import Request

from agentkit.cassette.format.entries import Entry, on_the_wire, readable
from agentkit.cassette.seams.transport_errors import described, rebuilt

KEPT_REQUEST_HEADERS = ("content-type",)
KEPT_RESPONSE_HEADERS = ("content-type", "location", "retry-after")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A recorded reply: no `status` where the connection failed before there was one."""

    status: dict[str, Any] | None
    headers: dict[str, list[str]] = field(default_factory=dict)
    pieces: Sequence[bytes] = ()
    failure: Any = None

    def error(self, httpx: Any = None) -> Exception:
        """What the connection ended with."""
        return rebuilt(self.failure, httpx=httpx)


def body_of(request: Request) -> Any:
    """What is asked, as a person reads it."""
    body = request.body_bytes
    return readable(b"".join(body) if isinstance(body, list) else body) or None


def entry_of(request: Request, response: Mapping[str, Any]) -> Entry:
    """A response as vcrpy's stubs give it; its body may have `pieces`, an `error`, or have been `closed` early."""
    raw = response["body"]
    pieces = raw.get("pieces", ())
    decoded = decode_response({**response, "body": {"string": raw.get("string", b"")}})  # type: ignore[no-untyped-call]
    whole = decoded["body"]["string"]
    body = readable(whole)
    kept: dict[str, Any] = {"string": body} if isinstance(body, str | bytes) else {"json": body}
    if len(pieces) > 1 and "string" in kept and whole == b"".join(pieces):
        kept["pieces"] = [len(piece) for piece in pieces]
    if raw.get("closed"):
        kept["closed"] = True
    if (error := raw.get("error")) is not None:
        kept["error"] = described(error) or {"message": str(error)}
    return _entry(
        request,
        status=dict(response["status"]),
        headers=_kept(decoded["headers"], KEPT_RESPONSE_HEADERS),
        response=kept,
    )


def failure_of(request: Request, error: BaseException) -> Entry | None:
    """A request that only an error came of; `None` for an error that is no connection's."""
    description = described(error)
    if description is None:
        return None
    return _entry(request, status={}, headers={}, response={"error": description})


def _entry(
    request: Request, *, status: dict[str, Any], headers: dict[str, list[str]], response: dict[str, Any]
) -> Entry:
    return Entry(
        method=request.method,
        uri=request.uri,
        headers=_kept(request.headers, KEPT_REQUEST_HEADERS),
        body=body_of(request),
        status=status,
        response_headers=headers,
        response=response,
    )


def _kept(headers: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, list[str]]:
    kept = {name.lower(): value for name, value in headers.items() if name.lower() in names}
    return {
        name: [_text(one) for one in (value if isinstance(value, list) else [value])] for name, value in kept.items()
    }


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def reply_of(entry: Entry) -> Reply:
    """The reply again. A recorded `Retry-After` is not waited for again."""
    response = entry.response
    body = on_the_wire(response["json"] if "json" in response else response.get("string"))
    headers = {name: value if isinstance(value, list) else [value] for name, value in entry.response_headers.items()}
    if "retry-after" in headers:
        headers["retry-after"] = ["0"]
    failed = "error" in response and not entry.status
    return Reply(
        status=None if failed else {"code": entry.status.get("code", 200), "message": entry.status.get("message", "")},
        headers=headers,
        pieces=_cut(body, response.get("pieces")),
        failure=response.get("error"),
    )


def _cut(body: bytes, lengths: Any) -> list[bytes]:
    """The body in pieces of these lengths; in one, where they are not its own."""
    if not isinstance(lengths, list) or not all(isinstance(n, int) and n >= 0 for n in lengths):
        return [body] if body else []
    ends = list(accumulate(lengths))
    if not ends or ends[-1] != len(body):
        return [body] if body else []
    return [body[start:end] for start, end in zip([0, *ends], ends, strict=False) if start != end]
