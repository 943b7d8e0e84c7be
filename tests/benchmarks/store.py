"""What a store bears: processes that write turns at once, with nothing lost and no turn twice; one writer; a search.

python tests/benchmarks/store.py [--processes 8] [--turns 200] [--runs 2000]

A turn is a run of six events in a session: a lock of the session, the run, a lock of the run, six transactions, each
of them on the disk before the next. PostgreSQL syncs its files too; it is Debian's, on a Unix socket.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from agentkit.events import Action, Observed
from agentkit.sessions.store import Store
from tests.sessions.postgres import Postgres, missing
from tests.sessions.writers import SPEC, add_turns, at_once, events_of_a_run

EVENTS = len([*events_of_a_run()])
LINE = "{:12}{:46}{:>10}{:>16}"


def many_writers(address: str, sessions: list[str], turns: int) -> tuple[float, float]:
    """Turns a second, and the median of milliseconds for an append; nothing is lost, no turn stands twice."""
    at_once(add_turns, [(address, session, turns) for session in sessions])
    with Store(address, environment={}) as store:
        runs = [store.run(run) for name in {*sessions} for run in store.turns(name)]
    assert len({run.id for run in runs}) == len(runs) == turns * len(sessions)
    assert all(run.events == tuple(events_of_a_run()) for run in runs)
    ends = [run.ended for run in runs if run.ended is not None]
    seconds = (max(ends) - min(run.started for run in runs)).total_seconds()
    each = [(end - run.started).total_seconds() / EVENTS for run, end in zip(runs, ends, strict=True)]
    return len(runs) / seconds, 1000 * statistics.median(each)


def one_writer(address: str, length: int, times: int = 300) -> float:
    """The median of milliseconds for an append of an observation of so many characters."""
    text = ("Camila Morrone (born June 16, 1997) is an American actress. " * (length // 60 + 1))[:length]
    found = []
    with Store(address, environment={}) as store:
        run = store.begin(SPEC)
        with store.held_run(run):
            for _ in range(times):
                start = time.perf_counter()
                store.append(run, Observed(Action("Search", "…"), text))
                found.append(time.perf_counter() - start)
    return 1000 * statistics.median(found)


def a_search(address: str, runs: int) -> tuple[float, float]:
    """Milliseconds for a search of all that is kept, and for a list of the newest 20 runs."""
    text = "Camila Morrone (born June 16, 1997) is an American actress. " * 30
    with Store(address, environment={}) as store:
        for _ in range(runs):
            run = store.begin(SPEC)
            for _ in range(3):
                store.append(run, Observed(Action("Search", "…"), text))
        return measured(lambda: store.runs(search="nowhere")), measured(lambda: store.runs(most=20))


def measured(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def import_ms(statement: str) -> float:
    """The median of milliseconds that an import takes in a fresh process, less the process."""
    found: dict[str, list[float]] = {"pass": [], statement: []}
    for _ in range(7):
        for code, seconds in found.items():
            seconds.append(measured(lambda code=code: subprocess.run([sys.executable, "-c", code], check=True)))  # type: ignore[misc]
    return statistics.median(found[statement]) - statistics.median(found["pass"])


def of_one_database(name: str, new_address: Callable[[], str], options: argparse.Namespace) -> None:
    count, turns = options.processes, options.turns
    for what, sessions in (
        (f"{count} processes x {turns} turns, one session", ["one"] * count),
        (f"{count} processes x {turns} turns, each its own", [str(number) for number in range(count)]),
    ):
        rate, ms = many_writers(new_address(), sessions, turns)
        print(LINE.format(name, what, f"{rate:.0f}", f"{ms:.2f}"), flush=True)
    rate, ms = many_writers(new_address(), ["one"], turns)
    print(LINE.format(name, f"1 process x {turns} turns", f"{rate:.0f}", f"{ms:.2f}"), flush=True)
    for length in (100, 1_000, 10_000):
        print(
            LINE.format(
                name, f"an observation of {length:,} characters", "", f"{one_writer(new_address(), length):.2f}"
            )
        )
    search, newest = a_search(new_address(), options.runs)
    print(LINE.format(name, f"search of {options.runs:,} runs, 3 observations each", "", f"{search:.0f} ms"))
    print(LINE.format(name, "the newest 20 runs of them", "", f"{newest:.0f} ms"), flush=True)


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--processes", type=int, default=8)
    options.add_argument("--turns", type=int, default=200)
    options.add_argument("--runs", type=int, default=2000)
    given = options.parse_args()
    for statement in ("import sqlalchemy", "import agentkit.sessions.address", "import agentkit.sessions.store"):
        print(LINE.format("", statement, "", f"{import_ms(statement):.0f} ms"))
    print(LINE.format("", "", "turns/s", "ms per append"))
    with tempfile.TemporaryDirectory() as folder:
        files = (str(Path(folder) / f"{number}.db") for number in range(100))
        of_one_database("SQLite", lambda: next(files), given)
    if reason := missing():
        print(reason)
        return
    with Postgres(syncs=True) as server:
        of_one_database("PostgreSQL", server.new_address, given)


if __name__ == "__main__":
    main()
