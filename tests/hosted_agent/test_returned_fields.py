"""What a server sent with its calls goes back to it with them: thinking, signatures, details; to it and nobody else."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage, ToolMessage

from agentkit import AgentExecutor, chat_model
from agentkit.cassette import Cassette, Replay, RunSpec, resume
from agentkit.doctor.probes import PROBES
from agentkit.errors import ModelError
from agentkit.events import Finished
from agentkit.langchain.model import chat_of
from agentkit.models.backend import Capabilities
from agentkit.models.scripted import ScriptedBackend
from tests.doubles.server import ChatServer, Play, Request, body, error, events, serving
from tests.hosted_agent.caller import TOOLS

QUESTION = {"input": "What is 2 + 2?"}
SIGNED = {"google": {"thought_signature": "c2ln"}}


@dataclass
class Thinker(ChatServer):
    """Calls a tool, then answers; `said` are fields of its message, `beside` of its call, `within` of its function."""

    said: dict[str, Any] = field(default_factory=dict)
    beside: dict[str, Any] = field(default_factory=dict)
    within: dict[str, Any] = field(default_factory=dict)
    streams: bool = False
    refuses: Callable[[list[dict[str, Any]]], str] = lambda messages: ""
    calls: int = 1

    def answer(self, request: Request, number: int) -> Play:
        messages = request.body["messages"]
        if why := self.refuses([one for one in messages if one["role"] == "assistant"]):
            return error(400, why)
        if sum(one["role"] == "tool" for one in messages) >= self.calls:
            return reply(request, {"content": "It is 4.", **self.said})
        function = {"name": "calculator", "arguments": '{"expression": "2+2"}', **self.within}
        call = {"id": f"call_{len(messages)}", "type": "function", "function": function, **self.beside}
        return reply(request, {"content": None, "tool_calls": [call], **self.said})


def reply(request: Request, message: dict[str, Any]) -> Play:
    """A message, whole or as events of one field each."""
    reason = "tool_calls" if message.get("tool_calls") else "stop"
    if not request.body["stream"]:
        return body(json.dumps({"choices": [{"message": message, "finish_reason": reason}]}).encode())
    deltas = [{name: value} for name, value in message.items()]
    return events(
        *({"choices": [{"index": 0, "delta": delta}]} for delta in deltas),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": reason}]},
    )


@pytest.fixture
def thinker() -> Iterator[Thinker]:
    with serving(Thinker()) as running:
        assert isinstance(running, Thinker)
        yield running


class Watcher(BaseCallbackHandler):
    """With one, the model is asked through LangChain."""


WAYS: dict[str, Callable[..., Any]] = {
    "whole": lambda executor: executor.invoke(QUESTION),
    "streamed": lambda executor: list(executor.stream(QUESTION))[-1],
    "watched": lambda executor: executor.invoke(QUESTION, {"callbacks": [Watcher()]}),
}
every_way = pytest.mark.parametrize("run", WAYS.values(), ids=WAYS)


def executor(spec: str, **options: Any) -> AgentExecutor:
    model = chat_model(spec, max_retries=0, **options)
    return AgentExecutor.from_model(model, TOOLS, mode="tools")


def returned(server: ChatServer) -> dict[str, Any]:
    """What the last message with calls that was sent holds beyond OpenAI's own fields."""
    *_, message = (one for one in server.bodies[-1]["messages"] if one.get("tool_calls"))
    (call,) = message["tool_calls"]
    own = {"role", "content", "tool_calls"}, {"id", "type", "function"}, {"name", "arguments"}
    parts = zip((message, call, call["function"]), own, strict=True)
    return {name: value for part, known in parts for name, value in part.items() if name not in known}


FIELDS: dict[str, dict[str, Any]] = {
    "reasoning_content": {"reasoning_content": "I add."},
    "reasoning": {"reasoning": "I add."},
    "empty beside": {"reasoning_content": "", "reasoning": "I add."},
    "details": {"reasoning": "I add.", "reasoning_details": [{"type": "reasoning.encrypted", "data": "eA=="}]},
    "of the message": {"extra_content": SIGNED},
}


@every_way
@pytest.mark.parametrize("said", FIELDS.values(), ids=FIELDS)
def test_what_a_message_says_goes_back_by_its_name(run: Any, said: dict[str, Any], thinker: Thinker) -> None:
    thinker.said = said
    assert run(executor(thinker.url))["output"] == "It is 4."
    assert returned(thinker) == {name: value for name, value in said.items() if value}


@every_way
@pytest.mark.parametrize("place", ["beside", "within"])
@pytest.mark.parametrize("name", ["extra_content", "provider_specific_fields"])
def test_what_stands_with_a_call_goes_back_as_it_was(run: Any, place: str, name: str, thinker: Thinker) -> None:
    setattr(thinker, place, {name: SIGNED, "unknown": 1})
    assert run(executor(thinker.url))["output"] == "It is 4."
    assert returned(thinker) == {name: SIGNED}


def test_every_turn_gets_its_own_back(thinker: Thinker) -> None:
    thinker.calls, thinker.said = 2, {"reasoning_content": "I add."}
    executor(thinker.url).invoke(QUESTION)
    made = [one for one in thinker.bodies[-1]["messages"] if one.get("tool_calls")]
    assert [one["reasoning_content"] for one in made] == ["I add.", "I add."]


def test_it_stays_with_a_step_that_a_user_trims(thinker: Thinker) -> None:
    thinker.said, thinker.beside = {"reasoning_content": "I add."}, {"extra_content": SIGNED}
    model = chat_model(thinker.url)
    trimmed = AgentExecutor.from_model(model, TOOLS, mode="tools", trim_intermediate_steps=list)
    assert trimmed.invoke(QUESTION)["output"] == "It is 4."
    assert returned(thinker) == {"reasoning_content": "I add.", "extra_content": SIGNED}


def test_a_doctor_gives_it_back(thinker: Thinker) -> None:
    thinker.said = {"reasoning_content": "I add."}
    why = "The `reasoning_content` in the thinking mode must be passed back to the API."
    thinker.refuses = lambda own: "" if all(one.get("reasoning_content") == "I add." for one in own) else why
    chat = chat_of(chat_model(thinker.url))
    assert dict(PROBES)["tool call"](chat).status == "ok"


STREAM = [
    {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "I ", "signature": None}]},
    {"reasoning_details": [{"type": "reasoning.text", "index": 0, "text": "add."}]},
    {"reasoning_details": [{"type": "reasoning.text", "index": 0, "signature": "c2ln"}]},
    {"reasoning_details": [{"type": "reasoning.encrypted", "index": 1, "data": "eA=="}]},
    {"tool_calls": [{"id": "a", "function": {"name": "calculator", "arguments": '{"expression": "2+2"}'}}]},
    {"tool_calls": [{"id": "a", "extra_content": SIGNED}]},  # Gemini's, by itself
]


def test_what_comes_in_pieces_goes_back_whole(thinker: Thinker) -> None:
    def choose(request: Request) -> Play:
        if request.body["messages"][-1]["role"] == "tool":
            return reply(request, {"content": "It is 4."})
        return events(*({"choices": [{"delta": delta}]} for delta in STREAM), {"choices": [{"finish_reason": "stop"}]})

    with serving(ChatServer(choose=choose)) as server:
        assert WAYS["streamed"](executor(server.url))["output"] == "It is 4."
        assert returned(server) == {
            "reasoning_details": [
                {"type": "reasoning.text", "index": 0, "text": "I add.", "signature": "c2ln"},
                {"type": "reasoning.encrypted", "index": 1, "data": "eA=="},
            ],
            "extra_content": SIGNED,
        }


# -- servers that do not take it, and others that insist ---------------------------------------------------------------


@pytest.mark.parametrize(
    "why",
    [
        "messages.1.assistant.reasoning_content: property 'messages.1.assistant.reasoning_content' is unsupported",
        '[{"type": "extra_forbidden", "loc": ["body", "messages", 2, "assistant", "reasoning_content"]}]',
    ],
)
def test_what_a_server_says_and_does_not_take_is_left_out(why: str, thinker: Thinker) -> None:
    thinker.said, thinker.beside = {"reasoning_content": "I add."}, {"extra_content": SIGNED}
    thinker.refuses = lambda own: why if any("reasoning_content" in one for one in own) else ""
    runs = executor(thinker.url)
    assert [runs.invoke(QUESTION)["output"] for _ in range(2)] == ["It is 4."] * 2
    assert returned(thinker) == {"extra_content": SIGNED}
    assert len(thinker.bodies) == 5  # refused once


def test_a_server_that_wants_its_thinking_gets_it_also_where_there_was_none(thinker: Thinker) -> None:
    why = "thinking is enabled but reasoning_content is missing in assistant tool call message at index 2"
    thinker.refuses = lambda own: "" if all(one.get("reasoning_content") for one in own) else why
    assert executor(thinker.url).invoke(QUESTION)["output"] == "It is 4."
    assert returned(thinker) == {"reasoning_content": " "}


def test_another_server_gets_nothing_of_it(thinker: Thinker) -> None:
    thinker.said = {"reasoning_content": "I add."}
    with serving(Thinker(refuses=lambda own: str(own[0]) if own and own[0].keys() & thinker.said else "")) as other:
        failing = lambda own: "broken" if own else ""  # noqa: E731
        thinker.refuses = failing
        assert executor(thinker.url, fallbacks=[other.url]).invoke(QUESTION)["output"] == "It is 4."
        assert returned(other) == {}


def test_a_model_in_process_gets_nothing_of_it(thinker: Thinker) -> None:
    thinker.said, thinker.calls = {"reasoning_content": "I add."}, 1
    thinker.refuses = lambda own: "broken" if own else ""
    here = ScriptedBackend(["It is 4."], capabilities=Capabilities(in_process=True, over_http=False, tools=True))
    assert executor(thinker.url, fallbacks=[here]).invoke(QUESTION)["output"] == "It is 4."
    (call,) = here.requests[0].messages[-2]["tool_calls"]
    assert call.keys() == {"id", "type", "function"}


# -- messages of LangChain's, and recorded runs ------------------------------------------------------------------------


@pytest.mark.parametrize("streaming", [True, False])
def test_a_message_of_langchain_keeps_it(streaming: bool, thinker: Thinker) -> None:
    thinker.said, thinker.beside = {"reasoning": "I add."}, {"extra_content": SIGNED}
    model = chat_model(thinker.url, streaming=streaming).bind_tools(TOOLS)
    first = model.invoke("2 + 2?")
    assert first.additional_kwargs["reasoning_content"] == "I add."
    model.invoke([HumanMessage("2 + 2?"), first, ToolMessage("4", tool_call_id=first.tool_calls[0]["id"])])
    assert returned(thinker) == {"reasoning": "I add.", "extra_content": SIGNED}


def record(path: Path, server: Thinker) -> None:
    spec = RunSpec.of(QUESTION, model=server.url, tools=("calculator",), max_iterations=15, mode="tools")
    model = chat_model(server.url, max_retries=0)
    with Cassette(path, "record", run=spec, environment={}):
        list(AgentExecutor.from_model(model, ["calculator"], mode="tools").events(QUESTION))


@pytest.fixture
def adder(thinker: Thinker) -> Thinker:
    thinker.said = {"reasoning_content": "I add."}
    thinker.within = {"name": "Calculator", "arguments": '{"input": "2+2"}'}
    return thinker


def test_a_recorded_run_replays(adder: Thinker, tmp_path: Path) -> None:
    record(tmp_path / "run.yaml", adder)
    *_, last = Replay(tmp_path / "run.yaml", environment={}).events()
    assert isinstance(last, Finished)
    assert last.output == "It is 4."


def test_a_run_recorded_before_it_went_back_replays(
    adder: Thinker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as earlier:
        earlier.setattr(Cassette, "returns_fields", False)
        record(tmp_path / "run.yaml", adder)
    assert returned(adder) == {}
    *_, last = Replay(tmp_path / "run.yaml", environment={}).events()
    assert isinstance(last, Finished)
    assert last.output == "It is 4."


def test_a_run_that_goes_on_still_has_it(adder: Thinker, tmp_path: Path) -> None:
    adder.refuses = lambda own: "not now" if own else ""
    with pytest.raises(ModelError):
        record(tmp_path / "run.yaml", adder)
    adder.refuses = lambda own: ""

    def build(*_: Any) -> AgentExecutor:
        return AgentExecutor.from_model(chat_model(adder.url), ["calculator"], mode="tools")

    *_, last = resume(tmp_path / "run.yaml", build=build, environment={}).events()
    assert isinstance(last, Finished)
    assert last.output == "It is 4."
    assert returned(adder) == {"reasoning_content": "I add."}
