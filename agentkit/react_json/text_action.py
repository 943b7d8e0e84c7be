"""The older dialect, `Action: name` and `Action Input: text or JSON`, which models fall back to."""

from __future__ import annotations

import re

from agentkit.events import Action, FinalAnswer
from agentkit.react_json.calls import NotADecision, is_no_tool, named_action
from agentkit.react_json.lenient_json import read_json
from agentkit.react_json.sections import BODY, TRAILER

__all__ = ["text_action"]

_WORD = re.compile(r"\w")
_FENCE = re.compile(r"(`{3,}+|~{3,}+)[^\n`]*+\n")


def text_action(name: str, written: str) -> Action | FinalAnswer:
    """The action of a name and what stands behind `Action Input:`; raises `NotADecision` or `BrokenJson`."""
    body = BODY.match(written)
    at = body.end() if body else 0
    if not written.startswith(("{", "["), at):
        return named_action(name, _plain(written))
    value, end = read_json(written, at)
    trailer = TRAILER.match(written, end)
    if _WORD.search(written, trailer.end() if trailer else end):
        raise NotADecision("goes on behind its JSON", meant=True)
    if not isinstance(value, dict):
        return named_action(name, written)
    if value.keys() == {"action", "action_input"}:
        if value["action"] != name:
            raise NotADecision("names another action inside", meant=True)
        value = value["action_input"]
    return named_action(name, value)


def _plain(written: str) -> str:
    fence = _FENCE.match(written)
    fenced = fence is not None and written.endswith("\n" + fence[1]) and fence.end() < len(written) - len(fence[1])
    text = written[fence.end() : -len(fence[1]) - 1] if fence and fenced else written
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" and text.count(text[0]) == 2 and "\\" not in text:
        text = text[1:-1]
    if not text or is_no_tool(text):
        raise NotADecision("is missing", meant=True)
    return text
