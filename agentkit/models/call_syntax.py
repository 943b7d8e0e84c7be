"""How a model writes tool calls, learned from its own chat template."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from agentkit.models.backend import Message
from agentkit.react_json.marks import CALL_ID, CallSyntax

_PROBE: dict[str, Any] = {"id": CALL_ID, "type": "function", "function": {"name": "probe", "arguments": '{"n": 17}'}}
_PROBE_TOOL = {
    "type": "function",
    "function": {
        "name": "probe",
        "description": "Probes",
        "parameters": {"type": "object", "properties": {"n": {"type": "integer", "description": "A number"}}},
    },
}
_ASKED: Message = {"role": "user", "content": "hello"}
_ANSWERED: Message = {"role": "assistant", "content": "Zq"}
_CALL = re.compile(r'(.*?)probe(.*?)\{\s*"n"\s*:\s*17\s*\}(.*)', re.DOTALL)

Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], str]


def learned_syntax(render: Render, markup: re.Pattern[str] | None) -> CallSyntax | None:
    """The syntax a template writes calls in, found by letting it write some; `render` may raise what templates raise.

    None where it shows no tools, or where its calls are no name followed by a JSON object. `markup` are the tokens that
    are not to be cut in two.
    """
    if "probe" not in render([_ASKED], [_PROBE_TOOL]):
        return None
    answered = render([_ASKED, _ANSWERED], [_PROBE_TOOL])
    one = _CALL.fullmatch(_what_differs(render([_ASKED, _calling(1)], [_PROBE_TOOL]), answered, markup))
    if one is None or not one[1].strip() or not one[2].strip():
        return None
    try:
        two = _CALL.fullmatch(_what_differs(render([_ASKED, _calling(2)], [_PROBE_TOOL]), answered, markup))
    except Exception:  # templates refuse what they were not written for in many ways: this one takes one call a turn
        two = None
    second = _CALL.fullmatch(two[3]) if two else None
    return CallSyntax(one[1], one[2], second[1] if second else None, one[3])


def _calling(count: int) -> Message:
    return {"role": "assistant", "content": "", "tool_calls": [_PROBE] * count}


def _what_differs(text: str, other: str, markup: re.Pattern[str] | None) -> str:
    """`text` without the beginning and the end it has in common with `other`, no token of `markup` cut in two."""
    start = _shared(text, other)
    end = len(text) - _shared(text[start:][::-1], other[start:][::-1])
    for token in markup.finditer(text) if markup else ():
        if token.start() < start < token.end():
            start = token.start()
        if token.start() < end < token.end():
            end = token.start()
    return text[start:end]


def _shared(first: str, second: str) -> int:
    """How many letters two texts have in common from their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
