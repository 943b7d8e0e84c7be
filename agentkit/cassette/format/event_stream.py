"""A model's reply as a stream of server-sent events, as a person reads it: an event whole, then what changes in it.

    events:
    - event: {id: chatcmpl-1, choices: [{index: 0, delta: {content: The}}]}
    - at: [choices, 0, delta, content]
      then: [" answer", " is", " 42"]
    - text: "[DONE]"

Only a stream that comes back to the letter is written so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

from agentkit.cassette.format.entries import without_surrogates
from agentkit.secrets import Secrets

START, END = "data: ", "\n\n"
_STYLES: Mapping[str, Mapping[str, Any]] = {
    "compact": {"separators": (",", ":"), "ensure_ascii": False},
    "compact, escaped": {"separators": (",", ":")},
    "spaced": {"ensure_ascii": False},
    "spaced, escaped": {},
}
EACH = "events"  # as `pieces`: one for each event
MOST_CHARACTERS = 50_000_000  # of the text


def shortened(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """A response body with its stream of events apart; as it is, where there is none."""
    text = body.get("string")
    if not isinstance(text, str) or not text.startswith(START) or text.count(END) < 2 or not text.endswith(END):
        return body
    for style in _STYLES:
        events = list(_grouped(text.removesuffix(END).split(END)))
        short = {"events": events, "style": style, **{name: value for name, value in body.items() if name != "string"}}
        if body.get("pieces") == _lengths(text):
            short["pieces"] = EACH
        if lengthened(short) == body:
            return short
    return body


def scrubbed_lines(text: str, secrets: Secrets) -> str:
    """A text without secrets, also those that are split over the events of a stream: one JSON value a line."""
    lines = secrets.scrub_text(text).split("\n")
    values = [_parsed(line) if line.startswith((START, "{")) else None for line in lines]
    places: dict[tuple[Any, ...], list[int]] = {}
    for number, value in enumerate(values):
        for path in _text_places(value) if value is not None else ():
            places.setdefault(path, []).append(number)
    changed = set()
    for path, numbers in places.items():
        pieces = [_at(values[number], path) for number in numbers]
        if len({*pieces}) > 1 and (clean := secrets.scrub_pieces(pieces)) != pieces:
            for number, piece in zip(numbers, clean, strict=True):
                _at(values[number], path[:-1])[path[-1]] = piece
                changed.add(number)
    for number in changed:
        start = START if lines[number].startswith(START) else ""
        lines[number] = start + json.dumps(values[number], **_style_of(lines[number].removeprefix(start)))
    return "\n".join(lines)


def _text_places(value: Any) -> Iterator[tuple[Any, ...]]:
    """Where the texts stand in a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        if isinstance(item, str):
            yield (name,)
        else:
            yield from ((name, *rest) for rest in _text_places(item))


def _style_of(line: str) -> Mapping[str, Any]:
    """How this JSON is written."""
    value = json.loads(line)
    return next((style for style in _STYLES.values() if json.dumps(value, **style) == line), _STYLES["compact"])


def _lengths(text: str) -> list[int]:
    return [len((event + END).encode()) for event in text.removesuffix(END).split(END)]


def _grouped(events: Sequence[str]) -> Iterator[dict[str, Any]]:
    before: Any = None
    group: dict[str, Any] | None = None
    for event in events:
        value = _parsed(event)
        path = _one_change(before, value) if value is not None else None
        if path and group is not None and group["at"] == path:
            group["then"].append(_at(value, path))
        else:
            if group is not None:
                yield group
            group = {"at": path, "then": [_at(value, path)]} if path else None
            if group is None:
                yield {"text": event.removeprefix(START)} if value is None else {"event": value}
        before = value
    if group is not None:
        yield group


def _parsed(event: str) -> Any:
    try:
        value = json.loads(event.removeprefix(START))
    except ValueError:
        return None
    return value if isinstance(value, dict) and without_surrogates(value) == value else None


def _one_change(old: Any, new: Any) -> list[Any] | None:
    """The place of the one text that differs."""
    if isinstance(old, str) and isinstance(new, str):
        return []
    if isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        names: Sequence[Any] = list(old)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        names = range(len(old))
    else:
        return None
    changed = [name for name in names if old[name] != new[name]]
    if len(changed) != 1:
        return None
    rest = _one_change(old[changed[0]], new[changed[0]])
    return None if rest is None else [changed[0], *rest]


def _at(value: Any, path: Sequence[Any]) -> Any:
    for name in path:
        value = value[name]
    return value


def lengthened(body: Any) -> Any:
    """The response body with the stream's text; raises what malformed events raise."""
    if not isinstance(body, Mapping) or "events" not in body:
        return body
    texts: list[str] = []
    left = MOST_CHARACTERS
    for event in _texts(body["events"], _STYLES[body["style"]]):
        texts.append(START + event + END)
        left -= len(texts[-1])
        if left < 0:
            raise ValueError(f"it has more than {MOST_CHARACTERS:,} characters")
    text = "".join(texts)
    whole = {"string": text, **{name: value for name, value in body.items() if name not in ("events", "style")}}
    if whole.get("pieces") == EACH:
        whole["pieces"] = _lengths(text)
    return whole


def _texts(items: Any, style: Mapping[str, Any]) -> Iterator[str]:
    value: Any = None
    for item in items:
        if "text" in item:
            yield item["text"]
        elif "event" in item:
            value = deepcopy(item["event"])
            yield json.dumps(value, **style)
        else:
            *path, last = item["at"]
            for text in item["then"]:
                _at(value, path)[last] = text
                yield json.dumps(value, **style)
