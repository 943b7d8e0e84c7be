"""A thousand agent runs against a server that fails at random: `python tests/benchmarks/hosted_chaos.py [RUNS [RATE]]`.

Prints how many ended right, the errors of the others, what went wrong (nothing should), and what was left open.
"""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.hosted.chaos import run_all


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 0.2
    run_all(4, rate=0.0)
    gc.collect()
    files, threads, started_s = open_files(), threading.active_count(), time.monotonic()
    chaos = run_all(runs, rate=rate)
    seconds = time.monotonic() - started_s
    gc.collect()
    time.sleep(1)  # the server's last threads
    share = chaos.faults / chaos.calls
    print(f"{runs} runs in {seconds:.0f} s, {chaos.calls} calls, {chaos.faults} faults ({share:.0%})")
    print(f"right: {chaos.right}, one clear error: {sum(chaos.errors.values())}, wrong: {len(chaos.wrong)}")
    for text, times in chaos.errors.most_common():
        print(f"  {times} x {text}")
    for text in chaos.wrong[:20]:
        print(f"  WRONG {text}")
    print(f"left open: {open_files() - files} files, {threading.active_count() - threads} threads")


if __name__ == "__main__":
    main()
