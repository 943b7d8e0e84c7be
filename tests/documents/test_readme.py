"""What README, CONTRIBUTING and the guide say is run, from the top of each page to its end."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.documents import commands, snippets
from tests.documents.pages import ROOT, Block, blocks, inline_code, run_pages

TEXT = {"", "text"}
READ_BY = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
OURS = ("agentkit", "make", "pip", "python", "pytest")
GROUP = '[project.entry-points."agentkit.tools"]'


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("page", run_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_does_what_it_says(page: Path, tmp_path: Path, offline: None, monkeypatch: pytest.MonkeyPatch) -> None:
    if page.name == "CONTRIBUTING.md":
        _copy_project(tmp_path)
    else:
        shutil.copytree(ROOT / "cassettes", tmp_path / "cassettes")
    monkeypatch.chdir(tmp_path)
    _read(tmp_path, blocks(page))


@pytest.mark.parametrize("page", run_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_in_a_pages_prose_are_known(page: Path) -> None:
    said = [code for code in inline_code(page) if re.match(rf"({'|'.join(OURS)}) [^…]+$", code)]
    problems = {code: commands.wrong(shlex.join(shlex.split(code))) for code in said}
    allowed = "Missing argument"  # a command is named, not given
    assert {code: wrong for code, wrong in problems.items() if wrong and not wrong.startswith(allowed)} == {}


@pytest.mark.parametrize("page", run_pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_imports_in_a_pages_prose_work(page: Path) -> None:
    for code in inline_code(page):
        if re.match(r"(from|import) agentkit\b[^…]*$", code):
            exec(code, {})


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No key, no setting, no network: as a reader has them who has only just begun."""
    from agentkit.cassette.seams.sockets import blocked

    for name in [name for name in os.environ if name not in commands.environment(ROOT)]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with blocked(lambda address: OSError(f"no network for documents: {address}")):
        yield


def _read(folder: Path, found: Iterable[Block]) -> None:
    reader = _Reader(folder)
    for block in found:
        reader.read(block)


class _Reader:
    """Goes through one page in its folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._namespace: dict[str, Any] = {"__name__": "page"}
        self._printed: str | None = None  # by the last command, None where that was not run

    def read(self, block: Block) -> None:
        if block.file:
            self._write(block)
        elif block.language == "python":
            self._python(block)
        elif block.language == "console":
            self._console(block)
        elif block.language in TEXT:
            self._output(block)
        elif block.language in READ_BY:
            READ_BY[block.language](block.text)
        else:
            pytest.fail(f"{block.place}: nothing is known to check a block of {block.language!r} by")
        if block.language != "console":
            self._printed = None

    def _write(self, block: Block) -> None:
        path = self._folder / block.file
        path.parent.mkdir(parents=True, exist_ok=True)
        if block.file == "pyproject.toml":
            whole, (head, _, rest) = path.read_text(), block.text.partition("\n")
            assert head in whole, f"{block.place}: pyproject.toml has no {head}"
            path.write_text(whole.replace(f"{head}\n", f"{head}\n{rest}"))
            _describe(self._folder)
        else:
            path.write_text(block.text)

    def _python(self, block: Block) -> None:
        if block.checked == "names":
            assert snippets.unknown(block, self._namespace) == [], block.place
        else:
            assert block.checked == "", block.place
            snippets.run(block, self._namespace)

    def _console(self, block: Block) -> None:
        assert block.checked in ("", "options"), block.place
        for command in commands.lines(block):
            self._printed = None
            if not block.checked and commands.runs(command, self._folder):
                self._printed = commands.run(command, self._folder)
            else:
                assert commands.wrong(command) == "", f"{block.place}: {command}"

    def _output(self, block: Block) -> None:
        if not block.follows_another or block.checked == "no":
            return
        assert self._printed is not None, f"{block.place}: what prints this is not run; mark it as checked: no"
        assert not commands.differs(self._printed, block.text), f"{block.place}: expected this, saw\n{self._printed}"


def _copy_project(folder: Path) -> None:
    """What a clone holds of the package and the tests, without the notebooks."""
    for name in ("agentkit", "tools", "prompts", "tests", "cassettes"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE", "Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    _describe(folder)


def _describe(folder: Path) -> None:
    """What installing does with pyproject.toml: entry points are found in the folder's metadata."""
    describe = [sys.executable, "-c", "from setuptools import setup; setup()", "-q", "egg_info"]
    subprocess.run(describe, cwd=folder, check=True, capture_output=True)


# -- the checks themselves: each finds what is wrong ---------------------------------------------------------------


def _page(folder: Path, text: str) -> list[Block]:
    page = ROOT / "notebooks" / "imagined.md"
    written = folder / "page.md"
    written.write_text(text)
    return [Block(page, b.line, b.language, b.text, b.checked, b.file, b.follows_another) for b in blocks(written)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("```python\n1 / 0\n```", "division by zero"),
        ("<!-- checked: names -->\n```python\nfrom agentkit import nothing\n```", "nothing"),
        ("<!-- checked: names -->\n```python\nprint(nowhere)\n```", "no name nowhere"),
        ("<!-- checked: names -->\n```python\nimport agentkit\nagentkit.nothing\n```", "has no nothing"),
        (
            "<!-- checked: names -->\n```python\nfrom agentkit.tool import Tool\nTool(nam='x')\n```",
            "Tool takes no nam",
        ),
        (
            "<!-- checked: names -->\n```python\nfrom agentkit.models import HuggingFaceHub as H\nH(modle='x')\n```",
            "H takes no modle",
        ),
        ("```console\n$ agentkit replay nowhere.yaml\n```", "nowhere.yaml"),
        ("<!-- checked: options -->\n```console\n$ agentkit run x --modl y\n```", "--modl"),
        ("```console\n$ agentkit --version\n```\n```text\nagentkit 0.0.0\n```", "expected this"),
        ("```console\n$ make nothing\n```", "the Makefile has no nothing"),
        ("```console\n$ pip install '.[nothing]'\n```", "no extra nothing"),
        ("```console\n$ make test\n```\n```text\n7 passed\n```", "is not run"),
        ("```console\n$ rm -r x\n```", "no command that is known"),
        ("```rust\nx\n```", "nothing is known"),
    ],
)
def test_what_is_wrong_is_found(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(BaseException, match=re.escape(message)):
        _read(tmp_path, _page(tmp_path, text))


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        ("a\nb", "a\nb\n", True),
        ("a", "a\nb", False),
        ("a\n…\nd", "a\nb\nc\nd", True),
        ("a\n…\nd", "a\nb\nc", False),
        ("in … s", "in 12.5 s", True),
        ("in … s", "in\n12 s", False),
        ("1.5", "1x5", False),
    ],
)
def test_outputs_are_compared(expected: str, printed: str, same: bool) -> None:
    assert commands.differs(printed, expected) is not same
