"""How servers are reached: commands with variables, files of servers, connections; and what of that is shown."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentkit import Cassette
from agentkit.errors import ConfigurationError, ToolError
from agentkit.mcp import mcp_tools, transport
from agentkit.mcp.transport import StandardError
from agentkit.runs.trust import effects
from agentkit.settings import RunSettings
from tests.mcp.faulty import LAST_WORDS
from tests.mcp.test_client import ROOT, action, observations, run_of

KEY = "s3cr3t-zq81-x"
FAULTY = ["-m", "tests.mcp.faulty"]
ENVIRONMENT = {"command": sys.executable, "args": [*FAULTY, "environment"]}


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder of its own; a server started from it finds the doubles as this process does."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def faulty(*words: str) -> str:
    return f"PYTHONPATH={ROOT} {sys.executable} -m tests.mcp.faulty {' '.join(words)}"


def environment(spec: Any, **options: Any) -> dict[str, str]:
    """The variables that a server of this spec sees."""
    options = {"env": {"PYTHONPATH": str(ROOT)}} | options
    with mcp_tools(spec, **options) as (look,):
        seen: dict[str, str] = json.loads(look.run({}).text)
        return seen


def error_of(spec: Any, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        mcp_tools(spec, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# -- variables ---------------------------------------------------------------------------------------------------------

COMMANDS = [
    ("NAME=abc {}", "abc"),
    ("NAME='two words' OTHER=1 {}", "two words"),
    ('NAME="two words" {}', "two words"),
    ("NAME= {}", ""),
    ("env NAME=abc {}", "abc"),
    ("NAME=$SET {}", "set here"),
    ("NAME=${{SET}} {}", "set here"),
    ("NAME=${{UNSET:-instead}} {}", "instead"),
    ("NAME=${{UNSET}} {}", "${UNSET}"),
    ("NAME=a=b {}", "a=b"),
]


@pytest.mark.parametrize(("command", "value"), COMMANDS)
def test_variables_before_a_command_are_the_servers(monkeypatch: pytest.MonkeyPatch, command: str, value: str) -> None:
    monkeypatch.setenv("SET", "set here")
    assert environment(command.format(f"{sys.executable} -m tests.mcp.faulty environment"))["NAME"] == value


def test_env_is_for_all_servers_and_their_own_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOT_PASSED_ON", "x")
    given = {"PYTHONPATH": str(ROOT), "NAME": "all", "PORT": 8080, "DEBUG": True}
    seen = environment({**ENVIRONMENT, "env": {"NAME": "own"}}, env=given)
    assert {name: seen.get(name) for name in ("NAME", "PORT", "DEBUG", "NOT_PASSED_ON")} == {
        "NAME": "own",
        "PORT": "8080",
        "DEBUG": "true",
        "NOT_PASSED_ON": None,
    }


@pytest.mark.parametrize(
    ("spec", "options", "said"),
    [
        ("x", {"env": {"KEY": [KEY]}}, "env: expected text for KEY, saw a list"),
        ("x", {"env": [KEY]}, "env: expected texts by their names, saw a list"),
        (
            "http://127.0.0.1:9/mcp",
            {"env": {"KEY": KEY}},
            "env is for servers that start here, and these have addresses; give headers instead",
        ),
        ({"command": "x", "env": {"KEY": {}}}, {}, "the MCP server 'x': env: expected text for KEY, saw a dict"),
        (
            f"KEY={KEY}",
            {},
            "expected an MCP server's command or address, saw 'KEY=…' (no command is behind the variables)",
        ),
        (f"KEY='{KEY} x", {}, "expected an MCP server's command or address, saw 'KEY=…' (No closing quotation)"),
        (
            f'{{"command": "x", "env": {{"KEY": "{KEY}"}}}}',
            {},
            "expected an MCP server's command, address or file, saw JSON text; write it into a file that ends in .json",
        ),
    ],
)
def test_variables_that_cannot_be_meant_are_refused_without_their_values(
    spec: Any, options: dict[str, Any], said: str
) -> None:
    assert error_of(spec, **options) == said


# -- files -------------------------------------------------------------------------------------------------------------

TWO = {"one": {**ENVIRONMENT, "env": {"NAME": "first"}}, "two": {**ENVIRONMENT, "env": {"NAME": "${SET}"}}}
FILES: dict[str, Mapping[str, Any]] = {
    "Claude's": {"mcpServers": TWO},
    "of an editor": {"inputs": [], "servers": {name: {**server, "type": "stdio"} for name, server in TWO.items()}},
    "servers alone": TWO,
    "with what others keep there": {
        "mcpServers": {
            "one": {**TWO["one"], "alwaysAllow": ["look"], "disabled": False, "timeout": 60},
            "two": TWO["two"],
            "off": {"command": "no-such-command", "disabled": True},
        }
    },
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES)
@pytest.mark.parametrize("way", ["text", "path", "mapping"])
def test_servers_as_other_programs_keep_them(
    monkeypatch: pytest.MonkeyPatch, here: Path, content: Mapping[str, Any], way: str
) -> None:
    monkeypatch.setenv("SET", "second")
    file = here / "my servers.json"
    file.write_text(json.dumps(content), encoding="utf-8-sig")
    spec = {"text": str(file), "path": file, "mapping": content}[way]
    with mcp_tools(spec, env={"PYTHONPATH": str(ROOT)}) as tools:
        seen = {tool.name: json.loads(tool.run({}).text)["NAME"] for tool in tools}
        assert (seen, tools.servers) == (
            {"one_look": "first", "two_look": "second"},
            {"one_look": "one", "two_look": "two"},
        )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "servers.json cannot be read (No such file or directory); name a file of MCP servers"),
        (
            '{"mcpServers": {',
            "servers.json: expected JSON with mcpServers (Expecting property name enclosed in double quotes, line 1); "
            "mend the file",
        ),
        (
            "[]",
            'servers.json: expected {"mcpServers": {NAME: {"command": …, "args": […]}}}, saw no servers; mend the file',
        ),
        ('{"mcpServers": {}}', "servers.json names no MCP server"),
        ('{"mcpServers": {"a": "npx"}}', "servers.json: expected 'a' to be an object, saw 'npx'"),
        (
            '{"mcpServers": {"a": {"command": "x", "args": "y"}}}',
            "the MCP server 'a': expected args to be a list of words, saw a str",
        ),
        (
            '{"mcpServers": {"a": {"command": "no-such-command", "args": ["x"]}}}',
            "MCP server 'a': expected an MCP server, saw: no command 'no-such-command'; run the command by hand, or "
            "mend it",
        ),
        (
            '{"mcpServers": {"a": {"type": "http", "url": "http://127.0.0.1:9/${NO_KEY}", "headers": {"k": "${NO_KEY}"}'
            "}}}",
            "MCP server 'a': expected an MCP server, saw: All connection attempts failed; its headers name NO_KEY, "
            "which is not set here; set it",
        ),
    ],
)
def test_a_file_that_cannot_be_meant_is_one_error(here: Path, content: str | None, said: str) -> None:
    if content is not None:
        (here / "servers.json").write_text(content)
    assert error_of("servers.json") == said


def test_what_of_a_file_has_no_effect_is_told(here: Path, caplog: pytest.LogCaptureFixture) -> None:
    server = {**ENVIRONMENT, "envFile": ".env", "alwaysAllow": ["look"], "env": {"NAME": "${NO_NAME}"}}
    (here / "servers.json").write_text(json.dumps({"mcpServers": {"a": server}}))
    environment("servers.json")
    assert [record.getMessage() for record in caplog.records if record.name == "agentkit"] == [
        "MCP server 'a': envFile has no effect here",
        "MCP server 'a': its env names NO_NAME, which is not set here; set it",
    ]


def test_a_whole_line_may_be_a_connections_command() -> None:
    line = f"NAME=abc {sys.executable} -m tests.mcp.faulty environment"
    assert environment({"command": line})["NAME"] == "abc"


def test_a_folder_that_is_not_there_is_named(here: Path) -> None:
    assert error_of({"command": "sh", "cwd": str(here / "none")}) == (
        f"MCP server 'sh': expected an MCP server, saw: no folder {str(here / 'none')!r} to start it in; "
        "run the command by hand, or mend it"
    )


# -- what a server said, and what it lacks -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("python", "ModuleNotFoundError: No module named pgdb"),
        ("node", "Error: DATABASE_URL is not set"),
        ("npm", "npm error 404 Not Found"),
        ("group", "ValueError: no database"),
        ("colour", "Error: no database"),
        ("notes", "Error: no database"),
        ("note", "INFO: shutting down"),
    ],
)
def test_what_a_server_said_last_is_in_the_error_and_nowhere_else(
    capfd: pytest.CaptureFixture[str], kind: str, line: str
) -> None:
    said = error_of(faulty(kind))
    assert said.endswith(f"saw: Connection closed; it said: {line}; run the command by hand, or mend it")
    others = [other for other in f"{LAST_WORDS[kind]}\n".splitlines(keepends=True) if line not in other]
    assert capfd.readouterr().err == "".join(others)


def test_what_a_slow_server_says_last_is_held_as_well(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long ago its first line came, which is passed on meanwhile."""
    monkeypatch.setattr(transport, "HELD_S", 0.0)
    errors, seen = StandardError(str), ""
    with open(errors.open(), "w", buffering=1) as writing:
        writing.write("starting\n")
        while "\n" not in seen:
            seen += capfd.readouterr().err
        monkeypatch.setattr(transport, "HELD_S", 60.0)
        writing.write("loading\nError: no database\n")
    asyncio.run(errors.closed())
    assert (seen, capfd.readouterr().err) == ("starting\n", "")
    errors.pass_on(without=errors.last_line())
    assert capfd.readouterr().err == "loading\n"


HINT = (
    "DATABASE_URL is set here and not passed on: put DATABASE_URL=$DATABASE_URL before the command, or "
    '"DATABASE_URL": "${DATABASE_URL}" into its env'
)


@pytest.mark.parametrize("said", ["DATABASE_URL", "database_url", "KeyError:.DATABASE_URL"])
def test_a_variable_that_is_set_here_and_not_passed_on_is_named(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("DATABASE_URL", KEY)
    message = error_of(faulty("says", said))
    assert message.endswith(f"it said: {said}; {HINT}")
    assert KEY not in message
    assert HINT not in error_of(f"DATABASE_URL=$DATABASE_URL {faulty('says', said)}")


def test_a_call_that_fails_for_a_variable_tells_the_user_and_not_the_model(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DATABASE_URL", KEY)
    with mcp_tools(f"KEY={KEY} {faulty('failing')}") as (look,):
        for _ in range(2):
            with pytest.raises(ToolError) as caught:
                look.run({})
            assert str(caught.value) == "Error: needs DATABASE_URL, has ${KEY}"
    name = f"KEY=${{KEY}} PYTHONPATH=${{PYTHONPATH}} {sys.executable} -m tests.mcp.faulty failing"
    assert [record.getMessage() for record in caplog.records if record.name == "agentkit"] == [
        f"MCP server {name!r}: {HINT}"
    ]


# -- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", [KEY, "postgres://db.example.org/x", "/srv/data", "correct-horse-battery", "a+b/c=d%e"]
)
@pytest.mark.parametrize("way", ["command", "env", "mapping"])
def test_a_variables_value_is_in_no_error(capfd: pytest.CaptureFixture[str], value: str, way: str) -> None:
    words = ["says", "cannot.use.{SOME_NAME}"]
    if way == "command":
        said = error_of(f"SOME_NAME='{value}' {faulty(*words)}")
    elif way == "env":
        said = error_of(faulty(*words), env={"SOME_NAME": value})
    else:
        server = {"command": sys.executable, "args": [*FAULTY, *words], "env": {"PYTHONPATH": str(ROOT)}}
        said = error_of({"mcpServers": {"a": {**server, "env": {**server["env"], "SOME_NAME": value}}}})  # type: ignore[dict-item]
    assert "it said: cannot.use.${SOME_NAME};" in said
    assert value not in said
    assert value not in "".join(capfd.readouterr())


def test_a_key_is_in_no_result_no_offer_and_no_recording(here: Path) -> None:
    given = {"PYTHONPATH": str(ROOT), "LOOK": "Looks with {KEY}.", "KEY": KEY, "CITY": "Amsterdam"}
    with Cassette(here / "run.yaml", mode="record"), mcp_tools({"mcpServers": {"a": ENVIRONMENT}}, env=given) as tools:
        (seen,) = observations(run_of([*tools], action("look", {})).invoke("?"))
        assert tools[0].description == "Looks with <REDACTED>."
    assert "<REDACTED>" in seen
    assert "Amsterdam" in seen
    assert KEY not in seen
    assert KEY not in (here / "run.yaml").read_text(encoding="utf-8")


def test_a_recording_names_a_servers_variables_and_replays_without_its_file(here: Path) -> None:
    settings = RunSettings(mcp=(f"KEY={KEY} DOCKER='{KEY} x' docker run -e TOKEN={KEY} image", "servers.json"))
    from agentkit.cassette.format.run_spec import RunSpec

    kept = RunSpec.of({"input": "?"}, settings).scrubbed(lambda value: value).settings
    assert kept.mcp == ("KEY=${KEY} DOCKER=${DOCKER} docker run -e TOKEN=${TOKEN} image", "servers.json")
    assert RunSpec.of({"input": "?"}, kept).scrubbed(lambda value: value).settings == kept

    def run(mode: Any) -> Any:
        with Cassette(here / "run.yaml", mode=mode):
            tools = mcp_tools("servers.json", f"KEY={KEY} {faulty('plain', 'go')}")
            return run_of([*tools], action("one_look", {}), action("go", {})).invoke("?")

    servers = {"one": {**ENVIRONMENT, "args": [*FAULTY, "plain"]}, "two": {**ENVIRONMENT, "args": [*FAULTY, "plain"]}}
    for server in servers.values():
        server["env"] = {"PYTHONPATH": str(ROOT)}  # type: ignore[assignment]
    (here / "servers.json").write_text(json.dumps(servers))
    recorded = run("record")
    os.remove(here / "servers.json")
    assert run("replay") == recorded
    assert KEY not in (here / "run.yaml").read_text(encoding="utf-8")


def test_what_a_file_of_servers_would_start_is_told_before(here: Path) -> None:
    """Whoever agrees to a stranger's file agrees to that, and to no other value of a variable."""
    server = {"command": "npx", "args": ["-y", "a b"], "env": {"API_KEY": KEY, "LD_PRELOAD": "/evil.so"}}
    file = here / "servers.json"
    settings = RunSettings(mcp=("servers.json", f"API_KEY={KEY} PATH=/evil run"))

    def told() -> list[str]:
        file.write_text(json.dumps({"mcpServers": {"a": server, "b": {"url": "https://m"}}}))
        return effects(settings, {"mcp"})

    first, second, third = told()
    assert first.startswith(
        f"start the command \"API_KEY=${{API_KEY}} LD_PRELOAD=/evil.so npx -y 'a b'\" in {here}, as servers.json ("
    )
    assert second.startswith("connect to the MCP server https://m, as servers.json (")
    assert third == f'start the command "API_KEY=${{API_KEY}} PATH=/evil run" in {here}'
    server["env"] = {"API_KEY": "another", "LD_PRELOAD": "/evil.so"}
    assert told()[0] != first
    file.unlink()
    assert effects(settings, {"mcp"})[0] == (
        f"start the command servers.json in {here}, a file of MCP servers that cannot be read now"
    )
