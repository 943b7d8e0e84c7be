"""`Cassette`: runs recorded into one file, replayed from it, or resumed, while its `with` block lasts."""

from __future__ import annotations

import os
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from agentkit.cassette.format.file import Document, load, partial_of
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.lanes import Lanes
from agentkit.cassette.recording import Recording, without_loose_ends
from agentkit.cassette.replaying import Replaying
from agentkit.cassette.seams.model import TapedBackend, TapedChat
from agentkit.cassette.seams.tools import Played, TapedToolbox
from agentkit.cassette.tape import RunAgain, Tape
from agentkit.core.run import Tools
from agentkit.errors import CassetteDrift, CassetteError, ConfigurationError
from agentkit.events import Event, Step, Token
from agentkit.models.chat import ChatModel
from agentkit.recorder import RecorderMode, current
from agentkit.secrets import REDACTED

if TYPE_CHECKING:
    from agentkit.models.backend import ChatBackend


class Cassette:
    """One file of recorded interactions. It can be entered again, one block after the other.

    Recording writes `NAME.partial.yaml` as the run goes on and renames it when the block ends; when the block ends by
    an exception, or the process dies, the partial file stays, and what `NAME.yaml` held is untouched. Replaying blocks
    the network for the whole process; a run that asks for anything else than the recording holds raises
    `CassetteDrift`, at the latest when the block ends. Resuming plays a partial file if there is
    one, else a complete one that ended at a limit, and goes on live; a call with side effects that was under way when
    the recording ended runs again only if `run_again(tool, tool_input)` is true. `environment` is where keys are looked
    up.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: RecorderMode = "replay",
        *,
        run: RunSpec | None = None,
        run_again: RunAgain | None = None,
        environment: MutableMapping[str, str] = os.environ,
    ) -> None:
        if mode not in get_args(RecorderMode):
            raise ConfigurationError(f'expected the mode "record", "replay" or "resume" of a cassette, saw {mode!r}')
        self.path = Path(path)
        self.mode: RecorderMode = mode
        self.run = run
        self.saved_to: Path | None = None
        self._run_again = run_again
        self._environment = environment
        self._tape: Tape | None = None
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        if self._tape is not None:
            raise CassetteError(f"{self.path}: this cassette is in use; give each run its own Cassette")
        with ExitStack() as undo:
            self._tape = self._start(undo)
            undo.callback(setattr, self, "_tape", None)
            before = current.get()
            current.set(self)
            undo.callback(current.set, before)  # not reset: a generator may be closed in another context
            self._undo = undo.pop_all()
        return self

    # -- beginning -------------------------------------------------------------------------------------------------

    def _start(self, undo: ExitStack) -> Tape:
        if self.mode == "record":
            from agentkit.cassette.seams import (
                http,  # before the recording's clock starts: vcrpy imports every HTTP library
            )

            lanes = Lanes()
            recording = Recording(self.path, self.run, self._environment, lanes=lanes)
            tape = Tape(self.path, lanes, recording)
            undo.enter_context(http.recorded(recording))
            return tape
        return self._start_replaying(undo) if self.mode == "replay" else self._start_resuming(undo)

    def _start_replaying(self, undo: ExitStack) -> Tape:
        from agentkit.cassette.seams import sockets

        document = load(self.path)
        self.run = document.run
        lanes = Lanes()
        replaying = Replaying(self.path, document, dict(self._environment), lanes=lanes)
        keys = document.head.get("keys", ())
        for name in (key for key in keys if isinstance(key, str) and not self._environment.get(key)):
            self._environment[name] = REDACTED  # a tool that wants a key before it asks
            undo.callback(self._environment.pop, name, None)
        undo.enter_context(sockets.blocked(replaying.network))
        if replaying.has("http"):
            from agentkit.cassette.seams import http

            undo.enter_context(http.replayed(replaying))
        return Tape(self.path, lanes, replaying=replaying)

    def _start_resuming(self, undo: ExitStack) -> Tape:
        from agentkit.cassette.seams import http

        document = self._unfinished()
        self.run = self.run or document.run
        lanes = Lanes(taken=max(document.runs, default=0))
        recording = Recording(self.path, self.run, self._environment, lanes=lanes, before=document)
        replaying = Replaying(self.path, document, dict(self._environment), lanes=lanes, goes_on=True)
        undo.enter_context(http.resumed(replaying, recording))
        return Tape(self.path, lanes, recording, replaying, run_again=self._run_again)

    def _unfinished(self) -> Document:
        partial = partial_of(self.path)
        return without_loose_ends(load(partial if partial.exists() else self.path))

    # -- ending ----------------------------------------------------------------------------------------------------

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._undo:
            assert self._tape is not None
            recording, replaying = self._tape.recording, self._tape.replaying
            if replaying is not None:
                self._check_replayed(replaying, recording, error)
            if recording is not None:
                self._end_recording(recording, error)

    def _check_replayed(self, replaying: Replaying, recording: Recording | None, error: BaseException | None) -> None:
        try:
            if error is None:
                replaying.finish()
        except CassetteDrift as drift:
            if recording is not None:
                self._end_recording(recording, drift)
            raise
        if replaying.drift is not None and isinstance(error, Exception) and not isinstance(error, CassetteDrift):
            raise replaying.drift from error  # what came of the drift: the drift says more

    def _end_recording(self, recording: Recording, error: BaseException | None) -> None:
        try:
            self.saved_to = recording.save(complete=error is None)
        except CassetteError:
            if error is None:
                raise

    # -- what a run hands through it -------------------------------------------------------------------------------

    def backend(self, llm: ChatBackend) -> ChatBackend:
        """A chat model's backend. One in this process is recorded; one over HTTP is left to the recorded HTTP."""
        return TapedBackend(llm, self.tape)

    def chat(self, model: ChatModel, *, model_id: str) -> ChatModel:
        """A planner's model: recorded where neither its backend nor its HTTP was."""
        return TapedChat(model, self.tape, model_id=model_id)

    def toolbox(self, toolbox: Tools, *, played: Played | None = None) -> Tools:
        """A run's tools; here the run begins. The deterministic ones are executed again, and compared.

        `played` is told of each call that is answered without the tool.
        """
        self.tape.lanes.begin()
        return TapedToolbox(toolbox, self.tape, played=played)

    @property
    def given_steps(self) -> tuple[Step, ...]:
        """Steps that the run takes as taken: those that a fork kept."""
        return self.run.given_steps if self.run is not None else ()

    def event(self, event: Event) -> None:
        """An event of this context's run, as it happened: recorded, and compared in a replay."""
        if not isinstance(event, Token):  # which are too many to write down, and stand in the replies
            self.tape.event(event)

    def remembered(self, name: str, compute: Callable[[], Any]) -> Any:
        """What a run finds out once, as plain values: `compute()` while recording, what it gave then in a replay.

        What `compute` does is no part of the recording.
        """
        return self.tape.remembered(name, compute)

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def plays(self) -> bool:
        """Whether what happens now was recorded: nothing needs to be waited for."""
        return self.tape.plays

    def clock(self) -> float:
        """Seconds that have passed, as a limit of time counts them: in a replay, those of the recording."""
        import time

        tape = self.tape
        is_replay = tape.replaying is not None and tape.recording is None
        return tape.replaying.clock_s() if tape.replaying is not None and is_replay else time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Wait, unless what is waited for was recorded."""
        import time

        if not self.plays:
            time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        """`sleep`, awaiting."""
        import asyncio

        await asyncio.sleep(0 if self.plays else seconds)

    # -- inside its block ------------------------------------------------------------------------------------------

    @property
    def tape(self) -> Tape:
        """What the seams talk to."""
        if self._tape is None:
            raise CassetteError(f"{self.path}: this cassette is not in use; enter it with a with block first")
        return self._tape

    @property
    def replaying(self) -> Replaying:
        """What answers a replay."""
        assert self.tape.replaying is not None
        return self.tape.replaying
