"""A server of chat models, asked as our client asks it, its answers as they are: our client mends and cuts them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

from agentkit.errors import ModelError
from agentkit.models.hosted.failures import refusal, without_secrets
from agentkit.models.hosted.places import Outgoing, Place


class Refused(Exception):
    """The server answered a request with an error."""


@dataclass
class RawServer:
    """Asks a model's server as the model does, and gives its answers as they are."""

    place: Place
    client: httpx.Client
    names: list[str] = field(default_factory=list)  # of its models, as far as it says

    def models(self) -> list[dict[str, Any]] | None:
        """What the server says of its models; `None` where it says nothing."""
        asking = self.place.models()
        if asking is None:
            return None
        try:
            response = self._sent("GET", asking)
            known = [one for one in response.json()["data"] if isinstance(one.get("id"), str)]
        except (Refused, ValueError, LookupError, TypeError, AttributeError):
            return None
        self.names = [one["id"] for one in known]
        return known

    def ask(self, question: str, *, max_tokens: int = 32, **fields: Any) -> dict[str, Any]:
        """The first choice of an answer, with the answer's `usage`."""
        answer = self._sent("POST", self._request(question, {"max_tokens": max_tokens, **fields})).json()
        return {**answer["choices"][0], "usage": answer.get("usage")}

    def text(self, question: str, **fields: Any) -> str:
        """The text of an answer."""
        return str(self.ask(question, **fields)["message"].get("content") or "")

    def events(self, question: str, *, max_tokens: int) -> Iterator[dict[str, Any]]:
        """The events of a streamed answer, or the whole answer where the server does not stream."""
        wanted = {"max_tokens": max_tokens, "stream": True, "stream_options": {"include_usage": True}}
        asking = self._request(question, wanted)
        with self.client.stream("POST", asking.url, headers=asking.headers, content=asking.content) as response:
            if response.status_code >= 400:
                raise Refused(_said(response.status_code, response.headers, response.read(), asking))
            for line in response.iter_lines():
                text = line.removeprefix("data:").strip()
                if text.startswith("{"):
                    yield json.loads(text)

    def _request(self, question: str, fields: Mapping[str, Any]) -> Outgoing:
        named = {"model": self.names[0]} if len(self.names) == 1 and not getattr(self.place, "model", None) else {}
        return self.place.chat({**named, "messages": [{"role": "user", "content": question}], **fields})

    def _sent(self, method: str, asking: Outgoing) -> httpx.Response:
        try:
            response = self.client.request(method, asking.url, headers=dict(asking.headers), content=asking.content)
        except httpx.HTTPError as error:
            raise ModelError(without_secrets(f"{type(error).__name__}: {error}", *asking.secrets)) from None
        if response.status_code >= 400:
            raise Refused(_said(response.status_code, response.headers, response.content, asking))
        return response


def _said(status: int, headers: Mapping[str, str], body: bytes, asking: Outgoing) -> str:
    return without_secrets(refusal(status, headers, body, now_s=0.0).message, *asking.secrets)
