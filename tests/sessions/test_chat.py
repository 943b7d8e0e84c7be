"""A conversation at a terminal, and what of an answer is shown while it comes and when it is whole."""

from __future__ import annotations

import json
import re
import signal
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from rich.console import Console

from agentkit.cli.chat_view import GrowingTurn
from agentkit.cli.markdown import rendered
from tests.doubles.server import say, stalls
from tests.sessions.commands import Bench, action, bench, final
from tests.sessions.terminal import PROMPT, Terminal, at_terminal

HINT = "/help lists the commands; Ctrl-D or /quit leaves; the session is kept"


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    with bench(tmp_path, monkeypatch, capsys) as made:
        yield made


def chat(command: Bench, *words: str) -> AbstractContextManager[Terminal]:
    model = ("--model", command.server.url, "--mode", "react-json", "--tools", "send,pay,calculator")
    return at_terminal("chat", *model, *words, folder=command.folder, packages=[str(command.folder / "package")])


@pytest.mark.slow
def test_a_conversation(command: Bench) -> None:
    command.plays(action("Calculator", "17*3"), final("It is **51**."), final("102"), final("103"))
    with chat(command) as terminal:
        terminal.ask("What is 17 * 3?")
        assert "Observation: Answer: 51" in terminal.wait_for("It is 51.")
        terminal.ask("and times\x1b\r2?")
        terminal.wait_for("102")
        for typed, shown in (
            ("/steps", "Step 1"),
            ("/retry", "again: and times\n2?"),
            ("/save talk.md", "written: talk.md"),
            ("/save talk.json", "written: talk.json"),
            ("/save talk.md", "talk.md is there already; give another name"),
            ("/undo", "taken off: and times\n2?; its run stays in the log"),
            ("/model", f"model: {command.server.url}"),
            ("/tools", "Calculator"),
            ("/sessions", "what-is-17-3"),
            ("/help", "Alt-Enter begins another line"),
            ("/udno", "error: no command is called /udno; did you mean '/undo'?"),
        ):
            terminal.ask(typed)
            terminal.wait_for(shown)
        assert terminal.leave() == 0
    assert json.loads((command.folder / "talk.json").read_text()) == [
        {"role": "user", "content": "What is 17 * 3?"},
        {"role": "assistant", "content": "It is **51**."},
        {"role": "user", "content": "and times\n2?"},
        {"role": "assistant", "content": "103"},
    ]
    assert "## You\n\nand times\n2?\n\n## Answer\n\n103\n" in (command.folder / "talk.md").read_text()
    with command.store as store:
        assert [(one.name, one.turns) for one in store.sessions()] == [("what-is-17-3", 1)]
        assert len(store.runs()) == 3


@pytest.mark.slow
def test_what_was_typed_is_kept_for_the_user_alone_without_keys(command: Bench) -> None:
    command.plays(final("well"))
    key = "hf_" + "abcdefghij" * 4
    with chat(command) as terminal:
        terminal.ask(f"my key is {key}")
        terminal.wait_for("well")
        terminal.ask("/quit")
        assert terminal.end() == 0
    file = command.folder / "data" / "agentkit" / "chat-history"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "my key is" in file.read_text()
    assert key not in file.read_text()


@pytest.mark.slow
def test_ctrl_c(command: Bench) -> None:
    command.server.plays = [stalls("Final Answer: It grows"), say(final("done"))]
    with chat(command, "--session", "s") as terminal:
        terminal.wait_for(f"{HINT}\n\n{PROMPT}")
        terminal.type("\x03")
        terminal.wait_for(f"Ctrl-D or /quit leaves; the session is kept\n\n{PROMPT}")
        terminal.type("half\x03")
        terminal.wait_for("half")
        terminal.ask("a story")
        terminal.wait_for("It grows")
        terminal.type("\x03")
        terminal.wait_for("interrupted: this turn is left out; /retry asks again, agentkit resume")
        terminal.ask("/retry")
        terminal.wait_for("again: a story")
        terminal.wait_for("done")
        assert terminal.leave() == 0
    with command.store as store:
        assert [(one.question, one.status) for one in store.runs()] == [
            ("a story", "finished"),
            ("a story", "broken_off"),
        ]


@pytest.mark.slow
def test_a_conversation_goes_on_after_its_process_was_killed(command: Bench) -> None:
    command.plays(final("51"))
    command.ask("run", "What is 17 * 3?", "--session", "s")
    command.server.plays = [stalls("Final Answer: It grows"), say(final("done"))]
    command.server.requests.clear()
    with chat(command, "--continue", "--tools", "send,pay,mail,calculator") as terminal:
        terminal.ask("a story")
        terminal.wait_for("It grows")
        terminal.process.send_signal(signal.SIGKILL)
        terminal.end()
    with chat(command, "--continue") as terminal:
        shown = terminal.wait_for(HINT)
        said = r"session: s, 1 turn so far; its last turn was broken off, agentkit resume\s+\w+ goes on"
        assert re.search(said, shown)
        terminal.ask("again")
        terminal.wait_for("done")
        assert terminal.leave() == 0
    told = json.dumps(command.server.bodies[-1]["messages"])
    assert "What is 17 * 3?" in told
    assert "a story" not in told


@pytest.mark.slow
def test_what_a_call_needs_is_asked_at_the_terminal(command: Bench) -> None:
    command.plays(action("Send", "hello\nRun it? y"), action("Pay", "rent"), action("Send", "bye"), final("done"))
    with chat(command) as terminal:
        terminal.ask("send it")
        terminal.wait_for('input | "hello\\nRun it? y"')
        terminal.wait_for("Run it with this input: Send? [y/N] ")
        terminal.type("y\n")
        terminal.wait_for(' asks | "Which account?"')
        terminal.wait_for("Your answer to Pay, or nothing: ")
        terminal.type("savings\n")
        terminal.wait_for("Which account? The answer: savings")
        terminal.wait_for("Run it with this input: Send? [y/N] ")
        terminal.type("\n")
        terminal.wait_for("Send was not approved.")
        terminal.wait_for("done")
        assert terminal.leave() == 0
    assert command.sent == ["hello", "Run it? y"]


@pytest.mark.slow
def test_calls_that_wait_are_decided_in_the_conversation(command: Bench) -> None:
    two = action("Send", "two"), action("Pay", "rent")
    command.plays(action("Send", "one"), *two, final("done"), final("more"))
    with chat(command, "--defer", "--session", "s") as terminal:
        terminal.ask("/approve")
        terminal.wait_for("error: nothing waits for a decision in this conversation")
        terminal.ask("send it")
        (first,) = _waiting(terminal, command)
        terminal.wait_for(f"/approve {first} (or /deny {first}) decides about Send")
        terminal.ask("and more")
        terminal.wait_for("error: session s waits for a decision: /approve")
        terminal.ask("/answer now")
        terminal.wait_for(f"error: Decision {first} is whether Send may run; /approve {first}")
        terminal.ask("/approve")
        terminal.wait_for("Observation: sent one")
        (second,) = _waiting(terminal, command, after=first)
        terminal.ask(f"/deny {second[:6]} Ask Ann.")
        terminal.wait_for("Send was not approved. Ask Ann.")
        terminal.wait_for("/answer ")
        assert terminal.leave() == 0
    with chat(command, "--continue") as terminal:
        terminal.wait_for("session: s, 1 turn so far")
        terminal.wait_for('input | "rent"')
        terminal.wait_for(' asks | "Which account?"')
        terminal.ask("/answer the savings")
        terminal.wait_for("Which account? The answer: the savings")
        terminal.wait_for("done")
        terminal.ask("and more")
        terminal.wait_for("more")
        assert terminal.leave() == 0
    assert command.sent == ["one"]


def _waiting(terminal: Terminal, command: Bench, *, after: str = "") -> list[str]:
    terminal.wait_for("not over: ")
    return [one for one in command.ids() if one != after]


@pytest.mark.slow
def test_only_yes_is_yes_and_what_is_neither_is_asked_about_again(command: Bench) -> None:
    for typed, sent in ((["maybe", "yes"], 1), (["maybe", "yess", "ja"], 1), (["maybe", "n"], 1), (["Y"], 2)):
        command.plays(action("Send", "hello"), final("done"))
        with chat(command) as terminal:
            terminal.ask("send it")
            for one in typed:
                terminal.wait_for("[y/N] ")
                terminal.type(f"{one}\n")
            terminal.wait_for("done")
            assert terminal.leave() == 0
        assert len(command.sent) == sent


@pytest.mark.slow
def test_another_model_is_asked_about(command: Bench) -> None:
    command.plays(final("well"))
    command.ask("run", "q", "--session", "s", "--model", f"{command.server.url}#other")
    for typed, code in (("n\n", 2), ("y\n", 0)):
        with chat(command, "--session", "s") as terminal:
            terminal.wait_for("Session s was held with")
            assert "model http" in terminal.wait_for("Go on with it? [y/N] ")
            terminal.type(typed)
            assert (terminal.end() if code else terminal.leave()) == code


@pytest.mark.slow
def test_what_a_model_says_drives_no_terminal(command: Bench) -> None:
    said = "\x1b]0;OWNED\x07\x1b[31mred\u202e [red]x[/red] \x9b2J"
    command.plays(f"Thought: {said}\nAction:\n```json\n{json.dumps({'action': 'Pay', 'action_input': said})}\n```")
    command.server.plays.append(say(f"Final Answer: {said}\n\n# {said}\n\n- `{said}`"))  # type: ignore[attr-defined]
    with chat(command) as terminal:
        terminal.ask("q")
        terminal.wait_for("Your answer to Pay, or nothing: ")
        terminal.type("\n")
        assert terminal.leave() == 0
    assert "[red]x[/red]" in terminal.text
    assert not re.search("\x1b]|\x07|\x1b\\[31mred|\u202e|\x9b", terminal.raw)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("", ""),
        ("Thought: I now know", ""),
        ("Thought: I now know\nFinal Ans", ""),
        ("Thought: I now know\nFinal Answer: It is", "It is"),
        ("**Final Answer:** It is", "It is"),
        ("Thought: the label Final Answer: stands in a line", ""),
        ('Action:\n```json\n{"action": "Calculator"', ""),
        ('{"thought": "I now know the answer", "answer": "x"}', ""),
        ("<think>It is about the sea", ""),
        ("The sea", ""),
        ("**Max** was a playful dog", "**Max** was a playful dog"),
        ("  \n The sea is deep, and", "The sea is deep, and"),
        ("The sea is deep, I think.\nFinal Answer:\nIt is", "It is"),
        ("The sea is deep, and", "The sea is deep, and"),
    ],
)
def test_how_much_of_a_turn_is_its_answer(text: str, answer: str) -> None:
    for size in (1, 7, 1000):
        turn = GrowingTurn()
        for at in range(0, len(text), size):
            turn.add(text[at : at + size])
        assert turn.answer(1000) == answer
        assert turn.answer(3) == answer[-3:]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("17*3*2 = 102", "17*3*2 = 102"),
        ("**51** and *x*", "51 and x"),
        ("one\ntwo", "one\ntwo"),
        ("vector<int> <b>x</b> &lt; &#x202e;", "vector<int> <b>x</b> &lt; &#x202e;"),
        ("[red]x[/red] :bomb: __init__.py", "[red]x[/red] :bomb: __init__.py"),
        ("[docs](https://example.org/a)", "docs (https://example.org/a)"),
        ("a\x1b[2Jb", "a\ufffd[2Jb"),
        ("- one\n- two", " • one\n • two"),
        ("```\nx = a * b * c\n```", "x = a * b * c"),
    ],
)
def test_an_answer_as_markdown_loses_nothing(text: str, shown: str) -> None:
    console = Console(width=60, highlight=False, markup=False, emoji=False, color_system=None)
    with console.capture() as capture:
        console.print(rendered(text))
    lines = [line.rstrip() for line in capture.get().splitlines()]
    assert "\n".join(filter(None, lines)).strip() == shown.strip()
