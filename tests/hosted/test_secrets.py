"""No token stands in an error, a representation, a log, or a body."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import traceback
from pathlib import Path
from typing import Any

import pytest
from langchain_core.load import dumps

from agentkit import AgentExecutor, chat_model
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.errors import AgentkitError, ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFaceEndpoint
from agentkit.secrets import REDACTED, Secrets
from agentkit.sessions.store import Store
from agentkit.settings import RunSettings
from tests.doubles.models import final
from tests.doubles.server import ChatServer, Play, Request, body, error, events, say
from tests.hosted.asking import WAYS, Ask

TOKEN = "hf_abcdefghijklmnop"
HEADER = "my-own-token-0123456789"


def endpoint(server: ChatServer, **options: Any) -> HuggingFaceEndpoint:
    return HuggingFaceEndpoint(
        endpoint_url=server.url,
        huggingfacehub_api_token=TOKEN,
        server_kwargs={"headers": {"X-Key": HEADER}},
        max_retries=0,
        **options,
    )


FAILING: list[Play] = [
    error(400, f"bad token {TOKEN} in Bearer {HEADER}"),
    error(401, f"token {TOKEN} expired"),
    error(500, f"Authorization: Bearer {TOKEN}"),
    body(f"<{TOKEN} {HEADER}>".encode()),
    body(f"{TOKEN} {HEADER}".encode()),
    body(json.dumps({"error": f"key {HEADER}"}).encode()),
    body(json.dumps({TOKEN: HEADER}).encode()),
    events({"error": {"message": f"key {TOKEN} {HEADER}"}}),
]


@pytest.mark.parametrize("play", FAILING)
@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_errors_and_logs_hold_no_token(
    server: ChatServer, caplog: pytest.LogCaptureFixture, play: Play, ask: Ask
) -> None:
    server.plays = [play]
    with caplog.at_level("DEBUG"), pytest.raises(AgentkitError) as caught:
        ask(ChatHuggingFace(llm=endpoint(server)))
    logged = "".join(record.getMessage() for record in caplog.records if record.name.startswith("agentkit"))
    for text in (str(caught.value), repr(caught.value), logged):
        assert TOKEN not in text
        assert HEADER not in text


def test_representations_hold_no_token(server: ChatServer) -> None:
    llm = endpoint(server)
    chat = ChatHuggingFace(llm=llm)
    for text in (repr(llm), str(llm), repr(chat), str(llm._identifying_params), dumps(chat), repr(llm._hosted)):
        assert TOKEN not in text
        assert HEADER not in text
    assert chat.invoke("hi").content == "hello"
    assert TOKEN not in json.dumps(server.bodies)
    assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"


def test_a_wrong_option_is_refused_without_its_value() -> None:
    with pytest.raises(ConfigurationError) as caught:
        HuggingFaceEndpoint(endpoint_url="http://x", huggingfacehub_api_token=[TOKEN])
    assert TOKEN not in str(caught.value)


def test_a_key_in_the_address_is_not_shown(server: ChatServer) -> None:
    server.plays = [error(404, "no")]
    llm = HuggingFaceEndpoint(endpoint_url=f"{server.url}/v1?api_key={HEADER}", max_retries=0)
    with pytest.raises(AgentkitError) as caught:
        ChatHuggingFace(llm=llm).invoke("hi")
    assert HEADER not in str(caught.value)
    assert HEADER not in llm.model_id
    assert server.requests[0].path.endswith(f"?api_key={HEADER}")


def test_a_good_reply_holds_none_either(server: ChatServer) -> None:
    server.plays = [say("hello")]
    reply = ChatHuggingFace(llm=endpoint(server)).invoke("hi")
    assert TOKEN not in repr(reply)
    assert pickle.loads(pickle.dumps(reply)) == reply


PLAIN = "plainkey4711xyz"
GIVEN: dict[str, dict[str, Any]] = {
    "api_key": {"api_key": PLAIN},
    "header": {"headers": {"X-Access": PLAIN}},
    "server_kwargs": {"server_kwargs": {"headers": {"Modal-Key": PLAIN}}},
    "body": {"extra_body": {"auth": {"apiKey": PLAIN}}},
}


def echo(request: Request) -> Play:
    """Answers with all that it was sent."""
    return say(final(f"{request.headers} {request.body}"))


@pytest.mark.parametrize("options", GIVEN.values(), ids=GIVEN)
def test_what_a_model_was_given_is_written_nowhere(server: ChatServer, tmp_path: Path, options: dict[str, Any]) -> None:
    server.choose = echo
    file, store = tmp_path / "run.yaml", Store(tmp_path / "agentkit.db")
    model = chat_model(f"{server.url}#m", **options)
    AgentExecutor.from_model(model, tools=[], mode="react-json", cassette=str(file), store=store).invoke(
        {"input": f"What is said of {PLAIN}?"}
    )
    assert PLAIN in str(server.requests)
    for written in tmp_path.iterdir():
        assert PLAIN.encode() not in written.read_bytes(), written


WITH_KEYS: dict[str, dict[str, Any]] = {
    **GIVEN,
    "query": {"endpoint_url": f"http://h/v1?key={PLAIN}"},
    "password": {"endpoint_url": f"http://me:{PLAIN}@h/v1#m"},
    "proxy": {"proxy": f"http://me:{PLAIN}@127.0.0.1:9"},
    "model_kwargs": {"model_kwargs": {"api_key": PLAIN}},
}


@pytest.mark.parametrize("options", WITH_KEYS.values(), ids=WITH_KEYS)
def test_a_model_shows_and_dumps_no_key_and_copies_keep_it(options: dict[str, Any]) -> None:
    llm = HuggingFaceEndpoint(**{"endpoint_url": "http://h/v1", **options})
    model = ChatHuggingFace(llm=llm)
    for one in (llm, model, model.bind(stop=["x"]), llm._hosted):
        assert PLAIN not in f"{one!r} {one!s}"
    for text in (str(model.model_dump()), model.model_dump_json(), llm.model_dump_json(), dumps(model)):
        assert PLAIN not in text
    copy = model.model_copy(deep=True).llm
    assert (copy.headers, copy.proxy, copy.endpoint_url) == (llm.headers, llm.proxy, llm.endpoint_url)
    assert PLAIN in copy._hosted.keys.values


@pytest.mark.parametrize(
    "spec",
    [
        f"htp://me:{PLAIN}@h/v1",
        f"http:/me:{PLAIN}@h/v1",
        f"//me:{PLAIN}@h",
        f"HTTPS://me:{PLAIN}@h ost/v1",
        f"127.0.0.1:8000/v1?key={PLAIN}",
        f"me:{PLAIN}@localhost:8000/v1",
        f"opena:{PLAIN}@h",
    ],
)
def test_a_spec_that_is_none_is_named_without_its_key(spec: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        chat_model(spec)
    assert PLAIN not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"headers": {"X-Access": PLAIN, "Accept": "*/*"}}, {"headers": {"X-Access": REDACTED, "Accept": "*/*"}}),
        ({"default_headers": {"X-Session": "abc"}}, {"default_headers": {"X-Session": REDACTED}}),
        ({"headers": {"anthropic-version": "2023-06-01"}}, {"headers": {"anthropic-version": "2023-06-01"}}),
        ({"headers": {"HTTP-Referer": "https://a.example"}}, {"headers": {"HTTP-Referer": "https://a.example"}}),
        ({"server_kwargs": {"headers": {"X-Key": PLAIN}}}, {"server_kwargs": {"headers": {"X-Key": REDACTED}}}),
        ({"token": "mysecretwords"}, {"token": REDACTED}),
        ({"api_key": "EMPTY", "temperature": 0}, {"api_key": "EMPTY", "temperature": 0}),
    ],
)
def test_settings_are_written_without_the_values_of_headers(given: dict[str, Any], left: dict[str, Any]) -> None:
    spec = RunSpec.of({"input": "x"}, RunSettings(model="http://h/v1", options=given))
    assert spec.scrubbed(Secrets({}).scrub).settings.options == left


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({"api_key": PLAIN}, False),
        ({"headers": {"X-Access": f"Bearer {PLAIN}"}}, False),
        ({"proxy": f"http://me:{PLAIN}@127.0.0.1:9"}, False),
        ({"api_key": "not-needed"}, True),
        ({"headers": {"X-Title": "a47title11xyz"}}, True),
    ],
)
def test_a_key_is_known_as_long_as_its_model_is_there(options: dict[str, Any], shown: bool) -> None:
    value = next(one for one in (PLAIN, "not-needed", "a47title11xyz") if one in str(options))
    model, seen = chat_model("http://h/v1", **options), Secrets({})
    text = f"{value} or {base64.b64encode(value.encode()).decode()}"
    assert (seen.scrub_text(text) == text) == shown
    del model
    assert (seen.scrub_text(text) == text) == shown  # what is written at the end may be of its time


@pytest.mark.parametrize("play", [*FAILING, body(b"", 307, location=f"/v1?key={HEADER}")])
@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_no_traceback_holds_one(server: ChatServer, play: Play, ask: Ask) -> None:
    server.plays = [play]
    with pytest.raises(AgentkitError) as caught:
        ask(ChatHuggingFace(llm=endpoint(server)))
    text = "".join(traceback.format_exception(caught.value))
    assert TOKEN not in text
    assert HEADER not in text


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_nor_does_what_httpx_logs(server: ChatServer, caplog: pytest.LogCaptureFixture, ask: Ask) -> None:
    model = chat_model(f"{server.url}/v1?key={PLAIN}#m")
    with caplog.at_level("DEBUG"):
        ask(model)
        logging.getLogger("httpx").info("HTTP Request: %s", "GET http://a.example?key=0123456789abcdef")
    logged = [record.getMessage() for record in caplog.records if record.name.startswith("http")]
    assert f"/chat/completions?key={REDACTED} " in "".join(logged)
    assert PLAIN not in "".join(logged)
    assert logged[-1] == "HTTP Request: GET http://a.example?key=0123456789abcdef"  # of another's client
