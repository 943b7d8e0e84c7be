"""What a model, a tool, a server or a file says drives no terminal, and nothing in it is read as markup."""

from __future__ import annotations

import json
import logging
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from agentkit import AgentExecutor, Cassette
from agentkit.cassette import RunSpec
from agentkit.cli import main
from agentkit.cli.app import app
from agentkit.cli.view import View
from agentkit.events import Source
from agentkit.models.scripted import ScriptedBackend
from agentkit.printable import json_text, printable
from agentkit.tool import Result, Tool, ToolError
from tests.doubles.models import action, final

SAID = "\x1b]0;OWNED\x07\x1b[31mred\x1b]52;c;aGk=\x07\x9b31m\x08\x7f\rover\u202eevil [red]x[/red] a[/b] :bomb: \\[x]"
HOSTILE = f"\ud800 {SAID}"  # a model's text holds no halves of surrogate pairs
CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
KEPT = ("[red]x[/red] a[/b] :bomb: \\[x]", "OWNED", "over")


def harmless(text: str) -> bool:
    """Whether none of it drives a terminal; colours are ours to use."""
    return not CONTROLS.search(re.sub(r"\x1b\[\d+(?:;\d+)*m", "", text))


def look(text: str) -> Result:
    if text == "fail":
        raise ToolError(f"Error: {HOSTILE}")
    return Result(HOSTILE, (Source(HOSTILE, HOSTILE),), (HOSTILE,))


TURNS = (
    action("a[/b]", SAID).replace("I need a tool.", f"so {SAID}"),
    action("a[/b]", "fail"),
    f"nonsense {SAID}",
    final(f"well {SAID}\nsecond\tline, a\u00a0b \u0645\u06cc\u200c\u062e"),
)


def run(shown: View) -> int:
    tools = [Tool(name="a[/b]", description=HOSTILE, run=look)]
    executor = AgentExecutor.from_model(ScriptedBackend(TURNS), tools, mode="react-json")
    return shown.show(executor.events({"input": SAID}), model="m")


@pytest.mark.parametrize("colour", ["", "1"])
@pytest.mark.parametrize("verbose", [False, True])
def test_a_run(colour: str, verbose: bool, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", colour)
    assert run(View(verbose=verbose)) == 0
    shown = capfd.readouterr()
    assert harmless(shown.out)
    assert harmless(shown.err)
    err = "".join(re.sub(r"\x1b\[[\d;]*m", "", shown.err).split())  # lines are broken where the terminal ends
    assert all(kept in shown.out and "".join(kept.split()) in err for kept in KEPT)
    assert shown.out.endswith("second\tline, a\u00a0b \u0645\u06cc\u200c\u062e\n")


def test_json_is_whole_and_harmless(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(View(as_json=True, quiet=True)) == 0
    out = capfd.readouterr().out
    assert harmless(out)
    assert json.loads(out)["output"].startswith("well \x1b]0;OWNED\x07")


def test_text_in_pieces_is_as_harmless() -> None:
    for length in (1, 2, 3, 7):
        pieces = [HOSTILE[at : at + length] for at in range(0, len(HOSTILE), length)]
        assert "".join(map(printable, pieces)) == printable(HOSTILE)
    assert json.loads(json_text({HOSTILE: [HOSTILE]})) == {HOSTILE: [HOSTILE]}


def test_a_wait_for_a_tool_of_any_name(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    shown = View()
    shown.wait(f"a[/b] {HOSTILE} …")
    shown.settle()
    assert harmless(re.sub(r"\x1b\[\??\d*[a-zA-Z]|\r", "", capsys.readouterr().err))


@pytest.fixture
def recorded(tmp_path: Path) -> Path:
    """The cassette of a run, in a file of a hostile name."""
    file = tmp_path / "a[red]\x1b[2J.yaml"
    tools = [Tool(name="a[/b]", description=HOSTILE, run=look)]
    inputs = {"input": SAID}
    with Cassette(file, "record", run=RunSpec.of(inputs, model="http://127.0.0.1:9/v1"), environment={}):
        executor = AgentExecutor.from_model(ScriptedBackend(TURNS), tools, mode="react-json")
        list(executor.events(inputs))
    return file


@pytest.mark.parametrize("words", ["show FILE", "show FILE --json", "diff FILE OTHER", "replay FILE", "replay FOLDER"])
def test_a_recorded_run(words: str, recorded: Path) -> None:
    other = recorded.with_name("other.yaml")
    other.write_text(recorded.read_text(encoding="utf-8").replace("well", "ill"), encoding="utf-8")
    places = {"FILE": str(recorded), "OTHER": str(other), "FOLDER": str(recorded.parent)}
    shown = CliRunner().invoke(app, [places.get(word, word) for word in words.split()], standalone_mode=False)
    assert harmless(shown.output)
    assert shown.exception is None or harmless(printable(str(shown.exception)))


def test_a_server_at_a_terminal_says_how_it_ends(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("mcp")
    monkeypatch.setattr("agentkit.mcp.serving.serve_stdio", lambda server: None)
    monkeypatch.setattr(sys, "argv", ["agentkit", "mcp"])
    for is_terminal in (False, True):
        monkeypatch.setattr(sys.stdin, "isatty", lambda value=is_terminal: value, raising=False)
        with pytest.raises(SystemExit):
            main()
        captured = capfd.readouterr()
        assert ("Ctrl-D ends it" in captured.err) == is_terminal
        assert captured.out == ""


def test_tools_are_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    from agentkit.cli import tools

    offered = [tools.Listed("a[/b]", HOSTILE, "MCP", needs=HOSTILE, schema={"properties": {HOSTILE: {}}})]
    monkeypatch.setattr(tools, "_offered", lambda servers: offered)
    for words in (["tools"], ["tools", "--json"]):
        shown = CliRunner().invoke(app, words, standalone_mode=False)
        assert shown.exception is None
        assert harmless(shown.output)
        assert "a[/b]" in shown.output


def says(what: Callable[[], Any], words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    """The exit code of the command line, whose command does this."""
    monkeypatch.setattr(sys, "argv", ["agentkit", *words])
    monkeypatch.setattr("agentkit.cli.app.app", lambda **_: what())
    monkeypatch.setattr(warnings, "formatwarning", warnings.formatwarning)
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


def _raises(error: BaseException) -> Callable[[], Any]:
    def what() -> Any:
        raise error

    return what


@pytest.mark.parametrize("words", [[], ["--verbose"]])
def test_an_error(words: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    import click

    for error in (ValueError(HOSTILE), ToolError(HOSTILE), click.UsageError(HOSTILE), click.NoSuchOption(HOSTILE)):
        assert says(_raises(error), words, monkeypatch) in (1, 2)
        said = capfd.readouterr().err
        assert harmless(said)
        assert "[red]x[/red] a[/b] :bomb:" in said


def test_what_libraries_log_and_warn_of(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    def what() -> None:
        record = logging.LogRecord("x", logging.WARNING, __file__, 1, "%s", (HOSTILE,), None)
        assert logging.lastResort is not None
        logging.lastResort.handle(record)
        sys.stderr.write(warnings.formatwarning(HOSTILE, UserWarning, HOSTILE, 1))

    assert says(what, [], monkeypatch) == 0
    said = capfd.readouterr().err
    assert harmless(said)
    assert said.count("OWNED") == 3
