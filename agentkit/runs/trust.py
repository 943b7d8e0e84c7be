"""What a run would start, read and send because a file says so, and whether the user has agreed to that.

A cassette, or an `agentkit.toml` in a folder, may be a stranger's. `Origin` is such a file, `effects` are what its
settings come to beyond a run of the built-in model. What the user agreed to once stands in the state folder, with all
that the file said then: a file that says something else is asked about again. A recording of the user's own is known
there from its first moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from agentkit.cassette.format.file import finished_of
from agentkit.cassette.format.run_spec import RunSpec, is_bundled
from agentkit.errors import ConfigurationError
from agentkit.mcp.connection import consents
from agentkit.models.spec import folder_of
from agentkit.printable import escaped, word
from agentkit.runs.build import OURS
from agentkit.settings import SETTINGS, FoundSettings, RunSettings
from agentkit.toolbox.registry import canonical
from agentkit.user_files import is_users_alone, user_folder

Standing = Literal["own", "trusted"]
"""The user's own words, kept in a recording; or a file of anybody's that the user let do what it says."""

MOST_EFFECTS = 40
LONGEST_EFFECT = 2_000
LARGEST_BYTES = 20_000_000  # of what was agreed to: a hundred thousand files
_NAMES = "trusted"
_FLAGS = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A file that says what a run is made of: `names` are the settings that it decided, `content` is all it says.

    `run` is the one of a store that says so; `file` is the store's address then.
    """

    file: Path
    names: frozenset[str]
    content: bytes
    run: str = ""

    @property
    def name(self) -> str:
        """What says so, for people."""
        return f"run {word(self.run)} in {word(str(self.file))}" if self.run else word(str(self.file))

    @property
    def place(self) -> str:
        """Where what was agreed to holds: for all runs of a store that are made of the same."""
        return f"store {self.file}" if self.run else os.path.realpath(self.file)

    @classmethod
    def of_settings(cls, found: FoundSettings) -> Origin | None:
        """The settings file of this folder; `None` where it decided nothing."""
        if found.file is None or not found.foreign:
            return None
        return cls(file=found.file, names=found.foreign, content=found.file.read_bytes())

    @classmethod
    def of_cassette(cls, file: Path, run: RunSpec, given: Collection[str] = ()) -> Origin:
        """A cassette, but for the settings that the user gave; `run` is as the file has it."""
        return cls(file=finished_of(file), names=_decided(run, given), content=_content(run.to_mapping()))

    @classmethod
    def of_run(cls, store: str, id: str, run: RunSpec, given: Collection[str] = ()) -> Origin:
        """A run of a store that others may write, but for the settings that the user gave; not what it was asked."""
        said = {name: value for name, value in run.to_mapping().items() if name != "inputs"}
        return cls(file=Path(store), names=_decided(run, given), content=_content(said), run=id)

    @classmethod
    def of_store(cls, store: Path) -> Origin:
        """A store in a file, which says nothing by itself: whether it was made here can be remembered."""
        return cls(file=store, names=frozenset(), content=b"a store")


def _decided(run: RunSpec, given: Collection[str]) -> frozenset[str]:
    names = SETTINGS.keys() - given
    if run.prompt_text is not None and not Path(run.settings.prompt).is_file():
        names -= {"prompt"}  # which is kept with the run
    return frozenset(names)


def _content(said: Mapping[str, Any]) -> bytes:
    return json.dumps(said, sort_keys=True, default=str).encode("utf-8", "surrogatepass")


def effects(settings: RunSettings, names: Collection[str]) -> list[str]:
    """What the settings of these names make a run start, read and send, in lines that can be shown."""
    found = list(dict.fromkeys(_effects(settings, names)))
    if len(found) > MOST_EFFECTS or any(len(effect) > LONGEST_EFFECT for effect in found):
        raise ConfigurationError("this file asks for more than anybody could read before agreeing to it; do not use it")
    return found


def _effects(settings: RunSettings, names: Collection[str]) -> Iterator[str]:
    if "mcp" in names:
        for spec in settings.mcp:
            for server, is_remote, whence in consents(spec):
                said = f", {whence}" if whence else ""
                if is_remote:
                    yield f"connect to the MCP server {word(server)}{said}"
                else:  # which may be another one in another folder
                    yield f"start the command {word(server)} in {_path('.')}{said}"
    if "tools" in names:
        yield from (f"run the tool {word(name)}" for name in settings.tools if canonical(name) not in OURS)
    if "schema" in names and isinstance(settings.schema, str):
        yield f"read the schema {_path(settings.schema)}"
    if "docs" in names and settings.docs is not None:
        yield f"read the files in {_path(settings.docs)}"
    if "prompt" in names and not is_bundled(settings.prompt):
        is_remote = settings.prompt.startswith("hub:")
        yield f"get the prompt {word(settings.prompt)}" if is_remote else f"read the prompt {_path(settings.prompt)}"
    if "model" in names:
        yield from _of_model(settings.model)
    if "fallbacks" in names:
        for spec in settings.fallbacks:
            yield from _of_model(spec)
    if "options" in names:
        for key, value in settings.options.items():
            if type(value) not in (int, float) or key not in _numbers():
                yield f"set the model's option {word(key)} to {escaped(value)}"


@cache
def _numbers() -> frozenset[str]:
    """The options that are numbers and start, read and send nothing; 1 is as good as true for any other."""
    from agentkit.models.hosted.options import HostedOptions

    kinds = {field.name: re.findall(r"\w+", str(field.type)) for field in fields(HostedOptions)}
    return frozenset(name for name, kind in kinds.items() if {"int", "float"}.intersection(kind))


def _of_model(spec: str) -> Iterator[str]:
    scheme, colon, rest = spec.partition(":")
    if scheme in ("http", "https"):
        yield f"send the question to {word(spec)}"
    elif scheme == "hf":
        yield f"send the question to Hugging Face, for {word(rest)}"
    elif scheme == "local":
        yield f"load the model {word(rest) if folder_of(rest) is None else _path(rest)}"
    elif colon:
        yield f"send the question to {word(scheme)}, for {word(rest)}"


def _path(path: str) -> str:
    return word(os.path.realpath(os.path.expanduser(path)))


# -- what was agreed to ------------------------------------------------------------------------------------------------


def standing(origin: Origin, wanted: Collection[str], environment: Mapping[str, str]) -> Standing | None:
    """What is known of this file, as it is, and what it asks for; `None` for one that the user has not agreed to."""
    known, wished = None, _digest(origin, wanted)
    for line in _written(environment):
        digest, _, rest = line.partition(" ")
        if digest == wished:
            known = rest.partition(" ")[0]
    return "own" if known == "own" else "trusted" if known == "trusted" else None


def remember(origin: Origin, wanted: Collection[str], what: Standing, environment: Mapping[str, str]) -> None:
    """Know from now on that the user agrees; without a folder to write that down, it is asked again."""
    file = _file(environment)
    if not wanted or standing(origin, wanted, environment) == what:
        return
    line = f"{_digest(origin, wanted)} {what} {json.dumps(origin.place)}\n"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _FLAGS, 0o600)
        try:
            os.write(descriptor, line.encode())
        finally:
            os.close(descriptor)


def foreign_names(
    origin: Origin,
    settings: RunSettings,
    environment: Mapping[str, str],
    consent: Callable[[str, list[str]], None],
) -> Collection[str]:
    """The settings whose values are this file's, and not the user's own words.

    `consent` is given the file's name and its effects where nobody has agreed to them, and raises unless the user does.
    """
    wanted = effects(settings, origin.names)
    known = standing(origin, wanted, environment)
    if wanted and known is None:
        consent(origin.name, wanted)
    return () if known == "own" else origin.names


def _written(environment: Mapping[str, str]) -> list[str]:
    """The lines of what was agreed to; none of a file that others can write, or that is none."""
    with suppress(OSError), open(os.open(_file(environment), os.O_RDONLY | _FLAGS), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and is_users_alone(status):
            return file.read(LARGEST_BYTES).decode("utf-8", "replace").splitlines()
    return []


def _file(environment: Mapping[str, str]) -> Path:
    return user_folder("state", environment) / _NAMES


def _digest(origin: Origin, wanted: Collection[str]) -> str:
    said: Any = [origin.place, hashlib.sha256(origin.content).hexdigest(), sorted(wanted)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
