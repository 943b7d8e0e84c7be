"""What is built is what is imported: wheel and sdist, with tools/ and prompts/ inside the one package."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist, and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="module")
def wheel_names(built: Path) -> set[str]:
    (wheel,) = built.glob("*.whl")
    return set(zipfile.ZipFile(wheel).namelist())


def test_the_wheel_claims_only_agentkit(wheel_names: set[str]) -> None:
    assert {name.split("/")[0] for name in wheel_names if ".dist-info/" not in name} == {"agentkit"}


def test_the_wheel_holds_every_source_file(wheel_names: set[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "agentkit", "tools", "prompts"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout.split()
    expected = {
        name if name.startswith("agentkit/") else f"agentkit/{name}"
        for name in tracked
        if (ROOT / name).is_file() and not name.endswith((".md", ".svg", ".csv"))
    }
    assert expected - wheel_names == set()


def test_the_sdist_builds_the_same(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.split("/", 1)[1] for name in archive.getnames() if "/" in name}
    assert {"tools/calculator.py", "prompts/react-json.txt", "LICENSE", "README.md"} <= names


def test_an_installed_wheel_works_alone(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "from agentkit import prompts; from agentkit.tools.calculator import calculator;"
        "print(prompts.names(), calculator.call('25^0.43'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert "react-json" in done.stdout
    assert "Answer: 3.991298452658078" in done.stdout


def test_tools_are_found_by_entry_point() -> None:
    assert {entry.name for entry in entry_points(group="agentkit.tools")} >= {"search", "calculator"}
