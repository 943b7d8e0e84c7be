"""Settings: which source wins, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentkit.errors import ConfigurationError
from agentkit.settings import Settings, read_settings


def read(tmp_path: Path, given: dict[str, object] | None = None, **environment: str) -> Settings:
    return read_settings(given or {}, environment={"HOME": str(tmp_path / "home"), **environment}, here=tmp_path)


def test_defaults(tmp_path: Path) -> None:
    assert read(tmp_path) == Settings(model="builtin", tools=("search", "calculator"), prompt="react-json")


def test_the_command_line_wins_over_the_environment_over_the_file(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text('model = "file"\nprompt = "file"\nmax_iterations = 3\ntools = ["search"]')
    settings = read(
        tmp_path,
        {"model": "line", "prompt": None},
        AGENTKIT_MODEL="environment",
        AGENTKIT_PROMPT="environment",
        AGENTKIT_TIMEOUT="2.5",
    )
    assert settings == Settings(model="line", prompt="environment", max_iterations=3, tools=("search",), timeout=2.5)


def test_the_users_file_counts_where_there_is_none_here(tmp_path: Path) -> None:
    folder = tmp_path / "config" / "agentkit"
    folder.mkdir(parents=True)
    (folder / "agentkit.toml").write_text('model = "mine"')
    assert read(tmp_path, XDG_CONFIG_HOME=str(tmp_path / "config")).model == "mine"


def test_tools_are_names_with_commas(tmp_path: Path) -> None:
    assert read(tmp_path, AGENTKIT_TOOLS="search, calculator,").tools == ("search", "calculator")


def test_budgets_modes_and_fallbacks_come_from_anywhere(tmp_path: Path) -> None:
    (tmp_path / "agentkit.toml").write_text('mode = "tools"\nmax_cost = 2\nfallbacks = ["builtin"]')
    assert read(tmp_path) == Settings(mode="tools", max_cost=2.0, fallbacks=("builtin",))
    given = {"mode": "react-json", "fallbacks": ("hf:A/B",)}
    settings = read(tmp_path, given, AGENTKIT_MAX_COST="0.5", AGENTKIT_FALLBACKS="hf:C/D, builtin")
    assert settings == Settings(mode="react-json", max_cost=0.5, fallbacks=("hf:A/B",))


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("model = ", "expected TOML"),
        ("modell = 'x'", "unknown setting 'modell'; did you mean model"),
        ("max_iterations = 'many'", "expected int, saw 'many'"),
        ("max_iterations = 0", "at least 1"),
        ("mode = 'native'", "expected the mode auto, react-json or tools, saw 'native'"),
        ("max_cost = 'much'", "expected float, saw 'much'"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused(tmp_path: Path, toml: str, message: str) -> None:
    (tmp_path / "agentkit.toml").write_text(toml)
    with pytest.raises(ConfigurationError, match=message):
        read(tmp_path)
