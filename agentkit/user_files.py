"""Where the user's own files lie, and which of them nobody else can have written.

What stands there decides unasked: settings, what was agreed to, what was read of documents.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

_IN_HOME = {"cache": ".cache", "config": ".config", "data": ".local/share", "state": ".local/state"}
_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def user_folder(kind: Literal["cache", "config", "data", "state"], environment: Mapping[str, str]) -> Path:
    """agentkit's folder among the user's, which need not be there; one that nothing can be in where there is no home.

    A relative path in a variable is passed over, as https://specifications.freedesktop.org/basedir asks: it would lead
    to another folder wherever a command is called, and to a stranger's in a stranger's repository.
    """
    given = environment.get(f"XDG_{kind.upper()}_HOME", "")
    if kind == "cache" and os.name == "nt":
        given = given or environment.get("LOCALAPPDATA", "")
    if not os.path.isabs(given):
        home = os.path.expanduser(environment.get("HOME") or "~")
        is_there = os.path.isabs(home) and os.path.isdir(home)
        given = os.path.join(home, _IN_HOME[kind]) if is_there else os.devnull
    return Path(given) / "agentkit"


def is_users_alone(status: os.stat_result) -> bool:
    """Whether a file or a folder is the user's, and no other user can write it."""
    return os.name == "nt" or (status.st_uid == os.getuid() and not status.st_mode & _OTHERS_WRITE)
