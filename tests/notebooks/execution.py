"""Executes a notebook as a reader would, but offline: no keys, no network but this machine's own, nothing kept."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "notebooks"
VARIES = "varies"  # a cell with this tag must run; what it prints is another thing each time
TIMEOUT_S = 300
NO_NETWORK = Path(__file__).parent / "no_network"

TOKEN = "hf_placeholder"  # no cell asks for one; nothing that would take it can be reached

_SECRETS = re.compile(r"TOKEN|API_KEY|^AGENTKIT_|^HF_")
_ADDRESS = re.compile(r"(0x)[0-9a-f]{6,}")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SECONDS = re.compile(r"\bin \d+\.\d+s\b")  # how pytest ends


def notebooks() -> list[Path]:
    """All of them."""
    return sorted(FOLDER.glob("*.ipynb"))


def execute(path: Path) -> Any:
    """The notebook with fresh outputs; raises `CellExecutionError`."""
    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as home:
        where = {"metadata": {"path": FOLDER}}
        client = NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3", resources=where)
        asyncio.run(client.async_execute(env=_environment(Path(home))))  # execute leaves its loop open
    for cell in notebook.cells:
        _tidy(cell)
    notebook.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    return notebook


def _environment(home: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not _SECRETS.search(name)}
    return {
        **kept,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{kept.get('PATH', '')}",
        "HUGGINGFACEHUB_API_TOKEN": TOKEN,
        "OMP_NUM_THREADS": "1",  # a second thread costs a model this small more than it computes
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
        "XDG_CACHE_HOME": str(home),
        "PYTHONPATH": str(NO_NETWORK),
        "PYTHONWARNINGS": "ignore",
        "TQDM_DISABLE": "1",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }


def _tidy(cell: Any) -> None:
    """Keep what says something; what differs from machine to machine goes."""
    cell.metadata = {name: value for name, value in cell.metadata.items() if name == "tags"}
    if cell.cell_type != "code":
        return
    cell.outputs = _merged(cell.outputs)
    for output in cell.outputs:
        if output.output_type == "stream":
            output.text = _plain(output.text)
        elif "text/plain" in output.get("data", {}):
            output.data["text/plain"] = _plain(output.data["text/plain"])


def _merged(outputs: list[Any]) -> list[Any]:
    """The same with each stretch of a stream in one piece, however it came."""
    merged: list[Any] = []
    for output in outputs:
        if output.output_type == "stream" and merged and merged[-1].get("name") == output.name:
            merged[-1].text += output.text
        else:
            merged.append(output)
    return merged


def _plain(text: str) -> str:
    text = text.replace(str(ROOT), "…").replace(tempfile.gettempdir(), "/tmp")
    return _SECONDS.sub("in …s", _COLOUR.sub("", _ADDRESS.sub(r"\g<1>…", text)))


def printed(notebook: Any) -> list[tuple[str, str]]:
    """Each code cell's source and the text it printed, but for cells that vary."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            text = "" if VARIES in cell.metadata.get("tags", ()) else _text(cell.outputs)
            shown.append((cell.source, text))
    return shown


def _text(outputs: list[Any]) -> str:
    texts = (output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs)
    return "\n".join(texts)
