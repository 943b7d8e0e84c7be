"""What one turn of the model says: an action to take, or the final answer; and which JSON values mean either."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from agentkit.events import Action, FinalAnswer, ToolInput
from agentkit.react_json.lenient_json import BrokenJson, read_json
from agentkit.react_json.marks import ANSWER_KEYS, ARGUMENTS_KEYS, BREAK, INPUT_KEYS, NAME_KEYS
from agentkit.tool import is_nothing, takes_nothing

__all__ = ["NotADecision", "Schemas", "Turn", "decisions_in", "is_no_tool", "named_action"]

Schemas = Mapping[str, Mapping[str, Any]]
"""The JSON schemas of tools' inputs, by the tools' names."""


def _letters(keys: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(key.replace(" ", "") for key in keys)


_NAMES, _ANSWERS = _letters(NAME_KEYS), _letters(ANSWER_KEYS)
_NATIVE_INPUTS = _letters(ARGUMENTS_KEYS)
_INPUTS = _letters(INPUT_KEYS) + _NATIVE_INPUTS
_WRAPPERS = ("toolcall", "toolcalls", "functioncall", "functioncalls", "function", "actions", "calls")
_KNOWN = {*_NAMES, *_ANSWERS, *_INPUTS, *_WRAPPERS}
_NO_TOOL = re.compile(r"(?:|none|null|nil|no|n/?a|nothing|-+|no (?:action|tool)s?|none (?:needed|required))\W*", re.I)


@dataclass(frozen=True, slots=True)
class Turn:
    """One parsed turn.

    `thought` is the free text before the decision, without its label; `invented` counts the observations the model
    wrote itself, which were cut off together with all that followed them.
    """

    decision: Action | FinalAnswer
    thought: str = ""
    invented: int = 0


class NotADecision(ValueError):
    """A JSON value that is neither an action nor an answer; `meant` when it was clearly to be one."""

    def __init__(self, reason: str, *, meant: bool) -> None:
        super().__init__(reason)
        self.meant = meant


def decisions_in(
    value: Any, tools: Schemas | None = None, *, native: bool = False, depth: int = 0
) -> list[Action | FinalAnswer]:
    """The actions or answers that `value` asks for, in order; raises `NotADecision`.

    `native`: it stands where a tool call must stand, so that a name alone is a call without arguments.
    """
    if isinstance(value, list) and value and depth < 3:
        return [decision for item in value for decision in decisions_in(item, tools, native=native, depth=depth + 1)]
    if not isinstance(value, dict):
        raise NotADecision(f"is {_article(value)}, not an object with an action", meant=False)
    if isinstance(value.get("action"), str) and "action_input" in value and len(value) == 2:
        return [named_action(value["action"], value["action_input"], tools)]
    if value.keys() == {"action"} and isinstance(value["action"], str) and not _needs_input(value["action"], tools):
        return [named_action(value["action"], None, tools)]
    keys = _normal(value)
    answers = [keys[key] for key in _ANSWERS if key in keys]
    names = [key for key in _NAMES if key in keys and not (key == "function" and isinstance(keys[key], dict))]
    if answers and (not names or is_no_tool(keys[names[0]], tools)):
        return [_answer(answers[0])]
    if answers:
        raise NotADecision("holds both an action and a final answer", meant=True)
    if not names:
        return _wrapped(value, keys, tools, native, depth)
    return [_action(keys, names, tools, native)]


def named_action(name: Any, tool_input: Any, tools: Schemas | None = None) -> Action | FinalAnswer:
    """The action `name` with `tool_input`; the tool "Final Answer" is the answer, unless `tools` have its spelling."""
    if isinstance(name, str) and tools and name in tools:
        takes_none = takes_nothing(tools[name]) and is_nothing(tool_input)
        return Action(name, {} if takes_none else _tool_input(tool_input))
    if is_no_tool(name):
        raise NotADecision("names no tool", meant=True)
    if not isinstance(name, str):
        raise NotADecision(f"has {_article(name)} as action, which must be a tool's name in quotes", meant=True)
    name = name.strip().replace("\\_", "_")
    if name[0] in "fF" and re.sub(r"[\s_-]", "", name.lower()) == "finalanswer":
        return _answer(tool_input)
    return Action(name, _tool_input(tool_input))


def is_no_tool(name: Any, tools: Schemas | None = None) -> bool:
    """Whether a name says that no tool is wanted; that of one of `tools` never does."""
    if not isinstance(name, str):
        return name is None
    if tools and name in tools:
        return False
    name = name.strip(" \t\r\n*_`\"'().")
    return not name or (name[0] in "nN-" and _NO_TOOL.fullmatch(name) is not None)


def _normal(value: Mapping[str, Any]) -> dict[str, Any]:
    """The known keys without case, blanks and underscores, `Action Input` as `actioninput`."""
    keys: dict[str, Any] = {}
    for key, item in value.items():
        normal = key if BREAK in key else re.sub(r"[\W_]", "", key).lower()
        if normal in keys and normal in _NAMES + _INPUTS + _ANSWERS and keys[normal] != item:
            raise NotADecision(f"gives {normal} twice with different values", meant=True)
        keys.setdefault(normal, item)
    return keys


def _action(keys: Mapping[str, Any], names: list[str], tools: Schemas | None, native: bool) -> Action | FinalAnswer:
    inputs = [key for key in _INPUTS if key in keys]
    if names[0] == "action" and "actioninput" in keys:
        return named_action(keys["action"], keys["actioninput"], tools)
    # A thing with a name and an "input" may be anything; with arguments it is a call.
    meant = native or names != ["name"] or any(key in _NATIVE_INPUTS for key in inputs)
    if len(names) > 1 and len({str(keys[name]) for name in names}) > 1:
        raise NotADecision(f"names the tool twice, as {names[0]} and {names[1]}", meant=meant)
    if not inputs and native:
        return named_action(keys[names[0]], None, tools)
    if not inputs:
        raise NotADecision("has no action_input", meant=names[0] in ("action", "tool"))
    if len(inputs) > 1 or not meant:
        raise NotADecision('must have the keys "action" and "action_input"', meant=meant)
    tool_input = keys[inputs[0]]
    if inputs[0] in _NATIVE_INPUTS and isinstance(tool_input, str):
        tool_input = _object_in(tool_input)
    return named_action(keys[names[0]], tool_input, tools)


def _needs_input(name: Any, tools: Schemas | None) -> bool:
    """Whether a tool is known to need an input."""
    schema = tools.get(name) if tools and isinstance(name, str) else None
    return schema is not None and bool(schema.get("type") == "string" or schema.get("required"))


def _wrapped(
    value: Mapping[str, Any], keys: Mapping[str, Any], tools: Schemas | None, native: bool, depth: int
) -> list[Action | FinalAnswer]:
    inner = [keys[key] for key in _WRAPPERS if isinstance(keys.get(key), dict | list)]
    if len(inner) == 1 and depth < 3:
        return decisions_in(inner[0], tools, native=native, depth=depth + 1)
    if native and len(value) == 1 and not keys.keys() & _KNOWN:
        ((name, arguments),) = value.items()
        if isinstance(arguments, dict):  # the name is the key
            return [named_action(name, arguments, tools)]
    raise NotADecision('has no "action" key', meant="actioninput" in keys)


def _tool_input(value: Any) -> ToolInput:
    if isinstance(value, str | dict):
        return value
    if value is None:
        return {}
    if isinstance(value, list):
        raise NotADecision("has a list as action_input, which must be a string or an object", meant=True)
    return json.dumps(value)


def _answer(value: Any) -> FinalAnswer:
    text = value.strip() if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if not text or value is None:
        raise NotADecision("is a final answer without text", meant=True)
    return FinalAnswer(text)


def _object_in(text: str) -> ToolInput:
    """The object that native arguments give as the text of one; other text is the input itself."""
    if not text.startswith("{"):
        return text
    try:
        value, end = read_json(text, 0)
    except BrokenJson as broken:
        raise NotADecision(f"has arguments whose JSON {broken}", meant=True) from None
    return value if isinstance(value, dict) and not text[end:].strip() else text


def _article(value: Any) -> str:
    kinds = {
        str: "a string",
        bool: "a truth value",
        list: "a list without actions",
        dict: "an object",
        type(None): "null",
    }
    return kinds.get(type(value), "a number")
