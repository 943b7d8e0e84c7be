"""Where a request goes, an address of one's own or a provider behind the Hub's router, and which key goes with it.

An address is meant as its server's documentation gives it: `/chat/completions` follows it, as it does in OpenAI's
clients. Many people leave out the `/v1` of one, so where nothing is found that is tried, too.

A key goes where it belongs, over an encrypted connection, and nowhere else:

- `HF_TOKEN` to Hugging Face's own hosts. Not to Spaces and dedicated endpoints, where anybody runs what they like.
- `AGENTKIT_API_KEY` to the host that the user named: on the command line, in `AGENTKIT_MODEL`, in Python. Not to an
  address that came out of a file; `AGENTKIT_API_KEY_HOSTS` names the only hosts that get it, whoever names the address.
- A key that was given for one model to that model's address. Headers of one's own count as keys.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any, ClassVar
from urllib.parse import urlsplit

import httpx

from agentkit.errors import ConfigurationError
from agentkit.models.hosted.failures import lookup_failure, without_secrets
from agentkit.secrets import is_public_header, keys_in_address, public_address

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGINGFACEHUB_API_TOKEN")
KEY_VARIABLE = "AGENTKIT_API_KEY"  # for servers that are not Hugging Face's
HOSTS_VARIABLE = "AGENTKIT_API_KEY_HOSTS"
ROUTER = "https://router.huggingface.co/v1"
HUB_HOSTS = ("router.huggingface.co", "api-inference.huggingface.co", "huggingface.co")
_OF_ANYBODY = (".hf.space", ".endpoints.huggingface.cloud")
_PORTS = {"http": 80, "https": 443}
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_AGENT = "agentkit"
_VERSION = re.compile(r"v\d+(?:(?:alpha|beta|preview)\d*)?")
_CHAT = "/chat/completions"
_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_AZURE_PATH = "/openai/deployments/"
_OTHER_APIS = (
    (r"/responses", "OpenAI's Responses API", ""),
    (r"/messages", "Anthropic's own API", ""),
    (r"(?:/apps)?/anthropic(?:/v1)?", "Anthropic's own API", "/v1"),
    (r"(?<!/chat)/completions", "text completions", ""),
    (r"/embeddings", "embeddings", ""),
    (r"/api/(?:chat|generate)", "Ollama's own API", "/v1"),
    (r"/v1(?:alpha|beta)?/models/[^/]*:\w*generatecontent", "Gemini's own API", "/v1beta/openai"),
    (r"/(?:generate|generate_stream)", "TGI's own API", "/v1"),
    (
        r"/model/[^/]*/(?:converse|converse-stream|invoke|invoke-with-response-stream)",
        "Bedrock's own API",
        "/openai/v1",
    ),
)
"""How the path of an address of another API ends, whose it is, and what stands there in one for chat completions."""
_BEFORE_A_KEY = re.compile(r"(?:bearer|basic|token|apikey|api-key|key)\s+", re.IGNORECASE)


def keys_of_headers(headers: Mapping[str, str]) -> set[str]:
    """The values of headers that may be keys, without the word before them."""
    return {_BEFORE_A_KEY.sub("", value, count=1) for name, value in headers.items() if not is_public_header(name)}


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A request as it is sent."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    content: bytes | None = field(default=None, repr=False)  # None: GET

    @property
    def secrets(self) -> set[str]:
        """What must not be shown: the values of headers that may be keys, and those in the address."""
        return {*keys_of_headers(self.headers), *keys_in_address(self.url)}

    def moved(self, location: str) -> Outgoing | None:
        """The same request where its server sends it on to; `None` to another origin, which gets no key of this one."""
        try:
            here = httpx.URL(self.url)
            there = here.join(location)
        except (httpx.InvalidURL, ValueError):
            return None
        if there.userinfo or _origin(there) != _origin(here):
            return None
        return replace(self, url=str(there))


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """An OpenAI-compatible server; `url` is its address, its `/v1`, or its `/v1/chat/completions`.

    `bases` are what `url` may mean, the likeliest first.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    model: str | None = None  # None: the server knows
    no_key: str = ""  # what to do about it, where none goes with a request

    looks_up: ClassVar[bool] = False

    @property
    def is_encrypted(self) -> bool:
        """Whether what is sent cannot be read on its way."""
        return not self.url.startswith("http:")

    @property
    def on_this_machine(self) -> bool:
        """Whether the address says so, and not only a name server."""
        return httpx.URL(self.url).host in _THIS_MACHINE

    @property
    def bases(self) -> Sequence[str]:
        """The addresses before `/chat/completions`."""
        return _bases(self.url)

    def chat(self, body: Mapping[str, Any], base: int = 0) -> Outgoing:
        """The request for a chat completion."""
        named = {"model": self.model, **body} if self.model else dict(body)
        return Outgoing(_below(self.bases[base], _CHAT), _with_json(self.headers), encoded(named))

    def models(self, base: int = 0) -> Outgoing | None:
        """The question which models there are, where it can be asked."""
        return Outgoing(_below(self.bases[base], "/models"), self.headers)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """A provider that huggingface_hub knows: its helper writes address, headers and body."""

    provider: str
    model: str
    token: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    is_hub_token: bool = False  # of the environment, and not given for this provider

    no_key: ClassVar[str] = ""
    bases: ClassVar[Sequence[str]] = ("",)
    looks_up: ClassVar[bool] = True  # it asks the Hub where the provider has the model, and blocks meanwhile
    is_encrypted: ClassVar[bool] = True
    on_this_machine: ClassVar[bool] = False

    def chat(self, body: Mapping[str, Any], base: int = 0) -> Outgoing:
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
        if self.is_hub_token and not is_hub(made.url):
            raise ConfigurationError(
                f"{self.model} through {self.provider} is asked at {public_address(made.url)}, and "
                "Hugging Face's token does not go there; give the key of that provider: huggingfacehub_api_token=…"
            )
        return Outgoing(made.url, made.headers, encoded(made.json))  # type: ignore[arg-type]

    def models(self, base: int = 0) -> Outgoing | None:
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
        token = token or token_for(address, keyless=keyless)
        sent = _own_headers(headers, token, address)
        is_sent = any(keys_of_headers(sent)) or any(keys_in_address(address))
        no_key = "" if is_sent else _no_key(httpx.URL(address), keyless)
        return Server(url=address, model=model or named or None, headers=sent, no_key=no_key)
    assert repo_id is not None
    is_hub_token, token = token is None, token or hub_token()
    if token is None and "authorization" not in headers:
        raise ConfigurationError(
            f"{repo_id} needs a Hugging Face token, none found; set HF_TOKEN (https://huggingface.co/settings/tokens)"
        )
    if provider == "auto" or token is None:
        return Server(url=ROUTER, model=repo_id, headers=_own_headers(headers, token))
    if provider not in _known_providers():
        return Server(url=ROUTER, model=f"{repo_id}:{provider}", headers=_own_headers(headers, token))
    return Provider(provider=provider, model=repo_id, token=token, headers=headers, is_hub_token=is_hub_token)


def hub_token() -> str | None:
    """The user's token, from the environment or from `hf auth login`."""
    for name in TOKEN_VARIABLES:
        if token := _key(name):
            return token
    from huggingface_hub import get_token

    return get_token()


def token_for(address: str, *, keyless: bool = False) -> str | None:
    """The key of the environment that a server may see; `keyless`: the user has not named the address."""
    url = httpx.URL(address)
    if is_hub(address):
        return hub_token()
    if url.host in HUB_HOSTS and url.scheme == "http":
        raise ConfigurationError(
            f"{public_address(address)} is not encrypted, and anybody could read the token; write https://"
        )
    key = _key(KEY_VARIABLE)
    if named := _key_hosts():
        return key if any(_is_meant(url, host, keyless) for host in named) else None
    return None if keyless else key


def _key(variable: str) -> str | None:
    return clean_key(os.environ.get(variable, ""), variable)


def clean_key(key: str, name: str) -> str | None:
    """A key without the space around it, `None` for none; raises `ConfigurationError` for one that cannot be sent."""
    key = key.strip()
    if not (key.isascii() and key.isprintable()):
        raise ConfigurationError(f"{name} has a character that no key may have; set it anew")
    return key or None


def _key_hosts() -> list[str]:
    return os.environ.get(HOSTS_VARIABLE, "").replace(",", " ").split()


def _no_key(url: httpx.URL, keyless: bool) -> str:
    """What to do where a server wants a key and was sent none."""
    if not _key(KEY_VARIABLE):
        if url.host.endswith(_OF_ANYBODY):
            return f"no key was sent, HF_TOKEN goes to Hugging Face's own hosts only; for this one set {KEY_VARIABLE}"
        return f"no key was sent; set {'HF_TOKEN' if is_hub(str(url)) else KEY_VARIABLE}"
    if keyless and not _key_hosts():
        scheme = "http://" if url.scheme == "http" and url.host not in _THIS_MACHINE else ""
        return (
            f"no key was sent, {KEY_VARIABLE} goes to the host that you name first and to none out of a file; "
            f"{HOSTS_VARIABLE}={scheme}{url.host} lets it go there, and names all that get it"
        )
    return f"no key was sent, {HOSTS_VARIABLE} does not name {url.host}; add it if the key is meant for it"


def is_hub(address: str) -> bool:
    """Whether an address is one of Hugging Face's own, encrypted."""
    url = httpx.URL(address)
    return url.scheme == "https" and url.host in HUB_HOSTS and url.port is None


def _is_meant(url: httpx.URL, named: str, keyless: bool) -> bool:
    """Whether one of `AGENTKIT_API_KEY_HOSTS` is this one: HOST, HOST:PORT, or with http:// before it."""
    scheme, _, rest = named.rpartition("://")
    try:
        host, port = urlsplit(f"//{rest}").hostname, urlsplit(f"//{rest}").port
    except ValueError:
        raise ConfigurationError(
            f"{HOSTS_VARIABLE}: {named!r} is no host; write HOST or HOST:PORT, with commas"
        ) from None
    if host != url.host or port not in (None, url.port or _PORTS.get(url.scheme)):
        return False
    if scheme:
        return scheme == url.scheme
    return url.scheme == "https" or not keyless or url.host in _THIS_MACHINE  # no file chooses to go unencrypted


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _known_providers() -> set[str]:
    from huggingface_hub.inference._providers import PROVIDERS

    return set(PROVIDERS)


def _own_headers(headers: Mapping[str, str], token: str | None, address: str = "") -> dict[str, str]:
    if token and _is_azure(address) and not token.startswith("eyJ"):  # those of Entra ID are bearer tokens
        return {"user-agent": _AGENT, "api-key": token, **headers}
    authorization = {"authorization": f"Bearer {token}"} if token else {}
    return {"user-agent": _AGENT, **authorization, **headers}


def _is_azure(address: str) -> bool:
    """Whether a key goes in Azure's own header there."""
    parts = urlsplit(address)
    return (parts.hostname or "").endswith(_AZURE_HOSTS) or _AZURE_PATH in parts.path


def _with_json(headers: Mapping[str, str]) -> dict[str, str]:
    return {"content-type": "application/json", **headers}


@lru_cache(maxsize=64)
def _bases(url: str) -> tuple[str, ...]:
    """The addresses below which chat completions may be, wherever in the server's paths `url` points."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    if path.endswith(_CHAT):
        paths = [path.removesuffix(_CHAT)]
    else:
        *_, last = segments = path.split("/")
        if _VERSION.fullmatch(last) or _AZURE_PATH in path:
            paths = [path]
        elif last in ("", "openai") and not any(map(_VERSION.fullmatch, segments)):  # as KServe, Azure and Groq have it
            paths = [f"{path}/v1", path]
        else:
            paths = [path, f"{path}/v1"]
    return tuple(parts._replace(path=path, fragment="").geturl() for path in paths)


@lru_cache(maxsize=64)
def _below(base: str, route: str) -> str:
    parts = urlsplit(base)
    return parts._replace(path=parts.path + route).geturl()


def refuse_other_apis(url: str) -> None:
    """Raise `ConfigurationError` for an address of an API that is not spoken here, with one that may be meant."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    for ending, name, instead in _OTHER_APIS:
        if match := re.search(rf"{ending}\Z", path, re.IGNORECASE):
            meant = public_address(parts._replace(path=path[: match.start()] + instead, query="").geturl())
            raise ConfigurationError(
                f"{path} is an address of {name}, and chat completions are asked for here; give {meant}, "
                "or the server's address that its documentation gives OpenAI's clients"
            )


def encoded(body: Mapping[str, Any]) -> bytes:
    """The body's bytes; half a surrogate pair, which no server takes, becomes a question mark."""
    try:
        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"a request that is no JSON: {error}; check the options") from error
    return text.encode("utf-8", "replace")
