"""`agentkit replay FOLDER`: every cassette in it, and one line for each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agentkit.errors import ConfigurationError
from agentkit.runs.folder import FileReplay, cassettes_in, replay_files
from tests.cassette_use.recordings import record
from tests.test_cli import SEEDS_RUN, agentkit


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Cassettes of every kind."""
    folder = tmp_path / "cassettes"
    (folder / "deeper").mkdir(parents=True)
    shutil.copy(SEEDS_RUN, folder / "leo.yaml")
    record(folder / "deeper" / "drifted.yaml")  # its tools are not those that its description names
    (folder / "broken.yaml").write_text("hello")
    record(folder / "script.yml", described=False)
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.yaml").write_text("hello")
    return folder


@pytest.mark.slow
def test_each_is_replayed_and_a_drift_fails_the_whole(folder: Path) -> None:
    done = agentkit("replay", str(folder))
    lines = [line.split() for line in done.stdout.splitlines()[1:]]
    assert done.returncode == 4
    assert [(line[0], line[1], line[-1]) for line in lines] == [
        ("✗", "broken.yaml", "error"),
        ("✗", "deeper/drifted.yaml", "drift"),
        ("✓", "leo.yaml", "answered"),
        ("•", "script.yml", "script"),
    ]
    broken, drifted, summary = done.stderr.splitlines()
    assert broken.startswith(f"error: {folder / 'broken.yaml'}: expected a mapping with interactions")
    assert drifted.startswith(f"error: {folder / 'deeper/drifted.yaml'}, step 1: messages[0].content changed")
    assert summary == "1 replayed, 1 drifted, 1 not replayed, 1 left to their scripts"


@pytest.mark.slow
def test_the_table_as_json(folder: Path) -> None:
    (folder / "broken.yaml").unlink()
    (folder / "deeper" / "drifted.yaml").unlink()
    done = agentkit("replay", str(folder), "--json", "--quiet")
    leo, script = json.loads(done.stdout)
    assert done.returncode == 0
    assert (leo["result"], leo["steps"], leo["answered"]) == ("ok", 3, True)
    assert leo["question"].startswith("Who is Leo DiCaprio's girlfriend?")
    assert script["result"] == "script"


@pytest.mark.slow
def test_without_a_name_the_folder_cassettes_is_meant(folder: Path) -> None:
    assert "leo.yaml" in agentkit("replay", cwd=folder.parent).stdout
    done = agentkit("replay", cwd=folder)
    assert done.returncode == 2
    assert "there is no folder cassettes here" in done.stderr


@pytest.mark.slow
def test_processes_give_the_outcomes_of_one(folder: Path) -> None:
    paths = cassettes_in(folder)
    alone = list(replay_files(paths, workers=1))
    assert list(replay_files(paths, workers=2)) == alone
    assert [outcome.result for outcome in alone] == ["error", "drift", "ok", "script"]


def test_no_cassettes_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="expected cassettes, saw none; agentkit run --record FILE"):
        cassettes_in(tmp_path)


def test_an_outcome_that_failed_says_so() -> None:
    assert [result for result in ("ok", "drift", "error", "script") if FileReplay(file="x", result=result).failed] == [  # type: ignore[arg-type]
        "drift",
        "error",
    ]
