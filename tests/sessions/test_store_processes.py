"""Several processes and threads with one store: nothing is lost, no turn stands twice, locks end with their holder."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from agentkit.errors import StoreError
from agentkit.events import Observed, Thought
from agentkit.sessions.store import Store
from tests.sessions.writers import SPEC, add_turns, at_once, events_of_a_run

ROOT = Path(__file__).parents[2]
HERE = rf"process {os.getpid()} on \S+ since \d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d"


@pytest.mark.slow
@pytest.mark.parametrize("sessions", [["one"] * 4, ["a", "b", "c", "d"]], ids=["in one session", "each in its own"])
def test_processes_that_write_at_once(address: str, sessions: list[str]) -> None:
    turns = 25
    at_once(add_turns, [(address, session, turns) for session in sessions])  # which also make the store, at once
    with Store(address) as store:
        assert {one.name: one.turns for one in store.sessions()} == {
            name: turns * sessions.count(name) for name in sessions
        }
        runs = [run for name in {*sessions} for run in store.turns(name)]
        assert len({*runs}) == len(runs) == turns * len(sessions)
        assert all(store.run(run).events == tuple(events_of_a_run()) for run in runs)
        assert {entry.status for entry in store.runs()} == {"finished"}


@pytest.mark.slow
def test_threads_share_a_store(store: Store) -> None:
    def write(number: int) -> str:
        run = store.begin(SPEC, session="trip")
        with store.held_run(run):
            for event in events_of_a_run(str(number)):
                store.append(run, event)
        with store.held_session("trip", wait_s=60):
            store.add_turn("trip", run)
        return run

    with ThreadPoolExecutor(8) as threads:
        runs = [*threads.map(write, range(40))]
    assert sorted(store.turns("trip")) == sorted(runs)
    for number, run in enumerate(runs):
        observed = [event for event in store.run(run).events if isinstance(event, Observed)]
        assert [event.observation for event in observed] == [str(number)]


@pytest.mark.slow
def test_one_holds_a_run_or_a_session(store: Store, address: str) -> None:
    run, other_run = store.begin(SPEC), store.begin(SPEC)
    end = "; wait for its end, or end that process"
    with store.held_run(run[:-1] if run[:-1] != other_run[:-1] else run), store.held_session("trip"):
        for second in (store, Store(address)):
            with pytest.raises(StoreError, match=rf"^Run {run} is in use by {HERE}{end}$"):
                second.held_run(run).__enter__()
            with pytest.raises(StoreError, match=rf"^Session 'trip' is in use by {HERE}{end}$"):
                second.held_session("trip", wait_s=0.3).__enter__()
            with second.held_run(other_run), second.held_session("Trip"):
                pass
        second.close()
    with store.held_run(run), store.held_session("trip", wait_s=0):
        pass


def test_a_second_one_waits_for_the_first(store: Store) -> None:
    first, second = threading.Event(), threading.Event()
    seen = []

    def hold() -> None:
        with store.held_session("trip"):
            first.set()
            second.wait()
            seen.append("first")

    thread = threading.Thread(target=hold)
    thread.start()
    first.wait()
    threading.Timer(0.1, second.set).start()
    with store.held_session("trip", wait_s=60):
        seen.append("second")
    thread.join()
    assert seen == ["first", "second"]


def test_a_lock_ends_with_an_error_in_its_block(store: Store) -> None:
    for error in (ValueError, OSError, KeyboardInterrupt):
        with pytest.raises(error), store.held_session("trip", wait_s=0):
            raise error
    if store.path is not None:
        assert [file.name for file in store.path.parent.iterdir() if file.suffix == ".lock"] == []


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="there is no kill -9")
def test_a_writer_that_is_killed_leaves_whole_events_and_no_lock(address: str) -> None:
    """Four times, each somewhere else; every event that was said to be kept is."""
    whole = [*events_of_a_run()]
    for _ in range(4):
        command = [sys.executable, "-m", "tests.sessions.writers", address]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            said = [writer.stdout.readline() for _ in range(random.randrange(1, 60))]
            writer.kill()
            said += writer.stdout.readlines()
        kept: dict[str, int] = {}
        for line in filter(re.compile(r"\w+ \d+\n").fullmatch, said):
            run, number = line.split()
            kept[run] = int(number)
        with Store(address) as store:
            for run, last in kept.items():
                events = [*store.run(run).events]
                assert len(events) > last
                assert events == whole[: len(events)]
            newest = store.last_run() or ""
            with store.held_run(newest, wait_s=10):
                assert len(store.run(newest).events) <= len(whole)
            assert store.runs(status="running") == []
            assert {entry.status for entry in store.runs()[1:]} <= {"finished", "broken_off"}


FORK = """
import os, sys
from agentkit.errors import StoreError
from agentkit.events import Thought
from agentkit.sessions.store import Store
from tests.sessions.writers import SPEC

store = Store(sys.argv[1])
run = store.begin(SPEC, session="trip")
with store.held_session("trip"), store.held_run(run):
    store.append(run, Thought("parent"))
    if not (child := os.fork()):
        other = store.begin(SPEC, session="trip", number=0)
        with store.held_run(other):
            store.append(other, Thought("child"))
        try:
            with store.held_session("trip", wait_s=0):
                print("the child has it")
        except StoreError as error:
            print("in use" in str(error), flush=True)
        sys.exit()
    os.waitpid(child, 0)
    try:
        with Store(sys.argv[1]).held_session("trip", wait_s=0):
            print("nobody has it")
    except StoreError as error:
        print("in use" in str(error))
    store.append(run, Thought("parent"))
    print(len(store.run(run).events), len(store.turns("trip")))
with store.held_session("trip", wait_s=0):
    print("free")
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_has_connections_of_its_own(address: str) -> None:
    command = [sys.executable, "-c", FORK, address]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.split("\n"), done.stderr) == (["True", "True", "2 1", "free", ""], "")


def test_a_write_that_fails_leaves_nothing(store: Store) -> None:
    run = store.begin(SPEC)
    store.append(run, Thought("…"))
    with pytest.raises(TypeError):
        store.append(run, "no event")  # type: ignore[arg-type]
    store.append(run, Thought("…"))
    assert len(store.run(run).events) == 2
