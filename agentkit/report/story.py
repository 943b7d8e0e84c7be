"""A recorded run as a person reads it: its steps, what they took, and how it ended.

What was decided comes from the recorded events, what it took from the interactions they stand below. Nothing is asked,
executed or compared, so a recording that drifted, was cut off or was made by a script can be read too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.events import Item, RecordedEvent
from agentkit.cassette.format.file import Document, load
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.core.loop import MALFORMED
from agentkit.core.planner import turn_of
from agentkit.events import (
    Action,
    ActionChosen,
    Finished,
    LimitReached,
    Observed,
    ParseError,
    RunStarted,
    Source,
    Thought,
    Usage,
)
from agentkit.models.backend import Completion
from agentkit.report.exchange import Exchange, completion_of, observed_of, place_of, prompt_of
from agentkit.report.reconstruction import with_events


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryCall:
    """An action and its observation, `None` where the recording holds none."""

    tool: str
    tool_input: Any
    observation: Any = None
    executed: bool = True
    ms: int = 0
    sources: tuple[Source, ...] = ()
    readings: tuple[str, ...] = ()
    exchanges: tuple[Exchange, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryStep:
    """One turn of the model and what came of it.

    `rejection` is what the model was told of a turn that is none. `prompt` are the messages, as role and text.
    `failures` are tries that gave no reply, `exchanges` those that belong to no call. `broken_off`: the reply is not
    whole. A fork has `kept` steps of another run.
    """

    text: str
    thought: str = ""
    thinking: str = ""
    calls: tuple[StoryCall, ...] = ()
    rejection: str | None = None
    answer: Any = None
    usage: Usage = field(default_factory=Usage)
    model_ms: int = 0
    tools_ms: int = 0
    prompt: tuple[tuple[str, str], ...] = ()
    failures: tuple[Exchange, ...] = ()
    exchanges: tuple[Exchange, ...] = ()
    broken_off: bool = False
    kept: bool = False

    @property
    def came_to_nothing(self) -> bool:
        """Whether the run took neither a call nor an answer from the model's text."""
        return not self.calls and self.answer is None and self.rejection is None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryRun:
    """One question's run; `finished` is how it ended, `None` where the recording does not hold that."""

    question: str
    steps: tuple[StoryStep, ...]
    finished: Finished | None = None

    @property
    def answered(self) -> bool:
        """Whether it has an answer."""
        return self.finished is not None and self.finished.answered

    @property
    def output(self) -> Any:
        """What the caller got."""
        return None if self.finished is None else self.finished.output

    @property
    def stop_reason(self) -> str | None:
        """What ended it."""
        return None if self.finished is None else self.finished.summary.stop_reason

    @property
    def ungrounded(self) -> tuple[str, ...]:
        """Numbers and names in the answer that no observation gave."""
        return () if self.finished is None else self.finished.summary.ungrounded

    @property
    def usage(self) -> Usage:
        """Tokens of the whole run."""
        if self.finished is not None and self.finished.summary.usage != Usage():
            return self.finished.summary.usage
        return sum((step.usage for step in self.steps), Usage())

    @property
    def invented_observations(self) -> int:
        """How many observations the model made up, which were cut off."""
        return 0 if self.finished is None else self.finished.summary.invented_observations

    @property
    def model_ms(self) -> int:
        """Time the model took."""
        return sum(step.model_ms for step in self.steps)

    @property
    def tools_ms(self) -> int:
        """Time the tools took."""
        return sum(step.tools_ms for step in self.steps)

    @property
    def tools_executed(self) -> int:
        """How many calls ran."""
        if self.finished is not None and self.finished.summary.tools_executed:
            return self.finished.summary.tools_executed
        return sum(call.executed and call.observation is not None for step in self.steps for call in step.calls)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the observations rest on."""
        return tuple(dict.fromkeys(one for step in self.steps for call in step.calls for one in call.sources))

    def as_result(self, model: str) -> dict[str, Any]:
        """The run as `agentkit run --json` gave it."""
        summary = self.finished.summary if self.finished is not None else None
        result = {
            "input": self.question,
            "output": self.output if self.answered else None,
            "steps": [one for step in self.steps for one in _taken(step)],
            "usage": asdict(self.usage),
            "model": model,
            "stop_reason": self.stop_reason,
            "seconds": summary.seconds if summary is not None else None,
        }
        if self.sources:
            result["sources"] = [asdict(source) for source in self.sources]
        return result


def _taken(step: StoryStep) -> Iterator[dict[str, Any]]:
    if step.rejection is not None:
        yield {"thought": step.thought, "tool": None, "tool_input": step.text, "observation": step.rejection}
    for place, call in enumerate(call for call in step.calls if call.observation is not None):
        thought = "" if place else step.thought
        observation = str(call.observation)
        yield {"thought": thought, "tool": call.tool, "tool_input": call.tool_input, "observation": observation}


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A cassette: mostly one run, more where a script made several. `spec` is `None` for a script's."""

    path: Path
    runs: tuple[StoryRun, ...]
    spec: RunSpec | None
    models: tuple[str, ...]
    complete: bool
    seconds: float
    head: Mapping[str, Any]

    @property
    def model(self) -> str:
        """The model's spec, or the names that the requests give."""
        return self.spec.settings.model if self.spec else ", ".join(self.models) or "no model"

    @property
    def made(self) -> str:
        """How and when the recording was made."""
        how = "transcribed" if self.head.get("transcribed") is True else f"recorded {self.head.get('recorded') or ''}"
        if self.spec is None:
            how = f"{how.strip()} by a script"
        elif self.spec.forked_from:
            how += f", forked from {self.spec.forked_from}"
        return how.strip() + ("" if self.complete else ", cut off")


def read_story(path: Path) -> Story:
    """The story of a cassette; raises `CassetteError` for a file that is none."""
    document = load(path)
    entries = document.entries
    replies = [entry for entry in entries if completion_of(entry) is not None]
    return Story(
        path=path,
        runs=tuple(_run(number, document) for number in document.runs),
        spec=document.run,
        models=tuple(dict.fromkeys(map(_model_of, replies))),
        complete=document.complete,
        seconds=document.seconds or max((entry.at_ms for entry in entries), default=0) / 1000,
        head=document.head,
    )


def _model_of(entry: Entry) -> str:
    return entry.name if entry.kind == "turn" else str(entry.body.get("model") or entry.uri)


# -- from events -------------------------------------------------------------------------------------------------------


def _run(number: int, document: Document) -> StoryRun:
    items: Sequence[Item] = [item for item in document.items if item.run == number]
    if not any(isinstance(item, RecordedEvent) for item in items):
        items = with_events(items, document, number)
    builder = _RunBuilder(document)
    for item in items:
        builder.add(item)
    return builder.run()


@dataclass(slots=True)
class _Turn:
    """A turn of the model as far as it is known; `replies` are what it was asked by, `results` what its calls did."""

    replies: list[Entry]
    others: list[Entry]
    results: list[Entry] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    observed: list[Observed] = field(default_factory=list)
    text: str | None = None
    thought: str = ""
    thinking: str = ""
    rejection: str | None = None
    answer: Any = None
    broken_off: bool = False

    @property
    def is_open(self) -> bool:
        """Whether there is only a thought so far."""
        return not self.actions and self.rejection is None


class _RunBuilder:
    """Puts the items of one run together as steps."""

    def __init__(self, document: Document) -> None:
        self._spec = document.run
        self._complete = document.complete
        self._question = ""
        self._steps = list(_kept_steps(document.run))
        self._turn: _Turn | None = None
        self._waiting: list[Entry] = []
        self._ms: dict[int, int] = {}
        self._before_ms = 0
        self._finished: Finished | None = None

    def add(self, item: Item) -> None:
        """The next interaction or event."""
        if isinstance(item, Entry):
            self._time(item)
            self._waiting.append(item)
            return
        match item.event:
            case RunStarted(inputs):
                self._question = str(inputs.get("input", ""))
            case Thought(text, thinking):
                turn = self._begin()
                turn.thought, turn.thinking = text, thinking
            case ActionChosen(action):
                turn = self._turn if self._turn is not None and not self._is_over(self._turn) else self._begin()
                turn.actions.append(action)
            case Observed():
                turn = self._turn or self._begin()
                turn.results += self._taken()
                turn.observed.append(item.event)
            case ParseError(text, observation):
                turn = self._open()
                turn.text, turn.rejection = text, observation
            case LimitReached():
                self._close()
            case Finished():
                self._finish(item.event)

    def _time(self, entry: Entry) -> None:
        """vcrpy says only when an exchange ended."""
        since_ms = entry.at_ms - self._before_ms if entry.kind == "http" else 0
        self._ms[id(entry)] = max(0, entry.ms or since_ms)
        self._before_ms = max(self._before_ms, entry.at_ms)

    def _finish(self, finished: Finished) -> None:
        """An answer is a turn of its own, unless it is a tool's."""
        reason = finished.summary.stop_reason
        if reason != "return_direct" and (finished.answered or finished.log):
            turn = self._open()
            turn.answer, turn.text = (finished.output if finished.answered else None), finished.log or None
        self._close()
        self._finished = finished

    def run(self) -> StoryRun:
        """The run. What was asked and came to nothing is its last step."""
        if self._turn is not None and self._turn.actions and not self._turn.observed:
            self._turn.results += self._taken()  # recorded, but not yet told to the model
        self._close()
        if any(map(prompt_of, self._waiting)):
            self._begin().broken_off = self._finished is None
            self._close()
        if not self._question and self._spec is not None:
            self._question = str(self._spec.inputs.get("input", ""))
        if not self._question and self._steps:
            self._question = next((text for role, text in reversed(self._steps[0].prompt) if role == "user"), "")
        return StoryRun(question=self._question, steps=tuple(self._steps), finished=self._finished)

    # -- turns -----------------------------------------------------------------------------------------------------

    def _taken(self) -> list[Entry]:
        taken, self._waiting = self._waiting, []
        return taken

    def _open(self) -> _Turn:
        return self._turn if self._turn is not None and self._turn.is_open else self._begin()

    def _is_over(self, turn: _Turn) -> bool:
        return bool(turn.observed) or turn.rejection is not None

    def _begin(self) -> _Turn:
        self._close()
        taken = self._taken()
        self._turn = _Turn([one for one in taken if prompt_of(one)], [one for one in taken if not prompt_of(one)])
        return self._turn

    def _close(self) -> None:
        turn, self._turn = self._turn, None
        if turn is None:
            return
        reply = turn.replies[-1] if turn.replies else None
        completion = completion_of(reply) if reply is not None else None
        tries = turn.replies if completion is None else turn.replies[:-1]
        calls, rest = self._calls(turn)
        ended_ms = max((entry.at_ms for entry in turn.results), default=0)
        self._steps.append(
            StoryStep(
                text=turn.text if turn.text is not None else completion.text if completion else "",
                thought=turn.thought,
                thinking=turn.thinking,
                calls=calls,
                rejection=turn.rejection,
                answer=turn.answer,
                usage=completion.usage if completion is not None else Usage(),
                model_ms=sum(self._ms[id(entry)] for entry in turn.replies),
                tools_ms=max(0, ended_ms - reply.at_ms) if reply is not None else 0,
                prompt=tuple(prompt_of(reply)) if reply is not None else (),
                failures=tuple(map(self._exchange, tries)),
                exchanges=(*map(self._exchange, turn.others), *rest),
                broken_off=turn.broken_off and completion is not None,
            )
        )

    def _exchange(self, entry: Entry) -> Exchange:
        return Exchange.of(entry, self._ms[id(entry)])

    # -- calls -----------------------------------------------------------------------------------------------------

    def _calls(self, turn: _Turn) -> tuple[tuple[StoryCall, ...], tuple[Exchange, ...]]:
        """Each action with its observation, and HTTP that is nobody's: it goes to the first without a result."""
        results = [entry for entry in turn.results if entry.kind == "tool"]
        http = tuple(self._exchange(entry) for entry in turn.results if entry.kind != "tool")
        calls = []
        for number, action in enumerate(turn.actions):
            observed = turn.observed[number] if number < len(turn.observed) else None
            if (place := place_of(action, results)) is not None:
                entry = results.pop(place)
                calls.append(_call(action, observed or observed_of(action, entry), self._ms[id(entry)]))
            else:
                calls.append(_call(action, observed, sum(one.ms for one in http), http))
                http = ()
        for entry in results:  # which no action asked for: a script's own
            action = Action(entry.name, entry.body.get("input"))
            calls.append(_call(action, observed_of(action, entry), self._ms[id(entry)]))
        return tuple(calls), http


def _call(action: Action, observed: Observed | None, ms: int, exchanges: tuple[Exchange, ...] = ()) -> StoryCall:
    if observed is None:
        return StoryCall(tool=action.tool, tool_input=action.tool_input, ms=ms, exchanges=exchanges)
    return StoryCall(
        tool=action.tool,
        tool_input=action.tool_input,
        observation=observed.observation,
        executed=observed.executed,
        ms=ms,
        sources=observed.sources,
        readings=observed.readings,
        exchanges=exchanges,
    )


def _kept_steps(spec: RunSpec | None) -> Iterator[StoryStep]:
    """The steps that a fork took over."""
    for values, (action, observation) in zip(spec.steps, spec.given_steps, strict=True) if spec else ():
        if action.tool == MALFORMED:
            yield StoryStep(text=action.log, rejection=str(observation), kept=True)
            continue
        call = StoryCall(tool=action.tool, tool_input=action.tool_input, observation=observation)
        thought = values.get("thought", turn_of(Completion(action.log)).thought)
        yield StoryStep(text=action.log, thought=str(thought), calls=(call,), kept=True)
