"""HTTP in a cassette: recorded and replayed by vcrpy, in our file and by our rules.

vcrpy patches the HTTP libraries (requests, httpx, aiohttp …) and asks a `vcr.cassette.Cassette` what to do; ours keeps
no tape of its own. Requests are matched on method, address and body, secrets aside. What vcrpy leaves out is added:
errors of the connection, and replies in the pieces they came in.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from itertools import accumulate
from typing import Any
from unittest import mock

import vcr.patch
from vcr.cassette import Cassette
from vcr.filters import decode_response
from vcr.record_mode import RecordMode
from vcr.request import Request

from agentkit.cassette.format.entries import Entry, is_chat, on_the_wire, readable
from agentkit.cassette.recording import Recording
from agentkit.cassette.replaying import Replaying
from agentkit.cassette.seams import aiohttp as aiohttp_seam
from agentkit.cassette.seams import httpx as httpx_seam
from agentkit.cassette.seams import urllib as urllib_seam
from agentkit.cassette.seams.transport_errors import described, rebuilt
from agentkit.errors import AgentkitError
from agentkit.http_body import MOST_RECORDED_BYTES, Body, Unreadable
from agentkit.secrets import Secrets

KEPT_REQUEST_HEADERS = ("content-type",)
KEPT_RESPONSE_HEADERS = ("content-type", "location", "retry-after")
_TELEMETRY = ("api.smith.langchain.com",)
_started_s: ContextVar[float | None] = ContextVar("agentkit_request_started", default=None)
_asked: ContextVar[Request | None] = ContextVar("agentkit_request_asked", default=None)


class VcrCassette(Cassette):
    """What vcrpy's stubs ask."""

    replaying: Replaying
    recording: Recording | None

    def can_play_response_for(self, request: Request) -> bool:
        if self.recording is not None:
            _started_s.set(time.monotonic())
            _asked.set(request)
            if self.recording.is_silent or self.replaying.is_over:
                return False
        if _is_ignored(request):
            return False
        matches, (method, uri, body) = _matcher(request, self.replaying.secrets)
        if self.replaying.http(matches, chat=is_chat(body), play=False):
            return True
        if self.replaying.goes_on_with_http():
            return False
        raise self.replaying.unexpected_http(method, uri, body)

    def play_response(self, request: Request, httpx: Any = None) -> dict[str, Any]:
        """The recorded response, with its `pieces` and the `error` it broke off with; raises one that stands alone.

        An error of httpx is made for the `httpx` that asks.
        """
        matches, (method, uri, body) = _matcher(request, self.replaying.secrets)
        entry = self.replaying.http(matches, chat=is_chat(body))
        if entry is None:  # another thread took it
            raise self.replaying.unexpected_http(method, uri, body)
        if self.recording is not None:
            self.recording.mark_http(entry)
        return _response_of(entry, httpx)

    def append(self, request: Request, response: Any) -> None:
        if self.recording is None or _is_ignored(request):
            return
        self.recording.secrets.scrub([request.uri, dict(request.headers)])  # notes which keys the run needs
        started_s = _started_s.get()
        started_s = time.monotonic() if started_s is None else started_s
        self.recording.add_http(_entry_of(request, response), started_s=started_s)

    @contextmanager
    def failures_of(self, request: Request | None = None) -> Iterator[None]:
        """In this block, an error of the connection is all that came of the request: the one that was asked last."""
        try:
            yield
        except Exception as error:
            asked = request or _asked.get()
            if asked is not None and not isinstance(error, AgentkitError) and described(error) is not None:
                self.append(asked, {"status": {}, "headers": {}, "body": {"error": error}})
            raise


@contextmanager
def patched(replaying: Replaying, recording: Recording | None = None) -> Iterator[None]:
    """In this block, HTTP comes from the recording as far as that goes; what was not recorded is drift.

    With `recording`, it is sent after the end of that, and goes into it.
    """

    class Bound(VcrCassette):
        pass

    Bound.recording, Bound.replaying = recording, replaying
    mode = RecordMode.NONE if recording is None else RecordMode.ALL
    with ExitStack() as stack:
        reset = _keep_connection_classes(vcr.patch.reset_patchers)
        stack.enter_context(mock.patch.object(vcr.patch, "reset_patchers", reset))
        for target, name, replacement in (*httpx_seam.patches(), *urllib_seam.patches(), *aiohttp_seam.patches()):
            stack.enter_context(mock.patch.object(target, name, replacement))
        if recording is None:
            stack.enter_context(urllib_seam.without_waiting())
        options = {"path": "", "persister": _Nothing, "record_mode": mode, "before_record_request": _unless_ignored}
        stack.enter_context(Bound.use(**options))  # type: ignore[no-untyped-call]
        _forget_lookups()
        stack.callback(_forget_lookups)
        yield


def _forget_lookups() -> None:
    """huggingface_hub keeps what it looked up for as long as the process lives: a run would not ask again."""
    for name in ("_common", "hf_inference"):
        module = sys.modules.get(f"huggingface_hub.inference._providers.{name}")
        for function in vars(module).values() if module is not None else ():
            if callable(clear := getattr(function, "cache_clear", None)):
                clear()


class _Nothing:
    """vcrpy's persister of a tape that is kept elsewhere."""

    @staticmethod
    def load_cassette(cassette_path: str, serializer: Any) -> tuple[list[Any], list[Any]]:
        return [], []

    @staticmethod
    def save_cassette(cassette_path: str, cassette_dict: Any, serializer: Any) -> None:
        return None


def _keep_connection_classes(reset_patchers: Callable[[], Iterator[Any]]) -> Callable[[], Iterator[Any]]:
    """vcrpy puts urllib3's real classes back while it makes a connection, for all threads: one that asks in that moment
    goes past the cassette (vcrpy #849, #1051). A pool's `ConnectionCls` need not be put back."""

    def patchers() -> Iterator[Any]:
        return (patcher for patcher in reset_patchers() if patcher.attribute != "ConnectionCls")

    return patchers


def _is_ignored(request: Request) -> bool:
    """Telemetry, and downloads of models and their files: no part of a run."""
    host = request.host or ""
    download = host.endswith(("huggingface.co", "hf.co")) and "/resolve/" in (request.path or "")
    return host in _TELEMETRY or download or host.endswith(".hf.co")


def _unless_ignored(request: Request) -> Request | None:
    return None if _is_ignored(request) else request


def _matcher(request: Request, secrets: Secrets) -> tuple[Callable[[Entry], bool], tuple[str, str, Any]]:
    asked = request.method, secrets.scrub_text(request.uri), secrets.scrub(_body_of(request))

    def matches(entry: Entry) -> bool:
        if (entry.method, secrets.scrub_text(entry.uri)) != asked[:2]:
            return False
        return bool(secrets.scrub(readable(on_the_wire(entry.body)) or None) == asked[2])

    return matches, asked


# -- as entries, and back ---------------------------------------------------------------------------------------------


def _body_of(request: Request) -> Any:
    """What is asked, as a person reads it."""
    body = request.body_bytes
    return readable(b"".join(body) if isinstance(body, list) else body) or None


def _entry_of(request: Request, response: Mapping[str, Any]) -> Entry:
    """A response as vcrpy's stubs give it; its body may have `pieces`, an `error`, or have been `closed` early.

    One without a status is the error alone.
    """
    raw = response["body"]
    pieces = raw.get("pieces", ())
    whole = _unpacked(raw.get("string", b""), response["headers"])
    body = readable(whole)
    kept: dict[str, Any] = {"string": body} if isinstance(body, str | bytes) else {"json": body}
    if not response["status"]:
        kept = {}
    if len(pieces) > 1 and "string" in kept and whole == b"".join(pieces):
        kept["pieces"] = [len(piece) for piece in pieces]
    if raw.get("closed"):
        kept["closed"] = True
    if (error := raw.get("error")) is not None:
        kept["error"] = described(error) or {"message": str(error)}
    return Entry(
        method=request.method,
        uri=request.uri,
        headers=_kept(request.headers, KEPT_REQUEST_HEADERS),
        body=_body_of(request),
        status=dict(response["status"]),
        response_headers=_kept(response["headers"], KEPT_RESPONSE_HEADERS),
        response=kept,
    )


def _unpacked(content: bytes, headers: Mapping[str, Any]) -> bytes:
    """What a body holds, as far as a cassette does; as it came, where it is packed in another way than it says."""
    encodings = _kept(headers, ("content-encoding",)).get("content-encoding", [])
    if len(encodings) != 1:
        return content
    try:
        return Body(encodings[0], MOST_RECORDED_BYTES).read(content)
    except Unreadable:  # brotli or zstd, whose libraries a run may have
        packed = {"headers": {"content-encoding": encodings}, "body": {"string": content}}
        with suppress(Exception):  # of whichever library it is
            content = decode_response(packed)["body"]["string"]  # type: ignore[no-untyped-call]
        return content


def _kept(headers: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, list[str]]:
    kept = {name.lower(): value for name, value in headers.items() if name.lower() in names}
    return {
        name: [one.decode("latin-1") if isinstance(one, bytes) else str(one) for one in _list(value)]
        for name, value in kept.items()
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _response_of(entry: Entry, httpx: Any) -> dict[str, Any]:
    """The response again, as vcrpy's stubs take it. A recorded `Retry-After` is not waited for again."""
    response = entry.response
    error = rebuilt(response["error"], httpx=httpx) if "error" in response else None
    if error is not None and not entry.status:
        raise error
    body = on_the_wire(response["json"] if "json" in response else response.get("string"))
    headers = {name: _list(value) for name, value in entry.response_headers.items()}
    if "retry-after" in headers:
        headers["retry-after"] = ["0"]
    return {
        "status": {"code": entry.status.get("code", 200), "message": entry.status.get("message", "")},
        "headers": headers,
        "body": {"string": body, "pieces": _cut(body, response.get("pieces")), "error": error},
    }


def _cut(body: bytes, lengths: Any) -> list[bytes]:
    """The body in pieces of these lengths; in one, where they are not its own."""
    if not isinstance(lengths, list) or not all(isinstance(n, int) and n >= 0 for n in lengths):
        return [body] if body else []
    ends = list(accumulate(lengths))
    if not ends or ends[-1] != len(body):
        return [body] if body else []
    return [body[start:end] for start, end in zip([0, *ends], ends, strict=False) if start != end]
