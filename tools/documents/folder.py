"""The files of a folder: their paths, sizes and times."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

NOT_ENTERED = frozenset({"node_modules", "__pycache__", "site-packages"})


@dataclass(frozen=True, slots=True)
class File:
    """A file below a folder; `path` has forward slashes."""

    path: str
    size: int
    mtime_ns: int


def files_in(folder: Path) -> Iterator[File]:
    """Every file below the folder, whatever its kind.

    Hidden ones and what package managers install are left out. Links are followed, but no folder is entered twice.
    What cannot be listed, and names that are not UTF-8, are passed over.
    """
    entered: set[tuple[int, int]] = set()
    waiting = [(folder, "")]
    while waiting:
        here, prefix = waiting.pop()
        try:
            status = here.stat()
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            with os.scandir(here) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in found:
            if entry.name.startswith(".") or not _is_utf8(entry.name):
                continue
            path = prefix + entry.name
            try:
                if entry.is_dir():
                    if entry.name not in NOT_ENTERED:
                        waiting.append((Path(entry.path), path + "/"))
                elif entry.is_file():
                    status = entry.stat()
                    yield File(path, status.st_size, status.st_mtime_ns)
            except OSError:  # gone since, or a link to itself
                continue


def _is_utf8(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
