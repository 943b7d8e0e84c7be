"""Runs in a store: what comes back, in which order, how they are found; and what is never written."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentkit.cassette.format.run_spec import RunSpec
from agentkit.errors import StoreError
from agentkit.events import (
    Action,
    ActionChosen,
    BrokenOff,
    Called,
    Event,
    Finished,
    LimitReached,
    Observed,
    RunStarted,
    RunSummary,
    Source,
    Thought,
    Token,
    Usage,
)
from agentkit.sessions.schema import clean
from agentkit.sessions.store import Store
from tests.sessions.writers import SPEC, events_of_a_run

KEY = "hf_abcdEFGHijklMNOPqrst"
VALUE = "kf8sLq2PzT7wVb3N"


def written(store: Store, *events: Event, spec: RunSpec = SPEC, **session: Any) -> str:
    run = store.begin(spec, **session)
    for event in events:
        store.append(run, event)
    return run


def finished(output: Any = "100", *steps: Any) -> Finished:
    return Finished(output, True, RunSummary("answer"), steps=tuple(steps))


def test_a_run_comes_back_as_it_was(store: Store) -> None:
    action = Action("Search", {"query": "who is é 25", "deep": [1, None, {"b": 1, "a": 2}]}, "Thought: …")
    events: list[Event] = [
        RunStarted({"input": "Who is 25?", "chat_history": [{"role": "user", "content": "Hello"}]}),
        Thought("I look it up.", thinking="Hm."),
        ActionChosen(action),
        Observed(action, "Camila is 25.", sources=(Source("Wikipedia", "https://example.org"),), readings=("25",)),
        LimitReached("max_iterations", closing_turn=True),
        Finished(
            {"name": "Camila", "age": 25},
            True,
            RunSummary(
                "max_iterations",
                Usage(10, 5, 2, 0.5),
                1.5,
                2,
                1,
                sources=(Source("Wikipedia", "https://example.org"),),
                readings=("25",),
            ),
            steps=((action, "Camila is 25."),),  # type: ignore[arg-type]
        ),
    ]
    spec = RunSpec.of({"input": "Who is 25?"}, model="local:ORG/NAME", tools=("search",), options={"temperature": 0})
    run = written(store, *events, spec=spec)
    stored = store.run(run)
    assert stored.events == tuple(events)
    assert stored.spec == spec
    assert (stored.id, stored.question, stored.status, stored.stop_reason, stored.session) == (
        run,
        "Who is 25?",
        "finished",
        "max_iterations",
        None,
    )
    assert stored.output == '{"name": "Camila", "age": 25}'
    assert stored.ended is not None
    assert stored.started <= stored.ended


def test_what_happens_to_a_run(store: Store) -> None:
    run = store.begin(SPEC)
    with store.held_run(run):
        store.append(run, RunStarted({"input": "…"}))
        assert store.run(run).status == "running"
        store.append(run, BrokenOff("ModelError", "the server went away"))
    broken = store.run(run)
    assert (broken.status, broken.output, broken.stop_reason) == ("broken_off", "the server went away", None)
    with store.held_run(run):
        store.append(run, Thought("Once more."))
        assert (store.run(run).status, store.run(run).ended) == ("running", None)
        store.append(run, finished())
    assert [type(event).__name__ for event in store.run(run).events] == [
        "RunStarted",
        "BrokenOff",
        "Thought",
        "Finished",
    ]
    assert store.runs()[0].status == "finished"


def test_a_run_that_nobody_holds_any_more_was_broken_off(store: Store) -> None:
    run = written(store, RunStarted({"input": "…"}))
    assert [entry.status for entry in store.runs()] == ["broken_off"]
    assert store.runs(status="running") == []
    with store.held_run(run):
        assert [entry.status for entry in store.runs(status="running")] == ["running"]
        assert store.runs(status="broken_off") == []


def test_pieces_of_text_are_not_kept(store: Store) -> None:
    run = written(store, Token("I mul"), Token("tiply."), Thought("I multiply."))
    assert store.run(run).events == (Thought("I multiply."),)


def test_runs_are_listed_from_the_newest(store: Store) -> None:
    made = [written(store, *events_of_a_run()) for _ in range(7)]
    assert [entry.id for entry in store.runs()] == made[::-1]
    assert [entry.id for entry in store.runs(most=2)] == made[:4:-1]
    assert made == sorted(made)
    assert {len(run) for run in made} == {13}
    assert store.last_run() == made[-1]
    store.delete(made[-1])
    assert store.last_run() == made[-2]


def test_an_empty_store(store: Store) -> None:
    assert (store.runs(), store.last_run(), store.waiting(), store.sessions(), store.memories()) == (
        [],
        None,
        [],
        [],
        [],
    )


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("camila", True),
        ("CAMILA morrone", True),
        ("straße", True),
        ("STRASSE", True),
        ("cafe", True),
        ("girlfriend 48", True),
        ("girlfriend 49", False),
        ("100%", True),
        ("1%0", False),
        ("I_look", False),
        ('"quoted"', True),
        ("\0 '; DROP TABLE", False),
        ("\ud800", False),
        ("observed", False),  # the name of what is kept
        ("", True),
    ],
)
def test_runs_are_found_by_words_of_question_answer_and_observations(store: Store, search: str, found: bool) -> None:
    action = Action("Search", "Leo's girlfriend")
    spec = RunSpec.of({"input": "Who is Leo's girlfriend?"}, model="builtin")
    observed = Observed(action, 'Camila Morrone, "quoted", of the Straße by the Café, 100%')
    run = written(store, Thought("I look it up."), ActionChosen(action), observed, finished("48"), spec=spec)
    written(store, *events_of_a_run("7"))
    assert (run in [entry.id for entry in store.runs(search=search)]) is found


def test_runs_of_a_session_or_a_status(store: Store) -> None:
    first = written(store, *events_of_a_run(), session="trip", number=0)
    second = written(store, *events_of_a_run(), session="trip")
    third = written(store, BrokenOff("ModelError"))
    assert [entry.id for entry in store.runs(session="trip")] == [second, first]
    assert [entry.session for entry in store.runs()] == [None, "trip", "trip"]
    assert [entry.id for entry in store.runs(status="broken_off")] == [third]
    assert store.runs(session="trip", status="waiting") == []
    assert store.runs(session="no such") == []


def test_the_beginning_of_an_id_is_enough_where_one_run_has_it(store: Store) -> None:
    first, second = written(store, *events_of_a_run()), written(store, *events_of_a_run())
    same = next(place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other)
    assert store.run(first[: same + 1].upper()).id == first
    assert store.run(f" {second} ".replace("1", "l").replace("0", "O")).id == second
    with pytest.raises(StoreError, match=rf"^Runs {second}, {first} begin with '{first[:same]}'; give more of the id$"):
        store.run(first[:same])


@pytest.mark.parametrize("id", ["zzzz", "%", "_", "\0", "\ud800", "'; DROP TABLE"])
def test_an_id_that_no_run_has(store: Store, id: str) -> None:
    run = written(store, *events_of_a_run())
    for ask in (store.run, store.delete, store.held_run, store.decisions, lambda run: store.append(run, Thought("…"))):
        with pytest.raises(
            StoreError, match=r"^No run has an id that begins with .*; agentkit logs lists those there are$"
        ):
            ask(id)
    with pytest.raises(StoreError, match=r"^No run is named ''; give the beginning of an id$"):
        store.run("")
    assert [entry.id for entry in store.runs()] == [run]


def test_a_deleted_run_leaves_nothing(store: Store) -> None:
    run = written(store, *events_of_a_run(), session="trip", number=0)
    with store.held_run(run), pytest.raises(StoreError, match=rf"^Run {run} is in use by process "):
        store.delete(run)
    assert store.delete(run) == run
    assert (store.runs(), store.turns("trip")) == ([], [])
    with pytest.raises(StoreError, match="No run has an id"):
        store.append(run, Thought("…"))


def test_a_run_that_is_deleted_while_it_is_written(store: Store, address: str) -> None:
    run = written(store, RunStarted({"input": "…"}))
    with Store(address) as other:
        other.delete(run)
    with pytest.raises(StoreError, match=rf"^Run {run} was deleted while it was written; begin another$"):
        store.append(run, Thought("…"))


def test_two_that_write_one_run(store: Store, address: str) -> None:
    run = written(store, RunStarted({"input": "…"}))
    with Store(address, environment={}) as other:
        other.append(run, Thought("The other's."))
    for _ in range(2):
        with pytest.raises(StoreError, match=rf"^Run {run} is written by another process too; let one of them end$"):
            store.append(run, Thought("Mine."))
    assert [event for event in store.run(run).events if isinstance(event, Thought)] == [Thought("The other's.")]
    with store.held_run(run):  # who holds it goes on where it is now
        store.append(run, Thought("Mine."))
    assert store.run(run).events[1:] == (Thought("The other's."), Thought("Mine."))


def test_a_run_is_found_by_its_key(store: Store) -> None:
    run = store.begin(SPEC, key="thread 1\0")
    assert (store.run_of("thread 1\0"), store.run_of("thread 2"), store.run_of("\ud800")) == (run, None, None)
    with pytest.raises(StoreError, match=r"^A run with the key 'thread 1.' is there already; go on with that one$"):
        store.begin(SPEC, key="thread 1\0")
    assert [entry.id for entry in store.runs()] == [run]


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_no_secret_is_written(address: str, tmp_path: Path) -> None:
    environment = {"HF_TOKEN": KEY, "MY_API_KEY": VALUE}
    leaks = f"it is {KEY}, or {VALUE}"
    action = Action("Search", {"query": leaks, "api_key": "4815162342108"}, leaks)
    spec = RunSpec.of(
        {"input": leaks, "list": [leaks]},
        model=f"http://user:{VALUE}@localhost/?api_key={VALUE}",
        options={"api_key": VALUE, "stop": [leaks]},
        mcp=(f"KEY={VALUE} server",),
    )
    with Store(address, environment=environment) as store:
        run = written(
            store,
            RunStarted({"input": leaks}),
            Thought(leaks, leaks),
            ActionChosen(action),
            Observed(action, {"found": leaks, "password": VALUE, "token": {"api_key": 4815162342108915}}),
            finished(leaks),
            BrokenOff("ModelError", leaks),
            spec=spec,
            session="trip",
        )
        store.keep_facts("trip", {"model": leaks, "options": {"api_key": VALUE}})
        store.remember(leaks)
        kept = [store.run(run), *store.runs(), *store.sessions(), *store.memories()]
        assert store.runs(search=KEY) == store.runs(search=VALUE) == []
        assert len(store.runs(search="it is redacted")) == 1
        assert store.recall(VALUE) == []
    for secret in (KEY, VALUE, "4815162342108"):
        assert secret not in repr(kept)
        for file in tmp_path.iterdir():
            assert secret.lower().encode() not in file.read_bytes().lower()


def test_a_key_that_is_set_later_is_secret_from_then_on(address: str) -> None:
    environment: dict[str, str] = {}
    with Store(address, environment=environment) as store:
        environment["MY_API_KEY"] = VALUE
        assert store.run(written(store, Thought(VALUE))).events == (Thought("<REDACTED>"),)


# -- values of all kinds -----------------------------------------------------------------------------------------------


def nested(depth: int) -> Any:
    value: Any = "deep"
    for _ in range(depth):
        value = [value]
    return value


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("half \ud83d pair", "half \ufffd pair"),
        ("nul \0", "nul \ufffd"),
        ("\r\n\t\x1b[31m\u2028", "\r\n\t\x1b[31m\u2028"),
        ("x" * 200_000, "x" * 200_000),
        ({"b": 1, "a": [True, None, 1.5]}, {"b": 1, "a": [True, None, 1.5]}),
        ({"\ud83d\0": "\udc00"}, {"\ufffd\ufffd": "\ufffd"}),
        (math.nan, "nan"),
        (-math.inf, -math.inf),
        ({"x": math.nan}, "{'x': nan}"),
        ((1, 2), "(1, 2)"),
        ({1: "one"}, "{1: 'one'}"),
        (10**5000, "a int that has no text (ValueError)"),
        (nested(50), nested(50)),
        (nested(100_000), "a list that has no text (RecursionError)"),
        (Unprintable(), "a Unprintable that has no text (RuntimeError)"),
    ],
    ids=range(15),
)
def test_any_value_is_kept_or_replaced(store: Store, value: Any, kept: Any) -> None:
    action = Action("Tool", "\0\ud800", "\udfff")
    spec = RunSpec.of({"input": value, "other": {"nested": value}}, model="builtin")
    run = written(store, ActionChosen(action), Observed(action, value), finished(value), spec=spec)
    action = Action("Tool", "\ufffd\ufffd", "\ufffd")
    stored = store.run(run)
    assert stored.events[:2] == (ActionChosen(action), Observed(action, kept))
    assert isinstance(stored.events[2], Finished)
    assert stored.events[2].output == kept
    assert [entry.id for entry in store.runs()] == [run]


def test_what_a_server_nests_without_end_is_refused(store: Store) -> None:
    run = store.begin(SPEC)
    called = Called("c1", 0, provider_fields={"deep": nested(50_000)})
    with pytest.raises(StoreError, match=rf"^An event of run {run} is nested too deep to be kept; ask another server$"):
        store.append(run, ActionChosen(Action("Tool", "x", called=called)))
    store.append(run, Thought("…"))


TEXTS = st.text(st.characters(exclude_categories=()))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)


@pytest.mark.slow
def test_any_run_can_be_kept_read_and_searched(tmp_path: Path) -> None:
    """What is plain comes back as it was, but for what no database takes."""

    @settings(max_examples=60)
    @given(TEXTS, TEXTS, VALUES)
    def check(question: str, thought: str, value: Any) -> None:
        action = Action("Tool", {"value": value}, thought)
        spec = RunSpec.of({"input": question, "more": value}, model="builtin")
        events = [RunStarted({"input": question}), Thought(thought), ActionChosen(action), Observed(action, value)]
        run = written(store, *events, finished(value), spec=spec)
        assert store.run(run).events[1] == Thought(clean(thought))
        assert store.run(run).question == clean(question)
        if question.split():
            assert run in [entry.id for entry in store.runs(search=question)]
        store.recall(question)

    with Store(tmp_path / "agentkit.db", environment={}) as store:
        check()


def test_what_is_too_deep_is_kept_as_text(store: Store) -> None:
    spec = RunSpec.of({"input": "…", "more": nested(70)}, model="builtin")
    found: Any = store.run(store.begin(spec)).spec.inputs["more"]
    while isinstance(found, list):
        (found,) = found
    assert found.startswith("[[[")
    assert found.endswith("deep']]]]]]]]]]]]")
