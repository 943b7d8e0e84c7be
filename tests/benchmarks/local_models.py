"""Random models and tokenizers of any size, for the benchmarks of local decoding."""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from typing import Any

SPECIAL = ["<s>", "</s>", "<|im_start|>", "<|im_end|>"]
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer(vocabulary: int) -> Any:
    """A byte-level BPE trained on made-up words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    draw = random.Random(0)
    syllables = [a + b for a in "bcdfghjklmnprstvwz" for b in ("a", "e", "i", "o", "u", "an", "er", "is", "ol")]
    words = {"".join(draw.choices(syllables, k=draw.randint(1, 4))) for _ in range(2 * vocabulary)}
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(" ".join(words).split(), trainer)
    backend.train_from_iterator((" " + word for word in sorted(words)), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = CHATML
    return fast


def llama(vocabulary: int, *, hidden: int = 768, layers: int = 12) -> Any:
    """A random Llama; the defaults with a vocabulary of 32,000 make about 100 million parameters."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=hidden,
        intermediate_size=8 * hidden // 3,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 64,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=1,
    )
    return LlamaForCausalLM(config).eval()


def add_size(parser: argparse.ArgumentParser) -> None:
    """The options that say which random Llama, where and in which numbers: `--hidden 2048 --layers 24` has 1.3 billion
    parameters."""
    parser.add_argument("--hidden", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--quantization", choices=["nf4", "int8"])


def chosen_llama(options: argparse.Namespace, vocabulary: int) -> Any:
    """The Llama that the options of `add_size` describe."""
    import torch

    from agentkit.models import HuggingFacePipeline

    dtype = getattr(torch, options.dtype)
    with torch.device(options.device):
        model = llama(vocabulary, hidden=options.hidden, layers=options.layers).to(dtype)
    million = sum(p.numel() for p in model.parameters()) / 1e6
    if options.quantization:
        with tempfile.TemporaryDirectory() as folder:
            model.save_pretrained(folder)
            tokenizer(1_000).save_pretrained(folder)
            how = {"quantization": options.quantization, "dtype": dtype, "device_map": {"": options.device}}
            model = HuggingFacePipeline.from_model_id(folder, **how).model
    where = torch.cuda.get_device_name() if "cuda" in options.device else options.device
    print(f"{million:.0f}M parameters in {options.quantization or options.dtype} on {where}", flush=True)
    return model


def seconds(work: Callable[[], Any]) -> tuple[float, float]:
    """Processor time of `work`, which a busy machine distorts less, and time by the clock."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def text_of(tokenizer: Any, tokens: int, seed: int) -> str:
    """Words that encode to about so many tokens."""
    draw = random.Random(seed)
    text = str(tokenizer.decode([draw.randrange(300, len(tokenizer)) for _ in range(2 * tokens)]))
    return str(tokenizer.decode(tokenizer(text, add_special_tokens=False)["input_ids"][:tokens]))
