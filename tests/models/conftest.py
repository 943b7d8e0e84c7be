"""Tiny random models, built here: no download, and every architecture is a few kilobytes."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from agentkit.models.backend import Chunk
from agentkit.models.reply import ReplyReader
from agentkit.react_json.marks import HERMES, CallSyntax

collect_ignore_glob = [] if find_spec("torch") else ["test_*.py"]  # models in process are computed with it

CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SPECIAL = ["<s>", "<|im_start|>", "<|im_end|>", "<pad>"]
WORDS = (
    "Thought: I need to look this up. I now know the final answer Final Answer: Action: ```json "
    '{"action": "Search", "action_input": "Calculator"} ``` Observation: Answer: '
    "What is 25 raised to the 0.43 power? Who is the girlfriend of"
)


def read_reply(
    pieces: Iterable[str], syntax: CallSyntax = HERMES, tools: Sequence[dict[str, Any]] = ()
) -> tuple[str, str, list[tuple[str, str]]]:
    """The thought, the text and the calls of a reply as it comes: each a name, and arguments as they are written."""
    reader = ReplyReader(calls=syntax, tools=tools)
    chunks = [*(reader.read(Chunk(text=piece)) for piece in pieces), reader.rest()]
    calls: list[tuple[str, str]] = []
    for piece in (piece for chunk in chunks for piece in chunk.tool_calls):
        if piece.name:
            assert piece.index == len(calls)
            calls.append((piece.name, ""))
        name, arguments = calls[piece.index]
        calls[piece.index] = name, arguments + piece.arguments
    return "".join(chunk.thinking for chunk in chunks), "".join(chunk.text for chunk in chunks), calls


def hub(folder: Path, model: Path, repository: str, revision: str = "main") -> None:
    """A cache of Hugging Face's in which a repository has these files."""
    place = folder / f"models--{repository.replace('/', '--')}"
    commit = f"{len(list(place.glob('refs/*'))):040x}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / revision).write_text(commit)
    shutil.copytree(model, place / "snapshots" / commit)


def build_tokenizer() -> Any:
    """A byte-level BPE of a few hundred tokens, with ChatML."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([WORDS] * 4, trainer)
    bos = (SPECIAL[0], tokenizer.token_to_id(SPECIAL[0]))
    tokenizer.post_processor = processors.TemplateProcessing(single=f"{bos[0]} $A", special_tokens=[bos])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="<|im_end|>", pad_token="<pad>"
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    fast.chat_template = CHATML
    return fast


def build_llama(tokenizer: Any, *, seed: int = 0, **changes: Any) -> Any:
    """A random Llama of two layers."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "initializer_range": 0.5,
    }
    return LlamaForCausalLM(LlamaConfig(**{**shape, **changes})).eval()


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    tokenizer = build_tokenizer()
    build_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
