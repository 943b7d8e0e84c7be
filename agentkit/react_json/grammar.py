"""The grammar that holds a model's turn to the dialect, as Lark text for llguidance. A pure function of text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

FENCE, CLOSED = "\n```json\n", "\n```"
LARGEST = 1e15  # of the numbers that a schema does not limit
ON_ONE_LINE = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
PRINTED = r"[^\s\x00-\x1f]"


def react_json_grammar(
    tools: Sequence[tuple[str, Mapping[str, Any]]],
    question: str = "",
    observations: Sequence[str] = (),
    *,
    thought_open: bool = False,
    longest: int = 2000,
) -> str:
    """The grammar of one turn: a free thought, then an action whose input fits its tool's schema, or a final answer.

    `tools` are (name, JSON schema of `action_input`) pairs; "\\nObservation" cannot be written.  `question` and
    `observations`, from which other grammars copy, change nothing here.  `thought_open` says that "Thought: " already
    stands in the prompt.  `longest` bounds a string input (characters); a thought has at most 8 lines of a quarter of
    that, a final answer 20 of half of it, so that no repetition can go on for ever.  A thought is prose: braces and
    fences in it could be taken for an action.
    """
    start = '" "?' if thought_open else '"Thought:"'
    thought, answer = _lines(longest // 4, 8, without="{`"), _lines(longest // 2, 20)
    calls = [json_rule(_action_schema(name, schema, longest)) for name, schema in tools]
    any_call = " | ".join(f"call{number}" for number in range(len(calls)))
    return "\n".join(
        (
            f"start: {start} (to_action action | to_final ANSWER)",
            f"to_action[lazy]: /{thought}\\nAction:/",
            f"to_final[lazy]: /{thought}\\nFinal Answer:/",
            f"ANSWER: / ?{PRINTED}{answer}/",
            f"action: {json.dumps(FENCE)} ({any_call}) {json.dumps(CLOSED)}",
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
    call = {"type": "object", "properties": properties, "required": [*properties]}
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


def json_rule(schema: Mapping[str, Any]) -> str:
    """A schema as the right side of a grammar rule: on one line as `json.dumps` writes it, no unknown properties."""
    return f"%json {json.dumps({'x-guidance': ON_ONE_LINE, **_closed(schema)})}"


def _closed(schema: Any) -> Any:
    """The schema with every object that lists its properties having no others."""
    if isinstance(schema, list):
        return [_closed(each) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    closed = {key: _closed(value) for key, value in schema.items() if key not in ("enum", "const", "default")}
    kept = {key: value for key, value in schema.items() if key not in closed}
    if isinstance(schema.get("properties"), Mapping) and schema.get("type") == "object":
        return {"additionalProperties": False, **closed, **kept}
    return {**closed, **kept}
