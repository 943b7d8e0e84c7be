"""What a run is made of, declared once.

From the fields of `RunSettings` come the options of the command line, the names of environment variables, the keys of
`agentkit.toml`, what a cassette keeps, and what a run is built from. A value given on the command line wins over the
environment (`AGENTKIT_MAX_TOKENS`), that over `agentkit.toml` (here, then in the user's config folder), that over the
default. What the file here says may be a stranger's: `find_settings` says which values are its own.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from agentkit.errors import LONGEST_SHOWN, ConfigurationError, did_you_mean, in_one_line, nearest, short_repr
from agentkit.toml_file import NoFile, read_toml
from agentkit.user_files import user_folder

MODELS = (
    "small, builtin, local:FOLDER, local:ORG/NAME, hf:ORG/NAME, http(s)://ADDRESS, PROVIDER:NAME; "
    "auto: small where its base is installed, else builtin."
)

Group = Literal["model", "tools", "limits"]
"""What a setting is about. Those of the model and the tools change what the model reads, limits when a run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What every way in knows of one setting, beside its name and its type.

    `option` is its name on the command line, where that is not the field's; `metavar` what stands there for a value;
    `repeated` is a list whose option is given once per value, instead of once with commas; `command_lines` in one text
    are parted by commas that a space follows, outside quotes. A number is not smaller than `least`, and greater than
    `above`.
    """

    help: str
    group: Group
    metavar: str = ""
    option: str = ""
    repeated: bool = False
    command_lines: bool = False
    least: float | None = None
    above: float | None = None


def _setting(default: Any, group: Group, help: str, **more: Any) -> Any:
    metadata = {"setting": Setting(help=help, group=group, **more)}
    if isinstance(default, dict):
        return field(default_factory=dict, metadata=metadata)
    return field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """What a run is made of. `None` is no limit, or whatever fits the model.

    A value of another type, or out of range, is a `ConfigurationError` that names it.
    """

    model: str = _setting("auto", "model", MODELS, metavar="SPEC")
    tools: tuple[str, ...] = _setting(("search", "calculator"), "tools", "Names, with commas.", metavar="NAMES")
    docs: str | None = _setting(None, "tools", "A folder whose files Search looks through.", metavar="FOLDER")
    mcp: tuple[str, ...] = _setting(
        (),
        "tools",
        "An MCP server's command or address, or a file of mcpServers; may be repeated.",
        metavar="SERVER",
        repeated=True,
        command_lines=True,
    )
    allow: tuple[str, ...] | None = _setting(
        None, "tools", "Names of the tools that may run, with commas.", metavar="NAMES"
    )
    prompt: str = _setting("auto", "model", "A name, a file, or hub:OWNER/NAME; auto: the one that fits the model.")
    mode: Literal["auto", "react-json", "tools"] = _setting(
        "auto", "model", "How the model names a tool: in its text, or by calls of its own."
    )
    schema: str | Mapping[str, Any] | None = _setting(
        None, "model", "A file with the JSON Schema that the answer fits; the answer is JSON then.", metavar="FILE"
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
    compaction: Literal["drop", "summary"] = _setting(
        "drop",
        "model",
        "Where a run outgrows the context: drop the oldest observations, or have the model sum them up.",
    )
    tool_timeout_s: float | None = _setting(
        None, "tools", "Seconds of one tool call at most.", option="tool-timeout", above=0
    )
    max_observation_tokens: int | None = _setting(
        8_000, "tools", "Tokens of one observation at most; the rest is cut.", least=1
    )
    max_iterations: int | None = _setting(15, "limits", "Turns of the model at most.", least=1)
    timeout: float | None = _setting(None, "limits", "Seconds at most.", above=0)
    max_tokens: int | None = _setting(None, "limits", "Tokens of the whole run at most.", least=1)
    max_cost: float | None = _setting(None, "limits", "US dollars of the whole run at most.", above=0)
    max_repeats: int | None = _setting(
        3, "limits", "How often in a row an action may give the same observation: then the run is stuck.", least=1
    )
    early_stopping_method: Literal["force", "generate"] = _setting(
        "force", "limits", "After the last turn: end, or ask for an answer."
    )
    must_be_grounded: bool | None = _setting(
        None, "limits", "Refuse an answer with numbers or names that no observation gave."
    )

    def __post_init__(self) -> None:
        for name in SETTINGS:
            object.__setattr__(self, name, checked(name, getattr(self, name), name))

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
    dict: "values by name, as temperature=0",
}


_COMMAND_LINE = re.compile(r"""(?:[^,"']|"(?:\\.|[^"\\])*"|'[^']*'|["']|,(?!\s|\Z))+""", re.DOTALL)


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


def _takes_mapping(name: str) -> bool:
    """Whether a value may be values by name, also where it may be text as well."""
    return any(issubclass(get_origin(kind) or kind, Mapping) for kind in _alternatives(name) if not choices_of(name))


def parsed(name: str, text: str, where: str) -> Any:
    """The value that a text says; `where` is what an error names. "none" is no limit."""
    kind = type_of(name)
    if type(None) in _alternatives(name) and text.strip().casefold() == "none":
        return None
    value: Any = text
    try:
        if kind is bool:
            value = _WORDS[text.strip().casefold()]
        elif kind is tuple:
            parts = _COMMAND_LINE.findall(text) if SETTINGS[name].command_lines else text.split(",")
            value = tuple(part.strip() for part in parts if part.strip())
        elif _takes_mapping(name) and text.lstrip().startswith("{"):
            value = json.loads(text)
        elif kind is dict:
            value = json.loads(text) if text.lstrip().startswith("{") else dict(_pairs(text.split(",")))
        elif kind is not str:
            value = kind(text)
    except (KeyError, ValueError, RecursionError):
        raise _unexpected(name, text, where) from None
    return checked(name, value, where)


def checked(name: str, value: Any, where: str) -> Any:
    """A value that is typed already, as the setting holds it; raises `ConfigurationError` that names `where`."""
    kind = type_of(name)
    typed: Any = None
    if value is None and type(None) in _alternatives(name):
        return None
    if kind is dict and isinstance(value, list | tuple):
        try:
            typed = dict(_pairs(value))
        except ValueError as error:
            raise _unexpected(name, error.args[0], where) from None
    elif _takes_mapping(name) and isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        typed = dict(value)
    elif kind is tuple and isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        typed = tuple(value)
    elif kind is float and type(value) in (int, float):
        typed = _finite(value)
    elif type(value) is kind and kind in (bool, int, str):
        typed = value
    if typed is None:
        raise _unexpected(name, value, where)
    _check_range(name, typed, where)
    return typed


def _finite(value: float) -> float | None:
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number of hundreds of digits
        return None


def _check_range(name: str, value: Any, where: str) -> None:
    setting = SETTINGS[name]
    if (choices := choices_of(name)) and value not in choices:
        one_of = f"{', '.join(choices[:-1])} or {choices[-1]}"
        raise ConfigurationError(f"{where} is {one_of}, not {short_repr(value)}{did_you_mean(value, choices)}")
    bound = f"at least {setting.least:g}" if setting.least is not None else ""
    if setting.above is not None:
        bound = f"more than {setting.above:g}"
    is_within = (setting.least is None or value >= setting.least) and (setting.above is None or value > setting.above)
    if bound and not is_within:
        unlimited = ", or none for no limit" if type(None) in _alternatives(name) else ""
        raise ConfigurationError(f"{where} is {bound}{unlimited}, not {short_repr(value)}")


def _unexpected(name: str, value: Any, where: str) -> ConfigurationError:
    return ConfigurationError(f"{where}: expected {_EXPECTED[type_of(name)]}, saw {short_repr(value)}")


def _pairs(words: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """Options by their names; a value that is no JSON is text."""
    for word in words:
        key, equals, text = str(word).strip().partition("=")
        if not key or not equals:
            raise ValueError(word)
        try:
            yield key, json.loads(text)
        except (ValueError, RecursionError):
            yield key, text


# -- where values come from --------------------------------------------------------------------------------------------

FILE = "agentkit.toml"
PREFIX = "AGENTKIT_"
OTHER_VARIABLES = ("AGENTKIT_API_KEY", "AGENTKIT_API_KEY_HOSTS", "AGENTKIT_STORE")
"""What is no setting, and begins as their variables do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundSettings:
    """Settings and where they were found. `foreign` are the names of those that the `file` in this folder decided.

    `notes` are what the user should know: variables that look like a setting's and are none.
    """

    settings: RunSettings
    file: Path | None = None
    foreign: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def read_settings(
    given: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, here: Path | None = None
) -> RunSettings:
    """The settings; `given` comes from the command line, `None` where nothing was said."""
    return find_settings(given, environment=environment, here=here).settings


def find_settings(
    given: Mapping[str, Any], *, environment: Mapping[str, str] | None = None, here: Path | None = None
) -> FoundSettings:
    """The settings, and which of them are not the user's own words."""
    environment = os.environ if environment is None else environment
    file = (here or Path.cwd()) / FILE
    theirs = _from_file(file)
    users = user_folder("config", environment) / FILE
    from_file = _from_file(users) or {} if theirs is None else theirs
    own = _from_environment(environment) | changes(given)
    return FoundSettings(
        settings=RunSettings(**{**from_file, **own}),
        file=file if theirs is not None else None,
        foreign=frozenset(theirs or ()) - own.keys(),
        notes=tuple(_unknown_variables(environment)),
    )


def changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """What was said on the command line, as texts or values; `None` where nothing was."""
    return {name: _read(name, value, option(name)) for name, value in given.items() if value is not None}


def option(name: str) -> str:
    """A setting's name on the command line."""
    return f"--{SETTINGS[name].option or name.replace('_', '-')}"


def _read(name: str, value: Any, where: str) -> Any:
    return parsed(name, value, where) if isinstance(value, str) else checked(name, value, where)


def _variable(name: str) -> str:
    return f"{PREFIX}{name.upper()}"


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    said = {name: environment.get(_variable(name)) for name in SETTINGS}
    return {name: parsed(name, text, _variable(name)) for name, text in said.items() if text}


def _unknown_variables(environment: Mapping[str, str]) -> Iterator[str]:
    known = {name.removeprefix(PREFIX): name for name in (*map(_variable, SETTINGS), *OTHER_VARIABLES)}
    for name in sorted(environment):
        if name.upper().startswith(PREFIX) and name not in known.values():
            near = nearest(name[len(PREFIX) :], known)
            hint = f"did you mean {known[near]}?" if near else "agentkit run --help lists the settings"
            yield f"{name} is no variable of agentkit and has no effect; {hint}"


def _from_file(path: Path) -> dict[str, Any] | None:
    """What a file says; `None` where there is none. One that cannot be read is an error, not passed over."""
    try:
        content = read_toml(path)
    except NoFile as error:
        raise ConfigurationError(f"{path} {error}; rename it, or write settings into a file of that name") from error
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise ConfigurationError(f"{path} is a link to nothing; mend or remove it") from None
        return None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read ({error.strerror}); mend or remove it") from error
    except ValueError as error:
        reason = in_one_line(error, LONGEST_SHOWN)
        raise ConfigurationError(f"{path}: expected TOML ({reason}); mend or remove the file") from error
    for name in content:
        if name not in SETTINGS:
            near = did_you_mean(name, SETTINGS) or f"; expected one of {', '.join(SETTINGS)}"
            raise ConfigurationError(f"{path}: unknown setting {name!r}{near}")
    return {name: _read(name, value, f"{path}: {name}") for name, value in content.items()}
