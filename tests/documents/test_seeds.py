"""guide/seeds.md has a proof for everything that LangChain's pages use, and every proof is a test that is there."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import nbformat
import pytest

from tests.documents.pages import ROOT, SITE
from tests.documents.seed_items import features, items, items_of
from tests.notebooks.execution import notebooks, printed

PAGE = SITE / "guide" / "seeds.md"
_ITEM = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\[([^\]]+)\]\(([^)]+)\)")


def rows() -> list[tuple[set[str], list[tuple[str, Path]]]]:
    """Each row's items, and its links with where they lead."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
    cells = [line.strip("| ").split(" | ") for line in lines]
    return [(set(_ITEM.findall(first)), _links(" ".join(rest))) for first, *rest in cells]


def _links(text: str) -> list[tuple[str, Path]]:
    return [(name, (PAGE.parent / link).resolve()) for name, link in _LINK.findall(text)]


def collected_in(path: Path) -> set[str]:
    """The functions and classes that pytest collects."""
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names = {node.name for node in tree.body if isinstance(node, definitions)}
    return {name for name in names if name.startswith(("test_", "Test"))}


def test_everything_in_the_pages_has_a_row() -> None:
    listed = [item for found, _ in rows() for item in found]
    assert sorted(listed) == sorted(items())


@pytest.mark.parametrize(("found", "links"), rows(), ids=lambda value: min(value) if isinstance(value, set) else "")
def test_each_row_has_its_proof(found: set[str], links: list[tuple[str, Path]]) -> None:
    proofs = [(name, path) for name, path in links if path.is_relative_to(ROOT / "tests")]
    assert proofs
    assert [name for name, path in proofs if name not in collected_in(path)] == []


def test_the_notebooks_use_all_of_it() -> None:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    sources = [source for path in notebooks() for source, _ in printed(nbformat.read(path, as_version=4))]
    cells = [compile(source, "cell", "exec", flags) for source in sources if not source.startswith("%%")]
    used = {item for cell in cells for item in items_of(cell)}
    assert sorted(items() - features() - used) == []
