"""Other programs' tools for our agents: servers of the official package, as processes and over HTTP."""

from __future__ import annotations

import gc
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from agentkit import AgentExecutor, Cassette
from agentkit.errors import ConfigurationError, ToolError
from agentkit.events import Source
from agentkit.mcp import McpTools, mcp_tools
from agentkit.runs.build import build
from agentkit.settings import RunSettings
from agentkit.tool import Result, Tool
from tests.doubles.models import Scripted, action, final

ROOT = Path(__file__).parent.parent.parent


def command(name: str) -> str:
    return f"{sys.executable} -m tests.mcp.servers {name}"


@pytest.fixture(scope="module")
def weather() -> Iterator[McpTools]:
    with mcp_tools(command("weather")) as tools:
        yield tools


def named(tools: list[Tool], name: str) -> Tool:
    return next(tool for tool in tools if tool.name == name)


def run_of(tools: list[Any], *turns: str, **options: Any) -> AgentExecutor:
    model = Scripted(turns=[*turns, final("done")])
    return AgentExecutor.from_model(model, tools, return_intermediate_steps=True, **options)


def observations(result: dict[str, Any]) -> list[Any]:
    return [observation for _, observation in result["intermediate_steps"]]


def test_a_server_offers_its_tools(weather: McpTools) -> None:
    forecast, order = named(weather, "forecast"), named(weather, "order")
    assert (forecast.description, forecast.side_effects, forecast.idempotent) == ("Tells the weather.", False, True)
    assert forecast.schema["required"] == ["city"]
    assert (order.side_effects, order.idempotent, order.timeout_s) == (True, False, 60.0)


CALLS = [
    (action("forecast", {"city": "Oslo", "days": 3}), "Oslo: sunny for 3 days"),
    (action("forecast", "Oslo"), "Oslo: sunny for 1 days"),
    (action("picture", {}), "[image/png, not shown]"),
    (action("measured", {}), '{\n  "degrees": 21\n}'),
    (action("order", {"umbrella": "none"}), "Error: Error executing tool order: nothing to order"),
]


@pytest.mark.parametrize(("turn", "observation"), CALLS)
def test_a_run_calls_them(weather: McpTools, turn: str, observation: str) -> None:
    assert observations(run_of(weather, turn).invoke("?")) == [observation]


async def test_a_run_that_is_awaited_calls_them(weather: McpTools) -> None:
    runs = run_of(weather, *[turn for turn, _ in CALLS])
    assert observations(await runs.ainvoke("?")) == [observation for _, observation in CALLS]


def test_arguments_are_checked_before_the_server_is_asked(weather: McpTools) -> None:
    (observation,) = observations(run_of(weather, action("forecast", {"days": "many"})).invoke("?"))
    assert observation.startswith(
        "Error: action_input does not fit forecast (city: missing; days: expected integer). Its JSON schema: "
    )


def test_a_tool_that_does_not_say_it_only_reads_is_asked_for(weather: McpTools) -> None:
    runs = run_of(weather, action("order", "red"), action("forecast", "Oslo"), approve=lambda action: False)
    assert observations(runs.invoke("?")) == ["order was not approved. Do without it.", "Oslo: sunny for 1 days"]


@pytest.mark.slow
def test_one_process_serves_a_whole_run_and_ends_with_the_block() -> None:
    with mcp_tools(command("weather")) as tools:
        first, second = (int(named(tools, "pid").call({}).text) for _ in range(2))
        assert first == second
        os.kill(first, 0)
    assert not _lives(first)


@pytest.mark.slow
def test_servers_end_with_the_last_of_their_tools() -> None:
    tools = [*mcp_tools(command("weather"))]
    pid = int(named(tools, "pid").call({}).text)
    assert _lives(pid)
    tools.clear()
    gc.collect()
    assert not _lives(pid)


@pytest.mark.slow
def test_servers_end_with_a_process_that_fails() -> None:
    code = """
import sys
from agentkit.mcp import mcp_tools
tools = [*mcp_tools(sys.argv[1])]
print(next(tool for tool in tools if tool.name == "pid").call({}).text, flush=True)
raise KeyboardInterrupt
"""
    done = subprocess.run(
        [sys.executable, "-c", code, command("weather")], capture_output=True, text=True, cwd=ROOT, timeout=100
    )
    assert done.returncode == -2
    assert not _lives(int(done.stdout))


@pytest.mark.slow
def test_a_connection_says_how_a_server_is_reached_and_content_of_any_kind_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CITY", "Oslo")
    connection = {
        "transport": "stdio",
        "command": sys.executable,
        "args": ["-m", "tests.mcp.servers", "mixed"],
        "env": {"HOME_TOWN": "${CITY}", "OTHER": "${NO_SUCH_CITY}"},
        "cwd": str(ROOT),
    }
    with mcp_tools(connection) as tools:
        everything, environment = named(tools, "everything"), named(tools, "environment")
        assert everything.call({}) == Result(
            "first\n[audio/wav, not shown]\n[text/html: https://example.org/report]\n[file: file:///plain]\ninside\n"
            "[file, not shown]",
            (Source("Report", "https://example.org/report"), Source("plain", "file:///plain")),
        )
        given = [environment.call({"name": name}).text for name in ("HOME_TOWN", "OTHER")]
        assert given == ["Oslo", "${NO_SUCH_CITY}"]


@pytest.mark.parametrize(
    ("connection", "reason"),
    [
        ({"transport": "pigeon"}, "expected an MCP transport of stdio, sse, http, saw 'pigeon'"),
        ({"transport": "stdio"}, r"an MCP connection over stdio has command, .*; saw no command"),
        ({"transport": "streamable_http"}, r"an MCP connection over http has url, .*; saw no url"),
        ({"url": "https://example.org", "headres": {}}, r"an MCP connection over http has url, .*; saw headres"),
    ],
)
def test_a_connection_that_cannot_be_meant_is_refused(connection: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        mcp_tools(connection)


@pytest.mark.slow
def test_two_servers_may_use_one_name() -> None:
    with mcp_tools(command("weather"), command("other"), taken=["Order"]) as tools:
        assert [tool.name for tool in tools] == [
            *("weather_forecast", "weather_order", "picture", "measured", "pid", "crash", "hang", "other_forecast")
        ]
        assert named(tools, "other_forecast").call({"city": "Oslo"}) == Result("Oslo: rain")


@pytest.mark.slow
def test_a_server_that_crashes_is_told_to_the_model_and_started_again() -> None:
    with mcp_tools(command("weather")) as tools:
        found = observations(run_of(tools, action("crash", {}), action("forecast", "Oslo")).invoke("?"))
    assert found == ["Error: the MCP server of crash has ended; do without it.", "Oslo: sunny for 1 days"]


FAULTY = [sys.executable, "-m", "tests.mcp.faulty"]


@pytest.mark.parametrize("kind", ["ending", "writing, ending"])
def test_a_server_that_ends_between_calls_is_started_again(kind: str) -> None:
    """Also where it is just about to: a call that must not run twice is not sent to it."""
    with mcp_tools({"command": FAULTY[0], "args": [*FAULTY[1:], kind]}) as (look,):
        assert len({look.run({}).text for _ in range(3)}) == 3


def test_a_server_that_was_killed_is_started_again() -> None:
    with mcp_tools({"command": FAULTY[0], "args": [*FAULTY[1:], "plain"]}) as (look,):
        first = int(look.run({}).text)
        os.kill(first, signal.SIGKILL)
        assert int(look.run({}).text) != first


@pytest.mark.parametrize(
    ("kind", "starts", "meanwhile"),
    [("crashing", 3, ""), ("writing, crashing", 3, ", and whether look took effect is not known")],
)
def test_a_server_that_ends_in_every_call_is_given_up(
    capfd: pytest.CaptureFixture[str], kind: str, starts: int, meanwhile: str
) -> None:
    """What may have taken effect is not asked again."""
    with mcp_tools({"command": FAULTY[0], "args": [*FAULTY[1:], kind]}) as (look,):
        said = []
        for _ in range(4):
            with pytest.raises(ToolError) as caught:
                look.run({})
            said.append(str(caught.value))
    assert set(said) == {
        f"Error: the MCP server of look has ended (it said: Error: the disk is full){meanwhile}; do without it.",
        "Error: the MCP server of look has ended; do without it.",
    }
    assert capfd.readouterr().err.count("the disk is full") == starts


def test_lines_of_a_server_stand_above_a_spinner() -> None:
    terminal = Console(file=StringIO(), force_terminal=True, width=80, color_system=None)
    with terminal.status("thinking …"), mcp_tools(f"{command('raw')} look"):
        while "OWNED" not in (shown := terminal.file.getvalue()):  # type: ignore[attr-defined]
            pass
    line = "starting <REDACTED>\N{REPLACEMENT CHARACTER}]0;OWNED\N{REPLACEMENT CHARACTER}\n"
    before, _, after = shown.partition(line)
    assert (before[-4:], after[-10:]) == ("\x1b[2K", "thinking …")


@pytest.mark.slow
def test_a_server_that_hangs_is_given_up() -> None:
    with mcp_tools(command("weather"), call_timeout_s=0.05) as tools:
        assert observations(run_of(tools, action("hang", {})).invoke("?")) == [
            "Error: hang gave no result within 0.05 s."
        ]


@pytest.mark.torch
@pytest.mark.slow
def test_a_runs_deadline_holds_while_its_servers_start() -> None:
    import_module("mcp")
    with pytest.raises(ConfigurationError, match=r"no answer in the protocol within 0\.5 s"):
        build(RunSettings(model="builtin", mcp=("sleep 60",), timeout=0.5))


def test_what_a_server_prints_before_it_speaks_the_protocol_does_no_harm() -> None:
    with mcp_tools(command("noisy")) as tools:
        assert named(tools, "forecast").call({"city": "Oslo"}).text == "Oslo: sunny for 1 days"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        (command("dead"), "Connection closed"),
        (
            "sh -c 'echo Welcome!; exec sleep 60'",
            "no answer in the protocol within 5 s, but what is no message: 'Welcome!'",
        ),
        ("no-such-command --at all", "no command 'no-such-command'"),
        ("http://127.0.0.1:9/mcp", "All connection attempts failed"),
    ],
)
def test_a_server_that_does_not_serve_is_one_error(spec: str, reason: str) -> None:
    import_module("mcp")  # which may take longer than the server may
    with pytest.raises(ConfigurationError) as raised:
        mcp_tools(spec, start_timeout_s=5 if "Welcome" in spec else 30)
    assert str(raised.value) == (
        f"MCP server {spec!r}: expected an MCP server, saw: {reason}; "
        + ("is it running, and is the address right?" if "://" in spec else "run the command by hand, or mend it")
    )


@pytest.mark.parametrize("spec", ["", "  "])
def test_a_server_of_no_name(spec: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        mcp_tools(spec)
    assert str(raised.value) == f"expected an MCP server's command or address, saw {spec!r} (nothing is in it)"


@pytest.mark.slow
def test_a_replay_starts_no_server(tmp_path: Path) -> None:
    def run(mode: Any, spec: str) -> dict[str, Any]:
        with Cassette(tmp_path / "run.yaml", mode=mode):
            tools = mcp_tools(spec)
            return run_of(list(tools), action("forecast", "Oslo"), action("measured", {})).invoke("?")

    recorded = run("record", command("weather"))
    text = (tmp_path / "run.yaml").read_text(encoding="utf-8")
    (tmp_path / "run.yaml").write_text(text.replace(command("weather"), "no-such-command"), encoding="utf-8")
    assert run("replay", "no-such-command") == recorded


@pytest.mark.slow
def test_a_run_that_goes_on_from_a_recording_starts_its_server_for_the_call_it_makes(tmp_path: Path) -> None:
    asked: list[Any] = []

    def interrupted(action: Any) -> bool:
        asked.append(action)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return True

    def run(mode: Any, *turns: str, approve: Any) -> list[str]:
        spec = {"command": FAULTY[0], "args": [*FAULTY[1:], "writing"]}
        with Cassette(tmp_path / "run.yaml", mode=mode, run_again=approve), mcp_tools(spec) as tools:
            return observations(run_of([*tools], *turns, approve=approve).invoke("?"))

    look = action("look", {})
    with pytest.raises(KeyboardInterrupt):
        run("record", look, look, approve=interrupted)
    first, second, third = run("resume", look, look, approve=lambda *_: True)[:3]
    assert first != second == third


@pytest.mark.slow
def test_our_client_reaches_our_server() -> None:
    with mcp_tools({"command": sys.executable, "args": ["-m", "agentkit", "mcp", "--tools", "calculator"]}) as tools:
        assert [(tool.name, tool.side_effects) for tool in tools] == [("Calculator", False), ("ask_agent", False)]
        assert tools[0].call("6*7").text == "Answer: 42"


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        ("look look", "Two tools are named 'look'"),
        ("look ｌｏｏｋ", "Two tools are named 'look' and 'ｌｏｏｋ'"),
        ("final_answer", "No tool can be named 'final_answer'"),
        ("'look\n'", "No tool can be named 'look\\n'"),
    ],
)
def test_names_that_no_model_could_tell_apart_are_wrong_use(names: str, wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"MCP server ['\"].*raw.*: {re.escape(wrong)}"):
        mcp_tools(f"{command('raw')} {names}")


def test_what_a_server_says_on_its_standard_error_drives_no_terminal_and_holds_no_key(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with mcp_tools(f"{command('raw')} look"):
        said = ""
        while "\n" not in said:
            said += capfd.readouterr().err
    assert said == "starting <REDACTED>\N{REPLACEMENT CHARACTER}]0;OWNED\N{REPLACEMENT CHARACTER}\n"


def test_what_a_called_server_sends_that_is_no_message_is_named(caplog: pytest.LogCaptureFixture) -> None:
    with mcp_tools(f"{command('raw')} look", call_timeout_s=0.2) as tools:
        assert observations(run_of(tools, action("look", {})).invoke("?")) == [
            "Error: look gave no result within 0.2 s."
        ]
    (note,) = {record.getMessage() for record in caplog.records if record.name == "agentkit"}
    assert note.endswith(" was called and sent what is no message: 'half a reply'")


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="POSIX")
@pytest.mark.parametrize("child", ["sleep 600", "(trap '' TERM; sleep 600)"])
def test_what_a_server_started_ends_with_it(child: str, tmp_path: Path) -> None:
    """Also where the server itself ends as soon as it is asked to. A pipe is at its end when no process holds it."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    held = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    script = f"{child} > {pipe} 2>&1 < /dev/null & {command('weather')}"
    with mcp_tools({"command": "sh", "args": ["-c", script]}) as tools:
        assert named(tools, "forecast").call({"city": "Oslo"}) == Result("Oslo: sunny for 1 days")
        with pytest.raises(BlockingIOError):
            os.read(held, 1)
    assert os.read(held, 1) == b""
    os.close(held)
