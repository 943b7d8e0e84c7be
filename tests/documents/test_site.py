"""The site: every page has its place in it, every link leads somewhere, and it builds without a warning."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

import agentkit
import agentkit.models
from tests.documents.pages import ROOT, SITE, anchors, links, prose, site_pages

DIRECTIVE = "::: "


def config() -> dict[str, Any]:
    """What the site is built from."""
    read: dict[str, Any] = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    return read


def leaves(nav: list[Any]) -> Iterator[str]:
    """The files that the navigation names."""
    for entry in nav:
        for value in entry.values() if isinstance(entry, dict) else [entry]:
            yield from leaves(value) if isinstance(value, list) else [value]


def test_the_navigation_holds_every_page_once() -> None:
    written = Counter(str(page.relative_to(SITE)) for page in site_pages())
    assert Counter(leaves(config()["nav"])) == written


def linked(page: Path) -> list[str]:
    return [link for link in links(page) if not link.startswith(("http://", "https://", "mailto:"))]


@pytest.mark.parametrize(
    "page",
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *site_pages()],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_links_lead_somewhere(page: Path) -> None:
    assert [link for link in linked(page) if not leads_somewhere(page, link)] == []


def leads_somewhere(page: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = (page.parent / name).resolve() if name else page
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or (target.suffix == ".md" and anchor in anchors(target))


@pytest.mark.parametrize(
    ("link", "leads"),
    [
        ("guide/errors.md", True),
        ("guide/errors.md#a-run-without-an-answer", True),
        ("guide/errors.md#no-such-heading", False),
        ("guide/no-such-page.md", False),
        ("../../outside.md", False),
    ],
)
def test_a_link_that_leads_nowhere_is_found(link: str, leads: bool) -> None:
    assert leads_somewhere(SITE / "index.md", link) is leads


def test_every_notebook_is_linked_from_the_first_page() -> None:
    assert {path.name for path in SITE.glob("*.ipynb")} <= set(links(SITE / "index.md"))


def test_the_reference_has_every_public_name() -> None:
    named = {
        line.removeprefix(DIRECTIVE).strip()
        for page in SITE.glob("reference/*.md")
        for line in prose(page).splitlines()
        if line.startswith(DIRECTIVE)
    }
    ours = {f"agentkit.{name}" for name in agentkit.__all__}
    models = {f"agentkit.models.{name}" for name in agentkit.models.__all__}
    either = {"agentkit.chat_model", "agentkit.models.chat_model"}  # one function
    assert (ours | models) - either <= named
    assert either & named
    modules = {"agentkit.tool", "agentkit.events", "agentkit.cassette", "agentkit.errors", "agentkit.pytest_plugin"}
    assert modules <= named


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [Path(sys.executable).with_name("zensical"), "build", "--strict", "--clean", "-f", "mkdocs.yml"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """What the site is built from, elsewhere."""
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    for name in ("notebooks", "agentkit", "tools", "prompts"):
        shutil.copytree(ROOT / name, tmp_path / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(find_spec("zensical") is None, reason="needs zensical: pip install '.[site]'")
def test_the_site_builds_without_a_warning(copied: Path) -> None:
    done = build(copied)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "No issues found" in done.stdout + done.stderr
    built = {page.relative_to(copied / "site") for page in (copied / "site").rglob("*.html")}
    assert built == {page.relative_to(SITE).with_suffix(".html") for page in site_pages()} | {Path("404.html")}
    assert 'id="agentkit.AgentExecutor.invoke"' in (copied / "site/reference/executor.html").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.skipif(find_spec("zensical") is None, reason="needs zensical: pip install '.[site]'")
def test_a_link_to_no_page_stops_the_build(copied: Path) -> None:
    (copied / "notebooks" / "index.md").write_text("# Home\n\n[nowhere](nowhere.md)\n")
    assert build(copied).returncode != 0
