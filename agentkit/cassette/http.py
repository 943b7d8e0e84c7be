"""HTTP in a cassette: recorded and replayed by vcrpy, in our file and by our rules.

vcrpy patches the HTTP libraries (requests, httpx, aiohttp …) and asks a `vcr.cassette.Cassette` what to do; ours keeps
no tape of its own. Requests are matched on method, address and body, secrets aside.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import vcr.patch
from vcr.cassette import Cassette
from vcr.filters import decode_response
from vcr.record_mode import RecordMode
from vcr.request import Request

from agentkit.cassette.entries import Entry, on_the_wire, readable
from agentkit.cassette.recording import Recording
from agentkit.cassette.replaying import Replaying
from agentkit.cassette.secrets import Secrets

KEPT_REQUEST_HEADERS = ("content-type",)
KEPT_RESPONSE_HEADERS = ("content-type", "location", "retry-after")
_TELEMETRY = ("api.smith.langchain.com",)


def recorded(recording: Recording) -> AbstractContextManager[Any]:
    """In this block, HTTP goes into the recording."""

    class RecordingTape(Cassette):
        def append(self, request: Request, response: Mapping[str, Any]) -> None:
            if not _is_ignored(request):
                recording.secrets.scrub([request.uri, dict(request.headers)])  # notes which keys the run needs
                recording.add_http(_entry(request, response))

    return _patched(RecordingTape, RecordMode.ALL)


def replayed(replaying: Replaying) -> AbstractContextManager[Any]:
    """In this block, HTTP comes from the recording; a request that was not recorded is drift."""

    class ReplayingTape(Cassette):
        def can_play_response_for(self, request: Request) -> bool:
            if _is_ignored(request):
                return False
            matches, (method, uri, body) = _matcher(request, replaying.secrets)
            if not replaying.expects_http(matches):
                raise replaying.unexpected_http(method, uri, body)
            return True

        def play_response(self, request: Request) -> dict[str, Any]:
            matches, (method, uri, body) = _matcher(request, replaying.secrets)
            entry = replaying.http(matches)
            if entry is None:  # another thread took it
                raise replaying.unexpected_http(method, uri, body)
            return _response(entry)

    return _patched(ReplayingTape, RecordMode.NONE)


def _forget_lookups() -> None:
    """huggingface_hub keeps what it looked up for as long as the process lives: a run would not ask again."""
    for name in ("_common", "hf_inference"):
        module = sys.modules.get(f"huggingface_hub.inference._providers.{name}")
        for function in vars(module).values() if module is not None else ():
            if callable(clear := getattr(function, "cache_clear", None)):
                clear()


@contextmanager
def _patched(tape: type[Cassette], mode: RecordMode) -> Iterator[None]:
    with (
        mock.patch.object(vcr.patch, "reset_patchers", _keep_connection_classes(vcr.patch.reset_patchers)),
        tape.use(  # type: ignore[no-untyped-call]
            path="", persister=_Nothing, record_mode=mode, before_record_request=_unless_ignored
        ),
    ):
        _forget_lookups()
        try:
            yield
        finally:
            _forget_lookups()


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


def _body_of(request: Request) -> Any:
    body = request.body_bytes
    return readable(b"".join(body) if isinstance(body, list) else body) or None


def _entry(request: Request, response: Mapping[str, Any]) -> Entry:
    response = decode_response(response)  # type: ignore[no-untyped-call]
    body = readable(response["body"]["string"])
    return Entry(
        method=request.method,
        uri=request.uri,
        headers=_kept(request.headers, KEPT_REQUEST_HEADERS),
        body=_body_of(request),
        status=dict(response["status"]),
        response_headers=_kept(response["headers"], KEPT_RESPONSE_HEADERS),
        response={"string": body} if isinstance(body, str | bytes) else {"json": body},
    )


def _kept(headers: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, list[str]]:
    kept = {name.lower(): value for name, value in headers.items() if name.lower() in names}
    return {
        name: [_text(one) for one in (value if isinstance(value, list) else [value])] for name, value in kept.items()
    }


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _matcher(request: Request, secrets: Secrets) -> tuple[Callable[[Entry], bool], tuple[str, str, Any]]:
    asked = request.method, secrets.scrub_text(request.uri), secrets.scrub(_body_of(request))

    def matches(entry: Entry) -> bool:
        recorded_body = secrets.scrub(readable(on_the_wire(entry.body)) or None)
        return (entry.method, secrets.scrub_text(entry.uri), recorded_body) == asked

    return matches, asked


def _response(entry: Entry) -> dict[str, Any]:
    """As vcrpy's stubs want it. A recorded `Retry-After` is not waited for again."""
    headers = {name: value if isinstance(value, list) else [value] for name, value in entry.response_headers.items()}
    if "retry-after" in headers:
        headers["retry-after"] = ["0"]
    body = entry.response["json"] if "json" in entry.response else entry.response.get("string")
    return {
        "status": {"code": entry.status.get("code", 200), "message": entry.status.get("message", "")},
        "headers": headers,
        "body": {"string": on_the_wire(body)},
    }
