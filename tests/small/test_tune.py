"""The tuner starts, goes on and leaves an adapter that can be read again: by its commands, on a tiny random model."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentkit.models.builtin import builtin_folder

ROOT = Path(__file__).parent.parent.parent
LITTLE = "--tiny --workers 1 --chat 2 --chat-tokens 4 --no-compile --tokens 1536 --pool 32 --note-every 1 --warm-up 2"
LITTLE += " --validation 4 --most-questions 1 --turn-tokens 4 --rate 0.01"

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="the model is computed with it")


def small_model(command: str, *words: str | Path) -> str:
    """What a command prints."""
    line = [sys.executable, "-m", f"small_model.{command}", *map(str, words)]
    return subprocess.run(line, cwd=ROOT / "notebooks", check=True, capture_output=True, text=True).stdout


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.mark.slow
def test_it_tunes_goes_on_and_leaves_an_adapter(tmp_path: Path) -> None:
    questions = ROOT / "tests" / "small" / "questions.jsonl"
    options = ["--tokenizer", builtin_folder(), "--out", tmp_path, "--work", tmp_path, "--questions", questions]
    small_model("tune", *options, "--steps", "5", "--probe", "0.01", "--probe-steps", "2", *LITTLE.split())
    losses = [row["loss"] for row in rows(tmp_path) if "step" in row and "loss" in row]
    assert losses[-1] < math.log(49_152) - 0.1  # better than chance
    counts = json.loads((tmp_path / "counts.json").read_text(encoding="utf-8"))
    assert sum(total for _, total in counts["validation"].values()) > 0
    assert counts["questions"]["turns"] > 0
    assert (tmp_path / "curve.svg").read_text(encoding="utf-8").startswith("<svg")

    small_model(
        "tune", *options, "--steps", "6", "--resume", *LITTLE.split(), "--validation", "0", "--most-questions", "0"
    )
    (*_, trained) = [row for row in rows(tmp_path) if row.get("event") == "trained"]
    assert trained["runs"] == 2
    assert trained["step"] == 6


def test_low_rank_changes_are_read_back_and_shrunk(tmp_path: Path) -> None:
    import torch

    from small_model import base

    config = base.configuration()
    config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.head_dim = 2, 72, 96, 8
    config.vocab_size = 100
    torch.manual_seed(1)
    model = base.load_base(None, config)
    ids = torch.tensor([[3, 14, 15, 92, 65]])
    plain = model(ids).logits
    changed = base.adapt(model, 4, scale=2.0)
    assert len(changed) == 14
    assert torch.equal(model(ids).logits, plain)  # nothing is changed before training
    with torch.no_grad():
        for module in changed.values():
            module.down.copy_(module.down.bfloat16())
            module.up.normal_().copy_(module.up.bfloat16())
    tuned = model(ids).logits
    assert not torch.allclose(tuned, plain, atol=1e-3)

    base.save_parts(changed, tmp_path, 4, 2.0)
    tensors, scale = base.read_parts(tmp_path)
    again = base.adapt(base.load_base(None, config), 4, scale=scale)
    base.put(again, tensors)
    for name, module in changed.items():
        assert torch.equal(module.up, again[name].up)
        assert torch.equal(module.down, again[name].down)
    base.write_gguf(tensors, scale, tmp_path / "adapter.gguf", "f16")
    from_gguf, same_scale = base.read_parts(tmp_path / "adapter.gguf")
    assert same_scale == scale
    assert from_gguf.keys() == tensors.keys()
    for name, values in tensors.items():
        assert torch.allclose(from_gguf[name], values.float(), atol=2e-3)
    whole = base.shrunk(tensors, 4)
    for name, module in changed.items():
        key = f"base_model.model.{name}.lora_"
        product = whole[f"{key}B.weight"].float() @ whole[f"{key}A.weight"].float()
        assert torch.allclose(product, module.up @ module.down, atol=0.2)
    base.merge(model, torch.float32)
    assert torch.allclose(model(ids).logits, tuned, atol=1e-4)


def test_rows_are_put_in_the_order_of_llama_cpp_and_back() -> None:
    import torch

    from small_model.base import permuted

    values = torch.arange(9 * 64 * 3).reshape(576, 3)
    there = permuted("self_attn.q_proj", values)
    assert not torch.equal(there, values)
    assert torch.equal(permuted("self_attn.q_proj", there, back=True), values)
    assert torch.equal(permuted("mlp.up_proj", values), values)


@pytest.mark.slow
def test_it_starts_from_an_adapter_and_computes_a_common_beginning_once(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    options = ["--tokenizer", builtin_folder(), *LITTLE.split(), "--most-questions", "0", "--validation", "0"]
    small_model("tune", *options, "--out", first, "--work", first, "--steps", "4")
    more = ["--out", second, "--work", second, "--steps", "2", "--start", first, "--together", "3", "--rate", "1e-9"]
    small_model("tune", *options, *more)
    begun, went_on = ([row["loss"] for row in rows(folder) if "loss" in row] for folder in (first, second))
    assert went_on[0] < begun[0] - 0.05  # an untrained adapter would begin as the first did


def test_texts_that_begin_alike_are_computed_as_each_alone() -> None:
    import torch

    from small_model import base

    config = base.configuration()
    config.num_hidden_layers, config.hidden_size, config.intermediate_size, config.head_dim = 2, 72, 96, 8
    torch.manual_seed(3)
    model = base.load_base(None, config)
    for layer in base.adapt(model, 4).values():
        torch.nn.init.normal_(layer.up, std=0.1)
    start, rests = torch.arange(20) + 300, [torch.arange(7) + 40, torch.arange(11) * 5, torch.arange(2) + 9]
    with torch.inference_mode():
        packed = base.packed_hidden(model, torch.cat([start, *rests]), len(start), [len(rest) for rest in rests])
        alone = [model.model(input_ids=torch.cat([start, rest])[None]).last_hidden_state[0] for rest in rests]
    expected = torch.cat([alone[0][:20], *(hidden[20:] for hidden in alone)])
    assert torch.allclose(packed, expected, atol=1e-5)
