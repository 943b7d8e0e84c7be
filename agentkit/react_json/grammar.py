"""The grammar that holds a model's turn to the dialect, as Lark text for llguidance. A pure function of text."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from agentkit.react_json.marks import TABLE
from agentkit.react_json.schema_rules import bounded, json_rule
from agentkit.tool import takes_nothing

FENCE, CLOSED = "\n```json\n", "\n```"
PRINTED = r"[^\s\x00-\x1f]"
ANSWER_LINES = 21
SIGN_ALONE = r"<[^A-Za-z\/|｜_\[\n]|>|\[[^A-Za-z\/|\n]|\[[A-Za-z][^A-Z_\n]"
"""A sign of the table that begins none of its marks: in `a < b`, `[1, 2]`, `[text](address)`."""
_OF_TURNS = ("observation", "thought", "input", "action", "final")  # labels that are no words of any text


def react_json_grammar(
    tools: Sequence[tuple[str, Mapping[str, Any]]],
    question: str = "",
    observations: Sequence[str] = (),
    *,
    thought_open: bool = False,
    acts: bool = False,
    answer_lines: int = ANSWER_LINES,
    answer_schema: Any = None,
    longest: int = 2000,
) -> str:
    """The grammar of one turn: a thought, then an action whose input fits its tool's schema, or a final answer.

    `tools` are (name, JSON schema of `action_input`) pairs. `question` and `observations`, from which other grammars
    copy, change nothing here. `thought_open` says that "Thought: " already stands in the prompt, `acts` that the turn
    is to be an action. `longest` bounds a text that is an input (characters). A thought is one line of prose, of a
    twentieth of that in tokens: what is not said by then is a repetition, and braces or markup could be taken for an
    action. An answer has at most `answer_lines`, each of a tenth of it, none of which begins like another part of a
    turn; with an `answer_schema` it is JSON that fits that, on one line. So every turn is read as it was meant.
    """
    start = '" "?' if thought_open else '"Thought:"'
    calls = [json_rule(_action_schema(name, bounded(schema), longest), root=schema) for name, schema in tools]
    any_call = " | ".join(f"call{number}" for number in range(len(calls)))
    signs, others = _signs(), _other_parts()
    text = rf"([^\n{signs}]|{SIGN_ALONE})"
    thought, line = max(longest // 20, 12), max(longest // 10, 12)
    action, final = '"\\nAction:" action', '"\\nFinal Answer:" answer'
    more = f' ("\\n" line?){{0,{answer_lines - 1}}}' if answer_lines > 1 else ""
    turn = final if not calls else action if acts else f"({action} | {final})"
    of_text = (
        f'answer: " "? first{more}',
        f"first[max_tokens={line}]: /{PRINTED}.*/ & /{text}+/ & ~/{others}/",
        f"line[max_tokens={line}]: /{text}+/ & ~/{others}/",
    )
    return "\n".join(
        (
            f"start: {start} thought? {turn}",
            rf"thought[max_tokens={thought}]: /[^\n{{`{signs}]+/",
            *(of_text if answer_schema is None else (f'answer: " " {json_rule(bounded(answer_schema))}',)),
            *([f"action: {json.dumps(FENCE)} ({any_call}) {json.dumps(CLOSED)}"] if calls else []),
            *(f"call{number}: {call}" for number, call in enumerate(calls)),
            "",
        )
    )


@cache
def _other_parts() -> str:
    """A regular expression for lines that begin like a part of a turn, decorated or not: a label, a fence, a call."""
    labels = "|".join(TABLE.labels[kind] for kind in _OF_TURNS)
    words = [re.match(r"[^\s{(\[<]+", each.opening.strip()) for each in TABLE.calls if not each.tokens]
    calls = sorted({re.escape(word[0]) for word in words if word is not None})
    begins = rf"(?i:{labels})[ \t0-9*_]*[:：]|(?i:{'|'.join(calls)})|`{{3}}|~{{3}}|'{{3}}|Observation"
    return rf"[ \t#*_\-•0-9.)\p{{Cf}}]*({begins}).*".replace("/", r"\/")


@cache
def _signs() -> str:
    """The signs that begin a mark of the table, for a class."""
    openings = (each.opening.lstrip()[:1] for each in TABLE.calls)
    marks = {*(mark[0] for mark in (*TABLE.thinking, *TABLE.turn_ends, *TABLE.preludes)), *openings}
    return "".join(re.escape(mark) for mark in sorted(marks) if not (mark.isalnum() or mark in "{`"))


def _action_schema(name: str, schema: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """The schema of one tool's call."""
    needs_input = not takes_nothing(schema)
    taken = _with_text(schema, longest) if needs_input else {"properties": {}, **schema}
    properties = {"action": {"const": name}, "action_input": taken}
    return {"type": "object", "properties": properties, "required": [*properties] if needs_input else ["action"]}


def _with_text(schema: Mapping[str, Any], longest: int) -> Mapping[str, Any]:
    """The schema of an input that cannot be empty: the text that it is, or the first one that it requires.

    Those behind the first may be: a text to write, or to put in the place of another.
    """
    if schema.get("type") == "string":
        if not {"enum", "const", "pattern", "format", "minLength", "$ref"}.isdisjoint(schema):
            return {"maxLength": max(longest, schema.get("minLength", 0)), **schema}
        most = schema.get("maxLength", longest)
        return {**schema, "pattern": rf"^\S[\s\S]{{0,{most - 1}}}$"} if most > 0 else schema
    properties = schema.get("properties", {})
    for name in schema.get("required", ()):
        if isinstance(one := properties.get(name), Mapping) and one.get("type") == "string":
            return {**schema, "properties": {**properties, name: _with_text(one, longest)}}
    return schema
