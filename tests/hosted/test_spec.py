"""A model by its spec."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from agentkit import chat_model
from agentkit.deadline import within
from agentkit.errors import ConfigurationError, ModelError
from agentkit.models.backend import Capabilities, ChatBackend, ChatRequest, Chunk
from agentkit.models.hosted.fallbacks import WithFallbacks
from agentkit.models.hosted.options import hosted_model


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("builtn", {}, "did you mean builtin"),
        ("Qwen/Qwen3-4B", {}, "did you mean hf:Qwen/Qwen3-4B or local:Qwen/Qwen3-4B"),
        ("local:./nowhere", {}, "no folder ./nowhere"),
        ("http://127.0.0.1:9", {"max_new_token": 3}, "did you mean 'max_new_tokens'"),
        ("http://127.0.0.1:9", {"adapter": "x"}, "adapter is for a model in this process; leave it out"),
        ("hf:org/name", {"max_thinking_tokens": 3}, "max_thinking_tokens is for a model in this process"),
        ("nobody:model", {}, "nobody"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        chat_model(spec, **options)


# -- what hosted models declare ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "identity", "max_new_tokens"),
    [
        ({"endpoint_url": "https://me:pass@host/v1?key=abc#org/name"}, "https://host/v1#org/name", 512),
        ({"endpoint_url": "https://host/v1", "model": "org/name"}, "https://host/v1 org/name", 512),
        ({"repo_id": "org/name", "max_new_tokens": 9}, "org/name auto", 9),
        ({"repo_id": "org/name", "provider": "nebius", "max_new_tokens": None}, "org/name nebius", None),
    ],
)
def test_a_hosted_model_declares_what_it_is(options: dict[str, Any], identity: str, max_new_tokens: int | None) -> None:
    assert hosted_model(**options).capabilities == Capabilities(
        over_http=True, tools=True, max_new_tokens=max_new_tokens, identity=identity
    )


class Part:
    """A backend that fails, or writes some words."""

    def __init__(self, words: str = "", **capabilities: Any) -> None:
        self.model_id = words or "broken"
        self.words = words
        self.capabilities = Capabilities(**capabilities)
        self.requests: list[ChatRequest] = []

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        self.requests.append(request)
        if not self.words:
            raise ModelError("broken")
        yield Chunk(text=self.words)
        yield Chunk(finish_reason="stop")

    async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        for chunk in self.generate_chat(request):
            yield chunk


HTTP = {"over_http": True, "tools": True, "max_new_tokens": 5, "identity": "first"}
LOCAL = {"in_process": True, "over_http": False, "tools": True, "grammar": True, "max_new_tokens": 7, "identity": "l"}


@pytest.mark.parametrize(
    ("parts", "declared"),
    [
        ([HTTP, {**HTTP, "max_new_tokens": 9}], {**HTTP, "max_new_tokens": 9}),
        ([HTTP, LOCAL], {**HTTP, "over_http": None, "max_new_tokens": 7}),
        ([LOCAL, LOCAL], {**LOCAL, "over_http": None, "grammar": False}),
        ([HTTP, {}], {"identity": "first"}),
    ],
)
def test_models_in_a_row_declare_what_all_of_them_can(parts: list[dict[str, Any]], declared: dict[str, Any]) -> None:
    backends: list[ChatBackend] = [Part(**part) for part in parts]
    assert WithFallbacks(backends).capabilities == Capabilities(**declared, alternatives=tuple(backends))


def test_each_model_in_a_row_is_asked_as_it_can_be() -> None:
    local = Part("hi", **LOCAL)
    wanted = {"type": "json_object"}
    request = ChatRequest(messages=[{"role": "user", "content": "hi"}], response_format=wanted)
    list(WithFallbacks([Part(**HTTP), local]).generate_chat(request))
    assert local.requests[0].grammar is not None


def test_a_model_in_process_that_is_fallen_back_to_ends_with_the_runs_time() -> None:
    request = ChatRequest(messages=[{"role": "user", "content": "hi"}])
    with within(0), pytest.raises(TimeoutError):
        list(WithFallbacks([Part(**HTTP), Part("hi", **LOCAL)]).generate_chat(request))
