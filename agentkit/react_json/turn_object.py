"""A turn as one JSON object, for servers that hold a reply to a schema and take no grammar: its schema, its text in the
dialect as it comes, and what it decides.

    {"thought": "…", "action": "Calculator", "action_input": "6 * 7"}    {"thought": "…", "final_answer": "42"}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import FinalAnswer
from agentkit.react_json.grammar import CLOSED, FENCE
from agentkit.react_json.lenient_json import BrokenJson, read_json
from agentkit.react_json.schema_rules import referred
from agentkit.react_json.turn import NotADecision, Schemas, Turn, decisions_in
from agentkit.tool import takes_nothing

MOST_SCHEMA_LEVELS = 100  # as whoever writes it recurses; of a deeper one no more than its type is held, either
MOST_SCHEMA_PARTS = 2000  # of a tool's schema with what it refers to; of a larger one no more than its type is held
MOST_BLANK = 1000  # characters that are waited behind: with each that comes, all of them are looked through
LABEL = "Thought: "  # with which a turn begins
_OBSERVATION = "\nObservation"  # what a string says from there on was invented
_LINE_BREAKS = {ord(one): " " for one in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"}
_LABELS = {"thought": LABEL, "final_answer": "Final Answer: "}
_KEY = re.compile(r'\s*[{,]\s*"(thought|final_answer|action)"\s*:\s*')
_MAY_BE_KEY = re.compile(r'\s*(?:[{,]\s*(?:"[a-z_]{0,12}(?:"\s*(?::\s*)?)?)?)?')
_PART = re.compile(
    r'[^"\\]+|\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^u])', re.DOTALL
)
_HALF_ESCAPE = re.compile(r"\\(?:u[0-9a-fA-F]{0,3}|u[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u[0-9a-fA-F]{0,3})?)?)?")


# -- its schema --------------------------------------------------------------------------------------------------------


def turn_schema(
    tools: Sequence[tuple[str, Mapping[str, Any]]],
    *,
    answer_schema: Mapping[str, Any] | None = None,
    longest: int = 2000,
) -> dict[str, Any]:
    """The JSON schema of one turn; `tools`, `answer_schema` and `longest` as for `react_json_grammar`.

    What these schemas refer to stands in its place, as references would point into this one; within itself, no
    more than its type.
    """
    short = {"type": "string", "maxLength": max(longest // 5, 1)}
    answer = {"type": "string", "minLength": 1, "maxLength": longest}
    turns: list[dict[str, Any]] = [
        {"final_answer": answer if answer_schema is None else _Resolved(answer_schema).schema}
    ]
    for name, schema in tools:
        is_text = schema.get("type") == "string" and {"enum", "const", "pattern", "format"}.isdisjoint(schema)
        taken = {**answer, **schema} if is_text else _Resolved(schema).schema
        turns.append({"action": {"const": name}, **({} if takes_nothing(schema) else {"action_input": taken})})
    each = [{"thought": short, **turn} for turn in turns]
    closed = {"type": "object", "additionalProperties": False}
    return {"anyOf": [{**closed, "properties": turn, "required": [*turn]} for turn in each]}


class _Resolved:
    """A schema that refers to nothing."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._parts = self._level = 0
        try:
            self.schema: Any = self._resolved(root, ("#",))
        except (_TooMuch, RecursionError):  # the latter of a caller that stands deep itself
            self.schema = _loosened(root)

    def _resolved(self, part: Any, trail: tuple[str, ...]) -> Any:
        if not isinstance(part, list | tuple | Mapping):
            return part
        self._level += 1
        self._parts += isinstance(part, Mapping)
        if self._parts > MOST_SCHEMA_PARTS or self._level > MOST_SCHEMA_LEVELS:
            raise _TooMuch
        if isinstance(part, Mapping):
            resolved: Any = self._in_place(part, trail)
        else:
            resolved = [self._resolved(each, trail) for each in part]
        self._level -= 1
        return resolved

    def _in_place(self, part: Mapping[str, Any], trail: tuple[str, ...]) -> Any:
        own = {key: self._part(key, value, trail) for key, value in part.items() if key not in ("$defs", "definitions")}
        if not isinstance(reference := own.pop("$ref", None), str):
            return own
        try:
            target = referred(self._root, reference)
        except ConfigurationError:  # the tool itself says what is wrong with its input
            return own
        return {**(_loosened(target) if reference in trail else self._resolved(target, (*trail, reference))), **own}

    def _part(self, key: str, value: Any, trail: tuple[str, ...]) -> Any:
        if key in ("properties", "patternProperties") and isinstance(value, Mapping):  # whose keys are names
            return {name: self._resolved(each, trail) for name, each in value.items()}
        return value if key in ("enum", "const", "default", "examples") else self._resolved(value, trail)


class _TooMuch(Exception):
    pass


def _loosened(schema: Any) -> dict[str, Any]:
    kind = schema.get("type") if isinstance(schema, Mapping) else None
    return {"type": kind} if kind else {}


# -- its text ----------------------------------------------------------------------------------------------------------


class TurnText:
    """Shows a turn in the dialect while it comes as an object; text that is no such object is shown as it is.

    An action stands in its fence as it came, a thought and an answer without their quotes, and without the observation
    that they invent; an answer that `is_typed` is JSON, as it came. It is not known before the end what the object
    decides, if anything: that is `turn`.
    """

    def __init__(self, *, is_typed: bool = False) -> None:
        self._is_typed = is_typed
        self._came: list[str] = []
        self._pending = ""
        self._reading = self._read_key
        self._has_begun = False
        self._in_thought = self._is_cut = False
        self._held = ""  # of a string: what may begin an observation

    def feed(self, piece: str) -> str:
        """What of the turn's text the piece completes."""
        self._came.append(piece)
        self._pending += piece
        return "".join(self._read())

    def rest(self) -> str:
        """What was held back, at the end."""
        pending, self._pending = self._pending, ""
        if self._reading == self._read_raw:
            return pending.rstrip() + (CLOSED if isinstance(self.turn, dict) else "")
        if self._reading == self._read_string:
            return self._end_of_string()
        if self._reading == self._read_value:
            return pending.rstrip().removesuffix("}").rstrip() if isinstance(self.turn, dict) else pending
        return pending if self._reading == self._read_text or not self._has_begun else ""

    @property
    def turn(self) -> dict[str, Any] | str | None:
        """The turn, where the text so far is one; text that is none and was shown otherwise, as it came."""
        came = "".join(self._came)
        text = came.strip()
        if not text.startswith("{"):
            return None
        as_it_came = came if self._has_begun else None
        try:
            value, end = read_json(text, 0, repair=False)
        except BrokenJson:
            return as_it_came
        keys = value.keys()
        is_turn = keys == {"thought", "final_answer"} or keys - {"action_input"} == {"thought", "action"}
        return value if is_turn and end == len(text) and isinstance(value["thought"], str) else as_it_came

    def _read(self) -> Iterator[str]:
        while self._pending and (text := self._reading()) is not None:
            yield text

    # Each reads on in what is pending, and gives text; None: there must be more to tell.

    def _read_key(self) -> str | None:
        if len(self._pending) < MOST_BLANK and _MAY_BE_KEY.fullmatch(self._pending):
            return None
        key = _KEY.match(self._pending)
        first = self._pending[key.end() : key.end() + 1] if key else ""
        is_answer = key is not None and key[1] == "final_answer"
        if key and first and is_answer and self._is_typed and self._has_begun and not self._is_cut:
            self._pending = self._pending[key.end() :]
            self._reading = self._read_value
            return "\n" + _LABELS["final_answer"]
        is_made_up = self._is_cut and is_answer
        if not key or not first or is_made_up or (key[1] in _LABELS and first != '"'):  # the end, or another object
            self._reading = self._read_nothing if self._has_begun else self._read_text
            return ""
        before = "\n" if self._has_begun else ""
        self._has_begun = True
        if key[1] == "action":
            self._pending = self._pending[key.end() :]
            self._reading = self._read_raw
            return f'{before}Action:{FENCE}{{"action": '
        self._pending = self._pending[key.end() + 1 :]
        self._reading = self._read_string
        self._in_thought, self._is_cut = key[1] == "thought", False
        return before + _LABELS[key[1]]

    def _read_string(self) -> str | None:
        pending, at, texts = self._pending, 0, []
        while at < len(pending) and pending[at] != '"' and not _HALF_ESCAPE.fullmatch(pending, at):
            part = _PART.match(pending, at)
            texts.append(_unescaped(part[0]) if part else "\\")
            at = part.end() if part else at + 1
        shown = self._own("".join(texts))
        if pending.startswith('"', at):
            self._reading = self._read_key
            shown += self._end_of_string()
            at += 1
        self._pending = pending[at:]
        return shown if at else None

    def _own(self, text: str) -> str:
        """Of a string's text what the model may say, as far as that can be told."""
        if self._is_cut:
            return ""
        text, observation, _ = (self._held + text).partition(_OBSERVATION)
        self._is_cut = bool(observation)
        at = text.rfind("\n")
        may_begin = not self._is_cut and at >= 0 and _OBSERVATION.startswith(text[at:])
        self._held = text[at:] if may_begin else ""
        return self._lined(text[:at] if may_begin else text)

    def _end_of_string(self) -> str:
        held, self._held = self._held, ""
        return self._lined(held)

    def _lined(self, text: str) -> str:
        return text.translate(_LINE_BREAKS) if self._in_thought else text

    def _read_raw(self) -> str | None:
        """All of it but the white space at its end, which may be the reply's."""
        pending = self._pending
        held = len(pending.rstrip()) if len(pending) < MOST_BLANK else len(pending)
        self._pending = pending[held:]
        return pending[:held] or None

    def _read_text(self) -> str:
        pending, self._pending = self._pending, ""
        return pending

    def _read_value(self) -> str | None:
        """What of a value cannot be the end of the turn."""
        shown = self._pending if len(self._pending) >= MOST_BLANK else self._pending.rstrip("} \t\r\n")
        if not shown:
            return None
        self._pending = self._pending[len(shown) :]
        return shown

    def _read_nothing(self) -> str:
        self._pending = ""
        return ""


def _unescaped(part: str) -> str:
    if not part.startswith("\\"):
        return part
    try:
        text: str = json.loads(f'"{part}"')
    except ValueError:
        return part
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


# -- what it decides ---------------------------------------------------------------------------------------------------


def turn_in(
    value: Mapping[str, Any], tools: Schemas | None = None, *, label: str = LABEL, is_typed: bool = False
) -> Turn | None:
    """The turn that an object is, with its log in the dialect behind `label`; None for one that decides nothing.

    An answer that `is_typed` is whatever value stands there, and its text is that as JSON.

    A thought is one line there: what stands in it cannot pass for more of the turn. Text from an observation on is cut,
    and what is answered behind one, refused with `MalformedTurn`: the model has not seen it.
    """
    thought, *invented = str(value["thought"]).split(_OBSERVATION)
    thought = thought.translate(_LINE_BREAKS)
    rest = {key: part for key, part in value.items() if key != "thought"}
    if is_typed and "final_answer" in rest and not invented:
        text = json.dumps(rest["final_answer"], ensure_ascii=False)
        return Turn(FinalAnswer(text, f"{label}{thought}\n{_LABELS['final_answer']}{text}"), thought.strip())
    if isinstance(answer := rest.get("final_answer"), str):
        rest["final_answer"], *more = answer.split(_OBSERVATION)
        invented += more
    try:
        (decision,) = decisions_in(rest, tools)
    except (NotADecision, ValueError):
        decision = None
    is_answer = isinstance(decision, FinalAnswer)
    if invented and (decision is None or (is_answer and _OBSERVATION in str(value["thought"]))):
        raise _made_up(label + thought, len(invented))
    if decision is None:
        return None
    if "final_answer" in rest and isinstance(decision, FinalAnswer):
        written = f"\n{_LABELS['final_answer']}{decision.output}"
    else:
        action = {key: rest[key] for key in ("action", "action_input") if key in rest}
        written = f"\nAction:{FENCE}{json.dumps(action, ensure_ascii=False)}{CLOSED}"
    return Turn(replace(decision, log=label + thought + written), thought.strip(), len(invented))


def _made_up(text: str, invented: int) -> MalformedTurn:
    error = MalformedTurn(
        "Invalid format: an observation was written instead of an action. Write an action and wait for its observation."
    )
    error.text, error.invented = text, invented
    return error
