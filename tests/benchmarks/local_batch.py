"""Eight questions together beside one by one, and memory over many runs, on a random Llama.

    python tests/benchmarks/local_batch.py [--rows 8] [--tokens 60] [--threads 1] [--layers 12] [--runs 100]

Prints CPU seconds and tokens per second; then the peak memory of a 15-step run beside one step, and after many runs.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import Any

import torch
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from local_models import llama, text_of, tokenizer

from agentkit.models import ChatHuggingFace, HuggingFacePipeline


def measured(work: Callable[[], Any]) -> tuple[float, float, Any]:
    cpu, wall = time.process_time(), time.perf_counter()
    result = work()
    return time.process_time() - cpu, time.perf_counter() - wall, result


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def batch(chat: ChatHuggingFace, words: Any, rows: int, tokens: int) -> None:
    system = SystemMessage(text_of(words, 300, 7))
    questions = [[system, HumanMessage(text_of(words, 20 + 3 * n, n))] for n in range(rows)]
    options = {"max_new_tokens": tokens, "stop": ["\nObservation"]}
    chat.llm.local.prefixes.clear()
    alone = measured(lambda: [chat.invoke(q, **options).content for q in questions])
    chat.llm.local.prefixes.clear()
    together = measured(lambda: [m.content for m in chat.batch(questions, {"max_concurrency": rows}, **options)])
    for name, (cpu, wall, _) in (("one by one", alone), ("together", together)):
        print(f"{name:12} {cpu:7.2f} CPU s {wall:7.2f} s {rows * tokens / cpu:8.1f} tokens per CPU s")
    same = sum(a == b for a, b in zip(alone[2], together[2], strict=True))
    print(f"throughput x {alone[0] / together[0]:.2f}; {same} of {rows} answers the same")


def memory(chat: ChatHuggingFace, words: Any, runs: int) -> None:
    def run(steps: int) -> None:
        messages: list[Any] = [SystemMessage(text_of(words, 300, 7)), HumanMessage("What is it?")]
        for n in range(steps):
            reply = chat.invoke(messages, max_new_tokens=30)
            messages += [AIMessage(str(reply.content)), HumanMessage(f"Observation: {text_of(words, 100, n)}")]

    for name, steps, times in (("1 step", 1, 1), ("15 steps", 15, 1), (f"{runs} runs of 1 step", 1, runs)):
        for _ in range(times):
            run(steps)
        held = chat.llm.local.prefixes.tokens
        print(f"{name:22} peak {peak_mib():8.0f} MiB, {held} tokens held")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--runs", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    words = tokenizer(32_000)
    chat = ChatHuggingFace(llm=HuggingFacePipeline(model=llama(32_000, layers=options.layers), tokenizer=words))
    print(f"after loading: peak {peak_mib():.0f} MiB")
    batch(chat, words, options.rows, options.tokens)
    memory(chat, words, options.runs)


if __name__ == "__main__":
    main()
