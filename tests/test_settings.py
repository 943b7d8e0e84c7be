"""Settings: every one by every way in, which source wins, and what is refused."""

from __future__ import annotations

import os
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from langchain_core.runnables import RunnableLambda

from agentkit import AgentExecutor
from agentkit.cassette import Cassette, RunSpec, read_run_spec
from agentkit.cli import run as run_command
from agentkit.cli.app import app
from agentkit.errors import ConfigurationError
from agentkit.models.backend import Capabilities
from agentkit.runs.build import build, settled
from agentkit.settings import SETTINGS, RunSettings, find_settings, option, read_settings, type_of
from agentkit.user_files import user_folder


@pytest.fixture(autouse=True)
def _no_model_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AGENTKIT_MODEL")


# Each setting: its value, as it is written on the command line (words after the option), in the environment, in TOML.
WAYS: dict[str, tuple[Any, list[str], str, str]] = {
    "model": ("hf:A/B", ["hf:A/B"], "hf:A/B", '"hf:A/B"'),
    "tools": (("calculator", "search"), ["calculator, search"], "calculator,search,", '["calculator", "search"]'),
    "docs": ("notes", ["notes"], "notes", '"notes"'),
    "mcp": (("npx x", "http://y"), ["npx x", "http://y"], "npx x, http://y", '["npx x", "http://y"]'),
    "allow": (("calculator",), ["calculator"], "calculator", '["calculator"]'),
    "prompt": ("mine.txt", ["mine.txt"], "mine.txt", '"mine.txt"'),
    "mode": ("tools", ["tools"], "tools", '"tools"'),
    "schema": ({"type": "integer"}, ['{"type": "integer"}'], ' {"type": "integer"}', '{type = "integer"}'),
    "options": (
        {"temperature": 0.5, "provider": "auto"},
        ["temperature=0.5", "provider=auto"],
        "temperature=0.5, provider=auto",
        '{temperature = 0.5, provider = "auto"}',
    ),
    "fallbacks": (("hf:C/D", "builtin"), ["hf:C/D", "builtin"], "hf:C/D, builtin", '["hf:C/D", "builtin"]'),
    "trim_intermediate_steps": (4, ["4"], "4", "4"),
    "compaction": ("summary", ["summary"], "summary", '"summary"'),
    "tool_timeout_s": (2.5, ["2.5"], "2.5", "2.5"),
    "max_observation_tokens": (500, ["500"], "500", "500"),
    "max_iterations": (7, ["7"], "7", "7"),
    "timeout": (60.0, ["60"], "60", "60"),
    "max_tokens": (9000, ["9000"], "9000", "9000"),
    "max_cost": (0.25, ["0.25"], "0.25", "0.25"),
    "max_repeats": (5, ["5"], "5", "5"),
    "early_stopping_method": ("generate", ["generate"], "generate", '"generate"'),
    "must_be_grounded": (True, [], "yes", "true"),
}
EVERY = pytest.mark.parametrize("name", [field.name for field in fields(RunSettings)])


def expected(name: str) -> RunSettings:
    return replace(RunSettings(), **{name: WAYS[name][0]})


def read(tmp_path: Path, given: dict[str, object] | None = None, **environment: str) -> RunSettings:
    return read_settings(given or {}, environment={"HOME": str(tmp_path / "home"), **environment}, here=tmp_path)


# -- every setting -----------------------------------------------------------------------------------------------------


@EVERY
def test_the_command_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[RunSettings] = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_command, "begin", lambda settings, *_, **__: seen.append(settings))
    words = WAYS[name][1]
    repeated = [part for word in words for part in (option(name), word)] if words else [option(name)]
    CliRunner().invoke(app, ["run", "x", *repeated], env={"HOME": str(tmp_path)})
    assert seen == [settled(expected(name))]


@EVERY
def test_the_environment(name: str, tmp_path: Path) -> None:
    assert read(tmp_path, **{f"AGENTKIT_{name.upper()}": WAYS[name][2]}) == expected(name)


@pytest.mark.parametrize(
    ("text", "servers"),
    [
        ("npx server --roots a,b", ["npx server --roots a,b"]),
        ("npx server --roots a,b, uvx other", ["npx server --roots a,b", "uvx other"]),
        ("npx server --say 'a, b', uvx other", ["npx server --say 'a, b'", "uvx other"]),
        (r'npx server --say "a\", b" , uvx other,', [r'npx server --say "a\", b"', "uvx other"]),
        ("http://a.example/?of=1,2,\nhttp://b.example", ["http://a.example/?of=1,2", "http://b.example"]),
        ("/home/o'brien/serve a,b, uvx other", ["/home/o'brien/serve a,b", "uvx other"]),
        (" , ", []),
    ],
)
def test_commands_keep_the_commas_in_their_arguments(text: str, servers: list[str], tmp_path: Path) -> None:
    assert read(tmp_path, AGENTKIT_MCP=text).mcp == tuple(servers)


@EVERY
def test_the_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text(f"{name} = {WAYS[name][3]}")
    assert read(tmp_path) == expected(name)


@EVERY
def test_a_cassette_keeps_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{tools} {tool_names} {input} {agent_scratchpad}", encoding="utf-8")
    settings = expected(name)
    if name == "prompt":
        settings = replace(settings, prompt=str(tmp_path / "mine.txt"))
    spec = RunSpec.of({"input": "x"}, settings)
    with Cassette(tmp_path / "run.yaml", "record", run=spec, environment={}):
        pass
    assert read_run_spec(tmp_path / "run.yaml") == spec


class Unasked:
    """A model that is named, and never asked."""

    model_id = "unasked"
    capabilities = Capabilities(tools=True)

    def complete(self, request: Any) -> Any:
        raise AssertionError

    acomplete = complete


BUILT = {
    "tools": lambda runner, _: [tool.name for tool in runner.tools] == ["Calculator", "Search"],
    "docs": lambda runner, _: "the documents in notes" in runner.tools[0].description,
    "allow": lambda runner, _: [tool.name for tool in runner.agent.tools] == ["Calculator"],
    "prompt": lambda runner, _: runner.prompt.name.endswith("mine.txt"),
    "mode": lambda runner, _: runner.agent.mode == "tools",
    "schema": lambda runner, _: runner.agent.answer.schema == {"type": "integer"},
    "trim_intermediate_steps": lambda _, run: run.trim("123456") == "3456",
    "compaction": lambda _, run: run.compactor.how == "summary",
    "max_iterations": lambda _, run: run.limits.max_iterations == 7,
    "timeout": lambda _, run: run.limits.max_execution_time_s == 60,
    "max_tokens": lambda _, run: run.limits.max_tokens == 9000,
    "max_cost": lambda _, run: run.limits.max_cost_usd == 0.25,
    "max_repeats": lambda _, run: run.limits.max_repeats == 5,
    "early_stopping_method": lambda _, run: run.limits.early_stopping_method == "generate",
    "must_be_grounded": lambda _, run: run.must_be_grounded,
}


@pytest.mark.parametrize("name", BUILT)
def test_a_run_is_built_from_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("{tools} {tool_names} {input} {agent_scratchpad}", encoding="utf-8")
    settings = expected(name)
    if name == "prompt":
        settings = replace(settings, prompt=str(tmp_path / "mine.txt"))
    runner = build(settings, model=Unasked())
    assert BUILT[name](runner, runner.run({"input": "x"}))


# -- the executor's keywords -------------------------------------------------------------------------------------------

KEYWORDS = {
    "timeout": "max_execution_time",
    **{name: name for name, one in SETTINGS.items() if one.group == "limits" and name != "timeout"},
    "tool_timeout_s": "tool_timeout_s",
    "max_observation_tokens": "max_observation_tokens",
}


@pytest.mark.parametrize(("name", "keyword"), KEYWORDS.items())
def test_the_executor_takes_it(name: str, keyword: str) -> None:
    executor = AgentExecutor(RunnableLambda(lambda _: None), [], **{keyword: WAYS[name][0]})
    assert getattr(executor.settings, name) == WAYS[name][0]
    defaults = AgentExecutor(RunnableLambda(lambda _: None), []).settings
    assert replace(defaults, must_be_grounded=None) == RunSettings()


# -- which source wins -------------------------------------------------------------------------------------------------


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text('model = "file"\nprompt = "file"\nmax_iterations = 3\ntools = ["search"]')
    settings = read(
        tmp_path,
        {"model": "line", "prompt": None},
        AGENTKIT_MODEL="environment",
        AGENTKIT_PROMPT="environment",
        AGENTKIT_TIMEOUT="2.5",
    )
    assert settings == RunSettings(model="line", prompt="environment", max_iterations=3, tools=("search",), timeout=2.5)


def test_the_users_file_counts_where_there_is_none_here(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "agentkit"
    folder.mkdir(parents=True)
    (folder / "agentkit.toml").write_text('model = "mine"')
    assert read(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "config")).model == "mine"


def test_the_environment_is_looked_up_when_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTKIT_MODEL", "first")
    assert read_settings({}, here=tmp_path).model == "first"
    monkeypatch.setattr("os.environ", {"AGENTKIT_MODEL": "second"})
    assert read_settings({}, here=tmp_path).model == "second"


def test_a_limit_can_be_lifted(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text('max_tokens = 10\nmax_repeats = "none"')
    assert read(tmp_path, {"max_tokens": "none"}) == RunSettings(max_repeats=None)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("model = ", "expected TOML"),
        ("modell = 'x'", "unknown setting 'modell'; did you mean 'model'"),
        ("modle = 'x'", "unknown setting 'modle'; did you mean 'model'"),
        ("max-iterations = 3", "did you mean 'max_iterations'"),
        ("[run]\nmodel = 'x'", "unknown setting 'run'; expected one of model, tools"),
        ("a = " + "[" * 5_000, "expected TOML"),
        ("model = 5", "model: expected text, saw 5"),
        ("max_iterations = 'many'", "max_iterations: expected a whole number, saw 'many'"),
        ("max_iterations = 2.7", "max_iterations: expected a whole number, saw 2.7"),
        ("max_iterations = true", "max_iterations: expected a whole number, saw True"),
        ("max_iterations = 0", "max_iterations is at least 1, or none for no limit, not 0"),
        ("mode = 'native'", "mode is auto, react-json or tools, not 'native'"),
        ("max_cost = 'much'", "max_cost: expected a number, saw 'much'"),
        ("timeout = nan", "timeout: expected a number, saw nan"),
        ("timeout = -1", "timeout is more than 0, or none for no limit, not -1"),
        ("timeout = 0", "timeout is more than 0"),
        ("timeout = inf", "timeout: expected a number, saw inf"),
        ("timeout = 1" + 400 * "0", "timeout: expected a number, saw 1"),
        ("max_cost = 0.0", "max_cost is more than 0"),
        ("tools = [1]", r"tools: expected names, saw \[1\]"),
        ("must_be_grounded = 'perhaps'", "must_be_grounded: expected yes or no, saw 'perhaps'"),
        ("options = ['temperature']", "options: expected values by name, as temperature=0, saw 'temperature'"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "agentkit.toml").write_text(toml)
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Path.mkdir, "agentkit.toml is no file"),
        (os.mkfifo, "agentkit.toml is no file"),
        (lambda path: path.symlink_to("/dev/zero"), "agentkit.toml is no file"),
        (lambda path: path.symlink_to("nowhere"), "agentkit.toml is a link to nothing"),
        (lambda path: path.write_bytes(b"model = '\xff'"), "expected TOML"),
        (lambda path: path.write_bytes(b"#" * 2_000_000), "larger than 1 MB"),
        (lambda path: path.write_text("a" + ".a" * 100_000 + " = 1"), "a line has more than 200 dots"),
    ],
)
def test_a_settings_file_is_read_or_refused_and_never_passed_over(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "agentkit.toml")
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path)


def test_an_option_that_is_nested_too_deep_is_text(tmp_path: Path) -> None:
    deep = "[" * 50_000
    assert find_settings({"options": f"stop={deep}"}, environment={}, here=tmp_path).settings.options == {"stop": deep}


def test_a_file_that_a_windows_editor_saved_is_read(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_bytes(b"\xef\xbb\xbfmax_iterations = 7\r\n")
    assert read(tmp_path).max_iterations == 7


def test_which_values_are_the_folders_own(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text("model = 'file'\nprompt = 'file'\nmax_iterations = 3")
    environment = {"HOME": str(tmp_path / "home"), "AGENTKIT_PROMPT": "mine"}
    found = find_settings({"max_iterations": 5}, environment=environment, here=tmp_path)
    assert (found.file, found.foreign) == (tmp_path / "agentkit.toml", {"model"})
    home = find_settings({}, environment={**environment, "XDG_CONFIG_HOME": str(tmp_path)}, here=tmp_path / "nowhere")
    assert (home.file, home.foreign) == (None, frozenset())


def test_misspelt_variables_are_told(tmp_path: Path) -> None:
    given = {
        "AGENTKIT_MODLE": "x",
        "agentkit_timeout": "1",
        "AGENTKIT_APIKEY": "x",
        "AGENTKIT_FOO": "x",
        "AGENTKIT_API_KEY": "x",
    }
    notes = find_settings({}, environment={"HOME": "/nowhere", **given}, here=tmp_path).notes
    told = [note.replace(" is no variable of agentkit and has no effect; did you mean ", " → ") for note in notes]
    assert told == [
        "AGENTKIT_APIKEY → AGENTKIT_API_KEY?",
        "AGENTKIT_FOO is no variable of agentkit and has no effect; agentkit run --help lists the settings",
        "AGENTKIT_MODLE → AGENTKIT_MODEL?",
        "agentkit_timeout → AGENTKIT_TIMEOUT?",
    ]


NUMBERS = {name: one for name, one in SETTINGS.items() if one.least is not None or one.above is not None}


@pytest.mark.parametrize("name", NUMBERS)
def test_a_number_that_cannot_be_is_refused_by_every_way_in(name: str, tmp_path: Path) -> None:
    for value in (
        -2,
        float("nan"),
        float("inf"),
        True,
        "3",
        10**400 if NUMBERS[name].above is not None else -(10**400),
    ):
        with pytest.raises(ConfigurationError, match=name):
            RunSettings(**{name: value})
    for text in ("-2", "nan", "inf", "1e400", "9" * 5_000):
        if text[0] == "9" and type_of(name) is int:
            continue
        with pytest.raises(ConfigurationError, match=option(name)):
            read(tmp_path, {name: text})
    if NUMBERS[name].least != -1:
        with pytest.raises(ConfigurationError, match=name):
            RunSettings(**{name: 0})


@pytest.mark.parametrize("name", NUMBERS)
def test_no_limit_takes_what_is_no_number(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=f"{option(name)}: expected a "):
        read(tmp_path, {name: "many"})
    with pytest.raises(ConfigurationError, match=f"AGENTKIT_{name.upper()}: expected a "):
        read(tmp_path, **{f"AGENTKIT_{name.upper()}": "many"})


@pytest.mark.parametrize("kind", ["cache", "config", "state"])
def test_a_relative_folder_of_the_users_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"XDG_{kind.upper()}_HOME"
    assert user_folder(kind, {name: str(tmp_path), "HOME": "/nowhere"}) == tmp_path / "agentkit"
    for home in (".", "", "/nowhere/at/all"):
        found = user_folder(kind, {name: ".", "HOME": home})
        assert found.is_absolute()
        assert not found.is_relative_to(Path.cwd())
