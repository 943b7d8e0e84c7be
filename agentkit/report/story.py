"""A recorded run as a person reads it: its steps, what they took, and how it ended.

What was decided comes from the recorded events, what it took from the interactions they stand below. Nothing is asked,
executed or compared, so a recording that drifted, was cut off or was made by a script can be read too.

A file that a hand changed, or that came from elsewhere, may hold keys, which no recording does: what is shown of a
story is shown `without_secrets`, as it would have been recorded.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.events import Item, RecordedEvent
from agentkit.cassette.format.file import Document, load
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.recording import is_asked_to_sum_up
from agentkit.core.loop import MALFORMED
from agentkit.core.planner import turn_of
from agentkit.errors import CassetteError
from agentkit.events import (
    Action,
    ActionChosen,
    BrokenOff,
    Compacted,
    Event,
    Finished,
    Observed,
    ParseError,
    Replied,
    Resumed,
    RunStarted,
    Source,
    StopReason,
    Thought,
    Usage,
)
from agentkit.models.backend import Completion
from agentkit.report.exchange import Exchange, completion_of, observed_of, place_of, prompt_of
from agentkit.report.reconstruction import with_events
from agentkit.secrets import Secrets


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
    whole. A fork has `kept` steps of another run. `compactions` say what the model no longer saw from this turn on;
    what they took is part of the turn's.
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
    compactions: tuple[Compacted, ...] = ()

    @property
    def came_to_nothing(self) -> bool:
        """Whether the run took neither a call nor an answer from the model's text."""
        return not self.calls and self.answer is None and self.rejection is None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoryRun:
    """One question's run, and its `events`, with those of the steps that a fork kept.

    `stop_reason` is what ended it, `broken_off` the exception that did; both are `None` where the recording does not
    hold that.
    """

    question: str
    steps: tuple[StoryStep, ...]
    events: tuple[Event, ...] = ()
    output: Any = None
    answered: bool = False
    stop_reason: StopReason | None = None
    broken_off: BrokenOff | None = None
    usage: Usage = field(default_factory=Usage)
    tools_executed: int = 0
    invented_observations: int = 0
    ungrounded: tuple[str, ...] = ()

    @property
    def model_ms(self) -> int:
        """Time the model took."""
        return sum(step.model_ms for step in self.steps)

    @property
    def tools_ms(self) -> int:
        """Time the tools took."""
        return sum(step.tools_ms for step in self.steps)

    @property
    def sources(self) -> tuple[Source, ...]:
        """What the observations rest on."""
        return tuple(dict.fromkeys(one for step in self.steps for call in step.calls for one in call.sources))


@dataclass(frozen=True, slots=True, kw_only=True)
class Story:
    """A cassette: mostly one run, more where a script made several. `spec` is `None` for a script's.

    Of a run in a store, `path` is its name.
    """

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
        how = f"kept {self.head['kept']}" if "kept" in self.head else how
        if self.spec is None:
            how = f"{how.strip()} by a script"
        elif self.spec.forked_from:
            how += f", forked from {self.spec.forked_from}"
        return how.strip() + ("" if self.complete else ", cut off")

    def without_secrets(self, environment: Mapping[str, str] | None = None) -> Story:
        """The story as it may leave: without what is secret by its shape, or in the environment of whoever reads it."""
        secrets = Secrets(os.environ if environment is None else environment)
        scrubbed: Story = secrets.scrub(self)
        return replace(scrubbed, path=self.path)


def read_story(path: Path) -> Story:
    """The story of a cassette; raises `CassetteError` for a file that is none."""
    document = load(path)
    try:
        return _story(path, document)
    except (TypeError, KeyError, ValueError, AttributeError, IndexError, AssertionError) as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")[:200]
        raise CassetteError(f"{path}: expected runs in the recorded shape ({reason}); record it again") from error


def story_of_events(
    name: str, spec: RunSpec, events: Iterable[Event], *, kept: str, complete: bool, seconds: float
) -> Story:
    """The story of a run of a store, called `name`: its `events`, as it was `kept` then."""
    items = [RecordedEvent(event) for event in events]
    document = Document(items=items, run=spec, head={"kept": kept}, complete=complete, seconds=seconds)
    return _story(Path(name), document)


def _story(path: Path, document: Document) -> Story:
    entries = document.entries
    replies = [entry for entry in entries if completion_of(entry) is not None]
    items: dict[int, list[Item]] = {number: [] for number in document.runs}
    for item in document.items:
        items[item.run].append(item)
    return Story(
        path=path,
        runs=tuple(_run(number, document, own) for number, own in items.items()),
        spec=document.run,
        models=tuple(dict.fromkeys(map(_model_of, replies))),
        complete=document.complete,
        seconds=document.seconds or max((entry.at_ms for entry in entries), default=0) / 1000,
        head=document.head,
    )


def _model_of(entry: Entry) -> str:
    return entry.name if entry.kind == "turn" else str(entry.body.get("model") or entry.uri)


# -- from events -------------------------------------------------------------------------------------------------------


def _run(number: int, document: Document, items: Sequence[Item]) -> StoryRun:
    if not any(isinstance(item, RecordedEvent) for item in items):
        items = list(with_events([item for item in items if isinstance(item, Entry)], document, number))
    items = [*items, *_not_told(items)]
    kept = [RecordedEvent(event, number) for event in _kept_events(document.run)]
    events = [item.event for item in (*kept, *items) if isinstance(item, RecordedEvent)]
    steps = [replace(step, kept=True) for step in _steps(kept)] + list(_steps(_timed(items)))
    ends = [event for event in events if isinstance(event, Finished | Resumed | BrokenOff)]
    finished = next((event for event in ends[-1:] if isinstance(event, Finished)), None)
    if finished is None and steps and steps[-1].came_to_nothing and not (steps[-1].thought or steps[-1].thinking):
        steps[-1] = replace(steps[-1], broken_off=bool(steps[-1].text))
    run = StoryRun(
        question=next((str(event.inputs.get("input", "")) for event in events if isinstance(event, RunStarted)), ""),
        steps=tuple(steps),
        events=tuple(events),
        broken_off=next((event for event in ends[-1:] if isinstance(event, BrokenOff)), None),
        usage=sum((step.usage for step in steps), Usage()),
        tools_executed=sum(isinstance(event, Observed) and event.executed for event in events),
    )
    if finished is None:
        return run
    summary = finished.summary
    return replace(
        run,
        output=finished.output,
        answered=finished.answered,
        stop_reason=summary.stop_reason,
        usage=summary.usage,
        tools_executed=summary.tools_executed,
        invented_observations=summary.invented_observations,
        ungrounded=summary.ungrounded,
    )


def _kept_events(spec: RunSpec | None) -> Iterator[Event]:
    """What happened in the steps that a fork took over."""
    for values, (action, observation) in zip(spec.steps, spec.given_steps, strict=True) if spec else ():
        if action.tool == MALFORMED:
            yield ParseError(action.log, str(observation))
            continue
        yield Thought(str(values.get("thought", turn_of(Completion(action.log)).thought)))
        yield ActionChosen(action)
        yield Observed(action, observation)


def _not_told(items: Sequence[Item]) -> Iterator[Item]:
    """What came of calls, where the recording was cut off before the model was told."""
    events = [item.event for item in items if isinstance(item, RecordedEvent)]
    actions = [event.action for event in events if isinstance(event, ActionChosen)]
    told = sum(isinstance(event, Observed) for event in events)
    results = [item for item in items if isinstance(item, Entry) and item.kind == "tool"]
    for number, action in enumerate(actions):
        if (place := place_of(action, results)) is not None:
            entry = results.pop(place)
            if number >= told:
                yield RecordedEvent(observed_of(action, entry), entry.run)


def _timed(items: Iterable[Item]) -> Iterator[Item]:
    """The items, each interaction with its time: vcrpy says only when one ended."""
    before_ms = 0
    for item in items:
        if isinstance(item, Entry):
            if item.kind == "http" and not item.ms:
                item = replace(item, ms=max(0, item.at_ms - before_ms))
            before_ms = max(before_ms, item.at_ms)
        yield item


def _steps(items: Iterable[Item]) -> Iterator[StoryStep]:
    """A step begins with the request for it, or with what is decided after the results of the one before."""
    turn: list[Item] = []
    has_reply = has_result = False
    for item in items:
        if isinstance(item, Entry):
            begins = has_result or (has_reply and bool(prompt_of(item)))
        else:
            decides = isinstance(item.event, Replied | Thought | ActionChosen | ParseError | Compacted)
            begins = has_result and (decides or _ends(item.event))
        if begins:
            yield from _step(turn)
            turn, has_reply, has_result = [], False, False
        turn.append(item)
        if isinstance(item, Entry):
            has_reply = has_reply or (completion_of(item) is not None and not is_asked_to_sum_up(item))
        else:
            has_result = has_result or isinstance(item.event, Observed | ParseError)
    yield from _step(turn)


def _ends(event: Event) -> bool:
    """Whether a turn ended the run: a tool's own answer is none."""
    if not isinstance(event, Finished) or event.summary.stop_reason == "return_direct":
        return False
    return event.answered or bool(event.log)


def _step(turn: Sequence[Item]) -> Iterator[StoryStep]:
    """The step, of what is one: a request that was answered or not, or something that was decided."""
    asked = [item for item in turn if isinstance(item, Entry)]
    summaries, entries = (  # the requests for a summary, and all others
        [entry for entry in asked if is_asked_to_sum_up(entry) is is_one] for is_one in (True, False)
    )
    compactions: list[Compacted] = []
    thought, actions, observed = Thought(""), list[Action](), list[Observed]()
    text: str | None = None
    rejection: str | None = None
    answer: Any = None
    usage = Usage()
    for event in (item.event for item in turn if isinstance(item, RecordedEvent)):
        match event:
            case Replied():  # of a run in a store, which keeps no replies
                usage += event.usage
            case Compacted():
                compactions.append(event)
            case Thought():
                thought = event
            case ActionChosen(action):
                actions.append(action)
            case Observed():
                observed.append(event)
            case ParseError(text, observation):
                rejection = observation
            case Finished(output, answered, log=log) if _ends(event):
                answer, text = (output if answered else None), log or None
    place = max((place for place, entry in enumerate(entries) if prompt_of(entry)), default=-1)
    if place < 0 and not (actions or compactions) and rejection is None and answer is None:
        return
    reply = entries[place] if place >= 0 else None
    completion = completion_of(reply) if reply is not None else None
    if text is None:
        text = completion.text if completion is not None else actions[0].log if actions else ""
    tries = [entry for entry in entries[: place + 1] if prompt_of(entry)]
    results = entries[place + 1 :]
    calls, rest = _calls(actions, observed, results)
    failed = (*(one for one in summaries if completion_of(one) is None), *(tries if completion is None else tries[:-1]))
    yield StoryStep(
        text=text,
        thought=thought.text,
        thinking=thought.thinking,
        calls=tuple(calls),
        rejection=rejection,
        answer=answer,
        usage=sum((one.usage for one in compactions), completion.usage if completion is not None else usage),
        model_ms=sum(entry.ms for entry in (*summaries, *tries)),
        tools_ms=max((entry.at_ms - reply.at_ms for entry in results), default=0) if reply is not None else 0,
        prompt=tuple(prompt_of(reply)) if reply is not None else (),
        failures=tuple(map(Exchange.of, failed)),
        exchanges=(*(Exchange.of(entry) for entry in entries[: max(place, 0)] if not prompt_of(entry)), *rest),
        compactions=tuple(compactions),
    )


def _calls(
    actions: Sequence[Action], observed: Sequence[Observed], results: Sequence[Entry]
) -> tuple[list[StoryCall], tuple[Exchange, ...]]:
    """Each action with its observation, and HTTP that is nobody's: it goes to the first without a result."""
    left = [entry for entry in results if entry.kind == "tool"]
    http = tuple(Exchange.of(entry) for entry in results if entry.kind != "tool")
    calls = []
    for action, event in zip_longest(actions, observed[: len(actions)]):
        if (place := place_of(action, left)) is not None:
            calls.append(_call(action, event, left.pop(place).ms))
        else:
            calls.append(_call(action, event, sum(one.ms for one in http), http))
            http = ()
    for entry in left:  # which no action asked for: a script's own
        action = Action(entry.name, entry.body.get("input"))
        calls.append(_call(action, observed_of(action, entry), entry.ms))
    return calls, http


def _call(action: Action, observed: Observed | None, ms: int, exchanges: tuple[Exchange, ...] = ()) -> StoryCall:
    call = StoryCall(tool=action.tool, tool_input=action.tool_input, ms=ms, exchanges=exchanges)
    if observed is None:
        return call
    return replace(
        call,
        observation=observed.observation,
        executed=observed.executed,
        sources=observed.sources,
        readings=observed.readings,
    )
