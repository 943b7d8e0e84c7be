"""Images, sound and video in messages, for models whose processor takes them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Message
from agentkit.models.chat_template import markup

KINDS = {"image": "image", "image_url": "image", "audio": "audio", "input_audio": "audio", "video": "video"}


def has_media(messages: Sequence[Message]) -> bool:
    """Whether any message holds something other than text."""
    return any(not isinstance(m.get("content"), str | None) and any(_kind(p) for p in m["content"]) for m in messages)


def media_inputs(processor: Any, messages: Sequence[Message]) -> dict[str, Any]:
    """The model's inputs: `input_ids` (1, tokens) with placeholders, and the pixels and waves that stand there."""
    if not hasattr(processor, "tokenizer"):
        raise ConfigurationError(
            "expected text only, saw an image, sound or video; load the model with task='image-text-to-text' or "
            "'any-to-any'"
        )
    inputs = processor.apply_chat_template(
        [_for_processor(message, markup(processor.tokenizer)) for message in messages],
        add_generation_prompt=True,
        tokenize=True,
        return_dict=True,
        return_tensors="pt",
    )
    return dict(inputs)


def _kind(part: Any) -> str | None:
    return KINDS.get(part.get("type", "")) if isinstance(part, Mapping) else None


def _for_processor(message: Message, special: re.Pattern[str] | None) -> Message:
    """The message with its parts as transformers' processors name them, and special tokens in its text broken.

    A processor encodes the whole prompt at once, so a zero-width space does here what separate encoding does for text.
    """
    content = message.get("content") or ""
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**message, "content": [_part(part, special) for part in parts]}


def _part(part: Mapping[str, Any], special: re.Pattern[str] | None) -> dict[str, Any]:
    kind = _kind(part)
    if kind is None:
        text = str(part.get("text", ""))
        return {"type": "text", "text": special.sub(lambda m: m[0][0] + "\u200b" + m[0][1:], text) if special else text}
    for name in ("url", "path", "base64", kind):
        if isinstance(source := part.get(name), str | bytes) or (name == kind and source is not None):
            return {"type": kind, ("url" if name == "url" else name): source}
    nested = part.get("image_url") or part.get("input_audio") or {}
    source = nested if isinstance(nested, str) else nested.get("url") or nested.get("data")
    if source is None:
        raise ConfigurationError(f"expected an {kind} with url, path or base64, saw {', '.join(part)}")
    if source.startswith("data:"):
        return {"type": kind, "base64": source.partition(",")[2]}
    return {"type": kind, "url" if "://" in source else "base64": source}
