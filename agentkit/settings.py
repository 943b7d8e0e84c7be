"""What a run is made of, declared once.

From the fields of `RunSettings` come the options of the command line, the names of environment variables, the keys of
`agentkit.toml`, what a cassette keeps, and what a run is built from. A value given on the command line wins over the
environment (`AGENTKIT_MAX_TOKENS`), that over `agentkit.toml` (here, then in the user's config folder), that over the
default.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from agentkit.errors import ConfigurationError

MODELS = "builtin, local:FOLDER, local:ORG/NAME, hf:ORG/NAME, http(s)://ADDRESS, PROVIDER:NAME."

Group = Literal["model", "tools", "limits"]
"""What a setting is about. Those of the model and the tools change what the model reads, limits when a run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every way in knows of one setting, beside its name and its type.

    `option` is its name on the command line, where that is not the field's; `metavar` what stands there for a value;
    `repeated` is a list whose option is given once per value, instead of once with commas.
    """

    help: str
    group: Group
    metavar: str = ""
    option: str = ""
    repeated: bool = False
    least: float | None = None


def _setting(default: Any, group: Group, help: str, **more: Any) -> Any:
    metadata = {"setting": Setting(help=help, group=group, **more)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a run is made of. `None` is no limit, or whatever fits the model; a value out of range is refused."""

    model: str = _setting("builtin", "model", MODELS, metavar="SPEC")
    tools: tuple[str, ...] = _setting(("search", "calculator"), "tools", "Names, with commas.", metavar="NAMES")
    docs: str | None = _setting(None, "tools", "A folder whose files Search looks through.", metavar="FOLDER")
    mcp: tuple[str, ...] = _setting(
        (), "tools", "An MCP server's command or address; may be repeated.", metavar="SERVER", repeated=True
    )
    allow: tuple[str, ...] | None = _setting(
        None, "tools", "Names of the tools that may run, with commas.", metavar="NAMES"
    )
    prompt: str = _setting("react-json", "model", "A name, a file, or hub:OWNER/NAME.")
    mode: Literal["auto", "react-json", "tools"] = _setting(
        "auto", "model", "How the model names a tool: in its text, or by calls of its own."
    )
    options: Mapping[str, Any] = _setting(
        {},
        "model",
        "The model's, as temperature=0; may be repeated.",
        option="option",
        metavar="NAME=VALUE",
        repeated=True,
    )
    fallbacks: tuple[str, ...] = _setting(
        (),
        "model",
        "A model to ask when the first fails; may be repeated.",
        option="fallback",
        metavar="SPEC",
        repeated=True,
    )
    trim_intermediate_steps: int = _setting(
        -1, "model", "How many of the last steps the model still sees; -1: all.", option="trim-steps", least=-1
    )
    tool_timeout_s: float | None = _setting(
        None, "tools", "Seconds of one tool call at most.", option="tool-timeout", least=0
    )
    max_observation_tokens: int | None = _setting(
        8_000, "tools", "Tokens of one observation at most; the rest is cut.", least=1
    )
    max_iterations: int | None = _setting(15, "limits", "Turns of the model at most.", least=1)
    timeout: float | None = _setting(None, "limits", "Seconds at most.", least=0)
    max_tokens: int | None = _setting(None, "limits", "Tokens of the whole run at most.", least=1)
    max_cost: float | None = _setting(None, "limits", "US dollars of the whole run at most.", least=0)
    max_repeats: int | None = _setting(
        3, "limits", "How often an action may give the same observation before the run is stuck.", least=1
    )
    early_stopping_method: Literal["force", "generate"] = _setting(
        "force", "limits", "After the last turn: end, or ask for an answer."
    )
    must_be_grounded: bool | None = _setting(
        None, "limits", "Refuse an answer with numbers or names that no observation gave."
    )

    def __post_init__(self) -> None:
        for name, one in SETTINGS.items():
            value = getattr(self, name)
            if (choices := choices_of(name)) and value not in choices:
                raise ConfigurationError(
                    f"expected the {name} {', '.join(choices[:-1])} or {choices[-1]}, saw {value!r}"
                )
            if one.least is not None and value is not None and not value >= one.least:
                raise ConfigurationError(f"expected {name} of at least {one.least:g}, saw {value}")

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> RunSettings:
        """Settings from a file's plain values; raises `ConfigurationError`. What is no setting is left out."""
        return cls(**{name: checked(name, values[name], name) for name in SETTINGS if name in values})


SETTINGS: Mapping[str, Setting] = {field.name: field.metadata["setting"] for field in fields(RunSettings)}
_TYPES: Mapping[str, Any] = get_type_hints(RunSettings)
_DEFAULTS = {one.name: {} if one.default is MISSING else one.default for one in fields(RunSettings)}


def default_of(name: str) -> Any:
    """What a setting is where nobody says it."""
    return _DEFAULTS[name]


# -- values ------------------------------------------------------------------------------------------------------------

_WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_EXPECTED = {
    int: "a whole number",
    float: "a number",
    bool: "yes or no",
    str: "text",
    tuple: "names",
    dict: "values by name",
}


def type_of(name: str) -> type:
    """int, float, bool, str, tuple (of names) or dict (of options)."""
    if choices_of(name):
        return str
    kind = _alternatives(name)[0]
    origin: type = get_origin(kind) or kind
    return dict if issubclass(origin, Mapping) else origin


def choices_of(name: str) -> tuple[str, ...]:
    """The words that a setting is one of; none for one that takes any value."""
    return get_args(_TYPES[name]) if get_origin(_TYPES[name]) is Literal else ()


def _alternatives(name: str) -> tuple[Any, ...]:
    kind = _TYPES[name]
    return get_args(kind) if isinstance(kind, UnionType) else (kind,)


def parsed(name: str, text: str, where: str) -> Any:
    """The value that a text says; `where` is what an error names. "none" is no limit."""
    kind = type_of(name)
    if type(None) in _alternatives(name) and text.strip().casefold() == "none":
        return None
    try:
        if kind is bool:
            return _WORDS[text.strip().casefold()]
        if kind is tuple:
            return tuple(word.strip() for word in text.split(",") if word.strip())
        if kind is dict:
            return json.loads(text) if text.lstrip().startswith("{") else dict(_pairs(text.split(",")))
        value = kind(text)
    except (KeyError, ValueError):
        raise _unexpected(name, text, where) from None
    return checked(name, value, where)


def checked(name: str, value: Any, where: str) -> Any:
    """A value that is typed already, as the setting holds it; raises `ConfigurationError`."""
    kind = type_of(name)
    if value is None and type(None) in _alternatives(name):
        return None
    if kind is dict and isinstance(value, list | tuple):
        try:
            return dict(_pairs(value))
        except ValueError:
            raise _unexpected(name, value, where) from None
    if kind is dict and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    if kind is tuple and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return tuple(value)
    if kind is float and type(value) in (int, float) and math.isfinite(value):
        return float(value)
    if type(value) is kind and kind in (bool, int, str):
        return value
    raise _unexpected(name, value, where)


def _unexpected(name: str, value: Any, where: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: expected {_EXPECTED[type_of(name)]}, saw {value!r}")


def _pairs(words: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Options by their names; a value that is no JSON is text."""
    for word in words:
        key, equals, text = str(word).strip().partition("=")
        if not key or not equals:
            raise ValueError
        try:
            yield key, json.loads(text)
        except ValueError:
            yield key, text


# -- where values come from --------------------------------------------------------------------------------------------


def read_settings(
    given: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, here: Path | None = None
) -> RunSettings:
    """The settings; `given` comes from the command line, `None` where nothing was said."""
    environment = os.environ if environment is None else environment
    chosen = _from_files(here or Path.cwd(), environment) | _from_environment(environment) | changes(given)
    return RunSettings(**chosen)


def changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was said on the command line, as texts or values; `None` where nothing was."""
    return {name: _read(name, value, option(name)) for name, value in given.items() if value is not None}


def option(name: str) -> str:
    """A setting's name on the command line."""
    return f"--{SETTINGS[name].option or name.replace('_', '-')}"


def _read(name: str, value: Any, where: str) -> Any:
    return parsed(name, value, where) if isinstance(value, str) else checked(name, value, where)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    names = {name: f"AGENTKIT_{name.upper()}" for name in SETTINGS}
    return {name: parsed(name, text, known) for name, known in names.items() if (text := environment.get(known))}


def _from_files(here: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    config_home = Path(
        environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".config"
    )
    for path in (here / "agentkit.toml", config_home / "agentkit" / "agentkit.toml"):
        if path.is_file():
            return _from_file(path)
    return {}


def _from_file(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected TOML ({error}); mend or remove the file") from error
    for name in content:
        if name not in SETTINGS:
            near = difflib.get_close_matches(name, SETTINGS, n=1)
            expected = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(SETTINGS)}"
            raise ConfigurationError(f"{path}: unknown setting {name!r}; {expected}")
    return {name: _read(name, value, f"{path}: {name}") for name, value in content.items()}
