"""The file of one recording, held for it alone; and files written whole or not at all.

What is there and was not written here stays: `Place` refuses it before the run, and a second recorder of the same file.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Self
from uuid import uuid4

from agentkit.cassette.format.file import finished_of, load, partial_of
from agentkit.errors import CassetteError, ConfigurationError
from agentkit.file_lock import FileLock, IsHeld

_OURS = re.compile(rb"\Aversion: 1\r?\nagentkit:\r?\n")


class Place:
    """The file of one recording, held from before the model loads until the recording ends; then `release` it.

    Raises `ConfigurationError` where something else is there, or another recorder writes, and `CassetteError` where the
    place cannot be written. `replaces` says whether an earlier recording may be written over.
    """

    def __init__(self, path: Path, *, replaces: bool = True) -> None:
        self.path = finished_of(path)
        self._check(self.path, replaces)  # before a folder such as . is asked for its partial name
        self.partial = partial_of(path)
        self._check(self.partial, replaces)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            target = Path(os.path.realpath(self.path))
            self._lock = FileLock(target.with_name(f".{target.name}.lock"))
        except IsHeld:
            raise ConfigurationError(
                f"{self.path} is being recorded by another run; wait for it, or name another file"
            ) from None
        except OSError as error:
            raise CassetteError(f"{self.path}: cannot be written ({error.strerror}); choose another place") from error

    @staticmethod
    def _check(file: Path, replaces: bool) -> None:
        if check_replaceable(file, _is_cassette, "a cassette") and not replaces:
            raise ConfigurationError(f"{file} holds a recording; --force replaces it, or name another file")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()

    def release(self) -> None:
        """Let another recorder have it."""
        self._lock.release()


def check_replaceable(path: Path, is_ours: Callable[[Path], bool], what: str) -> bool:
    """Whether a file of ours is there, to be written over; raises `ConfigurationError` where anything else is."""
    try:
        facts = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise ConfigurationError(f"{path} is a link to nothing; name a file") from None
        return False
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written ({error.strerror}); name another file") from error
    if not stat.S_ISREG(facts.st_mode):
        kind = "a folder; name a file in it" if stat.S_ISDIR(facts.st_mode) else "no regular file; name another"
        raise ConfigurationError(f"{path} is {kind}")
    if not is_ours(path):
        raise ConfigurationError(f"{path} is not {what} of agentkit's, and stays as it is; name another file")
    return True


def _is_cassette(path: Path) -> bool:
    """Whether a recording was written there, also one that a hand or an accident changed since."""
    try:
        with path.open("rb") as file:
            return bool(_OURS.match(file.read(64))) or load(path).format > 0
    except (OSError, CassetteError):
        return False


def save(path: Path, text: str) -> None:
    """Write all of it or nothing: what was there stays until the new file is complete. A link goes on to lead there."""
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{uuid4().hex}.tmp")
    try:
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise CassetteError(f"{path}: cannot be written ({error.strerror}); choose another place") from error
