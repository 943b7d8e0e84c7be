"""What of a recording a resumed run can go on from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.file import Document
from agentkit.core.loop import CLOSING_NOTE

_CLOSING = CLOSING_NOTE.strip().partition("`")[0]  # the words in it that a prompt may not defuse


def without_loose_ends(document: Document) -> Document:
    """The recording up to where it was cut off, less a reply that was broken off and a turn that closed the run."""
    entries = list(document.entries)
    for run in {entry.run for entry in entries}:
        places = [place for place, entry in enumerate(entries) if entry.run == run]
        if places and _is_loose(entries[places[-1]]):
            del entries[places[-1]]
    return replace(document, entries=entries, outcomes={}, complete=False)


def _is_loose(entry: Entry) -> bool:
    return entry.response.get("closed") is True or (entry.asks_a_model and _was_asked_to_close(entry))


def _was_asked_to_close(entry: Entry) -> bool:
    messages = entry.body.get("messages")
    last = messages[-1] if isinstance(messages, Sequence) and messages else None
    return _CLOSING in str(last.get("content") if isinstance(last, dict) else "")
