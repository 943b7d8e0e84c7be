"""How long a command takes as a whole process: wall time, medians, all rows in turn.

python tests/benchmarks/startup.py [--rounds 9]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUN = [sys.executable, "-m", "agentkit"]
QUESTION = "What is 25 raised to the 0.43 power?"
ROWS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import agentkit": [sys.executable, "-c", "import agentkit"],
    "agentkit --help": [*RUN, "--help"],
    "agentkit replay cassettes/leo-dicaprio.yaml": [*RUN, "replay", "cassettes/leo-dicaprio.yaml"],
    "from agentkit import AgentExecutor": [sys.executable, "-c", "from agentkit import AgentExecutor"],
    "agentkit run --model small (one step)": [*RUN, "run", "--quiet", "--model", "small", QUESTION],
    "agentkit run --model builtin (one step)": [*RUN, "run", "--quiet", "--model", "builtin", QUESTION],
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rounds", type=int, default=9)
    rounds = options.parse_args().rounds
    seconds: dict[str, list[float]] = {name: [] for name in ROWS}
    for _ in range(rounds + 1):
        for name, command in ROWS.items():
            start = time.perf_counter()
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - start)
    print(f"{'wall milliseconds':48}{'median':>8}{'min':>8}{'max':>8}")
    for name, found in seconds.items():
        counted = [1000 * s for s in found[1:]]  # the first round fills the caches
        print(f"{name:48}{statistics.median(counted):8.0f}{min(counted):8.0f}{max(counted):8.0f}")


if __name__ == "__main__":
    main()
