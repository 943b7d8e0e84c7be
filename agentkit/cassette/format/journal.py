"""Writes a recording while it happens: each entry is in the file before the run goes on.

Until the recording is complete it stands in `NAME.partial.yaml`; what `NAME.yaml` holds stays until then. A process
that dies leaves a partial file that can be read up to its last whole entry. Before a tool starts that must not run
twice, all is forced to the disk, so that a machine that dies leaves it too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from agentkit.cassette.format.deltas import Deltas
from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.file import finished_of, partial_of
from agentkit.cassette.format.render import entry_text, interactions_text, save
from agentkit.errors import CassetteError


class Journal:
    """The file of one recording. Not for several threads at once.

    `check` is given every text before it is written, and may raise.
    """

    def __init__(self, path: Path, check: Callable[[str], None]) -> None:
        self._check = check
        self.path = finished_of(path)
        self.partial = partial_of(path)
        self._head: str | None = None
        self._deltas = Deltas()
        self._check_place()

    def _check_place(self) -> None:
        """Fail before the run, not after it."""
        if self.path.is_dir():
            raise CassetteError(f"{self.path}: expected a file for the cassette, saw a folder; name a file in it")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CassetteError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error

    def add(self, head: str, entries: Sequence[Entry]) -> None:
        """Write the last of the entries; all of them, where the head is a new one."""
        if head != self._head:
            self._write_all(head, entries)
        else:
            self._append(entry_text(entries[-1], self._deltas), force=entries[-1].begun)

    def _write_all(self, head: str, entries: Sequence[Entry]) -> None:
        self._deltas = Deltas()
        text = head + interactions_text("".join(entry_text(entry, self._deltas) for entry in entries))
        self._check(text)
        save(self.partial, text)
        self._head = head

    def written(self) -> str:
        """What stands in the partial file."""
        return self.partial.read_text(encoding="utf-8") if self._head is not None else ""

    def end(self, text: str) -> None:
        """Say how far a recording came that ends here, incomplete."""
        if self._head is not None:
            self._append(text)

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

    def finish(self, text: str) -> None:
        """The complete recording takes the place of the one before."""
        self._check(text)
        save(self.path, text)
        self.remove()

    def remove(self) -> None:
        """Leave no partial file."""
        self.partial.unlink(missing_ok=True)
