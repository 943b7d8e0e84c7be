"""Replies in OpenAI's format as text: what cassettes, reports and hosted models read of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit.events import Usage
from agentkit.models.backend import Chunk, NativeCall, ToolCallPiece
from agentkit.models.openai_format import (
    BrokenReply,
    NotACompletion,
    ToolCallPieces,
    chunks_of,
    tool_call_deltas,
    usage_of,
)


def sse(*events: Any) -> str:
    return "".join(f"data: {event if isinstance(event, str) else json.dumps(event)}\n\n" for event in events)


def delta(content: Any, **values: Any) -> dict[str, Any]:
    return {"model": "served", "choices": [{"index": 0, "delta": {"content": content}, **values}]}


WHOLE = {
    "model": "served",
    "choices": [{"index": 0, "message": {"content": "four", "reasoning": "hm"}, "finish_reason": "eos_token"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 3},
}


@pytest.mark.parametrize("body", [WHOLE, json.dumps(WHOLE), f" {json.dumps(WHOLE)}\n".encode()])
def test_a_whole_reply(body: Any) -> None:
    assert list(chunks_of(body)) == [
        Chunk(text="four", thinking="hm"),
        Chunk(usage=Usage(7, 3), finish_reason="stop", metadata={"model_name": "served"}),
    ]


@pytest.mark.parametrize("end", ["", "data: [DONE]"])
def test_a_stream(end: str) -> None:
    body = sse(delta("fo"), delta("ur", finish_reason="max_tokens")) + ": a comment\n\n" + end
    assert list(chunks_of(body)) == [
        Chunk(text="fo"),
        Chunk(text="ur"),
        Chunk(finish_reason="length", metadata={"model_name": "served"}),
    ]


@pytest.mark.parametrize(
    ("body", "error", "message"),
    [
        ("", NotACompletion, "an empty reply"),
        (" <!doctype html>", NotACompletion, "an HTML page"),
        ("[1]", NotACompletion, "a JSON list"),
        ('{"choices": null, "id": 1}', NotACompletion, r"JSON without choices \(choices, id\)"),
        ('{"choices": [{"message": 3}]}', NotACompletion, r"one with a field of the wrong type \(AttributeError\)"),
        (sse(delta("x"), {"error": {"message": "out of\nmemory", "code": 503}}), BrokenReply, "broke off: out of"),
        (sse(delta("x", finish_reason="abort")), BrokenReply, "broke the reply off"),
    ],
)
def test_what_is_no_reply(body: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        list(chunks_of(body))


def call(index: Any = None, id: Any = None, name: Any = None, arguments: Any = "") -> dict[str, Any]:
    values = {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}
    return {key: value for key, value in values.items() if value is not None}


A, B = NativeCall("a", "add", '{"x": 1}'), NativeCall("b", "add", '{"x": 2}')
PIECES: list[tuple[str, list[dict[str, Any]], tuple[NativeCall, ...]]] = [
    ("by index", [call(0, "a", "add", '{"x"'), call(1, "b", "add", '{"x"'), call(0, arguments=": 1}"),
                  call(1, arguments=": 2}")], (A, B)),
    ("without index", [call(None, "a", "add", '{"x"'), call(None, None, None, ": 1}"),
                       call(None, "b", "add", '{"x": 2}')], (A, B)),
    ("one index for all", [call(0, "a", "add", '{"x": 1}'), call(0, "b", "add", '{"x": 2}')], (A, B)),
    ("without ids", [call(None, None, "add", '{"x": 1}'), call(None, None, "add", '{"x": 2}')],
     (NativeCall("", "add", '{"x": 1}'), NativeCall("", "add", '{"x": 2}'))),
    ("arguments as an object", [call(0, "a", "add", {"x": 1})], (A,)),
    ("an id at every piece", [call(0, "a", "add", '{"x"'), call(0, "a", None, ": 1}")], (A,)),
    ("no arguments", [call(0, "a", "now", None)], (NativeCall("a", "now", ""),)),
]  # fmt: skip


@pytest.mark.parametrize(("deltas", "calls"), [case[1:] for case in PIECES], ids=[case[0] for case in PIECES])
def test_calls_are_put_together(deltas: list[dict[str, Any]], calls: tuple[NativeCall, ...]) -> None:
    pieces = ToolCallPieces()
    for one in deltas:
        pieces.add_delta(one)
    assert pieces.calls() == calls


def test_calls_of_a_backend_are_put_together() -> None:
    pieces = ToolCallPieces()
    for piece in (
        ToolCallPiece(index=0, id="a", name="add", arguments='{"x"'),
        ToolCallPiece(index=1, id="b", name="add", arguments='{"x": 2}'),
        ToolCallPiece(index=0, arguments=": 1}"),
    ):
        pieces.add(piece)
    assert pieces.calls() == (A, B)


def test_calls_of_a_whole_message_stand_by_themselves() -> None:
    calls = [call(0, None, "add", '{"x'), call(0, None, "add", '{"x": 2}')]
    assert [one["index"] for one in tool_call_deltas({"message": {"tool_calls": calls}})] == [0, 1]
    assert tool_call_deltas({"message": {"content": "x"}}) == tool_call_deltas({}) == []


@pytest.mark.parametrize(
    ("counts", "headers", "usage"),
    [
        ({}, None, Usage()),
        ({"prompt_tokens": 7, "completion_tokens": 3.0, "prompt_tokens_details": {"cached_tokens": 5}}, None,
         Usage(7, 3, 5)),
        ({"prompt_tokens": None, "prompt_tokens_details": "none"}, None, Usage()),
        ({"cost": 0.25}, {"x-litellm-response-cost": "9"}, Usage(cost_usd=0.25)),
        ({"cost": "much", "total_cost": "0.5"}, None, Usage(cost_usd=0.5)),
        ({"cost": {"total_cost": 0.75}}, None, Usage(cost_usd=0.75)),
        ({}, {"x-litellm-response-cost": "0.125"}, Usage(cost_usd=0.125)),
    ],
)  # fmt: skip
def test_usage(counts: dict[str, Any], headers: dict[str, str] | None, usage: Usage) -> None:
    assert usage_of(counts, headers) == usage
