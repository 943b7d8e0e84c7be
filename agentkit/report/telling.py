"""Makes a story of a cassette's interactions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.file import Document, load
from agentkit.cassette.format.run_spec import RunSpec
from agentkit.cassette.replaying import result_of
from agentkit.core.loop import CLOSING_NOTE, MALFORMED, Turn
from agentkit.core.planner import STOP, turn_of
from agentkit.errors import MalformedTurn
from agentkit.events import Action, FinalAnswer, Source
from agentkit.models.backend import Completion
from agentkit.react_json.grounding import ungrounded
from agentkit.report.said import asked, decided, said
from agentkit.report.story import Exchange, Story, StoryCall, StoryRun, StoryStep

_OBSERVATION = "Observation: "


@dataclass(frozen=True, slots=True)
class _Read:
    """An interaction, the reply it holds, and how long it took."""

    entry: Entry
    reply: Turn | None
    ms: int

    @property
    def log(self) -> str:
        """The text that stands in the prompts that follow."""
        actions = self.actions
        text = self.reply.text if self.reply else ""
        return (actions[0].log if actions else text).strip() or text.strip()

    @property
    def actions(self) -> tuple[Action, ...]:
        """What the model chose to do."""
        decision = self.reply.decision if self.reply else ()
        return decision if isinstance(decision, tuple) else ()


def tell(path: Path) -> Story:
    """The story of the cassette in this file."""
    document = load(path)
    reads = _reads(document.entries)
    numbers = sorted({entry.run for entry in document.entries})
    return Story(
        path=path,
        runs=tuple(_run(number, [read for read in reads if read.entry.run == number], document) for number in numbers),
        spec=document.run,
        models=tuple(dict.fromkeys(_model_of(read.entry) for read in reads if read.reply)),
        complete=document.complete,
        seconds=document.seconds or max((entry.at_ms for entry in document.entries), default=0) / 1000,
        head=document.head,
    )


def _reads(entries: Sequence[Entry]) -> list[_Read]:
    reads, before_ms = [], 0
    for entry in entries:
        completion = said(entry)
        ms = entry.ms or (entry.at_ms - before_ms if entry.kind == "http" else 0)  # vcrpy tells only when HTTP ended
        reads.append(_Read(entry, None if completion is None else decided(entry, completion), max(0, ms)))
        before_ms = max(before_ms, entry.at_ms)
    return reads


def _model_of(entry: Entry) -> str:
    return entry.name if entry.kind == "turn" else str(entry.body.get("model") or entry.uri)


# -- one run -----------------------------------------------------------------------------------------------------------


def _run(number: int, reads: Sequence[_Read], document: Document) -> StoryRun:
    turns = [place for place, read in enumerate(reads) if read.reply is not None]
    steps = _kept(document.run)
    start = 0
    for place, end in zip(turns, [*turns[1:], len(reads)], strict=True):
        before = [read for read in reads[start:place] if start == 0 or read.entry.asks_a_model]
        after = [read for read in reads[place + 1 : end] if not read.entry.asks_a_model]
        following = asked(reads[end].entry) if end < len(reads) else []
        cut = end == len(reads) and not document.complete
        steps.append(
            _broken_off(reads[place])
            if _is_broken(reads[place], cut)
            else _step(reads[place], before, after, following)
        )
        start = place + 1
    if unanswered := [read for read in reads[start:] if read.entry.asks_a_model]:
        steps.append(_unanswered(unanswered))
    return _ended(StoryRun(question=_question(document.run, steps), steps=tuple(steps)), number, document)


def _kept(spec: RunSpec | None) -> list[StoryStep]:
    """The steps that a fork took over."""
    steps = []
    for action, observation in spec.given_steps if spec else ():
        if action.tool == MALFORMED:
            steps.append(StoryStep(text=action.log, told=str(observation), kept=True))
            continue
        call = StoryCall(tool=action.tool, tool_input=action.tool_input, observation=observation)
        thought = turn_of(Completion(action.log)).thought
        steps.append(StoryStep(text=action.log, thought=thought, calls=(call,), kept=True))
    return steps


def _question(spec: RunSpec | None, steps: Sequence[StoryStep]) -> str:
    if spec is not None:
        return str(spec.inputs.get("input", ""))
    users = [text for role, text in steps[0].asked if role == "user"] if steps else []
    return users[-1] if users else ""


def _is_broken(turn: _Read, last_of_cut: bool) -> bool:
    """Whether a reply is not whole. One that its reader closed is, at a stop string; not where the recording ends."""
    response = turn.entry.response
    return "error" in response or (last_of_cut and response.get("closed") is True)


def _broken_off(turn: _Read) -> StoryStep:
    text = turn.reply.text if turn.reply else ""
    return StoryStep(text=text, model_ms=turn.ms, asked=tuple(asked(turn.entry)), broken_off=True)


def _unanswered(tries: Sequence[_Read]) -> StoryStep:
    """The turn that never came."""
    messages = tuple(asked(tries[-1].entry))
    return StoryStep(
        text="", model_ms=sum(read.ms for read in tries), asked=messages, failed=tuple(map(_exchange, tries))
    )


def _step(turn: _Read, before: Sequence[_Read], after: Sequence[_Read], following: list[tuple[str, str]]) -> StoryStep:
    assert turn.reply is not None
    reply, decision = turn.reply, turn.reply.decision
    observations = _observations_in(following, turn.log)
    told = observations[0] if observations else str(decision)
    stops_as_agents_do = set(STOP) <= set(turn.entry.body.get("stop") or ())
    is_talk = isinstance(decision, MalformedTurn) and not observations and not stops_as_agents_do
    tries = [read for read in before if read.entry.asks_a_model]
    calls, rest = _calls(turn.actions, after, observations)
    return StoryStep(
        text=reply.text,
        thought=reply.thought,
        thinking=reply.thinking,
        calls=calls,
        told=told if isinstance(decision, MalformedTurn) and not is_talk else None,
        answer=decision.output if isinstance(decision, FinalAnswer) else reply.text if is_talk else None,
        invented=reply.invented,
        usage=reply.usage,
        model_ms=turn.ms + sum(read.ms for read in tries),
        tools_ms=_wall_ms(turn, after),
        asked=tuple(asked(turn.entry)),
        failed=tuple(map(_exchange, tries)),
        other=(*(_exchange(read) for read in before if not read.entry.asks_a_model), *rest),
    )


def _wall_ms(turn: _Read, after: Sequence[_Read]) -> int:
    """From the turn's end to the last result, tools running beside each other."""
    ended_ms = max((read.entry.at_ms for read in after), default=0)
    return max(0, ended_ms - turn.entry.at_ms)


def _calls(
    actions: Sequence[Action], after: Sequence[_Read], observations: Sequence[str]
) -> tuple[tuple[StoryCall, ...], tuple[Exchange, ...]]:
    """Each action with its result, recorded as such or found in the prompt that follows, and HTTP that is nobody's.

    HTTP goes to the first action without a recorded result. Calls that no action asked for are a script's own.
    """
    results = [read for read in after if read.entry.kind == "tool"]
    http = tuple(_exchange(read) for read in after if read.entry.kind == "http")
    calls = []
    for number, action in enumerate(actions):
        if (place := _place_of(action, results)) is not None:
            calls.append(_recorded(results.pop(place)))
            continue
        seen = observations[number] if number < len(observations) else None
        ms = sum(one.ms for one in http)
        calls.append(StoryCall(tool=action.tool, tool_input=action.tool_input, observation=seen, ms=ms, exchanges=http))
        http = ()
    return (*calls, *map(_recorded, results)), http


def _place_of(action: Action, results: Sequence[_Read]) -> int | None:
    name = action.tool.strip().casefold()
    named = [place for place, read in enumerate(results) if read.entry.name.strip().casefold() == name]
    same = [place for place in named if results[place].entry.body.get("input") == action.tool_input]
    return next(iter([*same, *named]), None)


def _recorded(read: _Read) -> StoryCall:
    entry, response = read.entry, read.entry.response
    return StoryCall(
        tool=entry.name,
        tool_input=entry.body.get("input"),
        observation=result_of(entry),
        executed=response.get("executed") is not False,
        ms=read.ms,
        sources=tuple(_sources(response.get("sources"))),
        readings=tuple(str(one) for one in _list(response.get("readings"))),
    )


def _sources(found: Any) -> Iterable[Source]:
    for one in _list(found):
        if isinstance(one, dict) and isinstance(one.get("link"), str):
            yield Source(str(one.get("title") or one["link"]), one["link"])


def _list(found: Any) -> list[Any]:
    return list(found) if isinstance(found, list | tuple) else []


def _exchange(read: _Read) -> Exchange:
    code, error = read.entry.status.get("code"), read.entry.response.get("error")
    if error is not None:
        came_to = str(error.get("type", "error")) if isinstance(error, dict) else str(error)
    else:
        came_to = str(code) if isinstance(code, int) else "no answer"
    return Exchange(request=read.entry.name, came_to=came_to, ms=read.ms)


def _observations_in(messages: Sequence[tuple[str, str]], log: str) -> list[str]:
    """What the model was told of its turn `log`: in messages of their own, or in the text of one."""
    for place in reversed(range(len(messages))):
        role, text = messages[place]
        if role == "assistant" and text.strip().startswith(log):
            return [_without_label(told) for _, told in messages[place + 1 :]]
        start = text.rfind(log) if log else -1
        if start >= 0:
            told = text[start + len(log) :].lstrip().rpartition("\nThought:")[0]
            return [_without_label(told)] if told.startswith(_OBSERVATION) else []
    return []


def _without_label(text: str) -> str:
    return text.removeprefix(_OBSERVATION).removesuffix(CLOSING_NOTE)


# -- how it ended ------------------------------------------------------------------------------------------------------


def _ended(run: StoryRun, number: int, document: Document) -> StoryRun:
    """The run with its end, as it was recorded; else with the answer its last turn gave."""
    answer = run.steps[-1].answer if run.steps else None
    outcome = document.outcomes.get(number)
    if outcome is None:
        plain = _plain_text(run) if document.run is None and document.complete else None
        given = plain if answer is None else answer
        run = replace(run, output=given, answered=given is not None, stop_reason=None if given is None else "answer")
    else:
        reason = outcome.stop_reason
        answered = reason in ("answer", "return_direct") or (answer is not None and reason != "not_grounded")
        run = replace(run, output=outcome.output, answered=answered, stop_reason=reason)
    if answer is None:
        return run
    observations = [str(call.observation) for step in run.steps for call in step.calls]
    return replace(run, ungrounded=ungrounded(str(answer), run.question, observations))


def _plain_text(run: StoryRun) -> str | None:
    """The reply of a model that was asked for no turn at all."""
    last = run.steps[-1] if run.steps else None
    return last.text if last is not None and last.told is not None else None
