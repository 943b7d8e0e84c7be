"""Whether options are of the kinds that are declared for them, before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from agentkit.errors import ConfigurationError, described

_WORDS: Mapping[Any, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "text",
    Path: "a path",
    Sequence: "a list",
    Mapping: "an object of names and values",
    Callable: "a function",
}


def check_kinds(options: Mapping[str, Any], kinds: Mapping[str, Any], *, what: str) -> None:
    """Raise `ConfigurationError` for a value that is not of its option's type; `kinds` are type hints by name."""
    for name, value in options.items():
        if name in kinds and not fits(value, kinds[name]):
            raise ConfigurationError(f"{name} is {expected(kinds[name])}, not {described(value)} (an option of {what})")


def without_limits(options: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The options, in which the word none lifts a limit: what is a number or None, and no text, is None then."""
    return {
        name: None
        if isinstance(value, str) and value.strip().casefold() == "none" and _is_limit(kinds.get(name))
        else value
        for name, value in options.items()
    }


def _is_limit(kind: Any) -> bool:
    kinds = {*get_args(kind)}
    return NoneType in kinds and kinds <= {NoneType, int, float}


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type. A whole number is a number, too; a list is any sequence but text."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is Any:
        return True
    if origin in (Union, UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    base = origin or kind
    if base is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if base is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if base in (list, tuple, Sequence):
        each = inner[0] if inner else Any
        return isinstance(value, Sequence) and not isinstance(value, str | bytes) and all(fits(v, each) for v in value)
    return isinstance(value, base)


def expected(kind: Any) -> str:
    """A type in words."""
    inner = [one for one in get_args(kind) if one is not NoneType]
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(expected, inner))
    if get_origin(kind) is Literal:
        return " or ".join(map(repr, inner))
    base = get_origin(kind) or kind
    base = Sequence if base in (list, tuple) else Mapping if base is dict else base
    of = f" of {expected(inner[0])}" if base is Sequence and inner and inner[0] is not Any else ""
    return _WORDS.get(base, getattr(base, "__name__", str(base))) + of
