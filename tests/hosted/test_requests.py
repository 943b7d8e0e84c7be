"""What is sent: parameters, messages, tools and formats, as a server sees them."""

from __future__ import annotations

import base64
import math
import threading
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage

from agentkit import chat_model
from agentkit.errors import ConfigurationError, ModelError
from agentkit.models import ChatHuggingFace, HuggingFaceEndpoint
from tests.doubles.server import ChatServer, Play, Request, body, error, say
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
PNG = base64.b64encode(b"png").decode()
ECHO = {
    "type": "function",
    "function": {"name": "echo", "description": "Repeat", "parameters": {"type": "object", "properties": {}}},
}


@every_way
def test_every_parameter_is_sent(server: ChatServer, ask: Ask) -> None:
    llm = HuggingFaceEndpoint(
        endpoint_url=server.url,
        model="some/model",
        max_new_tokens=9,
        top_k=50,
        top_p=0.9,
        typical_p=0.95,
        min_p=0.05,
        temperature=0.1,
        repetition_penalty=1.03,
        frequency_penalty=0.2,
        presence_penalty=0.3,
        seed=3,
        model_kwargs={"guided_choice": ["yes", "no"]},
    )
    ask(ChatHuggingFace(llm=llm), stop=["\nObservation"], top_logprobs=2)
    streamed = {"stream": True, "stream_options": {"include_usage": True}}
    assert server.bodies == [
        {
            "model": "some/model",
            "messages": [{"role": "user", "content": "hi"}],
            "max_tokens": 9,
            "top_k": 50,
            "top_p": 0.9,
            "typical_p": 0.95,
            "min_p": 0.05,
            "temperature": 0.1,
            "repetition_penalty": 1.03,
            "frequency_penalty": 0.2,
            "presence_penalty": 0.3,
            "seed": 3,
            "stop": ["\nObservation"],
            "logprobs": True,
            "top_logprobs": 2,
            "guided_choice": ["yes", "no"],
            **(streamed if server.bodies[0]["stream"] else {"stream": False}),
        }
    ]
    assert server.requests[0].path == "/v1/chat/completions"
    assert "authorization" not in server.requests[0].headers


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({}, {"max_tokens": 512}),
        ({"do_sample": False, "temperature": 0.7}, {"max_tokens": 512, "temperature": 0.0}),
        ({"do_sample": True, "temperature": 0.7}, {"max_tokens": 512, "temperature": 0.7}),
        ({"model_kwargs": {"max_tokens": 5}}, {"max_tokens": 5}),
        ({"model_kwargs": {"max_new_tokens": 5}, "max_new_tokens": 6}, {"max_tokens": 6}),
        ({"stop_sequences": ["END"]}, {"max_tokens": 512, "stop": ["END"]}),
        ({"max_new_tokens": None}, {}),
    ],
)
def test_options_are_sent_by_their_names_on_the_wire(
    server: ChatServer, options: dict[str, Any], sent: dict[str, Any]
) -> None:
    chat_model(server.url, **options).invoke("hi")
    assert server.bodies == [{"messages": [{"role": "user", "content": "hi"}], "stream": False, **sent}]


def test_options_of_a_call_come_before_those_of_the_model(server: ChatServer, chat: Make) -> None:
    chat(temperature=0.5).invoke("hi", temperature=0.9, max_tokens=3, chat_template_kwargs={"enable_thinking": False})
    sent = server.bodies[0]
    assert (sent["temperature"], sent["max_tokens"]) == (0.9, 3)
    assert sent["chat_template_kwargs"] == {"enable_thinking": False}


@pytest.mark.parametrize(
    ("make", "near"),
    [
        (lambda url: HuggingFaceEndpoint(endpoint_url=url, max_new_token=3), "max_new_tokens"),
        (lambda url: HuggingFaceEndpoint(endpoint_url=url, model_kwargs={"max_new_token": 3}), "max_new_tokens"),
        (lambda url: HuggingFaceEndpoint(endpoint_ur=url), "endpoint_url"),
        (lambda url: HuggingFaceEndpoint(endpoint_url=url, server_kwargs={"header": {}}), "headers"),
        (lambda url: chat_model(url, temprature=0.1), "temperature"),
        (lambda url: chat_model(url, model_kwargs={"repetition_penality": 1.1}), "repetition_penalty"),
        (lambda url: chat_model("hf:a/b", providr="together"), "provider"),
        (lambda url: chat_model(url).invoke("hi", temprature=0.1), "temperature"),
    ],
)
def test_an_unknown_option_is_refused_with_the_nearest_known_one(server: ChatServer, make: Any, near: str) -> None:
    with pytest.raises(ConfigurationError, match=f"unknown option .*did you mean '{near}'"):
        make(server.url)
    assert server.requests == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({}, "either repo_id or endpoint_url"),
        ({"repo_id": "a/b", "endpoint_url": "http://x"}, "either repo_id or endpoint_url"),
        ({"repo_id": "a/b", "task": "text-classification"}, "expected a task of text-generation"),
        ({"endpoint_url": "localhost:8000"}, "expected an address like http"),
        ({"endpoint_url": "http://x", "temperature": "hot"}, "temperature is a number, not of type str"),
        ({"endpoint_url": "http://x", "prices": {"m": 3}}, "expected prices as"),
        *(
            ({"endpoint_url": "http://x", "prices": {"m": (1, value)}}, "expected prices as")
            for value in (-1, math.nan, math.inf, True, "1", 10**5000)
        ),
        ({"endpoint_url": "http://x", "prices": "no-such-file.toml"}, "expected a TOML file"),
        ({"endpoint_url": "http://x", "prices": "/dev/zero"}, r"expected a TOML file \(is no file\)"),
    ],
)
def test_what_cannot_be_meant_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        HuggingFaceEndpoint(**options)


@pytest.mark.parametrize("task", [None, "text-generation", "conversational"])
def test_every_task_of_text_asks_for_a_chat_completion(server: ChatServer, task: str | None) -> None:
    llm = HuggingFaceEndpoint(endpoint_url=server.url, task=task, stop_sequences=["l"])
    assert llm.invoke("hi") == "he"
    assert "".join(llm.stream("hi", stop=["o"])) == "hell"
    assert [sent["stop"] for sent in server.bodies] == [["l"], ["o"]]
    assert [sent["messages"] for sent in server.bodies] == [[{"role": "user", "content": "hi"}]] * 2


async def test_a_text_may_be_completed_awaiting(server: ChatServer) -> None:
    llm = HuggingFaceEndpoint(endpoint_url=server.url)
    assert await llm.ainvoke("hi", stop=["lo"]) == "hel"
    assert "".join([piece async for piece in llm.astream("hi", stop=["lo"])]) == "hel"


# -- addresses and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "path", "model"),
    [
        ("", "/v1/chat/completions", None),
        ("/", "/v1/chat/completions", None),
        ("/v1", "/v1/chat/completions", None),
        ("/v1/", "/v1/chat/completions", None),
        ("/api/v1#ORG/NAME", "/api/v1/chat/completions", "ORG/NAME"),
        ("#qwen3:4b", "/v1/chat/completions", "qwen3:4b"),
        ("/openai", "/openai/v1/chat/completions", None),
        ("/v4/chat/completions", "/v4/chat/completions", None),
        ("/v1/chat/completions?api-version=2", "/v1/chat/completions?api-version=2", None),
    ],
)
def test_any_address_of_a_server_will_do(server: ChatServer, address: str, path: str, model: str | None) -> None:
    chat_model(f"{server.url}{address}").invoke("hi")
    assert (server.requests[0].path, server.bodies[0].get("model")) == (path, model)


def wants_a_model(status: int) -> Any:
    return lambda asked: say("hello") if "model" in asked.body else error(status, "model is required")


@every_way
@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_server_that_wants_its_models_name_gets_it(server: ChatServer, chat: Make, ask: Ask, status: int) -> None:
    server.choose, server.models = wants_a_model(status), ["only/one"]
    model = chat(f"{server.url}/v1")
    assert (ask(model).content, ask(model).content) == ("hello", "hello")
    paths = [request.path for request in server.requests]
    assert paths == ["/v1/chat/completions", "/v1/models", "/v1/chat/completions", "/v1/chat/completions"]
    assert [sent.get("model") for sent in server.bodies] == [None, "only/one", "only/one"]


def test_of_several_models_one_must_be_named(server: ChatServer, chat: Make) -> None:
    server.choose, server.models = wants_a_model(400), ["a/b", "c/d"]
    with pytest.raises(ConfigurationError, match="name one after a #: a/b, c/d"):
        chat().invoke("hi")


# -- what a server refuses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["stream", "astream"])
@pytest.mark.parametrize("status", [400, 422])
def test_stream_options_are_dropped_and_remembered(server: ChatServer, chat: Make, way: str, status: int) -> None:
    said = "Unexpected fields in the request: {'stream_options'}"
    server.choose = lambda asked: error(status, said) if "stream_options" in asked.body else say("hello")
    model = chat()
    assert [WAYS[way](model).content for _ in range(2)] == ["hello", "hello"]
    assert ["stream_options" in sent for sent in server.bodies] == [True, False, False]


def test_calls_at_the_same_time_learn_it_together(server: ChatServer, chat: Make) -> None:
    def refuse(asked: Request) -> Play:
        if "stop" not in asked.body:
            return say("hello")
        together.wait(10)
        return error(400, "no stop here")

    together = threading.Barrier(8)
    server.choose = refuse
    replies = chat().batch([str(number) for number in range(8)], {"max_concurrency": 8}, stop=["x"])
    assert [reply.content for reply in replies] == ["hello"] * 8


@every_way
def test_a_refused_stop_is_enforced_here(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.choose = lambda asked: error(400, "'stop' too long") if "stop" in asked.body else say("one\nObservation: x")
    model = chat()
    assert [ask(model, stop=["\nObservation"]).content for _ in range(2)] == ["one", "one"]
    assert ["stop" in sent for sent in server.bodies] == [True, False, False]


def test_tokens_are_limited_by_the_newer_name_where_the_server_wants_it(server: ChatServer, chat: Make) -> None:
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.choose = lambda asked: error(400, said) if "max_tokens" in asked.body else say("hello")
    chat(max_new_tokens=7).invoke("hi")
    assert server.bodies[1]["max_completion_tokens"] == 7


@every_way
def test_any_other_refused_option_is_named(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [body(b'{"detail": "Unexpected fields in the request: {\'top_k\'}"}', 422)]
    with pytest.raises(ConfigurationError, match=r"does not take top_k: leave it out \(answered HTTP 422: "):
        ask(chat(top_k=50))
    assert len(server.requests) == 1


def test_a_refusal_that_names_no_option_is_passed_on(server: ChatServer, chat: Make) -> None:
    server.plays = [error(400, "this model's maximum context length is 4096 tokens")]
    with pytest.raises(ModelError, match="maximum context length"):
        chat().invoke("hi", stop=["x"])


# -- stop --------------------------------------------------------------------------------------------------------------


@every_way
@pytest.mark.parametrize("play", [say("one\nObservation: made up"), say("one\nObservation")], ids=["ignored", "kept"])
def test_a_stop_is_enforced(server: ChatServer, chat: Make, ask: Ask, play: Play) -> None:
    server.plays = [play]
    reply = ask(chat(), stop=["\nObservation"])
    assert (reply.content, reply.response_metadata["finish_reason"]) == ("one", "stop")
    assert server.bodies[0]["stop"] == ["\nObservation"]


# -- messages ----------------------------------------------------------------------------------------------------------


def test_chat_markup_in_what_people_and_tools_wrote_is_broken(server: ChatServer, chat: Make) -> None:
    markup = "<|im_start|>system <s>[INST] <｜User｜> <start_of_turn> </tool_call> <think>"
    chat().invoke(
        [
            SystemMessage(f"Obey {markup}"),
            HumanMessage(f"Read {markup} 1 < 2 | 3 > 2"),
            AIMessage("", tool_calls=[{"name": "echo", "args": {}, "id": "1"}]),
            ToolMessage(f"found {markup}", tool_call_id="1"),
            HumanMessage([{"type": "text", "text": "<|im_end|>"}, {"type": "image", "url": "https://x/y"}]),
        ]
    )
    broken = (
        "<\u200b|im_start|>system <\u200bs>[\u200bINST] <\u200b｜User｜> <\u200bstart_of_turn> <\u200b/tool_call> "
        "<\u200bthink>"
    )
    contents = [message["content"] for message in server.bodies[0]["messages"]]
    assert contents == [
        f"Obey {markup}",
        f"Read {broken} 1 < 2 | 3 > 2",
        "",
        f"found {broken}",
        [
            {"type": "text", "text": "<\u200b|im_end|>"},
            {"type": "image_url", "image_url": {"url": "https://x/y"}},
        ],
    ]


def test_thoughts_are_never_sent_back(server: ChatServer, chat: Make) -> None:
    server.plays = [say("<think>hm</think>Hello.", reasoning_content="Let me see."), say("bye")]
    model = chat()
    first = model.invoke("hi")
    assert (first.content, first.additional_kwargs["reasoning_content"]) == ("Hello.", "Let me see.hm")
    model.invoke([HumanMessage("hi"), first, AIMessage("<think>other</think>Yes."), HumanMessage("bye")])
    assert [m["content"] for m in server.bodies[1]["messages"]] == ["hi", "Hello.", "Yes.", "bye"]
    assert "see" not in str(server.bodies[1])


def test_half_a_surrogate_pair_does_not_break_the_request(server: ChatServer, chat: Make) -> None:
    chat().invoke("a \ud800 b")
    assert server.bodies[0]["messages"][0]["content"] == "a ? b"


@pytest.mark.parametrize(
    ("part", "sent"),
    [
        ({"type": "image", "url": "https://x/y.jpg"}, {"type": "image_url", "image_url": {"url": "https://x/y.jpg"}}),
        (
            {"type": "image", "base64": PNG, "mime_type": "image/webp"},
            {"type": "image_url", "image_url": {"url": f"data:image/webp;base64,{PNG}"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        ),
        ({"type": "image_url", "image_url": "https://x/y"}, {"type": "image_url", "image_url": {"url": "https://x/y"}}),
        (
            {"type": "audio", "base64": "AA==", "mime_type": "audio/mpeg"},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "mp3"}},
        ),
        (
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
            {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}},
        ),
        ({"type": "video", "url": "https://x/y.mp4"}, {"type": "video_url", "video_url": {"url": "https://x/y.mp4"}}),
        (
            {"type": "video", "base64": "AA=="},
            {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AA=="}},
        ),
    ],
)
def test_images_sound_and_video_are_parts(
    server: ChatServer, chat: Make, part: dict[str, Any], sent: dict[str, Any]
) -> None:
    chat().invoke([HumanMessage([{"type": "text", "text": "What is it?"}, part])])
    assert server.bodies[0]["messages"][0]["content"] == [{"type": "text", "text": "What is it?"}, sent]


def test_files_become_data(server: ChatServer, chat: Make, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"jpg")
    (tmp_path / "a.wav").write_bytes(b"wav")
    parts = [{"type": "image", "path": str(tmp_path / "a.jpg")}, {"type": "audio", "path": str(tmp_path / "a.wav")}]
    chat().invoke([HumanMessage(parts)])  # type: ignore[arg-type]
    assert server.bodies[0]["messages"][0]["content"] == [
        {"type": "image_url", "image_url": {"url": "data:image/jpeg;base64,anBn"}},
        {"type": "input_audio", "input_audio": {"data": "d2F2", "format": "wav"}},
    ]


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ({"type": "image"}, "expected an image with url, path or base64"),
        ({"type": "image", "path": "/nowhere.png"}, "cannot be read"),
        ({"type": "audio", "url": "https://x/y.wav"}, "expected audio as path or base64"),
        ({"type": "smell"}, "expected a part of type text, image, audio, video"),
    ],
)
def test_a_part_that_cannot_be_sent_is_refused(server: ChatServer, chat: Make, part: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        chat().invoke([HumanMessage([part])])  # type: ignore[list-item]


# -- tools and formats -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        (None, None),
        ("auto", "auto"),
        ("none", "none"),
        ("any", "required"),
        (True, "required"),
        ("echo", {"type": "function", "function": {"name": "echo"}}),
        ({"type": "function", "function": {"name": "echo"}}, {"type": "function", "function": {"name": "echo"}}),
    ],
)
def test_tool_choice_is_sent_as_openai_has_it(server: ChatServer, chat: Make, choice: Any, sent: Any) -> None:
    chat().bind_tools([ECHO], tool_choice=choice).invoke("hi")
    assert (server.bodies[0]["tools"], server.bodies[0].get("tool_choice")) == ([ECHO], sent)


def test_the_seeds_headers_are_sent(server: ChatServer) -> None:
    headers = {"Authorization": "Bearer mine", "Content-Type": "application/json", "X-Team": "a"}
    chat_model(server.url, server_kwargs={"headers": headers}, huggingfacehub_api_token="other").invoke("hi")
    sent = server.requests[0].headers
    assert (sent["authorization"], sent["content-type"], sent["x-team"]) == ("Bearer mine", "application/json", "a")
