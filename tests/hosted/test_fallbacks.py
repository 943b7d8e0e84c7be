"""Models in a row, and structured replies: what is asked next when a server gives nothing, or nothing usable."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from langchain_core.exceptions import OutputParserException
from pydantic import BaseModel

from agentkit import chat_model
from agentkit.errors import ConfigurationError, ModelError, ReplyChanged
from agentkit.models import ChatHuggingFace
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.fallbacks import WithFallbacks
from agentkit.models.spec import backend_of, shared
from tests.doubles.models import Scripted
from tests.doubles.server import ChatServer, breaks, error, say, serving
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)


@pytest.fixture
def second() -> Iterator[ChatServer]:
    with serving(ChatServer([say("second")])) as running:
        yield running


@every_way
@pytest.mark.parametrize("play", [error(500), error(402), error(404)], ids=["500", "402", "404"])
def test_the_next_model_answers_when_one_has_failed_for_good(
    server: ChatServer, second: ChatServer, chat: Make, ask: Ask, play: Any
) -> None:
    server.plays = [play]
    told: list[str] = []
    backends = [chat(max_retries=1).llm, chat(second.url, model="other/model").llm]
    model = ChatHuggingFace(llm=WithFallbacks(backends, notice=told.append))
    reply = ask(model)
    assert reply.content == "second"
    assert reply.response_metadata["model_name"] == "served"
    assert len(server.requests) == (1 if "HTTP 402" in told[0] else 2)
    assert told[0].endswith("; asking other/model")
    assert model.model_id == server.url


@every_way
def test_when_all_have_failed_the_last_error_is_raised(
    server: ChatServer, second: ChatServer, chat: Make, ask: Ask
) -> None:
    server.plays, second.plays = [error(500)], [error(404, "gone")]
    model = ChatHuggingFace(llm=WithFallbacks([chat().llm, chat(second.url).llm]))
    with pytest.raises(ModelError, match="answered HTTP 404: gone"):
        ask(model)


@every_way
def test_a_model_may_be_its_own_fallback(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays, (backend, again) = [error(404, "gone")], [chat().llm] * 2
    with pytest.raises(ModelError, match="answered HTTP 404: gone"):
        ask(ChatHuggingFace(llm=WithFallbacks([backend, again])))


@pytest.mark.parametrize("way", ["stream", "astream"])
def test_what_was_shown_of_the_first_model_must_begin_the_seconds_reply(
    server: ChatServer, second: ChatServer, chat: Make, way: str
) -> None:
    server.plays = [breaks("seco")]
    model = ChatHuggingFace(llm=WithFallbacks([chat(max_retries=0).llm, chat(second.url).llm]))
    assert WAYS[way](model).content == "second"
    server.plays = [breaks("first")]
    with pytest.raises(ReplyChanged):
        WAYS[way](model)


@every_way
def test_wrong_use_is_not_fallen_back_from(server: ChatServer, second: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [error(401)]
    with pytest.raises(ConfigurationError, match="no key was sent"):
        ask(ChatHuggingFace(llm=WithFallbacks([chat().llm, chat(second.url).llm])))
    assert second.requests == []


def test_fallbacks_are_an_option_of_a_spec(server: ChatServer, second: ChatServer, chat: Make) -> None:
    server.plays = [error(500)]
    model = chat_model(server.url, max_retries=0, fallbacks=[second.url])
    assert model.invoke("hi").content == "second"
    assert chat_model(server.url, max_retries=0, fallbacks=[chat(second.url)]).invoke("hi").content == "second"


@pytest.mark.parametrize("way", ["chat_model", "backend_of"])
def test_fallbacks_get_what_says_how_a_reply_is_generated(server: ChatServer, second: ChatServer, way: str) -> None:
    """And nothing that is of the first one's address."""
    server.plays = [error(400, "down")]
    options: dict[str, Any] = {"temperature": 0.25, "max_tokens": 7, "presence_penalty": 0.5}
    of_the_first = {"max_retries": 0, "api_key": "sesame-1234567890", "headers": {"x-team": "a"}, "model": "one"}
    if way == "chat_model":
        chat_model(server.url, fallbacks=[second.url], **options, **of_the_first).invoke("hi")
    else:
        backend = backend_of(server.url, fallbacks=[second.url], options={**options, **of_the_first})
        assert backend is not None
        list(backend.generate_chat(ChatRequest(messages=[{"role": "user", "content": "hi"}])))
    assert {name: second.bodies[-1].get(name) for name in (*options, "model")} == {**options, "model": None}
    assert second.requests[-1].headers.keys().isdisjoint({"authorization", "x-team"})


@pytest.mark.parametrize(
    ("spec", "reaches"),
    [
        ("builtin", {"temperature": 0.5, "max_new_tokens": 7, "top_k": 3}),
        ("http://a.example", {"temperature": 0.5, "max_new_tokens": 7, "top_k": 3, "presence_penalty": 0.5}),
        ("hf:org/name", {"temperature": 0.5, "max_new_tokens": 7, "top_k": 3, "presence_penalty": 0.5}),
        ("openai:gpt-9", {"temperature": 0.5, "max_tokens": 7}),
    ],
)
def test_each_kind_of_model_gets_what_it_takes(spec: str, reaches: dict[str, Any]) -> None:
    given = {
        "temperature": 0.5,
        "max_tokens": 7,
        "top_k": 3,
        "presence_penalty": 0.5,
        "proxy": "http://p:1",
        "n_ctx": 9,
    }
    assert shared(given, spec) == reaches


def test_a_model_of_others_cannot_be_fallen_back_to(server: ChatServer) -> None:
    with pytest.raises(ConfigurationError, match=r"saw Scripted; for others, .*model\.with_fallbacks"):
        chat_model(server.url, fallbacks=[Scripted(turns=["hi"])])


# -- structured replies ------------------------------------------------------------------------------------------------


class Sum(BaseModel):
    """A sum."""

    total: int


class SumDict(TypedDict):
    """A sum."""

    total: int


JSON_SCHEMA = {
    "title": "Sum",
    "description": "A sum.",
    "type": "object",
    "properties": {"total": {"type": "integer"}},
    "required": ["total"],
}
SCHEMAS: list[tuple[Any, Any]] = [(Sum, Sum(total=4)), (SumDict, {"total": 4}), (JSON_SCHEMA, {"total": 4})]
METHODS = ["json_schema", "json_mode", "function_calling"]
every_schema = pytest.mark.parametrize(("schema", "value"), SCHEMAS, ids=["pydantic", "TypedDict", "JSON schema"])
CALL = {"index": 0, "id": "a", "type": "function", "function": {"name": "Sum", "arguments": '{"total": 4}'}}


@every_schema
@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
@pytest.mark.parametrize("text", ['{"total": 4}', '```json\n{"total": 4}\n```'])
def test_a_good_value_is_asked_for_once(
    server: ChatServer, chat: Make, schema: Any, value: Any, method: Any, text: str
) -> None:
    server.plays = [say(text)]
    assert chat().with_structured_output(schema, method=method).invoke("2 + 2?") == value
    (sent,) = server.bodies
    assert sent["response_format"]["type"] == ("json_schema" if method == "json_schema" else "json_object")


@every_schema
def test_a_tools_arguments_are_a_value(server: ChatServer, chat: Make, schema: Any, value: Any) -> None:
    named = {**CALL, "function": {**CALL["function"], "name": schema["title"] if isinstance(schema, dict) else "Sum"}}  # type: ignore[dict-item]
    server.plays = [say("", finish="tool_calls", tool_calls=[named])]
    assert chat().with_structured_output(schema, method="function_calling").invoke("2 + 2?") == value
    assert len(server.requests) == 1


@every_schema
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("said", ["The total is 4.", '{"total": "four"}', '{"sum": 4}', '{"total": 4', "", "[4]"])
def test_a_value_that_does_not_fit_is_asked_for_once_more_with_the_error(
    server: ChatServer, chat: Make, schema: Any, value: Any, method: Any, said: str
) -> None:
    server.plays = [say(said), say('{"total": 4}')]
    asked = chat().with_structured_output(schema, method=method, include_raw=True)
    reply = asked.invoke("2 + 2?")
    assert reply["parsed"] == value
    assert reply["raw"].usage_metadata["total_tokens"] == 20
    question, answer, again = server.bodies[1]["messages"]
    assert (question["content"], answer["content"]) == ("2 + 2?", said or "(nothing)")
    assert again["content"].startswith("That was not what I need: expected ")
    assert '"total"' in again["content"]


async def test_awaiting_too(server: ChatServer, chat: Make) -> None:
    server.plays = [say("The total is 4."), say('{"total": 4}')]
    assert await chat().with_structured_output(Sum).ainvoke([("human", "2 + 2?")]) == Sum(total=4)


def test_the_second_failure_is_raised(server: ChatServer, chat: Make) -> None:
    server.plays = [say("four"), say("still four")]
    with pytest.raises(OutputParserException, match="expected JSON, saw 'still four'"):
        chat().with_structured_output(Sum).invoke("2 + 2?")
    assert len(server.requests) == 2


@pytest.mark.parametrize("text", ['{"total": ', "The total", '{"sum": 4}'])
def test_json_that_the_token_limit_cut_off_is_no_fault_of_the_schema(server: ChatServer, chat: Make, text: str) -> None:
    server.plays = [say(text, finish="length"), say(text, finish="length")]
    with pytest.raises(OutputParserException, match=r"\AThe reply was cut off at \d+ tokens, before its JSON was"):
        chat().with_structured_output(Sum).invoke("2 + 2?")


def test_any_object_will_do_without_a_schema(server: ChatServer, chat: Make) -> None:
    server.plays = [say("no"), say('{"a": 1}')]
    assert chat().with_structured_output(method="json_mode").invoke("2 + 2?") == {"a": 1}
    assert "one JSON object" in server.bodies[1]["messages"][-1]["content"]


@pytest.mark.parametrize("system", [[], [("system", "Be kind.")]])
def test_a_format_that_the_server_refuses_is_asked_for_in_words(server: ChatServer, chat: Make, system: Any) -> None:
    server.choose = lambda asked: (
        error(400, "response_format is not supported") if "response_format" in asked.body else say('{"total": 4}')
    )
    asked = chat().with_structured_output(Sum)
    assert [asked.invoke([*system, ("human", "2 + 2?")]) for _ in range(2)] == [Sum(total=4)] * 2
    assert ["response_format" in sent for sent in server.bodies] == [True, False, False]
    told, question = server.bodies[-1]["messages"]
    assert (told["role"], question["content"]) == ("system", "2 + 2?")
    assert told["content"].startswith("Be kind.\n\nAnswer" if system else "Answer with JSON that fits this schema")
    assert json.dumps(Sum.model_json_schema()["required"]) in told["content"]


def test_a_loop_of_its_own_for_each_reply(server: ChatServer, chat: Make) -> None:
    server.plays = [say('{"total": 4}')]
    asked = chat().with_structured_output(Sum)
    assert [asyncio.run(asked.ainvoke("2 + 2?")) for _ in range(2)] == [Sum(total=4)] * 2
