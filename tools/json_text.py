"""JSON of unknown shape as plain text: never Python's brackets, never links, pictures and ids."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST_ITEMS = 20
DEEPEST = 4
_TECHNICAL = frozenset(
    {"link", "links", "image", "images", "thumbnail", "thumbnails", "serpapi", "kgmid", "id", "photo", "photos", "logo",
     "icon", "references", "index", "entity", "stick", "tabs", "header", "position", "html", "url", "token",
     "chart", "sources", "favicon"}
)  # fmt: skip
_SPEAKING = frozenset(
    {"answer", "result", "snippet", "price", "translation", "definition", "description", "contents", "expanded_list",
     "list", "definitions", "steps", "rows", "table", "formatted", "snippet_highlighted_words", "title", "name",
     "question", "text", "value", "extracted", "source_text", "target_text"}
)  # fmt: skip


def line_of(value: Any, depth: int = 0) -> str:
    """Text on one line; a list is joined with commas or semicolons, an object by its texts and their labels."""
    if isinstance(value, bool) or value is None or depth > DEEPEST:
        return ""
    if isinstance(value, str | int | float):
        return " ".join(str(value).encode("utf-8", "replace").decode().split())  # no lone surrogates
    if isinstance(value, list):
        items = value[:MOST_ITEMS]
        texts = [line_of(item, depth + 1) for item in items]
        long = any(len(text) > 24 or isinstance(item, list) for text, item in zip(texts, items, strict=True))
        return joined(texts, "; " if long else ", ")
    if isinstance(value, Mapping):
        pairs = [(key, line_of(inner, depth + 1)) for key, inner in value.items() if not is_technical(key)]
        return joined([text if key in _SPEAKING else f"{label(key)}: {text}" for key, text in pairs if text], ", ")
    return ""


def objects(value: Any) -> list[Mapping[str, Any]]:
    """`value` as a list of objects, whatever it is."""
    if isinstance(value, Mapping):
        return [value] if value else []
    return [item for item in value if isinstance(item, Mapping) and item] if isinstance(value, list) else []


def first(item: Mapping[str, Any], keys: Sequence[str]) -> str:
    """The first of the item's values under `keys` that says something."""
    return next((text for key in keys if (text := line_of(item.get(key)))), "")


def label(key: str) -> str:
    """`head_coach` as `Head coach`."""
    return key.replace("_", " ").strip().capitalize()


def is_technical(key: str) -> bool:
    """Links, pictures and ids, which say nothing to a reader: `header_images`, `kgmid`, but not `president`."""
    return key == "type" or not _TECHNICAL.isdisjoint(key.lower().split("_"))


def joined(texts: Sequence[str], separator: str) -> str:
    """The texts that are not empty."""
    return separator.join(text for text in texts if text)
