"""Replays a recorded run by itself: no key, no network, no weights."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, MutableMapping
from pathlib import Path
from typing import Any

from agentkit.cassette.cassette import Cassette
from agentkit.cassette.format.file import load
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.seams.model import ReplayedChat
from agentkit.errors import CassetteError
from agentkit.events import Event
from agentkit.runs.build import build


class Replay:
    """The run in a cassette that describes it. Raises `CassetteError` for one that cannot be read or does not."""

    def __init__(self, path: str | os.PathLike[str], *, environment: MutableMapping[str, str] | None = None) -> None:
        self.path = Path(path)
        self._environment = os.environ if environment is None else environment
        self._document = load(self.path)
        self.run = described(self.path, self._document.run)

    @property
    def inputs(self) -> dict[str, Any]:
        """What the run was given."""
        return dict(self.run.inputs)

    @property
    def model(self) -> str:
        """The spec of the model that was recorded."""
        return self.run.settings.model

    @property
    def is_complete(self) -> bool:
        """Whether the recording came to its end."""
        return self._document.complete

    @property
    def title(self) -> str:
        """The recording in one line."""
        head = self._document.head
        how = "transcribed" if head.get("transcribed") is True else f"recorded {head.get('recorded', 'some time ago')}"
        cut = "" if self._document.complete else ", interrupted"
        return f"replay of {self.path}: {self.model}, {how}{cut}"

    def events(self) -> Generator[Event, None, None]:
        """The run as it happened, at once; raises `CassetteDrift`.

        The recorded run is built again, from its settings. What lies outside need not be there: a folder of `docs` and
        MCP servers are in the cassette, and so is the model, unless it was asked over HTTP. Then its client asks, and
        the recorded HTTP answers.
        """
        with Cassette(self.path, mode="replay", environment=self._environment) as cassette:
            model = None if self._is_over_http else ReplayedChat(cassette, self.model)
            yield from build(self.run.settings, self.run.read_prompt(), model=model).events(self.inputs)

    @property
    def _is_over_http(self) -> bool:
        recorded = any(entry.kind == "http" and entry.asks_a_model for entry in self._document.entries)
        return recorded and self.model.partition(":")[0] not in ("builtin", "local")


def replay_run(path: str | os.PathLike[str]) -> Iterator[Event]:
    """The events of the run in a cassette, as `Replay(path).events()`."""
    return Replay(path).events()


def read_run_spec(path: str | os.PathLike[str]) -> RunSpec:
    """What the run in a cassette was started with."""
    return described(Path(path), load(Path(path)).run)


def described(path: Path, run: RunSpec | None) -> RunSpec:
    """The description of a run, which every cassette of the command line has."""
    if run is None:
        raise CassetteError(
            f"{path}: expected agentkit.run, which says what to run; this was recorded by a script: "
            f'replay it there, with Cassette("{path}", mode="replay")'
        )
    return run
