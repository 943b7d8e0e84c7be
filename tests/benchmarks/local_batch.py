"""Eight questions together beside one by one, through `AgentExecutor.batch` on a random Llama.

    python tests/benchmarks/local_batch.py [--rows 8] [--steps 3] [--tokens 60] [--threads 1] [--rounds 3]
        [--hidden 768] [--layers 12] [--device cpu] [--dtype float32] [--quantization nf4]

Prints what a shared step costs by its number of rows (the most that decoding together can give), then CPU and wall
seconds of the runs (medians of interleaved rounds), forwards of the model, and throughput as the ratio of seconds. Two
kinds of turn: free text (which no parser takes, so the loop asks again, and each turn is as long as it may be), and
actions held to the grammar.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from local_models import add_size, chosen_llama, text_of, tokenizer

from agentkit import AgentExecutor
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.local.attention_cache import BatchCache
from agentkit.models.local.forward import Forward
from agentkit.tool import Tool


class Bench:
    """One model and as many questions as rows."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.words = tokenizer(32_000)
        self.model = chosen_llama(options, 32_000)
        self.options = options
        self.questions = [{"input": text_of(self.words, 20 + 3 * n, n)} for n in range(options.rows)]
        self.forwards = 0
        self.model.register_forward_hook(self._count)

    def _count(self, *_: Any) -> None:
        self.forwards += 1

    def executor(self, *, constrain: str) -> AgentExecutor:
        observation = text_of(self.words, 121, 99)
        search = Tool(name="Search", description="Looks something up.", run=lambda query: f"{query[:8]} {observation}")
        limits = {"max_new_tokens": self.options.tokens, "do_sample": False}
        llm = HuggingFacePipeline(model=self.model, tokenizer=self.words, pipeline_kwargs=limits)
        chat = ChatHuggingFace(llm=llm, constrain=constrain)
        return AgentExecutor.from_model(
            chat, [search], max_iterations=self.options.steps, max_repeats=None, return_run=True
        )

    def alone(self, constrain: str) -> list[Any]:
        executor = self.executor(constrain=constrain)
        return [executor.invoke(question) for question in self.questions]

    def together(self, constrain: str) -> list[Any]:
        executor = self.executor(constrain=constrain)
        return executor.batch(self.questions, {"max_concurrency": len(self.questions)})

    def runs(self, constrain: str) -> None:
        rows: dict[str, Callable[[str], list[Any]]] = {"one by one": self.alone, "together": self.together}
        spent: dict[str, list[tuple[float, float]]] = {name: [] for name in rows}
        said: dict[str, list[Any]] = {}
        forwards = {}
        for _ in range(self.options.rounds):
            for name, row in rows.items():
                self.forwards, cpu, wall = 0, time.process_time(), time.perf_counter()
                said[name] = row(constrain)
                spent[name].append((time.process_time() - cpu, time.perf_counter() - wall))
                forwards[name] = self.forwards
        middle = {
            name: [statistics.median(column) for column in zip(*values, strict=True)] for name, values in spent.items()
        }
        tokens = sum(run["run"]["usage"]["completion_tokens"] for run in said["together"])
        cached = sum(run["run"]["usage"]["cached_tokens"] for run in said["together"])
        prompts = sum(run["run"]["usage"]["prompt_tokens"] for run in said["together"])
        for name, (cpu, wall) in middle.items():
            print(f"{name:12} {cpu:7.2f} CPU s {wall:7.2f} s {forwards[name]:5} forwards {tokens / wall:7.1f} tokens/s")
        same = sum(a["output"] == b["output"] for a, b in zip(*said.values(), strict=True))
        ratios = [middle["one by one"][n] / middle["together"][n] for n in (0, 1)]
        print(f"throughput x {ratios[0]:.2f} in CPU s, x {ratios[1]:.2f} in s; {same} answers the same", end="; ")
        print(f"{tokens} tokens written, {cached} of {prompts} prompt tokens cached")

    def _now(self) -> float:
        """The processor's seconds; where the work is on a GPU, the clock's, once it is done."""
        if self.model.device.type != "cuda":
            return time.process_time()
        torch.cuda.synchronize()
        return time.perf_counter()

    def shared_steps(self, tokens: int = 700, steps: int = 12) -> None:
        """The cost of one step by its number of rows, with nothing around it."""
        forward, ids = Forward(self.model), [5 + n % 1000 for n in range(tokens)]
        _, cache = forward(ids, 0, None)
        single = 0.0
        for rows in (1, 2, 4, 8, 16):
            batch = BatchCache()
            batch.add([(row, cache) for row in range(rows)])
            forward.batch([5] * rows, batch)
            started = self._now()
            for _ in range(steps):
                forward.batch([5] * rows, batch)
            step = (self._now() - started) / steps
            single = single or step
            print(f"step of {rows:2} rows of {tokens} tokens {1e3 * step:7.1f} ms, output x {rows * single / step:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    add_size(parser)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    bench = Bench(options)
    print(f"{options.rows} questions of {options.steps} turns, {options.threads} threads")
    bench.shared_steps()
    for constrain in ("off", "actions"):
        print(f"\ngrammar: {constrain}")
        bench.runs(constrain)


if __name__ == "__main__":
    main()
