"""Tool calls put together from pieces, in every way in which servers were seen to cut them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.models.backend import NativeCall, ToolCallPiece
from agentkit.models.call_pieces import ToolCallPieces, normal_arguments

WEATHER = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
    "required": ["city"],
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": WEATHER,
    "get": {"type": "object", "properties": {"key": {}}},
    "now": {"type": "object", "properties": {}},
    "add": {"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "integer"}}},
}
TOOLS = [{"type": "function", "function": {"name": name, "parameters": SCHEMAS[name]}} for name in SCHEMAS]

Entry = dict[str, Any]


def entry(index: Any = None, id: Any = None, name: Any = None, arguments: Any = "", **more: Any) -> Entry:
    """An entry of `tool_calls`, without what is None."""
    values = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}, **more}
    return {key: value for key, value in values.items() if value is not None}


def calls_of(*events: Entry | list[Entry], tools: Any = TOOLS) -> list[tuple[str, str, Any]]:
    """The calls as id, name and arguments, those that cannot be read as text."""
    pieces = ToolCallPieces(tools)
    for event in events:
        pieces.add_deltas(event if isinstance(event, list) else [event])
    return [(call.id, call.name, _read(call.arguments)) for call in pieces.calls()]


def _read(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments


OSLO = {"city": "Oslo"}
CUT = ['{"city"', ': "Oslo"}']
ONE: dict[str, list[Entry | list[Entry]]] = {
    "as OpenAI": [entry(0, "a", "get_weather"), entry(0, None, None, CUT[0]), entry(0, None, None, CUT[1])],
    "whole": [entry(0, "a", "get_weather", "".join(CUT))],
    "without an index": [entry(None, "a", "get_weather", CUT[0]), entry(None, None, None, CUT[1])],
    "the id and the name in every piece": [entry(0, "a", "get_weather", part) for part in CUT],
    "the name in every piece, and once more": [
        entry(0, "a", "get_weather", CUT[0]),
        *(entry(0, None, "get_weather", part) for part in (CUT[1], "")),
    ],
    "another id in every piece": [
        entry(0, "a", "get_weather"),
        *(entry(0, new, None, part) for new, part in zip("bc", CUT, strict=True)),
    ],
    "another id and the name in every piece": [
        entry(0, "a", "get_weather", ""),
        entry(0, "b", "get_weather", CUT[0]),
        entry(0, "c", "get_weather", CUT[1]),
        entry(0, "d", "get_weather", ""),
    ],
    "{} first": [entry(0, "a", "get_weather", "{}"), entry(0, None, None, CUT[0]), entry(0, None, None, CUT[1])],
    "{} first as an object": [entry(0, "a", "get_weather", {}), entry(0, None, None, OSLO)],
    "{} first, then text in text": [entry(0, "a", "get_weather", "{}"),
                                    entry(0, None, None, json.dumps("".join(CUT)))],
    "null first": [entry(0, "a", "get_weather", "null"), entry(0, None, None, CUT[0]), entry(0, None, None, CUT[1])],
    "{} first, another id": [entry(0, "a", "get_weather", "{}"), entry(0, "b", None, "".join(CUT))],
    "{} first, the id and the name again": [entry(0, "a", "get_weather", "{ }"), entry(0, "a", "get_weather", CUT[0]),
                                            entry(0, "a", "get_weather", CUT[1])],
    "no arguments first": [entry(0, "a", "get_weather", None), entry(0, None, None, "".join(CUT))],
    "a name in two pieces": [entry(0, "a", "get_"), entry(0, None, "weather"), entry(0, None, None, "".join(CUT))],
    "a name in three, with ids": [entry(0, "a", "get"), entry(0, "a", "_wea"), entry(0, "a", "ther", "".join(CUT))],
    "a name in two pieces, other ids": [entry(0, "a", "get_"), entry(0, "b", "weather", CUT[0]),
                                        entry(0, "c", None, CUT[1])],
    "a name that grows": [entry(0, "a", "get_w"), entry(0, "a", "get_weather"), entry(0, None, None, "".join(CUT))],
    "a name in two pieces behind {}": [entry(0, "a", "get_w", "{}"), entry(0, None, "eather", "".join(CUT))],
    "the name later": [entry(0, "a", ""), entry(0, "a", "get_weather", "".join(CUT))],
    "the id alone": [entry(0, "a"), entry(0, None, "get_weather", "".join(CUT))],
    "the id later": [entry(0, None, "get_weather"), entry(0, "a", None, "".join(CUT))],
    "whole, then once more": [entry(0, "a", "get_weather", "".join(CUT))] * 2,
    "as text in text": [entry(0, "a", "get_weather", json.dumps("".join(CUT)))],
    "as text in text in text": [entry(0, "a", "get_weather", json.dumps(json.dumps("".join(CUT))))],
    "as a value": [entry(0, "a", "get_weather", '"Oslo"')],
    "as a value in pieces": [entry(0, "a", "get_weather", '"Os'), entry(0, None, None, 'lo"')],
    "as an object": [entry(0, "a", "get_weather", OSLO)],
    "an index that is text": [entry("0", "a", "get_weather"), entry("0", None, None, "".join(CUT))],
    "behind blanks": [entry(0, "a", "get_weather", " \n"), *(entry(0, None, None, part) for part in (*CUT, " "))],
    "without a function": [{"index": 0, "id": "a", "name": "get_weather", "arguments": OSLO}],
    "an id in the function": [{"index": 0, "function": {"id": "a", "name": "get_weather", "arguments": "".join(CUT)}}],
    "names and ids of nothing": [entry(0, "a", "get_weather"), entry(0, "", "", CUT[0]), entry(0, "", "", CUT[1])],
    "in one event": [[entry(0, "a", "get_weather"), entry(0, None, None, "".join(CUT))]],
}  # fmt: skip


@pytest.mark.parametrize("events", ONE.values(), ids=ONE.keys())
def test_one_call_is_one(events: list[Entry | list[Entry]]) -> None:
    assert calls_of(*events) == [("a", "get_weather", OSLO)]


BERGEN = {"city": "Bergen"}
BOTH = [json.dumps(OSLO), json.dumps(BERGEN)]
TWO: dict[str, list[Entry | list[Entry]]] = {
    "by index": [entry(0, "a", "get_weather", CUT[0]), entry(1, "b", "get_weather", '{"city"'),
                 entry(0, None, None, CUT[1]), entry(1, None, None, ': "Bergen"}')],
    "one index": [entry(0, "a", "get_weather", BOTH[0]), entry(0, "b", "get_weather", BOTH[1])],
    "one index, in pieces": [entry(0, "a", "get_weather", BOTH[0]), entry(0, "b", "get_weather"),
                             entry(0, None, None, '{"city"'), entry(0, None, None, ': "Bergen"}')],
    "one index, by ids": [entry(0, "a", "get_weather", CUT[0]), entry(0, "b", "get_weather", BOTH[1]),
                          entry(0, "a", None, CUT[1])],
    "no index": [entry(None, "a", "get_weather", BOTH[0]), entry(None, "b", "get_weather", BOTH[1])],
    "no index, by ids": [entry(None, "a", "get_weather", CUT[0]), entry(None, "b", "get_weather", '{"city"'),
                         entry(None, "a", None, CUT[1]), entry(None, "b", None, ': "Bergen"}')],
    "one event, one index": [[entry(0, "a", "get_weather", BOTH[0]), entry(0, "b", "get_weather", BOTH[1])]],
    "one event, no index": [[entry(None, "a", "get_weather", OSLO), entry(None, "b", "get_weather", BERGEN)]],
    "from one": [entry(1, "a", "get_weather"), entry(1, None, None, BOTH[0]), entry(2, "b", "get_weather", BOTH[1])],
    "{} before each": [entry(0, "a", "get_weather", "{}"), entry(0, None, None, BOTH[0]),
                       entry(1, "b", "get_weather", "{}"), entry(1, None, None, BOTH[1])],
}  # fmt: skip


@pytest.mark.parametrize("events", TWO.values(), ids=TWO.keys())
def test_two_calls_are_two(events: list[Entry | list[Entry]]) -> None:
    assert calls_of(*events) == [("a", "get_weather", OSLO), ("b", "get_weather", BERGEN)]


OTHERS: dict[str, tuple[list[Entry | list[Entry]], list[tuple[str, str, Any]]]] = {
    "one id for all": ([entry(0, "0", "get_weather", BOTH[0]), entry(0, "0", "get_weather", BOTH[1])],
                       [("0", "get_weather", OSLO), ("0", "get_weather", BERGEN)]),
    "one id for all, by index": ([entry(0, "0", "get_weather"), entry(1, "0", "add"), entry(0, "0", None, BOTH[0]),
                                  entry(1, "0", None, '{"x": 1}')],
                                 [("0", "get_weather", OSLO), ("0", "add", {"x": 1})]),
    "no ids": ([entry(0, None, "get_weather", BOTH[0]), entry(0, None, "add", '{"x": 1}')],
               [("", "get_weather", OSLO), ("", "add", {"x": 1})]),
    "no ids, one tool": ([entry(0, None, "get_weather", BOTH[0]), entry(0, None, "get_weather", BOTH[1])],
                         [("", "get_weather", OSLO), ("", "get_weather", BERGEN)]),
    "a name before its arguments": ([entry(0, None, "get_weather", BOTH[0]), entry(0, None, "add"),
                                     entry(0, None, None, '{"x": 1}')],
                                    [("", "get_weather", OSLO), ("", "add", {"x": 1})]),
    "without arguments": ([entry(0, "a", "now"), entry(1, "b", "now", None)], [("a", "now", ""), ("b", "now", "")]),
    "without arguments, one event": ([[entry(0, "a", "now"), entry(0, "b", "now")]],
                                     [("a", "now", ""), ("b", "now", "")]),
    "without arguments, one index": ([entry(0, "a", "now", "{}"), entry(0, "b", "add", '{"x": 1}')],
                                     [("a", "now", {}), ("b", "add", {"x": 1})]),
    "without arguments, no index, one tool": ([entry(None, "a", "get", "{}"), entry(None, "b", "get", '{"key": 1}')],
                                              [("a", "get", {}), ("b", "get", {"key": 1})]),
    "without arguments, no index": ([entry(None, None, "now", {}), entry(None, None, "add", {"x": 1})],
                                    [("", "now", {}), ("", "add", {"x": 1})]),
    "one within the other's name": ([entry(0, "a", "get"), entry(0, "b", "get_weather", BOTH[0])],
                                    [("a", "get", ""), ("b", "get_weather", OSLO)]),
    "a number as id": ([entry(0, 7, "add", '{"x": 1}')], [("7", "add", {"x": 1})]),
    "nothing at all": ([entry(), entry(0), entry(0, "a")], []),
}  # fmt: skip


@pytest.mark.parametrize(("events", "calls"), OTHERS.values(), ids=OTHERS.keys())
def test_calls_are_kept_apart(events: list[Entry | list[Entry]], calls: list[tuple[str, str, Any]]) -> None:
    assert calls_of(*events) == calls


DOUBTFUL: dict[str, list[Entry]] = {
    "{} for a call or for a beginning": [entry(0, None, "get_weather", "{}"), entry(0, None, "get_weather", BOTH[0])],
    "{} for a call or for a beginning, another id": [entry(0, "a", "get_weather", "{}"),
                                                     entry(0, "b", "get_weather", BOTH[0])],
    "{} for a call or for a beginning, no index": [entry(None, "a", "get_weather", "{}"),
                                                   entry(None, None, "get_weather", BOTH[0])],
    "a name or two": [entry(0, None, "get"), entry(0, None, "get_weather", BOTH[0])],
    "one's index, the other's id": [entry(0, "a", "add", '{"x"'), entry(1, "b", "add", '{"y"'),
                                    entry(1, "a", None, ": 1}"), entry(0, "b", None, ": 2}")],
    "arguments at another index": [entry(0, "a", "get_weather"), entry(1, None, None, BOTH[0])],
    "no name": [entry(0, "a", None, BOTH[0])],
    "two objects": [entry(0, "a", "get_weather", BOTH[0]), entry(0, None, None, BOTH[1])],
    "an object twice": [entry(0, "a", "get_weather", BOTH[0]), entry(0, None, None, BOTH[0])],
    "all of it again and again": [entry(0, "a", "get_weather", CUT[0]), entry(0, None, None, BOTH[0])],
    "cut off": [entry(0, "a", "get_weather", CUT[0]), entry(0, "b", "add", '{"x": 1}')],
}  # fmt: skip


@pytest.mark.parametrize("events", DOUBTFUL.values(), ids=DOUBTFUL.keys())
def test_what_has_two_readings_has_no_name_or_no_arguments(events: list[Entry]) -> None:
    """A turn of which one call is such is malformed as a whole."""
    assert any(not name or isinstance(arguments, str) for _, name, arguments in calls_of(*events))


def test_names_are_told_apart_without_knowing_the_tools() -> None:
    split = [entry(0, "a", "get_"), entry(0, None, "weather", BOTH[0])]
    two = [entry(0, "a", "now"), entry(0, "b", "get_weather", BOTH[0])]
    assert calls_of(*split, tools=()) == [("a", "get_weather", OSLO)]
    assert calls_of(*two, tools=()) == [("a", "now", ""), ("b", "get_weather", OSLO)]


def test_pieces_of_a_backend_are_put_together() -> None:
    pieces = ToolCallPieces()
    for piece in (
        ToolCallPiece(index=0, id="a", name="add", arguments='{"x"'),
        ToolCallPiece(index=1, id="b", name="add", arguments='{"x": 2}'),
        ToolCallPiece(index=0, arguments=": 1}"),
    ):
        pieces.add(piece)
    assert pieces.calls() == (NativeCall("a", "add", '{"x": 1}'), NativeCall("b", "add", '{"x": 2}'))


# -- any calls, cut anywhere -------------------------------------------------------------------------------------------

values = st.dictionaries(
    st.sampled_from(["city", "x"]), st.text(max_size=8) | st.integers() | st.lists(st.text(max_size=3), max_size=2)
)
made = st.lists(st.tuples(st.sampled_from(sorted(SCHEMAS)), values), min_size=1, max_size=4)
STYLES = ("plain", "new ids", "names again", "no index", "one index", "{} first")


@given(made, st.sampled_from(STYLES), st.integers(1, 9))
def test_a_call_comes_out_as_it_was_made(calls: list[tuple[str, dict[str, Any]]], style: str, size: int) -> None:
    events = []
    for number, (name, given_arguments) in enumerate(calls):
        text = json.dumps(given_arguments)
        parts = [text[start : start + size] for start in range(0, len(text), size)]
        index = {"no index": None, "one index": 0}.get(style, number)
        events.append(entry(index, f"id{number}", name, "{}" if style == "{} first" else ""))
        for place, part in enumerate(parts):
            new = f"new{number}-{place}" if style == "new ids" else None
            events.append(entry(index, new, name if style == "names again" else None, part))
    assert [(name, arguments) for _, name, arguments in calls_of(*events)] == calls


# -- arguments ---------------------------------------------------------------------------------------------------------

TWO_NUMBERS = SCHEMAS["add"]
LISTS = {"type": "object", "properties": {"names": {"type": "array"}}}
TEXT = {"type": "object", "properties": {"code": {"type": "string"}}}
ANY = {"type": "object", "properties": {"value": {}}}


@pytest.mark.parametrize(
    ("text", "parameters", "expected"),
    [
        ('{"city":  "Oslo"}', WEATHER, '{"city":  "Oslo"}'),
        ('"Oslo"', WEATHER, '{"city": "Oslo"}'),
        ('"Oslo"', None, '"Oslo"'),
        ('"Oslo"', TWO_NUMBERS, '"Oslo"'),
        ("3", WEATHER, "3"),
        ("true", TEXT, "true"),
        ("true", ANY, '{"value": true}'),
        ('["a"]', LISTS, '{"names": ["a"]}'),
        ('["a"]', TEXT, '["a"]'),
        ("null", WEATHER, "{}"),
        ("", WEATHER, ""),
        ('"{\\"city\\": \\"Oslo\\"}"', WEATHER, '{"city": "Oslo"}'),
        ('"{\\"city\\": \\"Oslo\\"}"', None, '{"city": "Oslo"}'),
        ('"{\\"a\\": 1}"', TEXT, '"{\\"a\\": 1}"'),
        ('"{\\"code\\": \\"x\\"}"', TEXT, '{"code": "x"}'),
        ("Oslo", WEATHER, "Oslo"),
        ('{"city": "Os', WEATHER, '{"city": "Os'),
        ('"{hello}"', TEXT, '"{hello}"'),
    ],
)
def test_arguments_with_one_reading_are_an_object(text: str, parameters: Any, expected: str) -> None:
    assert normal_arguments(text, parameters) == expected
