"""Messages as they are sent: without thoughts, and without anything that a chat template would take for its markup.

What a server sent with its calls goes back to it with them, thoughts included: some refuse the calls without.
"""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Message
from agentkit.models.thinking import ThinkingText
from agentkit.react_json.hostile import as_own_turn, without_markup

_READY = ("image_url", "input_audio", "video_url", "audio_url", "file")  # OpenAI's and vLLM's own
_KINDS = {"image": "image/png", "audio": "audio/wav", "video": "video/mp4"}  # with the type where none is given


def outgoing_messages(
    messages: Sequence[Message], *, origin: str | None = None, refused: Collection[str] = ()
) -> list[Message]:
    """The messages in OpenAI's shape, with what the server called `origin` sent with its calls, less the `refused`."""
    return [_returning(_outgoing(message), message, origin, refused) for message in messages]


def outgoing_tools(tools: Sequence[Mapping[str, Any]]) -> list[Any]:
    """The tools, in whose texts nothing is markup, whoever wrote them."""
    return [_harmless(tool) for tool in tools]


def _harmless(value: Any) -> Any:
    """A JSON value without markup in any of its texts, names of fields included."""
    if isinstance(value, str):
        return without_markup(value)
    if isinstance(value, Mapping):
        return {_harmless(name): _harmless(part) for name, part in value.items()}
    return [_harmless(part) for part in value] if isinstance(value, list | tuple) else value


def _outgoing(message: Message) -> Message:
    content, role = message.get("content"), message["role"]
    message = {**message, **{name: _harmless(message[name]) for name in ("name", "tool_call_id") if name in message}}
    if message.get("tool_calls"):
        message["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    if isinstance(content, str):
        return {**message, "content": _text(role, content)}
    if content is None:
        return {**message, "content": ""}
    parts = [{"type": "text", "text": part} if isinstance(part, str) else part for part in content]
    return {**message, "content": [_part(role, part) for part in parts]}


def _returning(sent: Message, message: Message, origin: str | None, refused: Collection[str]) -> Message:
    """A message as it is sent, with the fields that its server wants back: its own, as they came."""
    for call, made in zip(sent.get("tool_calls") or (), message.get("tool_calls") or (), strict=True):
        fields = made.get("provider_fields") or {}
        if fields.get("origin") != origin:
            continue
        own = {
            part: {name: value for name, value in fields.get(part, {}).items() if name not in refused}
            for part in ("message", "call", "function")
        }
        sent |= own["message"]
        call |= own["call"]
        if own["function"]:
            call["function"] = {**call["function"], **own["function"]}
    return sent


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    """A call, in whose arguments a token can be spelled with JSON's escapes, too."""
    call = _harmless({name: value for name, value in call.items() if name != "provider_fields"})
    function = call.get("function") or {}
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        arguments = json.loads(function["arguments"])
        if (harmless := _harmless(arguments)) != arguments:
            return {**call, "function": {**function, "arguments": json.dumps(harmless)}}
    return dict(call)


def _part(role: str, part: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "text", "text": _text(role, part["text"])} if part.get("type") == "text" else _wire_part(part)


def _text(role: str, text: str) -> str:
    if role in ("user", "tool"):
        return without_markup(text)
    return as_own_turn(_without_thoughts(text)) if role == "assistant" else text


def _without_thoughts(text: str) -> str:
    thinking = ThinkingText()
    return thinking.feed(text)[1] + thinking.flush()[1]


# -- images, sound and video, from the shapes that people write -------------------------------------------------------


def _wire_part(part: Mapping[str, Any]) -> dict[str, Any]:
    """A part of a message's content that is not text."""
    kind = str(part.get("type"))
    if kind in _READY:
        nested = part.get(kind)
        return {**part, kind: {"url": nested}} if isinstance(nested, str) and kind.endswith("_url") else dict(part)
    if kind not in _KINDS:
        raise ConfigurationError(f"expected a part of type text, {', '.join((*_KINDS, *_READY))}; saw {kind!r}")
    source = _source(part, kind)
    if kind == "audio":
        return {"type": "input_audio", "input_audio": _audio(source)}
    return {"type": f"{kind}_url", f"{kind}_url": {"url": source}}


def _source(part: Mapping[str, Any], kind: str) -> str:
    """An address: `http(s):` as it is, everything else as `data:`."""
    for name in ("url", kind, "path", "base64", "data"):
        given = part.get(name)
        if isinstance(given, bytes):
            return _data(given, part, kind)
        if isinstance(given, Path) or (name == "path" and given):
            return _file(Path(given), kind)
        if isinstance(given, str) and given:
            if name in ("base64", "data"):
                return f"data:{_media_type(part, kind)};base64,{given}"
            return given if given.startswith(("http://", "https://", "data:")) else _file(Path(given), kind)
    raise ConfigurationError(f"expected an {kind} with url, path or base64, saw {', '.join(part)}")


def _file(path: Path, kind: str) -> str:
    try:
        content = path.expanduser().read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{kind} {path}: cannot be read ({error.strerror}); check the path") from None
    return _data(content, {"mime_type": mimetypes.guess_type(path.name)[0]}, kind)


def _data(content: bytes, part: Mapping[str, Any], kind: str) -> str:
    return f"data:{_media_type(part, kind)};base64,{base64.b64encode(content).decode()}"


def _media_type(part: Mapping[str, Any], kind: str) -> str:
    return str(part.get("mime_type") or part.get("media_type") or _KINDS[kind])


def _audio(source: str) -> dict[str, str]:
    head, comma, data = source.partition(",")
    if not comma or not head.startswith("data:"):
        raise ConfigurationError("expected audio as path or base64: OpenAI's format has no addresses for it")
    kind = head.removeprefix("data:").partition(";")[0].rpartition("/")[2].removeprefix("x-")
    return {"data": data, "format": {"mpeg": "mp3", "wave": "wav"}.get(kind, kind)}
