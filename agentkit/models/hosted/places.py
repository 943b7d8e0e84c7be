"""Where a request goes: an address of one's own, or a provider behind the Hub's router."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

from agentkit.errors import ConfigurationError
from agentkit.models.hosted.failures import lookup_failure, without_secrets

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
KEY_VARIABLE = "AGENTKIT_API_KEY"  # for servers that are not Hugging Face's
ROUTER = "https://router.huggingface.co/v1"
_HF_HOSTS = ("huggingface.co", "huggingface.cloud", "hf.co", "hf.space")
_AGENT = "agentkit"
_PUBLIC_HEADERS = ("accept", "content-type", "user-agent")


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it is sent."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)  # None: GET

    @property
    def secrets(self) -> set[str]:
        """What must not be shown: the values of headers that may be keys, and of the address's query."""
        values = [value for name, value in self.headers.items() if name not in _PUBLIC_HEADERS]
        values += [value for _, value in parse_qsl(urlsplit(self.url).query)]
        return {value.removeprefix("Bearer ").removeprefix("Basic ") for value in values}


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An OpenAI-compatible server; `url` is its address, its `/v1`, or its `/v1/chat/completions`."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str | None = None  # None: the server knows

    looks_up: ClassVar[bool] = False

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent cannot be read on its way."""
        return not self.url.startswith("http:")

    def chat(self, body: Mapping[str, Any]) -> Outgoing:
        """The request for a chat completion."""
        named = {"model": self.model, **body} if self.model else dict(body)
        return Outgoing(_endpoint(self.url, "/chat/completions"), _with_json(self.headers), encoded(named))

    def models(self) -> Outgoing | None:
        """The question which models there are, where it can be asked."""
        return Outgoing(_endpoint(self.url, "/models"), self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider that huggingface_hub knows: its helper writes address, headers and body."""

    provider: str
    model: str
    token: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    looks_up: ClassVar[bool] = True  # it asks the Hub where the provider has the model, and blocks meanwhile
    is_encrypted: ClassVar[bool] = True

    def chat(self, body: Mapping[str, Any]) -> Outgoing:
        """The request for a chat completion."""
        from huggingface_hub.inference._providers import get_provider_helper

        parameters = {name: value for name, value in body.items() if name != "messages"}
        try:
            helper = get_provider_helper(self.provider, task="conversational", model=self.model)  # type: ignore[arg-type]
            made = helper.prepare_request(
                inputs=body["messages"],
                parameters=parameters,
                headers=dict(self.headers),
                model=self.model,
                api_key=self.token,
            )
        except ValueError as error:
            reason = without_secrets(str(error), self.token)
            raise ConfigurationError(f"{self.model} through {self.provider}: {reason}") from None
        except Exception as error:
            raise lookup_failure(error, self.token) from error
        return Outgoing(made.url, made.headers, encoded(made.json))  # type: ignore[arg-type]

    def models(self) -> Outgoing | None:
        """None: the router is not asked."""
        return None


Place = Server | Provider


def place(
    *,
    repo_id: str | None,
    endpoint_url: str | None,
    model: str | None,
    provider: str,
    token: str | None,
    headers: Mapping[str, str],
    keyless: bool = False,
) -> Place:
    """Where the model is.

    With "auto" the Hub's router chooses; a provider that the installed huggingface_hub does not know is named to the
    router, as its documentation says, behind a colon: ORG/NAME:PROVIDER.
    """
    headers = {name.lower(): value for name, value in headers.items()}
    if endpoint_url is not None:
        address, _, named = endpoint_url.partition("#")
        token = token or _token_for(address, keyless=keyless)
        return Server(url=address, model=model or named or None, headers=_own_headers(headers, token))
    assert repo_id is not None
    token = token or hub_token()
    if token is None and "authorization" not in headers:
        raise ConfigurationError(
            f"{repo_id} needs a Hugging Face token, none found; set HF_TOKEN (https://huggingface.co/settings/tokens)"
        )
    if provider == "auto" or token is None:
        return Server(url=ROUTER, model=repo_id, headers=_own_headers(headers, token))
    if provider not in _known_providers():
        return Server(url=ROUTER, model=f"{repo_id}:{provider}", headers=_own_headers(headers, token))
    return Provider(provider=provider, model=repo_id, token=token, headers=headers)


def hub_token() -> str | None:
    """The user's token, from the environment or from `hf auth login`."""
    for name in TOKEN_VARIABLES:
        if token := os.environ.get(name):
            return token
    from huggingface_hub import get_token

    return get_token()


def _token_for(address: str, *, keyless: bool) -> str | None:
    """The token a server may see: a Hugging Face token goes to Hugging Face's hosts only."""
    host = urlsplit(address).hostname or ""
    if any(host == known or host.endswith(f".{known}") for known in _HF_HOSTS):
        return hub_token()
    return None if keyless else os.environ.get(KEY_VARIABLE)


def _known_providers() -> set[str]:
    from huggingface_hub.inference._providers import PROVIDERS

    return set(PROVIDERS)


def _own_headers(headers: Mapping[str, str], token: str | None) -> dict[str, str]:
    authorization = {"authorization": f"Bearer {token}"} if token else {}
    return {"user-agent": _AGENT, **authorization, **headers}


def _with_json(headers: Mapping[str, str]) -> dict[str, str]:
    return {"content-type": "application/json", **headers}


def _endpoint(url: str, route: str) -> str:
    """The address of `/chat/completions` or `/models`, wherever in the server's paths `url` points."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/").removesuffix("/chat/completions")
    if not path.endswith("/v1") and path == parts.path.rstrip("/"):
        path += "/v1"
    return parts._replace(path=path + route, fragment="").geturl()


def encoded(body: Mapping[str, Any]) -> bytes:
    """The body's bytes; half a surrogate pair, which no server takes, becomes a question mark."""
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a request that is no JSON: {error}; check the options") from error
    return text.encode("utf-8", "replace")
