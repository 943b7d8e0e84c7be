"""Kills a run with SIGKILL at random moments and resumes it: the same answer, and no finished step done again.

python tests/benchmarks/cassette_kills.py [KILLS]

Each kill is another process that records a run of eight turns, of a model in process, a plain tool, a tool that must
not run twice and a deterministic one. What the model and the tools did is noted in a file as it happens; a step is
finished when the cassette holds it. Prints where the runs died, and how many went on as they should.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

from agentkit.cassette.format.file import load, partial_of
from agentkit.errors import CassetteError
from agentkit.models.scripted import ScriptedBackend
from agentkit.tool import Tool
from tests.cassette.runs import answer, run
from tests.doubles.models import action, final

TURNS = (
    *(action("Search", f"question {number}") for number in range(3)),
    action("Mail", "first"),
    action("Calculator", "6*7"),
    action("Mail", "second"),
    action("Search", "the end"),
    final("42"),
)
SLOW_S = 0.004


def noted(notes: Path, kind: str, work: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Work that leaves a line when it is done."""

    def do(given: Any) -> Any:
        time.sleep(SLOW_S)
        result = work(given)
        with notes.open("a") as file:
            file.write(f"{kind} {given}\n")
        return result

    return do


def tools(notes: Path) -> list[Tool]:
    return [
        Tool(name="Search", description="Finds.", run=noted(notes, "Search", str.upper)),
        Tool(name="Mail", description="Sends.", run=noted(notes, "Mail", str.title), side_effects=True),
        Tool(name="Calculator", description="Calculates.", run=lambda _: "Answer: 42", deterministic=True),
    ]


class Slow(ScriptedBackend):
    """Takes its time, as models do, and notes each turn."""

    notes: Path

    def generate_chat(self, request: Any) -> Any:
        time.sleep(SLOW_S)
        turn = sum(message["role"] == "assistant" for message in request.messages)
        self.replies = lambda _: TURNS[turn]
        yield from super().generate_chat(request)
        with self.notes.open("a") as file:
            file.write(f"turn {turn}\n")


def model(notes: Path) -> Slow:
    backend = Slow(())
    backend.notes = notes
    return backend


def killed(path: Path, notes: Path, after_s: float) -> bool:
    """Whether the run, in a process of its own, died of it."""
    child = os.fork()
    if child == 0:
        run(path, "record", model(notes), tools(notes))
        os._exit(0)
    time.sleep(after_s)
    os.kill(child, signal.SIGKILL)
    return os.waitpid(child, 0)[1] != 0


def finished(path: Path) -> Counter[str]:
    """The steps that the cassette holds, as the notes name them."""
    try:
        document = load(partial_of(path) if partial_of(path).exists() else path)
    except CassetteError:
        return Counter()
    done = Counter(f"{entry.name} {entry.body['input']}" for entry in document.entries if entry.kind == "tool")
    done.update(f"turn {number}" for number in range(sum(entry.kind == "turn" for entry in document.entries)))
    return done


def resumed(path: Path, notes: Path) -> str:
    """What the run comes to when it goes on; a call that was under way is run again."""
    from agentkit.cassette import Cassette
    from tests.cassette.runs import a_run

    if not path.exists() and not partial_of(path).exists():
        return str(answer(run(path, "record", model(notes), tools(notes))))
    with Cassette(path, "resume", environment={}, run_again=lambda *_: True):
        return str(answer(list(a_run(model(notes), tools(notes)).events())))


def one(seed: int, longest_s: float) -> str:
    """One kill and one resumption: what became of it."""
    with tempfile.TemporaryDirectory() as folder:
        path, notes = Path(folder) / "run.yaml", Path(folder) / "notes"
        died = killed(path, notes, random.Random(seed).uniform(0, longest_s))
        done = finished(path)
        before = Counter(notes.read_text().splitlines()) if notes.exists() else Counter[str]()
        if (output := resumed(path, notes)) != "42":
            return f"WRONG ANSWER {output}"
        again = Counter(notes.read_text().splitlines()) - before
        if repeated := [step for step in done if step in again]:
            return f"REPEATED {repeated}"
        if not load(path).complete or answer(run(path, "replay", ScriptedBackend(()), tools(notes))) != "42":
            return "NOT COMPLETE"
        turns = sum(step.startswith("turn") for step in done)
        return f"died with {turns} of {len(TURNS)} turns recorded" if died else "was over before the kill"


def main(kills: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path, notes = Path(folder) / "run.yaml", Path(folder) / "notes"
        for _ in range(2):  # the first one imports
            started_s = time.perf_counter()
            run(path, "record", model(notes), tools(notes))
        longest_s = (time.perf_counter() - started_s) * 1.1
    outcomes = Counter(one(seed, longest_s) for seed in range(kills))
    print(f"{kills} runs killed with SIGKILL within {longest_s * 1000:.0f} ms, then resumed")
    for outcome, times in sorted(outcomes.items()):
        print(f"{times:5d}  {outcome}")
    bad = sum(times for outcome, times in outcomes.items() if outcome.split()[0].isupper())
    print(f"{kills - bad} of {kills}: the same answer, no finished step repeated")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
