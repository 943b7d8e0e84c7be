"""How a model writes tool calls: learned from its own chat template, Hermes' way where that has none."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.models.backend import Message

CALL_ID = "call00000"  # nine letters and digits: what Mistral's template insists on
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
_SAID: Message = {"role": "assistant", "content": "Zq"}
_CALL = re.compile(r'(.*?)probe(.*?)\{\s*"n"\s*:\s*17\s*\}(.*)', re.DOTALL)
_LEADING_MARKUP = re.compile(r"<[^<>\s]+>|\[[A-Z_]+\]")

Render = Callable[[Sequence[Message], Sequence[Mapping[str, Any]]], str]


@dataclass(frozen=True, slots=True)
class CallSyntax:
    """The text around calls: `opening` NAME `middle` ARGUMENTS (`between` NAME `middle` ARGUMENTS)* `closing`.

    ARGUMENTS are a JSON object. `between` is None where a turn makes one call. `CALL_ID` stands where a call's id goes.
    """

    opening: str
    middle: str
    between: str | None
    closing: str

    @property
    def trigger(self) -> str:
        """What cannot stand in a reply unless a call follows; "" where a call is nothing but its JSON."""
        opening = self.opening.lstrip()
        markup = _LEADING_MARKUP.match(opening)
        return markup[0] if markup else opening.partition("{")[0].rstrip()


HERMES = CallSyntax(
    opening='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    between='}\n</tool_call>\n<tool_call>\n{"name": "',
    closing="}\n</tool_call>",
)


def learned_syntax(render: Render, markup: re.Pattern[str] | None) -> CallSyntax | None:
    """The syntax a template writes calls in, found by letting it write some; `render` may raise what templates raise.

    None where it shows no tools, or where its calls are no name followed by a JSON object. `markup` are the tokens that
    are not to be cut in two.
    """
    if "probe" not in render([_ASKED], [_PROBE_TOOL]):
        return None
    said = render([_ASKED, _SAID], [_PROBE_TOOL])
    one = _CALL.fullmatch(_what_differs(render([_ASKED, _calling(1)], [_PROBE_TOOL]), said, markup))
    if one is None or not one[1].strip() or not one[2].strip():
        return None
    try:
        two = _CALL.fullmatch(_what_differs(render([_ASKED, _calling(2)], [_PROBE_TOOL]), said, markup))
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
