"""Grammars that hold a model's turn to the dialect, as Lark text for llguidance. A pure function of text.

Two forms. The general one, for any local model: a free thought, then exactly one action whose name is a tool and whose
input fits that tool's JSON schema, or a final answer; "\\nObservation" cannot be written. The copying one, for a small
model: what it searches for, calculates with and answers must stand in the question or an observation.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentkit.react_json.copying import answers, queries
from agentkit.react_json.numbers import numbers

Tool = tuple[str, Mapping[str, Any]]

OUT_OF_REACH = "I can only calculate and look things up."
NOT_FOUND = "I could not find the answer."
LOOK_UP, CALCULATE = "I need to look up ", "I need to calculate "
KNOW, CANNOT, NOTHING = "I now know the final answer", "I cannot do that with my tools", "The search gave no answer"
FENCE, CLOSED = "\nAction:\n```json\n", "\n```"
FINAL = "\nFinal Answer: "
LARGEST = 1e15  # of the numbers that a schema does not limit
PRINTED = r"[^\s\x00-\x1f]"
CALCULATOR = "Calculator"
NO_RESULT, MOST_FAILED = "No good search result", 3
NO_ANSWERS = re.compile(r"(Error:|Invalid format:|No good search result|\S+ is not a valid tool)")
ARITHMETIC = """
expression: sum0
sum0: signed0 (OPERATOR signed0){0,9}
signed0: "-"? value0
value0: NUMBER "%"? | ("sqrt" | "abs" | "log" | "sin" | "cos" | "exp")? "(" sum1 ")"
sum1: signed1 (OPERATOR signed1){0,4}
signed1: "-"? value1
value1: NUMBER "%"? | "sqrt"? "(" sum2 ")"
sum2: signed2 (OPERATOR signed2){0,3}
signed2: "-"? value2
value2: NUMBER | "sqrt"? "(" sum3 ")"
sum3: "-"? value3 (OPERATOR value3){0,2}
value3: NUMBER | "sqrt(" NUMBER ")"
OPERATOR: /[-+*\\/^]/
"""


def react_json_grammar(
    tools: Sequence[Tool],
    *,
    sources: Sequence[str] | None = None,
    thought_open: bool = False,
    longest: int = 2000,
) -> str:
    """The grammar of one turn.

    `tools` are (name, JSON schema of `action_input`) pairs.  `sources`, the question and then the observations so far,
    asks for the copying form.  `thought_open` says that "Thought: " already stands in the prompt.  `longest` bounds a
    string input (characters); a thought has at most 8 lines of a quarter of that, a final answer 20 of half of it, so
    that no repetition can go on for ever. A thought is prose: braces and fences in it could be taken for an action.
    """
    if sources is not None:
        return _copying(tools, sources, thought_open)
    start = '" "?' if thought_open else '"Thought:"'
    thought, answer = _lines(longest // 4, 8, without="{`"), _lines(longest // 2, 20)
    calls = [f"%json {json.dumps(_one_line(_action_schema(name, schema, longest)))}" for name, schema in tools]
    return "\n".join(
        (
            f"start: {start} (to_action action {_quoted(CLOSED)} | to_final ANSWER)",
            f"to_action[lazy]: /{thought}\\nAction:/",
            f"to_final[lazy]: /{thought}\\nFinal Answer:/",
            f"ANSWER: / ?{PRINTED}{answer}/",
            f"action: {_quoted(FENCE.removeprefix(chr(10) + 'Action:'))} call",
            f"call: {' | '.join(f'call{number}' for number in range(len(calls)))}",
            *(f"call{number}: {call}" for number, call in enumerate(calls)),
            "",
        )
    )


def _lines(width: int, count: int, *, without: str = "") -> str:
    """Free text of bounded lines, none of which (but the first) begins with "Observation".

    Spelled out as prefixes: the complement of a regular expression with bounded counts exhausts llguidance's budget.
    """
    word, rest = "Observation", f"[^\\n{without}]{{0,{width}}}"
    others = "|".join(f"{word[:i]}[^{letter}\\n{without}]{rest}" for i, letter in enumerate(word))
    prefixes = "|".join(word[:i] for i in range(len(word)))
    return f"{rest}(\\n({others}|{prefixes})){{0,{count}}}"


def _action_schema(name: str, schema: Mapping[str, Any], longest: int) -> dict[str, Any]:
    """The schema of one tool's call; what the input's schema defines moves to the top, where its references point."""
    schema = _finite(schema)
    taken = {key: value for key, value in schema.items() if key != "$defs"}
    if taken.get("type") == "string":
        taken = {"maxLength": longest, **taken}
    properties = {"action": {"const": name}, "action_input": taken}
    call = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {**call, "$defs": schema["$defs"]} if "$defs" in schema else call


def _finite(schema: Any) -> Any:
    """The schema with a limit to its numbers: without one, digits and exponents reach what JSON readers refuse."""
    if isinstance(schema, list):
        return [_finite(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    limited = {key: value if key in ("enum", "const", "default") else _finite(value) for key, value in schema.items()}
    if limited.get("type") == "number":
        lowest = {} if "exclusiveMinimum" in limited else {"minimum": -LARGEST}
        highest = {} if "exclusiveMaximum" in limited else {"maximum": LARGEST}
        return {**lowest, **highest, **limited}
    return limited


def _one_line(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema printed as json.dumps prints it."""
    guidance = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
    return {**schema, "x-guidance": guidance}


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _copying(tools: Sequence[Tool], sources: Sequence[str], thought_open: bool) -> str:
    """The grammar whose inputs and answers are copied from `sources`."""
    question, observations = sources[0] if sources else "", sources[1:]
    found = [text for text in observations if not NO_ANSWERS.match(text)]
    names = [name for name, _ in tools]
    searching = [name for name, schema in tools if name != CALCULATOR and schema.get("type") == "string"]
    moves, rules = [], []
    queried = queries(question, found)
    failed = sum(text.startswith(NO_RESULT) for text in observations)
    if searching and queried and failed < MOST_FAILED:
        moves.append("search")
        named = " | ".join(_quoted(name) for name in searching)
        rules.append(f"search: {_quoted(LOOK_UP)} QUERY {_opening()} ({named}) {_input()} QUERY {_closing()}")
        rules.append(f"QUERY: /{queried}/")
    if CALCULATOR in names:
        moves.append("calculate")
        rules.append(
            f"calculate: {_quoted(CALCULATE)} expression {_opening()} {_quoted(CALCULATOR)} {_input()} "
            f"expression {_closing()}"
        )
        rules.append(ARITHMETIC.strip())
        rules.append(f"NUMBER: /{numbers([question, *found])}/")
    moves += [f"{name}_out" for name in ("cannot", *(("nothing",) if observations else ()))]
    rules.append(f"cannot_out: {_quoted(CANNOT + FINAL + OUT_OF_REACH)}")
    rules.append(f"nothing_out: {_quoted(NOTHING + FINAL + NOT_FOUND)}")
    answered = answers(question, found)
    if answered:
        moves.append("known")
        rules.append(f"known: {_quoted(KNOW + FINAL)} ANSWER")
        rules.append(f"ANSWER: /{answered}/")
    start = '" "?' if thought_open else '"Thought: "'
    return "\n".join((f"start: {start} ({' | '.join(moves)})", *rules, ""))


def _opening() -> str:
    return _quoted(FENCE + '{"action": "')


def _input() -> str:
    return _quoted('", "action_input": "')


def _closing() -> str:
    return _quoted('"}' + CLOSED)


__all__ = ["NOT_FOUND", "OUT_OF_REACH", "react_json_grammar"]
