"""The pytest plugin: a test's runs are recorded once, then replayed without a key, a network or a model.

    def test_the_age(recorded_executor):
        executor = recorded_executor("hf:Qwen/Qwen3-32B", tools=["search", "calculator"])
        assert "125" in executor.invoke({"input": "Who is 25, and what is 5 times that?"})["output"]

`pytest --agent-record=once` records it in `cassettes/<module>/<test>.yaml` beside the test module; from then on plain
`pytest` replays it. A run that asks for anything else than the recording holds fails the test, and so does a recording
that the test does not play to its end. In a replay the network is blocked, and a model that would run in this process
is not loaded.

- `recorded_executor(model, tools=…, prompt=…, **options)` makes an `AgentExecutor` whose runs are recorded; it takes
  what `AgentExecutor.from_model` takes.
- `agent_cassette` is the test's `Cassette`, open while the test runs: models and executors of any kind are recorded.
- `@pytest.mark.agent_cassette` is the same for a test that needs no fixture; `@pytest.mark.agent_cassette("ages")`
  names the file, in the folder or by its path.

`--agent-record` (or `agent_record` in the ini file) is `none` (replay; the default), `once` (record where there is no
cassette), `new` (play what is there, then go on live and record that too) or `all` (record again). A test that fails
while it records leaves the cassette that was there; what it got stands beside it, in `*.partial.yaml`.

Override these fixtures where your project wants something else:

    @pytest.fixture
    def agent_cassette_folder(request):
        return request.config.rootpath / "recordings"

    @pytest.fixture
    def agent_settings():
        return {"model": "hf:Qwen/Qwen3-32B", "tools": ["search"], "max_iterations": 6}
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest

if TYPE_CHECKING:
    from agentkit.cassette import Cassette
    from agentkit.langchain.executor import AgentExecutor

Mode = Literal["none", "once", "new", "all"]

MARK = "agent_cassette"
OPTION, SETTING = "--agent-record", "agent_record"
MODES: tuple[Mode, ...] = ("none", "once", "new", "all")
LONGEST_NAME = 120
_UNSAFE = re.compile(r"[^\w.-]+")
_BLOCK = pytest.StashKey["_Block"]()


def pytest_addoption(parser: pytest.Parser) -> None:
    help_text = "cassettes of agent runs: none replays them (default), once records where there is none, "
    help_text += "new plays what is there and records what follows, all records again"
    parser.getgroup("agentkit").addoption(OPTION, choices=MODES, default=None, help=help_text)
    parser.addini(SETTING, f"as {OPTION}", default="none")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"{MARK}(path=None): record the test's agent runs, and replay them.")
    if (mode := config.getini(SETTING)) not in MODES:
        raise pytest.UsageError(f"{SETTING}: expected one of {', '.join(MODES)}, saw {mode!r}")


def pytest_itemcollected(item: pytest.Item) -> None:
    names = getattr(item, "fixturenames", None)
    if names is not None and MARK not in names and item.get_closest_marker(MARK) is not None:
        names.insert(0, MARK)


@pytest.fixture
def agent_cassette_folder(request: pytest.FixtureRequest) -> Path:
    """Where a module's cassettes are: `cassettes/<module>` beside it. Override it for another place."""
    return request.path.parent / "cassettes" / request.path.stem


@pytest.fixture
def agent_settings() -> dict[str, Any]:
    """What every `recorded_executor` starts from. Override it to set a model, tools or limits."""
    return {}


@pytest.fixture
def agent_cassette(request: pytest.FixtureRequest, agent_cassette_folder: Path) -> Iterator[Cassette]:
    """The test's cassette, open until the test ends."""
    path = Path(agent_cassette_folder) / _file_name(request)
    block = _Block(path, _mode(request.config), request.node.nodeid)
    request.node.stash[_BLOCK] = block
    yield block.open()
    block.close(_NotRun())


@pytest.fixture
def recorded_executor(agent_cassette: Cassette, agent_settings: dict[str, Any]) -> Callable[..., AgentExecutor]:
    """Makes executors whose runs are in the test's cassette: `recorded_executor(model, tools=…, **options)`."""

    def make(model: Any = None, **options: Any) -> AgentExecutor:
        from agentkit.langchain.executor import AgentExecutor

        chosen = {**agent_settings, **options}
        named = chosen.pop("model", "builtin")
        model = named if model is None else model
        if isinstance(model, str) and agent_cassette.mode == "replay":
            from agentkit.runs.build import for_replay

            model = for_replay(model)
        return AgentExecutor.from_model(model, **chosen)

    return make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """The cassette ends with the test, so that what is wrong with it fails the test and not its teardown."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as raised:
        error = raised
    if (block := item.stash.get(_BLOCK, None)) is not None:
        block.close(error)
    if error is not None:
        raise error


class _NotRun(Exception):
    """The test never came to its end: another fixture failed."""


class _Block:
    """A test's cassette while it is open."""

    def __init__(self, path: Path, mode: Mode, test: str) -> None:
        self._path = path
        self._mode = mode
        self._test = test
        self._cassette: Cassette | None = None

    def open(self) -> Cassette:
        from agentkit.cassette import Cassette
        from agentkit.errors import CassetteError, ConfigurationError

        there = self._path.exists()
        if self._mode == "none" and not there:
            pytest.fail(f"no cassette {self._path}; record it: {self._command('once')}", pytrace=False)
        cassette = Cassette(self._path, _cassette_mode(self._mode, there=there))
        failure = ""
        try:
            self._cassette = cassette.__enter__()
        except (CassetteError, ConfigurationError) as error:
            failure = str(error)
        if failure:
            pytest.fail(failure, pytrace=False)
        return cassette

    def close(self, error: BaseException | None) -> None:
        """End the recording or the replay; a drift, also one that the test swallowed, fails the test."""
        from agentkit.errors import CassetteError

        cassette, self._cassette = self._cassette, None
        if cassette is None:
            return
        try:
            cassette.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except CassetteError as drift:
            error = drift
        if isinstance(error, CassetteError):
            details = getattr(error, "details", "")
            again = f"To record it again: {self._command('all')}"
            pytest.fail("\n".join(filter(None, (str(error), details, again))), pytrace=False)

    def _command(self, mode: Mode) -> str:
        return f'pytest {OPTION}={mode} "{self._test}"'


def _cassette_mode(mode: Mode, *, there: bool) -> Literal["record", "replay", "resume"]:
    if mode == "all" or not there:
        return "record"
    return "resume" if mode == "new" else "replay"


def _mode(config: pytest.Config) -> Mode:
    mode: Mode = config.getoption(OPTION) or config.getini(SETTING)
    return mode


def _file_name(request: pytest.FixtureRequest) -> str:
    """The marker's path, or the test's name as any file system takes it."""
    mark = request.node.get_closest_marker(MARK)
    given = [*mark.args, *mark.kwargs.values()] if mark is not None else []
    if given:
        return given[0] if str(given[0]).endswith((".yaml", ".yml")) else f"{given[0]}.yaml"
    owner = f"{request.cls.__name__}." if request.cls is not None else ""
    return f"{_safe(owner + request.node.name)}.yaml"


def _safe(name: str) -> str:
    """A test's name with its parameters as a file's; a hash keeps apart what would look the same."""
    plain, bracket, parameters = name.partition("[")
    parameters = parameters.removesuffix("]")
    safe = plain + (f"-{_UNSAFE.sub('-', parameters)}" if bracket else "")
    if _UNSAFE.search(parameters) or len(safe) > LONGEST_NAME:
        safe = f"{safe[:LONGEST_NAME].rstrip('-')}-{hashlib.sha256(name.encode('utf-8', 'replace')).hexdigest()[:8]}"
    return safe
