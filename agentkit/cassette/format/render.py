"""Writes a cassette's text, whole or entry by entry; see `file` for what it holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentkit.cassette.format.deltas import Deltas
from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.file import FORMAT, VCR_VERSION, Document
from agentkit.cassette.format.outcome import Outcome
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.format.yaml_text import to_yaml
from agentkit.errors import CassetteError


def render(document: Document) -> str:
    """The file's text."""
    deltas = Deltas()
    entries = "".join(entry_text(entry, deltas) for entry in document.entries)
    end = end_text(outcomes=document.outcomes, seconds=document.seconds, complete=document.complete)
    return head_text(document.run, document.head) + interactions_text(entries) + end


def head_text(run: RunSpec | None, head: Mapping[str, Any]) -> str:
    """The file up to its interactions."""
    from agentkit import __version__

    values: dict[str, Any] = {"format": FORMAT, "version": __version__, **head}
    if run is not None:
        values["run"] = run.to_mapping()
    return to_yaml({"version": VCR_VERSION, "agentkit": values})


def interactions_text(entries: str) -> str:
    """The list of the entries' texts."""
    return f"interactions:\n{entries}" if entries else "interactions: []\n"


def entry_text(entry: Entry, deltas: Deltas) -> str:
    """One item of the list; `deltas` has seen those before it."""
    return to_yaml({"interactions": [deltas.shorten(entry.to_interaction())]}).removeprefix("interactions:\n")


def end_text(*, outcomes: Mapping[int, Outcome], seconds: float, complete: bool) -> str:
    """The file after its interactions; `complete` comes last, when all else is there."""
    runs = [{**({"run": n} if n != 1 else {}), **outcomes[n].to_mapping()} for n in sorted(outcomes)]
    end = {"seconds": round(seconds, 3), **({"runs": runs} if runs else {}), "complete": complete}
    return to_yaml({"end": end})


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
