"""A tool as the loop sees it: a name, a description, a JSON schema and a function. No framework needed."""

from __future__ import annotations

import inspect
import json
import re
import unicodedata
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from math import inf
from typing import Any, get_type_hints

from agentkit.errors import ConfigurationError, ToolError, did_you_mean, short_repr
from agentkit.events import Source, ToolInput
from agentkit.option_kinds import check_kinds

STRING: Mapping[str, Any] = {"type": "string"}


@dataclass(frozen=True, slots=True)
class Result:
    """An observation with what a run keeps of it: its sources, and readings of the input that could surprise.

    `text` may be a list of content blocks where there are pictures in it.
    """

    text: Any
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()

    def __str__(self) -> str:
        return text_of(self.text)


class Arguments(dict[str, Any]):
    """Arguments that were read already: somebody was asked about them, and they run as they are.

    `hidden` are those that the model does not give and nobody is asked about.
    """

    hidden: Mapping[str, Any] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> Arguments:
        copied = Arguments({name: _copied(value, memo) for name, value in self.items()})
        copied.hidden = self.hidden
        return copied


class Written(dict[str, Any]):
    """Arguments that a model wrote as `text`, which is what watchers are told of."""

    def __init__(self, arguments: Mapping[str, Any], text: str) -> None:
        super().__init__(arguments)
        self.text = text


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    try:
        return deepcopy(value, memo)
    except Exception:  # a connection, a lock: what a tool's own schema makes need not be plain
        return value


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool.

    `schema` is the JSON schema of `action_input`: `{"type": "string"}` for a tool of one string, else an object schema.
    `run` takes the action's input, a string or a dict, and returns the observation, bare or as a `Result`; it raises
    `ToolError` for what the model can mend. `deterministic` tools are executed again when a cassette is replayed,
    `idempotent` ones after a failure. `side_effects` says whether the tool changes anything; one that does, or that
    says nothing (None), is asked for with `approve`. `timeout_s` is the tool's own limit, `reads` names the environment
    variables of its keys. `parse` gives the arguments as they run, for a tool that checks them itself; those of any
    other are held to `schema` at their top level.
    """

    name: str
    description: str
    run: Callable[[Any], Any]
    arun: Callable[[Any], Awaitable[Any]] | None = None
    schema: Mapping[str, Any] = field(default_factory=lambda: STRING)
    return_direct: bool = False
    deterministic: bool = False
    side_effects: bool | None = None
    idempotent: bool = False
    timeout_s: float | None = None
    reads: tuple[str, ...] = ()
    parse: Callable[[ToolInput], ToolInput] | None = None

    def __post_init__(self) -> None:
        check_kinds({name: getattr(self, name) for name in _kinds()}, _kinds(), what=f"Tool {short_repr(self.name)}")
        if re.sub(r"[\W_]", "", unicodedata.normalize("NFKC", self.name)).casefold() == "finalanswer":
            raise ConfigurationError(f"No tool can be named {self.name!r}, which begins a model's answer; rename it")
        if not self.name.isprintable() or self.name != self.name.strip() or not self.name:
            raise ConfigurationError(
                f"No tool can be named {self.name!r}: a name is one line of characters that can be seen; rename it"
            )
        if not callable(self.run) or inspect.iscoroutinefunction(self.run):
            is_async = ", which is async; give that as arun, and a plain function as run"
            saw = is_async if callable(self.run) else f", saw {short_repr(self.run)}"
            raise ConfigurationError(f"Tool {self.name}: expected run to be a function of the input{saw}")
        if wrong := _unreadable(self.schema):
            raise ConfigurationError(f"Tool {self.name}: expected a JSON schema, saw {wrong}; mend it there")
        if self.timeout_s is not None and not 0 < self.timeout_s < inf:
            raise ConfigurationError(
                f"Tool {self.name}: timeout_s is more than 0, or None for no limit, not {self.timeout_s}"
            )

    @property
    def only_reads(self) -> bool:
        """Whether it is said to change nothing: `approve` is not asked before such a tool."""
        return self.side_effects is False or (self.side_effects is None and self.deterministic)

    @property
    def takes_one_string(self) -> bool:
        """Whether `run` takes a bare string."""
        return self.schema.get("type") == "string"

    @property
    def input_schema(self) -> Mapping[str, Any]:
        """The schema of what a model writes as `action_input`: a string where the only argument is one."""
        only = _only_string(self.schema)
        return self.schema if only is None else self.schema["properties"][only]

    def call(self, tool_input: ToolInput) -> Any:
        """The observation; raises `ToolError` for arguments that do not fit."""
        return lines_of(self.run(self._held(tool_input)))

    async def acall(self, tool_input: ToolInput) -> Any:
        """The observation; only for a tool that has `arun`."""
        assert self.arun is not None
        return lines_of(await self.arun(self._held(tool_input)))

    def arguments(self, tool_input: ToolInput) -> ToolInput:
        """What the tool is going to run with, for whoever is asked first; raises `ToolError` for what does not fit."""
        held = self._held(tool_input)
        read = _with_defaults(held, self.schema) if self.parse is None else self.parse(held)
        return Arguments(read) if isinstance(read, dict) and not isinstance(read, Arguments) else read

    def _held(self, tool_input: ToolInput) -> ToolInput:
        if isinstance(tool_input, Arguments):
            return tool_input
        fitted = self.fitted(tool_input)
        if isinstance(fitted, str) and takes_nothing(self.schema):
            raise ToolError(f"Error: {self.name} takes no arguments; leave action_input out.")
        if self.parse is None and (wrong := misfit(fitted, self.schema)):
            raise does_not_fit(self.name, wrong, self.schema)
        return fitted

    def fitted(self, tool_input: ToolInput) -> ToolInput:
        """A tool of one string is often given `{"query": "…"}`, one of an object the text of it, or its one value."""
        if self.takes_one_string and isinstance(tool_input, dict):
            if (text := _one_text(tool_input)) is None:
                raise ToolError(f"{self.name} takes one string as action_input, got an object; give a string.")
            return text
        if not self.takes_one_string and isinstance(tool_input, str):
            return as_arguments(tool_input, self.schema)
        only = _only_string(self.schema)
        if only is not None and isinstance(tool_input, dict) and (text := _one_text(tool_input)) is not None:
            return {only: text}
        return tool_input


@cache
def _kinds() -> Mapping[str, Any]:
    """What each field is, but for those that have a check of their own."""
    return {name: kind for name, kind in get_type_hints(Tool).items() if name not in ("run", "schema")}


# -- results that come piece by piece ------------------------------------------------------------------------------

MOST_READ = 100_000
"""Characters of the pieces that are read one after another: there may be no end of them."""


class Lines:
    """Pieces of a result, one a line, as far as they are read."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._left = MOST_READ

    def add(self, piece: Any) -> bool:
        """Whether another one is to be read."""
        self._lines.append(str(piece).removesuffix("\n"))
        self._left -= len(self._lines[-1]) + 1
        if self._left <= 0:
            self._lines.append(f"[cut here: of what comes piece by piece, {MOST_READ:,} characters are read]")
        return self._left > 0

    def __str__(self) -> str:
        return "\n".join(self._lines)


def lines_of(value: Any) -> Any:
    """What an iterator gives as lines; any other value as it is."""
    if not isinstance(value, Iterator):
        return value
    lines = Lines()
    all(lines.add(piece) for piece in value)
    return str(lines)


# -- results that are more than text -------------------------------------------------------------------------------

_BLOCKS = ("text", "image", "image_url", "audio", "input_audio", "video", "file")
_DATA = re.compile(r"data:(image/[\w.+-]+);base64,[A-Za-z0-9+/=_-]+\s*")


def is_content(value: Any) -> bool:
    """Whether this is a list of content blocks (OpenAI's, LangChain's, Anthropic's or MCP's) that are not all text."""
    if not isinstance(value, list):
        return False
    kinds = [block.get("type") if isinstance(block, Mapping) else None for block in value]
    return all(kind in _BLOCKS for kind in kinds) and any(kind != "text" for kind in kinds)


def text_of(content: Any) -> str:
    """The text of content blocks, in which what is no text is named; any other value's text."""
    if not isinstance(content, list) or not all(isinstance(block, str | Mapping) for block in content):
        return str(content)
    return "\n".join(block if isinstance(block, str) else _block_text(block) for block in content)


def _block_text(block: Mapping[str, Any]) -> str:
    if block.get("type") == "text":
        return str(block.get("text", ""))
    kind = block.get("mime_type") or block.get("mimeType") or block.get("type", "content")
    if any(key in block for key in ("base64", "data", "image_url", "source")):
        return f"[{kind}]"
    return f"[{kind}: {block['url']}]" if "url" in block else json.dumps(block, ensure_ascii=False, default=str)


def pictures_of(value: Any) -> list[dict[str, Any]]:
    """The pictures that content blocks hold, in OpenAI's form.

    Only what is in the blocks themselves: an address, or the path of a file, is a tool's word, and is not followed.
    """
    if not is_content(value):
        return []
    found = (_DATA.fullmatch(_address(block)) for block in value)
    return [{"type": "image_url", "image_url": {"url": one.group().strip()}} for one in found if one is not None]


def _address(block: Mapping[str, Any]) -> str:
    if block["type"] == "image_url":
        inner = block.get("image_url")
        return str(inner.get("url") if isinstance(inner, Mapping) else inner)
    source = block["source"] if isinstance(block.get("source"), Mapping) else block
    kind = next((source[key] for key in ("mime_type", "media_type", "mimeType") if source.get(key)), "image/png")
    data = source.get("base64") or source.get("data")
    return f"data:{kind};base64,{data}" if block["type"] == "image" and isinstance(data, str) else ""


# -- arguments and the JSON schema they are to fit -------------------------------------------------------------------

_TYPES: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "array": (list,),
    "object": (dict,),
}


_MORE_PROPERTIES = ("patternProperties", "anyOf", "oneOf", "allOf", "if", "dependentSchemas", "$ref")
"""What of a schema may take arguments that are not among its `properties`."""


def takes_nothing(schema: Mapping[str, Any]) -> bool:
    """Whether an object of a schema has no properties, so that a call needs no `action_input`."""
    others = ("properties", "additionalProperties", "required", *_MORE_PROPERTIES)
    return schema.get("type") == "object" and not any(map(schema.get, others))


def is_nothing(given: Any) -> bool:
    """Whether what was given to a tool without arguments says that there are none."""
    return not given or (isinstance(given, str) and given.strip().casefold() in ("", "{}", "()", "none", "null", "n/a"))


def _only_string(schema: Mapping[str, Any]) -> str | None:
    """The name of a schema's only argument, where that is a string."""
    properties = schema.get("properties")
    if not isinstance(properties, Mapping) or len(properties) != 1 or schema.get("additionalProperties"):
        return None
    ((name, one),) = properties.items()
    return name if isinstance(one, Mapping) and one.get("type") == "string" else None


def _one_text(arguments: Mapping[str, Any]) -> str | None:
    """The only value of arguments as text, whatever its name; none where there are several, or it is none."""
    values = list(arguments.values())
    return str(values[0]) if len(values) == 1 and isinstance(values[0], str | int | float) else None


def as_arguments(text: str, schema: Mapping[str, Any]) -> ToolInput:
    """The object that was written as text, or the one argument that can be meant; else the text."""
    only = _only_string(schema)
    if text.lstrip().startswith("{"):
        with suppress(ValueError, RecursionError):
            value = json.loads(text)
            if isinstance(value, dict) and (only is None or value.keys() == {only}):
                return Written(value, text)
    names = list(schema.get("properties", ()))
    required = [name for name in schema.get("required", ()) if name in names]
    if not names and (not text.strip() or (takes_nothing(schema) and is_nothing(text))):
        return Written({}, text)
    for candidates in (names, required):
        if len(candidates) == 1:
            return Written({candidates[0]: text}, text)
    return text


def _unreadable(schema: Any) -> str | None:
    """What of a schema no arguments could be held to: the parts that `misfit` reads."""
    if not isinstance(schema, Mapping):
        return short_repr(schema)
    properties, required = schema.get("properties", {}), schema.get("required", [])
    if not isinstance(properties, Mapping):
        return f"properties that are no object: {short_repr(properties)}"
    if not isinstance(required, list | tuple) or not all(isinstance(name, str) for name in required):
        return f"required that is no list of names: {short_repr(required)}"
    for name, each in properties.items():
        if isinstance(each, Mapping) and not isinstance(each.get("enum", []), list | tuple):
            return f"an enum of {name} that is no list: {short_repr(each['enum'])}"
    return None


def misfit(tool_input: ToolInput, schema: Mapping[str, Any]) -> str | None:
    """What is wrong with arguments, at their top level; nested ones are for the tool to check."""
    if schema.get("type") == "string":
        return None
    if isinstance(tool_input, str):
        return "it is no object"
    properties = schema.get("properties", {})
    wrong = [f"{name}: missing" for name in schema.get("required", ()) if name not in tool_input]
    if _lists_all(schema):
        wrong += unknown(tool_input, properties)
    for name, value in tool_input.items():
        expected = properties.get(name)
        if isinstance(expected, Mapping) and not _is_a(value, expected.get("type")):
            wrong.append(f"{name}: expected {expected['type']}")
        elif isinstance(expected, Mapping) and "enum" in expected and value not in expected["enum"]:
            wrong.append(f"{name}: expected one of {json.dumps(expected['enum'])}")
    return "; ".join(wrong) or None


def _lists_all(schema: Mapping[str, Any]) -> bool:
    """Whether arguments that a schema does not list are mistakes: it says so, or lists some and nothing of others."""
    others = schema.get("additionalProperties", "properties" not in schema or any(map(schema.get, _MORE_PROPERTIES)))
    return others is False


def unknown(given: Iterable[str], names: Collection[str]) -> list[str]:
    """What is wrong with the names of arguments that a tool does not have, and would leave out without a word."""
    return [f"{name}: unknown{did_you_mean(name, names)}" for name in given if name not in names]


def _is_a(value: Any, kind: Any) -> bool:
    """Whether a value is of a JSON type; of several, or none named, it may be anything."""
    if not isinstance(kind, str) or kind not in _TYPES:
        return True
    if kind == "integer" and isinstance(value, float) and value.is_integer():
        return True  # as JSON schema has it: 1.0 is one
    return isinstance(value, _TYPES[kind]) and not (isinstance(value, bool) and kind != "boolean")


def _with_defaults(tool_input: ToolInput, schema: Mapping[str, Any]) -> ToolInput:
    """Arguments with what a tool is said to take where they leave something out."""
    properties = schema.get("properties")
    if not isinstance(tool_input, dict) or not isinstance(properties, Mapping):
        return tool_input
    said = {name: one["default"] for name, one in properties.items() if isinstance(one, Mapping) and "default" in one}
    fits = {
        name: value for name, value in said.items() if value is not None and _is_a(value, properties[name].get("type"))
    }
    return {**tool_input, **{name: value for name, value in fits.items() if name not in tool_input}}


def does_not_fit(name: str, wrong: str, schema: Mapping[str, Any]) -> ToolError:
    """The error that tells the model what is wrong with its arguments, with the schema."""
    shown = {key: _untitled(schema[key]) for key in ("properties", "required", "$defs") if schema.get(key)}
    takes = f"Its JSON schema: {json.dumps(shown, ensure_ascii=False)}" if shown else "It takes no arguments"
    return ToolError(f"Error: action_input does not fit {name} ({wrong}). {takes}")


def _untitled(schema: Any) -> Any:
    """A schema without the titles that pydantic adds, which say nothing."""
    if isinstance(schema, Mapping):
        return {k: _untitled(v) for k, v in schema.items() if not (k == "title" and isinstance(v, str))}
    return [_untitled(part) for part in schema] if isinstance(schema, list) else schema
