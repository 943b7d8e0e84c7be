"""A chat of 20 turns with a model in this process: how much of each prompt was computed before.

    python tests/benchmarks/chat.py FILE.gguf [--turns 20] [--rounds 3] [--only session]

Both rows hold the same session, turn by turn interleaved: "session" with the beginnings that the model keeps, "whole
prompt" with `reuse=False`, as a server without a cache computes it. Each turn looks something up, so that the steps of
the last turns stand in the prompt. Prints prompt tokens, those of them that were computed, the largest number of times
that a token was (computed, of the last prompt's length), and processor seconds with those of the child process.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path
from statistics import median

from agentkit import AgentExecutor, Session, Store, chat_model
from agentkit.events import Finished
from agentkit.tool import Tool

TEXT = "The {0} of Lisbon has {1} rooms, was built in 19{1:02} and is open from {2} to 18. Entry is {1} euros."
THINGS = ("museum", "library", "theatre", "station", "market", "school", "church", "castle", "garden", "tower")


ROWS = ("session", "whole prompt")


def look_up(thing: str) -> str:
    number = len(thing) * 7 % 90 + 10
    return " ".join(TEXT.format(f"{thing} {part}", number + part, 8 + part % 4) for part in range(4))


def session_with(file: str, store: Store, name: str, *, reuse: bool) -> Session:
    tool = Tool(name="look_up", description="Facts about a building.", run=look_up, side_effects=False)
    model = chat_model(f"local:{file}", temperature=0, max_new_tokens=120, reuse=reuse)
    return Session(AgentExecutor.from_model(model, [tool], max_iterations=3), name, store=store)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file")
    options.add_argument("--turns", type=int, default=20)
    options.add_argument("--rounds", type=int, default=1)
    options.add_argument("--only", choices=ROWS)
    given = options.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in ROWS if given.only in (None, name)}
    with tempfile.TemporaryDirectory() as folder:
        for round_ in range(given.rounds):
            store = Store(Path(folder) / f"{round_}.db")
            rows = {name: session_with(given.file, store, name, reuse=name == "session") for name in seconds}
            spent = {name: [0, 0, 0, 0.0] for name in rows}
            for turn in range(given.turns):
                question = f"How many rooms has the {THINGS[turn % len(THINGS)]} of Lisbon, part {turn % 4}?"
                for name, session in rows.items():
                    before = cpu_s()
                    *_, end = session.events(question)
                    assert isinstance(end, Finished)
                    usage = end.summary.usage
                    spent[name][0] += usage.prompt_tokens
                    spent[name][1] += usage.prompt_tokens - usage.cached_tokens
                    spent[name][2] += usage.completion_tokens
                    spent[name][3] += cpu_s() - before
            for name, (prompt, computed, written, cpu) in spent.items():
                seconds[name].append(cpu)
                print(
                    f"{name:12} prompts {prompt:7,}  computed {computed:7,} ({computed / prompt:.0%})  "
                    f"written {written:5,}  {median(seconds[name]):6.1f} CPU s",
                    flush=True,
                )


def cpu_s() -> float:
    """Of this process, and of its children that still run."""
    ticks = os.sysconf("SC_CLK_TCK")
    total = 0.0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(stat.parent.name) == os.getpid() or int(fields[1]) == os.getpid():
            total += (int(fields[11]) + int(fields[12])) / ticks
    return total


if __name__ == "__main__":
    main()
