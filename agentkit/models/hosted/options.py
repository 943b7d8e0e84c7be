"""The options of hosted models as people write them, and the model they make."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import httpx

from agentkit.errors import ConfigurationError, described, did_you_mean, in_one_line, refuse_unknown, short_repr
from agentkit.models.hosted.body import GENERATION, Generation, generation_options
from agentkit.models.hosted.model import HostedModel, Prices
from agentkit.models.hosted.places import clean_key, keys_of_headers, place, refuse_other_apis
from agentkit.option_kinds import check_kinds, expected, fits, without_limits
from agentkit.retry import RetryPolicy
from agentkit.secrets import KeysInUse, basic_authorization, keys_in, keys_in_address, public_address
from agentkit.toml_file import read_toml

HOSTED = "a hosted model"
OTHER_NAMES = {
    **dict.fromkeys(("api_key", "token", "hf_token", "openai_api_key"), "huggingfacehub_api_token"),
    **dict.fromkeys(("base_url", "api_base", "openai_api_base", "azure_endpoint"), "endpoint_url"),
    **dict.fromkeys(("default_headers", "extra_headers"), "headers"),
    **dict.fromkeys(("max_tokens", "max_completion_tokens"), "max_new_tokens"),
    "request_timeout": "timeout",
    "model_name": "model",
    "stop": "stop_sequences",
}
"""What other clients call an option."""
_OF_A_CALL = "it goes into the call, as model.invoke(…, {name}=…)"
_CONNECTIONS = "the connections are made here; proxy, verify, headers and timeout say how"
_ELSEWHERE = {
    **dict.fromkeys(("tools", "tool_choice", "response_format", "logprobs", "top_logprobs"), _OF_A_CALL),
    **dict.fromkeys(("http_client", "http_async_client", "client", "async_client", "session"), _CONNECTIONS),
    **dict.fromkeys(
        ("ca_file", "ca_bundle", "cert_file", "ssl_verify", "verify_ssl", "cert", "ssl_context"), "give verify=FILE"
    ),
    **dict.fromkeys(("proxies", "http_proxy", "https_proxy", "openai_proxy"), "give proxy=http://HOST:PORT"),
    **dict.fromkeys(("organization", "openai_organization"), 'give headers={{"OpenAI-Organization": …}}'),
    **dict.fromkeys(("default_query", "extra_query"), "it stands in the address: …?NAME=VALUE"),
    **dict.fromkeys(("azure_deployment", "deployment_name"), "the address has it: …/openai/deployments/DEPLOYMENT"),
    **dict.fromkeys(("trust_env", "mounts"), "NO_PROXY=HOST goes past the environment's proxies, proxy=… names one"),
    **dict.fromkeys(("limits", "max_connections", "follow_redirects", "transport", "event_hooks"), _CONNECTIONS),
    **dict.fromkeys(
        ("callbacks", "cache", "rate_limiter", "tags", "disable_streaming"), "give it to ChatHuggingFace(llm=…)"
    ),
    **dict.fromkeys(("api_version", "openai_api_version"), "it stands in the address: …?api-version=…"),
    "http2": "requests go over HTTP/1.1, each on a connection of its own; leave it out",
    "n": "one reply is asked for; leave it out",
}
"""Where what people look for among the options goes."""
LONGEST_SILENCE_S = 24 * 3600.0  # where there is no limit but that of all
_EXPECTED = "expected an address like http://HOST:PORT/v1"
_HOST = re.compile(r"[^\s%]+")
_HEADER_NAME = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, 5.6.2
_HEADER = re.compile(r"[\t\x20-\x7e]*")
_THE_CONNECTIONS = ("host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer")
"""A Host of one's own would be led elsewhere with the key, by a server that serves many."""
MAX_RETRIES = 4
TASKS = ("text-generation", "conversational", "text2text-generation", "image-text-to-text", "any-to-any")


@dataclass(kw_only=True)
class HostedOptions(Generation):
    """What `HuggingFaceEndpoint` and `hosted_model` take: declared here once. Timeouts are in seconds."""

    repo_id: str | None = None
    endpoint_url: str | None = None
    model: str | None = None
    provider: str = "auto"
    task: str | None = None
    stop_sequences: Sequence[str] = ()
    streaming: bool = False
    timeout: float | None = 120.0
    connect_timeout: float = 10.0
    total_timeout: float | None = 600.0
    max_retries: int | None = None
    huggingfacehub_api_token: str | None = None
    headers: Mapping[str, Any] | None = None
    extra_body: Mapping[str, Any] | None = None
    reasoning_effort: str | None = None
    chat_template_kwargs: Mapping[str, Any] | None = None
    proxy: str | None = None
    verify: bool | str | Path = True
    server_kwargs: Mapping[str, Any] | None = None
    model_kwargs: Mapping[str, Any] | None = None
    prices: Mapping[str, Any] | str | Path | None = None
    notice: Callable[[str], None] | None = None


def lifted(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the generation parameters among `model_kwargs` beside the others."""
    generation, rest = generation_options(options.get("model_kwargs") or {})
    return {**generation, **options, "model_kwargs": rest}


def named(options: Mapping[str, Any], known: Collection[str]) -> dict[str, Any]:
    """The options by the names that are used here; raises `ConfigurationError` for one that is none, and says where
    it goes."""
    found: dict[str, Any] = {}
    for given, value in options.items():
        name = OTHER_NAMES.get(given, given)
        if name in found:
            raise ConfigurationError(f"{name} is given twice, once as {given}; leave one of them out")
        if name not in known:
            where = _ELSEWHERE.get(name)
            advice = (
                f"; {where.format(name=name)}" if where else f"{did_you_mean(name, [*known, *OTHER_NAMES])}; {_IN_BODY}"
            )
            raise ConfigurationError(f"unknown option {name!r} for {HOSTED}{advice.replace('?; ', '? ')}")
        found[name] = [value] if name == "stop_sequences" and isinstance(value, str) else value
    return found


def check_options(options: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` for a value that is not of its option's type; what may be a key is not shown."""
    kinds = get_type_hints(HostedOptions)
    for name, value in options.items():
        if name in kinds and not fits(value, kinds[name]):
            is_hidden = name in _MAY_HOLD_KEYS or isinstance(value, str | bytes)
            seen = f"of type {type(value).__name__}" if is_hidden else described(value)
            advice = f"; {_TIMES}" if name.endswith("timeout") else ""
            raise ConfigurationError(f"{name} is {expected(kinds[name])}, not {seen} (an option of {HOSTED}){advice}")


_IN_BODY = "what only the server knows goes into extra_body"
_TIMES = "timeout is for the server's silence, connect_timeout and total_timeout are for what they say, in seconds"
_MAY_HOLD_KEYS = ("huggingfacehub_api_token", "endpoint_url", "headers", "server_kwargs", "proxy", "extra_body")


def hosted_model(**options: Any) -> HostedModel:
    """A hosted model, by the fields of `HostedOptions`."""
    options = named(options, [field.name for field in fields(HostedOptions)])
    options = without_limits(options, get_type_hints(HostedOptions))
    check_options(options)
    check_options(options := lifted(options))
    return model_of(HostedOptions(**options))


def model_of(options: HostedOptions, *, token: str | None = None) -> HostedModel:
    """The model that these options make; `token` is the one among them where it is hidden there."""
    repo_id, endpoint_url, model = options.repo_id, options.endpoint_url, options.model
    if model is not None and endpoint_url is None and repo_id is None:
        repo_id, endpoint_url = (None, model) if "://" in model else (model, None)
        model = None
    if (repo_id is None) == (endpoint_url is None):
        raise ConfigurationError("expected either repo_id or endpoint_url; give one of them")
    if options.task not in (None, *TASKS):
        raise ConfigurationError(f"expected a task of {', '.join(TASKS)}, saw {options.task!r}")
    _check_numbers(options)
    _check_proxy(options.proxy)
    headers = _headers({**(options.server_kwargs or {})}, options.headers or {})
    key, extra = clean_key(token or options.huggingfacehub_api_token or "", "api_key"), _extra(options)
    keys = {key or "", *keys_of_headers(headers), *keys_in(extra)}
    keys.update(*(keys_in_address(address) for address in (endpoint_url, options.proxy) if address))
    if endpoint_url is not None:
        refuse_other_apis(endpoint_url)
        endpoint_url, user = _without_user(endpoint_url)
        headers = {**user, **headers}
    address = public_address(endpoint_url or "")
    generation = {name: getattr(options, name) for name in GENERATION}
    return HostedModel(
        model_id=repo_id or model or address,
        identity=f"{repo_id} {options.provider}" if repo_id else " ".join(filter(None, [address, model])),
        is_named=bool(repo_id or model or "#" in address),
        locate=partial(
            place,
            repo_id=repo_id,
            endpoint_url=endpoint_url,
            model=model,
            provider=options.provider,
            token=key,
            headers=headers,
        ),
        keys=KeysInUse(keys),
        defaults={name: value for name, value in generation.items() if value is not None},
        extra=extra,
        stop=tuple(options.stop_sequences),
        streaming=options.streaming,
        connect_s=options.connect_timeout,
        read_s=LONGEST_SILENCE_S if options.timeout is None else options.timeout,
        retries=RetryPolicy(tries=_retries(options) + 1, total_s=options.total_timeout),
        insists=options.max_retries is not None,
        proxy=options.proxy,
        verify=options.verify,
        prices=read_prices(options.prices),
        notice=options.notice,
    )


def _retries(options: HostedOptions) -> int:
    return MAX_RETRIES if options.max_retries is None else options.max_retries


def _check_numbers(options: HostedOptions) -> None:
    generation_options({name: getattr(options, name) for name in GENERATION})
    for name in ("timeout", "connect_timeout", "total_timeout"):
        value = getattr(options, name)
        is_seconds = type(value) in (int, float) and 0 < value < math.inf
        if not is_seconds and not (value is None and name != "connect_timeout"):
            raise ConfigurationError(f"{name} is seconds, more than 0, not {short_repr(value)}")
    if type(_retries(options)) is not int or _retries(options) < 0:
        raise ConfigurationError(f"max_retries is a whole number of at least 0, not {short_repr(options.max_retries)}")


def _check_proxy(proxy: str | None) -> None:
    """Raise `ConfigurationError` for a proxy that cannot be asked, without its text: it may hold a password."""
    with suppress(ValueError, httpx.InvalidURL):
        if proxy is None or httpx.Proxy(proxy).url.host:
            return
    raise ConfigurationError(
        "proxy cannot be used; write http://HOST:PORT, and what is no letter or digit of a password as %2F"
    )


def _extra(options: HostedOptions) -> dict[str, Any]:
    """What goes into the body as it is."""
    named = {"reasoning_effort": options.reasoning_effort, "chat_template_kwargs": options.chat_template_kwargs}
    given = {name: value for name, value in named.items() if value is not None}
    return {**given, **(options.model_kwargs or {}), **(options.extra_body or {})}


def _headers(server_kwargs: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, str]:
    refuse_unknown(server_kwargs, ("headers",), what="server_kwargs")
    check_kinds(server_kwargs, {"headers": Mapping[str, Any] | None}, what="server_kwargs")
    together = {**(server_kwargs.get("headers") or {}), **given}
    for name, value in together.items():
        if value is None:
            raise ConfigurationError(f"the header {name} has no value; give it one, or leave it out")
        if not _HEADER_NAME.fullmatch(str(name)):
            raise ConfigurationError(f"{short_repr(name)} is no header's name; write it as X-Name, without spaces")
    headers = {str(name).lower(): str(value) for name, value in together.items()}
    for name, value in headers.items():
        if name in _THE_CONNECTIONS:
            raise ConfigurationError(f"the header {name} is the connection's own; leave it out")
        if not _HEADER.fullmatch(value):
            raise ConfigurationError(f"the header {name} has a character that no header may have; mend its value")
    return headers


def _without_user(url: str) -> tuple[str, dict[str, str]]:
    """The address without what must not be shown, which becomes a header."""
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and _HOST.fullmatch(httpx.URL(url).host) and parts.port != 0
    except (ValueError, httpx.InvalidURL):
        is_address = False
    if not is_address and "@" in url:  # what was seen may be half a password
        raise ConfigurationError(f"{_EXPECTED}; write / # ? @ in a password as %2F %23 %3F %40")
    if not is_address:
        raise ConfigurationError(f"{_EXPECTED}, saw {url.partition('?')[0]!r}")
    authorization = basic_authorization(url)
    return (public_address(url, query=True) if authorization else url), authorization


_PRICES = 'expected prices as {"ORG/NAME": (dollars per 1M prompt tokens, per 1M completion tokens)}'


def read_prices(given: Mapping[str, Any] | str | Path | None) -> Prices:
    """Prices from a mapping, or from a TOML file of lines like `"ORG/NAME" = [0.5, 1.5]`."""
    if given is None:
        return {}
    if isinstance(given, str | Path):
        try:
            given = read_toml(Path(given).expanduser())
        except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: of a user who has no home
            raise ConfigurationError(f"prices {given}: expected a TOML file ({in_one_line(error, 300)})") from error
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{_PRICES}, saw {described(given)}")
    return {name: _price(name, value) for name, value in given.items()}


def _price(name: str, value: Any) -> tuple[float, float]:
    with suppress(TypeError, ValueError, OverflowError):
        prompt, completion = value
        if all(type(one) in (int, float) and 0 <= one < math.inf for one in (prompt, completion)):
            return float(prompt), float(completion)
    raise ConfigurationError(f"{_PRICES}, saw {short_repr(value)} for {name}")
