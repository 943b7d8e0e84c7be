"""The page on errors: its messages are those of the code, its exit codes and reasons are all there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import get_args

import pytest

from agentkit import errors
from agentkit.cli import INTERRUPTED
from agentkit.events import StopReason
from tests.documents.pages import ROOT, SITE, prose

PAGE = SITE / "guide" / "errors.md"
ANSWERED = {"answer", "return_direct"}


def rows(heading: str = "") -> list[list[str]]:
    """The cells of the tables below a heading (of the first ones without any), up to the next."""
    text = prose(PAGE)
    start = text.index(f"# {heading}") if heading else 0
    section = re.split(r"\n#+ ", text[start:])[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]


def messages() -> list[str]:
    """What the tables of messages show."""
    text = prose(PAGE)
    return re.findall(r"^\| `([^`]+)` \|", text[text.index("## Messages") :], re.MULTILINE)


def texts_in(path: Path) -> set[str]:
    """The texts of a module; what is filled in is `…`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.JoinedStr):
            found.add("".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values))
    return found


@pytest.fixture(scope="module")
def texts() -> set[str]:
    sources = [*(ROOT / "agentkit").rglob("*.py"), *(ROOT / "tools").rglob("*.py")]
    return set().union(*map(texts_in, sources))


@pytest.mark.parametrize("message", messages())
def test_a_message_is_one_of_the_code(message: str, texts: set[str]) -> None:
    pieces = [piece.strip() for piece in message.split("…") if piece.strip(" :;,.?()")]
    assert pieces
    pattern = ".*".join(map(re.escape, pieces))
    assert any(re.search(pattern, text) for text in texts), f"no text of the code has {pieces}"


def test_exit_codes_are_those_of_the_errors() -> None:
    told = {(row[1].split("`")[1], int(row[0])) for row in rows() if row[0].isdecimal() and "`" in row[1]}
    kinds = (
        errors.ConfigurationError,
        errors.StoreError,
        errors.ModelError,
        errors.CassetteError,
        errors.CassetteDrift,
    )
    assert told == {(kind.__name__, kind.exit_code) for kind in kinds} | {("KeyboardInterrupt", INTERRUPTED)}


def test_every_reason_to_end_without_an_answer_is_told() -> None:
    told = {name for row in rows("A run without an answer") for name in re.findall(r"`(\w+)`", row[0])}
    assert told - {"stop_reason"} == set(get_args(StopReason)) - ANSWERED
