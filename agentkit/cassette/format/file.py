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
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentkit.cassette.format.deltas import digest, is_changed, lengthen
from agentkit.cassette.format.entries import Entry, from_interaction
from agentkit.cassette.format.events import EventReader, Item, RecordedEvent
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.errors import CassetteError, in_one_line

VCR_VERSION = 1
FORMAT = 3
LARGEST_BYTES = 50_000_000
DEEPEST = 100
MOST_NODES = 300_000  # values that stand in the file
MOST_EXPANDED_NODES, MOST_EXPANDED_CHARACTERS = 2_000_000, 200_000_000  # with each alias written out
LONGEST_NUMBER = 40
_NUMERIC = dict.fromkeys(map(ord, "+-.0123456789_:xabcdefABCDEF"))
STRETCH = {"of", "from", "to"}
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
        mode = path.stat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISFIFO(mode):  # a device may never end
            raise CassetteError("cannot be read (it is no file); name a cassette")
        with path.open("rb") as file:
            content = file.read(LARGEST_BYTES + 1)
        if len(content) > LARGEST_BYTES:
            raise CassetteError(f"expected a cassette of at most {LARGEST_BYTES // 1_000_000} MB, saw a larger file")
        return _until_torn(content)
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
        return _Builder(yaml).built(yaml.parse(text, Loader=loader))
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # no YAML, a date of month 13
        raise CassetteError(f"expected YAML of plain values ({in_one_line(error, 160)}); is this a cassette?") from None


@dataclass(slots=True)
class _Open:
    """A collection that is being read, and how much it is with its aliases written out."""

    value: Any
    anchor: str | None
    key: str | None = None
    nodes: int = 1
    characters: int = 0
    depth: int = 1

    def add(self, value: Any, nodes: int, characters: int, depth: int) -> None:
        if isinstance(self.value, list):
            self.value.append(value)
        elif self.key is None:
            if not isinstance(value, str):
                raise CassetteError(f"expected the keys of mappings to be text, saw {type(value).__name__}; quote it")
            if value in self.value:
                raise CassetteError(f"expected each key of a mapping once, saw {value[:40]!r} twice")
            self.key = value
        else:
            self.value[self.key], self.key = value, None
        self.nodes += nodes
        self.characters += characters
        self.depth = max(self.depth, depth + 1)
        if self.nodes > MOST_EXPANDED_NODES or self.characters > MOST_EXPANDED_CHARACTERS or self.depth > DEEPEST:
            raise CassetteError("expected plain values, saw aliases that expand without bound")


class _Builder:
    """Makes a document's value from the flat stream of events, and counts meanwhile.

    The library's own way nests calls, merges mappings (`<<`) again for each alias, and reads numbers of any length; it
    also takes ten times as long.
    """

    def __init__(self, yaml: Any) -> None:
        self._yaml = yaml
        self._scalars = yaml.SafeLoader("")
        self._plain: dict[str, Any] = {}
        self._anchors: dict[str, tuple[Any, int, int, int] | None] = {}  # value, nodes, characters, depth
        self._open: list[_Open] = []
        self._nodes = 0

    def built(self, events: Iterable[Any]) -> Any:
        yaml, whole, documents = self._yaml, _Open([], None), 0
        self._open.append(whole)
        for event in events:
            kind = type(event)
            if kind is yaml.ScalarEvent:
                self._add(event.anchor, self._scalar(event))
            elif kind is yaml.AliasEvent:
                self._add_alias(event.anchor)
            elif kind is yaml.MappingStartEvent or kind is yaml.SequenceStartEvent:
                self._begin(event, {} if kind is yaml.MappingStartEvent else [])
            elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
                self._end()
            elif kind is yaml.DocumentStartEvent:
                documents += 1
                if documents > 1:
                    raise ValueError("expected a single document")
        return whole.value[0] if whole.value else None

    def _count(self) -> None:
        self._nodes += 1
        if self._nodes > MOST_NODES:
            raise CassetteError(f"expected at most {MOST_NODES:,} values, saw more")

    def _add(self, anchor: str | None, value: Any) -> None:
        self._count()
        characters = len(value) if isinstance(value, str | bytes) else 0
        if anchor is not None:
            self._anchors[anchor] = value, 1, characters, 0
        self._open[-1].add(value, 1, characters, 0)

    def _add_alias(self, anchor: str) -> None:
        self._count()
        if anchor not in self._anchors:
            raise ValueError(f"found undefined alias {anchor[:40]!r}")
        known = self._anchors[anchor]
        if known is None:
            raise CassetteError("expected plain values, saw one that holds itself")
        self._open[-1].add(*known)

    def _begin(self, event: Any, value: Any) -> None:
        self._count()
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise ValueError(f"could not determine a constructor for the tag {event.tag[:80]!r}")
        if len(self._open) > DEEPEST:
            raise CassetteError(f"expected at most {DEEPEST} levels of nesting, saw more")
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        self._open.append(_Open(value, event.anchor))

    def _end(self) -> None:
        done = self._open.pop()
        if isinstance(done.value, dict) and done.value.keys() == STRETCH:
            start, end = done.value["from"], done.value["to"]
            if isinstance(start, int) and isinstance(end, int):
                done.characters = min(done.characters, max(0, end - start))
        counted = done.value, done.nodes, done.characters, done.depth
        if done.anchor is not None:
            self._anchors[done.anchor] = counted
        self._open[-1].add(*counted)

    def _scalar(self, event: Any) -> Any:
        text = event.value
        if event.tag is None and not event.implicit[0]:
            return text
        if event.tag is None and len(text) > LONGEST_NUMBER:
            if text[0] in "+-.0123456789" and not text.translate(_NUMERIC):
                raise ValueError(f"a number of {len(text):,} digits")
            return text
        if event.tag is None and text in self._plain:
            return self._plain[text]
        node = self._yaml.ScalarNode
        tag = event.tag or self._scalars.resolve(node, text, (True, False))
        kind = tag.removeprefix("tag:yaml.org,2002:")
        if kind in ("str", "!", "value"):
            return text
        if kind == "merge":
            raise ValueError("merge keys (<<) are not read")
        if kind in ("int", "float") and len(text) > LONGEST_NUMBER:
            raise ValueError(f"a number of {len(text):,} digits")
        if kind not in ("null", "bool", "int", "float", "binary", "timestamp"):
            raise ValueError(f"could not determine a constructor for the tag {tag[:80]!r}")
        try:
            value = self._scalars.yaml_constructors[tag](self._scalars, node(tag, text))
        except (KeyError, IndexError, AttributeError) as error:  # `!!bool maybe`, `!!int ""`
            raise ValueError(f"{text[:40]!r} is no {kind}") from error
        if kind == "timestamp":
            value = text
        if event.tag is None:
            self._plain[text] = value
        return value


def _document(value: Any) -> Document:
    if not isinstance(value, Mapping) or not isinstance(value.get("interactions"), list):
        raise CassetteError("expected a mapping with interactions; is this a cassette?")
    if value.get("version") != VCR_VERSION:
        raise CassetteError(f"expected version: {VCR_VERSION}, saw {value.get('version')!r}")
    head, end = value.get("agentkit", {}), value.get("end") or {}
    if not isinstance(head, Mapping) or not isinstance(end, Mapping):
        raise CassetteError("expected agentkit and end to be mappings")
    if head and (isinstance(head.get("format"), bool) or head.get("format") not in range(1, FORMAT + 1)):
        raise CassetteError(f"written in format {head.get('format')!r}, this version reads {FORMAT}; update agentkit")
    described, number = head.get("run"), head.get("format", 0)
    run = RunSpec.from_mapping(described, version=str(head.get("version", ""))) if described is not None else None
    interactions = list(_lengthened(value["interactions"]))
    reader = EventReader(run.inputs if run else {}, run.given_steps if run else ())
    items = list(_items(interactions, end, reader))
    entries = [item for item in items if isinstance(item, Entry)]
    return Document(
        items=[item for item in items if not (isinstance(item, Entry) and item.begun)],
        begun=without_result(entries),
        run=run,
        head={key: item for key, item in head.items() if key not in ("format", "version", "run")},
        format=number,
        endings=_endings(end.get("runs", [])),
        changed=[place for place, item in enumerate(interactions, 1) if is_changed(item)],
        changed_runs=reader.changed,
        complete=end.get("complete") is True or not head,
        seconds=_seconds(end.get("seconds", 0.0)),
    )


def _lengthened(interactions: Sequence[Any]) -> Iterator[Any]:
    """The interactions with their texts whole."""
    characters = 0
    for place, item in enumerate(interactions, 1):
        whole = lengthen(item, place)
        response = whole.get("response") if isinstance(whole, Mapping) else None
        body = response.get("body") if isinstance(response, Mapping) else None
        text = body.get("string") if isinstance(body, Mapping) else None
        characters += len(text) if isinstance(text, str) else 0
        if characters > MOST_EXPANDED_CHARACTERS:
            raise CassetteError(
                f"interaction {place}: expected streams of events as they were recorded, saw endless ones"
            )
        yield whole


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
    if not all(isinstance(value.get("run", 1), int) for value in values):
        raise CassetteError("expected the numbers of end.runs to be whole; record it again")
    return {value.get("run", place): value for place, value in enumerate(values, 1)}


def without_result(entries: Iterable[Entry]) -> list[Entry]:
    """Calls that began and did not end."""
    left: dict[tuple[int, str, str], list[Entry]] = {}
    for entry in entries:
        if entry.kind == "tool":
            same = left.setdefault((entry.run, entry.uri, digest(entry.body)), [])
            if entry.begun:
                same.append(entry)
            elif same:
                same.pop(0)
    return sorted((entry for same in left.values() for entry in same), key=lambda entry: entry.number)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise CassetteError(f"expected end.seconds to be a number, saw {type(value).__name__}")
    return float(value)
