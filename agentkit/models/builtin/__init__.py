"""The built-in model: a small Llama that calculates and looks things up, in the folder `model/`."""

from __future__ import annotations

from pathlib import Path


def builtin_folder() -> Path:
    """Where the weights, the tokenizer, the chat template and the model card lie."""
    return Path(__file__).parent / "model"
