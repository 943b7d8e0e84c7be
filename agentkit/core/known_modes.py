"""Which models call tools in their own syntax, as far as is known: a small file in the user's cache folder."""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

from agentkit.events import Mode

FORGET_AFTER_S = 30 * 24 * 3600  # servers are updated


class KnownModes:
    """What was found out per model. A file that cannot be read or written is as good as none."""

    def __init__(self, *, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.time) -> None:
        home = environment.get("XDG_CACHE_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".cache"
        self.path = Path(home) / "agentkit" / "modes.json"
        self._clock = clock
        self._lock = threading.Lock()

    def get(self, model: str) -> Mode | None:
        """The model's mode, if it was found out not too long ago."""
        entry = self._read().get(model)
        mode: Mode | None = entry["mode"] if entry is not None else None
        return mode

    def put(self, model: str, mode: Mode) -> None:
        """Remember the model's mode."""
        with self._lock, suppress(OSError):
            self._write({**self._read(), model: {"mode": mode, "found": int(self._clock())}})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            return {model: entry for model, entry in entries.items() if self._counts(entry)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def _counts(self, entry: Any) -> bool:
        if not isinstance(entry, dict) or entry.get("mode") not in get_args(Mode):
            return False
        found = entry.get("found")
        return isinstance(found, int | float) and 0 <= self._clock() - found < FORGET_AFTER_S

    def _write(self, entries: Mapping[str, Any]) -> None:
        """Replace the file as a whole: another process may be reading it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".modes")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file, indent=1, sort_keys=True)
            os.replace(name, self.path)
        except OSError:
            os.unlink(name)
            raise
