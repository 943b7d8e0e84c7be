"""Says how a run differs from its recording: which step, which field, the words that changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentkit.cassette.format.yaml_text import to_yaml
from agentkit.errors import CassetteDrift, in_one_line

SHOWN_CHARS = 60
BEFORE_CHARS = 24


class Drift(CassetteDrift):
    """A `CassetteDrift` with a longer, many-lined account in `details`."""

    details = ""


class NetworkBlocked(Drift, ConnectionError):
    """The replayed run tried to open a connection. A ConnectionError, as the libraries in between expect."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The first field in which two values differ, and the words around the place."""

    field: str
    recorded: str
    seen: str

    def __str__(self) -> str:
        return f"{self.field} changed: recorded {self.recorded}, this run {self.seen}"


def difference(recorded: Any, seen: Any, field: str = "") -> Difference | None:
    """The first difference, or `None`."""
    if isinstance(recorded, Mapping) and isinstance(seen, Mapping):
        return _in_mapping(recorded, seen, field)
    if isinstance(recorded, list | tuple) and isinstance(seen, list | tuple):
        return _in_list(recorded, seen, field)
    if recorded == seen:
        return None
    if isinstance(recorded, str) and isinstance(seen, str):
        return Difference(field or "text", *_excerpts(recorded, seen))
    return Difference(field or "value", _short(recorded), _short(seen))


def _in_mapping(recorded: Mapping[str, Any], seen: Mapping[str, Any], field: str) -> Difference | None:
    for key in [*recorded, *(key for key in seen if key not in recorded)]:
        name = f"{field}.{key}" if field else str(key)
        if key not in seen or key not in recorded:
            return Difference(name, _short(recorded.get(key)), _short(seen.get(key)))
        if found := difference(recorded[key], seen[key], name):
            return found
    return None


def _in_list(recorded: Any, seen: Any, field: str) -> Difference | None:
    for index, (old, new) in enumerate(zip(recorded, seen, strict=False)):
        if found := difference(old, new, f"{field}[{index}]"):
            return found
    if len(recorded) != len(seen):
        return Difference(field or "items", f"{len(recorded)} of them", f"{len(seen)}")
    return None


def _excerpts(recorded: str, seen: str) -> tuple[str, str]:
    """The same place of both texts: a few words before the first difference, and what follows there."""
    pairs = enumerate(zip(recorded, seen, strict=False))
    place = next((i for i, (a, b) in pairs if a != b), min(len(recorded), len(seen)))
    start = max(0, place - BEFORE_CHARS)
    if start and (space := recorded.find(" ", start, place)) >= 0:
        start = space + 1
    return _excerpt(recorded, start), _excerpt(seen, start)


def _excerpt(text: str, start: int) -> str:
    end = start + SHOWN_CHARS
    shown = " ".join(text[start:end].split())
    return repr(("…" if start else "") + shown + ("…" if end < len(text) else ""))


def _short(value: Any) -> str:
    return "nothing" if value is None else repr(in_one_line(value, SHOWN_CHARS))


def diff_lines(recorded: Any, seen: Any) -> str:
    """Both values as a reviewer reads them, line by line."""
    import difflib

    lines = difflib.unified_diff(_lines(recorded), _lines(seen), "recorded", "this run", n=2, lineterm="")
    return "\n".join(lines)


def _lines(value: Any) -> list[str]:
    if isinstance(value, str):
        return value.splitlines()
    try:
        return to_yaml(value if isinstance(value, Mapping) else {"value": value}).splitlines()
    except TypeError:
        return str(value).splitlines()
