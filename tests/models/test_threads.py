"""Threads on shared machines, and what libraries say: a command leaves others room, and shows its user neither."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agentkit.models.local.threads import SMALL, quota_of_cores, sharing_the_processor, threads_for, usable_cores

from .conftest import build_llama, build_tokenizer

FIRST = "cpu.cfs"  # control groups of version 1
A_TOOL = """
import atexit, os, warnings

@atexit.register
def threads():
    import torch

    with open("threads.txt", "w") as file:
        print(torch.get_num_threads(), os.environ.get("OMP_WAIT_POLICY"), file=file)

def tell(word: str) -> str:
    \"\"\"Tells.\"\"\"

warnings.warn("this is mine", UserWarning)
"""


@pytest.mark.parametrize(
    ("weights", "cores", "busy", "threads"),
    [
        (SMALL, 16, 0.0, 1),
        (8 * SMALL, 16, 0.0, 16),
        (8 * SMALL, 16, 3.4, 13),
        (8 * SMALL, 2, 9.0, 1),
        (0, 4, 1.0, 3),  # not on this machine yet
    ],
)
def test_no_more_threads_than_cores_are_free(weights: int, cores: int, busy: float, threads: int) -> None:
    assert threads_for(weights, cores, busy) == threads


@pytest.mark.parametrize(
    ("membership", "files", "quota"),
    [
        ("0::/", {"cpu.max": "150000 100000"}, 1.5),
        ("0::/", {"cpu.max": "max 100000"}, None),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "max 100000"}, 2.0),
        ("0::/a/b", {"a/cpu.max": "200000 100000", "a/b/cpu.max": "50000 100000"}, 0.5),
        (
            "3:cpuset:/x\n2:cpu,cpuacct:/a",
            {"cpu/a/cpu.cfs_quota_us": "300000", "cpu/a/cpu.cfs_period_us": "100000"},
            3.0,
        ),
        ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, None),
        ("0::/", {"cpu.max": "nonsense"}, None),
        ("0::/", {}, None),
    ],
)
def test_the_quota_of_a_container(tmp_path: Path, membership: str, files: dict[str, str], quota: float | None) -> None:
    own = tmp_path / "own"
    own.write_text(membership + "\n")
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text + "\n")
    assert quota_of_cores(tmp_path / "cgroup", own) == quota
    if quota is not None and quota < 2:
        assert usable_cores(tmp_path / "cgroup", own) == 1


def test_what_the_user_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MKL_NUM_THREADS", "OMP_WAIT_POLICY", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("KMP_BLOCKTIME", "7")
    before = dict(os.environ)
    with sharing_the_processor(1):
        found = [os.environ[name] for name in ("OMP_NUM_THREADS", "KMP_BLOCKTIME", "OMP_WAIT_POLICY")]
    assert found == ["3", "7", "PASSIVE"]
    assert dict(os.environ) == before
    monkeypatch.delenv("OMP_NUM_THREADS")
    with sharing_the_processor(1):
        assert os.environ["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in os.environ


@pytest.mark.slow
@pytest.mark.parametrize("options", [[], ["--option", "quantization=nf4", "--option", "temperature=0.5"]])
def test_nothing_that_a_library_says_reaches_the_terminal(tmp_path: Path, options: list[str]) -> None:
    """The threads are those that the command has chosen; the user's own tools warn, and find what they would find."""
    tokenizer = build_tokenizer()
    build_llama(tokenizer, hidden_size=64).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    defaults = {"do_sample": False, "temperature": 0.6, "top_k": 20, "eos_token_id": tokenizer.eos_token_id}
    (tmp_path / "generation_config.json").write_text(json.dumps(defaults))  # as published models have it
    (tmp_path / "mine.py").write_text(A_TOOL)
    package = tmp_path / "mine-1.dist-info"
    package.mkdir()
    (package / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (package / "entry_points.txt").write_text("[agentkit.tools]\ntell = mine:tell\n")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "KMP_", "MKL_"))}
    environment["PYTHONPATH"] = os.pathsep.join((str(tmp_path), str(Path(__file__).parents[2])))
    command = ["run", "Why?", "--model", f"local:{tmp_path}", "--tools", "tell", "--max-iterations", "1"]
    done = subprocess.run(
        [sys.executable, "-W", "default", "-m", "agentkit", *command, *options],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # a random model's first turn may be an answer
    lines = done.stderr.splitlines()
    ours = ("model:", "Thought:", "Not understood:", "the iteration limit", "no answer:", "not confirmed")
    assert [line for line in lines if "Warning: " in line or line.startswith("[")] == [
        f"{tmp_path / 'mine.py'}:14: UserWarning: this is mine"
    ]
    assert len([line for line in lines if line.startswith(ours)]) >= 3
    assert (tmp_path / "threads.txt").read_text() == "1 None\n"
