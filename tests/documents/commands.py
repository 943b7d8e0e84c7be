"""Console blocks: commands of ours run in a folder of their own, or parsed; others name what is there."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.documents.pages import ROOT, Block

PROMPT = "$ "
TIMEOUT_S = 300
NO_NETWORK = ROOT / "tests" / "notebooks" / "no_network"
OTHERS = {".", "cd", "docker", "export", "git", "python3"}  # programs that are not ours

_SECRETS = re.compile(r"TOKEN|API_KEY|^AGENTKIT_|^HF_|^PYTHONPATH$|^PYTEST_")


def lines(block: Block) -> Iterator[str]:
    """The commands of a block, without their comments."""
    for line in block.text.replace("\\\n", " ").splitlines():
        assert line.startswith(PROMPT), f"{block.place}: expected lines that begin with $, saw {line!r}"
        yield shlex.join(shlex.split(line.removeprefix(PROMPT), comments=True))


def environment(folder: Path) -> dict[str, str]:
    """Without keys, settings and network, and with the programs of this Python; a copy of the project goes first."""
    kept = {name: value for name, value in os.environ.items() if not _SECRETS.search(name)}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "HOME": str(folder),
        "XDG_CACHE_HOME": str(folder / ".cache"),
        "XDG_CONFIG_HOME": str(folder / ".config"),
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": f"{folder}{os.pathsep}{NO_NETWORK}",
        "COLUMNS": "100",
        "NO_COLOR": "1",
    }


def run(command: str, folder: Path) -> str:
    """What a command prints, on either stream; fails unless it ends with 0."""
    words = ["sh", "-c", as_agentkit(command)]
    done = subprocess.run(
        words, cwd=folder, env=environment(folder), text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL, timeout=TIMEOUT_S,
    )  # fmt: skip
    assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}"
    return done.stdout


def as_agentkit(command: str) -> str:
    """`make run` as the command that it runs, anything else as it is."""
    words = shlex.split(command)
    if words[:2] != ["make", "run"]:
        return command
    alone = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    recipe = ["make", "--no-print-directory", "--dry-run", *words[1:]]
    said = subprocess.run(recipe, cwd=ROOT, env=alone, check=True, capture_output=True, text=True).stdout
    return said.splitlines()[-1].partition("/bin/")[2]


def runs(command: str, folder: Path) -> bool:
    """Whether a command is run: agentkit's are, and pytest on a file of the page's folder."""
    words = shlex.split(as_agentkit(command))
    named = [word.partition("::")[0] for word in words[1:] if not word.startswith("-")]
    return words[0] == "agentkit" or (words[0] == "pytest" and any((folder / name).is_file() for name in named))


def wrong(command: str) -> str:
    """What is wrong with a command that is not run, "" where nothing is."""
    for words in _parts(shlex.split(command)):
        if problem := _wrong(words):
            return problem
    return ""


def _parts(words: list[str]) -> Iterator[list[str]]:
    """A line's commands: `shlex.join` has put its && in quotes."""
    part: list[str] = []
    for word in [*words, "&&"]:
        if word == "&&":
            yield part
            part = []
        else:
            part.append(word)


def _wrong(words: list[str]) -> str:
    match words:
        case ["agentkit", *rest]:
            return _wrong_options(rest)
        case ["make", *rest]:
            return _wrong_target(rest)
        case ["pip", "install", *rest]:
            return _wrong_packages(rest)
        case ["pytest" | "python", *rest]:
            return _wrong_file(words[0], rest)
        case [program, *_] if program in OTHERS or program.startswith("./.ci/") or program == ".ci/run":
            return ""
    return f"{words[0]} is no command that is known here"


def _wrong_options(words: list[str]) -> str:
    from click import ClickException
    from click.exceptions import Exit

    from agentkit.cli.app import app

    group: Any = app
    try:
        context = group.make_context("agentkit", list(words))
        _, command, rest = group.resolve_command(context, [*context._protected_args, *context.args])
        command.make_context(command.name, list(rest), parent=context)
    except Exit:  # --help and --version
        return ""
    except ClickException as error:
        return error.format_message()
    return ""


def _wrong_target(words: list[str]) -> str:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for word in words:
        name, is_variable, _ = word.partition("=")
        known = rf"^{re.escape(name)} \?=|\$\({re.escape(name)}\)" if is_variable else rf"^{re.escape(name)}:"
        if not re.search(known, makefile, re.MULTILINE):
            return f"the Makefile has no {name}"
    return ""


@cache
def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def _wrong_packages(words: list[str]) -> str:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    extras = _project()["optional-dependencies"]
    for word in words:
        name, _, wanted = word.rstrip("]").partition("[")
        if word.startswith("-") or word == "constraints.txt":
            continue
        if name not in (".", _project()["name"]) and "==" in word and word not in pins:
            return f"constraints.txt does not pin {word}"
        if strange := [extra for extra in wanted.split(",") if extra and extra not in extras]:
            return f"there is no extra {', '.join(strange)}"
    return ""


def _wrong_file(program: str, words: list[str]) -> str:
    if program == "python" and words[:1] == ["-m"]:
        return "" if find_spec(words[1]) else f"no module {words[1]}"
    missing = [word for word in words if word.endswith(".py") and not (ROOT / word).is_file()]
    return f"no file {', '.join(missing)}" if missing else ""


def as_pattern(expected: str) -> str:
    """An expected output as a regular expression: `…` stands for anything, alone on its line for any lines."""
    pieces = [re.escape(line.rstrip()).replace("…", ".*?") for line in expected.strip().splitlines()]
    return "\n".join("(?:.*\n)*?.*" if piece == ".*?" else piece for piece in pieces)


def differs(printed: str, expected: str) -> bool:
    """Whether a command printed something else than the page shows."""
    plain = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    return re.fullmatch(as_pattern(expected), plain) is None
