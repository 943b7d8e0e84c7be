"""The training starts, goes on and ends in a model folder that the evaluation measures; all by its commands."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentkit.models.builtin import builtin_folder
from small_model.curve import learning_curve

ROOT = Path(__file__).parent.parent.parent
LITTLE = ["--tokens", "400", "--validation", "4", "--processes", "1", "--no-compile", "--nice", "0"]


def small_model(command: str, *words: str | Path) -> str:
    """What a command prints."""
    line = [sys.executable, "-m", f"small_model.{command}", *map(str, words)]
    return subprocess.run(line, cwd=ROOT / "notebooks", check=True, capture_output=True, text=True).stdout


def state(folder: Path) -> dict[str, Any]:
    import torch

    saved: dict[str, Any] = torch.load(folder / "checkpoint.pt", weights_only=False)["state"]
    return saved


@pytest.mark.slow
def test_it_trains_goes_on_and_is_measured(tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):  # making them takes minutes
        shutil.copy(builtin_folder() / name, export)

    printed = small_model("train", "--out", tmp_path, "--minutes", "0.02", *LITTLE)
    assert re.search(r"validation: \d\.\d{3} of generated conversations", printed)
    begun = state(tmp_path)
    assert begun["step"] > 0

    minutes = begun["seconds"] / 60 + 0.02
    small_model("train", "--out", tmp_path, "--resume", "--minutes", str(minutes), *LITTLE)
    resumed = state(tmp_path)
    assert resumed["step"] > begun["step"]
    assert resumed["runs"] == 2

    numbers = tmp_path / "evaluation.json"
    cases = ROOT / "tests" / "builtin" / "heldout.jsonl"
    few = ["--kinds", "calculator", "--every", "60", "--constrain", "copy"]
    small_model("evaluate", cases, "--model", f"local:{export}", *few, "--json", numbers)
    (measured,) = json.loads(numbers.read_text(encoding="utf-8")).values()
    assert measured["right"]["calculator"][1] > 0
    assert measured["ungrounded"] == 0  # whatever an untrained model picks is copied


@pytest.mark.slow
def test_a_tokenizer_is_made_of_generated_conversations() -> None:
    from small_model.tokenizer import build_tokenizer

    made = build_tokenizer(seed=1, sample=300)
    text = "Thought: I need to look up 12 Łódź"
    assert made.decode(made(text, add_special_tokens=False).input_ids) == text


def test_the_shipped_learning_curve_is_that_of_the_log() -> None:
    folder = builtin_folder()
    assert (folder / "learning_curve.svg").read_text(encoding="utf-8") == learning_curve(folder / "log.csv")
    with (folder / "log.csv").open(newline="") as file:
        assert list(next(csv.DictReader(file))) == ["minutes", "step", "tokens", "loss", "rate"]
