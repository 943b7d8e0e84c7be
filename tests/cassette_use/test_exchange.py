"""A model's reply over HTTP, in each shape that servers give, and what a story makes of one without events."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.file import Document
from agentkit.cassette.format.place import save
from agentkit.cassette.format.writer import render
from agentkit.events import Usage
from agentkit.models.backend import Completion, NativeCall
from agentkit.report.exchange import completion_of, prompt_of
from agentkit.report.story import StoryCall, read_story
from tests.doubles.models import action, final

URL = "https://host/v1/chat/completions"
ASKED = {"model": "m", "messages": [{"role": "user", "content": "Q?"}], "stop": ["\nObservation"]}
COUNTED = {"prompt_tokens": 9, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 5}, "cost": 0.5}
USAGE = Usage(9, 4, 5, 0.5)


def exchange(response: Any, body: Any = ASKED, code: int = 200, **rest: Any) -> Entry:
    kind = "string" if isinstance(response, str) else "json"
    return Entry(uri=URL, body=body, response={kind: response}, status={"code": code, "message": ""}, **rest)


def message(**parts: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **parts}, "finish_reason": "stop"}]}


def streamed(*deltas: dict[str, Any]) -> str:
    chunks = [{"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    end = {"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": COUNTED}
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in [*chunks, end]) + "data: [DONE]\n\n"


def piece(index: int, **parts: Any) -> dict[str, Any]:
    return {"index": index, **parts}


CALLS = streamed(
    {"content": None, "tool_calls": [piece(0, id="a", function={"name": "Search", "arguments": '{"que'})]},
    {"tool_calls": [piece(0, function={"arguments": 'ry": "x"}'}), piece(1, id="b", function={"name": "Add"})]},
    {"tool_calls": [piece(1, function={"arguments": "{}"})]},
)


@pytest.mark.parametrize(
    ("entry", "reply"),
    [
        (exchange({**message(content="Hi"), "usage": COUNTED}), Completion("Hi", USAGE)),
        (exchange(streamed({"content": "H"}, {"content": "i"})), Completion("Hi", USAGE, "length")),
        (exchange(message(content="Hi\nObservation: made up")), Completion("Hi", Usage(2, 1))),  # counted
        (exchange(message(content="<think>so</think>Hi")), Completion("Hi", thinking="so")),
        (exchange(message(content="Hi", reasoning_content="so")), Completion("Hi", thinking="so")),
        (exchange(message(content=[{"type": "text", "text": "Hi"}])), Completion("Hi")),
        (exchange(CALLS), Completion("", USAGE, "length")),  # what was cut off is no call
        (
            exchange(CALLS.replace('"length"', '"tool_calls"')),
            Completion(
                "", USAGE, "tool_calls", "", (NativeCall("a", "Search", '{"query": "x"}'), NativeCall("b", "Add", "{}"))
            ),
        ),
        (exchange([{"generated_text": "Hi"}], {"inputs": "Q?"}), Completion("Hi")),
        (exchange({"generated_text": "Hi"}, {"inputs": "Q?"}), Completion("Hi")),
        (exchange({"choices": [{"text": "Hi"}]}, {"prompt": "Q?"}), Completion("Hi")),
    ],
)
def test_each_shape_is_read(entry: Entry, reply: Completion) -> None:
    assert completion_of(entry) == reply
    assert prompt_of(entry) == [("user", "Q?")]


@pytest.mark.parametrize(
    "entry",
    [
        exchange({"error": "busy"}, code=503),
        exchange({"error": "busy"}),
        exchange("<html>"),
        exchange({"choices": []}),
        exchange({"choices": [7]}),
        exchange({"choices": 7}),
        exchange(message(content="Hi"), {"q": "no model is asked"}),
        exchange(message(content="Hi"), None),
        exchange("data: {broken"),
        exchange(message(content="Hi", tool_calls=[7])),
        exchange(message(content="Hi"), code="odd"),  # type: ignore[arg-type]
        Entry(uri="tool://Search", body={"input": "x"}, response={"string": "y"}),
    ],
)
def test_what_is_no_reply_is_none(entry: Entry) -> None:
    assert completion_of(entry) is None


def story(tmp_path: Path, *entries: Entry) -> Any:
    path = tmp_path / "run.yaml"
    save(path, render(Document(items=entries, head={"recorded": "2026-01-01"}, complete=True)))
    (run,) = read_story(path).runs
    return run


def test_a_hosted_run_with_a_tool_over_http_and_a_try_that_failed(tmp_path: Path) -> None:
    search = action("Search", "ada")
    told = [
        *ASKED["messages"],
        {"role": "assistant", "content": search},
        {"role": "user", "content": "Observation: 36"},
    ]
    run = story(
        tmp_path,
        exchange({"error": "busy"}, code=503, ms=20, at_ms=20),
        exchange(message(content=search), ms=100, at_ms=130),
        Entry(method="GET", uri="https://serpapi.com/search?q=ada", body=None, response={"json": {}}, ms=40, at_ms=180),
        exchange(message(content=final("36")), {**ASKED, "messages": told}, ms=50, at_ms=240),
    )
    first, last = run.steps
    assert [(one.outcome, one.ms) for one in first.failures] == [("503", 20)]
    assert (first.model_ms, first.tools_ms) == (120, 50)
    (call,) = first.calls
    assert (call.tool, call.tool_input, call.observation, call.ms) == ("Search", "ada", "36", 40)
    assert [one.request for one in call.exchanges] == ["GET https://serpapi.com/search?q=ada"]
    assert (last.answer, run.output, run.answered) == ("36", "36", True)


def test_a_run_of_native_calls(tmp_path: Path) -> None:
    tools = {"tools": [{"type": "function", "function": {"name": "Search"}}]}
    calls = [{"id": "a", "type": "function", "function": {"name": "Search", "arguments": '{"query": "x"}'}}]
    told = [
        *ASKED["messages"],
        {"role": "assistant", "content": "I look.", "tool_calls": calls},
        {"role": "tool", "tool_call_id": "a", "content": "y"},
    ]
    run = story(
        tmp_path,
        exchange(message(content="I look.", tool_calls=calls), {**ASKED, **tools}),
        exchange(message(content="It is y."), {**ASKED, **tools, "messages": told}),
    )
    assert [step.thought for step in run.steps] == ["I look.", ""]
    assert run.steps[0].calls == (StoryCall(tool="Search", tool_input={"query": "x"}, observation="y"),)
    assert (run.output, run.answered) == ("It is y.", True)


def test_a_run_that_ended_with_its_server_shows_the_tries(tmp_path: Path) -> None:
    run = story(
        tmp_path,
        exchange(message(content=action("Search", "ada"))),
        Entry(uri="tool://Search", body={"input": "ada"}, response={"string": "36"}),
        Entry(uri=URL, body=ASKED, response={"error": {"type": "httpx.ReadTimeout", "message": "late"}}, status={}),
    )
    assert [one.outcome for one in run.steps[-1].failures] == ["httpx.ReadTimeout"]
    assert (run.steps[-1].text, run.answered) == ("", False)
