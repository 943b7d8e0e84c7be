"""Sessions in a store: their turns and facts; decisions; memories."""

from __future__ import annotations

import pytest

from agentkit.errors import StoreError, ToolError
from agentkit.events import Action, Finished, Pending, Resumed, RunStarted, RunSummary, Verdict, Waiting
from agentkit.sessions.memory import memory_tools
from agentkit.sessions.store import Decision, Store, StoredSession
from tests.sessions.writers import SPEC, events_of_a_run


def run_of(store: Store) -> str:
    run = store.begin(SPEC)
    for event in events_of_a_run():
        store.append(run, event)
    return run


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_is_made_when_it_is_first_named(store: Store) -> None:
    made = store.session("A trip: Zürich → 東京 🚂")
    assert made == StoredSession(
        name="A trip: Zürich → 東京 🚂", facts={}, turns=0, created=made.created, used=made.created
    )
    assert store.session(made.name) == made
    assert store.sessions() == [made]
    assert store.turns(made.name) == []


def test_turns_stand_in_their_order_and_none_stands_twice(store: Store) -> None:
    first = store.begin(SPEC, session="trip", number=0)
    second, third, fourth = run_of(store), run_of(store), run_of(store)
    store.add_turn("trip", second, 1)
    store.add_turn("trip", third[:13].upper())
    refused = r"^Session 'trip' has a turn 2, or run \w+, already; somebody else went on with it: read its turns again$"
    with pytest.raises(StoreError, match=refused):
        store.add_turn("trip", fourth, 2)
    with pytest.raises(StoreError, match=refused):
        store.begin(SPEC, session="trip", number=2)
    with pytest.raises(StoreError, match="already"):
        store.add_turn("trip", first)
    assert store.turns("trip") == [first, second, third]
    assert store.session("trip").turns == 3
    assert len(store.runs()) == 4  # what was refused left no run


def test_the_last_turn_is_taken_off_and_its_run_stays(store: Store) -> None:
    first, second = store.begin(SPEC, session="trip", number=0), store.begin(SPEC, session="trip", number=1)
    assert store.undo("trip") == second
    assert store.turns("trip") == [first]
    assert store.run(second).session == "trip"
    third = store.begin(SPEC, session="trip", number=1)
    assert store.turns("trip") == [first, third]
    assert [store.undo("trip"), store.undo("trip"), store.undo("trip")] == [third, first, None]


def test_a_turn_after_one_whose_run_was_deleted(store: Store) -> None:
    first, second, third = (store.begin(SPEC, session="trip", number=number) for number in range(3))
    store.delete(second)
    fourth = run_of(store)
    store.add_turn("trip", fourth)
    assert store.turns("trip") == [first, third, fourth]


def test_a_fork_goes_on_by_itself(store: Store) -> None:
    first, second = store.begin(SPEC, session="trip", number=0), store.begin(SPEC, session="trip", number=1)
    store.keep_facts("trip", {"model": "builtin", "settings": {"max_tokens": 5}})
    fork = store.fork("trip", "other trip")
    assert (fork.name, fork.turns, fork.facts) == ("other trip", 2, {"model": "builtin", "settings": {"max_tokens": 5}})
    store.undo("trip")
    third = store.begin(SPEC, session="other trip", number=2)
    store.keep_facts("other trip", {})
    assert store.turns("trip") == [first]
    assert store.turns("other trip") == [first, second, third]
    assert store.session("trip").facts == fork.facts
    with pytest.raises(StoreError, match=r"^A session named 'trip' is there already; give another name$"):
        store.fork("other trip", "trip")


def test_another_name(store: Store) -> None:
    run = store.begin(SPEC, session="trip", number=0)
    store.session("taken")
    store.rename("trip", "journey")
    assert (store.turns("journey"), store.run(run).session) == ([run], "journey")
    with pytest.raises(StoreError, match=r"^A session named 'taken' is there already; give another name$"):
        store.rename("journey", "taken")
    assert {session.name for session in store.sessions()} == {"journey", "taken"}


def test_a_deleted_session_leaves_its_runs(store: Store) -> None:
    run = store.begin(SPEC, session="trip", number=0)
    store.delete_session("trip")
    assert (store.sessions(), store.run(run).session) == ([], None)
    assert store.turns(store.session("trip").name) == []


def test_the_session_used_last(store: Store) -> None:
    assert store.last_session() is None
    for name in ("one", "two", "three"):
        store.session(name)
    assert store.last_session() == "three"
    store.add_turn("one", run_of(store))
    store.session("two")
    assert [session.name for session in store.sessions()] == ["one", "three", "two"]
    assert store.last_session() == "one"


@pytest.mark.parametrize("name", ["trip", "", "\0", "\ud800"])
def test_a_session_that_is_not_there(store: Store, name: str) -> None:
    for ask in (
        store.turns,
        store.undo,
        store.delete_session,
        lambda name: store.fork(name, "new"),
        lambda name: store.rename(name, "new"),
        lambda name: store.keep_facts(name, {}),
        lambda name: store.add_turn(name, run_of(store)),
    ):
        with pytest.raises(
            StoreError, match=r"^(No session is named|A session's name has) .*; (agentkit sessions|give another)"
        ):
            ask(name)
    assert store.sessions() == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("", "A session's name has 1 to 200 characters, not ''; give another"),
        ("  ", "A session's name has 1 to 200 characters, not '  '; give another"),
        ("x" * 201, f"A session's name has 1 to 200 characters, not '{'x' * 78}…; give another"),
        ("a\nb", r"A session's name has no control characters, as 'a\nb' does; give another"),
        ("a\x1b[31mb", r"A session's name has no control characters, as 'a\x1b[31mb' does; give another"),
        ("a\ud800", r"A session's name has no control characters, as 'a\ud800' does; give another"),
        ("a\u2028b", r"A session's name has no control characters, as 'a\u2028b' does; give another"),
    ],
)
def test_what_is_no_name(store: Store, name: str, says: str) -> None:
    store.session("trip")
    for ask in (store.session, store.held_session, lambda name: store.begin(SPEC, session=name)):
        with pytest.raises(StoreError) as raised:
            ask(name)
        assert str(raised.value) == says
    for give in (store.rename, store.fork):
        with pytest.raises(StoreError, match="A session's name has"):
            give("trip", name)
    assert [session.name for session in store.sessions()] == ["trip"]
    assert store.runs() == []


@pytest.mark.parametrize("name", ["x" * 200, "%", "'; DROP TABLE agentkit_sessions", "none", "é", "../../etc"])
def test_names_are_free(store: Store, name: str) -> None:
    run = store.begin(SPEC, session=name, number=0)
    with store.held_session(name):
        assert store.turns(name) == [run]


# -- decisions ---------------------------------------------------------------------------------------------------------

MAIL = Pending("d-mail", Action("send_mail", {"to": "ada@example.org"}))
WHICH = Pending("q-which", Action("pay", "5 EUR"), "Which account?")


def waiting_run(store: Store) -> str:
    run = store.begin(SPEC)
    for event in (
        RunStarted({"input": "…"}),
        Waiting((MAIL, None, WHICH)),
        Finished("", False, RunSummary("waiting"), waiting=(MAIL, WHICH)),
    ):
        store.append(run, event)
    return run


def test_calls_wait_from_the_moment_at_which_their_run_does(store: Store) -> None:
    run = waiting_run(store)
    mail, which = store.waiting()
    assert mail == Decision(
        id="d-mail",
        run=run,
        kind="approval",
        tool="send_mail",
        tool_input={"to": "ada@example.org"},
        question="",
        status="waiting",
        edit=None,
        message="",
        by=None,
        asked=mail.asked,
        decided=None,
    )
    assert (which.kind, which.tool_input, which.question) == ("question", "5 EUR", "Which account?")
    assert store.waiting(run) == store.decisions(run) == [mail, which]
    assert store.waiting(run_of(store)) == []
    assert (store.run(run).status, store.run(run).stop_reason) == ("waiting", "waiting")
    assert [entry.id for entry in store.runs(status="waiting")] == [run]
    store.append(run, Resumed())
    with store.held_run(run):
        assert store.run(run).status == "running"


def test_what_is_decided(store: Store) -> None:
    run = waiting_run(store)
    mail = store.decide("d-", True, edit={"to": "bob@example.org"}, by="Eve")
    assert (mail.status, mail.edit, mail.by, mail.message) == ("approved", {"to": "bob@example.org"}, "Eve", "")
    assert mail.decided is not None
    assert mail.verdict == Verdict("d-mail", "yes", "", {"to": "bob@example.org"})
    which = store.decide("q", message="The second.")
    assert which.verdict == Verdict("q-which", "answer", "The second.")
    assert store.decisions(run) == [mail, which]
    assert store.waiting() == []
    store.ask(run, [Pending("third", Action("rm", "*")), MAIL])
    assert [one.verdict for one in store.waiting()] == [None]
    assert store.decide("third", False, message="Not that.").verdict == Verdict("third", "no", "Not that.")


def test_the_first_decision_counts(store: Store) -> None:
    waiting_run(store)
    store.decide("d-mail", False, by="Eve")
    for yes in (True, False):
        with pytest.raises(
            StoreError, match=r"^Decision d-mail was denied at [-\d]+ [:\d]+ by Eve; the first one counts$"
        ):
            store.decide("d-mail", yes)
    assert store.decisions(store.runs()[0].id)[0].status == "denied"


@pytest.mark.parametrize(
    ("id", "given", "says"),
    [
        ("d-mail", {}, "Decision d-mail is whether send_mail may run; say yes or no"),
        ("d-mail", {"message": "ok"}, "Decision d-mail is whether send_mail may run; say yes or no"),
        (
            "d-mail",
            {"yes": False, "edit": "x"},
            "Decision d-mail cannot be no and give other arguments; leave one of them out",
        ),
        ("q-which", {}, "Decision q-which is a question (Which account?); answer by a message"),
        ("q-which", {"yes": True}, "Decision q-which is a question (Which account?); answer by a message"),
        (
            "other",
            {"yes": True},
            "No decision has an id that begins with 'other'; agentkit approvals lists those there are",
        ),
    ],
)
def test_what_decides_nothing(store: Store, id: str, given: dict[str, object], says: str) -> None:
    waiting_run(store)
    with pytest.raises(StoreError) as raised:
        store.decide(id, **given)  # type: ignore[arg-type]
    assert str(raised.value) == says
    assert len(store.waiting()) == 2


def test_two_runs_cannot_have_one_decision(store: Store) -> None:
    run = waiting_run(store)
    other = store.begin(SPEC)
    with pytest.raises(
        StoreError, match=rf"^A decision d-mail of run {run} is there already; give each an id of its own$"
    ):
        store.append(other, Waiting((MAIL,)))
    assert store.run(other).events == ()


def test_no_secret_stands_in_a_decision(address: str) -> None:
    with Store(address, environment={"MY_API_KEY": "kf8sLq2PzT7wVb3N"}) as store:
        run = store.begin(SPEC)
        store.append(run, Waiting((Pending("one", Action("f", {"a": "kf8sLq2PzT7wVb3N"}), "kf8sLq2PzT7wVb3N?"),)))
        store.decide("one", message="kf8sLq2PzT7wVb3N", by="kf8sLq2PzT7wVb3N")
        (decision,) = store.decisions(run)
    assert (decision.tool_input, decision.question) == ({"a": "<REDACTED>"}, "<REDACTED>?")
    assert (decision.message, decision.by) == ("<REDACTED>", "<REDACTED>")


# -- memories ----------------------------------------------------------------------------------------------------------

FACTS = ("My sister lives in Zürich.", "I like blue colours.", "The server's port is 8080.", "我喜欢人工智能。")


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("Where does my SISTER live?", [0]),
        ("zurich", [0]),
        ("favourite colour", [1]),
        ("liked", [1]),
        ("port:8080", [2]),
        ("智能", [3]),
        ("nothing of that", []),
        ("", []),
        ("'\"*()^:-+~ ", []),
        ("\0\ud800", []),
        ("NEAR(blue AND NOT OR", [1]),
        ("blue' | 'port:* & !server", [1, 2]),
        ('"blue" OR words: port', [1, 2]),
        ("blue " * 10_000, [1]),
        ("; DROP TABLE agentkit_memories; --", []),
    ],
)
def test_what_is_recalled(store: Store, query: str, found: list[int]) -> None:
    for fact in FACTS:
        store.remember(fact)
    assert sorted(FACTS.index(memory.text) for memory in store.recall(query)) == found


def test_what_fits_best_comes_first(store: Store) -> None:
    for text in ("blue", "blue and green", "green and red", "blue, green and red", *map(str, range(10))):
        store.remember(text)
    found = [memory.text for memory in store.recall("blue green red", most=3)]
    assert found[0] == "blue, green and red"
    assert len(found) == 3


def test_memories_are_kept_once_and_forgotten(store: Store) -> None:
    first, second = store.remember("  One.\n"), store.remember("Two.")
    assert store.remember("One.") == first
    assert store.memories() == [second, first]
    assert store.forget(second.id) == second
    assert (store.memories(), store.recall("two")) == ([first], [])
    with pytest.raises(StoreError, match=r"^No memory has an id that begins with"):
        store.forget(second.id)
    with pytest.raises(StoreError, match=r"^There is nothing to remember; give a text$"):
        store.remember(" \n")


@pytest.mark.parametrize("text", ["\0\ud800 half", "x" * 300_000, "word " * 50_000, "字" * 120_000, "'"])
def test_any_text_is_remembered(store: Store, text: str) -> None:
    kept = store.remember(text)
    assert store.memories() == [kept]
    assert kept.text == text.replace("\0", "\ufffd").replace("\ud800", "\ufffd").strip()


def test_the_tools_of_an_agent(store: Store) -> None:
    remember, recall = memory_tools(store)
    assert (remember.name, remember.only_reads, recall.name, recall.only_reads) == ("remember", False, "recall", True)
    assert recall.call("blue") == "Nothing about that is known."
    assert remember.call({"text": "The user likes blue."}) == "Remembered: The user likes blue."
    assert recall.call("Which colour? Blue?") == f"- The user likes blue. ({store.memories()[0].at:%Y-%m-%d})"
    with pytest.raises(ToolError, match=r"^Error: There is nothing to remember; give a text$"):
        remember.call(" ")
