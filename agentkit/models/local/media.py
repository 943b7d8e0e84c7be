"""Images, sound and video in messages, for models whose processor takes them; and when what was computed of them holds
for another prompt."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError, in_one_line
from agentkit.models.backend import Message
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.loading import missing_package

READERS = {
    "image": ("image_processor",),
    "audio": ("feature_extractor", "audio_processor"),
    "video": ("video_processor",),
}
PLACEHOLDER = re.compile(r"(image|video|audio|vision).*token(_id|_index)?$")
SOURCES = "a url, a path, base64 or a data: address"


def has_media(messages: Sequence[Message]) -> bool:
    """Whether any message holds something other than text."""
    return any(part.get("type") != "text" for part in _parts(messages))


def media_inputs(
    template: ChatTemplate, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], config: Any
) -> tuple[str, list[int], MediaInputs]:
    """The prompt text, its tokens with placeholders, and what stands there; `config` is the model's."""
    with ExitStack() as files:
        named = [_for_processor(message, files) for message in messages]
        kinds = {part["type"] for part in _parts(named)} - {"text"}
        _check_processor(template.processor, kinds)
        prompt, accepted, native = template.accepted(named, tools)
        _check_template(template, accepted, kinds)
        with _media_errors():
            inputs = template.tensors(accepted, native)
    ids: list[int] = inputs.pop("input_ids")[0].tolist()
    inputs.pop("attention_mask", None)  # all ones: one conversation, no padding
    return prompt, ids, MediaInputs.of(config, ids, inputs)


def _parts(messages: Sequence[Message]) -> Iterator[Mapping[str, Any]]:
    for message in messages:
        if not isinstance(content := message.get("content"), str | None):
            yield from content


def kinds_taken(processor: Any) -> list[str]:
    """What a processor reads beside text."""
    return [kind for kind, names in READERS.items() if any(getattr(processor, name, None) for name in names)]


def _check_processor(processor: Any, kinds: set[str]) -> None:
    inputs = kinds_taken(processor)
    for kind in sorted(kinds - set(inputs)):
        expected = " and ".join(["text", *inputs]) if inputs else "text only"
        raise ConfigurationError(f"expected {expected}, saw {_one(kind)}; take a model that is made for {kind} input")


def _check_template(template: ChatTemplate, messages: Sequence[Message], kinds: set[str]) -> None:
    """Some templates leave out what they do not know, without a word."""
    prompt = template.text(messages, ()) if template.is_own else None
    for kind in kinds:
        without = [_without(message, kind) for message in messages]
        if prompt is None or template.text(without, ()) == prompt:
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
    kind = str(part.get("type")).removeprefix("input_").removesuffix("_url")
    if kind not in READERS:
        raise ConfigurationError(
            f"expected parts of type text, {', '.join(READERS)}, saw {part.get('type')!r}; write it as one of these"
        )
    if (loaded := part.get(kind)) is not None and not isinstance(loaded, str):  # an image, an array, frames
        return {"type": kind, kind: loaded}
    place, data = _source(part, kind)
    if data is not None:  # which the readers of images and sound tell from an address themselves
        place = _file_of(data, files) if kind == "video" else data
    return {"type": kind, "url": place}


def _source(part: Mapping[str, Any], kind: str) -> tuple[str, str | None]:
    """Where a part's content is, or the content itself in base64: LangChain's, OpenAI's and Anthropic's forms."""
    for name in ("url", "path", kind, "base64", "data", f"{kind}_url", "input_audio", "source"):
        value = part.get(name)
        if isinstance(value, Mapping):
            value = value.get("url") or value.get("data")
            is_address = isinstance(value, str) and ("://" in value or value.startswith("data:"))
            name = "url" if is_address else "data"
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
        raise ConfigurationError(
            f"expected images, sound and video that the model's processor can read ({SOURCES}); "
            f"{type(error).__name__}: {in_one_line(error, 300)}"
        ) from error


def _one(kind: str) -> str:
    return "audio" if kind == "audio" else f"an {kind}" if kind == "image" else f"a {kind}"


@dataclass(frozen=True, eq=False, slots=True)
class MediaInputs:
    """The model's inputs beyond tokens, for its first forward.

    Two prompts with the same `key` have the same pixels and waves; those end before the token number `end`. A key of
    None says that nothing is known of that: such a prompt is computed whole.
    """

    inputs: Mapping[str, Any]
    key: str | None = None
    end: int = 0

    @classmethod
    def of(cls, config: Any, ids: Sequence[int], inputs: Mapping[str, Any]) -> MediaInputs:
        """`inputs` for a prompt of `ids`, where `config` is the model's."""
        placeholders = {value for name, value in vars(config).items() if PLACEHOLDER.search(name)}
        places = [number for number, token in enumerate(ids) if token in placeholders]
        return cls(inputs, _digest(inputs, len(ids)), places[-1] + 1) if places else cls(inputs)


def _digest(inputs: Mapping[str, Any], tokens: int) -> str | None:
    import torch

    digest = hashlib.sha256()
    for name, value in sorted(inputs.items()):
        if not isinstance(value, torch.Tensor):
            return None
        if tuple(value.shape) == (1, tokens) and not value.is_floating_point():
            continue  # the kind of each token: the ids say it
        digest.update(f"{name} {value.dtype} {tuple(value.shape)} ".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
