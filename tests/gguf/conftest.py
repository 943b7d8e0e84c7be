"""Tiny random models in GGUF files, written here: 256 bytes, a few special tokens, two layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from agentkit.models.gguf.backend import GgufBackend

collect_ignore_glob = [] if find_spec("xllamacpp") and find_spec("gguf") else ["test_*.py"]

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ("<s>", "<|im_start|>", "<|im_end|>", "<pad>")
WIDTH, INNER, LAYERS, HEADS, KEPT = 32, 64, 2, 4, 2
Change = Callable[[dict[str, Any]], dict[str, Any]]


def write_model(
    file: Path,
    *,
    architecture: str = "llama",
    template: str | None = CHATML,
    context: int = 1024,
    seed: int = 0,
    others: Sequence[str] = (),
    special: Sequence[str] = (),
    leave_out: Sequence[str] = (),
    bos: int = 0,
    eos: int = 2,
    tensors: Change = lambda tensors: tensors,
    **fields: Any,
) -> Path:
    """A model whose tokens are bytes. Returns the file.

    `others` are added tokens that text can spell, `special` such that it cannot.
    """
    import gguf
    import numpy

    from agentkit.models.gguf.vocabulary import byte_letters

    chance = numpy.random.default_rng(seed)
    tokens = [*SPECIAL, *special, *others, *sorted(byte_letters(), key=byte_letters().__getitem__)]
    kinds = [3] * len([*SPECIAL, *special]) + [4] * len(others) + [1] * 256
    said = {"context_length": context, "embedding_length": WIDTH, "block_count": LAYERS, "feed_forward_length": INNER}
    said |= {"attention.head_count": HEADS, "attention.head_count_kv": KEPT, "rope.dimension_count": WIDTH // HEADS}
    said |= {name.replace("__", "."): value for name, value in fields.items()}
    writer = gguf.GGUFWriter(str(file), architecture)
    for name, value in said.items():
        if name not in leave_out:
            writer.add_uint32(f"{architecture}.{name}", value)
    writer.add_layer_norm_rms_eps(1e-5)
    if "tokens" not in leave_out:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("smollm")
        writer.add_token_list(tokens)
        writer.add_token_types(kinds)
        writer.add_token_merges(["a b"])
        writer.add_bos_token_id(bos)
        writer.add_eos_token_id(eos)
        writer.add_add_bos_token(False)
    if template is not None:
        writer.add_chat_template(template)

    def drawn(*shape: int) -> Any:
        return (chance.standard_normal(shape) * 0.5).astype(numpy.float32)

    ones = numpy.ones(WIDTH, numpy.float32)
    made = {"token_embd.weight": drawn(len(tokens), WIDTH), "output_norm.weight": ones}
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        kept = WIDTH // HEADS * KEPT
        made |= {f"{block}{name}_norm.weight": ones for name in ("attn", "ffn")}
        made |= {f"{block}attn_{name}.weight": drawn(WIDTH, WIDTH) for name in ("q", "output")}
        made |= {f"{block}attn_{name}.weight": drawn(kept, WIDTH) for name in ("k", "v")}
        made |= {f"{block}ffn_{name}.weight": drawn(INNER, WIDTH) for name in ("gate", "up")}
        made[f"{block}ffn_down.weight"] = drawn(WIDTH, INNER)
    _write_all(writer, tensors(made))
    return file


def write_adapter(
    file: Path, *, architecture: str = "llama", width: int = WIDTH, weight: str = "blk.0.attn_q.weight", seed: int = 7
) -> Path:
    """A LoRA adapter of one weight, which changes it much. Returns the file."""
    import gguf
    import numpy

    chance = numpy.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(file), architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", 16.0)
    shapes = {"a": (4, width), "b": (width, 4)}
    _write_all(writer, {f"{weight}.lora_{part}": _normal(chance, shape) for part, shape in shapes.items()})
    return file


def _normal(chance: Any, shape: tuple[int, ...]) -> Any:
    return chance.standard_normal(shape).astype("float32")


def _write_all(writer: Any, tensors: Mapping[str, Any]) -> None:
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


ENDLESS: dict[str, Any] = {"prompt": "x", "n_predict": 90_000, "ignore_eos": True}
"""What llama.cpp is asked for a completion that takes longer than anybody waits."""


@pytest.fixture(scope="session")
def endless(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with room for it."""
    return write_model(tmp_path_factory.mktemp("gguf") / "endless.gguf", context=100_000)


@pytest.fixture(scope="session")
def backend(file: Path) -> Iterator[GgufBackend]:
    from agentkit.models.gguf.backend import GgufBackend

    made = GgufBackend(file)
    yield made
    made.close()
