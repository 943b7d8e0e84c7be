"""A scripted server, and models of it that wait for nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from agentkit.models import ChatHuggingFace
from agentkit.models.hosted.model import HostedModel
from agentkit.models.hosted.options import hosted_model
from tests.doubles.server import ChatServer, serving


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with serving(ChatServer()) as running:
        yield running


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    """No key of whoever runs the tests is sent anywhere."""
    for name in ("HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN", "AGENTKIT_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))


@dataclass
class Waits:
    """Seconds that a model would have waited, and the jitter it was given."""

    seconds: list[float] = field(default_factory=list)

    def wait(self, seconds: float) -> None:
        self.seconds.append(seconds)

    async def await_(self, seconds: float) -> None:
        self.seconds.append(seconds)


@pytest.fixture
def waits() -> Waits:
    return Waits()


Make = Callable[..., ChatHuggingFace]


@pytest.fixture
def backend(server: ChatServer, waits: Waits) -> Callable[..., HostedModel]:
    """Makes backends of the scripted server that note their waits instead of waiting."""

    def make(url: str = "", **options: Any) -> HostedModel:
        made = hosted_model(endpoint_url=url or server.url, **options)
        retries = replace(made.retries, jitter=lambda: 0.0)
        return replace(made, retries=retries, sleep=waits.wait, asleep=waits.await_)

    return make


@pytest.fixture
def chat(backend: Callable[..., HostedModel]) -> Make:
    """Makes chat models of the same kind."""
    return lambda url="", **options: ChatHuggingFace(llm=backend(url, **options))
