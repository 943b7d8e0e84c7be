"""Files of strangers: a cassette is data, and what live runs would do for a file is agreed to by the user first."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from agentkit.cassette import Cassette, Replay, RunSpec, fork, resume
from agentkit.cli.app import app
from agentkit.cli.trust import agreed
from agentkit.cli.view import View
from agentkit.errors import AgentkitError, CassetteDrift, CassetteError, ConfigurationError
from agentkit.events import Event, Finished
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.printable import word
from agentkit.runs.build import Runner, build
from agentkit.runs.trust import Origin, effects
from agentkit.settings import SETTINGS, RunSettings
from agentkit.tool import Tool
from agentkit.toolbox import registry
from tests.doubles.models import action, final

QUESTION = {"input": "hi"}
WATCHED = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "socket.connect",
    "socket.getaddrinfo",
)
_seen: list[str] | None = None


def _watch(event: str, args: tuple[Any, ...]) -> None:
    if _seen is not None and (
        event in WATCHED or (args and "private" in str(args[0]) and event.startswith(("open", "os.")))
    ):
        _seen.append(f"{event} {args!r}")


sys.addaudithook(_watch)


@contextmanager
def watched() -> Iterator[list[str]]:
    """What starts, is connected to, and is read in a folder `private` while the block runs."""
    global _seen
    _seen = seen = []
    try:
        yield seen
    finally:
        _seen = None


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one that is nobody's business, and a state folder of its own."""
    private = tmp_path / "private"
    private.mkdir()
    (private / "prompt.txt").write_text("{tools} {tool_names} {input} {agent_scratchpad}")
    (private / "prices.toml").write_text('"m" = [1, 2]')
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("AGENTKIT_API_KEY", raising=False)
    monkeypatch.delenv("AGENTKIT_MODEL")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cassette(
    name: str = "theirs.yaml", *, format: int = 2, remembered: Any = None, chat: bool = False, **run: Any
) -> Path:
    """A cassette that somebody wrote by hand; with `chat`, there is HTTP in it that asked a model."""
    head: dict[str, Any] = {"format": format, "run": {"inputs": QUESTION, **run}}
    if remembered is not None:
        head["remembered"] = remembered
    request = {"method": "POST", "uri": "http://127.0.0.1:9/v1/chat/completions", "body": {"messages": []}}
    exchange = {"request": request, "response": {"status": {"code": 200}, "body": {"json": {}}}}
    content = {"version": 1, "agentkit": head, "interactions": [exchange] if chat else [], "end": {"complete": True}}
    Path(name).write_text(yaml.safe_dump(content))
    return Path(name)


# -- a replay ----------------------------------------------------------------------------------------------------------

COMMAND = "sh -c 'touch started'"
NAMED: dict[str, dict[str, Any]] = {
    "an MCP command": {"mcp": [COMMAND]},
    "an MCP command in the first format": {"mcp": [COMMAND], "format": 1},
    "an MCP command in the newest format": {"mcp": [COMMAND], "format": 3},
    "an MCP server's address": {"mcp": ["http://127.0.0.1:9/mcp"]},
    "a file of MCP servers": {"mcp": ["private/servers.json"]},
    "what an MCP server does not offer": {"mcp": [COMMAND], "remembered": {f"mcp:{COMMAND}": "all"}},
    "documents": {"docs": "private"},
    "a prompt's file": {"prompt": "private/prompt.txt"},
    "a prompt of the hub": {"prompt": "hub:a/b"},
    "a model's folder": {"model": "local:private"},
    "a server": {"model": "http://127.0.0.1:9"},
    "a server that was asked": {"model": "http://127.0.0.1:9", "chat": True},
    "a file of prices": {"model": "http://127.0.0.1:9", "options": {"prices": "private/prices.toml"}, "chat": True},
    "a folder to fall back to": {"model": "http://127.0.0.1:9", "fallbacks": ["local:private"], "chat": True},
    "a pipeline of LangChain's": {"model": "huggingface:private", "chat": True},
    "a tool that nobody described": {"tools": ["terminal"]},
    "a tool in another shape": {"tools": ["terminal"], "remembered": {"tools": {"terminal": {"name": 5}}}},
    "tools in another shape": {"tools": ["terminal"], "remembered": {"tools": [1]}},
    "a schema in another shape": {
        "tools": ["terminal"],
        "remembered": {"tools": {"terminal": {"name": "terminal", "description": "", "schema": "string"}}},
    },
    "a tool to allow": {"allow": ["terminal"]},
}


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
def test_a_replay_starts_sends_and_reads_nothing_that_the_file_names(here: Path, named: dict[str, Any]) -> None:
    path = cassette(**named)
    with watched() as seen, pytest.raises(CassetteError):
        list(Replay(path, environment={}).events())
    assert seen == []


def tool(ran: list[str]) -> Tool:
    return Tool(name="Look", description="Looks.", run=lambda text: ran.append(text) or "seen", deterministic=True)


RAN: list[str] = []
LOOK = tool(RAN)


def registered(monkeypatch: pytest.MonkeyPatch, *entries: EntryPoint) -> None:
    monkeypatch.setattr(
        registry, "entry_points", lambda name=None, **_: [one for one in entries if name in (None, one.name)]
    )


def recorded(path: Path) -> list[Event]:
    settings = RunSettings(model="local:ORG/NAME", tools=("look", "calculator"), allow=("look",))
    with Cassette(path, "record", run=RunSpec.of(QUESTION, settings), environment={}):
        turns = (action("Look", "at it"), action("Calculator", "2+2"), final("seen"))
        return list(build(settings, model=BackendChat(ScriptedBackend(turns))).events(QUESTION))


def test_a_tool_of_others_is_in_the_recording_and_need_not_be_there(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    RAN.clear()
    ours = EntryPoint("calculator", "agentkit.tools.calculator:calculator", registry.GROUP)
    registered(monkeypatch, EntryPoint("look", f"{__name__}:LOOK", registry.GROUP), ours)
    first = recorded(here / "run.yaml")
    assert RAN == ["at it"]
    registered(monkeypatch)  # it is no longer installed
    again = list(Replay(here / "run.yaml", environment={}).events())
    assert [type(event) for event in again] == [type(event) for event in first]
    last = again[-1]
    assert isinstance(last, Finished)
    assert (last.output, RAN) == ("seen", ["at it"])


def test_no_entry_of_a_file_makes_a_tool_run(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    RAN.clear()
    registered(monkeypatch, EntryPoint("look", f"{__name__}:LOOK", registry.GROUP))
    path = here / "run.yaml"
    settings = RunSettings(model="local:ORG/NAME", tools=("look",))
    with Cassette(path, "record", run=RunSpec.of(QUESTION, settings), environment={}):
        turns = (action("Look", "at it"), final("seen"))
        list(build(settings, model=BackendChat(ScriptedBackend(turns))).events(QUESTION))
    path.write_text(path.read_text().replace("uri: tool://Look", "uri: http://127.0.0.1:9/"))
    with pytest.raises(CassetteDrift, match="what Look gave"):
        list(Replay(path, environment={}).events())
    assert RAN == ["at it"]


def test_a_replay_sets_no_variable_that_is_none(here: Path) -> None:
    path = cassette()
    path.write_text(path.read_text().replace("format: 2", 'format: 2\n  keys: ["A=B", "\\0", "x y", "", {a: 1}]'))
    environment: dict[str, str] = {}
    with pytest.raises(CassetteDrift):
        list(Replay(path, environment=environment).events())
    assert environment == {}


# -- a live run --------------------------------------------------------------------------------------------------------

EFFECTS: dict[str, tuple[Any, list[str]]] = {
    "model": ("http://x:1/v1", ["send the question to http://x:1/v1"]),
    "tools": (("search", "llm-math", "terminal"), ["run the tool terminal"]),
    "docs": ("/notes", ["read the files in /notes"]),
    "mcp": (
        ("npx a\n[y/N] y", "https://m"),
        [f'start the command "npx a\\n[y/N] y" in {word(str(Path.cwd()))}', "connect to the MCP server https://m"],
    ),
    "prompt": ("/mine.txt", ["read the prompt /mine.txt"]),
    "schema": ("/mine.json", ["read the schema /mine.json"]),
    "options": ({"temperature": 0, "server_kwargs": {"a": 1}}, ['set the model\'s option server_kwargs to {"a": 1}']),
    "fallbacks": (("hf:A/B", "builtin"), ["send the question to Hugging Face, for A/B"]),
}
HARMLESS: dict[str, Any] = {
    "allow": ("calculator",),
    "mode": "tools",
    "compaction": "summary",
    "early_stopping_method": "generate",
    "must_be_grounded": True,
    **dict.fromkeys(("tool_timeout_s", "timeout", "max_cost"), 1.5),
    **dict.fromkeys(
        ("trim_intermediate_steps", "max_observation_tokens", "max_iterations", "max_tokens", "max_repeats"), 5
    ),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_a_setting_makes_a_run_do_is_known(name: str) -> None:
    value, wanted = EFFECTS[name] if name in EFFECTS else (HARMLESS[name], [])
    settings = RunSettings(**{name: value})
    assert effects(settings, SETTINGS) == wanted
    assert effects(settings, set(SETTINGS) - {name}) == []  # for the user gave it


@pytest.mark.parametrize(
    ("spec", "wanted"),
    [
        ("builtin", []),
        ("local:ORG/NAME", ["load the model ORG/NAME"]),
        ("local:/m", ["load the model /m"]),
        ("local:~no-one-here/m", [f"load the model {Path.cwd()}/~no-one-here/m"]),
        (f"local:ORG/{'m' * 300}", [f"load the model ORG/{'m' * 300}"]),
        ("openai:gpt-4", ["send the question to openai, for gpt-4"]),
    ],
)
def test_what_a_model_makes_a_run_do_is_known(spec: str, wanted: list[str]) -> None:
    assert effects(RunSettings(model=spec), SETTINGS) == wanted


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            {"temperature": 0.5, "max_new_tokens": 9, "timeout": 3, "do_sample": 1, "model_kwargs": {}},
            ["do_sample", "model_kwargs"],
        ),
        ({"trust_remote_code": 1}, ["trust_remote_code"]),
        ({"trust_remote_code": 1.0, "top_p": True}, ["trust_remote_code", "top_p"]),
        ({"batch_size": 4_000_000_000}, ["batch_size"]),
    ],
)
def test_only_numbers_that_are_meant_as_numbers_go_without_saying(options: dict[str, Any], told: list[str]) -> None:
    found = effects(RunSettings(options=options), SETTINGS)
    assert [effect.removeprefix("set the model's option ").partition(" ")[0] for effect in found] == told


def test_an_effect_that_goes_on_on_the_next_line_is_none_of_its_own(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("agentkit.cli.approval._line", lambda: "n\n")
    monkeypatch.setattr("agentkit.cli.trust.can_ask", lambda: True)
    started = "true " + "x" * 41 + " - read the files in /tmp/harmless " * 3
    settings = RunSettings(mcp=(started,), docs="/notes")
    origin = Origin(file=Path("theirs.yaml"), names=frozenset(SETTINGS), content=b"")
    with pytest.raises(ConfigurationError, match="was not allowed that"):
        agreed(origin, settings, View(), trust=False)
    lines = capsys.readouterr().err.splitlines()[1:-1]
    first, *_ = effects(settings, ["mcp"])
    assert [line for line in lines if line.startswith("  - ")] == [lines[0], "  - read the files in /notes"]
    assert lines[0].removeprefix("  - ") + "".join(line.removeprefix("  | ") for line in lines[1:-1]) == first


def test_more_than_anybody_reads_is_refused() -> None:
    for many in (("x" * 3_000,), tuple(f"command {number}" for number in range(50))):
        with pytest.raises(ConfigurationError, match="more than anybody could read"):
            effects(RunSettings(mcp=many), SETTINGS)


def command(*words: str) -> str:
    """What `agentkit WORDS` is refused for."""
    with pytest.raises(AgentkitError) as raised:
        app(list(words), standalone_mode=False)
    return f"{raised.value.exit_code} {raised.value}"


ASKS = [
    ["run", "hi"],
    ["record", "theirs.yaml"],
    ["resume", "theirs.yaml", "--max-iterations", "9"],
    ["fork", "theirs.yaml", "--step", "0"],
    ["fork", "theirs.yaml", "--step", "0", "--model", "local:nowhere/at/all"],
]


@pytest.mark.parametrize("words", ASKS, ids=" ".join)
def test_a_files_wishes_are_agreed_to_once_and_anew_when_they_change(here: Path, words: list[str]) -> None:
    def write(text: str) -> None:
        (here / "agentkit.toml").write_text(f"model = 'local:./nowhere'\nmcp = [\"{text}\"]")
        for name in ("theirs.yaml", "theirs.partial.yaml"):
            cassette(name, model="local:./nowhere", mcp=[text])

    write(COMMAND)
    with watched() as seen:
        said = command(*words)
    assert said.startswith("2 ")
    assert f'start the command "{COMMAND}"' in said
    assert "--trust" in said
    assert seen == []
    assert "no folder" in command(*words, "--trust")  # it goes on, to a model that is not there
    assert "no folder" in command(*words)
    (kept,) = (here / "state" / "agentkit").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    write(COMMAND + " ")
    assert "--trust" in command(*words)


@pytest.mark.parametrize("words", [["mcp"], ["mcp", "--http", "0"], ["run", "hi", "--record", "mine.yaml"]])
def test_a_settings_file_starts_nothing_unasked(here: Path, words: list[str]) -> None:
    (here / "agentkit.toml").write_text(f'mcp = ["{COMMAND}"]')
    with watched() as seen:
        assert "give --trust" in command(*words)
    assert seen == []


def test_a_harmless_file_and_values_of_the_user_need_no_question(here: Path) -> None:
    (here / "agentkit.toml").write_text("max_iterations = 3\nmodel = 'builtin'\noptions = {temperature = 0}")
    assert "unknown prompt" in command("run", "hi", "--prompt", "nope")
    (here / "agentkit.toml").write_text("model = 'http://127.0.0.1:9'\nmcp = ['x']\nprompt = 'private/prompt.txt'")
    given = ["--model", "builtin", "--mcp", "/nowhere/x", "--prompt", "nope"]
    assert "--trust" not in command("run", "hi", *given)
    assert not (here / "state").exists()


def put(kind: str, kept: Path, here: Path) -> None:
    """Replace what was agreed to with something that is no such file, or that others may have written."""
    said = kept.read_bytes()
    match kind:
        case "writable by all":
            kept.chmod(0o666)
        case "noise":
            kept.write_bytes(b"\xff\x00" * 999)
        case "another version's":
            kept.write_bytes(said.replace(b" trusted ", b" maybe "))
        case _:
            kept.unlink()
    match kind:
        case "pipe":
            os.mkfifo(kept)
        case "link":
            (here / "elsewhere").write_bytes(said)
            kept.symlink_to(here / "elsewhere")
        case "endless":
            kept.symlink_to("/dev/zero")
        case "folder":
            kept.mkdir()


@pytest.mark.parametrize(
    "kind", ["writable by all", "noise", "another version's", "pipe", "link", "endless", "folder", "gone"]
)
def test_what_was_agreed_to_is_known_from_the_users_own_file_only(here: Path, kind: str) -> None:
    cassette(model="local:./nowhere")
    assert "no folder" in command("record", "theirs.yaml", "--trust")
    assert "no folder" in command("record", "theirs.yaml")
    (kept,) = (here / "state" / "agentkit").iterdir()
    put(kind, kept, here)
    assert "give --trust" in command("record", "theirs.yaml")
    assert "no folder" in command("record", "theirs.yaml", "--trust")


def test_nothing_in_the_folder_of_the_moment_says_what_was_agreed_to(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(here / "home"))
    (here / "home").mkdir()
    cassette(model="local:./nowhere")
    assert "no folder" in command("record", "theirs.yaml", "--trust")
    monkeypatch.setenv("XDG_STATE_HOME", "state")  # which a repository may have, too
    assert "give --trust" in command("record", "theirs.yaml")


def test_links_that_lead_in_a_circle_are_one_line(here: Path) -> None:
    (here / "loop.yaml").symlink_to("loop.yaml")
    for words in (["record", "loop.yaml"], ["resume", "loop.yaml"], ["fork", "loop.yaml", "--step", "0"]):
        assert "Too many levels of symbolic links" in command(*words)
    cassette("theirs.partial.yaml", model="local:./nowhere")
    (here / "theirs.yaml").symlink_to("theirs.yaml")
    assert "give --trust" in command("record", "theirs.partial.yaml")


def test_a_command_in_another_folder_is_another_command(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = str(cassette(model="local:/nowhere/at/all", mcp=["./server"]).resolve())
    assert "no folder" in command("record", theirs, "--trust")
    assert "no folder" in command("record", theirs)
    (here / "elsewhere").mkdir()
    monkeypatch.chdir(here / "elsewhere")
    assert "--trust" in command("record", theirs)


def test_a_copy_elsewhere_is_another_file(here: Path) -> None:
    cassette(model="local:./nowhere")
    assert "no folder" in command("record", "theirs.yaml", "--trust")
    (here / "theirs.yaml").rename("copy.yaml")
    assert "--trust" in command("record", "copy.yaml")


@pytest.mark.parametrize("begin", [resume, lambda path: fork(path, path.with_name("into.yaml"), step=0)])
def test_python_agrees_for_itself(here: Path, begin: Any) -> None:
    path = cassette(mcp=[COMMAND], model="local:./nowhere")
    with watched() as seen, pytest.raises(ConfigurationError, match=r"start the command .*trusted=True"):
        list(begin(path).events())
    assert seen == []
    assert list(resume(path, build=lambda *_: Unstarted()).events()) == []
    assert resume(path, trusted=True).model == "local:./nowhere"


class Unstarted:
    """What a script builds by itself is its own affair."""

    def events(self, _: Any) -> Iterator[Event]:
        yield from ()


def test_the_users_own_recording_is_known_from_its_first_moment(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def built(settings: RunSettings, prompt: Any = None, **options: Any) -> Runner:
        seen.append(tuple(options["foreign"]))
        return build(settings, prompt, model=BackendChat(ScriptedBackend((final("hello"),))))

    monkeypatch.setattr("agentkit.runs.build.build", built)
    given = ["--model", "http://127.0.0.1:9", "--mode", "react-json"]
    assert app(["run", "hi", *given, "--record", "mine.yaml"], standalone_mode=False) == 0
    assert app(["record", "mine.yaml"], standalone_mode=False) == 0
    (here / "agentkit.toml").write_text(json.dumps(given[1]).join(["model = ", "\n"]))
    assert app(["run", "hi", "--mode", "react-json", "--trust", "--record", "theirs.yaml"], standalone_mode=False) == 0
    assert app(["record", "theirs.yaml"], standalone_mode=False) == 0
    assert seen[:3] == [(), (), ("model",)]  # the key goes to what the user named, and not to what a file did
    assert "model" in seen[3]


SENT: list[str] = []


def _send(text: str) -> str:
    SENT.append(text)
    if len(SENT) == 1:
        raise KeyboardInterrupt
    return "sent"


SEND = Tool(name="Send", description="Sends.", run=_send)


@pytest.mark.parametrize(
    ("words", "sent"),
    [
        ([], ["hello"]),
        (["--yes"], ["hello", "changed"]),
    ],
    ids=str,
)
def test_nobody_named_the_tools_of_a_recording_that_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], sent: list[str]
) -> None:
    """Its settings are known as the user's own, and its calls are whatever stands in the file by now."""
    SENT.clear()
    registered(monkeypatch, EntryPoint("send", f"{__name__}:SEND", registry.GROUP))

    def built(settings: RunSettings, prompt: Any = None, **options: Any) -> Runner:
        turns = (action("Send", "hello"),) if not SENT else (final("done"),)
        return build(settings, prompt, model=BackendChat(ScriptedBackend(turns)))

    monkeypatch.setattr("agentkit.runs.build.build", built)
    given = ["--model", "local:ORG/NAME", "--mode", "react-json", "--tools", "send"]
    with pytest.raises(click.Abort):
        app(["run", "hi", *given, "--record", "mine.yaml"], standalone_mode=False)
    partial = here / "mine.partial.yaml"
    lines = partial.read_text().replace("hello", "changed").splitlines(keepends=True)
    partial.write_text("".join(line for line in lines if "sha256:" not in line))
    assert app(["resume", "mine.yaml", *words], standalone_mode=False) == 0
    assert sent == SENT


def test_a_replay_runs_no_tool_that_changes_something_though_it_gives_the_same_again(here: Path) -> None:
    ran: list[str] = []

    def run(mode: Any) -> list[Event]:
        settings = RunSettings(model="local:ORG/NAME", tools=())
        send = Tool(
            name="Send", description="", run=lambda text: ran.append(text), side_effects=True, deterministic=True
        )
        turns = (action("Send", "hello"), final("sent"))
        with Cassette("run.yaml", mode, environment={}):
            runner = build(settings, model=BackendChat(ScriptedBackend(turns)), tools=[send])
            return list(runner.events(QUESTION))

    assert len(run("record")) == len(run("replay"))
    assert ran == ["hello"]


# -- modules that lie in the current folder --------------------------------------------------------------------------

ROOT = Path(__file__).parents[2]
LOADED = "import sys; print(*sys.modules)"
BAIT = "import os; os.write(2, b'it ran {}\\n')"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--version"], "agentkit 0.1.0"),
        (["tools"], "calculator"),
        (["replay", "cassettes"], "unstoppable-force.yaml"),
        (["run", "What is 2 + 2?"], "4"),
    ],
    ids=lambda words: words[0] if isinstance(words, list) else "",
)
def test_python_m_agentkit_imports_nothing_of_the_current_folder(
    words: list[str], expected: str, tmp_path: Path
) -> None:
    loaded = subprocess.run([sys.executable, "-c", LOADED], capture_output=True, text=True, check=True).stdout.split()
    for name in {*sys.stdlib_module_names, "click", "httpx", "yaml", "pydantic", "torch", "numpy"}.difference(loaded):
        (tmp_path / f"{name}.py").write_text(BAIT.format(name))
    shutil.copytree(ROOT / "cassettes", tmp_path / "cassettes")
    command = [sys.executable, "-m", "agentkit", *words]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert "it ran" not in done.stderr
    assert expected in done.stdout


def test_a_checkout_that_is_installed_nowhere_runs_where_it_lies(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "agentkit", tmp_path / "agentkit", ignore=shutil.ignore_patterns("model", "__pycache__"))
    elsewhere = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path.endswith("-packages"))}
    command = [sys.executable, "-S", "-m", "agentkit", "--version"]  # -S: no path file leads to the installed one
    done = subprocess.run(command, cwd=tmp_path, env=elsewhere, capture_output=True, text=True)
    assert done.stdout == "agentkit 0.1.0\n", done.stderr
