"""A model by its spec."""

from __future__ import annotations

from typing import Any

import pytest

from agentkit import chat_model
from agentkit.errors import ConfigurationError


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("builtn", {}, "did you mean builtin"),
        ("Qwen/Qwen3-4B", {}, "did you mean hf:Qwen/Qwen3-4B or local:Qwen/Qwen3-4B"),
        ("local:./nowhere", {}, "no folder ./nowhere"),
        ("http://127.0.0.1:9", {"max_new_token": 3}, "did you mean 'max_new_tokens'"),
        ("nobody:model", {}, "nobody"),
    ],
)
def test_a_spec_that_cannot_be_meant_is_refused(spec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        chat_model(spec, **options)
