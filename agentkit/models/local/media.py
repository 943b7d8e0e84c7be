"""Images, sound and video in messages, for models whose processor takes them."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Message
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.missing_package import missing_package

KINDS = {
    "image": "image",
    "image_url": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
}
READERS = {
    "image": ("image_processor",),
    "audio": ("feature_extractor", "audio_processor"),
    "video": ("video_processor",),
}
SOURCES = "a url, a path, base64 or a data: address"


def has_media(messages: Sequence[Message]) -> bool:
    """Whether any message holds something other than text."""
    return any(part.get("type") != "text" for part in _parts(messages))


def media_inputs(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()
) -> tuple[str, dict[str, Any]]:
    """The prompt text, and the model's inputs: `input_ids` (1, tokens) with placeholders, and what stands there."""
    with ExitStack() as files:
        read = [_for_processor(message, files) for message in messages]
        kinds = {part["type"] for part in _parts(read)} - {"text"}
        _check_taken(template.processor, kinds)
        prompt, accepted, native = template.accepted(read, tools)
        _check_shown(template, accepted, kinds)
        with _media_errors():
            return prompt, template.tensors(accepted, native)


def _parts(messages: Sequence[Message]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if not isinstance(content := message.get("content"), str | None):
            yield from content


def kinds_taken(processor: Any) -> list[str]:
    """What a processor reads beside text."""
    return [kind for kind, names in READERS.items() if any(getattr(processor, name, None) for name in names)]


def _check_taken(processor: Any, kinds: set[str]) -> None:
    taken = kinds_taken(processor)
    for kind in sorted(kinds - set(taken)):
        expected = " and ".join(["text", *taken]) if taken else "text only"
        raise ConfigurationError(f"expected {expected}, saw {_one(kind)}; take a model that is made for {kind} input")


def _check_shown(template: ChatTemplate, messages: Sequence[Message], kinds: set[str]) -> None:
    """Some templates leave out what they do not know, without a word."""
    shown = template.text(messages, ()) if template.is_own else None
    for kind in kinds:
        without = [_without(message, kind) for message in messages]
        if shown is None or template.text(without, ()) == shown:
            raise ConfigurationError(
                f"expected a chat template with a place for {_one(kind)}, this model's has none in these roles; "
                "put it into a user message, or take another model"
            )


def _without(message: Message, kind: str) -> Message:
    content = message.get("content")
    if isinstance(content, str | None):
        return message
    return {**message, "content": [part for part in content if part["type"] != kind]}


def _for_processor(message: Message, files: ExitStack) -> Message:
    """The message with its parts as transformers' processors name them."""
    content = message.get("content")
    if isinstance(content, str | None):
        return message
    return {**message, "content": [_part(part, files) for part in content]}


def _part(part: Mapping[str, Any], files: ExitStack) -> dict[str, Any]:
    if part.get("type") in ("text", "text-plain"):
        return {"type": "text", "text": str(part.get("text", ""))}
    kind = KINDS.get(part.get("type", ""))
    if kind is None:
        raise ConfigurationError(
            f"expected parts of type text, {', '.join(KINDS)}, saw {part.get('type')!r}; write it as one of these"
        )
    if (loaded := part.get(kind)) is not None and not isinstance(loaded, str):  # an image, an array, frames
        return {"type": kind, kind: loaded}
    place, data = _source(part, kind)
    if data is None:
        return {"type": kind, "path" if "://" not in place else "url": place}
    if kind == "image":
        return {"type": kind, "base64": data}
    if kind == "audio":
        return {"type": kind, "url": f"data:audio/wav;base64,{data}"}  # what it is, is read from the bytes
    return {"type": kind, "path": _file_of(data, files)}


def _source(part: Mapping[str, Any], kind: str) -> tuple[str, str | None]:
    """Where a part's content is, or the content itself in base64: LangChain's, OpenAI's and Anthropic's forms."""
    for name in ("url", "path", kind, "base64", "data", f"{kind}_url", "input_audio", "source"):
        value = part.get(name)
        if isinstance(value, Mapping):
            value = value.get("url") or value.get("data")
            name = "url" if value and ("://" in value or value.startswith("data:")) else "data"
        if isinstance(value, bytes):
            return "", base64.b64encode(value).decode()
        if isinstance(value, str) and value:
            if value.startswith("data:"):
                return "", value.partition(",")[2]
            return ("", value) if name in ("base64", "data") else (value.removeprefix("file://"), None)
    raise ConfigurationError(f"expected {_one(kind)} with {SOURCES}, saw only {', '.join(part)}")


def _file_of(data: str, files: ExitStack) -> str:
    """Video is read from files only."""
    folder = files.enter_context(tempfile.TemporaryDirectory())
    path = Path(folder) / "video.mp4"
    try:
        path.write_bytes(base64.b64decode(data, validate=True))
    except binascii.Error as error:
        raise ConfigurationError(f"expected a video in base64, saw something else: {error}") from error
    return str(path)


@contextmanager
def _media_errors() -> Iterator[None]:
    """Processors fail in as many ways as files do."""
    try:
        yield
    except Exception as error:
        if isinstance(error, ImportError) or "torchcodec" in str(error):
            raise missing_package(error, "to read images, sound and video") from error
        line = " ".join(str(error).split())[:300]
        raise ConfigurationError(
            f"expected images, sound and video that the model's processor can read ({SOURCES}); "
            f"{type(error).__name__}: {line}"
        ) from error


def _one(kind: str) -> str:
    return "audio" if kind == "audio" else f"an {kind}" if kind == "image" else f"a {kind}"
