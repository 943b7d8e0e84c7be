"""`Cassette`: runs recorded into one file, replayed from it, or resumed, while its `with` block lasts."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, get_args

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.file import Document, load, partial_of
from agentkit.cassette.format.place import Place
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.lanes import Lanes
from agentkit.cassette.recording import Call, Recording, Stands, without_loose_ends
from agentkit.cassette.replaying import Replaying
from agentkit.cassette.seams.model import TapedBackend, TapedChat
from agentkit.cassette.seams.tools import Played, TapedToolbox
from agentkit.cassette.tape import RunAgain
from agentkit.core.run import Tools
from agentkit.errors import CassetteDrift, CassetteError, ConfigurationError
from agentkit.events import BrokenOff, Compacted, Event, Finished, Forgotten, PartialAnswer, Replied, Step, Token
from agentkit.models.chat import ChatModel
from agentkit.recorder import MISSING, RecorderMode, current
from agentkit.secrets import REDACTED

if TYPE_CHECKING:
    from agentkit.models.backend import ChatBackend

_VARIABLE = re.compile(r"[A-Z][A-Z0-9_]*")


class Cassette:
    """One file of recorded interactions. It can be entered again, one block after the other.

    Recording writes `NAME.partial.yaml` as the run goes on and renames it when the block ends; when the block ends by
    an exception, or the process dies, the partial file stays, and what `NAME.yaml` held is untouched. A file that is no
    cassette is never written over, and one that another recorder writes is refused; `place` is the file where it is
    held already. Replaying blocks the network for the whole process; a run that asks for anything else than the
    recording holds raises `CassetteDrift`, at the latest when the block ends. Resuming plays a partial file if there is
    one, else a complete one that ended at a limit, and goes on live; a call with side effects that was under way when
    the recording ended (or another one, that says so with `under_way`) runs again only if `run_again(tool, tool_input)`
    is true. `environment` is where keys are looked up, `os.environ` unless another is given.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        mode: RecorderMode = "replay",
        *,
        run: RunSpec | None = None,
        run_again: RunAgain | None = None,
        under_way: Sequence[Entry] = (),
        environment: MutableMapping[str, str] | None = None,
        place: Place | None = None,
    ) -> None:
        if mode not in get_args(RecorderMode):
            raise ConfigurationError(f'expected the mode "record", "replay" or "resume" of a cassette, saw {mode!r}')
        self.path = Path(path)
        self.mode: RecorderMode = mode
        self.run = run
        self.run_again = run_again
        self._under_way = under_way
        self._given_environment = environment
        self._given_place = place
        self._replaying: Replaying | None = None
        self._recording: Recording | None = None
        self._lanes = Lanes()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        if self._replaying is not None:
            raise CassetteError(f"{self.path}: this cassette is in use; give each run its own Cassette")
        with ExitStack() as undo:
            undo.callback(self._stop)
            if self.mode == "replay":
                self._start_replaying(undo)
            else:
                self._start_recording(undo)
            before = current.get()
            current.set(self)
            undo.callback(current.set, before)  # not reset: a generator may be closed in another context
            self._undo = undo.pop_all()
        return self

    # -- beginning -------------------------------------------------------------------------------------------------

    @property
    def _environment(self) -> MutableMapping[str, str]:
        return os.environ if self._given_environment is None else self._given_environment

    def _start_replaying(self, undo: ExitStack) -> None:
        from agentkit.cassette.seams import sockets

        document = load(self.path)
        replaying = self._played(document)
        self.run = document.run
        keys = document.head.get("keys", ())
        named = (key for key in keys if isinstance(key, str) and _VARIABLE.fullmatch(key))
        for name in (key for key in named if not self._environment.get(key)):
            self._environment[name] = REDACTED  # a tool that wants a key before it asks
            undo.callback(self._environment.pop, name, None)
        undo.enter_context(sockets.blocked(replaying.network))
        if replaying.has("http"):
            from agentkit.cassette.seams import http

            undo.enter_context(http.patched(replaying))

    def _start_recording(self, undo: ExitStack) -> None:
        """A new recording goes on from one that holds nothing."""
        from agentkit.cassette.seams import http  # before the clock starts: vcrpy imports every HTTP library

        place = self._given_place or undo.enter_context(Place(self.path))
        is_new = self.mode == "record"
        document = Document(items=(), begun=self._under_way) if is_new else self._unfinished()
        self.run = self.run or document.run
        replaying = self._played(document, goes_on=True)
        self._recording = Recording(place, self.run, self._environment, lanes=self._lanes, before=document)
        undo.enter_context(http.patched(replaying, self._recording))

    def _unfinished(self) -> Document:
        partial = partial_of(self.path)
        return without_loose_ends(load(partial if partial.exists() else self.path))

    def _played(self, document: Document, *, goes_on: bool = False) -> Replaying:
        self._lanes = Lanes(taken=max(document.runs, default=0))
        environment = dict(self._environment)
        self._replaying = Replaying(self.path, document, environment, lanes=self._lanes, goes_on=goes_on)
        return self._replaying

    # -- ending ----------------------------------------------------------------------------------------------------

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with self._undo:
            drift = self._drift(error)
            self._end_recording(error or drift)
            if drift is not None:
                raise drift from error

    def _drift(self, error: BaseException | None) -> CassetteDrift | None:
        """That of a run that asked too little; that which led to another `error`, of which it says more."""
        if error is None:
            try:
                self.replaying.finish()
            except CassetteDrift as drift:
                return drift
        is_other = isinstance(error, Exception) and not isinstance(error, CassetteDrift)
        return self.replaying.drift if is_other else None

    def _end_recording(self, error: BaseException | None) -> None:
        try:
            if self._recording is not None:
                self._recording.save(complete=error is None)
        except CassetteError:
            if error is None:
                raise

    def _stop(self) -> None:
        self._replaying = self._recording = None

    # -- what a run hands through it -------------------------------------------------------------------------------

    @property
    def block(self) -> object:
        """What lasts as long as the block."""
        return self.replaying

    def backend(self, llm: ChatBackend) -> ChatBackend:
        """A chat model's backend. One in this process is recorded; one over HTTP is left to the recorded HTTP."""
        return TapedBackend(llm, self)

    def chat(self, model: ChatModel, *, model_id: str) -> ChatModel:
        """A planner's model: recorded where neither its backend nor its HTTP was."""
        return TapedChat(model, self, model_id=model_id)

    def toolbox(self, toolbox: Tools, *, played: Played | None = None) -> Tools:
        """A run's tools; here the run begins. The deterministic ones are executed again, and compared.

        `played` is told of each call that is answered without the tool.
        """
        self._lanes.begin()
        return TapedToolbox(toolbox, self, played=played)

    @property
    def written_run(self) -> RunSpec | None:
        """The description of the run as it stands in the file that is recorded: without its secrets."""
        return self.run if self._recording is None else self._recording.written_run

    @property
    def given_steps(self) -> tuple[Step, ...]:
        """Steps that the run takes as taken: those that a fork kept."""
        return self.run.given_steps if self.run is not None else ()

    def event(self, event: Event) -> None:
        """An event of this context's run, as it happened: recorded, and compared in a replay.

        Those before its first interaction wait until it is known which run it is.
        """
        is_told_otherwise = isinstance(event, Token | PartialAnswer | Replied | Forgotten)  # by prompts and replies
        if is_told_otherwise or self._is_silent:
            return
        lane = self._lanes.current
        lane.waiting.append(event)
        if lane.number is None and not isinstance(event, Finished):
            return
        waiting, lane.waiting = lane.waiting, []
        for one in waiting:
            if isinstance(one, BrokenOff):  # no part of a replay: what broke the run off comes again, or it does not
                if self._recording is not None and not self.plays:
                    self._recording.event(one)
            elif not self.replaying.event(one) and self._recording is not None:
                self._recording.event(one, after=self.replaying.last_played)

    def remembered(self, name: str, compute: Callable[[], Any], *, default: Any = MISSING) -> Any:
        """What a run finds out once, as plain values: `compute()` while recording, what it gave then in a replay.

        What `compute` does is no part of the recording. A replay of one that does not hold it has the `default`; where
        there is none, it has drifted. So has one that goes on behind it, which computes where there is none.
        """
        if self._recording is None or (self.plays and default is not MISSING):
            return self.replaying.remembered(name, default)
        return self._recording.remembered(name, compute)

    def compaction(self, *, summed_up: bool = False) -> Compacted | None:
        """The recorded compaction that comes next, unless what leads to it comes again from what was recorded."""
        return None if self._is_silent else self.replaying.compaction(summed_up=summed_up)

    # -- time ------------------------------------------------------------------------------------------------------

    @property
    def plays(self) -> bool:
        """Whether what happens now was recorded: nothing needs to be waited for."""
        return self.replaying.plays

    @property
    def returns_fields(self) -> bool:
        """Whether what happens now returns to a model's server what it sent with its calls."""
        return not self.plays or self.replaying.returns_fields

    def clock(self) -> float:
        """Seconds that have passed, as a limit of time counts them: in a replay, those of the recording."""
        return self.replaying.clock_s() if self._recording is None else time.monotonic()

    # -- what its seams ask ----------------------------------------------------------------------------------------

    @property
    def replaying(self) -> Replaying:
        """What has the answers that were recorded."""
        if self._replaying is None:
            raise CassetteError(f"{self.path}: this cassette is not in use; enter it with a with block first")
        return self._replaying

    @property
    def _is_silent(self) -> bool:
        return self._recording is not None and self._recording.is_silent

    def turn(self, body: Mapping[str, Any], *, any_model: bool = False, over_http: bool = False) -> Entry | None:
        """A turn's reply; `None`: ask the model."""
        return None if self._is_silent else self.replaying.turn(body, any_model=any_model, over_http=over_http)

    def tool(self, name: str, tool_input: Any) -> Entry | None:
        """A call's result; `None`: run the tool."""
        return None if self._is_silent else self.replaying.tool(name, tool_input)

    def runs_again(self, begun: Entry) -> None:
        """The call that was under way was allowed to run again."""
        self.replaying.runs_again(begun)
        if self._recording is not None:
            self._recording.runs_again(begun)

    def call(self, *, silent: bool = False, stands: Stands | None = None) -> AbstractContextManager[Call]:
        """A live call of a model or a tool; `stands` says which exchange over HTTP is enough to have it again."""
        if self._recording is None:
            return nullcontext(Call(None, self._lanes.current))
        return self._recording.call(silent=silent, stands=stands)
