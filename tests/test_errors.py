"""What the messages of errors share: names that were nearly right, and packages that are missing."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import Any

import pytest

from agentkit import errors
from agentkit.errors import ConfigurationError, import_failure, pip_install, refuse_unknown

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    re.match(r"[\w.-]+", requirement)[0]: extra  # type: ignore[index]
    for extra in ("local", "media", "langchain", "community", "mcp", "web", "docs")
    for requirement in PROJECT["optional-dependencies"][extra]
}


@pytest.mark.parametrize("package", [each for each in EXTRAS if each != "torch"])
def test_a_package_of_an_extra_is_installed_in_the_version_asked_for(package: str) -> None:
    (requirement,) = re.findall(rf"'({package}[<>=][^']*)'", pip_install(package))
    asked = next(one for one in PROJECT["optional-dependencies"][EXTRAS[package]] if one.startswith(package))
    assert sorted(re.findall("[<>=]+[0-9.]+", requirement)) == sorted(re.findall("[<>=]+[0-9.]+", asked))


def test_what_else_of_the_extra_is_missing_is_installed_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> Any:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", nothing)
    assert pip_install("langchain-community") == "pip install 'langchain-community>=0.4' 'mypy-extensions>=1'"


def test_torch_comes_first_and_in_the_version_that_is_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    """As README and the Makefile install it."""
    assert errors.TORCH in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert f"\n$ pip install {errors.TORCH} " in (ROOT / "README.md").read_text(encoding="utf-8")
    monkeypatch.setattr(errors, "_is_installed", lambda name: name != "peft")
    assert pip_install("torch") == f"pip install {errors.TORCH} && pip install 'peft>=0.18'"
    assert pip_install("peft") == "pip install 'peft>=0.18'"


@pytest.mark.parametrize("package", ["torchvision", "sentencepiece"])
def test_a_package_of_no_extra_is_named_alone(package: str) -> None:
    assert pip_install(package) == f"pip install {package}"


def test_without_metadata_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "DISTRIBUTION", "a-distribution-that-is-not-there")
    assert pip_install("ddgs") == "pip install ddgs"


def test_an_absent_package_and_one_that_is_broken() -> None:
    absent = import_failure(ModuleNotFoundError("no", name="ddgs"), "ddgs", purpose="to search")
    assert absent == "ddgs, needed to search, is not installed; run pip install 'ddgs>=9.10'"
    assert import_failure(ImportError("of\nnumpy 1"), "click") == "click is installed but does not import: of numpy 1"


def test_no_hint_names_the_distribution_itself() -> None:
    """No index needs to have it, so `pip install agentkit-react[web]` may find nothing."""
    places = [*(ROOT / "agentkit").rglob("*.py"), *(ROOT / "tools").rglob("*.py"), *(ROOT / "notebooks").rglob("*.*")]
    places += [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    of_index = re.compile(r"pip install[^\n]*agentkit")
    texts = {path: path.read_text(encoding="utf-8", errors="replace") for path in places if path.is_file()}
    assert [path for path, text in texts.items() if of_index.search(text)] == []


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("temprature", "unknown option 'temprature' for a model; did you mean 'temperature'?"),
        ("TEMPERATURE", "unknown option 'TEMPERATURE' for a model; did you mean 'temperature'?"),
        ("colour", "unknown option 'colour' for a model"),
    ],
)
def test_an_unknown_name_is_told_the_nearest(name: str, says: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        refuse_unknown([name], ["temperature", "seed"], what="a model")
    assert str(caught.value) == says
