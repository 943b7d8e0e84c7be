"""Reads a cassette's file: one YAML document that vcrpy can load too.

    version: 1                    # vcrpy's
    agentkit: {format: 3, …}      # the head: which run this is
    interactions: […]             # see `entries` and `deltas`; below each, the `events` that it led to
    end: {…, complete: true}      # missing when the recording was cut off

A file is data from strangers: its size, nesting and aliases are checked before anything is built from it. Format 2 had
no events, only how the runs ended; format 1 had no deltas of texts and no hashes either. Both are read as well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.cassette.format.deltas import is_changed, lengthen
from agentkit.cassette.format.entries import Entry, from_interaction
from agentkit.cassette.format.events import EventReader, Item, RecordedEvent
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.errors import CassetteError

VCR_VERSION = 1
FORMAT = 3
LARGEST_BYTES = 50_000_000
DEEPEST = 100
MOST_NODES = 2_000_000
_APPENDED = re.compile(r"^agentkit:\n  format: [2-9]", re.MULTILINE)  # format 1 was written whole
_WHOLE_ITEM = re.compile(r"^(?:  at_ms: \d+|    run: \d+|  - \{.*\brun: \d+\})\n", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """What a cassette file holds.

    `head` is all of `agentkit:` but the run and the versions. `begun` are calls of tools with side effects that were
    under way when the recording ended; `endings` each run's stop_reason and output, in a file of format 2. `changed`
    are the numbers of model's turns that were changed in the file, `changed_runs` of runs whose events were.
    """

    items: Sequence[Item]
    run: RunSpec | None = None
    head: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    begun: Sequence[Entry] = ()
    endings: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    changed: Sequence[int] = ()
    changed_runs: Sequence[int] = ()
    complete: bool = False
    seconds: float = 0.0

    @property
    def entries(self) -> list[Entry]:
        """The interactions."""
        return [item for item in self.items if isinstance(item, Entry)]

    @property
    def events(self) -> list[RecordedEvent]:
        """What was decided."""
        return [item for item in self.items if isinstance(item, RecordedEvent)]

    @property
    def runs(self) -> list[int]:
        """The numbers of the runs."""
        return sorted({item.run for item in self.items})


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
        return _until_torn(path.read_bytes())
    except FileNotFoundError:
        raise CassetteError(_missing(path)) from None
    except UnicodeDecodeError as error:
        raise CassetteError(f"expected UTF-8 text, saw other bytes at {error.start}; is this a cassette?") from None
    except OSError as error:
        raise CassetteError(f"cannot be read ({error.strerror})") from error


def _missing(path: Path) -> str:
    partial = partial_of(path)
    if partial != path and partial.exists():
        return f"no such cassette, but {partial.name} is there; agentkit resume {path} goes on with it"
    return "no such cassette; agentkit run --record FILE writes one"


def partial_of(path: Path) -> Path:
    """Where a recording is written until it is complete."""
    return path if _is_partial(path) else path.with_name(f"{path.stem}.partial{path.suffix}")


def finished_of(path: Path) -> Path:
    """Where a recording is, once it is complete."""
    return path.with_name(path.stem.removesuffix(".partial") + path.suffix) if _is_partial(path) else path


def _is_partial(path: Path) -> bool:
    return path.stem.endswith(".partial")


def _until_torn(content: bytes) -> str:
    """The text; of a recording that was cut off, what it holds up to its last whole entry."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        if error.start < len(content) - 3:
            raise
        text = content[: error.start].decode("utf-8")
    if not _APPENDED.search(text) or (text.endswith("\n") and re.search(r"^end:", text, re.MULTILINE)):
        return text
    head, found, entries = text.partition("\ninteractions:\n")
    ends = [match.end() for match in _WHOLE_ITEM.finditer(entries)]
    if not found or not ends:
        return f"{head}\ninteractions: []\n" if found else text
    return head + found + entries[: ends[-1]]


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
    steps = {yaml.MappingStartEvent: 1, yaml.SequenceStartEvent: 1, yaml.MappingEndEvent: -1, yaml.SequenceEndEvent: -1}
    depth = 0
    for event in events:
        depth += steps.get(type(event), 0)
        if depth > DEEPEST:
            raise CassetteError(f"expected at most {DEEPEST} levels of nesting, saw more")


def _measure(value: Any) -> None:
    """Refuse aliases that expand without bound (a value within itself, or doubled again and again)."""
    sizes: dict[int, tuple[int, int]] = {}
    opened: set[int] = set()

    def visit(item: Any) -> tuple[int, int]:
        if id(item) in opened:
            raise CassetteError("expected plain values, saw one that holds itself")
        if id(item) not in sizes:
            opened.add(id(item))
            nodes, depth = 1 + len(item), 1
            for part in item.values() if isinstance(item, dict) else item:
                if isinstance(part, dict | list):
                    its_nodes, its_depth = visit(part)
                    nodes, depth = nodes + its_nodes, max(depth, 1 + its_depth)
            opened.discard(id(item))
            if nodes > MOST_NODES or depth > DEEPEST:
                raise CassetteError("expected plain values, saw aliases that expand without bound")
            sizes[id(item)] = nodes, depth
        return sizes[id(item)]

    if isinstance(value, dict | list):
        visit(value)


def _first_line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]


def _document(value: Any) -> Document:
    if not isinstance(value, Mapping) or not isinstance(value.get("interactions"), list):
        raise CassetteError("expected a mapping with interactions; is this a cassette?")
    if value.get("version") != VCR_VERSION:
        raise CassetteError(f"expected version: {VCR_VERSION}, saw {value.get('version')!r}")
    head, end = value.get("agentkit", {}), value.get("end") or {}
    if not isinstance(head, Mapping) or not isinstance(end, Mapping):
        raise CassetteError("expected agentkit and end to be mappings")
    if head and head.get("format") not in range(1, FORMAT + 1):
        raise CassetteError(f"written in format {head.get('format')!r}, this version reads {FORMAT}; update agentkit")
    described, number = head.get("run"), head.get("format", 0)
    run = RunSpec.from_mapping(described, version=str(head.get("version", ""))) if described is not None else None
    interactions = [lengthen(item, place) for place, item in enumerate(value["interactions"], 1)]
    reader = EventReader(run.inputs if run else {}, run.given_steps if run else ())
    items = list(_items(interactions, end, reader))
    entries = [item for item in items if isinstance(item, Entry)]
    return Document(
        items=[item for item in items if not (isinstance(item, Entry) and item.begun)],
        begun=_without_result(entries),
        run=run,
        head={key: item for key, item in head.items() if key not in ("format", "version", "run")},
        format=number,
        endings=_endings(end.get("runs", [])),
        changed=[place for place, item in enumerate(interactions, 1) if is_changed(item)],
        changed_runs=reader.changed,
        complete=end.get("complete") is True or not head,
        seconds=_seconds(end.get("seconds", 0.0)),
    )


def _items(interactions: Sequence[Any], end: Mapping[str, Any], reader: EventReader) -> Iterator[Item]:
    for number, interaction in enumerate(interactions, 1):
        yield from_interaction(interaction, number)
        yield from _events(interaction.get("events"), reader, f"interaction {number}")
    yield from _events(end.get("events"), reader, "end")


def _events(values: Any, reader: EventReader, place: str) -> Iterator[RecordedEvent]:
    if not isinstance(values, list | None):
        raise CassetteError(f"{place}: expected events to be a list, saw {type(values).__name__}")
    for value in values or ():
        try:
            yield reader.read(value)
        except CassetteError as error:
            raise CassetteError(f"{place}: {error}") from None


def _endings(values: Any) -> dict[int, Mapping[str, Any]]:
    if not isinstance(values, list) or not all(isinstance(value, Mapping) for value in values):
        raise CassetteError("expected end.runs to be a list of mappings; record it again")
    return {value.get("run", place): value for place, value in enumerate(values, 1)}


def _without_result(entries: Sequence[Entry]) -> list[Entry]:
    """Calls that began and did not end."""
    left: list[Entry] = []
    for entry in entries:
        if entry.begun:
            left.append(entry)
        elif entry.kind == "tool":
            same = [one for one in left if (one.run, one.uri, one.body) == (entry.run, entry.uri, entry.body)]
            if same:
                left.remove(same[0])
    return left


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CassetteError(f"expected end.seconds to be a number, saw {type(value).__name__}")
    return float(value)
