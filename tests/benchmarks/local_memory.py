"""Memory of a long conversation on a random Llama, and of many of them.

    python tests/benchmarks/local_memory.py [--runs 100] [--layers 12] [--tokens 30]

Prints the peak resident memory of conversations of 1, 5 and 15 steps beside what their tokens' keys and values take,
which must stay in proportion; then the resident memory while new conversations of one step come, which must stop
growing once as many are kept as ever will be. Reads /proc: Linux.
"""

from __future__ import annotations

import argparse
import gc
from pathlib import Path
from typing import Any

import torch
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from local_models import llama, text_of, tokenizer

from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.local.prefix_cache import MAX_CONVERSATIONS

SYSTEM, OBSERVATION = 456, 121
MIB = 2**20


def memory_mib(name: str) -> float:
    """A line of /proc/self/status: VmRSS is resident now, VmHWM was at most since `forget_peak`."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def forget_peak() -> None:
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


class Bench:
    """One model, and conversations that differ by their number."""

    def __init__(self, layers: int, tokens: int) -> None:
        self.words = tokenizer(32_000)
        self.model = llama(32_000, layers=layers)
        self.tokens = tokens
        self.chat = ChatHuggingFace(llm=HuggingFacePipeline(model=self.model, tokenizer=self.words))
        self.observations = [f"Observation: {text_of(self.words, OBSERVATION, n)}" for n in range(15)]

    def converse(self, steps: int, number: int = 0) -> int:
        """The prompt tokens of the last of `steps` turns."""
        system = SystemMessage(text_of(self.words, SYSTEM, number))
        messages: list[Any] = [system, HumanMessage("What is it?")]
        usage: Any = None
        for observation in self.observations[:steps]:
            reply = self.chat.invoke(messages, max_new_tokens=self.tokens, do_sample=False)
            messages += [AIMessage(str(reply.content)), HumanMessage(observation)]
            usage = reply.usage_metadata
        return int(usage["total_tokens"])

    @property
    def bytes_per_token(self) -> int:
        config = self.model.config
        heads, size = config.num_key_value_heads, config.head_dim
        return int(2 * config.num_hidden_layers * heads * size * self.model.dtype.itemsize)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    bench = Bench(options.layers, options.tokens)
    kept = bench.chat.llm.local.prefixes
    bench.converse(1)
    for steps in (1, 5, 15):
        kept.clear()
        forget_peak()
        start = memory_mib("VmRSS")
        total = bench.converse(steps)
        states = total * bench.bytes_per_token / MIB
        more = memory_mib("VmHWM") - start
        print(f"{steps:3} steps, {total:5} tokens: {more:6.0f} MiB more, keys and values are {states:6.0f} MiB")
    kept.clear()
    print(f"at most {MAX_CONVERSATIONS} conversations are kept")
    for number in range(options.runs):
        bench.converse(1, number)
        if (number + 1) % 10 == 0:
            gc.collect()
            now = memory_mib("VmRSS")
            print(f"{number + 1:4} runs: resident {now:7.0f} MiB, {len(kept.entries)} kept with {kept.tokens} tokens")


if __name__ == "__main__":
    main()
