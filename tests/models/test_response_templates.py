"""What a checkpoint says of its calls in its `response_template`: data of a download, which is read and never run."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from agentkit.models.local.chat_template import ChatTemplate
from agentkit.react_json.marks import HERMES, CallSyntax, Pairs, Tags

from .call_templates import PLAIN, QWEN, XML
from .conftest import build_tokenizer, read_reply

SHOWS_TOOLS = "{% for tool in tools or [] %}{{ tool | tojson }}{% endfor %}" + PLAIN  # and drops calls
TOOL = {
    "type": "function",
    "function": {
        "name": "look_up",
        "description": "Looks",
        "parameters": {
            "type": "object",
            "properties": {"text": {"type": "string"}, "count": {"type": "integer"}, "flag": {"type": "boolean"}},
        },
    },
}
NAMED = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}


def template_of(calls: Any, chat_template: str = SHOWS_TOOLS) -> ChatTemplate:
    """A template beside a response_template whose calls are these; anything but a field of calls stands for itself."""
    tokenizer = build_tokenizer()
    tokenizer.chat_template = chat_template
    fields = {"content": {"close": "<|im_end|>"}, "tool_calls": calls}
    is_field = isinstance(calls, dict) and calls.keys() & {"open", "open_pattern", "content"}
    anchor = "<|im_start|>assistant\n"
    tokenizer.response_template = {"start_anchor": anchor, "fields": fields} if is_field else calls
    return ChatTemplate(tokenizer)


DECLARED: dict[str, tuple[dict[str, Any], CallSyntax]] = {
    "an object": (
        {"open": "<fc>", "close": "</fc>", "content": "json", "repeats": True}
        | {"transform": {"type": "function", "function": "{content}"}},
        CallSyntax('<fc>{"name": "', '", "arguments": ', '}</fc><fc>{"name": "', "}</fc>"),
    ),
    "an object with keys of its own": (
        {"open": "<fc>", "close": "</fc>", "content": "json"}
        | {"transform": {"function": {"name": "{content.tool}", "arguments": "{content.input}"}}},
        CallSyntax('<fc>{"tool": "', '", "input": ', None, "}</fc>"),
    ),
    "a list of objects": (
        {"open": "[CALLS]", "close": "[/CALLS]", "content": "json", "transform_each": True}
        | {"transform": {"function": {"name": "{name}", "arguments": "{arguments}"}}},
        CallSyntax('[CALLS][{"name": "', '", "arguments": ', '}, {"name": "', "}][/CALLS]"),
    ),
    "a name and JSON": (
        {
            "open_pattern": r"@@(?P<name>\w+)\s*->\s*",
            "close_pattern": r"@end\s*|$",
            "content": "json",
            "transform": NAMED,
        },
        CallSyntax("@@", "->", None, "@end"),
    ),
    "a name of another group": (
        {"open_pattern": r"<use:(?P<tool>[^>]+)>", "close": ["</use>", "</used>"], "content": "json"}
        | {"transform": {"function": {"name": "{tool}", "arguments": "{content}"}}},
        CallSyntax("<use:", ">", None, "</use>"),
    ),
    "tags": (
        {"open_pattern": r"<do\s+(?P<name>\w+)>", "close": "</do>", "content": "xml-inline", "transform": NAMED}
        | {"content_args": {"tag_pattern": r"<put (?P<key>\w+)>(?P<value>.*?)</put>"}, "repeats": True},
        CallSyntax("<do ", ">", "</do><do ", "</do>", Tags("<put ", ">", "</put>")),
    ),
    "quotes of its own": (
        {"open_pattern": r"<\|fn>(?P<name>\w+)", "close_pattern": r"<fn\|>\s*", "content": "json", "transform": NAMED}
        | {"content_args": {"string_delims": [["<|q|>", "<|q|>"]], "unquoted_keys": True}, "repeats": True},
        CallSyntax("<|fn>", "{", "}<fn|><|fn>", "}<fn|>", Pairs(":", "<|q|>")),
    ),
    "a list as Python": (
        {"open": "<|calls|>", "close": "<|/calls|>", "content": "python-call-list", "transform_each": True}
        | {"transform": {"function": {"name": "{name}", "arguments": "{arguments}"}}},
        CallSyntax("<|calls|>[", "(", "), ", ")]<|/calls|>", Pairs("=")),
    ),
}


@pytest.mark.parametrize(("field", "syntax"), DECLARED.values(), ids=DECLARED)
@pytest.mark.parametrize("chat_template", [SHOWS_TOOLS, PLAIN])
def test_calls_are_read_and_written_as_declared(field: dict[str, Any], syntax: CallSyntax, chat_template: str) -> None:
    template = template_of(field, chat_template)
    assert template.call_syntax == syntax
    arguments = {"text": "it is a {brace} > 1", "count": 3, "flag": True}
    call = {"name": "look_up", "arguments": json.dumps(arguments)}
    run = [
        {"role": "user", "content": "QUESTION"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "call00001", "type": "function", "function": call}]},
        {"role": "tool", "tool_call_id": "call00001", "content": "RESULT"},
    ]
    assert syntax.write(("look_up", arguments)) in template.render(run, tools=[TOOL])


@pytest.mark.parametrize(("field", "syntax"), DECLARED.values(), ids=DECLARED)
def test_what_is_read_is_what_transformers_reads(field: dict[str, Any], syntax: CallSyntax) -> None:
    template = template_of(field)
    wanted = {"text": "two\nlines, <b>", "count": -3, "flag": False}
    text = syntax.write(("look_up", wanted))
    theirs = template.processor.parse_response(text, prefix="", tools=[TOOL])
    (call,) = theirs["tool_calls"] if isinstance(theirs["tool_calls"], list) else [theirs["tool_calls"]]
    assert (call["function"]["name"], call["function"]["arguments"]) == ("look_up", wanted)
    for pieces in (text, [text]):
        _, _, ((name, arguments),) = read_reply(pieces, template.call_syntax, [TOOL])
        assert (name, json.loads(arguments)) == ("look_up", wanted)


def test_the_chat_templates_own_spelling_is_taken_where_both_agree() -> None:
    field = {"open_pattern": r"<tool_call>\s*", "close_pattern": r"\s*</tool_call>", "content": "json"}
    assert template_of(field, QWEN).native_calls == HERMES


def test_what_is_declared_goes_before_what_the_chat_template_writes() -> None:
    field, syntax = DECLARED["an object"]
    assert template_of(field, QWEN).native_calls == syntax


def deep() -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(100_000):
        value = {"fields": value}
    return value


HOSTILE: dict[str, Any] = {
    "a text": "__import__('os').system('true')",
    "a list": [1, 2],
    "nothing": {},
    "no fields": {"fields": None},
    "calls that are no object": {"fields": {"tool_calls": [1]}},
    "another parser": {"open": "<a>", "content": "os.system"},
    "a parser that is no text": {"open": "<a>", "content": {"eval": "1"}},
    "a word of any text": {"open": "call", "content": "json"},
    "a sign of any text": {"open": ". ", "content": "json"},
    "no beginning": {"open": "", "content": "json"},
    "a beginning that is none": {"open": {"a": 1}, "content": "json"},
    "an open group": {"open_pattern": "(?P<name>", "content": "json"},
    "a pattern of another library": {"open_pattern": r"(?P<name>\p{Lu}++(?R)?)", "content": "json"},
    "a pattern that is none": {"open_pattern": 7, "content": "json"},
    "a condition": {"open_pattern": r"(<)?x(?(1)>|y)", "content": "json"},
    "a long repeat": {"open_pattern": "(?:(?:x{4000}){4000}){4000}", "content": "json"},
    "deep groups": {"open_pattern": "(" * 990 + ")" * 990, "content": "json"},
    "a long pattern": {"open_pattern": "a" * 5000, "content": "json"},
    "a long beginning": {"open": "<t>" * 10_000, "close": "b", "content": "json"},
    "a long end": {"open": "<t>", "close": "</t>" * 10_000, "content": "json"},
    "long quotes": {"open_pattern": "<(?P<name>a)>", "content": "json", "transform": NAMED}
    | {"content_args": {"string_delims": [["<q>" * 10_000] * 2]}},
    "ten megabytes": {"open": "x" * 10_000_000, "content": "json"},
    "a deep value": deep(),
    "no JSON": {"fields": {1: {2, 3}}},
    "a name that is nowhere": {"open": "<a>", "content": "json", "transform": {"function": {"name": 5}}},
    "arguments in no tags": {"open_pattern": "<(?P<name>a)>", "content": "xml-inline", "transform": NAMED}
    | {"content_args": {"tag_pattern": "(?P<key>a)=(?P<value>b)"}},
    "lines of pairs": {"open_pattern": "<(?P<name>a)>", "content": "kv-lines", "transform": NAMED},
}


@pytest.mark.parametrize("calls", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("chat_template", [QWEN, PLAIN])
def test_one_that_cannot_be_used_is_named_in_one_line(
    calls: Any, chat_template: str, caplog: pytest.LogCaptureFixture
) -> None:
    template = template_of(calls, chat_template)
    started = time.process_time()
    with caplog.at_level(logging.WARNING, "agentkit"):
        assert template.call_syntax == HERMES
    assert time.process_time() - started < 2  # CPU seconds
    (message,) = caplog.messages
    assert message.startswith("The model's response_template is not used (")
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("mark", ["<tool_call>", "<function=", "<parameter=", "</tool_call>"])
def test_a_chat_template_that_writes_long_marks_is_learned_no_syntax_from(mark: str) -> None:
    """Reading a syntax takes the square of its length."""
    template = template_of({"fields": {}}, XML.replace(mark, "<t>" * 10_000 + mark, 1))
    started = time.process_time()
    assert len(str(template.call_syntax)) < 2000
    read_reply(["Hello."], template.call_syntax, [TOOL])
    assert time.process_time() - started < 2  # CPU seconds


@pytest.mark.parametrize("pattern", ["((((a+)+)+)+)+$<x>", r"<x>(a|aa)+(?P<name>\w+)", "<x>(.*)*(.*)*(.*)*y"])
def test_a_pattern_that_backtracks_is_never_run(pattern: str) -> None:
    template = template_of({"open_pattern": pattern, "content": "json", "transform": NAMED, "repeats": True})
    text = "a" * 5000 + "!"
    syntax, started = template.call_syntax, time.process_time()
    _, said, _ = read_reply(text, syntax, [TOOL])
    assert time.process_time() - started < 5  # CPU seconds
    assert said == text


def test_one_without_calls_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert template_of({"fields": {"content": {}}}, QWEN).native_calls == HERMES
    assert caplog.messages == []
