"""What llama.cpp computed of the beginning that a model's prompts have, kept in the user's cache for later use.

Without it, every process and every slot computes the system text anew: the most of the time to the first token of a
short run.  Kept are the beginning of a process's first prompt and those that come again.  A file holds the keys and
values of that text and its tokens, as llama.cpp writes them; its name says for what model, adapters and text they are,
and what the file itself must hold: one that was damaged is not read.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import threading
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from agentkit.models.gguf.vocabulary import Piece
from agentkit.user_files import is_users_alone, user_folder

FEWEST_CHARACTERS = 400  # that are worth a file
MOST_BYTES = 512 * 2**20  # of all files
LAST_ONES = 64  # names by which one is known again
STALLED_S = 5.0  # a computation that nobody reads on is not waited for
WAIT_S = 0.05  # at a time, so that giving up is noticed


def beginning_of(prompt: Sequence[Piece], content: str) -> list[Piece]:
    """The pieces of a prompt before the content of the first message that is not the system's."""
    for at, piece in enumerate(prompt):
        if isinstance(piece, str) and content and content in piece:
            return [*prompt[:at], *filter(None, [piece[: piece.index(content)]])]
    return []


def characters(pieces: Sequence[Piece]) -> int:
    """How long pieces are; a token counts as one character."""
    return sum(len(piece) if isinstance(piece, str) else 1 for piece in pieces)


class Beginnings:
    """The files of one model, by what computes: `identity` is everything that the numbers depend on."""

    def __init__(self, engine: Any, identity: Sequence[Any]) -> None:
        self._engine = engine
        self._identity = identity
        self._folder = folder()
        self._names: deque[str] = deque(maxlen=LAST_ONES)
        self._computing: dict[str, float] = {}  # when it last went on
        self._one_at_a_time = threading.Lock()

    def bring(
        self, beginning: Sequence[Piece], prompt: Any, slot: int, body: Mapping[str, Any]
    ) -> Generator[dict[str, Any], None, int]:
        """Have a slot hold the beginning: read from its file, else computed and written where that may pay.

        Gives llama.cpp's answers while it computes; returns how many tokens it computed. `prompt` is the beginning as
        llama.cpp takes it, and `body` what every reply is asked with. Slots that need the same at the same time wait
        for the first.
        """
        text = json.dumps([*self._identity, body.get("lora"), list(beginning)])
        name = hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:32]
        tokens = 0
        with suppress(OSError):  # the reply computes it
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not is_users_alone(self._folder.stat()):
                return 0
            comes_again = self._comes_again(name)
            yield from self._claim(name)
            try:
                if (file := self._found(name)) is not None:
                    if body.get("lora"):  # a slot drops what it holds where the adapters change
                        yield from self._compute("x", slot, body, name)
                    self._file("restore", slot, file.name)
                    os.utime(file)
                elif comes_again:
                    tokens = yield from self._compute(prompt, slot, body, name)
                    self._write(name, slot)
            finally:
                self._computing.pop(name, None)
        return tokens

    def _comes_again(self, name: str) -> bool:
        """Whether it did, or may: the first of all."""
        found = not self._names or name in self._names
        self._names.append(name)
        return found

    def _claim(self, name: str) -> Iterator[dict[str, Any]]:
        """Be the only one who looks for it and computes it, from the end of this on."""
        while True:
            with self._one_at_a_time:
                if time.monotonic() - self._computing.get(name, -STALLED_S) >= STALLED_S:
                    self._computing[name] = time.monotonic()
                    return
            yield {}
            time.sleep(WAIT_S)

    def _compute(
        self, prompt: Any, slot: int, body: Mapping[str, Any], name: str
    ) -> Generator[dict[str, Any], None, int]:
        """Compute a prompt in a slot; returns how many tokens it has."""
        asked, tokens = {**body, "prompt": prompt, "n_predict": 0, "id_slot": slot, "cache_prompt": True}, 0
        with closing(self._engine.stream(asked)) as answers:
            for answer in answers:
                self._computing[name] = time.monotonic()
                tokens = (answer.get("prompt_progress") or {}).get("total", tokens)
                yield answer
        return tokens

    def _file(self, action: str, slot: int, name: str) -> Any:
        return self._engine.ask(f"/slots/{slot}?action={action}", {"filename": name})

    def _found(self, name: str) -> Path | None:
        """The whole file of that name, written by this user."""
        for file in self._folder.glob(f"{name}-*.kv"):
            if is_users_alone(file.stat()):
                with file.open("rb") as opened:
                    digest = hashlib.file_digest(opened, "sha256").hexdigest()
                if file.stem == f"{name}-{digest[:32]}":
                    return file
            file.unlink()
        return None

    def _write(self, name: str, slot: int) -> None:
        new = self._folder / f"{name}.{secrets.token_hex(8)}.new"
        try:
            written = self._file("save", slot, new.name).get("n_written")
            if new.stat().st_size != written:  # the disk is full, which llama.cpp does not notice
                return
            new.chmod(0o600)
            with new.open("rb") as opened:
                digest = hashlib.file_digest(opened, "sha256").hexdigest()
            new.replace(self._folder / f"{name}-{digest[:32]}.kv")
        finally:
            new.unlink(missing_ok=True)
        _prune(self._folder)


def folder() -> Path:
    """Where the files lie."""
    return user_folder("cache", os.environ) / "gguf" / "beginnings"


def _prune(folder: Path) -> None:
    """Remove those that were not used for longest, so that the others have room."""
    seen = sorted(((file.stat(), file) for file in folder.iterdir()), key=lambda each: -each[0].st_mtime)
    left = MOST_BYTES
    for status, file in seen:
        left -= status.st_size
        if left < 0:
            file.unlink(missing_ok=True)
