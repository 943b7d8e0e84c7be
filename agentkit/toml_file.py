"""TOML out of files that anybody may have written: read within bounds."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

LARGEST_FILE = 1_000_000
MOST_DOTS = 200  # in one line: the time that TOML's reader takes for a key grows with the square of its parts


class NoFile(ValueError):
    """What is no file, or a larger one than anybody writes."""


def read_toml(path: Path) -> dict[str, Any]:
    """What a file says; raises `OSError`, and `ValueError` for what is no TOML."""
    import tomllib

    if not stat.S_ISREG(path.stat().st_mode):
        raise NoFile("is no file")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise NoFile(f"is larger than {LARGEST_FILE // 1_000_000} MB")
    text = content.decode("utf-8-sig")
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"a line has more than {MOST_DOTS} dots")
    try:
        return tomllib.loads(text.replace("\r\n", "\n"))
    except RecursionError as error:
        raise ValueError("it is nested too deep") from error
