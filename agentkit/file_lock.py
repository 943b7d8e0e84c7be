"""A file that one process at a time holds, until it lets it go or ends, however it ends."""

from __future__ import annotations

import os
import socket
import sys
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

_LOCKED_BYTE = 1 << 30  # on Windows a byte that is locked cannot be read: one behind all that is written


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds something, and since when."""

    pid: int
    host: str
    since: datetime

    @classmethod
    def here(cls) -> Self:
        """This process, from now on."""
        return cls(os.getpid(), socket.gethostname(), datetime.now(UTC))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host} since {self.since.astimezone():%Y-%m-%d %H:%M:%S}"


class IsHeld(Exception):
    """Another process, or another part of this one, has it: the `holder`, where that is known."""

    def __init__(self, holder: Holder | None = None) -> None:
        super().__init__(f"held by {holder or 'another process'}")
        self.holder = holder


class FileLock:
    """Hold the file at `path` alone, which is made for it; then `release` it.

    The lock belongs to the open file, and so it ends with the process. Raises `IsHeld`, and `OSError` where there can
    be no such file. A file system that has no locks keeps nobody out.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor: int | None = self._locked()
        with suppress(OSError):  # of a full disk, on which it is held all the same
            _name(self._descriptor, Holder.here())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.release()

    def release(self) -> None:
        """Let another have it."""
        if self._descriptor is not None:
            if os.name == "posix":  # while it is held: who opened it meanwhile finds that it is gone
                self.path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None
            with suppress(OSError):
                if os.name != "posix":
                    self.path.unlink(missing_ok=True)

    def leave_to_parent(self) -> None:
        """In a process that was forked while it was held: it stays the parent's."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _locked(self) -> int:
        while True:
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o600)
            try:
                _lock(descriptor)
                if os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                    return descriptor
            except BlockingIOError:
                holder = _holder(descriptor)
                os.close(descriptor)
                raise IsHeld(holder) from None
            except FileNotFoundError:  # its last holder has just removed it
                pass
            os.close(descriptor)


def _name(descriptor: int, holder: Holder) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, f"{holder.pid} {holder.since.timestamp()} {holder.host}\n".encode())


def _holder(descriptor: int) -> Holder | None:
    """What the holder wrote into the file; nothing where it did not come to that yet."""
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        pid, since, host = os.read(descriptor, 1000).decode().split(None, 2)
        return Holder(int(pid), host.strip(), datetime.fromtimestamp(float(since), UTC))
    except (OSError, ValueError, OverflowError):
        return None


def _lock(descriptor: int) -> None:
    """Hold an open file alone; raises `BlockingIOError`. Without locks of the file system there is none."""
    if sys.platform == "win32":
        import msvcrt

        try:
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError:
            raise BlockingIOError from None
    else:
        import fcntl

        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError:  # a network file system that has no locks
            pass
