"""Finds out, once per model, whether it calls tools in its own syntax, and plans accordingly; and whether its server
keeps the schema of a turn.

What was learnt stands in a small file in the user's cache folder, for a model at an address: another model there is
asked anew. A mode that a run's first turn speaks against is looked into again, and with it all that is known; a schema
that is refused, or not kept, is not asked for again. What may have been chance counts where it happens twice.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

from agentkit.core.loop import ModelCall, Turn
from agentkit.core.planner import BROKE, REFUSED, Planned, Planner, status_of
from agentkit.errors import CassetteError, MalformedTurn, ModelError, PromptTooLong, in_one_line
from agentkit.events import CallMode, ModeFound
from agentkit.models.backend import Capabilities, ChatRequest, Completion
from agentkit.models.chat import ChatModel
from agentkit.recorder import active
from agentkit.toolbox.calling import in_daemon_thread
from agentkit.user_files import user_folder

QUESTION = "What is the area code of Lisbon? Look it up."
TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {
        "name": "look_up_area_code",
        "description": "Gives a city's area code.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PROBE_TOKENS = 512  # a call takes 30; the rest is for models that think first
SURE_S = 600  # for so long answers without a call say nothing against a model that calls
_ABOUT_TOOLS = re.compile(r"\btools?\b|\bfunctions?\b|tool_", re.IGNORECASE)
FORGET_AFTER_S = 30 * 24 * 3600  # servers are updated
MOST_DOUBTS = 2
HELD = "turns by a schema"  # by what name a cassette remembers whether they were asked for so; before, they were not


@dataclass(frozen=True, slots=True)
class Traits:
    """What was found out about a model at its address; None: nothing yet.

    `doubts`: how many runs since speak against that it keeps schemas, but may have done so by chance.
    """

    mode: CallMode | None = None
    keeps_schema: bool | None = None
    doubts: int | None = None

    def with_schema(self, is_kept: bool, *, is_sure: bool = True) -> Traits:
        """With whether a schema was kept; that it was not is no chance where it `is_sure`, and none ever was."""
        doubts = (self.doubts or 0) + 1
        if is_kept or (is_sure and not self.keeps_schema) or doubts >= MOST_DOUBTS:
            return replace(self, keeps_schema=is_kept, doubts=None)
        return replace(self, doubts=doubts)


class KnownModes:
    """What was found out per model. A file that cannot be read or written is as good as none."""

    def __init__(self, *, environment: Mapping[str, str] | None = None, clock: Callable[[], float] = time.time) -> None:
        environment = os.environ if environment is None else environment
        self.path = user_folder("cache", environment) / "modes.json"
        self._clock = clock
        self._lock = threading.Lock()

    def get(self, model: str) -> Traits:
        """What was found out about the model, not too long ago."""
        entry = self._read().get(model, {})
        return Traits(entry.get("mode"), entry.get("keeps_schema"), entry.get("doubts"))

    def put(self, model: str, traits: Traits) -> None:
        """Remember this about the model, and nothing else."""
        found = {name: value for name, value in asdict(traits).items() if value is not None}
        with self._lock, suppress(OSError):
            others = {name: entry for name, entry in self._read().items() if name != model}
            self._write({**others, model: {**found, "found": int(self._clock())}} if found else others)

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            return {model: entry for model, entry in entries.items() if self._counts(entry)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def _counts(self, entry: Any) -> bool:
        if not isinstance(entry, dict) or entry.get("mode") not in (None, *get_args(CallMode)):
            return False
        if entry.get("keeps_schema") not in (None, True, False) or entry.get("doubts") not in (None, 1):
            return False
        found = entry.get("found")
        return isinstance(found, int | float) and 0 <= self._clock() - found < FORGET_AFTER_S

    def _write(self, entries: Mapping[str, Any]) -> None:
        """Replace the file as a whole: another process may be reading it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=self.path.parent, prefix=".modes")
        try:
            with open(handle, "w", encoding="utf-8") as file:
                json.dump(entries, file, indent=1, sort_keys=True)
            os.replace(name, self.path)
        except OSError:
            os.unlink(name)
            raise


@dataclass(frozen=True, slots=True)
class ModeFinding:
    """A model's mode; `probed`: just now, by asking the model; `lasting`: worth writing down at once.

    A model that did not call is one of the dialect only if its turns are; that is written down when one was.
    """

    mode: CallMode
    probed: bool = False
    lasting: bool = True


class ModeFinder:
    """One model's mode, and whether its server keeps the schema of a turn: known in this process, or from the file.

    Else the mode is found out by asking the model, the other by the replies to what is asked anyway. `place` is the
    model's among those of a run; a cassette remembers that one could not be asked, unless it `is_last`.
    """

    def __init__(
        self,
        key: str,
        store: KnownModes,
        *,
        place: int = 0,
        is_last: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = key
        self._key: str | None = None  # the name, with what is served there
        self._place = place
        self._is_last = is_last
        self._store = store
        self._clock = clock
        self._traits = Traits()
        self._asked_s: float | None = None
        self._held = False  # first turns were good since
        self._is_unwritten = self._may_be_written = False  # the mode
        self._lock = threading.Lock()

    def find(self, model: ChatModel) -> ModeFinding:
        """The mode; runs at the same time wait for the first one's probe. Within a cassette it is part of the run."""
        return self._remembered("mode", "react-json", lambda: self._find(model))  # before modes were recorded

    def find_again(self, model: ChatModel, mode: CallMode) -> ModeFinding:
        """The mode, where a run's first turn speaks against what was learnt."""
        return self._remembered("mode again", mode, lambda: self._find_again(model, mode))

    def learn(self, mode: CallMode, *, lasting: bool = True) -> None:
        """From now on the model's mode is this."""
        self._traits = replace(self._traits, mode=mode)
        self._is_unwritten = not lasting
        if lasting:
            self._write()

    def holds(self, model: ChatModel) -> bool:
        """Whether turns are asked for by their schema: unless the server is known to keep none."""
        recorder = active()
        if recorder is None:
            return self._holds(model)
        return recorder.remembered(of_place(HELD, self._place), lambda: self._holds(model), default=False) is True

    def learn_schema(self, is_kept: bool, *, is_sure: bool = True) -> None:
        """The server kept the schema of a turn, or did not."""
        with self._lock:
            traits = self._traits.with_schema(is_kept, is_sure=is_sure)
            if traits != self._traits:
                self._traits = traits
                self._write()

    def _holds(self, model: ChatModel) -> bool:
        with self._lock:
            if self._key is None:
                self._recall(model)
            return self._traits.keeps_schema is not False

    def _recall(self, model: ChatModel) -> None:
        self._key = key_of(self._name, model.capabilities)
        self._traits = self._store.get(self._key)

    def _write(self) -> None:
        """Write down what is known; not in a replay, which shows what was."""
        recorder = active()
        if recorder is None or not recorder.plays:
            traits = replace(self._traits, mode=None) if self._is_unwritten else self._traits
            self._store.put(self._key or self._name, traits)

    def confirm(self, mode: CallMode, *, is_first: bool) -> None:
        """A turn of this mode was a good one, which says more where it is a run's first."""
        self._held = self._held or is_first
        if self._is_unwritten and self._may_be_written and mode == self._traits.mode:
            self.learn(mode)

    def _remembered(self, name: str, default: CallMode, find: Callable[[], ModeFinding]) -> ModeFinding:
        cassette = active()
        if cassette is None:
            return find()
        finding: ModeFinding | None = None

        def compute() -> CallMode | dict[str, str]:
            nonlocal finding
            try:
                finding = find()
            except ModelError as error:
                if self._is_last:
                    raise
                return {"failed": in_one_line(error)}
            return finding.mode

        kept = cassette.remembered(of_place(name, self._place), compute, default=default)
        if isinstance(kept, Mapping) and not self._is_last:
            raise ModelError(str(kept.get("failed")))
        mode = _checked(kept)
        return ModeFinding(mode) if finding is None else replace(finding, mode=mode)

    def _find(self, model: ChatModel) -> ModeFinding:
        with self._lock:
            if self._traits.mode is None:
                self._recall(model)
            return ModeFinding(self._traits.mode) if self._traits.mode else self._asked(model)

    def _find_again(self, model: ChatModel, mode: CallMode) -> ModeFinding:
        with self._lock:
            if self._traits.mode not in (None, mode) or self._is_sure(mode):
                return ModeFinding(self._traits.mode or mode)
            self._key = key_of(self._name, model.capabilities)
            try:
                return self._asked(model, anew=True)
            except ModelError:
                return ModeFinding(mode)  # the turn itself was a reply

    def _is_sure(self, mode: CallMode) -> bool:
        """Whether to ask again would say the same: not where turns of the dialect were good, and now one is none.

        An answer without a call is often right, so that is looked into now and then.
        """
        if self._asked_s is None:
            return False
        return not self._held if mode == "react-json" else self._clock() - self._asked_s < SURE_S

    def _asked(self, model: ChatModel, *, anew: bool = False) -> ModeFinding:
        found = probe(model)
        self._asked_s, self._held = self._clock(), False
        if anew:  # all else that was known is in doubt, too
            self._traits = Traits()
            self._write()
        self.learn(found.mode, lasting=found.mode == "tools")
        self._may_be_written = found.lasting
        return found


@dataclass(frozen=True, slots=True)
class ServerSchema:
    """The schema of an agent's turns, that of one which closes a run, and what `finder` knows of the server."""

    schema: Mapping[str, Any]
    closing: Mapping[str, Any]
    finder: ModeFinder
    model: ChatModel

    def may_be_kept(self) -> bool:
        return self.finder.holds(self.model)

    def learn(self, is_kept: bool, *, is_sure: bool = True) -> None:
        self.finder.learn_schema(is_kept, is_sure=is_sure)


def of_place(name: str, place: int) -> str:
    """By what name a cassette remembers what was found out about the model at that place in a row."""
    return f"{name}, model {place + 1}" if place else name


def key_of(name: str, capabilities: Capabilities) -> str:
    """The model at its address: where that leaves open which it is, the server is asked."""
    served = capabilities.served
    return f"{name} serving {which}" if served is not None and (which := served()) else name


def probe(model: ChatModel) -> ModeFinding:
    """Ask the model something that needs a tool, and see whether a proper call comes back."""
    messages = [{"role": "user", "content": QUESTION}]
    request = ChatRequest(messages=messages, tools=(TOOL,), token_budget=PROBE_TOKENS, stream=False)
    try:
        *_, completion = model.complete(request)
    except NotImplementedError:  # LangChain's word for a model that takes no tools
        return ModeFinding("react-json", probed=True)
    except Exception as error:
        if status_of(error) not in REFUSED + BROKE:
            raise
        if status_of(error) == 404 and not _ABOUT_TOOLS.search(str(error)):  # there is no such model, or no server
            raise
        return ModeFinding("react-json", probed=True, lasting=status_of(error) in REFUSED)
    assert isinstance(completion, Completion)
    if _is_proper(completion):
        return ModeFinding("tools", probed=True)
    return ModeFinding("react-json", probed=True, lasting=not completion.is_cut_off)  # it may have thought


def _is_proper(completion: Completion) -> bool:
    if not completion.tool_calls:
        return False
    call = completion.tool_calls[0]
    try:
        arguments = json.loads(call.arguments)
    except ValueError:
        return False
    named = call.name == TOOL["function"]["name"]
    return named and isinstance(arguments, dict) and isinstance(arguments.get("city"), str)


def _checked(mode: Any) -> CallMode:
    if mode not in get_args(CallMode):
        raise CassetteError(f"expected the mode react-json or tools in the cassette, saw {mode!r}; record it again")
    checked: CallMode = mode
    return checked


class AutoPlanner:
    """Plans in the mode that fits the model, found at the first turn.

    A server that refuses native calls later, by a template that knows no results of tools, is asked in ReAct-JSON from
    there on: the steps stay as they are. Where the first turn is none of the mode that was learnt earlier, the model is
    asked again, and where it has another mode by now the turn is planned anew.
    """

    def __init__(
        self, finder: ModeFinder, model: ChatModel, planners: Mapping[CallMode, Callable[[], Planner]]
    ) -> None:
        self._finder = finder
        self._model = model
        self._planners = planners
        self._mode: CallMode = "react-json"
        self._planner: Planner | None = None
        self._is_sure = False

    def plan(self, call: ModelCall) -> Iterator[Planned]:
        if self._planner is None:
            yield from self._take(self._finder.find(self._model))
        try:
            doubted: Turn | None = None
            for piece in self._now.plan(call):
                if isinstance(piece, Turn) and self._speaks_against(piece, call):
                    doubted = piece
                else:
                    yield self._believed(piece, call)
            if doubted is None:
                return
            found = self._finder.find_again(self._model, self._mode)
            if found.mode == self._mode:
                yield doubted
                return
            yield from self._take(found)
            for piece in self._now.plan(call):
                yield self._believed(piece, call, instead_of=doubted)
        except Exception as error:
            if not self._is_refusal(error):
                raise
            yield from self._take(ModeFinding("react-json", probed=True))
            yield from self._now.plan(call)
            self._finder.learn("react-json")

    async def aplan(self, call: ModelCall) -> AsyncIterator[Planned]:
        import asyncio

        if self._planner is None:
            found = await asyncio.wrap_future(in_daemon_thread(self._finder.find, self._model))
            for news in self._take(found):
                yield news
        try:
            doubted: Turn | None = None
            async for piece in self._now.aplan(call):
                if isinstance(piece, Turn) and self._speaks_against(piece, call):
                    doubted = piece
                else:
                    yield self._believed(piece, call)
            if doubted is None:
                return
            found = await asyncio.wrap_future(in_daemon_thread(self._finder.find_again, self._model, self._mode))
            if found.mode == self._mode:
                yield doubted
                return
            for news in self._take(found):
                yield news
            async for piece in self._now.aplan(call):
                yield self._believed(piece, call, instead_of=doubted)
        except Exception as error:
            if not self._is_refusal(error):
                raise
            for news in self._take(ModeFinding("react-json", probed=True)):
                yield news
            async for piece in self._now.aplan(call):
                yield piece
            self._finder.learn("react-json")

    @property
    def _now(self) -> Planner:
        assert self._planner is not None
        return self._planner

    def _take(self, found: ModeFinding) -> Iterator[ModeFound]:
        self._mode, self._planner = found.mode, self._planners[found.mode]()
        self._is_sure = found.probed
        if found.probed:
            yield ModeFound(found.mode)

    def _speaks_against(self, turn: Turn, call: ModelCall) -> bool:
        """Whether a first turn is none of the mode that was learnt: no action of the dialect, or no call."""
        is_first, self._is_sure = not self._is_sure, True
        acts = isinstance(turn.decision, tuple) or turn.is_call
        return is_first and not call.steps and not acts and (self._mode == "tools" or _is_malformed(turn))

    def _believed(self, piece: Planned, call: ModelCall, *, instead_of: Turn | None = None) -> Planned:
        """A piece of a turn, which may confirm the mode; it counts what was used by a turn that it stands for."""
        if not isinstance(piece, Turn):
            return piece
        if not _is_malformed(piece):
            self._finder.confirm(self._mode, is_first=not call.steps)
        return piece if instead_of is None else replace(piece, usage=instead_of.usage + piece.usage)

    def _is_refusal(self, error: Exception) -> bool:
        is_too_long = isinstance(error, PromptTooLong)
        return self._mode == "tools" and not is_too_long and status_of(error) in REFUSED


def _is_malformed(turn: Turn) -> bool:
    return isinstance(turn.decision, MalformedTurn)
