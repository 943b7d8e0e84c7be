"""What a model's turn decides: one action, or the final answer. Forgiving about form, never about meaning.

Repaired is what has one reading: fences of any kind or none, trailing commas, Python dicts, tool calls in a model's own
tokens. Refused is what has none or two: cut-off JSON, an action together with an answer, two different actions. An
action that a thought only quotes, or that stands in reasoning, is none. An answer is all of the text behind its label,
up to a line "Observation": labels in it are its own, and only a call behind it is not. Small models go on with a
question of their own and a call for it; there the answer ends before that question. The time is linear in the length of
the text.
"""

from __future__ import annotations

import re

from agentkit.events import Action, FinalAnswer
from agentkit.react_json.lenient_json import BrokenJson, read_json
from agentkit.react_json.marks import TABLE, leading_letters
from agentkit.react_json.turn import NotADecision, Schemas, Turn, named_action

__all__ = ["parse_clean_turn", "parse_turn"]

# The form that the prompt asks for, on one line of thought without "<", "[" or "◁": they may begin reasoning.
_LINE = rf"[^\n{leading_letters([*TABLE.thinking, *TABLE.thinking.values(), *TABLE.turn_ends])}]*"
_CLEAN = re.compile(rf"Thought:({_LINE})\n(?:Action:\s*```(?:json)?\s*(?=\{{)|Final Answer:({_LINE})\Z)")
_CLEAN_END = re.compile(r"(\s*```)\s*\Z")
_CLEAN_KEYS = {"action", "action_input"}


def parse_turn(text: str, tools: Schemas | None = None) -> Turn:
    """The turn's thought and decision; raises `MalformedTurn`, whose message tells the model what to mend.

    `tools` say which names are tools, whatever else they could mean, and the types of arguments that are written as
    text; without them such arguments are refused where they may be no strings.
    """
    turn = parse_clean_turn(text, tools)
    if turn is None:
        # Its patterns take longer to compile than a replay of clean turns to run.
        from agentkit.react_json.verdict import parse_turn_thoroughly

        turn = parse_turn_thoroughly(text, tools)
    return turn


def parse_clean_turn(text: str, tools: Schemas | None = None) -> Turn | None:
    """What `parse_turn_thoroughly` gives, for turns in just the form that was asked for; none for all others."""
    match = _CLEAN.match(text)
    if match is None or not text.isascii() or "Action:" in match[1]:
        return None
    if match[2] is not None:
        answer = match[2].strip()
        return Turn(FinalAnswer(answer, text.rstrip()), match[1].strip()) if answer else None
    try:
        value, end = read_json(text, match.end(), repair=False)
        closing = _CLEAN_END.match(text, end)
        if closing is None or value.keys() != _CLEAN_KEYS:
            return None
        decision = named_action(value["action"], value["action_input"], tools)
    except (BrokenJson, NotADecision, RecursionError):
        return None
    if isinstance(decision, FinalAnswer):
        return None
    return Turn(Action(decision.tool, decision.tool_input, text[: closing.end(1)]), match[1].strip())
