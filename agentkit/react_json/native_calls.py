"""Tool calls in a model's own tokens instead of the dialect: Hermes, Qwen, Llama, Mistral, Kimi, DeepSeek, harmony …

They are read where they hold JSON, or tags whose values are plain strings; anything else is refused with a reason.
"""

from __future__ import annotations

import re
from typing import Any

from agentkit.events import Action, FinalAnswer
from agentkit.react_json.calls import NotADecision, decisions_in, named_action
from agentkit.react_json.lenient_json import read_json

__all__ = ["read_native"]

# Opening tokens, which say nothing but that calls follow.
_SKIP = re.compile(
    r"(?:\s++|`{3,}(?:json)?|</?(?:minimax:|antml:)?(?:tool_calls?|function_calls?|functioncall)>|\[/?TOOL_CALLS?\]"
    r"|<\|tool_call(?:s_section_begin|s_section_end|_begin|_end|_start)?\|>|<\|python_tag\|>|<\|eom_id\|>|<\|call\|>"
    r"|<｜tool▁calls?▁(?:begin|end)｜>|<\|start\|>assistant|</function>|</(?:antml:)?invoke>)*+"
)
# A name that stands outside the JSON of its arguments.
_NAMED = [
    re.compile(r"<function=(?P<name>[^>\s]++)>\s*(?=\{)"),
    re.compile(r"(?:functions\.)?(?P<name>[\w.-]+?)(?::\d+)?\s*<\|tool_call_argument_begin\|>\s*(?=\{)"),
    re.compile(r"(?:function)?<｜tool▁sep｜>(?P<name>[^\n<]++)\n?(?:```json)?\s*(?=\{)"),
    re.compile(r"<\|channel\|>commentary to=(?:functions\.)?(?P<name>[\w.-]++)[^{\n]*<\|message\|>\s*(?=\{)"),
    re.compile(r"(?P<name>[\w.-]++)(?:\[CALL_ID\]\w++)?(?:\[ARGS\])?\s*(?=\{)"),
]
_FUNCTION = re.compile(r"<function=(?P<name>[^>\s]++)>|<(?:antml:)?invoke name=\"(?P<invoked>[^\"\n]++)\">")
_FUNCTION_END = re.compile(r"\s*</(?:function|(?:antml:)?invoke)>")
_PARAMETER = re.compile(
    r"\s*<(?:antml:)?parameter(?:=| name=\")(?P<key>[^>\"\s]++)\"?>(?P<value>[^<]*+)</(?:antml:)?parameter>"
)
_TYPED = re.compile(r"[\[{]|-?\d+(?:\.\d+)?\Z|(?:true|false|null|none)\Z", re.IGNORECASE)


def read_native(text: str, at: int) -> tuple[list[Action | FinalAnswer], int]:
    """All calls from `at` on and where they end; raises `NotADecision` or `BrokenJson`."""
    calls: list[Action | FinalAnswer] = []
    end = at
    while (call := _one(text, _skip(text, end))) is not None:
        calls += call[0]
        end = _skip(text, call[1])
    if not calls:
        raise NotADecision("is a tool call in a format of its own", meant=True)
    if any(isinstance(call, FinalAnswer) for call in calls):
        raise NotADecision("is a final answer written as a tool call", meant=True)
    return calls, end


def _skip(text: str, at: int) -> int:
    match = _SKIP.match(text, at)
    return match.end() if match else at


def _one(text: str, at: int) -> tuple[list[Action | FinalAnswer], int] | None:
    """The call at `at`; none when nothing there looks like one."""
    if text.startswith(("{", "["), at):
        value, end = read_json(text, at)
        return decisions_in(value), end
    for pattern in _NAMED:
        if match := pattern.match(text, at):
            arguments, end = read_json(text, match.end())
            return [named_action(match["name"], arguments)], end
    if match := _FUNCTION.match(text, at):
        arguments, end = _parameters(text, match.end())
        return [named_action(match["name"] or match["invoked"], arguments)], end
    return None


def _parameters(text: str, at: int) -> tuple[dict[str, Any], int]:
    """Arguments in tags. Their types stand in the tool's schema, so what may be no string is refused."""
    arguments: dict[str, Any] = {}
    while match := _PARAMETER.match(text, at):
        value = match["value"].strip()
        if _TYPED.match(value) or match["key"] in arguments:
            raise NotADecision("has arguments in tags, whose types cannot be told", meant=True)
        arguments[match["key"]] = value
        at = match.end()
    closing = _FUNCTION_END.match(text, at)
    if closing is None:
        raise NotADecision("is a tool call in tags that is not complete", meant=True)
    return arguments, closing.end()
