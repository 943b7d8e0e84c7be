"""A key goes where it belongs, over an encrypted connection, and nowhere else; addresses do not show theirs."""

from __future__ import annotations

import base64
import json
import traceback
from collections.abc import Iterator
from typing import Any

import pytest

from agentkit.errors import ConfigurationError, ModelError
from agentkit.langchain.chat_model import chat_model
from agentkit.models import HuggingFaceEndpoint
from agentkit.models.backend import ChatRequest
from agentkit.models.hosted.options import hosted_model
from agentkit.models.hosted.places import Outgoing, place
from agentkit.models.spec import backend_of
from tests.doubles.server import ChatServer, body, error, say, serving
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make

HUB, OWN = "hf_abcdefghijklmnopqrst", "zebra-7741-quartz"
BODY = {"messages": [{"role": "user", "content": "hi"}]}
HI = ChatRequest(messages=BODY["messages"])


@pytest.fixture
def other() -> Iterator[ChatServer]:
    """Another server, which must not be asked."""
    with serving(ChatServer()) as running:
        yield running


def key_sent_to(address: str, **options: Any) -> str | None:
    """The key that goes along with a request."""
    at = place(repo_id=None, endpoint_url=address, model=None, provider="auto", token=None, headers={}, **options)
    sent = at.chat(BODY).headers.get("authorization")
    return sent and sent.removeprefix("Bearer ")


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("https://router.huggingface.co/v1", HUB),
        ("https://Router.HuggingFace.CO:443/v1", HUB),
        ("https://api-inference.huggingface.co/models/x/v1", HUB),
        ("https://router.huggingface.co:8443/v1", OWN),
        ("https://router.huggingface.co./v1", OWN),
        ("https://router.huggingface.co@example.com/v1", OWN),
        ("https://huggingface.co.example.com/v1", OWN),
        ("https://nothuggingface.co/v1", OWN),
        ("https://somebody-demo.hf.space/v1", OWN),
        ("https://x.eu-west-1.aws.endpoints.huggingface.cloud", OWN),
        ("http://localhost:8000/v1", OWN),
    ],
)
def test_which_key_goes_where(monkeypatch: pytest.MonkeyPatch, address: str, key: str) -> None:
    monkeypatch.setenv("HF_TOKEN", HUB)
    monkeypatch.setenv("AGENTKIT_API_KEY", OWN)
    assert key_sent_to(address) == key
    monkeypatch.delenv("AGENTKIT_API_KEY")
    assert key_sent_to(address) == (HUB if key == HUB else None)


def test_a_forgotten_s_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", HUB)
    with pytest.raises(ConfigurationError, match=r"is not encrypted.*write https://"):
        key_sent_to("http://router.huggingface.co/v1")


@pytest.mark.parametrize(
    ("hosts", "address", "keyless", "goes"),
    [
        ("", "https://a.example/v1", False, True),
        ("", "https://a.example/v1", True, False),
        ("", "http://localhost:8000/v1", True, False),
        ("a.example", "https://a.example/v1", True, True),
        ("b.example, a.example", "https://A.example:8443/v1", True, True),
        ("a.example", "https://b.example/v1", False, False),
        ("a.example", "https://x.a.example/v1", False, False),
        ("a.example", "https://a.example.evil.example/v1", True, False),
        ("a.example", "http://a.example/v1", True, False),
        ("a.example", "http://a.example/v1", False, True),
        ("http://a.example", "http://a.example/v1", True, True),
        ("http://a.example", "https://a.example/v1", True, False),
        ("a.example:8443", "https://a.example/v1", True, False),
        ("a.example:443", "https://a.example/v1", True, True),
        ("localhost:8000", "http://localhost:8000/v1", True, True),
        ("localhost:8000", "http://localhost:9000/v1", True, False),
    ],
)
def test_hosts_that_are_named_get_the_key(
    monkeypatch: pytest.MonkeyPatch, hosts: str, address: str, keyless: bool, goes: bool
) -> None:
    """`keyless`: the address came out of a file."""
    monkeypatch.setenv("AGENTKIT_API_KEY", OWN)
    monkeypatch.setenv("AGENTKIT_API_KEY_HOSTS", hosts)
    assert (key_sent_to(address, keyless=keyless) == OWN) is goes


def asked_for_key(server: ChatServer, **options: Any) -> str | None:
    backend = backend_of(server.url, **options)
    assert backend is not None
    list(backend.generate_chat(HI))
    return server.requests[-1].headers.get("authorization")


def test_an_address_out_of_a_file_gets_no_key(monkeypatch: pytest.MonkeyPatch, server: ChatServer) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", OWN)
    assert asked_for_key(server) == f"Bearer {OWN}"
    assert asked_for_key(server, foreign={"model"}) is None
    assert asked_for_key(server, options={"api_key": "theirs"}, foreign={"model"}) == "Bearer theirs"


@pytest.mark.parametrize("way", ["backend_of", "chat_model"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_fallback_at_another_host_gets_no_key(
    monkeypatch: pytest.MonkeyPatch, server: ChatServer, other: ChatServer, host: str, way: str
) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", OWN)
    server.plays = [error(400)]
    second = other.url.replace("127.0.0.1", host)
    if way == "chat_model":
        chat_model(server.url, fallbacks=[second]).invoke("hi")
    else:
        backend = backend_of(server.url, fallbacks=[second])
        assert backend is not None
        list(backend.generate_chat(HI))
    assert server.requests[0].headers["authorization"] == f"Bearer {OWN}"
    assert ("authorization" in other.requests[0].headers) is (host == "127.0.0.1")


@pytest.mark.parametrize("name", ["repo_id", "endpoint_url"])
@pytest.mark.parametrize("spec", ["hf:org/name", "https://a.example/v1"])
def test_an_option_does_not_say_another_address(spec: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"leave out the option {name}"):
        backend_of(spec, **{name: "https://evil.example"})


def test_an_address_among_options_out_of_a_file_gets_no_providers_key() -> None:
    with pytest.raises(ConfigurationError, match=r"base_url out of a file names an address") as told:
        backend_of("openai:gpt-9", options={"base_url": "https://evil.example/v1"}, foreign={"options"})
    assert "\n" not in str(told.value)


def test_hubs_token_does_not_go_to_a_providers_own_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub takes a token of another form for the provider's own key, and a repository may be an address."""
    monkeypatch.setenv("HF_TOKEN", HUB)
    model = hosted_model(repo_id="https://evil.example/x", provider="hf-inference", max_retries=0)
    with pytest.raises(ConfigurationError, match="Hugging Face's token does not go there"):
        list(model.generate_chat(HI))


@pytest.mark.parametrize(
    ("location", "there"),
    [
        ("/v1/chat/completions/", "https://a.example/v1/chat/completions/"),
        ("completions/", "https://a.example/v1/chat/completions/"),
        ("https://A.EXAMPLE:443/x", "https://a.example/x"),
        ("http://a.example/x", None),
        ("https://b.example/x", None),
        ("//b.example/x", None),
        ("https://a.example@b.example/x", None),
        ("https://me:pw@a.example/x", None),
        ("https://a.example.evil.example/x", None),
        ("https://a.example./x", None),
        ("https://a.example:8443/x", None),
        ("\\\\b.example", "https://a.example/v1/chat/\\\\b.example"),
        ("https://\uff41.example/x", None),
        ("https://[::bad/x", None),
    ],
)
def test_a_redirect_stays_with_its_server(location: str, there: str | None) -> None:
    moved = Outgoing("https://a.example/v1/chat/completions", {"authorization": OWN}, b"{}").moved(location)
    assert (moved and moved.url) == there
    assert moved is None or (moved.content, moved.headers) == (b"{}", {"authorization": OWN})


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_no_request_goes_to_another_server(
    server: ChatServer, other: ChatServer, chat: Make, ask: Ask, status: int
) -> None:
    server.plays = [
        body(b"", 307, location="/v1/elsewhere"),
        body(b"", status, location=f"{other.url}/v1?key=k"),
    ]
    with pytest.raises(ModelError, match=rf"HTTP {status}: it sends on to {other.url}/v1; if that is meant, give"):
        ask(chat(server_kwargs={"headers": {"x-key": OWN}}))
    assert [one.path for one in server.requests] == ["/v1/chat/completions", "/v1/elsewhere"]
    assert other.requests == []


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_a_redirect_within_a_server_is_followed(server: ChatServer, chat: Make, ask: Ask) -> None:
    server.plays = [body(b"", 308, location="/v2/chat/completions"), say("hello")]
    assert ask(chat(api_key=OWN)).content == "hello"
    first, second = server.requests
    assert (second.path, second.body) == ("/v2/chat/completions", first.body)
    assert second.headers["authorization"] == f"Bearer {OWN}"


def test_a_redirect_without_end_is_an_error(server: ChatServer, chat: Make) -> None:
    server.plays = [body(b"", 307, location="/v1/again")]
    with pytest.raises(ModelError, match="answered HTTP 307"):
        chat(max_retries=0).invoke("hi")
    assert len(server.requests) == 4


def test_user_and_password_of_an_address_are_used_and_not_shown(server: ChatServer) -> None:
    server.plays = [error(500, "no")]
    llm = HuggingFaceEndpoint(endpoint_url=server.url.replace("//", "//bob:p%40ss-5521@"), max_retries=0)
    with pytest.raises(ModelError) as caught:
        list(llm.generate_chat(HI))
    basic = base64.b64encode(b"bob:p@ss-5521").decode()
    assert server.requests[0].headers["authorization"] == f"Basic {basic}"
    told = json.dumps([str(caught.value), llm.model_id, llm.capabilities.identity, repr(llm._hosted)])
    assert not any(secret in told for secret in ("bob", "5521", basic))


@pytest.mark.parametrize("address", ["http://bob:pa/ss@h/v1", "http://bob:pa#ss@h/v1", "http://bob:pa?ss@h/v1"])
def test_half_a_password_is_not_shown_either(address: str) -> None:
    with pytest.raises(ConfigurationError, match="in a password as %2F %23 %3F %40") as caught:
        hosted_model(endpoint_url=address)
    assert "pa/" not in str(caught.value)
    assert "ss@" not in str(caught.value)


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ({"Host": "evil.example"}, "the header host is the connection's own"),
        ({"Content-Length": "3"}, "the header content-length is the connection's own"),
        ({"X-Key": f"{OWN}\n"}, "the header x-key has a character that no header may have"),
        ({"X-Key": f"“{OWN}”"}, "the header x-key has a character that no header may have"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(headers: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        hosted_model(endpoint_url="http://h/v1", server_kwargs={"headers": headers})
    assert OWN not in str(caught.value)


def test_a_key_that_cannot_be_sent_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_API_KEY", f" {OWN}\n")
    assert key_sent_to("https://a.example/v1") == OWN
    monkeypatch.setenv("AGENTKIT_API_KEY", f"“{OWN}”")
    with pytest.raises(ConfigurationError, match="AGENTKIT_API_KEY has a character that no key may have") as caught:
        key_sent_to("https://a.example/v1")
    assert OWN not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "foreign", "said"),
    [
        ({}, (), "no key was sent; set AGENTKIT_API_KEY"),
        ({"AGENTKIT_API_KEY": OWN}, (), "it refused the token"),
        ({"AGENTKIT_API_KEY": OWN}, ("model",), "out of a file; AGENTKIT_API_KEY_HOSTS=127.0.0.1 lets it"),
        ({"AGENTKIT_API_KEY": OWN, "AGENTKIT_API_KEY_HOSTS": "x"}, (), "_HOSTS does not name 127.0.0.1"),
    ],
)
def test_a_server_that_wants_a_key_says_why_none_was_sent(
    monkeypatch: pytest.MonkeyPatch,
    server: ChatServer,
    variables: dict[str, str],
    foreign: tuple[str, ...],
    said: str,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    server.plays = [error(401, "who are you?")]
    with pytest.raises(ConfigurationError, match=said):
        asked_for_key(server, foreign=foreign)


def test_the_hubs_own_machines_want_a_key_of_their_own() -> None:
    at = place(
        repo_id=None,
        endpoint_url="https://me-demo.hf.space/v1",
        model=None,
        provider="auto",
        token=None,
        headers={},
    )
    assert at.no_key == (
        "no key was sent, HF_TOKEN goes to Hugging Face's own hosts only; for this one set AGENTKIT_API_KEY"
    )


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "ftp://127.0.0.1:9"])
def test_no_proxy_is_asked_for_this_machine(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, proxy: str, ask: Ask
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    assert ask(chat_model(server.url, max_retries=0)).content


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("variable", "proxy"),
    [
        ("all_proxy", "socks5://user:Zebra7741Quartz@127.0.0.1:9"),
        ("ALL_PROXY", "socks5h://user:Zebra7741Quartz@127.0.0.1:9"),
        ("HTTPS_PROXY", "ftp://user:Zebra7741Quartz@127.0.0.1:9"),
        ("https_proxy", "http://user:Zebra7741Quartz/1@127.0.0.1:9"),
        ("http_proxy", "http://user:Zebra7741Quartz#1@127.0.0.1:9"),
        ("HTTP_PROXY", "http://us er:Zebra7741Quartz@ho st:x"),
    ],
)
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch, variable: str, proxy: str, ask: Ask
) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv(variable, proxy)
    with pytest.raises(ConfigurationError, match=rf"^The proxy that {variable.lower()} names ") as raised:
        ask(chat_model("http://models.example", max_retries=0))
    assert "Zebra" not in "".join(traceback.format_exception(raised.value))
