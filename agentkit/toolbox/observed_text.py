"""What of a tool's value reaches the run: without secrets, and no longer than the run allows."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agentkit.events import Observation, Source
from agentkit.secrets import Secrets
from agentkit.toolbox.approximate_tokens import cut_to_tokens


def admitted(observation: Observation, secrets: Secrets, *, max_tokens: int | None = None) -> Observation:
    """The observation with its secrets redacted and its text cut; what is returned to the caller is not cut."""
    value = _redacted(observation.value, secrets)
    if max_tokens is not None and not observation.return_direct:
        value = _cut(value, max_tokens)
    if value is observation.value and not observation.sources and not observation.readings:
        return observation
    sources = tuple(Source(secrets.scrub_text(s.title), secrets.scrub_text(s.link)) for s in observation.sources)
    readings = tuple(map(secrets.scrub_text, observation.readings))
    return replace(observation, value=value, sources=sources, readings=readings)


def _redacted(value: Any, secrets: Secrets) -> Any:
    """The value itself where it holds no secret, else its text without them."""
    text = value if isinstance(value, str) else str(value)
    scrubbed = secrets.scrub_text(text)
    return value if scrubbed == text else scrubbed


def _cut(value: Any, max_tokens: int) -> Any:
    text = value if isinstance(value, str) else str(value)
    if len(text) <= max_tokens or (kept := cut_to_tokens(text, max_tokens)) == text:
        return value
    cut = len(text) - len(kept.removesuffix("..."))
    return f"{kept}\n[{cut:,} of {len(text):,} characters were cut here; ask for less, or for one part]"
