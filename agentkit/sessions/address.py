"""Where the store is: a file of SQLite's, or a database of PostgreSQL's. Found without loading either's library."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from agentkit.errors import StoreError
from agentkit.user_files import user_folder

VARIABLE = "AGENTKIT_STORE"
NOTHING = "none"
_SCHEME = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]+):/")
_SERVER = ("postgres", "postgresql", "postgresql+psycopg")
_FORMS = "give a file, or postgresql://USER@HOST/DATABASE"


@dataclass(frozen=True, slots=True)
class Address:
    """One store's place: the `path` of a file, or the `url` of a server, which may hold a password."""

    path: Path | None = None
    url: str = field(default="", repr=False)

    @classmethod
    def of(cls, text: str | os.PathLike[str]) -> Self:
        """Read an address; raises `StoreError` for one that no store can be at."""
        text = os.fspath(text).strip()
        found = _SCHEME.match(text)
        scheme = found["scheme"].lower() if found else ""
        name = text.partition("://")[2]
        if scheme in _SERVER and name:
            return cls(url=f"postgresql+psycopg://{name}")
        if scheme == "sqlite" and name[:1] == "/":
            text = name[1:]
        elif scheme:
            kinds = f"{scheme} is no kind of store that agentkit knows" if scheme not in (*_SERVER, "sqlite") else ""
            raise StoreError(f"No store is at {_public(text)}: {kinds or 'the address is not complete'}; {_FORMS}")
        if not text or text == ":memory:" or "\0" in text:
            raise StoreError(f"No store is at {text!r}: it is kept in a file or on a server; {_FORMS}")
        return cls(path=Path(os.path.abspath(Path(text).expanduser())))

    def __str__(self) -> str:
        """For people: without user, password and parameters."""
        return str(self.path) if self.path is not None else _public(self.url)


def _public(text: str) -> str:
    """Nothing before the last @, which an unquoted password may reach to, and no parameters."""
    scheme, separator, rest = text.partition("://" if "://" in text else ":")
    plain = "postgresql" if scheme.lower() in _SERVER else scheme
    return f"{plain}{separator}{rest.rpartition('@')[2].partition('?')[0]}"


def find_address(given: str | os.PathLike[str] | None, environment: Mapping[str, str]) -> Address | None:
    """The address that was given, else that of `AGENTKIT_STORE`, else the user's own file; None where nothing is kept.

    Raises `StoreError`.
    """
    said = os.fspath(given) if given is not None else environment.get(VARIABLE, "")
    if said.strip().casefold() == NOTHING:
        return None
    return Address.of(said if said.strip() or given is not None else user_folder("data", environment) / "agentkit.db")
