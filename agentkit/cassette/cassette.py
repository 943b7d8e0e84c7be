"""`Cassette`: a run recorded into one file, or replayed from it, while its `with` block lasts."""

from __future__ import annotations

import os
from collections.abc import Collection, MutableMapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from agentkit.cassette.current import current
from agentkit.cassette.file import load
from agentkit.cassette.model_seam import PlayedBackend, PlayedModel, RecordedBackend, RecordedModel
from agentkit.cassette.recording import Recording
from agentkit.cassette.replaying import Replaying
from agentkit.cassette.run_spec import RunSpec
from agentkit.cassette.secrets import REDACTED
from agentkit.cassette.tool_seam import Played, PlayedToolbox, RecordedToolbox, Toolbox
from agentkit.errors import CassetteDrift, CassetteError, ConfigurationError
from agentkit.planner import TurnModel

if TYPE_CHECKING:
    from agentkit.models.backend import ChatBackend


class Cassette:
    """One file of recorded interactions. It can be entered again, one block after the other.

    Recording writes the file when the block ends. When the block ends by an exception, what there is is written with
    `complete: false`, and never over a file that exists. Replaying blocks the network for the whole process; a run that
    asks for anything else than the recording holds raises `CassetteDrift`, at the latest when the block ends.
    `environment` is where keys are looked up.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: Literal["record", "replay"] = "replay",
        *,
        run: RunSpec | None = None,
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        if mode not in ("record", "replay"):
            raise ConfigurationError(f'expected the mode "record" or "replay" of a cassette, saw {mode!r}')
        self.path = Path(path)
        self.mode = mode
        self.run = run
        self.saved_to: Path | None = None
        self._environment = environment
        self._recording: Recording | None = None
        self._replaying: Replaying | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        if self._recording is not None or self._replaying is not None:
            raise CassetteError(f"{self.path}: this cassette is in use; give each run its own Cassette")
        with ExitStack() as undo:
            self._start_recording(undo) if self.mode == "record" else self._start_replaying(undo)
            before = current.get()
            current.set(self)
            undo.callback(current.set, before)  # not reset: a generator may be closed in another context
            self._undo = undo.pop_all()
        return self

    def _start_recording(self, undo: ExitStack) -> None:
        from agentkit.cassette import http  # before the recording's clock starts: vcrpy imports every HTTP library

        self._recording = Recording(self.path, self.run, self._environment)
        undo.callback(self._forget)
        undo.enter_context(http.recorded(self._recording))

    def _start_replaying(self, undo: ExitStack) -> None:
        from agentkit.cassette import sockets

        document = load(self.path)
        self.run = document.run
        self._replaying = Replaying(self.path, document, dict(self._environment))
        undo.callback(self._forget)
        keys = document.head.get("keys", ())
        for name in (key for key in keys if isinstance(key, str) and not self._environment.get(key)):
            self._environment[name] = REDACTED  # a tool that wants a key before it asks
            undo.callback(self._environment.pop, name, None)
        undo.enter_context(sockets.blocked(self._replaying.network))
        if self._replaying.has("http"):
            from agentkit.cassette import http

            undo.enter_context(http.replayed(self._replaying))

    def _forget(self) -> None:
        self._recording = self._replaying = None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._undo:
            if self._recording is not None:
                self._end_recording(self._recording, error)
            elif self._replaying is not None:
                self._end_replaying(self._replaying, error)

    def _end_recording(self, recording: Recording, error: BaseException | None) -> None:
        try:
            self.saved_to = recording.save(complete=error is None)
        except CassetteError:
            if error is None:
                raise

    def _end_replaying(self, replaying: Replaying, error: BaseException | None) -> None:
        if error is None:
            replaying.finish()
        elif replaying.drift is not None and isinstance(error, Exception) and not isinstance(error, CassetteDrift):
            raise replaying.drift from error  # what came of the drift: the drift says more

    # -- what a run hands through it -------------------------------------------------------------------------------

    def backend(self, llm: ChatBackend) -> ChatBackend:
        """A chat model's backend. One in this process is recorded; one over HTTP is left to the recorded HTTP."""
        in_process = bool(getattr(llm, "in_process", False))
        if self._recording is not None and in_process:
            return RecordedBackend(llm, self._recording)
        if self._replaying is not None and (in_process or self._replaying.has("turn")):
            return PlayedBackend(llm, self._replaying)
        return llm

    def turn_model(self, model: TurnModel, *, model_id: str) -> TurnModel:
        """A planner's model: recorded where neither its backend nor its HTTP was."""
        if self._recording is not None:
            return RecordedModel(model, self._recording, model_id=model_id)
        if self._replaying is not None and self._replaying.has("turn"):
            return PlayedModel(model, self._replaying, model_id=model_id)
        return model

    def toolbox(
        self, toolbox: Toolbox, deterministic: Collection[str] = (), *, played: Played | None = None
    ) -> Toolbox:
        """A run's tools. Those named in `deterministic` are executed again in a replay, and compared.

        `played` is told of each call that a replay answers without the tool.
        """
        if self._recording is not None:
            return RecordedToolbox(toolbox, self._recording)
        if self._replaying is not None:
            return PlayedToolbox(toolbox, self._replaying, deterministic=deterministic, played=played)
        return toolbox

    @property
    def replaying(self) -> Replaying:
        """What answers a replay; only within its block."""
        assert self._replaying is not None
        return self._replaying
