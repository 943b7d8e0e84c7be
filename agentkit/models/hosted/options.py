"""The options of hosted models as people write them, and the model they make."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

import httpx

from agentkit.errors import ConfigurationError, described, in_one_line, refuse_unknown, short_repr
from agentkit.models.hosted.body import GENERATION, Generation, generation_options
from agentkit.models.hosted.model import HostedModel, Prices
from agentkit.models.hosted.places import place
from agentkit.option_kinds import check_kinds
from agentkit.retry import RetryPolicy
from agentkit.secrets import basic_authorization, public_address
from agentkit.toml_file import read_toml

HOSTED = "a hosted model"
SHORT_NAMES = {"api_key": "huggingfacehub_api_token"}
_EXPECTED = "expected an address like http://HOST:PORT/v1"
_HOST = re.compile(r"[^\s%]+")
_HEADER = re.compile(r"[\t\x20-\x7e]*")
_THE_CONNECTIONS = ("host", "connection", "content-length", "transfer-encoding", "upgrade", "te", "trailer")
"""A Host of one's own would be led elsewhere with the key, by a server that serves many."""
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
    timeout: float = 120.0
    connect_timeout: float = 10.0
    total_timeout: float | None = 600.0
    max_retries: int = 4
    huggingfacehub_api_token: str | None = None
    server_kwargs: Mapping[str, Any] | None = None
    model_kwargs: Mapping[str, Any] | None = None
    prices: Mapping[str, Any] | str | Path | None = None
    notice: Callable[[str], None] | None = None


def lifted(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options with the generation parameters among `model_kwargs` beside the others."""
    generation, rest = generation_options(options.get("model_kwargs") or {})
    return {**generation, **options, "model_kwargs": rest}


def hosted_model(**options: Any) -> HostedModel:
    """A hosted model, by the fields of `HostedOptions`."""
    options = {SHORT_NAMES.get(name, name): value for name, value in options.items()}
    refuse_unknown(options, [field.name for field in fields(HostedOptions)], what=HOSTED)
    kinds = get_type_hints(HostedOptions)
    check_kinds(options, kinds, what=HOSTED)
    check_kinds(options := lifted(options), kinds, what=HOSTED)
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
    headers = _headers(options.server_kwargs or {})
    if endpoint_url is not None:
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
            token=token or options.huggingfacehub_api_token,
            headers=headers,
        ),
        defaults={name: value for name, value in generation.items() if value is not None},
        extra=options.model_kwargs or {},
        stop=tuple(options.stop_sequences),
        streaming=options.streaming,
        connect_s=options.connect_timeout,
        read_s=options.timeout,
        retries=RetryPolicy(tries=options.max_retries + 1, total_s=options.total_timeout),
        prices=read_prices(options.prices),
        notice=options.notice,
    )


def _check_numbers(options: HostedOptions) -> None:
    for name in ("timeout", "connect_timeout", "total_timeout"):
        value = getattr(options, name)
        is_seconds = type(value) in (int, float) and 0 < value < math.inf
        if not is_seconds and not (value is None and name == "total_timeout"):
            raise ConfigurationError(f"{name} is seconds, more than 0, not {short_repr(value)}")
    if type(options.max_retries) is not int or options.max_retries < 0:
        raise ConfigurationError(f"max_retries is a whole number of at least 0, not {short_repr(options.max_retries)}")


def _headers(server_kwargs: Mapping[str, Any]) -> dict[str, str]:
    refuse_unknown(server_kwargs, ("headers",), what="server_kwargs")
    check_kinds(server_kwargs, {"headers": Mapping[str, Any] | None}, what="server_kwargs")
    headers = {str(name).lower(): str(value) for name, value in (server_kwargs.get("headers") or {}).items()}
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
