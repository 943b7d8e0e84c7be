"""Addresses as the documentation of each server gives them, and those that are none for chat completions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentkit import chat_model
from agentkit.errors import ConfigurationError, ModelError
from agentkit.models.hosted.places import place
from tests.doubles.server import ChatServer, Play, Request, body, error, say
from tests.hosted.asking import WAYS, Ask
from tests.hosted.conftest import Make

every_way = pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
CHAT = "/chat/completions"


def asked_at(address: str) -> tuple[str, str]:
    """The address of the request, and the header with its key."""
    at = place(repo_id=None, endpoint_url=address, model=None, provider="auto", token="key-1234", headers={})
    sent = at.chat({"messages": []})
    return sent.url, next(name for name in sent.headers if "key-1234" in sent.headers[name])


@pytest.mark.parametrize(
    "base",
    [
        "https://api.openai.com/v1",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "https://us-central1-aiplatform.googleapis.com/v1beta1/projects/P/locations/L/endpoints/openapi",
        "https://open.bigmodel.cn/api/paas/v4",
        "https://api.z.ai/api/coding/paas/v4",
        "https://ark.cn-beijing.volces.com/api/v3",
        "https://models.github.ai/inference",
        "https://gateway.ai.cloudflare.com/v1/ACCOUNT/GATEWAY/compat",
        "https://api.cloudflare.com/client/v4/accounts/ACCOUNT/ai/v1",
        "http://localhost:3000/api",  # Open WebUI
        "https://api.groq.com/openai/v1",
        "https://api.deepinfra.com/v1/openai",
        "https://dashscope.aliyuncs.com/compatible-mode/v1",
        "https://HOST/serving-endpoints",  # Databricks
        "https://NAME.services.ai.azure.com/models",
        "https://NAME.openai.azure.com/openai/v1",
        "https://NAME.openai.azure.com/openai/deployments/DEPLOYMENT",
    ],
)
@pytest.mark.parametrize("given", ["", "/", CHAT, "#org/name", "/#org/name"])
@pytest.mark.parametrize("query", ["", "?api-version=2024-10-21"])
def test_chat_completions_follow_the_documented_address(base: str, given: str, query: str) -> None:
    path, mark, name = given.partition("#")
    url, header = asked_at(f"{base}{path}{query}{mark}{name}")
    assert url == f"{base}{CHAT}{query}"
    assert header == ("api-key" if "azure.com" in base else "authorization")


@pytest.mark.parametrize(
    ("address", "header"),
    [
        ("https://gateway.example/openai/deployments/gpt?api-version=1", "api-key"),
        ("https://models.inference.ai.azure.com", "authorization"),  # GitHub's, with GitHub's token
        ("https://openai.azure.com.example/v1", "authorization"),
        ("https://example.com/v1?for=.openai.azure.com", "authorization"),
    ],
)
def test_a_key_goes_in_azures_header_to_azure(address: str, header: str) -> None:
    assert asked_at(address)[1] == header


def test_a_token_of_entra_is_a_bearers() -> None:
    at = place(
        repo_id=None,
        endpoint_url="https://x.openai.azure.com/openai/v1",
        model=None,
        provider="auto",
        token="eyJ0eXAi",
        headers={},
    )
    assert at.chat({}).headers["authorization"] == "Bearer eyJ0eXAi"


def only_at(path: str, status: int = 404) -> Any:
    def choose(asked: Request) -> Play:
        if asked.path == path:
            return say("hello")
        return body(b'{"detail": "Not Found"}', status)

    return choose


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("given", "path", "tries"),
    [
        ("", CHAT, 2),  # Perplexity
        ("", f"/v1{CHAT}", 1),
        ("/inference", f"/inference{CHAT}", 1),
        ("/inference", f"/inference/v1{CHAT}", 2),
        ("/openai", f"/openai{CHAT}", 2),
        ("/openai", f"/openai/v1{CHAT}", 1),
        ("/v1/team", f"/v1/team/v1{CHAT}", 2),
    ],
)
@pytest.mark.parametrize("status", [404, 405])
def test_where_nothing_is_found_the_other_address_is_asked_and_remembered(
    server: ChatServer, chat: Make, ask: Ask, given: str, path: str, tries: int, status: int
) -> None:
    server.choose = only_at(path, status)
    model = chat(f"{server.url}{given}")
    assert [ask(model).content for _ in range(2)] == ["hello", "hello"]
    assert [asked.path for asked in server.requests][-2:] == [path, path]
    assert len(server.requests) == tries + 1


PAGE = b"<!DOCTYPE html><html><body>Welcome!</body></html>"
"""What a web application answers to any path that it does not know, with status 200."""


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("given", "paths"),
    [
        ("", [f"/v1{CHAT}"] * 2 + [CHAT]),
        ("/app", [f"/app{CHAT}"] * 2 + [f"/app/v1{CHAT}"]),
        ("/v1", [f"/v1{CHAT}"] * 2),
        (f"/x{CHAT}?key=abc", [f"/x{CHAT}?key=abc"] * 2),
    ],
)
@pytest.mark.parametrize(
    ("content", "saw"), [(PAGE, "an HTML page"), (b'{"status": "up"}', "JSON without choices (status)")]
)
def test_what_is_no_reply_names_the_path_that_was_asked(
    server: ChatServer, chat: Make, ask: Ask, given: str, paths: list[str], content: bytes, saw: str
) -> None:
    server.plays = [body(content, kind="text/html")]
    with pytest.raises(ModelError) as caught:
        ask(chat(f"{server.url}{given}"))
    named = ", ".join(dict.fromkeys(path.partition("?")[0] for path in paths))
    assert str(caught.value).partition(" ")[2] == (
        f"expected a chat completion, saw {saw}; is this an OpenAI-compatible server's address? (asked: {named}) "
        "(tried 2 times)"
    )
    assert [asked.path for asked in server.requests] == paths


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
def test_behind_a_page_the_other_address_is_asked_and_remembered(server: ChatServer, chat: Make, ask: Ask) -> None:
    right = f"/app/v1{CHAT}"
    server.choose = lambda asked: say("hello") if asked.path == right else body(PAGE, kind="text/html")
    model = chat(f"{server.url}/app")
    assert [ask(model).content for _ in range(2)] == ["hello", "hello"]
    assert [asked.path for asked in server.requests] == [f"/app{CHAT}"] * 2 + [right] * 2


@pytest.mark.parametrize("ask", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(
    ("given", "named"),
    [
        ("/somewhere", f"/somewhere{CHAT}, /somewhere/v1{CHAT}"),
        ("/api/v3", f"/api/v3{CHAT}"),
        (f"/x{CHAT}?key=abc", f"/x{CHAT}"),
    ],
)
def test_an_error_names_what_was_asked(server: ChatServer, chat: Make, ask: Ask, given: str, named: str) -> None:
    server.plays = [error(404, "Not Found")]
    with pytest.raises(ModelError) as caught:
        ask(chat(f"{server.url}{given}"))
    assert str(caught.value).endswith(f"answered HTTP 404: Not Found (asked: {named})")
    assert "abc" not in str(caught.value)


def test_a_model_that_is_not_there_is_no_wrong_address(server: ChatServer, chat: Make) -> None:
    server.plays, server.models = [error(404, "The model `m` does not exist.")], ["a", "b"]
    host = server.url.removeprefix("http://")
    with pytest.raises(ModelError) as raised:
        chat(model="m").invoke("hi")
    assert str(raised.value) == f"m at {host} answered HTTP 404: The model `m` does not exist.; it serves a, b"
    assert [asked.path for asked in server.requests] == ["/v1/chat/completions", "/v1/models"]


@every_way
def test_not_found_under_200_is_looked_for_elsewhere(server: ChatServer, chat: Make, ask: Ask) -> None:
    """As Zhipu's gateway says it."""
    missing = body(json.dumps({"code": 500, "msg": "404 NOT_FOUND", "success": False}).encode())
    server.choose = lambda asked: say("hello") if asked.path == "/api/v1/chat/completions" else missing
    assert ask(chat(f"{server.url}/api")).content == "hello"


@every_way
@pytest.mark.parametrize(
    "said",
    [
        {"choices": None, "base_resp": {"status_code": 1004, "status_msg": "login fail"}},  # MiniMax
        {
            "success": False,
            "errors": [{"code": 10000, "message": "Authentication error"}],
            "result": None,
        },  # Cloudflare
    ],
    ids=["MiniMax", "Cloudflare"],
)
def test_a_refused_key_under_200_is_asked_for_once(
    server: ChatServer, chat: Make, ask: Ask, said: dict[str, Any]
) -> None:
    server.plays = [body(json.dumps(said).encode())]
    with pytest.raises(ConfigurationError, match="no key was sent; set AGENTKIT_API_KEY"):
        ask(chat())
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("query", "headers"), [("?key=plainkey4711", {}), ("", {"X-My": "plainkey4711"}), ("", {"Modal-Key": "k4711"})]
)
def test_a_key_that_was_sent_in_another_way_is_one(
    server: ChatServer, chat: Make, query: str, headers: dict[str, str]
) -> None:
    server.plays = [error(401, "no")]
    with pytest.raises(ConfigurationError, match=r"HTTP 401: no; it refused the token: check it and its rights$"):
        chat(f"{server.url}/v1{query}", headers=headers).invoke("hi")


def test_the_models_are_listed_below_the_same_address(server: ChatServer, backend: Any) -> None:
    server.models = ["a"]
    assert backend(f"{server.url}/api").models() == [{"id": "a"}]
    assert [asked.path for asked in server.requests] == ["/api/models"]


@pytest.mark.parametrize(
    ("address", "whose", "meant"),
    [
        ("https://api.openai.com/v1/responses", "OpenAI's Responses API", "https://api.openai.com/v1"),
        ("https://api.anthropic.com/v1/messages", "Anthropic's own API", "https://api.anthropic.com/v1"),
        ("https://api.deepseek.com/anthropic", "Anthropic's own API", "https://api.deepseek.com/v1"),
        ("http://localhost:8000/v1/completions", "text completions", "http://localhost:8000/v1"),
        ("http://localhost:8000/v1/embeddings?key=abc", "embeddings", "http://localhost:8000/v1"),
        ("http://localhost:11434/api/chat", "Ollama's own API", "http://localhost:11434/v1"),
        ("http://localhost:11434/api/generate/", "Ollama's own API", "http://localhost:11434/v1"),
        ("http://localhost:8080/generate_stream", "TGI's own API", "http://localhost:8080/v1"),
        (
            "https://generativelanguage.googleapis.com/v1beta/models/gemini-3:generateContent",
            "Gemini's own API",
            "https://generativelanguage.googleapis.com/v1beta/openai",
        ),
        (
            "https://bedrock-runtime.x.amazonaws.com/model/m/converse-stream",
            "Bedrock's own API",
            "https://bedrock-runtime.x.amazonaws.com/openai/v1",
        ),
    ],
)
@pytest.mark.parametrize("name", ["", "#m"])
def test_an_address_of_another_api_is_refused_by_name(address: str, whose: str, meant: str, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f" is an address of {whose}, .*; give {meant}{name}, or ") as caught:
        chat_model(f"{address}{name}")
    assert "abc" not in str(caught.value)


def test_a_listing_of_models_that_nobody_has_does_not_hold_up_a_run(server: ChatServer, backend: Any) -> None:
    server.models = None
    served = backend(f"{server.url}/api").capabilities.served
    assert served() == ""
    assert [asked.path for asked in server.requests] == ["/api/models", "/api/v1/models"]
