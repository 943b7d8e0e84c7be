"""Writes a cassette, whole or while it happens: each interaction and each event is in the file before the run goes on.

Until a recording is complete it stands in `NAME.partial.yaml`; what `NAME.yaml` holds stays until then. A process that
dies leaves a partial file that can be read up to its last whole item. Before a tool starts that must not run twice, all
is forced to the disk, so that a machine that dies leaves it too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentkit import __version__
from agentkit.cassette.format.deltas import Deltas
from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.events import Item, RecordedEvent, as_mapping, digest_of
from agentkit.cassette.format.file import FORMAT, VCR_VERSION, Document
from agentkit.cassette.format.place import Place, save
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.format.yaml_text import to_yaml
from agentkit.core.native_planner import in_dialect
from agentkit.errors import CassetteError
from agentkit.events import RunStarted


def render(document: Document) -> str:
    """The file's text."""
    texts = ItemTexts(document.run)
    items = "".join(map(texts.of, document.items))
    end = texts.end(seconds=document.seconds, complete=document.complete)
    return head_text(document.run, document.head) + (f"interactions:\n{items}" if items else "interactions: []\n") + end


def head_text(run: RunSpec | None, head: Mapping[str, Any]) -> str:
    """The file up to its interactions."""
    values: dict[str, Any] = {"format": FORMAT, "version": __version__, **head}
    if run is not None:
        values["run"] = run.to_mapping()
    return to_yaml({"version": VCR_VERSION, "agentkit": values})


class ItemTexts:
    """The texts of a file's items, in their order. Events before any interaction stand at its end."""

    def __init__(self, run: RunSpec | None) -> None:
        self._described = None if run is None else as_mapping(RunStarted(dict(run.inputs)))
        self._deltas = Deltas()
        self._runs: dict[int, list[Mapping[str, Any]]] = {}
        self._homeless: list[dict[str, Any]] = []
        self._holds_interactions = self._below_events = False

    def of(self, item: Item) -> str:
        """One item's text; "" for an event before any interaction."""
        if isinstance(item, Entry):
            self._holds_interactions, self._below_events = True, False
            return to_yaml({"": [self._deltas.shorten(item.to_interaction())]}).removeprefix('"":\n')
        event = self._event(item)
        if not self._holds_interactions:
            self._homeless.append(event)
            return ""
        opening, self._below_events = "" if self._below_events else "  events:\n", True
        lines = to_yaml({"": [event]}).removeprefix('"":\n').split("\n")
        return opening + "\n".join(f"  {line}" if line else "" for line in lines)

    def _event(self, item: RecordedEvent) -> dict[str, Any]:
        whole = as_mapping(item.event) if item.values is None else item.values
        of_run = self._runs.setdefault(item.run, [])
        of_run.append(whole)
        values = dict(whole)
        if whole == self._described:
            values["started"] = None
        if (called := values.get("called")) is not None:
            follows = in_dialect(called.get("text", ""), values["action"], values["input"])
            values = {name: value for name, value in values.items() if (name, value) != ("log", follows)}
        if "finished" in values:
            values["sha256"] = digest_of(of_run)
        return {**self._deltas.shorten_event(values), "run": item.run}

    def end(self, *, seconds: float, complete: bool) -> str:
        """The file after its interactions; `complete` comes last, when all else is there."""
        events = {"events": self._homeless} if self._homeless else {}
        return to_yaml({"end": {"seconds": round(seconds, 3), **events, "complete": complete}})


class Journal:
    """The file of one recording. Not for several threads at once.

    `check` is given every text before it is written, and may raise.
    """

    def __init__(self, place: Place, check: Callable[[str], None]) -> None:
        self._check = check
        self.path = place.path
        self.partial = place.partial
        self._head: Mapping[str, Any] | None = None
        self._is_stale = self._holds_begun = False
        self._texts = ItemTexts(None)

    def add(self, run: RunSpec | None, head: Mapping[str, Any], items: Sequence[Item]) -> None:
        """Write the last of the items; all of them, where the head is a new one."""
        goes_on = head == self._head and not self._is_stale
        is_begun = any(isinstance(item, Entry) and item.begun for item in (items[-1:] if goes_on else items))
        self._holds_begun = self._holds_begun or is_begun
        if goes_on:
            self._append(self._texts.of(items[-1]), force=is_begun)
            return
        self._texts = ItemTexts(run)
        whole = f"{head_text(run, head)}interactions:\n{''.join(map(self._texts.of, items))}"
        self._check(whole)
        save(self.partial, whole)
        self._head, self._is_stale = head, False

    def rewrite(self) -> None:
        """The next item is written with all those before it, among which one was put."""
        self._is_stale = True

    def written(self) -> str:
        """What stands in the partial file."""
        return self.partial.read_text(encoding="utf-8") if self._head is not None else ""

    def stop(self, seconds: float) -> None:
        """Say how far a recording came that ends here, incomplete."""
        if self._head is not None:
            self._append(self._texts.end(seconds=seconds, complete=False))

    def _append(self, text: str, *, force: bool = False) -> None:
        self._check(text)
        try:
            with self.partial.open("a", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                if force:
                    os.fsync(file.fileno())
        except OSError as error:
            raise CassetteError(
                f"{self.partial}: cannot be written ({error.strerror}); make room and resume"
            ) from error

    def finish(self, document: Document) -> None:
        """The complete recording takes the place of the one before."""
        if document.head == self._head and not self._is_stale and not self._holds_begun:
            end = self._texts.end(seconds=document.seconds, complete=True)
            self._check(end)
            text = self.written() + end
        else:
            text = render(document)
            self._check(text)
        save(self.path, text)
        self.remove()

    def remove(self) -> None:
        """Leave no partial file."""
        self.partial.unlink(missing_ok=True)
