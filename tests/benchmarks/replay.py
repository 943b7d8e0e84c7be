"""What cassettes cost: the replay command as a whole process, and a run of ten steps recorded and replayed.

python tests/benchmarks/replay.py
"""

from __future__ import annotations

import difflib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from agentkit.models.scripted import ScriptedBackend
from tests.cassette.runs import PROMPT, Tools, run
from tests.cassette.transcribe import FILE
from tests.doubles.models import action, final

REPEATS = 7
STEPS = 10
LONG_PROMPT = PROMPT.replace("Tools:", "You answer questions with the help of tools. " * 25 + "\nTools:")
FOUND = "A result of a search, as long as results of searches are. " * 8


Measured = tuple[float, float]


def medians_ms(measured: Callable[[], object]) -> Measured:
    """Median wall and CPU time of several calls, child processes included, after one that warms caches."""
    measured()
    walls, cpus = [], []
    for _ in range(REPEATS):
        start_s, start_cpu_s = time.perf_counter(), cpu_s()
        measured()
        walls.append((time.perf_counter() - start_s) * 1000)
        cpus.append((cpu_s() - start_cpu_s) * 1000)
    return statistics.median(walls), statistics.median(cpus)


def cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def process(*command: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, *command], check=True, capture_output=True)


def ten_steps() -> ScriptedBackend:
    turns = [action("Search", f"question number {step}", "I should look this up. " * 4) for step in range(STEPS - 1)]
    return ScriptedBackend((*turns, final("42")))


def diff_lines(before: str, after: str) -> int:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return sum(line[0] in "+-" and line[:3] not in ("+++", "---") for line in lines)


def recorded(path: Path, *, prompt: str = LONG_PROMPT, found: str = FOUND) -> str:
    run(path, "record", ten_steps(), Tools(found=found), prompt=prompt)
    text = path.read_text(encoding="utf-8")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith(("ms:", "at_ms:", "end:")))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.yaml"
        rows = [
            ("python -c pass, whole process", medians_ms(process("-c", "pass"))),
            (
                "agentkit replay leo-dicaprio.yaml, whole process",
                medians_ms(process("-m", "agentkit", "replay", str(FILE))),
            ),
            ("record ten steps", medians_ms(lambda: recorded(path))),
            (
                "replay ten steps",
                medians_ms(lambda: run(path, "replay", ScriptedBackend(()), Tools(), prompt=LONG_PROMPT)),
            ),
        ]
        before = recorded(path)
        size = path.stat().st_size
        one_word = recorded(path, prompt=LONG_PROMPT.replace("questions", "riddles", 1))
        one_result = recorded(path, found=FOUND.replace("result", "outcome", 1))
    print(f"{'':52} {'wall ms':>8} {'CPU ms':>8}")
    for name, (wall_ms, used_ms) in rows:
        print(f"{name:52} {wall_ms:8.1f} {used_ms:8.1f}")
    print(f"{'size of ten steps':52} {size / 1000:8.1f} kB")
    print(f"{'diff lines after a one-word change of the prompt':52} {diff_lines(before, one_word):8d}")
    print(f"{'diff lines after all nine observations changed':52} {diff_lines(before, one_result):8d}")


if __name__ == "__main__":
    main()
