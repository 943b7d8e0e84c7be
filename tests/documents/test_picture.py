"""The picture of a run shows what the run prints, and needs nothing from the network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.documents.commands import environment
from tests.documents.pages import ROOT
from tests.documents.picture import PICTURE


def texts(svg: str) -> list[str]:
    """What is written in a picture, piece by piece."""
    pieces = ("".join(node.itertext()) for node in ElementTree.fromstring(svg).iter() if node.tag.endswith("text"))
    return [piece.replace("\N{NO-BREAK SPACE}", " ").rstrip() for piece in pieces]


@pytest.mark.torch
@pytest.mark.slow
def test_it_is_what_the_run_prints(tmp_path: Path) -> None:
    code = "from tests.documents.picture import draw; print(draw())"
    drawn = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment(tmp_path), check=True, capture_output=True, text=True
    ).stdout
    assert texts(drawn) == texts(PICTURE.read_text(encoding="utf-8"))


def test_it_fetches_nothing() -> None:
    drawn = PICTURE.read_text(encoding="utf-8")
    assert re.search(r"@font-face|@import|url\((?!#)|href=", drawn) is None
