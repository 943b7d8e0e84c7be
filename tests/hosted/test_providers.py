"""Requests through providers, held against huggingface_hub's own: address, headers and body of what goes out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from huggingface_hub.hf_api import InferenceProviderMapping
from huggingface_hub.inference._providers import PROVIDERS, _common, get_provider_helper, hf_inference

from agentkit.errors import ConfigurationError, ModelError
from agentkit.models.backend import ChatRequest, Chunk
from agentkit.models.hosted.options import hosted_model
from agentkit.models.hosted.places import Outgoing, Place, place
from tests.doubles.server import ChatServer, say
from tests.hosted.conftest import Waits

REPO = "deepseek-ai/DeepSeek-R1-0528"
HF_KEY, OWN_KEY = "hf_abcdefghijklmnop", "sk-abcdefghijklmnop"
SCHEMA = {"type": "object", "properties": {"x": {"type": "integer"}}}
BODY: dict[str, Any] = {
    "messages": [{"role": "user", "content": "hi"}],
    "max_tokens": 9,
    "temperature": 0.1,
    "stop": ["\nObservation"],
    "tools": [{"type": "function", "function": {"name": "add", "parameters": SCHEMA}}],
    "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA}},
    "stream": True,
    "stream_options": {"include_usage": True},
}
CHATTING = [name for name, tasks in PROVIDERS.items() if "conversational" in tasks and name != "openai"]


class Hub:
    """The Hub's answers to where a provider has a model."""

    def __init__(self) -> None:
        self.providers: list[str] = list(PROVIDERS)
        self.error: Exception | None = None
        self.asked: list[str] = []

    def model_info(self, model: str, **_: Any) -> SimpleNamespace:
        self.asked.append(model)
        if self.error is not None:
            raise self.error
        mapping = [
            InferenceProviderMapping(
                provider=name, hf_model_id=model, providerId=f"{name}/its-name", status="live", task="conversational"
            )
            for name in self.providers
        ]
        return SimpleNamespace(inference_provider_mapping=mapping, pipeline_tag="text-generation", tags=[])


@pytest.fixture(autouse=True)
def the_hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    def forget() -> None:
        _common._fetch_inference_provider_mapping.cache_clear()
        hf_inference._check_supported_task.cache_clear()

    made = Hub()
    monkeypatch.setattr("huggingface_hub.hf_api.HfApi", lambda: made)
    forget()
    yield made
    forget()


def made(provider: str, token: str, headers: dict[str, str] | None = None) -> Place:
    return place(repo_id=REPO, endpoint_url=None, model=None, provider=provider, token=token, headers=headers or {})


def hubs_own(provider: str, token: str) -> tuple[str, dict[str, Any], Any]:
    """The address, headers and body that huggingface_hub's client would send."""
    helper = get_provider_helper(provider, task="conversational", model=REPO)  # type: ignore[arg-type]
    parameters = {name: value for name, value in BODY.items() if name != "messages"}
    request = helper.prepare_request(
        inputs=BODY["messages"], parameters=parameters, headers={}, model=REPO, api_key=token
    )
    return request.url, request.headers, request.json


def as_sent(outgoing: Outgoing) -> tuple[str, dict[str, str], Any]:
    assert outgoing.content is not None
    return outgoing.url, dict(outgoing.headers), json.loads(outgoing.content)


@pytest.mark.parametrize("token", [HF_KEY, OWN_KEY], ids=["routed", "direct"])
@pytest.mark.parametrize("provider", CHATTING)
def test_a_known_provider_gets_what_huggingface_hub_would_send(provider: str, token: str) -> None:
    url, headers, body = as_sent(made(provider, token).chat(BODY))
    assert (url, headers, body) == hubs_own(provider, token)
    assert headers["authorization"] == f"Bearer {token}"
    assert token not in json.dumps(body)
    assert token not in url


def test_auto_is_the_hubs_router() -> None:
    url, headers, body = as_sent(made("auto", HF_KEY).chat(BODY))
    their_url, their_headers, their_body = hubs_own("auto", HF_KEY)
    assert (url, body) == (their_url, their_body) == ("https://router.huggingface.co/v1/chat/completions", body)
    assert next(iter(body)) == "model"
    for name in ("authorization", "content-type"):
        assert headers[name] == their_headers[name]


@pytest.mark.parametrize("provider", ["hyperbolic", "nebius", "sambanova"])
def test_a_provider_that_huggingface_hub_does_not_know_is_named_to_the_router(provider: str) -> None:
    url, headers, body = as_sent(made(provider, HF_KEY).chat(BODY))
    assert (url, body) == ("https://router.huggingface.co/v1/chat/completions", {"model": f"{REPO}:{provider}", **BODY})
    assert headers["authorization"] == f"Bearer {HF_KEY}"


def test_together_gets_its_own_shape_of_a_schema() -> None:
    _, _, body = as_sent(made("together", HF_KEY).chat(BODY))
    assert body["model"] == "together/its-name"
    assert body["response_format"] == {"type": "json_schema", "schema": SCHEMA}


@pytest.mark.parametrize("provider", ["auto", "together", "nebius"])
def test_headers_of_the_user_are_added(provider: str) -> None:
    _, headers, _ = as_sent(made(provider, HF_KEY, {"X-HF-Bill-To": "team"}).chat(BODY))
    assert (headers["x-hf-bill-to"], headers["authorization"]) == ("team", f"Bearer {HF_KEY}")


def test_a_provider_that_cannot_chat_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="through replicate: Task 'conversational' not supported"):
        made("replicate", HF_KEY).chat(BODY)


def test_a_provider_without_the_model_is_refused(the_hub: Hub) -> None:
    the_hub.providers = ["novita"]
    with pytest.raises(ConfigurationError, match="is not supported by provider together"):
        made("together", HF_KEY).chat(BODY)


@pytest.mark.parametrize("way", ["generate_chat", "agenerate_chat"])
async def test_a_hub_that_cannot_be_asked_is_asked_again(way: str, the_hub: Hub, waits: Waits) -> None:
    the_hub.error = OSError(f"no way to the Hub with {HF_KEY}")
    model = hosted_model(repo_id=REPO, provider="together", huggingfacehub_api_token=HF_KEY)
    model = replace(model, sleep=waits.wait, asleep=waits.await_)
    request = ChatRequest(messages=BODY["messages"])

    async def ask() -> list[Chunk]:
        if way == "generate_chat":
            return list(model.generate_chat(request))
        return [chunk async for chunk in model.agenerate_chat(request)]

    with pytest.raises(ModelError, match=r"could not be looked up on the Hub .*\(tried 2 times\)") as caught:
        await ask()
    assert the_hub.asked == [REPO] * 2
    assert HF_KEY not in str(caught.value)


# -- who sees which token ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("variable", ["HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN"])
def test_the_token_of_the_environment_goes_to_hugging_face(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, HF_KEY)
    url = "https://router.huggingface.co/v1"
    at = place(repo_id=None, endpoint_url=url, model=None, provider="auto", token=None, headers={})
    assert at.chat(BODY).headers["authorization"] == f"Bearer {HF_KEY}"


@pytest.mark.parametrize("provider", ["auto", "together", "nebius"])
def test_a_repository_needs_a_token(provider: str) -> None:
    model = hosted_model(repo_id=REPO, provider=provider)
    with pytest.raises(ConfigurationError, match=f"{REPO} needs a Hugging Face token, none found; set HF_TOKEN"):
        list(model.generate_chat(ChatRequest(messages=BODY["messages"])))


def test_a_password_in_the_address_becomes_a_header(server: ChatServer) -> None:
    server.plays = [say("hello")]
    model = hosted_model(endpoint_url=server.url.replace("//", "//me:secret@"))
    list(model.generate_chat(ChatRequest(messages=BODY["messages"])))
    assert server.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"
    assert model.model_id == server.url
    assert "secret" not in repr(model)
