"""Runs that the command line keeps: the log, sessions, decisions, runs that go on, and memories."""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentkit.sessions.store import Store
from tests.doubles.server import error, stalls
from tests.sessions.commands import Bench, action, bench, final
from tests.sessions.terminal import at_terminal

SAID = "\x1b]0;OWNED\x07\x1b[31mred\u202e [red]x[/red]"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    with bench(tmp_path, monkeypatch, capsys) as made:
        yield made


def harmless(text: str) -> bool:
    return not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", text)


# -- run ---------------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_that_runs_are_kept_is_said_once_at_a_terminal(command: Bench) -> None:
    command.plays(final("four"))
    for said in (True, False):
        model = ("--model", command.server.url, "--mode", "react-json", "--tools", "calculator")
        with at_terminal("run", "q", *model, folder=command.folder) as terminal:
            assert terminal.end() == 0
        assert ("runs are kept from now on, in" in terminal.text) is said


def test_a_run_is_kept(command: Bench) -> None:
    command.plays(final("four"))
    first, second = command.ask("run", "What is 2 + 2?"), command.ask("run", "And 3 + 1?")
    assert [(one.code, one.out) for one in (first, second)] == [(0, "four\n")] * 2
    assert "kept" not in first.err + second.err
    with command.store as store:
        assert [(one.question, one.output, one.status) for one in store.runs()] == [
            ("And 3 + 1?", "four", "finished"),
            ("What is 2 + 2?", "four", "finished"),
        ]


@pytest.mark.parametrize("how", ["--no-log", "AGENTKIT_STORE", "--store"])
def test_it_is_not_kept_where_that_is_said(command: Bench, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    command.plays(final("four"))
    words = {"--no-log": ["--no-log"], "--store": ["--store", "none"], "AGENTKIT_STORE": []}[how]
    if how == "AGENTKIT_STORE":
        monkeypatch.setenv("AGENTKIT_STORE", "none")
    assert command.ask("run", "q", *words).code == 0
    assert not (command.folder / "data").exists()
    assert "error: Nothing is kept here" in command.run("logs", "--store", "none").err


@pytest.mark.parametrize("address", ["/dev/null/x.db", "mysql://h/d", "{folder}", "{folder}/package/outbox.py"])
def test_a_store_that_was_named_and_cannot_be_used_is_wrong_use(command: Bench, address: str) -> None:
    command.plays(final("four"))
    address = address.replace("{folder}", str(command.folder))
    for words in (["run", "q"], ["run", "-q", "q"], ["run", "--session", "s", "q"], ["run", "--defer", "q"], ["chat"]):
        done = command.ask(*words, "--store", address)
        assert (done.code, done.out, command.server.bodies) == (2, "", [])
        assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1
    assert command.run("logs", "--store", address).code == 2
    command.patch.setenv("AGENTKIT_STORE", address)
    assert command.ask("run", "q").code == 2
    assert command.ask("run", "q", "--no-log").out == "four\n"


def test_without_their_own_store_a_run_goes_on(command: Bench) -> None:
    command.plays(final("four"))
    (command.folder / "data").write_text("no folder")
    done = command.ask("run", "q")
    assert (done.code, done.out, done.err.count("this run is not kept: ")) == (0, "four\n", 1)
    assert command.ask("run", "q", "--session", "s").code == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "q", "--session", "a", "--continue"], "--continue is the session that was used last"),
        (["run", "q", "--session", "a", "--no-log"], "--no-log keeps nothing"),
        (["run", "q", "--another-model"], "--another-model is about a session"),
        (["run", "q", "--defer", "--yes"], "--defer lets calls wait, --yes runs them"),
        (["run", "q", "--defer", "--record", "x.yaml"], "--record keeps a run in a cassette"),
        (["run", "q", "--continue"], "there is no session and no run to go on with"),
        (["run", "q", "--session", "a\x1b[2J"], "no control characters"),
        (["run", "q", "--session", ""], "1 to 200 characters"),
        (["run", "q", "--session", "x" * 201], "1 to 200 characters"),
        (["show"], "expected a cassette, the id of a run, or --last"),
        (["show", "--last"], "no run is kept"),
        (["show", "abc"], "there is no file abc; No run has an id"),
        (["resume", "abc"], "there is no file abc; No run has an id"),
        (["logs", "--delete", "abc"], "No run has an id"),
        (["logs", "--session", "abc"], "No session is named 'abc'"),
        (["approvals", "yes", "abc"], "No decision has an id"),
        (["approvals", "yes", "abc", "--edit", "{"], "--edit: expected JSON"),
        (["approvals", "yes", "abc", "--edit", "7"], "--edit: expected an object or a text"),
        (["memory", "add", " "], "nothing to remember"),
        (["memory", "forget", "abc"], "No memory has an id"),
        (["sessions", "delete", "abc"], "No session is named 'abc'"),
        (["sessions", "rename", "abc", "b"], "No session is named 'abc'"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(command: Bench, words: list[str], message: str) -> None:
    command.plays(final("four"))
    done = command.ask(*words) if words[0] == "run" else command.run(*words)
    errors = [line for line in done.err.splitlines() if not line.startswith("model: ")]
    assert (done.code, done.out, len(errors)) == (2, "", 1)
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert harmless(done.err.replace("\n", ""))


def test_none_lifts_a_limit_among_the_options(command: Bench) -> None:
    command.plays(final("four"))
    assert command.ask("run", "q", "--option", "timeout=none", "--option", "total_timeout=none").out == "four\n"


def test_a_run_that_failed_is_kept_and_wrong_use_is_none(command: Bench) -> None:
    command.server.plays = [error(503)]
    assert command.ask("run", "q", "--option", "max_retries=0").code == 3
    assert command.run("run", "q", "--model", "hf:a/b").code == 2
    (entry,) = json.loads(command.run("logs", "--json").out)
    assert (entry["status"], "503" in entry["output"]) == ("broken_off", True)
    command.plays(final("four"))
    assert command.run("resume", entry["id"]).out == "four\n"


@pytest.mark.slow
def test_what_ctrl_c_ends_is_kept(command: Bench) -> None:
    for words in ([], ["--session", "s"], ["--defer"]):
        command.server.plays = [stalls("Final Answer: It grows")]
        model = ("--model", command.server.url, "--mode", "react-json", "--tools", "calculator", "--verbose")
        with at_terminal("run", "q", *model, *words, folder=command.folder) as terminal:
            terminal.wait_for("It grows")
            terminal.type("\x03")
            assert terminal.end() == 130
        (entry,) = json.loads(command.run("logs", "-n", "1", "--json").out)
        assert f"what there was is kept; agentkit resume {entry['id']} goes on with it" in terminal.text
        command.plays(final("four"))
        assert command.run("resume", entry["id"]).out == "four\n"


def test_where_nobody_can_be_asked_nothing_runs_and_the_run_is_kept(command: Bench) -> None:
    command.plays(action("Send", "hello"), final("done"))
    refused = command.ask("run", "q")
    assert (refused.code, command.sent) == (0, [])
    assert "not run: Send may have side effects, and nobody can be asked here" in refused.err
    (entry,) = json.loads(command.run("logs", "--json").out)
    assert entry["output"] == "done"


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_a_session_goes_on_and_its_model_reads_the_turns_before(command: Bench) -> None:
    command.plays(final("51"))
    assert command.ask("run", "What is 17 * 3?", "--session", "sums").out == "51\n"
    command.plays(final("102"))
    done = command.ask("run", "--continue", "and times 2?")
    assert (done.out, "session: sums, 1 turn so far" in done.err) == ("102\n", True)
    told = [one["content"] for one in command.server.bodies[-1]["messages"]]
    assert any("What is 17 * 3?" in text for text in told)
    assert any("51" in text for text in told)


def test_what_was_asked_last_in_no_session_becomes_the_first_turn_of_one(command: Bench) -> None:
    command.plays(final("51"))
    command.ask("run", "What is 17 * 3?")
    assert "session: what-is-17-3, 1 turn so far" in command.ask("run", "--continue", "and times 2?").err
    listed = json.loads(command.run("sessions", "--json").out)
    assert [(one["name"], one["turns"]) for one in listed] == [("what-is-17-3", 2)]
    command.ask("run", "What is 17 * 3?")
    assert "session: what-is-17-3-2, 1 turn" in command.ask("run", "--continue", "and times 2?").err


@pytest.mark.parametrize("goes_on", [["--continue"], ["--session", "s"]])
def test_a_turn_is_made_of_what_the_last_one_was(command: Bench, goes_on: list[str]) -> None:
    command.plays(final("51"))
    command.patch.setenv("AGENTKIT_MODEL", "http://127.0.0.1:9")
    prompt = "[system]\nMine. {tools} {tool_names}\n[messages chat_history?]\n[human]\n{input}\n"
    (command.folder / "own.txt").write_text(f"{prompt}[messages agent_scratchpad]\n")
    more = ("--option", "temperature=0.5", "--max-iterations", "4", "--prompt", "own.txt")
    assert command.ask("run", "q", "--session", "s", *more).code == 0
    (command.folder / "own.txt").unlink()
    (command.folder / "agentkit.toml").write_text('tools = ["search"]\n')
    for said, temperature in (([], 0.5), (["--option", "temperature=0.25"], 0.25), ([], 0.25)):
        assert command.run("run", *goes_on, "and times 2?", *said).out == "51\n"
        body = command.server.bodies[-1]
        assert (body["temperature"], body["messages"][0]["content"][:5]) == (temperature, "Mine.")
        assert "Sends a mail." in body["messages"][0]["content"]
    with command.store as store:
        first, last = (store.run(run).spec.settings for run in (store.turns("s")[0], store.turns("s")[-1]))
    assert (last.tools, last.max_iterations, last.mode) == (first.tools, 4, "react-json")
    assert command.run("chat", *goes_on, stdin="and times 3?\n").out == "51\n"


def test_another_model_is_said_and_goes_on_where_that_is_meant(command: Bench) -> None:
    command.plays(final("51"))
    command.ask("run", "q", "--session", "s")
    for words in (["run", "--session", "s", "q"], ["run", "--continue", "q", "--yes"], ["chat", "--continue"]):
        refused = command.run(*words, "--model", f"{command.server.url}#other", stdin="q\n")
        assert (refused.code, refused.out) == (2, "")
        assert re.search(
            r"error: session s was held with model http\S+, this is model \S+#other; --another-model goes", refused.err
        )
    words = ["run", "--session", "s", "q", "--model", f"{command.server.url}#other", "--another-model"]
    assert command.run(*words).out == "51\n"
    assert command.run("run", "--continue", "q").code == 0
    assert [body.get("model") for body in command.server.bodies[-2:]] == ["other", "other"]


def test_what_is_refused_leaves_the_store_as_it_was(command: Bench) -> None:
    command.plays(final("51"))
    command.ask("run", "q")
    prompt = "[system]\n{tools} {tool_names}\n[human]\n{input}\n[messages agent_scratchpad]\n"
    (command.folder / "no-place.txt").write_text(prompt)
    for words in (
        ["--continue", "--another-model", "--prompt", "no-place.txt"],
        ["--continue", "--model", f"{command.server.url}#other"],
        ["--continue", "--tools", "nonsense"],
        ["--session", "new", "--tools", "nonsense"],
        ["--session", "a\x1b[2J"],
    ):
        assert command.run("run", "a", *words).code == 2
        assert command.run("chat", *words, stdin="a\n").code == 2
    with command.store as store:
        assert (store.sessions(), len(store.runs())) == ([], 1)


def test_a_run_without_a_reply_is_none_to_go_on_with(command: Bench) -> None:
    nowhere = ("--option", "max_retries=0", "--model", "http://127.0.0.1:9")
    command.plays(final("51"))
    assert command.ask("run", "zero", "--session", "z", *nowhere).code == 3
    assert "there is no session and no run" in command.run("run", "q", "--continue").err
    command.ask("run", "one")
    assert command.ask("run", "two", *nowhere).code == 3
    done = command.run("run", "three", "--continue")
    assert (done.code, "session: one, 1 turn so far" in done.err) == (0, True)
    assert command.ask("run", "four", "--continue", "--another-model", *nowhere).code == 3
    assert "session: one, 2 turns so far; its last turn was broken off" in command.run("run", "five", "--continue").err
    assert command.ask("run", "six", "--session", "z").out == "51\n"


def test_sessions_are_listed_renamed_and_deleted(command: Bench) -> None:
    command.plays(final("51"))
    command.ask("run", "q [red]\x1b[2J", "--session", "a b")
    command.server.plays = [error(503)]
    assert command.ask("run", "broken", "--session", "a b", "--option", "max_retries=0").code == 3
    shown = command.run("sessions")
    assert re.search(r"a b +1 +\S+ \S+ +http\S+ +q \[red\]\ufffd\[2J", shown.out)
    assert [one["turns"] for one in json.loads(command.run("sessions", "--json").out)] == [1]
    assert command.run("sessions", "rename", "a b", "c").code == 0
    assert command.run("sessions", "delete", "c").err == "deleted: c; its runs stay in the log\n"
    assert len(json.loads(command.run("logs", "--json").out)) == 2


def test_one_conversation_from_a_pipe(command: Bench) -> None:
    command.plays(final("51"), final("102"), final("done"))
    done = command.ask("chat", stdin="What is 17 * 3?\n\n  and times 2?\n/quit\n")
    assert (done.code, done.out) == (0, "51\n102\ndone\n")
    with command.store as store:
        assert [(one.name, one.turns) for one in store.sessions()] == [("what-is-17-3", 3)]
    command.plays("no turn at all")
    failed = command.ask("chat", "--continue", "--max-iterations", "1", "--yes", stdin="x\n")
    assert (failed.code, failed.out) == (1, "")


# -- what is kept ------------------------------------------------------------------------------------------------------


def test_logs_are_a_log(command: Bench) -> None:
    for number in range(3):
        command.plays(final(f"answer {number}"))
        command.ask("run", f"question {number}")
    shown = command.run("logs", "-n", "2").out
    assert re.findall(r"question \d|answer \d", shown) == ["question 1", "answer 1", "question 2", "answer 2"]
    found = json.loads(command.run("logs", "answer 1", "--json").out)
    assert [(one["input"], one["output"], one["stop_reason"], one["status"]) for one in found] == [
        ("question 1", "answer 1", "answer", "finished")
    ]
    assert found[0]["model"] == command.server.url
    assert command.run("logs", "nothing like it").err == "no run is kept that fits\n"
    assert command.run("logs", "--delete", found[0]["id"]).err == f"deleted: {found[0]['id']}\n"
    assert len(json.loads(command.run("logs", "--json").out)) == 2


def test_where_runs_are_kept(command: Bench) -> None:
    told = command.run("logs", "--path")
    assert told.out == f"{command.folder}/data/agentkit/agentkit.db\n"
    assert "--no-log keeps a run out, AGENTKIT_STORE=none all of them" in told.err
    assert not (command.folder / "data").exists()


def test_a_kept_run_is_shown_as_a_recorded_one_is(command: Bench) -> None:
    command.plays(action("Calculator", "2+2"), final("four"))
    command.ask("run", "What is 2 + 2?", "--record", "run.yaml")
    recorded, kept = command.run("show", "run.yaml").out, command.run("show", "--last").out
    steps = re.compile(r"Thought: .*|Action: .*?\)|Observation: .*|Answer: .*|\d turns.*?calls?")
    assert steps.findall(kept) == steps.findall(recorded) != []
    (id_,) = [one["id"] for one in json.loads(command.run("logs", "--json").out)]
    assert command.run("show", id_[:12]).out == kept
    (command.folder / id_).write_bytes((command.folder / "run.yaml").read_bytes())
    assert command.run("show", id_).out.splitlines()[2] == recorded.splitlines()[2].replace("run.yaml", id_)
    assert command.run("show", "--last", "--html").code == 0
    assert "What is 2 + 2?" in (command.folder / f"{id_}.html").read_text()


def test_hostile_text_in_the_store_drives_no_terminal(command: Bench) -> None:
    command.plays(action("Send", SAID), final(f"well {SAID}"))
    command.ask("run", "q", "--defer", "--session", "s")
    command.ask("run", SAID, "--session", "t", "--yes")
    command.run("memory", "add", SAID)
    words = ("logs", "logs --json", "sessions", "sessions --json", "approvals", "approvals --json", "memory")
    for one in (*words, "memory search red", "show --last", "show --last --json"):
        done = command.run(*one.split())
        assert harmless((done.out + done.err).replace("\n", "")), one
        assert done.code == 0


# -- decisions ---------------------------------------------------------------------------------------------------------


def waits(command: Bench, turn: str, *, last: str = "done") -> str:
    command.plays(turn, final(last))
    done = command.ask("run", "send it", "--defer")
    (id_,) = command.ids()
    assert (done.code, done.out, command.sent) == (5, "", [])
    assert f"agentkit approvals {'answer' if 'Pay' in turn else 'yes'} {id_}" in done.err
    return id_


def test_a_call_waits_is_listed_and_runs_when_somebody_says_yes(command: Bench) -> None:
    id_ = waits(command, action("Send", "hello"))
    listed = command.run("approvals")
    assert re.search(rf'{id_} .* Send: may it run\?\ninput \| "hello"\n  run \| "send it"\n', listed.out)
    (one,) = json.loads(command.run("approvals", "--json").out)
    assert (one["id"], one["tool"], one["tool_input"], one["kind"]) == (id_, "Send", "hello", "approval")
    done = command.run("approvals", "yes", id_[:8])
    assert (done.code, done.out, command.sent) == (0, "done\n", ["hello"])
    assert "nothing waits in" in command.run("approvals").err
    again = command.run("approvals", "yes", id_)
    assert (again.code, "was approved at" in again.err, command.sent) == (2, True, ["hello"])


@pytest.mark.slow
def test_of_several_that_decide_at_once_one_counts(command: Bench) -> None:
    id_ = waits(command, action("Send", "hello"))
    words = [sys.executable, "-c", "from agentkit.cli import main; main()", "approvals", "yes", id_]
    environment = {**os.environ, "PYTHONPATH": str(command.folder / "package")}
    deciding = [subprocess.Popen(words, env=environment, stdout=-1, stderr=-1, cwd=command.folder) for _ in range(3)]
    told = [one.communicate(timeout=60)[1] for one in deciding]
    assert sorted(one.returncode for one in deciding) == [0, 2, 2], told
    assert command.sent == ["hello"]


@pytest.mark.parametrize(
    ("words", "sent", "told"),
    [
        (["no", "ID"], [], "Send was not approved. Do without it."),
        (["no", "ID", "--message", "Ask Ann."], [], "Send was not approved. Ask Ann."),
        (["yes", "ID", "--edit", '"bye"'], ["bye"], "Send ran with bye instead."),
    ],
)
def test_what_was_decided_is_told_to_the_model(command: Bench, words: list[str], sent: list[str], told: str) -> None:
    id_ = waits(command, action("Send", "hello"))
    done = command.run("approvals", *(id_ if word == "ID" else word for word in words))
    assert (done.code, done.out, command.sent) == (0, "done\n", sent)
    assert told in done.err


def test_a_question_is_answered(command: Bench) -> None:
    id_ = waits(command, action("Pay", "rent"))
    assert ' asks | "Which account?"\n' in command.run("approvals").out
    refused = command.run("approvals", "yes", id_)
    assert (refused.code, f"agentkit approvals answer {id_} TEXT" in refused.err) == (2, True)
    done = command.run("approvals", "answer", id_, "savings")
    assert (done.code, done.out) == (0, "done\n")
    assert "Which account? The answer: savings" in done.err


def test_only_decided_the_run_goes_on_when_it_is_resumed(command: Bench) -> None:
    id_ = waits(command, action("Send", "hello"))
    (run,) = [one["id"] for one in json.loads(command.run("logs", "--json").out)]
    waiting = command.run("resume", run)
    assert (waiting.code, f"waits for a decision: {id_}" in waiting.err) == (2, True)
    decided = command.run("approvals", "yes", id_, "--no-resume")
    assert (decided.code, decided.out, command.sent) == (0, "", [])
    assert command.run("resume", run).out == "done\n"
    assert command.sent == ["hello"]
    answered = command.run("resume", run)
    assert (answered.code, "has its answer" in answered.err) == (2, True)


def test_an_input_that_the_tool_does_not_take_decides_nothing(command: Bench) -> None:
    id_ = waits(command, action("mail", {"to": "Ann", "text": "hello"}))
    for more in ([], ["--no-resume"]):
        done = command.run("approvals", "yes", id_, "--edit", '{"to": 7}', *more)
        assert (done.code, done.out, command.ids()) == (2, "", [id_])
        assert "error: --edit is no input of mail" in done.err
    edited = command.run("approvals", "yes", id_, "--edit", '{"to": "Bob", "text": "hi"}')
    assert (edited.code, command.sent) == (0, ["Bob: hi"])


def test_a_second_call_waits_again_where_nobody_can_be_asked(command: Bench) -> None:
    command.plays(action("Send", "one"), action("Send", "two"), final("done"))
    command.ask("run", "send both", "--defer")
    (first,) = command.ids()
    done = command.run("approvals", "yes", first)
    (second,) = command.ids()
    assert (done.code, command.sent, second in done.err) == (5, ["one"], True)
    assert command.run("approvals", "yes", second).out == "done\n"
    assert command.sent == ["one", "two"]


def test_a_session_whose_call_waits_says_so(command: Bench) -> None:
    command.plays(action("Send", "hello"), final("done"), final("again"))
    assert command.ask("run", "send it", "--session", "s", "--defer").code == 5
    (id_,) = command.ids()
    blocked = command.ask("run", "more", "--session", "s")
    assert (blocked.code, f"waits for a decision: agentkit approvals yes {id_}" in blocked.err) == (2, True)
    assert "executor" not in blocked.err
    assert command.run("approvals", "yes", id_).out == "done\n"
    assert command.ask("run", "more", "--continue").out == "again\n"


def test_a_run_of_a_model_that_was_made_in_python_is_decided_alone(command: Bench) -> None:
    from agentkit import AgentExecutor
    from agentkit.models.scripted import ScriptedBackend
    from agentkit.tool import Tool

    sent: list[str] = []
    tools = [Tool(name="Send", description="Sends.", run=sent.append, side_effects=True)]
    model = ScriptedBackend([action("Send", "hello"), final("done")])
    executor = AgentExecutor.from_model(model, tools, mode="react-json", approve="defer")
    (waiting,) = executor.invoke({"input": "send it"})["waiting"]
    (run,) = [one["id"] for one in json.loads(command.run("logs", "--json").out)]
    refused = command.run("resume", run)
    done = command.run("approvals", "yes", waiting["id"])
    assert (done.code, done.out, sent) == (0, "", [])
    assert f"executor.resume('{run}') goes on there" in done.err
    assert (refused.code, "waits for a decision" in refused.err) == (2, True)
    assert executor.resume(run)["output"] == "done"
    assert sent == ["hello"]


# -- stores of others --------------------------------------------------------------------------------------------------


def theirs(command: Bench) -> tuple[str, str]:
    """A store that somebody else made, with a call that waits, by its file and the decision's id."""
    id_ = waits(command, action("Send", "hello"))
    file = command.folder / "theirs.db"
    os.rename(command.folder / "data" / "agentkit" / "agentkit.db", file)
    return str(file), id_


def test_a_store_of_others_asks_before_anything_runs(command: Bench) -> None:
    file, id_ = theirs(command)
    refused = command.run("approvals", "yes", id_, "--store", file)
    assert (refused.code, command.sent) == (2, [])
    assert f"others may write {file}, and nobody can be asked here" in refused.err
    no = command.run("approvals", "no", id_, "--store", file)
    assert (no.code, command.sent) == (2, [])
    assert re.search(r"error: run \w+ in \S+ asks to run the tool send; .*send the question to http.*--trust", no.err)
    done = command.run("approvals", "--store", file, "yes", id_, "--trust")
    assert (done.code, done.out, command.sent) == (0, "done\n", ["hello"])


def test_a_session_of_others_asks_before_its_settings_are_taken_over(command: Bench) -> None:
    command.plays(final("51"), final("52"))
    command.ask("run", "q", "--session", "s")
    file = command.folder / "theirs.db"
    os.rename(command.folder / "data" / "agentkit" / "agentkit.db", file)
    for words in (["run", "more"], ["chat"]):
        refused = command.run(*words, "--continue", "--store", str(file), stdin="more\n")
        assert (refused.code, len(command.server.bodies)) == (2, 1)
        assert re.search(r"error: run \w+ in \S+ asks to run the tool send; .*send the question to", refused.err)
    assert command.run("run", "more", "--continue", "--store", str(file), "--trust").out == "52\n"


def test_a_store_that_was_made_here_asks_nothing(command: Bench) -> None:
    file = str(command.folder / "mine.db")
    command.plays(action("Send", "hello"), final("done"))
    command.ask("run", "send it", "--defer", "--store", file)
    with Store(file) as store:
        (one,) = store.waiting()
    done = command.run("approvals", "yes", one.id, "--store", file)
    assert (done.code, done.out, command.sent) == (0, "done\n", ["hello"])
    os.chmod(file, 0o666)
    assert command.run("approvals", "--store", file).code == 0


def test_what_a_file_decided_stays_the_files_when_the_run_goes_on(command: Bench) -> None:
    command.plays(action("Send", "hello"), final("done"))
    settings = f'model = "{command.server.url}"\nmode = "react-json"\ntools = ["send"]\n'
    (command.folder / "agentkit.toml").write_text(settings)
    command.patch.setenv("AGENTKIT_API_KEY", "a-key-of-the-users")
    assert command.run("run", "send it", "--defer", "--trust").code == 5
    (command.folder / "agentkit.toml").unlink()
    assert command.run("approvals", "yes", *command.ids()).out == "done\n"
    assert {one.headers.get("authorization") for one in command.server.requests} == {None}
    command.plays(final("done"))
    assert command.ask("run", "q").code == 0
    assert {one.headers.get("authorization") for one in command.server.requests} == {"Bearer a-key-of-the-users"}


@pytest.mark.parametrize("said", [[], ["--tools", "calculator"], ["--option", "temperature=0"]])
def test_what_a_file_decided_stays_the_files_in_the_session(command: Bench, said: list[str]) -> None:
    command.plays(final("done"))
    settings = f'model = "{command.server.url}"\nmode = "react-json"\ntools = ["send"]\n'
    (command.folder / "agentkit.toml").write_text(settings)
    command.patch.setenv("AGENTKIT_API_KEY", "a-key-of-the-users")
    assert command.run("run", "q", "--session", "s", "--trust").code == 0
    (command.folder / "agentkit.toml").unlink()
    for _ in range(2):
        assert command.run("run", "more", "--continue", *said).out == "done\n"
    assert command.run("chat", "--continue", *said, stdin="more\n").out == "done\n"
    assert {one.headers.get("authorization") for one in command.server.requests} == {None}


def test_a_store_of_any_kind(command: Bench, address: str) -> None:
    command.plays(action("Send", "hello"), final("done"), final("again"))
    assert command.ask("run", "send it", "--defer", "--session", "s", "--store", address).code == 5
    with Store(address) as store:
        (one,) = store.waiting()
        others_write = store.path is None
    listed = command.run("approvals", "--store", address)
    assert (listed.code, one.id in listed.out) == (0, True)
    words = ["approvals", "yes", one.id, "--store", address]
    if others_write:
        assert command.run(*words).code == 2
        assert command.sent == []
        words.append("--trust")
    assert (command.run(*words).out, command.sent) == ("done\n", ["hello"])
    assert command.ask("run", "--continue", "more", "--store", address).out == "again\n"
    for shown in ("logs", "sessions", "show --last", "memory", "logs --path"):
        done = command.run(*shown.split(), "--store", address)
        assert done.code == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE agentkit_decisions SET tool_input = '\"harmless\"'",
        "UPDATE agentkit_decisions SET tool = 'Calculator'",
        "UPDATE agentkit_events SET event = replace(event, 'hello', 'everything') WHERE event LIKE '%aiting%'",
    ],
)
def test_what_is_shown_is_what_runs(command: Bench, change: str) -> None:
    id_ = waits(command, action("Send", "hello"))
    with sqlite3.connect(command.folder / "data" / "agentkit" / "agentkit.db") as database:
        assert database.execute(change).rowcount > 0
    done = command.run("approvals", "yes", id_, "--trust")
    assert (done.code, command.sent) == (2, [])
    assert "is about another call than run" in done.err


def test_what_the_model_called_is_what_was_asked_about(command: Bench) -> None:
    file, id_ = theirs(command)
    with sqlite3.connect(file) as database:
        change = (
            "UPDATE agentkit_events SET event = replace(event, 'hello', 'everything') WHERE event LIKE '%\"action\"%'"
        )
        assert database.execute(f"{change} AND event NOT LIKE '%aiting%'").rowcount > 0
    done = command.run("approvals", "yes", id_, "--store", file, "--trust")
    assert (done.code, command.sent) == (2, [])
    assert "is about another input than run" in done.err


# -- resume ------------------------------------------------------------------------------------------------------------


def test_a_run_that_ended_at_a_limit_goes_on_with_more(command: Bench) -> None:
    command.plays(action("Calculator", "2+2"), final("four"))
    assert command.ask("run", "q", "--max-iterations", "1").code == 1
    (run,) = [one["id"] for one in json.loads(command.run("logs", "--json").out)]
    done = command.run("resume", run[:12], "--max-iterations", "3")
    assert (done.code, done.out) == (0, "four\n")
    assert len(command.server.bodies) == 2
    (entry,) = json.loads(command.run("logs", "--json").out)
    assert (entry["status"], entry["output"]) == ("finished", "four")


def test_a_call_that_was_under_way_does_not_run_unasked(command: Bench) -> None:
    command.plays(action("Send", "hello"), final("done"))
    command.ask("run", "send it", "--yes")
    (run,) = [one["id"] for one in json.loads(command.run("logs", "--json").out)]
    with sqlite3.connect(command.folder / "data" / "agentkit" / "agentkit.db") as database:
        places = database.execute("SELECT number, event FROM agentkit_events ORDER BY number").fetchall()
        cut = next(number for number, event in places if "observed" in event or "observation" in event)
        database.execute("DELETE FROM agentkit_events WHERE number >= ?", (cut,))
        database.execute("UPDATE agentkit_runs SET status = 'running', stop_reason = NULL, output = NULL")
    done = command.run("resume", run)
    assert (done.code, done.out, command.sent) == (0, "done\n", ["hello"])
    assert "Send was interrupted, and whether it took effect is not known" in done.err


# -- memories ----------------------------------------------------------------------------------------------------------


def test_memories_are_kept_listed_found_and_forgotten(command: Bench) -> None:
    command.run("memory", "add", "Ann lives in Oslo.")
    command.run("memory", "add", "Bob likes tea.")
    listed: list[dict[str, Any]] = json.loads(command.run("memory", "--json").out)
    assert [one["text"] for one in listed] == ["Ann lives in Oslo.", "Bob likes tea."]
    assert [
        one["text"] for one in json.loads(command.run("memory", "search", "where does ann live", "--json").out)
    ] == ["Ann lives in Oslo."]
    assert command.run("memory", "forget", listed[0]["id"]).err == "forgotten: Ann lives in Oslo.\n"
    assert "Ann" not in command.run("memory").out


@pytest.mark.parametrize("words", [[], ["--store", "mine.db"]])
def test_a_model_remembers_and_recalls(command: Bench, words: list[str]) -> None:
    model = ["--model", command.server.url, "--mode", "react-json", "--tools", "remember,recall", *words]
    command.plays(action("remember", "Ann lives in Oslo."), final("done"))
    assert "remember was not approved" in command.run("run", "q", *model).err
    command.plays(action("remember", "Ann lives in Oslo."), action("recall", "where does Ann live"), final("done"))
    done = command.run("run", "q", *model, "--yes")
    assert re.search(r"Observation: - Ann lives in Oslo\. \(\d{4}-\d\d-\d\d\)", done.err)
    assert [one["text"] for one in json.loads(command.run("memory", "--json", *words).out)] == ["Ann lives in Oslo."]
