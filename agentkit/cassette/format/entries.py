"""One interaction of a cassette: an HTTP exchange, a turn of a model in this process, or a call of a tool.

The last two are pseudo-requests, `model://NAME/turn` and `tool://NAME`, in the shape vcrpy gives to HTTP. Bodies are
plain values: a mapping or list is JSON, text is text, bytes are what is neither.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, unquote

from agentkit.errors import CassetteError, said

DEEPEST_BODY = 40
ESCAPED = "escaped"
_SURROGATE = re.compile("[\ud800-\udfff]")

Kind = Literal["turn", "tool", "http"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A request and its response, of the cassette's first, second … `run`.

    `ms` is how long it took, `at_ms` when it ended, from the start of the recording. `response` holds `string` or
    `json`, `pieces` (the lengths it came in) and `error`, an exception that ended it or stood in its place. `number` is
    its place in the file it was read from.
    """

    uri: str
    body: Any
    response: Mapping[str, Any]
    method: str = "POST"
    headers: Mapping[str, Any] = field(default_factory=dict)
    status: Mapping[str, Any] = field(default_factory=lambda: {"code": 200, "message": "OK"})
    response_headers: Mapping[str, Any] = field(default_factory=dict)
    run: int = 1
    ms: int = 0
    at_ms: int = 0
    number: int = field(default=0, compare=False)

    @property
    def kind(self) -> Kind:
        """What answered."""
        scheme = self.uri.partition("://")[0]
        return "turn" if scheme == "model" else "tool" if scheme == "tool" else "http"

    @property
    def asks_a_model(self) -> bool:
        """Whether the request is one for a model's turn, in this process or over HTTP."""
        return self.kind == "turn" or (self.kind == "http" and is_chat(self.body))

    @property
    def has_failed(self) -> bool:
        """Whether this is HTTP that ended in an error, the server's or the connection's."""
        is_there = 200 <= self.status.get("code", 0) < 300 and "error" not in self.response
        return self.kind == "http" and not is_there

    @property
    def is_a_models_reply(self) -> bool:
        """Whether this is a chat completion over HTTP that came."""
        return self.kind == "http" and is_chat(self.body) and not self.has_failed

    @property
    def begun(self) -> bool:
        """Whether this only marks that a tool with side effects was about to start."""
        return self.kind == "tool" and self.response.get("begun") is True

    @property
    def name(self) -> str:
        """The model's or the tool's name, or the address."""
        if self.kind == "http":
            return f"{self.method} {self.uri}"
        return unquote(self.uri.partition("://")[2].removesuffix("/turn"))

    def to_interaction(self) -> dict[str, Any]:
        """As vcrpy lays it out; `at_ms` comes last, and says that the entry is whole."""
        return {
            "request": {"method": self.method, "uri": self.uri, "headers": dict(self.headers), "body": self.body},
            "response": {
                "status": dict(self.status),
                "headers": dict(self.response_headers),
                "body": _kept(self.response),
            },
            **({"run": self.run} if self.run != 1 else {}),
            "ms": self.ms,
            "at_ms": self.at_ms,
        }


def from_interaction(value: Any, number: int) -> Entry:
    """Read what `to_interaction` or vcrpy wrote; raises `CassetteError` naming the interaction."""
    request, response = _mapping(value, "request", number), _mapping(value, "response", number)
    uri = request.get("uri")
    if not isinstance(uri, str) or "://" not in uri:
        raise CassetteError(f"interaction {number}: expected request.uri to be an address, saw {_seen(uri)}")
    body = _read(_mapping(response, "body", number), number) if response.get("body") is not None else {}
    entry = Entry(
        method=str(request.get("method", "POST")),
        uri=uri,
        headers=_optional_mapping(request, "headers", number),
        body=request.get("body"),
        status=_optional_mapping(response, "status", number),
        response_headers=_optional_mapping(response, "headers", number),
        response=body,
        run=_number(value, "run", number, default=1),
        ms=_number(value, "ms", number),
        at_ms=_number(value, "at_ms", number),
        number=number,
    )
    if entry.kind != "http":
        _check_pseudo_request(entry, number)
    else:
        _check_http(entry, number)
    return entry


def _kept(response: Mapping[str, Any]) -> dict[str, Any]:
    """A response body as UTF-8 can hold it: one with half of a surrogate pair as JSON in Python's escapes."""
    if without_surrogates(response) == response:
        return dict(response)
    return {ESCAPED: json.dumps(response, ensure_ascii=False).encode("unicode_escape").decode()}


def _read(body: Mapping[str, Any], number: int) -> Mapping[str, Any]:
    if ESCAPED not in body:
        return body
    try:
        return _mapping({ESCAPED: json.loads(body[ESCAPED].encode().decode("unicode_escape"))}, ESCAPED, number)
    except (AttributeError, ValueError, RecursionError) as error:
        raise CassetteError(f"interaction {number}: expected escaped JSON ({error})") from None


def _check_http(entry: Entry, number: int) -> None:
    code = entry.status.get("code", 200)
    if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code <= 999:
        raise CassetteError(f"interaction {number}: expected response.status.code to be a status, saw {_seen(code)}")
    if not isinstance(entry.status.get("message"), str | None):
        raise CassetteError(f"interaction {number}: expected response.status.message to be text; quote it")
    for value in (*entry.headers.values(), *entry.response_headers.values()):
        if not all(isinstance(one, str) for one in (value if isinstance(value, list) else [value])):
            raise CassetteError(f"interaction {number}: expected the values of headers to be text; quote them")
    string = entry.response.get("string")
    if not isinstance(string, str | bytes | None):
        saw = f"saw {_seen(string)}; quote it"
        raise CassetteError(f"interaction {number}: expected response.body.string to be text, {saw}")


def _check_pseudo_request(entry: Entry, number: int) -> None:
    if not isinstance(entry.body, Mapping):
        raise CassetteError(f"interaction {number}: expected request.body to be a mapping, saw {_seen(entry.body)}")
    for name in ("string", "finish_reason", "thinking") if entry.kind == "turn" else ():
        found = entry.response.get(name, None if name == "string" else "")
        if not isinstance(found, str):
            saw = f"saw {_seen(found)}; quote it"
            raise CassetteError(f"interaction {number}: expected response.body.{name} to be text, {saw}")
    if entry.kind == "tool" and not entry.begun and not {"string", "json"} & entry.response.keys():
        raise CassetteError(f"interaction {number}: expected response.body to hold string or json, saw neither")


def _mapping(value: Any, key: str, number: int) -> Mapping[str, Any]:
    found = value.get(key) if isinstance(value, Mapping) else None
    if not isinstance(found, Mapping):
        raise CassetteError(f"interaction {number}: expected {key} to be a mapping, saw {_seen(found)}")
    return found


def _optional_mapping(value: Mapping[str, Any], key: str, number: int) -> Mapping[str, Any]:
    return _mapping(value, key, number) if value.get(key) is not None else {}


def _number(value: Mapping[str, Any], key: str, number: int, *, default: int = 0) -> int:
    found = value.get(key, default)
    if isinstance(found, bool) or not isinstance(found, int | float) or not math.isfinite(found):
        raise CassetteError(f"interaction {number}: expected {key} to be a number, saw {_seen(found)}")
    return int(found)


def _seen(value: Any) -> str:
    return "nothing" if value is None else type(value).__name__


def is_chat(body: Any) -> bool:
    """Whether a request's body is one for a chat completion."""
    return isinstance(body, Mapping) and isinstance(body.get("messages"), list)


def tool_uri(name: str) -> str:
    """The pseudo-address of a tool."""
    return f"tool://{quote(name, safe='')}"


def turn_uri(model: str) -> str:
    """The pseudo-address of a model in this process."""
    return f"model://{quote(model, safe='/:@')}/turn"


def without_surrogates(value: Any) -> Any:
    """`value` as UTF-8 can hold it; half of a surrogate pair becomes U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {without_surrogates(key): without_surrogates(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_surrogates(item) for item in value]
    return value


def readable(body: Any) -> Any:
    """A body off the wire as a person reads it: parsed JSON, else text, else bytes."""
    if not isinstance(body, bytes | bytearray):
        return body
    try:
        text = bytes(body).decode("utf-8")
    except UnicodeDecodeError:
        return bytes(body)
    parsed = _parsed(text)
    return text if parsed is None else parsed


def _parsed(text: str) -> Any:
    """JSON objects and arrays that come back from YAML as they are; `None` for all else."""
    if text.lstrip()[:1] not in ("{", "["):
        return None
    try:
        value = json.loads(text, object_pairs_hook=_without_duplicates)
    except (ValueError, RecursionError):
        return None
    return value if _depth_within(value, DEEPEST_BODY) and without_surrogates(value) == value else None


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs) or any(len(key) > 200 for key in found):
        raise ValueError("a mapping would lose something")
    return found


def _depth_within(value: Any, limit: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    items = value.values() if isinstance(value, dict) else value
    return limit > 0 and all(_depth_within(item, limit - 1) for item in items)


def on_the_wire(body: Any) -> bytes:
    """A readable body as bytes again."""
    if body is None:
        return b""
    if isinstance(body, bytes):
        return body
    return (body if isinstance(body, str) else json.dumps(body, ensure_ascii=False, default=str)).encode()


def plain(value: Any) -> Any:
    """`value` if it is plain JSON, else its text."""
    try:
        return value if json.loads(json.dumps(value)) == value else said(value)
    except (TypeError, ValueError, RecursionError):
        return said(value)
