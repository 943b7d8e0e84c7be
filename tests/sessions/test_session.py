"""Sessions: what is kept of a conversation, and what a model sees of it. The same in a file and on a server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from langchain_core.tools import tool

from agentkit import AgentExecutor, Ask, Session, Store
from agentkit.core.history import Exchange, History
from agentkit.errors import ConfigurationError, ModelError, StoreError
from agentkit.events import Action, Finished, Forgotten, Step
from agentkit.models.backend import Capabilities, ChatRequest, Completion, NativeCall
from agentkit.models.scripted import ScriptedBackend
from agentkit.sessions.stored_runs import going_on
from tests.doubles.models import action, final

SENT: list[str] = []


@tool
def send(text: str) -> str:
    """Sends a text."""
    SENT.append(text)
    return f"sent {text}"


@tool
def look(text: str) -> str:
    """Looks something up."""
    return f"seen {text}"


look.metadata = {"side_effects": False}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    SENT.clear()
    return tmp_path / "kept.db"


def executor(*turns: Any, mode: Any = "react-json", **options: Any) -> tuple[AgentExecutor, ScriptedBackend]:
    model = ScriptedBackend(turns, capabilities=Capabilities(tools=True))
    return AgentExecutor.from_model(model, [send, look], mode=mode, **options), model


def asked(request: ChatRequest) -> list[tuple[str, str]]:
    """What stood in a request behind the system's message."""
    return [(one["role"], str(one.get("content", ""))) for one in request.messages if one["role"] != "system"]


def test_a_later_turn_sees_questions_answers_and_steps_and_nothing_before_it_changes(path: Path) -> None:
    run, model = executor(action("look", "a"), final("one"), final("two"), action("look", "c"), final("three"))
    session = Session(run, "trip", store=Store(path))
    assert [session.ask(question)["output"] for question in ("q1", "q2", "q3")] == ["one", "two", "three"]
    for earlier, later in zip(model.requests, model.requests[1:], strict=False):
        assert later.messages[: len(earlier.messages)] == earlier.messages
    assert asked(model.requests[-1]) == [
        ("user", "q1"),
        ("assistant", action("look", "a")),
        ("user", "Observation: seen a"),
        ("assistant", final("one")),
        ("user", "q2"),
        ("assistant", final("two")),
        ("user", "q3"),
        ("assistant", action("look", "c")),
        ("user", "Observation: seen c"),
    ]
    assert session.messages == [
        {"role": role, "content": content}
        for role, content in [("user", "q1"), ("assistant", "one"), ("user", "q2"), ("assistant", "two")]
    ] + [{"role": "user", "content": "q3"}, {"role": "assistant", "content": "three"}]


def test_calls_in_a_models_own_syntax_come_back_with_ids_of_their_own(path: Path) -> None:
    def call(text: str) -> Completion:
        return Completion("", tool_calls=(NativeCall("", "look", json.dumps({"text": text})),))

    run, model = executor(call("a"), Completion("one"), call("b"), Completion("two"), mode="tools")
    session = Session(run, "trip", store=Store(path))
    session.ask("q1")
    session.ask("q2")
    last = model.requests[-1].messages
    for earlier, later in zip(model.requests, model.requests[1:], strict=False):
        assert later.messages[: len(earlier.messages)] == earlier.messages
    ids = [one["id"] for message in last for one in message.get("tool_calls", ())]
    assert len(ids) == len(set(ids)) == 2
    assert [message["tool_call_id"] for message in last if message["role"] == "tool"] == ids


def test_a_prompt_of_one_text_has_earlier_turns_above_it(path: Path) -> None:
    model = ScriptedBackend([action("look", "a"), final("one"), final("two")])
    run = AgentExecutor.from_model(model, [look], "react-json-text")
    session = Session(run, "trip", store=Store(path))
    session.ask("q1")
    session.ask("q2")
    first, answer, question = asked(model.requests[-1])
    assert first[1].startswith("q1")
    assert "Observation: seen a" in first[1]
    assert (answer, question) == (("assistant", final("one")), ("user", "q2\n\n"))


def test_a_prompt_without_a_place_for_earlier_turns_is_an_error(path: Path, tmp_path: Path) -> None:
    prompt = tmp_path / "mine.txt"
    prompt.write_text("[system]\n{tools} {tool_names}\n[human]\n{input}\n[messages agent_scratchpad]\n")
    run = AgentExecutor.from_model(ScriptedBackend([final("one")]), [look], str(prompt))
    session = Session(run, "trip", store=Store(path))
    session.ask("q1")
    with pytest.raises(ConfigurationError, match=r"no place for the earlier turns .* \[messages chat_history\?\]"):
        session.ask("q2")


def exchange(number: int, step_tokens: int = 0, answer_tokens: int = 0) -> Exchange:
    steps = [Step(Action("look", "x", ""), "word " * step_tokens)] if step_tokens else []
    return Exchange(f"q{number}", "word " * answer_tokens, steps)


@pytest.mark.parametrize(
    ("sizes", "shown_from", "told_from"),
    [
        ([], 0, 0),
        ([(10, 10)] * 3, 0, 0),
        ([(400, 0)], 0, 0),
        ([(10, 0), (380, 0)], 1, 0),
        ([(180, 0)] * 4, 2, 0),
        ([(1000, 0), (10, 0), (10, 0)], 1, 0),
        ([(0, 100)] * 3, 2, 2),
        ([(0, 1000)], 0, 0),
        ([(0, 1000)] * 2, 1, 1),
        ([(0, 10)] * 40, 23, 23),
    ],
)
def test_what_does_not_fit_is_left_out_seldom_and_for_good(
    sizes: Sequence[tuple[int, int]], shown_from: int, told_from: int
) -> None:
    exchanges = [exchange(number, *size) for number, size in enumerate(sizes)]
    history = History(exchanges, context_tokens=1000)
    assert (history.shown_from, history.told_from) == (shown_from, told_from)
    changes = [History(exchanges[: n + 1], context_tokens=1000) for n in range(len(exchanges))]
    assert [one.told_from for one in changes] == sorted(one.told_from for one in changes)
    assert len({(one.told_from, one.shown_from) for one in changes}) <= 1 + len(exchanges) / 2 + (len(exchanges) < 3)


def test_what_is_left_out_is_an_event(path: Path) -> None:
    run, model = executor(final("word " * 4000), final("two"), final("three"))
    session = Session(run, "trip", store=Store(path))
    session.ask("q1")
    session.ask("q2")
    events = [*session.events("q3")]
    assert [one for one in events if isinstance(one, Forgotten)] == [Forgotten(turns=1, steps=1)]
    assert asked(model.requests[-1]) == [("user", "q2"), ("assistant", final("two")), ("user", "q3")]
    assert len(session.messages) == 6


def test_an_answer_may_rest_on_what_was_said_before(path: Path) -> None:
    run, _ = executor(action("look", "17 boats"), final("17"), final("17 boats of Ann"), return_run=True)
    session = Session(run, "trip", store=Store(path))
    session.ask("how many boats?")
    assert session.ask("whose?")["run"]["ungrounded"] == ("Ann",)


# -- kept, undone, forked ----------------------------------------------------------------------------------------------


def test_a_session_goes_on_in_another_process_with_the_store(path: Path) -> None:
    first, _ = executor(final("one"))
    Session(first, "trip", store=Store(path)).ask("q1")
    again, model = executor(final("two"))
    session = Session(again, "trip", store=path)
    assert session.ask("q2")["output"] == "two"
    assert asked(model.requests[0]) == [("user", "q1"), ("assistant", final("one")), ("user", "q2")]
    assert len(session.runs) == 2


def test_undo_takes_the_last_turn_off_and_a_fork_goes_its_own_way(path: Path) -> None:
    run, _ = executor(*map(final, "abcde"))
    session = Session(run, "trip", store=Store(path))
    for question in ("q1", "q2"):
        session.ask(question)
    other = session.fork("other")
    assert session.undo() == "q2"
    session.ask("q3")
    other.ask("q4")
    assert [one["content"] for one in session.messages] == ["q1", "a", "q3", "c"]
    assert [one["content"] for one in other.messages] == ["q1", "a", "q2", "b", "q4", "d"]
    assert [session.undo(), session.undo(), session.undo()] == ["q3", "q1", None]
    assert session.messages == []
    with pytest.raises(StoreError, match="A session named 'other' is there already"):
        session.fork("other")


def test_what_ended_a_turn_without_an_answer_is_not_the_models_to_have_said(path: Path) -> None:
    run, model = executor(action("look", "a"), final("two"), max_iterations=1)
    session = Session(run, "trip", store=Store(path))
    assert session.ask("q1")["output"] == "Agent stopped due to iteration limit or time limit."
    session.ask("q2")
    assert asked(model.requests[-1])[-2:] == [("assistant", "I found no answer."), ("user", "q2")]


def test_undo_takes_off_a_turn_that_waits_and_no_other(path: Path) -> None:
    run, _ = executor(final("one"), action("send", "a"), approve="defer", store=path)
    session = Session(run, "trip", store=Store(path))
    session.ask("q1")
    session.ask("q2")
    assert (session.undo(), len(session.messages)) == ("q2", 2)


def test_a_turn_that_failed_is_no_part_of_the_conversation_and_can_go_on(path: Path) -> None:
    run, model = executor(action("look", "a"), RuntimeError("gone"), final("two"), final("one"), final("three"))
    store = Store(path)
    session = Session(run, "trip", store=store)
    with pytest.raises(RuntimeError, match="gone"):
        session.ask("q1")
    assert store.run(session.runs[0]).status == "broken_off"
    assert session.ask("q2")["output"] == "two"
    assert asked(model.requests[-1]) == [("user", "q2")]
    kept = AgentExecutor(run.agent, run.tools, store=store)
    assert kept.resume(session.runs[0])["output"] == "one"
    assert asked(model.requests[-1])[-1] == ("user", "Observation: seen a")
    session.ask("q3")
    assert [one["content"] for one in session.messages] == ["q1", "one", "q2", "two", "q3", "three"]


def test_streams_and_awaited_turns_are_kept_as_well(path: Path) -> None:
    run, _ = executor(final("one"), final("two"), final("three"), final("four"))
    session = Session(run, "trip", store=Store(path))
    assert [*session.stream("q1")][-1]["output"] == "one"
    assert asyncio.run(session.aask("q2"))["output"] == "two"
    assert asyncio.run(last_chunk(session))["output"] == "three"
    *_, end = session.events("q4")
    assert isinstance(end, Finished)
    assert [one["content"] for one in session.messages][1::2] == ["one", "two", "three", "four"]


async def last_chunk(session: Session) -> dict[str, Any]:
    return [chunk async for chunk in session.astream("q3")][-1]


def test_a_session_of_another_model_says_so_and_goes_on_if_asked(path: Path) -> None:
    run, _ = executor(final("one"))
    Session(run, "trip", store=Store(path)).ask("q1")
    other = AgentExecutor.from_model(ScriptedBackend([final("two")], model_id="another"), [look])
    with pytest.raises(
        ConfigurationError, match="held with model python:scripted, this is model python:another; go_on=True"
    ):
        Session(other, "trip", store=Store(path)).ask("q2")
    assert Session(other, "trip", store=Store(path), go_on=True).ask("q2")["output"] == "two"


def test_a_turn_that_failed_is_none_that_the_session_was_held_with(path: Path) -> None:
    failing, _ = executor()
    with pytest.raises(ModelError, match="request 1 came"):
        Session(failing, "trip", store=Store(path)).ask("q")
    assert Store(path).session("trip").facts == {}
    answering, _ = executor(final("one"))
    assert Session(answering, "trip", store=Store(path)).ask("q")["output"] == "one"
    assert Store(path).session("trip").facts["model"] == "python:scripted"


@pytest.mark.parametrize("executor", [None, "small", lambda question: "4"])
def test_what_is_no_executor_is_an_error(executor: Any, path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"expected an AgentExecutor, saw .*from_model"):
        Session(executor, "trip", store=Store(path))


@pytest.mark.parametrize("store", [3, ["s.db"], object()])
def test_what_is_no_store_is_an_error(store: Any) -> None:
    with pytest.raises(ConfigurationError, match="store: expected a Store, a file or an address, saw"):
        executor(store=store)


def test_without_a_store_there_is_no_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_STORE", "none")
    run, _ = executor()
    with pytest.raises(StoreError, match=r"AGENTKIT_STORE says none; give one: store=FILE"):
        Session(run, "trip")


def test_a_session_that_is_in_use_is_waited_for_and_then_told(path: Path) -> None:
    run, _ = executor(final("one"))
    session = Session(run, "trip", store=Store(path), wait_s=0)
    with session.held(), pytest.raises(StoreError, match=r"'trip' is in use by process \d+"):
        Session(run, "trip", store=Store(path), wait_s=0).ask("q1")


# -- decisions that wait -----------------------------------------------------------------------------------------------


def waits(path: Path, *turns: str, **options: Any) -> tuple[AgentExecutor, dict[str, Any]]:
    run, _ = executor(*turns, approve="defer", store=path, **options)
    return run, run.invoke({"input": "send it"})


def test_a_decision_is_taken_in_another_process_and_the_run_goes_on(path: Path) -> None:
    _, result = waits(path, action("send", "hello"))
    (waiting,) = result["waiting"]
    assert (waiting["tool"], waiting["tool_input"], waiting["question"], SENT) == ("send", {"text": "hello"}, "", [])
    elsewhere, _ = executor(final("done"), approve="defer", store=path, return_intermediate_steps=True)
    result = elsewhere.decide(waiting["id"], True)
    assert (result["output"], SENT, "waiting" in result) == ("done", ["hello"], False)
    assert [seen for _, seen in result["intermediate_steps"]] == ["sent hello"]
    with pytest.raises(StoreError, match=r"was approved at .*the first one counts"):
        elsewhere.decide(waiting["id"], False)
    assert SENT == ["hello"]


@pytest.mark.parametrize(
    ("decision", "sent", "seen"),
    [
        ({"yes": False, "message": "Too early."}, [], "send was not approved. Too early."),
        ({"yes": True, "edit": {"text": "bye"}}, ["bye"], "send ran with {'text': 'bye'} instead.\nsent bye"),
    ],
)
def test_the_model_is_told_what_was_decided(decision: dict[str, Any], sent: list[str], seen: str, path: Path) -> None:
    _, result = waits(path, action("send", "hello"))
    elsewhere, model = executor(final("done"), approve="defer", store=path)
    elsewhere.decide(result["waiting"][0]["id"], **decision)
    assert (SENT, asked(model.requests[0])[-1]) == (sent, ("user", f"Observation: {seen}"))


@pytest.mark.parametrize("yes", ["no", "false", 1, 0, []])
def test_only_true_is_a_yes(yes: Any, path: Path) -> None:
    run, result = waits(path, action("send", "hello"))
    with pytest.raises(StoreError, match="is True or False"):
        run.decide(result["waiting"][0]["id"], yes)
    assert SENT == []


def test_an_edit_with_a_secret_decides_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_API_KEY", "sk-12345678901234567890")
    run, result = waits(path, action("send", "hello"))
    with pytest.raises(StoreError, match="holds a secret, which is not kept"):
        run.decide(result["waiting"][0]["id"], True, edit={"text": "sk-12345678901234567890"})
    assert (SENT, len(Store(path).waiting())) == ([], 1)


def test_of_two_that_go_on_at_once_one_does(path: Path) -> None:
    run, result = waits(path, action("send", "hello"), final("done"))
    store = Store(path)
    decision = store.decide(result["waiting"][0]["id"], True)
    first, second = (going_on(store, store.run(decision.run)) for _ in range(2))
    assert run.joined(first).invoke({"input": "send it"})["output"] == "done"
    with pytest.raises(StoreError, match="went on in another process meanwhile"):
        run.joined(second).invoke({"input": "send it"})
    assert SENT == ["hello"]


def test_a_session_is_held_while_a_decided_turn_goes_on(path: Path) -> None:
    run, _ = executor(action("send", "hello"), final("sent"), approve="defer", store=path)
    session = Session(run, "trip", store=Store(path), wait_s=0)
    waiting = session.ask("send it")["waiting"][0]["id"]
    store = Store(path)
    decision = store.decide(waiting, True)
    within = going_on(store, store.run(decision.run))
    events = run.joined(within).events({"input": "send it"})
    next(events)
    with pytest.raises(StoreError, match="'trip' is in use"):
        session.ask("more")
    assert [*events][-1].output == "sent"


def test_an_edit_that_the_tool_does_not_take_decides_nothing(path: Path) -> None:
    _, result = waits(path, action("send", "hello"))
    elsewhere, _ = executor(final("done"), store=path)
    (waiting,) = result["waiting"]
    with pytest.raises(ConfigurationError, match="edit is no input of send"):
        elsewhere.decide(waiting["id"], True, edit={"to": "Ann"})
    assert elsewhere.decide(waiting["id"], True)["output"] == "done"


def test_a_tool_asks_the_user_and_is_told(path: Path) -> None:
    @tool
    def pay(amount: str) -> str:
        """Pays."""
        raise Ask("Which account?")

    model = ScriptedBackend([action("pay", "5"), final("paid")])
    run = AgentExecutor.from_model(model, [pay], approve="defer", store=path)
    asks = run.invoke({"input": "pay"})
    assert asks["waiting"][0]["question"] == ""
    asks = run.decide(asks["waiting"][0]["id"], True)
    (waiting,) = asks["waiting"]
    assert waiting["question"] == "Which account?"
    assert run.decide(waiting["id"], message="savings")["output"] == "paid"
    assert asked(model.requests[-1])[-1] == ("user", "Observation: Which account? The answer: savings")


def test_it_is_asked_at_once_where_there_is_somebody(path: Path) -> None:
    @tool
    def pay(amount: str) -> str:
        """Pays."""
        raise Ask("Which account?")

    def answer(question: str, action: Action) -> str:
        return f"{question} {action.tool}"

    model = ScriptedBackend([action("pay", "5"), final("paid")] * 2)
    run = AgentExecutor.from_model(model, [pay], answer=answer)
    run.invoke({"input": "pay"})
    asyncio.run(run.ainvoke({"input": "pay"}))
    told = ("user", "Observation: Which account? The answer: Which account? pay")
    assert [asked(model.requests[number])[-1] for number in (1, 3)] == [told, told]


def test_a_session_waits_until_it_is_decided(path: Path) -> None:
    run, _ = executor(action("send", "hello"), final("sent"), final("more"), approve="defer", store=path)
    session = Session(run, "trip", store=Store(path))
    result = session.ask("send it")
    with pytest.raises(ConfigurationError, match=r"'trip' waits for a decision: \w+, send"):
        session.ask("more")
    run.decide(result["waiting"][0]["id"], True)
    assert session.ask("more")["output"] == "more"
    assert [one["content"] for one in session.messages] == ["send it", "sent", "more", "more"]


def test_a_run_with_several_decisions_goes_on_with_the_last(path: Path) -> None:
    calls = [NativeCall(f"id{n}", "send", json.dumps({"text": text})) for n, text in enumerate("ab")]
    turns = [Completion("", tool_calls=tuple(calls)), Completion("done")]
    run, _ = executor(*turns, approve="defer", store=path, mode="tools")
    first, second = run.invoke({"input": "send both"})["waiting"]
    left = run.decide(second["id"], True)
    assert [one["id"] for one in left["waiting"]] == [first["id"]]
    assert (run.decide(first["id"], False)["output"], SENT) == ("done", ["b"])


def test_what_waits_in_a_cassette_is_refused(path: Path) -> None:
    run, _ = executor(action("send", "hello"), approve="defer", store=path, cassette=str(path.with_suffix(".yaml")))
    with pytest.raises(ConfigurationError, match='approve="defer" keeps a run in the store'):
        run.invoke({"input": "send it"})


def test_a_call_with_a_secret_does_not_run_with_what_stands_in_its_place(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_API_KEY", "sk-12345678901234567890")
    run, result = waits(path, action("send", "sk-12345678901234567890"), final("done"))
    decision = result["waiting"][0]["id"]
    with pytest.raises(ConfigurationError, match="called with a secret, which is not kept"):
        run.decide(decision, True)
    assert SENT == []
    assert run.decide(decision, True, edit={"text": "no key"})["output"] == "done"
    assert SENT == ["no key"]


def test_an_answered_run_does_not_go_on(path: Path) -> None:
    run, _ = executor(final("done"), store=path)
    run.invoke({"input": "q"})
    with pytest.raises(ConfigurationError, match="has its answer"):
        run.resume(Store(path).last_run() or "")


def test_limits_are_raised_for_a_run_that_goes_on(path: Path) -> None:
    turns = [action("look", "a"), action("look", "b"), final("done")]
    run, _ = executor(*turns, store=path, max_iterations=2)
    run.invoke({"input": "q"})
    run.max_iterations = 5
    assert run.resume(Store(path).last_run() or "")["output"] == "done"


def test_batches_and_awaited_runs_are_kept_one_by_one(path: Path) -> None:
    def by_question(request: ChatRequest) -> str:
        return final(str(request.messages[-1]["content"]))

    run = AgentExecutor.from_model(ScriptedBackend(by_question), [look], store=path)
    run.batch([{"input": f"q{n}"} for n in range(8)])
    asyncio.run(run.abatch([{"input": f"a{n}"} for n in range(8)]))
    kept = {(one.question, one.output, one.status) for one in Store(path).runs()}
    assert kept == {(f"{letter}{n}", f"{letter}{n}", "finished") for letter in "qa" for n in range(8)}


def test_an_agent_of_langchains_sees_earlier_turns_as_chat_history(path: Path) -> None:
    from langchain_core.agents import AgentFinish
    from langchain_core.runnables import RunnableLambda

    seen: list[Any] = []

    def plan(inputs: dict[str, Any]) -> AgentFinish:
        seen.append([(one.type, one.content) for one in inputs.get("chat_history", ())])
        return AgentFinish({"output": f"to {inputs['input']}"}, "")

    session = Session(AgentExecutor(RunnableLambda(plan), [look]), "trip", store=Store(path))
    session.ask("q1")
    session.ask("q2")
    assert seen == [[], [("human", "q1"), ("ai", "to q1")]]


def test_a_name_that_holds_a_secret_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAIL_API_KEY", "sk-12345678901234567890")
    run, _ = executor(final("one"))
    with pytest.raises(StoreError, match="name is kept as it is, and this one holds a secret"):
        Session(run, "for sk-12345678901234567890", store=Store(path)).ask("q1")
