"""Settings, read once at the edge: command line, then `AGENTKIT_*`, then `agentkit.toml` (here, then in the user's
config folder), then defaults."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args, get_type_hints

from agentkit.errors import ConfigurationError

MODES = ("auto", "react-json", "tools")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a run is made of.

    `timeout` is in seconds; `max_tokens` and `max_cost` (US dollars) are budgets for the whole run. `mode` is "auto",
    "react-json" or "tools"; `fallbacks` are specs of models. `docs` is a folder to search, `mcp` commands or addresses
    of MCP servers, `allow` the tools that may run (none named: all).
    """

    model: str = "builtin"
    tools: tuple[str, ...] = ("search", "calculator")
    prompt: str = "react-json"
    max_iterations: int = 15
    timeout: float | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    mode: str = "auto"
    fallbacks: tuple[str, ...] = ()
    docs: str | None = None
    mcp: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()


_TYPES = get_type_hints(Settings)


def read_settings(
    given: Mapping[str, Any], *, environment: Mapping[str, str] = os.environ, here: Path | None = None
) -> Settings:
    """The settings; `given` comes from the command line, `None` where nothing was said."""
    chosen = _from_files(here or Path.cwd(), environment) | _from_environment(environment)
    chosen |= {name: value for name, value in given.items() if value is not None}
    if chosen.get("max_iterations", 1) < 1:
        raise ConfigurationError(f"expected max_iterations of at least 1, saw {chosen['max_iterations']}")
    if chosen.get("mode", "auto") not in MODES:
        raise ConfigurationError(f"expected the mode {', '.join(MODES[:-1])} or {MODES[-1]}, saw {chosen['mode']!r}")
    return Settings(**chosen)


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {}
    for field in fields(Settings):
        variable = f"AGENTKIT_{field.name.upper()}"
        if text := environment.get(variable):
            found[field.name] = _convert(field.name, text, variable)
    return found


def _from_files(here: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    config_home = Path(
        environment.get("XDG_CONFIG_HOME") or Path(environment.get("HOME", "~")).expanduser() / ".config"
    )
    for path in (here / "agentkit.toml", config_home / "agentkit" / "agentkit.toml"):
        if path.is_file():
            return _from_file(path)
    return {}


def _from_file(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: expected TOML ({error}); mend or remove the file") from error
    for name in content:
        if name not in _TYPES:
            near = difflib.get_close_matches(name, _TYPES, n=1)
            expected = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(_TYPES)}"
            raise ConfigurationError(f"{path}: unknown setting {name!r}; {expected}")
    return {name: _convert(name, value, f"{path}: {name}") for name, value in content.items()}


def _convert(name: str, value: Any, where: str) -> Any:
    if _TYPES[name] == tuple[str, ...]:
        words = value.split(",") if isinstance(value, str) else value
        return tuple(word.strip() for word in words if word.strip())
    kind = next(kind for kind in (float, int, str) if kind is _TYPES[name] or kind in get_args(_TYPES[name]))
    try:
        return kind(value)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{where}: expected {kind.__name__}, saw {value!r}") from None
