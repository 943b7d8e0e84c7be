"""Options by the names that other clients give them, and what is said of those that there are none of."""

from __future__ import annotations

import ssl
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import certifi
import pytest

from agentkit import chat_model
from agentkit.errors import ConfigurationError, ModelError
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.body import GENERATION, OF_A_MODEL
from agentkit.models.hosted.certificates import VARIABLES, tls_context
from agentkit.models.hosted.options import HostedOptions, hosted_model
from agentkit.models.spec import backend_of
from tests.doubles.server import ChatServer
from tests.hosted.asking import WAYS, Ask

KEY = "zebra-7741-quartz"


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"stop": ["END"]}, {"stop": ["END"]}),
        ({"stop": "END"}, {"stop": ["END"]}),
        ({"model_name": "m"}, {"model": "m"}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
        (
            {"chat_template_kwargs": {"enable_thinking": False}},
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        ({"extra_body": {"guided_regex": "a+", "top_k": 3}}, {"guided_regex": "a+", "top_k": 3}),
        (
            {"extra_body": {"seed": 2}, "model_kwargs": {"seed": 1, "user": "me"}},
            {"seed": 2, "user": "me"},
        ),
    ],
)
def test_what_goes_into_the_body(server: ChatServer, options: dict[str, Any], sent: dict[str, Any]) -> None:
    chat_model(server.url, **options).invoke("hi")
    usual = {"messages": [{"role": "user", "content": "hi"}], "stream": False, "max_tokens": 512}
    assert server.bodies == [{**usual, **sent}]


@pytest.mark.parametrize(
    ("options", "header", "value"),
    [
        ({"api_key": KEY}, "authorization", f"Bearer {KEY}"),
        ({"token": KEY}, "authorization", f"Bearer {KEY}"),
        ({"api_key": f" {KEY}\n"}, "authorization", f"Bearer {KEY}"),
        ({"headers": {"X-Team": "a"}}, "x-team", "a"),
        ({"default_headers": {"X-Team": "a"}}, "x-team", "a"),
        ({"headers": {"X-Team": "a"}, "server_kwargs": {"headers": {"X-Team": "b", "X-Else": "c"}}}, "x-else", "c"),
        ({"headers": {"X-Team": "a"}, "server_kwargs": {"headers": {"X-Team": "b"}}}, "x-team", "a"),
    ],
)
def test_what_goes_into_the_headers(server: ChatServer, options: dict[str, Any], header: str, value: str) -> None:
    model = chat_model(server.url, **options)
    model.invoke("hi")
    assert server.requests[0].headers[header] == value
    assert KEY not in repr(model)


@pytest.mark.parametrize("name", ["base_url", "api_base", "openai_api_base", "azure_endpoint"])
def test_an_address_by_another_name(server: ChatServer, name: str) -> None:
    model = hosted_model(**{name: server.url})
    assert "".join(chunk.text for chunk in model.generate_chat(ChatRequest(messages=[]))) == "hello"


@pytest.mark.parametrize("options", [{"timeout": None}, {"request_timeout": None, "total_timeout": None}])
def test_no_limit_to_silence(server: ChatServer, options: dict[str, Any]) -> None:
    assert chat_model(server.url, **options).invoke("hi").content == "hello"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"http_client": object()}, "connections are made here; proxy, verify, headers and timeout say how$"),
        ({"http2": True}, "requests go over HTTP/1.1, each on a connection of its own; leave it out$"),
        ({"ca_bundle": "x.pem"}, "give verify=FILE$"),
        ({"proxies": {"http": "x"}}, "give proxy=http://HOST:PORT$"),
        ({"organization": "o"}, 'give headers={"OpenAI-Organization": …}$'),
        ({"api_version": "2024-10-21"}, r"stands in the address: …\?api-version=…$"),
        ({"tool_choice": "auto"}, r"goes into the call, as model.invoke\(…, tool_choice=…\)$"),
        ({"n": 2}, "one reply is asked for; leave it out$"),
        ({"api_keys": KEY}, "did you mean 'api_key'"),
        ({"safety_settings": [KEY]}, "what only the server knows goes into extra_body$"),
        ({"temprature": 1}, r"did you mean 'temperature'\? what only the server knows goes into extra_body$"),
        ({"api_key": KEY, "token": KEY}, "is given twice, once as token; leave one of them out$"),
        ({"proxy": f"ftp://me:{KEY}@host"}, "^proxy cannot be used; write http://HOST:PORT"),
        ({"proxy": f"http://me:{KEY}/1@host"}, "^proxy cannot be used; write http://HOST:PORT"),
        ({"headers": {"Host": "evil.example"}}, "the header host is the connection's own"),
        ({"headers": {"X-Key": None}}, "the header X-Key has no value; give it one, or leave it out$"),
        ({"headers": {"X Key": "a"}}, "'X Key' is no header's name; write it as X-Name"),
        ({"headers": KEY}, "headers is an object of names and values, not of type str"),
        ({"proxy": {"http": KEY}}, "proxy is text, not of type dict"),
        ({"api_key": f"“{KEY}”"}, "api_key has a character that no key may have; set it anew$"),
        ({"max_tokens": 0}, "max_new_tokens is at least 1, or None for the server's own limit, not 0$"),
        ({"timeout": (3, 10)}, "timeout is a number, not a tuple .*; timeout is for the server's silence"),
        ({"connect_timeout": None}, "connect_timeout is a number, not None"),
        ({"trust_env": False}, "NO_PROXY=HOST goes past the environment's proxies"),
        ({"ssl_context": object()}, "give verify=FILE$"),
        ({"limits": object()}, "connections are made here; proxy, verify, headers and timeout say how$"),
        ({"disable_streaming": True}, r"give it to ChatHuggingFace\(llm=…\)$"),
    ],
)
@pytest.mark.parametrize("way", ["chat_model", "hosted_model"])
def test_what_is_none_says_where_it_goes(options: dict[str, Any], said: str, way: str) -> None:
    make = chat_model if way == "chat_model" else partial(hosted_model, endpoint_url="http://127.0.0.1:9/v1")
    spec = ["http://127.0.0.1:9/v1"] if way == "chat_model" else []
    with pytest.raises(ConfigurationError, match=said) as caught:
        make(*spec, **options)
    assert KEY not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        ({"extra_body": {"top_k": 3, "user": "me"}}, {"top_k": 3, "user": "me"}),
        ({"model_kwargs": {"max_tokens": 3}}, {"max_tokens": 3}),
        ({"model_name": "other"}, {"model": "other"}),
        ({"reasoning_effort": "low"}, {"reasoning_effort": "low"}),
    ],
)
@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_what_a_call_sends(server: ChatServer, options: dict[str, Any], sent: dict[str, Any], ask: Ask) -> None:
    ask(chat_model(f"{server.url}#m"), **options)
    assert server.bodies[0].items() >= sent.items()
    assert not {"extra_body", "model_kwargs", "model_name"} & server.bodies[0].keys()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"timeout": 1}, r"timeout is an option of the model, and not of a call; chat_model\(…, timeout=…\)$"),
        ({"stop_sequences": ["x"]}, r"not of a call; in a call it is stop=\[…\]$"),
        ({"extra_body": 1}, "extra_body is an object of names and values, not 1$"),
        ({"max_tokens": -1}, "max_new_tokens is at least 1"),
        *(({name: KEY}, f"^{name} is an option of the model") for name in sorted(OF_A_MODEL)),
    ],
)
def test_what_a_call_may_not_say(server: ChatServer, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        chat_model(server.url).invoke("hi", **options)
    assert KEY not in str(caught.value)
    assert server.requests == []


def test_every_option_of_a_model_may_stand_in_a_call_or_is_refused_there() -> None:
    in_a_call = {"model", "provider", "reasoning_effort", "chat_template_kwargs", "extra_body", "model_kwargs"}
    assert {field.name for field in fields(HostedOptions)} - {*GENERATION, *OF_A_MODEL} == in_a_call


@pytest.mark.parametrize("name", ["endpoint_url", "base_url", "inference_server_url", "api_base"])
@pytest.mark.parametrize("spec", ["hf:org/name", "https://a.example/v1"])
def test_no_option_says_another_address_than_the_spec(spec: str, name: str) -> None:
    for make in (chat_model, backend_of):
        with pytest.raises(ConfigurationError):
            make(spec, **{name: "https://evil.example", "api_key": KEY})


# -- connections -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_a_proxy_is_asked_where_one_is_given(server: ChatServer, ask: Ask) -> None:
    assert ask(chat_model("http://models.example/v1", proxy=server.url)).content == "hello"
    assert [asked.path for asked in server.requests] == ["http://models.example/v1/chat/completions"]


@pytest.mark.parametrize(
    "options", [{"proxy": "http://127.0.0.1:9"}, {"verify": False}, {"verify": "mine.pem"}, {"ca_file": "x"}]
)
def test_a_file_does_not_say_through_whom_a_key_goes(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        backend_of("https://a.example/v1", options=options, foreign={"options"})
    if "ca_file" not in options:
        assert backend_of("https://a.example/v1", options=options) is not None


@pytest.mark.parametrize("variable", ["", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_of_ones_own_are_trusted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    first = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    (tmp_path / "one.pem").write_text("".join(first[:2]))
    if variable:
        monkeypatch.setenv(variable, str(tmp_path / "one.pem"))
    assert len(tls_context(True if variable else tmp_path / "one.pem").get_ca_certs()) == 1
    assert tls_context(True if variable else str(tmp_path / "one.pem")).verify_mode is ssl.CERT_REQUIRED


def test_certificates_need_not_be_checked() -> None:
    assert tls_context(False).verify_mode is ssl.CERT_NONE


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file or directory"), ("none", "no certificates in PEM")]
)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_certificates_that_cannot_be_read_are_named(
    tmp_path: Path, content: str | None, reason: str, scheme: str
) -> None:
    file = tmp_path / "mine.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"^verify: .*mine.pem cannot be used \({reason}.*\); name a file"):
        chat_model(f"{scheme}://a.example/v1", verify=str(file)).invoke("hi")


def test_a_server_that_speaks_no_tls_is_told_about_certificates(server: ChatServer) -> None:
    with pytest.raises(ModelError, match="check its certificate, and http or https; verify=FILE names one to trust"):
        chat_model(server.url.replace("http", "https"), max_retries=0).invoke("hi")
