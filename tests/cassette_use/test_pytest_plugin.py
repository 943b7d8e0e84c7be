"""The pytest plugin, tested with pytest: what is recorded, what is replayed, and what fails."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

import agentkit
from agentkit.cassette.format.file import load

EXAMPLE = Path(__file__).parent / "example_test.txt"
SETTINGS = "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\nfilterwarnings = error\n"

MODULE = """
import pytest
from tests.doubles.models import Scripted, action, final

TURNS = [action("Calculator", "25*5"), final("125")]
QUESTION = "What is 25 * 5?"

def ask(recorded_executor, question=QUESTION, turns=TURNS):
    executor = recorded_executor(Scripted(turns=turns), tools=["calculator"])
    return executor.invoke({"input": question})["output"]

"""
ASKS = MODULE + "def test_ask(recorded_executor):\n    assert ask(recorded_executor) == '125'\n"


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    """pytester forgets what a run within this process imported; half of a package imported twice is two packages."""
    for module in ("yaml", "numexpr"):
        importlib.import_module(module)
    for found in pkgutil.walk_packages(agentkit.__path__, "agentkit."):
        if found.name != "agentkit.__main__":
            with suppress(ImportError):  # torch may be missing
                importlib.import_module(found.name)


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makefile(".ini", pytest=SETTINGS)
    return pytester


def run(project: pytest.Pytester, module: str, *words: str) -> pytest.RunResult:
    """Write the module and run it."""
    project.makepyfile(test_ages=module)
    return project.runpytest_inprocess("-q", "-p", "no:cacheprovider", *words)


def cassettes(project: pytest.Pytester) -> list[str]:
    return sorted(str(path.relative_to(project.path)) for path in project.path.rglob("*.yaml"))


@pytest.mark.torch
@pytest.mark.slow
def test_the_example_records_and_then_replays_without_its_model(project: pytest.Pytester) -> None:
    project.makepyfile(test_agent=EXAMPLE.read_text(encoding="utf-8"))
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    recorded = project.run(*words, "--agent-record=once")
    recorded.assert_outcomes(passed=5)
    assert cassettes(project) == [
        f"cassettes/test_agent/{name}.yaml"
        for name in ("test_a_limit", "test_a_product", "test_squares-11", "test_squares-7", "test_two_at_once")
    ]
    project.makeconftest(
        "import sys\n"
        "def pytest_unconfigure():\n"
        "    print('loaded:', sorted({'torch', 'transformers', 'accelerate'} & sys.modules.keys()))\n"
    )
    replayed = project.run(*words)
    replayed.assert_outcomes(passed=5)
    replayed.stdout.fnmatch_lines(["loaded: []"])


def test_a_missing_cassette_fails_and_says_how_to_record_it(project: pytest.Pytester) -> None:
    result = run(project, ASKS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        [
            "no cassette */test_ages/test_ask.yaml; record it: pytest --agent-record=once ?test_ages.py::test_ask?",
        ]
    )
    assert cassettes(project) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "settings"), [(["--agent-record=once"], ""), ([], "agent_record = once\n"), (["--agent-record=new"], "")]
)
def test_what_is_missing_is_recorded_where_that_is_wanted(
    project: pytest.Pytester, words: list[str], settings: str
) -> None:
    project.makefile(".ini", pytest=SETTINGS + settings)
    run(project, ASKS, *words).assert_outcomes(passed=1)
    assert cassettes(project) == ["cassettes/test_ages/test_ask.yaml"]
    run(project, ASKS, "--agent-record=none").assert_outcomes(passed=1)


def test_a_replay_asks_no_model(project: pytest.Pytester) -> None:
    run(project, ASKS, "--agent-record=once").assert_outcomes(passed=1)
    run(project, ASKS.replace('final("125")', '"never asked"')).assert_outcomes(passed=1)


def test_a_file_that_is_no_cassette_fails_in_one_line(project: pytest.Pytester) -> None:
    path = project.path / "cassettes" / "test_ages" / "test_ask.yaml"
    path.parent.mkdir(parents=True)
    path.write_text("hello")
    result = run(project, ASKS)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_ask.yaml: expected a mapping with interactions; is this a cassette?"])
    assert "During handling" not in result.stdout.str()


def test_a_changed_question_fails_with_the_difference(project: pytest.Pytester) -> None:
    run(project, ASKS, "--agent-record=once")
    result = run(project, ASKS.replace("25 * 5?", "25 times 5?"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "*step 1: messages?1?.content changed: recorded 'What is 25 ? 5?', this run 'What is 25 times 5?'*",
            "-  content: What is 25 ? 5?",
            "+  content: What is 25 times 5?",
            'To record it again: pytest --agent-record=all "test_ages.py::test_ask"',
        ]
    )
    assert "Traceback" not in result.stdout.str()
    assert "During handling" not in result.stdout.str()


def test_a_drift_that_the_test_swallows_fails_it(project: pytest.Pytester) -> None:
    module = MODULE + (
        "def test_ask(recorded_executor):\n"
        "    try:\n"
        "        ask(recorded_executor)\n"
        "    except Exception:\n"
        "        pass\n"
    )
    run(project, module, "--agent-record=once").assert_outcomes(passed=1)
    run(project, module.replace("25 * 5?", "25?")).assert_outcomes(failed=1)


TWICE = MODULE + (
    "TIMES = 2\n"
    "def test_ask(recorded_executor):\n"
    "    for number in range(TIMES):\n"
    "        ask(recorded_executor, f'{number}?', [final(str(number))])\n"
)


def test_what_is_recorded_and_not_asked_for_fails(project: pytest.Pytester) -> None:
    run(project, TWICE, "--agent-record=once").assert_outcomes(passed=1)
    result = run(project, TWICE.replace("TIMES = 2", "TIMES = 1"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 of 2 recorded interactions not played*"])


@pytest.mark.slow
def test_new_runs_are_added_and_those_that_are_there_are_played(project: pytest.Pytester) -> None:
    run(project, TWICE, "--agent-record=once").assert_outcomes(passed=1)
    (path,) = project.path.rglob("*.yaml")
    before = load(path).entries
    thrice = TWICE.replace("TIMES = 2", "TIMES = 3")
    run(project, thrice).assert_outcomes(failed=1)
    run(project, thrice, "--agent-record=new").assert_outcomes(passed=1)
    after = load(path).entries
    assert [entry.response for entry in after[:2]] == [entry.response for entry in before]
    assert [entry.run for entry in after] == [1, 2, 3]
    run(project, thrice).assert_outcomes(passed=1)


@pytest.mark.slow
def test_all_are_recorded_again(project: pytest.Pytester) -> None:
    run(project, ASKS, "--agent-record=once")
    other = ASKS.replace("125", "126")
    run(project, other).assert_outcomes(failed=1)
    run(project, other, "--agent-record=all").assert_outcomes(passed=1)
    run(project, other).assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_test_that_fails_keeps_the_cassette_that_was_there(project: pytest.Pytester) -> None:
    run(project, ASKS, "--agent-record=once")
    (path,) = project.path.rglob("*.yaml")
    before = path.read_bytes()
    run(project, ASKS.replace("25*5", "25*6"), "--agent-record=all").assert_outcomes(passed=1)
    path.write_bytes(before)
    run(project, ASKS.replace("== '125'", "== '126'"), "--agent-record=all").assert_outcomes(failed=1)
    assert path.read_bytes() == before
    run(project, ASKS).assert_outcomes(passed=1)


def test_a_marker_names_the_file_and_needs_no_fixture(project: pytest.Pytester) -> None:
    module = MODULE + (
        "@pytest.mark.agent_cassette('shared')\n"
        "def test_marked():\n"
        "    from agentkit import AgentExecutor\n"
        "    executor = AgentExecutor.from_model(Scripted(turns=TURNS), tools=['calculator'])\n"
        "    assert executor.invoke({'input': QUESTION})['output'] == '125'\n"
        "@pytest.mark.agent_cassette('../elsewhere/a.yml')\n"
        "def test_placed(agent_cassette):\n"
        "    assert agent_cassette.path.name == 'a.yml'\n"
    )
    run(project, module, "--agent-record=once").assert_outcomes(passed=2)
    assert cassettes(project) == ["cassettes/test_ages/shared.yaml"]
    assert (project.path / "cassettes" / "elsewhere" / "a.yml").is_file()
    run(project, module).assert_outcomes(passed=2)


@pytest.mark.slow
def test_parameters_become_names_that_any_file_system_takes(project: pytest.Pytester) -> None:
    module = MODULE + (
        "@pytest.mark.parametrize('question', ['plain', 'a/b', 'a b', '../../up', 'x' * 300, 'ü'])\n"
        "class TestIt:\n"
        "    def test_ask(self, recorded_executor, question):\n"
        "        ask(recorded_executor, question)\n"
    )
    run(project, module, "--agent-record=once").assert_outcomes(passed=6)
    names = cassettes(project)
    assert len(names) == 6
    assert "cassettes/test_ages/TestIt.test_ask-plain.yaml" in names
    assert all(name.startswith("cassettes/test_ages/TestIt.test_ask-") and len(name) < 180 for name in names)
    run(project, module).assert_outcomes(passed=6)


def test_folder_and_settings_can_be_overridden(project: pytest.Pytester) -> None:
    project.makeconftest(
        "import pytest\n"
        "from tests.doubles.models import Scripted, final\n"
        "@pytest.fixture\n"
        "def agent_cassette_folder(request):\n"
        "    return request.config.rootpath / 'recordings'\n"
        "@pytest.fixture\n"
        "def agent_settings():\n"
        "    return {'model': Scripted(turns=[final('1')]), 'tools': [], 'max_iterations': 2}\n"
    )
    module = (
        "def test_ask(recorded_executor):\n"
        "    executor = recorded_executor(max_iterations=3)\n"
        "    assert executor.settings.max_iterations == 3\n"
        "    executor.invoke('?')\n"
    )
    run(project, module, "--agent-record=once").assert_outcomes(passed=1)
    assert cassettes(project) == ["recordings/test_ask.yaml"]


@pytest.mark.slow
def test_the_network_is_blocked_in_a_replay(project: pytest.Pytester) -> None:
    module = MODULE + (
        "import socket\n"
        "ADDRESS = None\n"
        "def test_ask(recorded_executor):\n"
        "    ask(recorded_executor)\n"
        "    if ADDRESS:\n"
        "        try:\n"
        "            socket.create_connection(ADDRESS)\n"
        "        except OSError:\n"
        "            pass\n"
    )
    run(project, module, "--agent-record=once").assert_outcomes(passed=1)
    result = run(project, module.replace("ADDRESS = None", "ADDRESS = ('127.0.0.1', 9)"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*this run connects to 127.0.0.1, the recording does not; it was blocked*"])


def test_a_test_of_an_async_run_is_recorded_too(project: pytest.Pytester) -> None:
    module = MODULE + (
        "async def test_ask(recorded_executor):\n"
        "    executor = recorded_executor(Scripted(turns=TURNS), tools=['calculator'])\n"
        "    assert (await executor.ainvoke({'input': QUESTION}))['output'] == '125'\n"
    )
    run(project, module, "--agent-record=once").assert_outcomes(passed=1)
    (path,) = project.path.rglob("*.yaml")
    assert [entry.kind for entry in load(path).entries] == ["turn", "tool", "turn"]
    run(project, module).assert_outcomes(passed=1)


def test_a_wrong_setting_is_told(project: pytest.Pytester) -> None:
    project.makefile(".ini", pytest=SETTINGS + "agent_record = sometimes\n")
    result = run(project, ASKS)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*agent_record: expected one of none, once, new, all, saw 'sometimes'*"])


def test_who_does_not_use_it_pays_nothing_for_it() -> None:
    code = "import agentkit.pytest_plugin, sys; print(*sorted(m for m in sys.modules if m.startswith('agentkit')))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["agentkit", "agentkit.pytest_plugin"]
