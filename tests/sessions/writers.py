"""Processes that write to one store at the same time."""

from __future__ import annotations

import multiprocessing
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import sqlalchemy as sa

from agentkit.cassette.format.run_spec import RunSpec
from agentkit.events import Action, ActionChosen, Event, Finished, Observed, RunStarted, RunSummary, Step, Thought
from agentkit.sessions.address import Address
from agentkit.sessions.database import Database
from agentkit.sessions.schema import Schema
from agentkit.sessions.store import Store

SPEC = RunSpec.of({"input": "What is 25 * 4?"}, model="builtin", tools=("calculator",))


def events_of_a_run(answer: str = "100") -> Iterator[Event]:
    """A run of one step."""
    action = Action("Calculator", "25 * 4", "I multiply.\nAction: …")
    yield RunStarted({"input": "What is 25 * 4?"})
    yield Thought("I multiply.")
    yield ActionChosen(action)
    yield Observed(action, answer)
    yield Thought("I know the final answer.")
    yield Finished(answer, True, RunSummary("answer", model_calls=2), (Step(action, answer),), log="Final Answer: …")


def add_turns(address: str, session: str, turns: int) -> None:
    """Go on with a session, so many times."""
    with Store(address, environment={}) as store:
        store.session(session)
        for _ in range(turns):
            with store.held_session(session, wait_s=600):
                run = store.begin(SPEC, session=session, number=len(store.turns(session)))
                with store.held_run(run):
                    for event in events_of_a_run():
                        store.append(run, event)


def write_until_killed(address: str) -> None:
    """Write one run after the other, and say what is kept."""
    with Store(address, environment={}) as store:
        for _ in count():
            run = store.begin(SPEC)
            with store.held_run(run):
                for number, event in enumerate(events_of_a_run()):
                    store.append(run, event)
                    sys.stdout.write(f"{run} {number}\n")
                    sys.stdout.flush()


def two_columns(connection: sa.Connection) -> None:
    """How version 1 of `GROWN` becomes version 2; it can be seen how often."""
    connection.execute(sa.text("ALTER TABLE agentkit_notes ADD COLUMN length INTEGER"))
    connection.execute(sa.text("UPDATE agentkit_notes SET length = length(note)"))
    connection.execute(sa.text("INSERT INTO agentkit_notes (note, length) VALUES ('step', 0)"))


def one_column(connection: sa.Connection) -> None:
    """How version 1 of `GROWN` was made."""
    connection.execute(sa.text("CREATE TABLE agentkit_notes (note TEXT)"))
    connection.execute(sa.text("INSERT INTO agentkit_notes (note) VALUES ('of version 1')"))


def no_older(connection: sa.Connection) -> None:
    """How a newer version is made where there is none yet."""
    raise AssertionError("there was an older version")


FIRST = Schema(create=one_column)
GROWN = Schema(create=no_older, steps=(two_columns,))


def open_grown(address: str) -> None:
    """Open a store of the first version with the second."""
    Database(Address.of(address), GROWN).close()


def at_once(target: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call the function in as many processes, and wait for all of them."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=target, args=each) for each in arguments]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * len(processes)


if __name__ == "__main__":
    write_until_killed(sys.argv[1])
