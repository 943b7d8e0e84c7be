"""What a reply costs: as its server says, else by a table of the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.events import Usage

Prices = Mapping[str, tuple[float, float]]
"""From a model's name to US dollars per million tokens, of the prompt and of the completion."""

EXPECTED = 'expected prices as {"ORG/NAME": (dollars per 1M prompt tokens, per 1M completion tokens)}'
_IN_USAGE = ("cost", "estimated_cost", "total_cost")  # OpenRouter, DeepInfra, Perplexity
_IN_HEADERS = ("x-litellm-response-cost",)


def read_prices(given: Mapping[str, Any] | str | Path | None) -> Prices:
    """Prices from a mapping, or from a TOML file of lines like `"ORG/NAME" = [0.5, 1.5]`."""
    if given is None:
        return {}
    if isinstance(given, str | Path):
        try:
            given = tomllib.loads(Path(given).expanduser().read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigurationError(f"prices {given}: expected a TOML file ({error})") from error
    return {name: _pair(name, value) for name, value in given.items()}


def _pair(name: str, value: Any) -> tuple[float, float]:
    try:
        prompt, completion = value
        return float(prompt), float(completion)
    except (TypeError, ValueError):
        raise ConfigurationError(f"{EXPECTED}, saw {value!r} for {name}") from None


def stated_usd(usage: Mapping[str, Any], headers: Mapping[str, str]) -> float | None:
    """What the server says the reply cost."""
    for given in (*(usage.get(name) for name in _IN_USAGE), *(headers.get(name) for name in _IN_HEADERS)):
        if isinstance(given, Mapping):
            given = given.get("total_cost")
        try:
            if given is not None:
                return float(given)
        except (TypeError, ValueError):
            continue
    return None


def listed_usd(prices: Prices, names: Iterable[str | None], usage: Usage) -> float | None:
    """What the table says, under the first of `names` it has."""
    for name in names:
        if name is not None and name in prices:
            prompt, completion = prices[name]
            return (usage.prompt_tokens * prompt + usage.completion_tokens * completion) / 1e6
    return None
