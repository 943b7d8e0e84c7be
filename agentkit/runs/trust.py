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
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from agentkit.cassette.format.file import finished_of
from agentkit.cassette.format.run_spec import RunSpec, is_bundled
from agentkit.errors import ConfigurationError
from agentkit.models.spec import folder_of
from agentkit.printable import escaped, word
from agentkit.runs.build import OURS
from agentkit.secrets import is_address
from agentkit.settings import SETTINGS, FoundSettings, RunSettings
from agentkit.toolbox.registry import canonical

Standing = Literal["own", "trusted"]
"""The user's own words, kept in a recording; or a file of anybody's that the user let do what it says."""

MOST_EFFECTS = 40
LONGEST_EFFECT = 2_000
_NAMES = "trusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A file that says what a run is made of: `names` are the settings that it decided, `content` is all it says."""

    file: Path
    names: frozenset[str]
    content: bytes

    @classmethod
    def of_settings(cls, found: FoundSettings) -> Origin | None:
        """The settings file of this folder; `None` where it decided nothing."""
        if found.file is None or not found.foreign:
            return None
        return cls(file=found.file, names=found.foreign, content=found.file.read_bytes())

    @classmethod
    def of_cassette(cls, file: Path, run: RunSpec, given: Collection[str] = ()) -> Origin:
        """A cassette, but for the settings that the user gave; `run` is as the file has it."""
        names = SETTINGS.keys() - given
        if run.prompt_text is not None and not Path(run.settings.prompt).is_file():
            names -= {"prompt"}  # which is in the cassette
        content = json.dumps(run.to_mapping(), sort_keys=True, default=str).encode("utf-8", "surrogatepass")
        return cls(file=finished_of(file), names=frozenset(names), content=content)


def effects(settings: RunSettings, names: Collection[str]) -> list[str]:
    """What the settings of these names make a run start, read and send, in lines that can be shown."""
    found = list(dict.fromkeys(_effects(settings, names)))
    if len(found) > MOST_EFFECTS or any(len(effect) > LONGEST_EFFECT for effect in found):
        raise ConfigurationError("this file asks for more than anybody could read before agreeing to it; do not use it")
    return found


def _effects(settings: RunSettings, names: Collection[str]) -> Iterator[str]:
    if "mcp" in names:
        for server in settings.mcp:
            if is_address(server):
                yield f"connect to the MCP server {word(server)}"
            else:  # which may be another one in another folder
                yield f"start the command {word(server)} in {_path('.')}"
    if "tools" in names:
        yield from (f"run the tool {word(name)}" for name in settings.tools if canonical(name) not in OURS)
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
        told = {key: value for key, value in settings.options.items() if type(value) not in (int, float)}
        yield from (f"set the model's option {word(key)} to {escaped(value)}" for key, value in told.items())


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
    file, known = _file(environment), None
    if file is not None:
        with suppress(OSError, UnicodeDecodeError):
            for line in file.read_text(encoding="utf-8").splitlines():
                digest, _, rest = line.partition(" ")
                if digest == _digest(origin, wanted):
                    known = rest.partition(" ")[0]
    return "own" if known == "own" else "trusted" if known == "trusted" else None


def remember(origin: Origin, wanted: Collection[str], what: Standing, environment: Mapping[str, str]) -> None:
    """Know from now on that the user agrees; without a folder to write that down, it is asked again."""
    file = _file(environment)
    if file is None or not wanted or standing(origin, wanted, environment) == what:
        return
    line = f"{_digest(origin, wanted)} {what} {json.dumps(str(origin.file.resolve()))}\n"
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(file, flags, 0o600)
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
        consent(word(str(origin.file)), wanted)
    return () if known == "own" else origin.names


def _file(environment: Mapping[str, str]) -> Path | None:
    if state := environment.get("XDG_STATE_HOME"):
        return Path(state) / "agentkit" / _NAMES
    home = Path(environment.get("HOME") or "~").expanduser()
    return home / ".local" / "state" / "agentkit" / _NAMES if home.is_dir() else None


def _digest(origin: Origin, wanted: Collection[str]) -> str:
    said: Any = [str(origin.file.resolve()), hashlib.sha256(origin.content).hexdigest(), sorted(wanted)]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()
