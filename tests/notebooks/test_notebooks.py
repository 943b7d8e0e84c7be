"""Every notebook runs from top to bottom, offline, and prints what is kept in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nbformat
import pytest

from tests.notebooks.execution import execute, notebooks, printed

AT_ONCE = 2
ALL = notebooks()
LINK = re.compile(r"\]\(([^)#\s]+)")


@pytest.fixture(scope="module")
def executed(request: pytest.FixtureRequest) -> Iterator[dict[Path, Future[Any]]]:
    """The notebooks that the tests of this run ask for, on their way, each in a process of its own."""
    tests = [item for item in request.session.items if isinstance(item, pytest.Function)]
    asking = [item for item in tests if item.function is test_a_notebook_prints_what_is_kept_in_it]
    wanted = [item.callspec.params["path"] for item in asking]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield {path: threads.submit(execute, path) for path in wanted}


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_prints_what_is_kept_in_it(path: Path, executed: dict[Path, Future[Any]]) -> None:
    kept = nbformat.read(path, as_version=4)
    nbformat.validate(kept)
    assert printed(executed[path].result()) == printed(kept)


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_a_notebook_ends_with_where_to_go_next(path: Path) -> None:
    last = nbformat.read(path, as_version=4).cells[-1]
    assert last.cell_type == "markdown"
    assert "## Next\n" in last.source


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)
def test_its_links_lead_somewhere(path: Path) -> None:
    texts = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    links = [link for text in texts for link in LINK.findall(text) if not link.startswith("http")]
    assert links
    assert [link for link in links if not (path.parent / link).exists()] == []
