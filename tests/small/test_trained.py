"""What the last training of `small` brought: complete, with a card whose numbers are those that were measured."""

from __future__ import annotations

import json

from agentkit.models.local.gguf_file import read_gguf
from agentkit.models.small import adapter_file
from agentkit.react_json.prompt import DEFAULT_PROMPT
from small_model.card import TRAINED, small_card
from small_model.dialogue import prompt_sha256


def test_the_folder_is_small_and_complete() -> None:
    assert {path.name for path in TRAINED.iterdir()} == {
        *("adapter_config.json", "counts.json", "evaluation.json", "log.jsonl")
    }
    assert adapter_file().stat().st_size <= 12_000_000
    assert adapter_file().read_bytes()[:4] == b"GGUF"


def test_the_adapter_learned_the_prompt_as_it_is_now() -> None:
    """It hardly writes a turn at another text: after a change of the prompt, train it again (notebooks/small_model)."""
    fields = read_gguf(adapter_file()).fields
    assert fields["agentkit.prompt"] == DEFAULT_PROMPT
    assert fields["agentkit.prompt_sha256"] == prompt_sha256()


def test_the_card_has_the_numbers_that_were_measured() -> None:
    assert adapter_file().with_name("README.md").read_text(encoding="utf-8") == small_card()


def test_the_numbers_are_of_all_questions_or_of_a_share() -> None:
    measured = json.loads((TRAINED / "evaluation.json").read_text(encoding="utf-8"))
    counts = {title: sum(total for _, total in found["right"].values()) for title, found in measured.items()}
    assert counts == {"`small`": 360, "untuned": 360, "`builtin`": 300}
    assert all(right <= total for found in measured.values() for right, total in found["right"].values())
