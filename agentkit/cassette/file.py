"""A cassette as a file: one YAML document that vcrpy can load too.

    version: 1                    # vcrpy's
    agentkit: {format: 1, …}      # the head: which run this is
    interactions: […]             # see `entries`
    end: {complete: true, …}      # missing when the recording was cut off

A file is data from strangers: its size, nesting and aliases are checked before anything is built from it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.cassette.entries import Entry, from_interaction
from agentkit.cassette.run_spec import RunSpec
from agentkit.cassette.yaml_text import Alias, Anchored, to_yaml
from agentkit.errors import CassetteError

VCR_VERSION = 1
FORMAT = 1
LARGEST_BYTES = 50_000_000
DEEPEST = 100
MOST_NODES = 2_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a cassette file holds. `head` is all of `agentkit:` but the run and the versions."""

    entries: Sequence[Entry]
    run: RunSpec | None = None
    head: Mapping[str, Any] = field(default_factory=dict)
    complete: bool = False
    seconds: float = 0.0


def load(path: Path) -> Document:
    """Read a cassette; raises `CassetteError` for whatever is no cassette."""
    try:
        return _document(_parse(_text(path)))
    except CassetteError as error:
        raise CassetteError(f"{path}: {error}") from error.__cause__


def _text(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_BYTES:
            raise CassetteError(f"expected a cassette of at most {LARGEST_BYTES // 1_000_000} MB, saw a larger file")
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        raise CassetteError("no such cassette; agentkit run --record FILE writes one") from None
    except UnicodeDecodeError as error:
        raise CassetteError(f"expected UTF-8 text, saw other bytes at {error.start}; is this a cassette?") from None
    except OSError as error:
        raise CassetteError(f"cannot be read ({error.strerror})") from error


def _parse(text: str) -> Any:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        _check_depth(yaml.parse(text, Loader=loader), yaml)
        value = yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise CassetteError(f"expected YAML of plain values ({_first_line(error)})") from None
    except (ValueError, OverflowError, TypeError, RecursionError) as error:  # a date of month 13, an endless number
        raise CassetteError(f"expected YAML of plain values ({_first_line(error)})") from None
    _measure(value)
    return value


def _check_depth(events: Any, yaml: Any) -> None:
    """Refuse deep nesting from the flat stream of events: building it would overflow the C stack."""
    depth = 0
    for event in events:
        if isinstance(event, yaml.events.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.events.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise CassetteError(f"expected at most {DEEPEST} levels of nesting, saw more")


def _measure(value: Any) -> None:
    """Refuse aliases that expand without bound (a value within itself, or doubled again and again)."""
    sizes: dict[int, tuple[int, int]] = {}
    opened: set[int] = set()

    def visit(item: Any) -> tuple[int, int]:
        if not isinstance(item, dict | list):
            return 1, 1
        if id(item) in opened:
            raise CassetteError("expected plain values, saw one that holds itself")
        if id(item) not in sizes:
            opened.add(id(item))
            parts = [visit(part) for part in (item.values() if isinstance(item, dict) else item)]
            opened.discard(id(item))
            nodes, depth = 1 + sum(part[0] for part in parts), 1 + max((part[1] for part in parts), default=0)
            if nodes > MOST_NODES or depth > DEEPEST:
                raise CassetteError("expected plain values, saw aliases that expand without bound")
            sizes[id(item)] = nodes, depth
        return sizes[id(item)]

    visit(value)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _document(value: Any) -> Document:
    if not isinstance(value, Mapping) or not isinstance(value.get("interactions"), list):
        raise CassetteError("expected a mapping with interactions; is this a cassette?")
    if value.get("version") != VCR_VERSION:
        raise CassetteError(f"expected version: {VCR_VERSION}, saw {value.get('version')!r}")
    head, end = value.get("agentkit", {}), value.get("end", {})
    if not isinstance(head, Mapping) or not isinstance(end, Mapping):
        raise CassetteError("expected agentkit and end to be mappings")
    if head and head.get("format") not in range(1, FORMAT + 1):
        raise CassetteError(f"written in format {head.get('format')!r}, this version reads {FORMAT}; update agentkit")
    run = head.get("run")
    return Document(
        entries=[from_interaction(item, number) for number, item in enumerate(value["interactions"], 1)],
        run=RunSpec.from_mapping(run, version=str(head.get("version", ""))) if run is not None else None,
        head={key: item for key, item in head.items() if key not in ("format", "version", "run")},
        complete=end.get("complete") is True or not head,
        seconds=_seconds(end.get("seconds", 0.0)),
    )


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CassetteError(f"expected end.seconds to be a number, saw {type(value).__name__}")
    return float(value)


def render(document: Document) -> str:
    """The file's text."""
    from agentkit import __version__

    head: dict[str, Any] = {"format": FORMAT, "version": __version__, **document.head}
    if document.run is not None:
        head["run"] = document.run.to_mapping()
    end = {"complete": document.complete, "seconds": round(document.seconds, 3)}
    return to_yaml(
        {"version": VCR_VERSION, "agentkit": head, "interactions": _interactions(document.entries), "end": end}
    )


def _interactions(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Chat messages that come again at the next turn stand in the file once, aliases after that."""
    names: dict[str, str] = {}
    interactions = []
    for entry in entries:
        interaction = entry.to_interaction()
        if entry.kind == "turn" and isinstance(messages := entry.body.get("messages"), list):
            shared = [_shared(message, names) for message in messages]
            interaction["request"]["body"] = {**entry.body, "messages": shared}
        interactions.append(interaction)
    return interactions


def _shared(message: Any, names: dict[str, str]) -> Any:
    key = json.dumps(message, sort_keys=True, default=str)
    if key in names:
        return Alias(names[key])
    names[key] = f"m{len(names) + 1}"
    return Anchored(names[key], message)


def save(path: Path, text: str) -> None:
    """Write all of it or nothing: what was there stays until the new file is complete."""
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CassetteError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
