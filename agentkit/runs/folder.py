"""Replays many cassettes, each in a process of its own kind: a replay blocks the network of the whole process."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from agentkit.cassette.format.file import load
from agentkit.errors import AgentkitError, CassetteDrift, ConfigurationError, in_one_line
from agentkit.events import Finished, Observed, ParseError
from agentkit.runs.replay import Replay

FEW = 2  # so few are replayed sooner than processes start


@dataclass(frozen=True, slots=True, kw_only=True)
class FileReplay:
    """What came of one file; "script": what a script recorded replays there alone."""

    file: str
    result: Literal["ok", "drift", "error", "script"]
    reason: str = ""
    question: str = ""
    model: str = ""
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    answered: bool = False

    @property
    def failed(self) -> bool:
        """Whether the recording is not what the run is now."""
        return self.result in ("drift", "error")


def cassettes_in(folder: Path) -> list[Path]:
    """The cassettes in a folder and those below; raises `ConfigurationError` where there is none."""
    found = sorted(
        path
        for pattern in ("*.yaml", "*.yml")
        for path in folder.rglob(pattern)
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and not path.is_fifo()
    )
    if not found:
        raise ConfigurationError(f"{folder}: expected cassettes, saw none; agentkit run --record FILE writes one")
    return found


def replay_file(path: Path) -> FileReplay:
    """Replay one cassette; whatever is wrong with it is in the result."""
    described = FileReplay(file=str(path), result="error")
    try:
        document = load(path)
        if document.run is None:
            return FileReplay(file=str(path), result="script", seconds=document.seconds)
        recorded = Replay(path)
        question = str(recorded.inputs.get("input", ""))
        described = replace(described, question=question, model=recorded.model, seconds=document.seconds)
        events = list(recorded.events())
    except CassetteDrift as error:
        return replace(described, result="drift", reason=in_one_line(error))
    except AgentkitError as error:
        return replace(described, reason=in_one_line(error))
    except Exception as error:
        return replace(described, reason=f"{type(error).__name__}: {in_one_line(error)}")
    finished = next(event for event in reversed(events) if isinstance(event, Finished))
    return replace(
        described,
        result="ok",
        reason="" if finished.answered else str(finished.summary.stop_reason),
        steps=sum(isinstance(event, Observed | ParseError) for event in events),
        tokens=finished.summary.usage.total_tokens,
        answered=finished.answered,
    )


def replay_files(paths: Sequence[Path], *, workers: int | None = None) -> Iterator[FileReplay]:
    """The replays, in the order of `paths`."""
    workers = min(workers or os.cpu_count() or 1, len(paths))
    if workers == 1 or len(paths) <= FEW:
        yield from map(replay_file, paths)
        return
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool
    from multiprocessing import get_context

    with _current_folder_left_out():
        pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_leave_interrupts)
        futures = [pool.submit(replay_file, path) for path in paths]
    with pool:
        try:
            for path, future in zip(paths, futures, strict=True):
                try:
                    yield future.result()
                except BrokenProcessPool:
                    yield FileReplay(
                        file=str(path), result="error", reason=f"{path}: a replaying process died; try it alone"
                    )
        finally:
            pool.shutdown(cancel_futures=True)


@contextmanager
def _current_folder_left_out() -> Iterator[None]:
    """Python starts the processes of this block without the current folder, in which a stranger's modules may lie."""
    before = os.environ.get("PYTHONSAFEPATH")
    os.environ["PYTHONSAFEPATH"] = before or "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["PYTHONSAFEPATH"]
        else:
            os.environ["PYTHONSAFEPATH"] = before


def _leave_interrupts() -> None:
    """Ctrl-C is the parent's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
