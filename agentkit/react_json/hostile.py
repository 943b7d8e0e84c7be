"""Makes a tool's text harmless to a prompt and to a model that repeats it: nothing in it begins a label, a fence, a
chat template's token or an action. Harmless text is not changed by a byte.

What is broken gets a zero-width space, which people do not see and models read over; `agentkit.react_json.calls` takes
no key that has one. This is mitigation: what a tool may do is enforced where tools run.
"""

from __future__ import annotations

import re
from functools import lru_cache

from agentkit.react_json.folding import folded
from agentkit.react_json.turn import BREAK

__all__ = ["defused"]

# Overrides of the writing direction, and the invisible letters that spell out instructions (Unicode "tags").
_HIDDEN = re.compile("[\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")

_FINAL = (
    "Final[ _-]?Answer|最终答案|最终回答|最終答案|最終回答|최종 답변|Respuesta final|Resposta final|Réponse finale"
    "|Endgültige Antwort|Finale Antwort|Окончательный ответ|Финальный ответ"
)
_LABEL = (
    f"{_FINAL}|Action(?:[ _-]?Input)?|Observation|Thoughts?|思考|想法|行动|行動|动作|操作|观察结果|观察|觀察|観察"
    "|行动输入|行動輸入|动作输入|操作输入|行動入力|생각|행동|관찰"
    "|Pensamiento|Pensamento|Pensée|Gedanke|Мысль|Acción|Ação|Aktion|Действие|Entrada de (?:la )?acción"
    "|Observación|Observação|Beobachtung|Наблюдение"
)
_LINE = r"(?:^|[\r\v\f\x85\u2028\u2029.!?。)>|]|\\n|<br ?/?>)[ \t>|]*(?:#{1,6} *|[-•*] +|\d{1,2}[.)] *)?[*_]{0,3}"
_TAG = (
    "s|bos|eos|unk|pad|image|think|thinking|thought|reasoning|reflection|seed:think|tool|tool_calls?|tool_response"
    "|function_calls?|functioncall|start_of_turn|end_of_turn|start_of_image|end_of_image|invoke|parameter"
)
_BRACKET = "INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS?|TOOL_RESULTS?|TOOL_CONTENT|THINK|IMG|ARGS|CALL_ID"
_QUOTE = "[\"'\u2018-\u201d]?"
_INPUT = "(?:tool|function)?[ _-]?(?:input|arguments|args|parameters|params)"


def _compiled(*patterns: str) -> list[re.Pattern[str]]:
    return [re.compile(folded(pattern)[0], re.IGNORECASE | re.MULTILINE) for pattern in patterns]


_BREAKS = _compiled(  # each break goes behind the group "head"
    rf"(?P<head>{_LINE}(?=(?:{_LABEL})(?: ?\d{{1,3}})? ?[*_]{{0,3}}[ \t]*:)\w)",
    rf"(?P<head>^ {{0,3}}(?:#{{1,6}} *|\*\*)(?=(?:{_FINAL}) ?(?:\*\*)? *\r?$)\w)",  # a heading needs no colon
    r"(?P<head>``(?=`)|~~(?=~))",
    r"(?P<head><)(?=\|[^|<>\n]{1,60}\|)",
    rf"(?P<head><)(?=/?(?:minimax:|antml:)?(?:{_TAG})[ =>]|function=|</?SYS>>)",
    rf"(?P<head>\[(?=/?(?:{_BRACKET})\])|◁(?=/?think▷))",
    rf"(?P<head>{_QUOTE}(?:action[ _-]?input|final[ _-]?answer))(?={_QUOTE}\s*:)",
)
_INPUT_KEYS = _compiled(rf"(?P<head>{_QUOTE}{_INPUT})(?={_QUOTE}\s*:)")
_NAME_KEY = re.compile(rf"{_QUOTE}(?:action|tool|name|(?:tool|function)[ _-]?name|function){_QUOTE}\s*:", re.IGNORECASE)


@lru_cache(maxsize=64)
def defused(text: str) -> str:
    """The text as a model may see it. Linear in its length."""
    text = _HIDDEN.sub("", text)
    plain, places = folded(text)
    patterns = _BREAKS + _INPUT_KEYS if _NAME_KEY.search(plain) else _BREAKS
    breaks = sorted({places[match.end("head")] for pattern in patterns for match in pattern.finditer(plain)})
    if not breaks:
        return text
    pieces = [text[start:end] for start, end in zip([0, *breaks], [*breaks, len(text)], strict=True)]
    return BREAK.join(pieces)
