"""The marks that give a turn its shape: labels, fences, reasoning tags, tool-call tokens.

A label counts only at the start of a line (decoration such as `**` or `###` aside), never inside one, because models
write about labels more often than one thinks. The two exceptions, an action or a final answer right after the end of
a sentence, are marks of their own, for a turn that has nothing better.
"""

from __future__ import annotations

import re

__all__ = ["BODY", "CLOSING_FENCE", "INPUT", "OBSERVATION", "REASONING", "TRAILER", "behind", "mark_at", "next_mark"]

# Labels, in the languages into which models translate them.
_THOUGHT = "Thoughts?|思考|想法|Pensamiento|Pensamento|Pensée|Gedanke|Мысль|생각"
_ACTION = "Action|行动|行動|动作|操作|Acción|Ação|Aktion|Действие|행동"
_INPUT = "Action[ _-]?Input|行动输入|行動輸入|动作输入|操作输入|行動入力|Entrada de (?:la )?acción"
_FINAL = (
    "Final[ _-]?Answer|最终答案|最终回答|最終答案|最終回答|최종 답변|Respuesta final|Resposta final|Réponse finale"
    "|Endgültige Antwort|Finale Antwort|Окончательный ответ|Финальный ответ"
)
_OBSERVATION = "Observation|观察结果|观察|觀察|観察|관찰|Observación|Observação|Beobachtung|Наблюдение"
_INVISIBLE = r"\ufeff\u200b-\u200f\u202a-\u202e\u2060"


def _unquoted(tags: str, name: str) -> str:
    """`tags`, unless they stand between quotes or backticks; `name` is a group to spend on this."""
    return f"(?:(?<=[\"'`“‘])(?P<{name}>))?+(?:{tags})(?({name})(?![\"'`”’]))"


_REASONING_TAG = "(?:think|thinking|thought|reasoning|reflection|seed:think)"
_OPENING = (
    rf"<{_REASONING_TAG}>|\[THINK\]|◁think▷|<\|START_THINKING\|>|<\|begin_of_thought\|>"
    r"|(?:<\|start\|>assistant)?<\|channel\|>analysis<\|message\|>"
)
_CLOSING = rf"</{_REASONING_TAG}>|\[/THINK\]|◁/think▷|<\|END_THINKING\|>|<\|end_of_thought\|>"
# What a chat template puts at the end of a turn; behind it the model talks to itself.
_END = (
    r"(?:<\|(?:im_end|im_start|eot_id|eom_id|endoftext|end_of_text|end|return)\|>|</s>|<end_of_turn>|<eos>"
    r"|<｜end▁of▁sentence｜>)(?=\s*(?:\Z|\n|<))"
)
# Tool calls in the tokens or tags of Hermes, Qwen, Llama, Mistral, MiniMax, Kimi, DeepSeek, Granite and harmony.
_NATIVE = (
    r"<(?:minimax:|antml:)?(?:tool_calls?|function_calls?|functioncall)>|<function=|<(?:antml:)?invoke "
    r"|<\|tool_call(?:s_section_begin|_begin|_start)?\|>|<\|python_tag\|>|\[TOOL_CALLS?\]|<｜tool▁calls?▁begin｜>"
    r"|(?:<\|start\|>assistant)?<\|channel\|>commentary to="
)
_DECORATION = rf"[ \t{_INVISIBLE}]*(?:#{{1,6}} *|[-•*] +|[0-9]{{1,2}}[.)] *)?(?P<bold>\*{{1,3}}|_{{1,3}})?"
_COLON = r"(?: ?[0-9]{1,3})? ?[*_]{0,3}[ \t]*[:：](?(bold)[*_]*)"
_LABELS = {
    "observation": _OBSERVATION,
    "thought": _THOUGHT,
    "input": _INPUT,
    "action": _ACTION,
    "final": _FINAL,
    "answer": "Answer|答案|Antwort|Respuesta",
    "question": "Question|问题",
}
_LABEL = _DECORATION + "(?:" + "|".join(f"(?P<{kind}>(?:{name}){_COLON})" for kind, name in _LABELS.items()) + ")"
_LINE = "|".join(
    [
        "(?-i:(?P<stopped>Observation))",
        # A heading needs no colon: "### Final Answer", "**Final Answer**".
        rf"(?P<heading> {{0,3}}(?:#{{1,6}} *|\*\*)(?:{_FINAL}) ?(?:\*\*)? *\r?(?:\n|\Z))",
        _LABEL,
        r"[ \t]*(?P<fence>`{3,}|~{3,})",
        rf"[ \t]*(?P<native>{_NATIVE})",
        rf"[ \t{_INVISIBLE}]*(?P<json>\{{|\[\s*\{{)",
    ]
)
_INLINE = (
    "(?-i:(?<=[.!?。！？] )(?P<inline_action>Action:))"
    r"|(?-i:(?:(?<=[.!?。！？*)] )|(?<=[.!?。！？])|(?<=final answer ))(?P<inline_final>\*{0,3}Final Answer:\*{0,3}))"
)
# What harmony puts before the part that is meant for the reader.
_PRELUDE = r"(?:<\|start\|>assistant)?<\|channel\|>(?:final|commentary)<\|message\|>"
_TAGS = "|".join(
    [
        f"(?P<opening>{_unquoted(_OPENING, 'q1')})",
        f"(?P<closing>{_unquoted(_CLOSING, 'q2')})",
        f"(?P<prelude>{_PRELUDE})",
        f"(?P<end>{_unquoted(_END, 'q3')})",
    ]
)
_FLAGS = re.IGNORECASE | re.MULTILINE
# Looking at the first character first makes the search several times faster.
_NEXT = re.compile(rf"(?=[<\[◁])(?:{_TAGS})|^(?:{_LINE})|(?-i:(?=[AF*]))(?:{_INLINE})", _FLAGS)
_AT = re.compile(f"{_TAGS}|{_LINE}", _FLAGS)

REASONING = re.compile(
    f"(?P<opening>{_unquoted(_OPENING, 'q1')})|(?P<closing>{_unquoted(_CLOSING, 'q2')}|<\\|end\\|>)", re.IGNORECASE
)
"""Either end of a passage of reasoning."""

OBSERVATION = re.compile(rf"^(?:(?-i:Observation)|{_DECORATION}(?P<observation>(?:{_OBSERVATION}){_COLON}))", _FLAGS)
"""An observation, which is never the model's to write."""

INPUT = re.compile(rf"\s*{_DECORATION}(?P<input>(?:{_INPUT}|Input){_COLON})", _FLAGS)
"""The label of a text action's input; a bare `Input:` only counts here, behind an action."""

CLOSING_FENCE = re.compile(r"^[ \t]*(?:`{3,}|~{3,})[ \t]*\r?$", re.MULTILINE)

BODY = re.compile(
    rf"(?:[\s{_INVISIBLE}]++|`++(?:[ \t]*[A-Za-z][\w+-]*+(?=\s|[{{\[]))?|~{{3,}}+(?:[\w+-]++)?"
    r"|'{3}(?:json)?|\"{3}(?:json)?|json5?(?=\s)){0,12}+"
)
"""What may stand between a label and what it labels: space, fences and their language, once or several times."""

TRAILER = re.compile(
    r"(?:\s*+[}\]]++)?(?:\s*+(?:`++(?![A-Za-z])|~{3,}+|'{3}|\"{3}"
    rf"|</(?!{_REASONING_TAG})[\w:]++>|<\|\w*?end\w*+\|>|<\|call\|>"
    r"|<｜tool▁calls?▁end｜>))*+"
)
"""What may close a JSON value: a brace too many, fences, closing tags."""


def next_mark(text: str, at: int) -> re.Match[str] | None:
    """The first mark at or behind `at`; `lastgroup` says which."""
    return _NEXT.search(text, at)


def mark_at(text: str, at: int) -> re.Match[str] | None:
    """The mark right at `at`, as if a line began there."""
    return _AT.match(text, at)


def behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where `pattern` ends when it begins at `at`; `at` when it does not."""
    match = pattern.match(text, at)
    return match.end() if match else at
