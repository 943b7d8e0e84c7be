"""What comes back, in the dialects of OpenAI's format that servers speak: text, thoughts, calls, logprobs, usage."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentkit.errors import ModelError
from agentkit.events import Usage
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.model import HostedModel
from agentkit.models.openai_format import ReplyData, ServerSentEvents
from tests.doubles.server import ChatServer, Line, Play, body, events, pieces_of, say
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
streaming = pytest.mark.parametrize("way", ["stream", "astream"])
HI = ChatRequest(messages=[{"role": "user", "content": "hi"}])
PARAMETERS = {"type": "object", "properties": {"x": {"type": "integer"}}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": PARAMETERS}}


def deltas(*values: dict[str, Any], finish: str = "stop") -> Play:
    return events(
        *({"choices": [{"index": 0, "delta": value}]} for value in values),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]},
    )


def call(arguments: Any = "", **values: Any) -> dict[str, Any]:
    """A piece of a tool call on the wire; without `index` or `id` where they are not given."""
    name = values.pop("name", None)
    function = {"arguments": arguments} | ({"name": name} if name else {})
    return {"type": "function", "function": function, **values}


@every_way
def test_a_reply_has_text_usage_reason_and_model(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [say("hello", usage={"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": None})]
    reply = ask(chat())
    assert reply.content == "hello"
    assert reply.usage_metadata is not None
    assert (reply.usage_metadata["input_tokens"], reply.usage_metadata["output_tokens"]) == (7, 3)
    metadata = {key: reply.response_metadata[key] for key in ("model_name", "finish_reason")}
    assert metadata == {"model_name": "served", "finish_reason": "stop"}


@every_way
@pytest.mark.parametrize(
    "said",
    [
        {"reasoning_content": "Let me see."},
        {"reasoning": "Let me see."},
        {"reasoning_content": "", "reasoning": "Let me see."},
        {"reasoning_content": None, "reasoning": "Let me see."},
        {"reasoning_content": "Let me see.", "reasoning": "Let me see."},
        {"reasoning": {"effort": "low"}, "thinking": "Let me see."},
        {"reasoning_text": "Let me see."},
    ],
)
def test_reasoning_is_thinking(server: ChatServer, chat: Make, ask: Ask, said: dict[str, Any]) -> None:
    server.plays = [say("", **said, content="four")]
    reply = ask(chat())
    assert (reply.content, reply.additional_kwargs) == ("four", {"reasoning_content": "Let me see."})


def test_text_that_is_marked_as_a_thought_is_thinking(server: ChatServer, chat: Make) -> None:
    thought = {"content": "Let me see.", "extra_content": {"google": {"thought": True}}}
    server.plays = [deltas(thought, {"content": "four"})]
    reply = WAYS["stream"](chat())
    assert (reply.content, reply.additional_kwargs) == ("four", {"reasoning_content": "Let me see."})


@every_way
def test_a_thought_in_the_text_is_thinking(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [say("<think>\nObservation: hm</think>\nfour")]
    reply = ask(chat(), stop=["\nObservation"])
    assert (reply.content, reply.additional_kwargs) == ("four", {"reasoning_content": "\nObservation: hm"})


@every_way
def test_parts_of_a_content_are_sorted(server: ChatServer, chat: Make, ask: Ask) -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    server.plays = [say("", content=[thought, {"type": "text", "text": "four"}])]
    reply = ask(chat())
    assert (reply.content, reply.additional_kwargs) == ("four", {"reasoning_content": "hm"})


CALLS: list[Any] = [
    ("as OpenAI", [[call(index=0, id="a", name="add")], [call('{"x"', index=0)], [call(": 1}", index=0)]]),
    ("whole", [[call('{"x": 1}', index=0, id="a", name="add")]]),
    ("without an index", [[call('{"x"', id="a", name="add")], [call(": 1}")]]),
    ("whole without an index", [[call('{"x": 1}', id="a", name="add")]]),
    ("the id again and again", [[call('{"x"', index=0, id="a", name="add")], [call(": 1}", index=0, id="a")]]),
    ("the name again and again", [[call('{"x"', index=0, id="a", name="add")], [call(": 1}", index=0, name="add")]]),
    ("as an object", [[call({"x": 1}, index=0, id="a", name="add")]]),
    ("nulls", [[call(None, index=0, id="a", name="add")], [call('{"x": 1}', index=0, id=None)]]),
]


@streaming
@pytest.mark.parametrize("pieces", [case[1] for case in CALLS], ids=[case[0] for case in CALLS])
def test_pieces_of_a_call_are_put_together(server: ChatServer, chat: Make, way: str, pieces: list[Any]) -> None:
    server.plays = [deltas(*({"tool_calls": piece} for piece in pieces), finish="tool_calls")]
    reply = WAYS[way](chat().bind_tools([TOOL]))
    assert reply.tool_calls == [{"name": "add", "args": {"x": 1}, "id": "a", "type": "tool_call"}]
    assert reply.response_metadata["finish_reason"] == "tool_calls"


FUNCTION = {"name": "add", "arguments": '{"x": 1}'}
ONE_CALL: dict[str, list[dict[str, Any]]] = {
    "whole": [{"function_call": FUNCTION}],
    "beside no others": [{"function_call": FUNCTION, "tool_calls": []}],
    "in pieces": [
        {"function_call": {"name": "add", "arguments": ""}},
        {"function_call": {"arguments": '{"x"'}},
        {"function_call": {"arguments": ": 1}"}},
    ],
    "said twice": [{"tool_calls": [{"index": 0, "id": "a", "function": FUNCTION}], "function_call": FUNCTION}],
    "said again": [{"tool_calls": [{"index": 0, "id": "a", "function": FUNCTION}]}, {"function_call": FUNCTION}],
    "none beside it": [{"tool_calls": [{"index": 0, "id": "a", "function": FUNCTION}]}, {"function_call": {}}],
}


@streaming
@pytest.mark.parametrize("pieces", ONE_CALL.values(), ids=ONE_CALL)
def test_a_call_in_the_field_of_earlier_servers_is_one(
    server: ChatServer, chat: Make, way: str, pieces: list[dict[str, Any]]
) -> None:
    server.plays = [deltas(*pieces, finish="function_call")]
    (made,) = WAYS[way](chat().bind_tools([TOOL])).tool_calls
    assert (made["name"], made["args"]) == ("add", {"x": 1})


@every_way
@pytest.mark.parametrize("said", [None, {}, {"name": None, "arguments": ""}, {"name": "", "arguments": ""}])
def test_no_call_in_it_is_none(server: ChatServer, chat: Make, ask: Ask, said: Any) -> None:
    server.plays = [say("hello", function_call=said)]
    reply = ask(chat().bind_tools([TOOL]))
    assert (reply.content, reply.tool_calls, reply.invalid_tool_calls) == ("hello", [], [])


TWO_CALLS: list[Any] = [
    [call("{}", index=0, id="a", name="add"), call('{"x": 2}', index=1, id="b", name="add")],
    [call("{}", index=0, id="a", name="add"), call('{"x": 2}', index=0, id="b", name="add")],
    [call("{}", id="a", name="add"), call('{"x": 2}', id="b", name="add")],
    [call("{}", name="add"), call('{"x": 2}', name="add")],
]


@every_way
@pytest.mark.parametrize("calls", TWO_CALLS, ids=["as OpenAI", "one index", "no index", "no id either"])
def test_calls_are_kept_apart(server: ChatServer, chat: Make, ask: Ask, calls: list[Any]) -> None:
    server.plays = [say("", finish="tool_calls", tool_calls=calls)]
    reply = ask(chat().bind_tools([TOOL]))
    assert [made["args"] for made in reply.tool_calls] == [{}, {"x": 2}]
    assert len({made["id"] for made in reply.tool_calls}) == 2
    assert all(made["id"] for made in reply.tool_calls)


def test_an_id_that_is_missing_is_made_the_same_way_again(server: ChatServer, chat: Make) -> None:
    server.plays = [say("", finish="tool_calls", tool_calls=[call("{}", name="add")])]
    first, second = (chat().bind_tools([TOOL]).invoke("hi").tool_calls for _ in range(2))
    assert first == second


CUT_OFF = {
    "length": "length",
    "MAX_OUTPUT_TOKENS": "length",
    "content_filter": "content_filter",
    "SAFETY": "safety",
    "server_error": "server_error",
    "a reason that nobody knows": "a reason that nobody knows",
}


@every_way
@pytest.mark.parametrize("arguments", ["", "{}", "5", '{"x": 5}', '{"x": 5'])
@pytest.mark.parametrize(("said", "meant"), CUT_OFF.items())
def test_no_call_of_a_reply_that_was_cut_off_is_one(
    server: ChatServer, chat: Make, ask: Ask, said: str, meant: str, arguments: str
) -> None:
    server.plays = [say("", finish=said, tool_calls=[call(arguments, index=0, id="a", name="add")])]
    reply = ask(chat().bind_tools([TOOL]))
    assert (reply.tool_calls, reply.response_metadata["finish_reason"]) == ([], meant)


@streaming
@pytest.mark.parametrize(
    ("arguments", "calls", "reason"),
    [
        ('{"x": 5}', [{"x": 5}], "tool_calls"),
        ("{}", [{}], "tool_calls"),
        ("", [], "incomplete"),
        ("5", [], "incomplete"),
        ('""', [], "incomplete"),
        ('{"x": 5', [], "incomplete"),
    ],
)
def test_without_a_reason_a_call_is_one_where_its_arguments_are_whole(
    server: ChatServer, chat: Make, way: str, arguments: str, calls: list[Any], reason: str
) -> None:
    delta = {"tool_calls": [call(arguments, index=0, id="a", name="add")]}
    server.plays = [events({"choices": [{"index": 0, "delta": delta}]})]
    reply = WAYS[way](chat().bind_tools([TOOL]))
    assert ([made["args"] for made in reply.tool_calls], reply.response_metadata["finish_reason"]) == (calls, reason)


@streaming
def test_without_a_reason_a_call_that_can_have_no_arguments_is_one(server: ChatServer, chat: Make, way: str) -> None:
    delta = {"tool_calls": [call("", index=0, id="a", name="now")]}
    server.plays = [events({"choices": [{"index": 0, "delta": delta}]})]
    now = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    assert [made["args"] for made in WAYS[way](chat().bind_tools([now])).tool_calls] == [{}]


@every_way
def test_logprobs_come_with_the_likeliest(server: ChatServer, chat: Make, ask: Ask) -> None:
    content = [{"token": "he", "logprob": -0.1, "top_logprobs": [{"token": "he", "logprob": -0.1}]}]
    choice = {"index": 0, "message": {"content": "he"}, "logprobs": {"content": content}, "finish_reason": "stop"}
    whole = body(json.dumps({"choices": [choice]}).encode())
    streamed = events({"choices": [{**choice, "delta": choice["message"]}]})
    server.choose = lambda asked: streamed if asked.body["stream"] else whole
    assert ask(chat(), logprobs=True, top_logprobs=1).response_metadata["logprobs"] == {"content": content}


REASONS = {
    "eos_token": "stop",
    "stop_sequence": "stop",
    "COMPLETE": "stop",
    "STOP": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "token_limit": "length",
    "content_filter": "content_filter",
}


@every_way
@pytest.mark.parametrize(("said", "meant"), REASONS.items())
def test_reasons_have_one_name(server: ChatServer, chat: Make, ask: Ask, said: str, meant: str) -> None:
    server.plays = [say("hello", finish=said)]
    assert ask(chat()).response_metadata["finish_reason"] == meant


@streaming
def test_a_server_without_done_or_usage_will_do(server: ChatServer, chat: Make, way: str) -> None:
    server.plays = [say("hello", usage=None, done=False)]
    reply = WAYS[way](chat())
    assert (reply.content, reply.usage_metadata) == ("hello", None)


@streaming
def test_done_without_a_reason_is_an_end(server: ChatServer, chat: Make, way: str) -> None:
    server.plays = [events({"choices": [{"index": 0, "delta": {"content": "hello"}}]})]
    reply = WAYS[way](chat())
    assert (reply.content, reply.response_metadata["finish_reason"]) == ("hello", "stop")


@streaming
def test_a_server_that_knows_no_streams_will_do(server: ChatServer, chat: Make, way: str) -> None:
    choice = {"index": 0, "message": {"content": "hello"}, "finish_reason": "stop"}
    server.plays = [body(json.dumps({"choices": [choice]}).encode())]
    assert WAYS[way](chat()).content == "hello"


def chunk(*choices: Any, **values: Any) -> dict[str, Any]:
    return {"object": "chat.completion.chunk", "model": "served", "choices": list(choices), **values}


def whole(*choices: Any, **values: Any) -> dict[str, Any]:
    return {"object": "chat.completion", "model": "served", "choices": list(choices), **values}


def sse(*values: Any, end: str = "\n\n") -> str:
    return "".join(f"data: {value if isinstance(value, str) else json.dumps(value)}{end}" for value in values)


MESSAGE = {"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}
HEL, LO = ({"index": 0, "delta": {"content": text}} for text in ("hel", "lo"))
LAST = {"index": 0, "delta": {}, "finish_reason": "stop"}
OTHER = {"index": 1, "delta": {"content": "hi!"}}
EVENTS = (chunk(HEL), chunk(LO), chunk(LAST))
BODIES: dict[str, str] = {
    "events": sse(*EVENTS, "[DONE]"),
    "events without an end": sse(*EVENTS),
    "events and a blank line first": "\n\n" + sse(*EVENTS, "[DONE]"),
    "events behind a comment": ": PROCESSING\n\n" + sse(*EVENTS, "[DONE]"),
    "events behind a wait": "retry: 3000\n" + sse(*EVENTS, "[DONE]"),
    "events with their names": "".join(f"event: message\n{sse(one)}" for one in EVENTS),
    "names in capitals": sse(*EVENTS, "[DONE]").replace("data: ", "DATA:"),
    "carriage returns": sse(*EVENTS, "[DONE]", end="\r\n\r\n"),
    "empty events between": sse(EVENTS[0], "", EVENTS[1], " ", EVENTS[2], "[done]"),
    "events of the server's own": sse(EVENTS[0], {"type": "ping"}, {}, *EVENTS[1:], {"usage": {}}, "[DONE]"),
    "JSON": json.dumps(whole(MESSAGE)),
    "JSON behind a byte order mark": "\ufeff" + json.dumps(whole(MESSAGE)),
    "JSON on many lines": "\n" + json.dumps(whole(MESSAGE), indent=2) + "\n",
    "JSON, then an end": json.dumps(whole(MESSAGE)) + "\n\ndata: [DONE]\n\n",
    "JSON as an event": sse(whole(MESSAGE)),
    "JSON as an event, then an end": sse(whole(MESSAGE), "[DONE]"),
    "JSON without a reason": json.dumps(whole({**MESSAGE, "finish_reason": None})),
    "JSON line by line": "\n".join(map(json.dumps, EVENTS)),
    "pieces, then all of it once more": sse(*EVENTS[:2], whole(MESSAGE), "[DONE]"),
    "pieces beside all of it so far": sse(chunk({**HEL, "message": {"content": "hel"}}),
                                          chunk({**LO, "message": {"content": "hello"}}),
                                          chunk({**MESSAGE, "delta": {}})),
    "two replies": json.dumps(whole({"index": 1, "message": {"content": "hi!"}, "finish_reason": "stop"}, MESSAGE)),
    "two replies in turn": sse(chunk(HEL), chunk(OTHER), chunk({**OTHER, "finish_reason": "length"}), *EVENTS[1:]),
    "two replies at once": sse(chunk(HEL, OTHER), chunk(OTHER, LO), chunk({**LAST, "index": 1}, LAST)),
    "a reason in capitals": sse(*EVENTS[:2], chunk({**LAST, "finish_reason": "STOP"})),
    "null where something may be": sse({**chunk(), "choices": None}, chunk(None), chunk({**HEL, "logprobs": None}),
                                       chunk(None, {"index": 0, "delta": {"content": "lo", "tool_calls": [None]}}),
                                       chunk({"index": 0, "delta": None, "finish_reason": None}), chunk(LAST)),
    "no blank lines": sse(*EVENTS).replace("\n\n", "\n"),
    "no blank lines, carriage returns": sse(*EVENTS).replace("\n\n", "\r\n"),
    "carriage returns alone": sse(*EVENTS).replace("\n", "\r"),
    "events on several lines": "".join(
        "".join(f"data: {line}\n" for line in json.dumps(event, indent=1).splitlines()) + "\n" for event in EVENTS
    ),
    "a mark in quotes": sse(*EVENTS[:2], chunk(LAST)) + 'data: "[DONE]"\n\n',
    "empty events": "data: null\n\n" + sse(*EVENTS).replace("\n\n", "\n\ndata: []\n\ndata:\n\ndata: {}\n\n"),
    "more behind the mark": sse(*EVENTS[:2], chunk(LAST), "[DONE]", chunk(HEL), {"error": "asleep"}, "<html>"),
    "an error behind the end": sse(*EVENTS[:2], chunk(LAST), {"error": "asleep"}, "[DONE]"),
    "another thing behind the end": json.dumps(whole(MESSAGE)) + "<!-- cached -->",
    "reasons that are none": sse(chunk({**HEL, "finish_reason": ""}), chunk({**LO, "finish_reason": "null"}),
                                 chunk(LAST)),
}  # fmt: skip
TYPES = [
    "text/event-stream",
    "Text/Event-Stream; Charset=UTF-8",
    "application/json",
    "APPLICATION/JSON",
    "text/plain",
    "",
]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("text", BODIES.values(), ids=BODIES)
def test_a_reply_is_read_whatever_its_form_and_type(server: ChatServer, chat: Make, text: str, kind: str) -> None:
    server.plays = [body(text.encode(), kind=kind)]
    for way in ("invoke", "stream"):
        reply = WAYS[way](chat(max_retries=0))
        assert (reply.content, reply.response_metadata["finish_reason"]) == ("hello", "stop")


@pytest.mark.parametrize("text", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("size", [1, 7])
def test_the_form_shows_however_the_bytes_are_cut(text: str, size: int) -> None:
    data, wire = ReplyData(), text.encode()
    cut = [one for start in range(0, len(wire), size) for one in data.feed(wire[start : start + size])]
    assert [*cut, *data.rest()] == [*(at_once := ReplyData()).feed(wire), *at_once.rest()]


ERRORS: dict[str, tuple[Any, str, int]] = {
    "an object named so": (
        {"object": "error", "message": "asleep", "type": "BadRequestError", "code": 400},
        "asleep",
        1,
    ),
    "a text": ({"error": "asleep"}, "asleep", 5),
    "OpenAI's": ({"error": {"message": "asleep", "type": "invalid_request_error", "code": None}}, "asleep", 1),
    "a number as text": ({"error": {"message": "asleep", "code": "400"}}, "asleep", 1),
    "Anthropic's": ({"type": "error", "error": {"type": "overloaded_error", "message": "asleep"}}, "asleep", 5),
    "no choices": ({"choices": None, "error_type": "BadRequestError", "error_message": "asleep"}, "asleep", 1),
    "a detail": ({"detail": "asleep"}, "asleep", 5),
    "a list": ({"success": False, "errors": [{"code": 7003, "message": "asleep"}]}, "asleep", 5),
    "MiniMax's": ({"choices": None, "base_resp": {"status_code": 1004, "status_msg": "asleep"}}, "asleep", 5),
    "without words": ({"error": {"code": 418}}, '{"error": {"code": 418}}', 1),
    "of the choice": (chunk({"index": 0, "delta": {}, "error": {"message": "asleep", "code": 502}}), "asleep", 5),
}


@pytest.mark.parametrize("way", ["invoke", "astream"])
@pytest.mark.parametrize("form", ["JSON", "an event", "behind a piece", "named"])
@pytest.mark.parametrize(("value", "words", "tries"), ERRORS.values(), ids=ERRORS)
def test_an_error_under_200_keeps_its_words(
    server: ChatServer, chat: Make, way: str, form: str, value: Any, words: str, tries: int
) -> None:
    text = json.dumps(value)
    forms = {"an event": sse(value), "behind a piece": sse(chunk(HEL), value), "named": f"event: error\n{sse(text)}"}
    server.plays = [body(forms.get(form, text).encode(), kind="text/event-stream")]
    with pytest.raises(ModelError, match=r"broke off|ended the reply") as caught:
        WAYS[way](chat())
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(server.requests) == tries


def test_an_error_that_is_no_json_keeps_its_words(server: ChatServer, chat: Make) -> None:
    server.plays = [body(b"event: error\ndata: out of memory\n\n")]
    with pytest.raises(ModelError, match="broke off: out of memory"):
        chat(max_retries=0).invoke("hi")


def test_what_an_error_under_200_says_is_learnt_from(server: ChatServer, chat: Make) -> None:
    refusal = {"object": "error", "message": "System role not supported", "code": 400}
    server.choose = lambda asked: (
        body(json.dumps(refusal).encode()) if asked.body["messages"][0]["role"] == "system" else say("hello")
    )
    assert chat().invoke([("system", "Be brief."), ("human", "hi")]).content == "hello"


@every_way
def test_a_reply_may_be_moved_within_its_server(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [body(b"", 307, location="/v2/chat/completions"), say("hello")]
    assert ask(chat()).content == "hello"
    assert [one.path for one in server.requests] == ["/v1/chat/completions", "/v2/chat/completions"]
    assert server.bodies[0] == server.bodies[1]


@streaming
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
def test_comments_and_other_lines_of_a_stream_are_passed_over(
    server: ChatServer, chat: Make, way: str, before: bytes
) -> None:
    def play(line: Line) -> None:
        line.begin_stream()
        line.chunk(before + b": ping\r\n\r\nevent: message\r\nid: 7\r\ndata:")
        choice = {"index": 0, "delta": {"content": "hello"}, "finish_reason": "stop"}
        line.chunk(json.dumps({"choices": [choice]}).encode() + b"\r\n\r\n: bye")
        line.end_stream()

    server.plays = [play]
    assert WAYS[way](chat()).content == "hello"


def test_a_stream_may_begin_with_a_byte_order_mark() -> None:
    assert list(ServerSentEvents().feed(b"\xef\xbb\xbfdata: first\n\ndata: second\n\n")) == ["first", "second"]


lines = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1)


@given(st.lists(lines, min_size=1), st.integers(1, 9))
def test_events_do_not_depend_on_how_the_bytes_are_cut(datas: list[str], size: int) -> None:
    wire = "".join(f"data: {data}\n\n" for data in datas).encode()
    parser = ServerSentEvents()
    read = [event for start in range(0, len(wire), size) for event in parser.feed(wire[start : start + size])]
    assert read + parser.rest() == datas


def test_pieces_are_shown_as_they_come(server: ChatServer, chat: Make) -> None:
    text = "a reply in pieces"
    server.plays = [say(text)]
    assert [chunk.content for chunk in chat().stream("hi") if chunk.content] == pieces_of(text)


# -- cost --------------------------------------------------------------------------------------------------------------

TOKENS = {"prompt_tokens": 1_000_000, "completion_tokens": 100_000}


def usage_of(model: HostedModel) -> Usage | None:
    return [chunk.usage for chunk in model.generate_chat(HI)][-1]


@pytest.mark.parametrize(
    ("said", "headers", "prices", "cost_usd"),
    [
        ({"cost": 0.25}, {}, {"served": [9, 9]}, 0.25),
        ({"estimated_cost": "0.5"}, {}, None, 0.5),
        ({"cost": {"total_cost": 0.75}}, {}, None, 0.75),
        ({}, {"x-litellm-response-cost": "0.125"}, None, 0.125),
        ({"cost": 0}, {}, None, 0.0),
        ({}, {}, {"served": [2, 10]}, 3.0),
        ({}, {}, {"named": (2, 10)}, 3.0),
        ({"cost": "much"}, {}, {"named": (2, 10), "served": (0, 0)}, 3.0),
        ({}, {}, {"other": [2, 10]}, None),
        ({}, {}, None, None),
    ],
)
def test_cost_is_what_the_server_says_or_the_table(
    server: ChatServer, backend: Callable[..., HostedModel], said: Any, headers: Any, prices: Any, cost_usd: float
) -> None:
    server.plays = [say("hello", usage={**TOKENS, **said}, headers=headers)]
    request = backend(model="named", prices=prices)
    usage = [chunk.usage for chunk in request.generate_chat(ChatRequest(messages=HI.messages, stream=False))][-1]
    assert usage == Usage(1_000_000, 100_000, 0, cost_usd)


@pytest.mark.parametrize("counted", [{}, {"prompt_tokens": 20}, {"completion_tokens": 9}, {"total_tokens": 29}])
@pytest.mark.parametrize("none", [None, 0, -5, "9", 10**40])
def test_tokens_that_are_not_counted_have_no_price(
    server: ChatServer, backend: Callable[..., HostedModel], counted: dict[str, int], none: Any
) -> None:
    server.plays = [say("hello", usage={**dict.fromkeys(TOKENS, none), **counted})]
    usage = usage_of(backend(prices={"served": (2, 10)}))
    assert usage is not None
    assert usage.cost_usd is None


def test_tokens_that_cost_nothing_need_not_be_counted(server: ChatServer, backend: Callable[..., HostedModel]) -> None:
    server.plays = [say("hello", usage={"completion_tokens": 100_000})]
    usage = usage_of(backend(prices={"served": (0, 10)}))
    assert usage is not None
    assert usage.cost_usd == 1.0


def test_prices_may_stand_in_a_file(server: ChatServer, backend: Callable[..., HostedModel], tmp_path: Path) -> None:
    (tmp_path / "prices.toml").write_text('"served" = [2, 10.0]\n')
    server.plays = [say("hello", usage=TOKENS)]
    usage = usage_of(backend(prices=str(tmp_path / "prices.toml")))
    assert usage is not None
    assert usage.cost_usd == 3.0


def test_cost_stands_in_the_metadata(server: ChatServer, chat: Make) -> None:
    server.plays = [say("hello", usage={**TOKENS, "cost": 0.25})]
    assert chat().invoke("hi").response_metadata["cost_usd"] == 0.25


@every_way
def test_cached_tokens_are_counted(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [say("hello", usage={**TOKENS, "prompt_tokens_details": {"cached_tokens": 5}})]
    usage = ask(chat()).usage_metadata
    assert usage is not None
    assert usage["input_token_details"]["cache_read"] == 5


@every_way
@pytest.mark.parametrize(("choice", "calls"), [("auto", ["add"]), ("none", [])])
def test_a_call_in_the_text_is_none_where_none_was_asked_for(
    server: ChatServer, chat: Make, ask: Ask, choice: str, calls: list[str]
) -> None:
    """llama.cpp shows a model its tools even then, and leaves what it writes in the text."""
    text = '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>'
    server.plays = [say(text)]
    reply = ask(chat(), tools=[TOOL], tool_choice=choice)
    assert [one["name"] for one in reply.tool_calls] == calls
    assert reply.content == ("" if calls else text)
