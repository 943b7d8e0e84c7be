"""Finds out, once per model, whether it calls tools in its own syntax, and plans accordingly.

What was learnt stands in a small file in the user's cache folder.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, get_args

from agentkit.core.loop import ModelCall, Turn
from agentkit.core.planner import Planner
from agentkit.errors import CassetteError, ModelError
from agentkit.events import CallMode, ModeFound
from agentkit.models.backend import ChatRequest, Completion
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
REFUSED = (400, 404, 405, 415, 422, 501)  # what servers answer to a request with tools that they cannot take
BROKE = (500,)  # what some answer instead; it may have been chance, so it is not written down
FORGET_AFTER_S = 30 * 24 * 3600  # servers are updated


class KnownModes:
    """What was found out per model. A file that cannot be read or written is as good as none."""

    def __init__(self, *, environment: Mapping[str, str] | None = None, clock: Callable[[], float] = time.time) -> None:
        environment = os.environ if environment is None else environment
        self.path = user_folder("cache", environment) / "modes.json"
        self._clock = clock
        self._lock = threading.Lock()

    def get(self, model: str) -> CallMode | None:
        """The model's mode, if it was found out not too long ago."""
        entry = self._read().get(model)
        mode: CallMode | None = entry["mode"] if entry is not None else None
        return mode

    def put(self, model: str, mode: CallMode) -> None:
        """Remember the model's mode."""
        with self._lock, suppress(OSError):
            self._write({**self._read(), model: {"mode": mode, "found": int(self._clock())}})

    def _read(self) -> dict[str, dict[str, Any]]:
        try:
            entries = json.loads(self.path.read_text(encoding="utf-8"))
            return {model: entry for model, entry in entries.items() if self._counts(entry)}
        except (OSError, ValueError, AttributeError, RecursionError):
            return {}

    def _counts(self, entry: Any) -> bool:
        if not isinstance(entry, dict) or entry.get("mode") not in get_args(CallMode):
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
    """A model's mode; `probed`: just now, by asking the model; `lasting`: worth writing down."""

    mode: CallMode
    probed: bool = False
    lasting: bool = True


class ModeFinder:
    """One model's mode: known in this process, or from the file, or found out by asking the model."""

    def __init__(self, key: str, known: KnownModes, *, has_fallbacks: bool = False) -> None:
        self._key = key
        self._has_fallbacks = has_fallbacks
        self._known = known
        self._mode: CallMode | None = None
        self._lock = threading.Lock()

    def find(self, model: ChatModel) -> ModeFinding:
        """The mode; runs at the same time wait for the first one's probe. Within a cassette it is part of the run."""
        cassette = active()
        if cassette is None:
            return self._find(model)
        finding: ModeFinding | None = None

        def compute() -> CallMode:
            nonlocal finding
            finding = self._find(model)
            return finding.mode

        mode = _checked(cassette.remembered("mode", compute, default="react-json"))  # before modes were recorded
        return ModeFinding(mode, probed=finding is not None and finding.probed)

    def learn(self, mode: CallMode, *, lasting: bool = True) -> None:
        """From now on the model's mode is this."""
        self._mode = mode
        if lasting:
            self._known.put(self._key, mode)

    def _find(self, model: ChatModel) -> ModeFinding:
        with self._lock:
            if mode := self._mode or self._known.get(self._key):
                self._mode = mode
                return ModeFinding(mode)
            found = self._probed(model)
            self.learn(found.mode, lasting=found.lasting)
            return found

    def _probed(self, model: ChatModel) -> ModeFinding:
        try:
            return probe(model)
        except ModelError:
            if not self._has_fallbacks:
                raise
            return ModeFinding("react-json", probed=True, lasting=False)  # which any of them can do


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
        return ModeFinding("react-json", probed=True, lasting=status_of(error) in REFUSED)
    assert isinstance(completion, Completion)
    return ModeFinding("tools" if _is_proper(completion) else "react-json", probed=True)


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


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, whichever library raised it."""
    while error is not None:
        for holder in (error, getattr(error, "response", None)):
            for name in ("status", "status_code"):
                if isinstance(status := getattr(holder, name, None), int):
                    return status
        error = error.__cause__ or error.__context__
    return None


def _checked(mode: Any) -> CallMode:
    if mode not in get_args(CallMode):
        raise CassetteError(f"expected the mode react-json or tools in the cassette, saw {mode!r}; record it again")
    checked: CallMode = mode
    return checked


class AutoPlanner:
    """Plans in the mode that fits the model, found at the first turn.

    A server that refuses native calls later, by a template that knows no results of tools, is asked in ReAct-JSON from
    there on: the steps stay as they are.
    """

    def __init__(
        self, finder: ModeFinder, model: ChatModel, planners: Mapping[CallMode, Callable[[], Planner]]
    ) -> None:
        self._finder = finder
        self._model = model
        self._planners = planners
        self._mode: CallMode | None = None
        self._planner: Planner | None = None

    def plan(self, call: ModelCall) -> Iterator[str | ModeFound | Turn]:
        if self._planner is None:
            yield from self._take(self._finder.find(self._model))
        assert self._planner is not None
        try:
            yield from self._planner.plan(call)
        except Exception as error:
            if not self._is_refusal(error):
                raise
            yield from self._take(ModeFinding("react-json", probed=True))
            yield from self._planner.plan(call)
            self._finder.learn("react-json")

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | ModeFound | Turn]:
        import asyncio

        if self._planner is None:
            found = await asyncio.wrap_future(in_daemon_thread(self._finder.find, self._model))
            for news in self._take(found):
                yield news
        assert self._planner is not None
        try:
            async for piece in self._planner.aplan(call):
                yield piece
        except Exception as error:
            if not self._is_refusal(error):
                raise
            for news in self._take(ModeFinding("react-json", probed=True)):
                yield news
            async for piece in self._planner.aplan(call):
                yield piece
            self._finder.learn("react-json")

    def _take(self, found: ModeFinding) -> Iterator[ModeFound]:
        self._mode, self._planner = found.mode, self._planners[found.mode]()
        if found.probed:
            yield ModeFound(found.mode)

    def _is_refusal(self, error: Exception) -> bool:
        return self._mode == "tools" and status_of(error) in REFUSED
