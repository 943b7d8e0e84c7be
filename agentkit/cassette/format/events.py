"""What was decided in a run, as it stands in a cassette: each event below the interaction that it came after.

    events:
    - thought: I look it up.
      run: 1
    - action: Search
      input: who is 25
      log: *r1
      run: 1

The first key is the kind, `run` comes last and says that the event is whole. A long text that stands in the file before
is an alias, a stretch of it (`{of: *r1, from: 9, to: 120}`), or joined from such; see `deltas`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, get_args

from agentkit.cassette.format.deltas import whole_text
from agentkit.cassette.format.entries import Entry, plain, without_surrogates
from agentkit.core.loop import MALFORMED
from agentkit.core.native_planner import in_dialect
from agentkit.errors import CassetteError
from agentkit.events import (
    Action,
    ActionChosen,
    BrokenOff,
    Called,
    CallMode,
    Compacted,
    Event,
    Finished,
    Forgotten,
    LimitReached,
    ModeFound,
    Observation,
    Observed,
    Outcome,
    ParseError,
    Pending,
    Replied,
    Resumed,
    RunStarted,
    RunSummary,
    Source,
    Step,
    StopReason,
    Thought,
    Usage,
    Verdict,
    Waiting,
)

MOST_SHARED = 100_000_000  # characters and steps that a file's runs have in common
_COUNTS = ("model_calls", "tools_executed", "invented_observations", "parse_errors")
_VARIABLE = ("usage", "seconds", "return_values", "ungrounded")  # of the end: what prices, clocks and keys change


@dataclass(frozen=True, slots=True)
class RecordedEvent:
    """An event of the cassette's first, second … `run`. `values` are what is written of it, less any secrets."""

    event: Event
    run: int = 1
    values: Mapping[str, Any] | None = field(default=None, compare=False)


Item = Entry | RecordedEvent
"""What a cassette holds, in the order in which it happened."""


# -- as plain values ---------------------------------------------------------------------------------------------------


def as_mapping(event: Event) -> dict[str, Any]:
    """An event as plain values, its texts whole; what says nothing is left out."""
    match event:
        case RunStarted(inputs):
            return {"started": {name: _value(value) for name, value in inputs.items()}}
        case Forgotten(turns, steps):
            return {"forgotten": turns, "steps": steps}
        case ModeFound(mode):
            return {"mode": mode}
        case Replied(usage, invented):
            return _without_nothing("replied", {"replied": _usage(usage), "invented": invented or None})
        case Thought(text, thinking):
            return _without_nothing("thought", {"thought": text, "thinking": thinking})
        case ActionChosen(action):
            called = called_as_mapping(action.called) if action.called else None
            values = {"action": action.tool, "input": plain(action.tool_input), "log": action.log, "called": called}
            return _without_nothing("action", values) | {"input": values["input"]}
        case Observed(_, observation):
            return {"observed": _value(observation), **facts_of(event)}
        case ParseError(text, observation):
            return {"parse_error": text, "observation": observation}
        case Compacted():
            return _compacted(event)
        case LimitReached(reason, closing_turn):
            return _without_nothing("limit", {"limit": reason, "closing_turn": closing_turn or None})
        case Waiting(outcomes):
            return {"waiting": [_outcome(one) for one in outcomes]}
        case Resumed(verdicts):
            return {"resumed": [None if one is None else _verdict(one) for one in verdicts]}
        case Finished():
            return _end(event)
        case BrokenOff(error, message):
            return _without_nothing("broken_off", {"broken_off": error, "message": message})
    raise TypeError(f"no event of a run: {type(event).__name__}")


def called_as_mapping(called: Called) -> dict[str, Any]:
    """How a tool was called; what says nothing is left out where cassettes do that know of none."""
    return {name: value for name, value in asdict(called).items() if value or name in ("id", "turn", "text")}


def _usage(usage: Usage) -> dict[str, Any]:
    return {name: count for name, count in asdict(usage).items() if count not in (0, None)}


def _compacted(event: Compacted) -> dict[str, Any]:
    values: dict[str, Any] = {"compacted": event.how, "first": event.first, "last": event.last, "text": event.text}
    values |= {"reason": event.reason, "within_call": event.within_call or None, "usage": _usage(event.usage)}
    return _without_nothing("compacted", values)


def _outcome(outcome: Outcome) -> dict[str, Any] | None:
    """What came of a call of a turn that waits."""
    if isinstance(outcome, Pending):
        action = outcome.action
        values = {"id": outcome.id, "tool": action.tool, "input": plain(action.tool_input)}
        return _without_nothing("input", {**values, "question": outcome.question})
    return None if outcome is None else {"observed": _value(outcome.value), **facts_of(outcome)}


def _verdict(verdict: Verdict) -> dict[str, Any]:
    values = {"id": verdict.id, "says": verdict.says, "message": verdict.message, "input": plain(verdict.tool_input)}
    return _without_nothing("says", values)


def facts_of(observed: Observed | Observation) -> dict[str, Any]:
    """What came with an observation; what says nothing is left out."""
    facts = {
        "executed": None if observed.executed else False,
        "failed": observed.failed or None,
        "sources": [asdict(source) for source in observed.sources],
        "readings": list(observed.readings),
    }
    return _without_nothing("", facts)


def read_facts(value: Mapping[str, Any]) -> dict[str, Any]:
    """What `facts_of` wrote, by the names of the fields."""
    return {
        "executed": value.get("executed") is not False,
        "failed": value.get("failed") is True,
        "sources": tuple(Source(str(one["title"]), str(one["link"])) for one in value.get("sources", ())),
        "readings": tuple(map(_text, value.get("readings", ()))),
    }


def _end(finished: Finished) -> dict[str, Any]:
    summary, values = finished.summary, finished.return_values
    return _without_nothing(
        "finished",
        {
            "finished": summary.stop_reason,
            "output": _value(finished.output),
            "answered": None if finished.answered else False,
            "log": finished.log,
            "return_values": None if values is None else {name: _value(value) for name, value in values.items()},
            **{name: getattr(summary, name) or None for name in _COUNTS},
            "ungrounded": list(summary.ungrounded),
            "usage": _usage(summary.usage),
            "seconds": round(summary.seconds, 3),
        },
    ) | {"output": _value(finished.output)}


def _value(value: Any) -> Any:
    """A text as it is, else `{json: value}`."""
    value = plain(value)
    return value if isinstance(value, str) else {"json": value}


def _without_nothing(kind: str, values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name == kind or value not in (None, "", [], {})}


def compared(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """What of an event must come again in a replay."""
    return {name: value for name, value in mapping.items() if name not in _VARIABLE}


def digest_of(mappings: Iterable[Mapping[str, Any]]) -> str:
    """What a run's events are recognized by."""
    text = json.dumps([without_surrogates(one) for one in mappings], sort_keys=True, ensure_ascii=False)
    return sha256(text.encode()).hexdigest()[:16]


# -- back --------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Run:
    """What a run's events add up to, as far as they were read."""

    steps: list[Step]
    actions: list[Action] = field(default_factory=list)
    ended: bool = False
    sources: dict[Source, None] = field(default_factory=dict)
    readings: dict[str, None] = field(default_factory=dict)
    mappings: list[dict[str, Any]] = field(default_factory=list)
    waiting: tuple[Outcome, ...] = ()


class EventReader:
    """Reads a file's events, whose texts are whole, in their order. `given` are the steps that its run began with.

    `changed` are the runs whose events are not those that were written.
    """

    def __init__(self, inputs: Mapping[str, Any], given: Sequence[Step]) -> None:
        self.changed: list[int] = []
        self._inputs = dict(inputs)
        self._given = given
        self._runs: dict[int, _Run] = {}
        self._of_each_run = len(given) + len(str(self._inputs))
        self._shared = 0

    def read(self, value: Any) -> RecordedEvent:
        """One event; raises `CassetteError`."""
        try:
            number = value["run"]
            if isinstance(number, bool) or not isinstance(number, int):
                raise TypeError("a run's number")
            if number not in self._runs:
                self._runs[number] = _Run(list(self._given))
                self._shared += self._of_each_run
                if self._shared > MOST_SHARED:
                    raise ValueError("more runs than were recorded with so much in common")
            run = self._runs[number]
            event = self._event(value, run)
            mapping = as_mapping(event)
            if isinstance(event, Finished):
                if run.ended:
                    raise ValueError("a run ends once")
                run.ended = True
                if value.get("sha256") != digest_of([*run.mappings, mapping]):
                    self.changed.append(number)
            run.mappings.append(mapping)
            return RecordedEvent(event, number)
        except (TypeError, KeyError, ValueError, AttributeError, IndexError) as error:
            raise CassetteError(f"expected an event as it was recorded ({error})") from None

    def _event(self, value: Mapping[str, Any], run: _Run) -> Event:
        match next(iter(value)):
            case "started":
                if run.mappings:
                    raise ValueError("a run starts once, before all else")
                given = value["started"]
                inputs = self._inputs if given is None else {name: _read_value(item) for name, item in given.items()}
                return RunStarted(inputs)
            case "forgotten":
                return Forgotten(int(value["forgotten"]), int(value["steps"]))
            case "mode":
                return ModeFound(_one_of(get_args(CallMode), value["mode"]))
            case "replied":
                return Replied(Usage(**value["replied"]), int(value.get("invented", 0)))
            case "thought":
                return Thought(_text(value["thought"]), _text(value.get("thinking", "")))
            case "action":
                run.actions.append(_action(value))
                return ActionChosen(run.actions[-1])
            case "observed":
                return self._observed(value, run)
            case "parse_error":
                text, observation = _text(value["parse_error"]), _text(value["observation"])
                run.steps.append(Step(Action(MALFORMED, observation, text), observation))
                return ParseError(text, observation)
            case "compacted":
                return _read_compacted(value)
            case "limit":
                return LimitReached(_one_of(get_args(StopReason), value["limit"]), value.get("closing_turn") is True)
            case "waiting":
                run.waiting = tuple(map(_read_outcome, value["waiting"]))
                return Waiting(run.waiting)
            case "resumed":
                run.ended, run.waiting = False, ()
                return Resumed(tuple(None if one is None else _read_verdict(one) for one in value["resumed"]))
            case "finished":
                return _finished(value, run)
            case "broken_off":
                return BrokenOff(_text(value["broken_off"]), _text(value.get("message", "")))
            case kind:
                raise ValueError(f"no event is named {kind!r}")

    def _observed(self, value: Mapping[str, Any], run: _Run) -> Observed:
        observed = Observed(run.actions.pop(0), _read_value(value["observed"]), **read_facts(value))
        run.steps.append(Step(observed.action, observed.observation))
        run.sources |= dict.fromkeys(observed.sources)
        run.readings |= dict.fromkeys(observed.readings)
        return observed


def provider_fields_of(called: Mapping[str, Any]) -> Mapping[str, Any]:
    """What of a recorded call its server wants back."""
    fields = called.get("provider_fields", {})
    if not isinstance(fields, Mapping):
        raise TypeError("a provider's fields are a mapping")
    return fields


def _action(value: Mapping[str, Any]) -> Action:
    tool, tool_input, called = _text(value["action"]), value["input"], value.get("called")
    if not isinstance(tool_input, str | dict):
        raise TypeError("an action's input is text or a mapping")
    if called is not None:
        text, thinking = _text(called.get("text", "")), _text(called.get("thinking", ""))
        called = Called(_text(called["id"]), int(called["turn"]), text, thinking, provider_fields_of(called))
    log = value.get("log", in_dialect(called.text, tool, tool_input) if called is not None else "")
    return Action(tool, tool_input, _text(log), called)


def _read_compacted(value: Mapping[str, Any]) -> Compacted:
    return Compacted(
        _one_of(("drop", "summary", "function"), value["compacted"]),
        int(value["first"]),
        int(value["last"]),
        _text(value.get("text", "")),
        _text(value.get("reason", "")),
        value.get("within_call") is True,
        Usage(**value.get("usage", {})),
    )


def _read_outcome(value: Mapping[str, Any] | None) -> Outcome:
    if value is None:
        return None
    if "id" in value:
        return Pending(
            _text(value["id"]), Action(_text(value["tool"]), value["input"]), _text(value.get("question", ""))
        )
    return Observation(_read_value(value["observed"]), **read_facts(value))


def _read_verdict(value: Mapping[str, Any]) -> Verdict:
    says = _one_of(("yes", "no", "answer", "interrupted"), value["says"])
    return Verdict(_text(value.get("id", "")), says, _text(value.get("message", "")), value.get("input"))


def _finished(value: Mapping[str, Any], run: _Run) -> Finished:
    values = value.get("return_values")
    summary = RunSummary(
        stop_reason=_one_of(get_args(StopReason), value["finished"]),
        usage=Usage(**value.get("usage", {})),
        seconds=float(value.get("seconds", 0.0)),
        **{name: int(value.get(name, 0)) for name in _COUNTS},
        ungrounded=tuple(map(_text, value.get("ungrounded", ()))),
        sources=tuple(run.sources),
        readings=tuple(run.readings),
    )
    return Finished(
        _read_value(value["output"]),
        value.get("answered") is not False,
        summary,
        tuple(run.steps),
        _text(value.get("log", "")),
        None if values is None else {name: _read_value(item) for name, item in values.items()},
        tuple(one for one in run.waiting if isinstance(one, Pending)),
    )


def _text(value: Any) -> str:
    text = whole_text(value)
    if not isinstance(text, str):
        raise TypeError(f"text is expected, not {type(text).__name__}; quote it")
    return text


def _one_of(words: Sequence[str], value: Any) -> Any:
    if value not in words:
        raise ValueError(f"one of {', '.join(words)} is expected")
    return value


def _read_value(value: Any) -> Any:
    return value["json"] if isinstance(value, Mapping) and value.keys() == {"json"} else _text(value)
