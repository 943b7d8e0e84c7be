"""The events of a recording that holds none: of formats 1 and 2, of vcrpy's own, and of models that a script asked.

The loop is given the replies again. What came of its actions was recorded as such, or stands in the prompt that
follows; where neither says anything of it, nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile, zip_longest
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.events import Item, RecordedEvent
from agentkit.cassette.format.file import Document
from agentkit.cassette.recording import is_asked_to_close
from agentkit.core.loop import Limits, ModelCall, ReActLoop, Turn
from agentkit.core.native_planner import NativePlanner
from agentkit.core.planner import STOP, turn_of
from agentkit.errors import MalformedTurn
from agentkit.events import Action, Event, FinalAnswer, Finished, Observation, ParseError, RunStarted
from agentkit.models.backend import Completion
from agentkit.models.chat import BackendChat
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.scratchpad import CLOSING_NOTE
from agentkit.report.exchange import completion_of, observation_in, place_of, prompt_of

UNLIMITED = Limits(max_iterations=None, max_repeats=None)
_OBSERVATION = "Observation: "


@dataclass(frozen=True, slots=True)
class _Reply:
    """A turn of the model: where it stands, what it decided, and what the model was told of it then."""

    place: int
    turn: Turn
    observations: Sequence[str]

    @property
    def answers(self) -> bool:
        """Whether it gives an answer."""
        return isinstance(self.turn.decision, FinalAnswer)


def with_events(entries: Sequence[Entry], document: Document, number: int) -> Iterator[Item]:
    """The interactions of one run, each followed by the events that it seems to have led to."""

    def recorded(events: Iterable[Event]) -> Iterator[Item]:
        return (RecordedEvent(event, number) for event in events)

    loop = ReActLoop({"input": _question(entries, document)}, limits=UNLIMITED)
    replies = _replies(entries, document)
    yield from recorded([RunStarted(loop.inputs)])
    yield from entries[: replies[0].place] if replies else entries
    for reply, following in zip_longest(replies, replies[1:]):
        after = entries[reply.place + 1 : following.place if following else len(entries)]
        results = list(takewhile(lambda entry: not prompt_of(entry), after))
        yield entries[reply.place]
        yield from recorded(_decided(loop, reply, entries[reply.place]))
        yield from results
        yield from recorded(_observed(loop, reply, results))
        yield from after[len(results) :]
    yield from recorded(_end(loop, document, number, answered=bool(replies) and replies[-1].answers))


def _question(entries: Sequence[Entry], document: Document) -> str:
    if document.run is not None:
        return str(document.run.inputs.get("input", ""))
    first = next(filter(None, map(prompt_of, entries)), [])
    return next((text for role, text in reversed(first) if role == "user"), "")


# -- turns -------------------------------------------------------------------------------------------------------------


def _replies(entries: Sequence[Entry], document: Document) -> list[_Reply]:
    completions = ((place, completion_of(entry)) for place, entry in enumerate(entries))
    whole = [
        (place, _turn_of(entries[place], completion))
        for place, completion in completions
        if completion is not None and not _is_broken(entries, place, document)
    ]
    replies = []
    for (place, turn), following in zip_longest(whole, whole[1:]):
        observations = _observations_in(entries[following[0]], _log(turn)) if following else []
        if isinstance(turn.decision, MalformedTurn):
            if not observations and _is_talk(entries[place], document, is_last=following is None):
                turn = replace(turn, decision=FinalAnswer(turn.text, turn.text))
            elif observations:
                turn = replace(turn, decision=MalformedTurn(observations[0]))
        replies.append(_Reply(place, turn, observations))
    return replies


def _is_broken(entries: Sequence[Entry], place: int, document: Document) -> bool:
    """Whether a reply is not whole. One that its reader closed is, at a stop string; not where a recording ends."""
    response, is_last = entries[place].response, place == len(entries) - 1
    return "error" in response or (is_last and not document.complete and response.get("closed") is True)


def _turn_of(entry: Entry, completion: Completion) -> Turn:
    """What a reply comes to: in a model's own calls where it was given tools, else in the dialect."""
    if not (isinstance(entry.body, Mapping) and entry.body.get("tools")):
        return turn_of(completion)
    planner = NativePlanner(BackendChat(ScriptedBackend([completion])), ())
    (turn,) = (piece for piece in planner.plan(ModelCall({"input": ""}, ())) if isinstance(piece, Turn))
    return turn


def _is_talk(entry: Entry, document: Document, *, is_last: bool) -> bool:
    """Whether a model was asked for no turn at all: its text is the answer."""
    is_an_agents = set(STOP) <= set(entry.body.get("stop") or ())
    return not is_an_agents or (is_last and document.run is None and document.complete)


def _decided(loop: ReActLoop, reply: _Reply, entry: Entry) -> Iterator[Event]:
    events = loop.replied(reply.turn)
    if is_asked_to_close(entry):  # such a turn is no error: it came to nothing
        return (event for event in events if not isinstance(event, ParseError))
    return events


def _end(loop: ReActLoop, document: Document, number: int, *, answered: bool) -> Iterator[Event]:
    """How the run ended, as it was recorded; else with the answer its last turn gave."""
    ending = document.endings.get(number)
    if ending is None and not answered:
        return
    if not answered:
        loop.stop("max_iterations")  # for the summary; what really ended it is recorded
    end = loop.next(document.seconds)
    assert isinstance(end, Finished)
    if ending is not None:
        reason: Any = str(ending.get("stop_reason"))
        answered = reason in ("answer", "return_direct") or (answered and reason != "not_grounded")
        end = replace(
            end,
            output=ending.get("output"),
            answered=answered,
            summary=replace(end.summary, stop_reason=reason),
        )
    yield end


# -- observations ------------------------------------------------------------------------------------------------------


def _observed(loop: ReActLoop, reply: _Reply, results: Sequence[Entry]) -> Iterator[Event]:
    """What came of each action: recorded as such, else as the prompt that follows has it."""
    left = [entry for entry in results if entry.kind == "tool"]
    observations: list[Observation] = []
    for number, action in enumerate(_actions(reply.turn)):
        if (place := place_of(action, left)) is not None:
            observations.append(observation_in(left.pop(place)))
        elif number < len(reply.observations):
            observations.append(Observation(reply.observations[number]))
        else:
            return iter(())
    return loop.observed(observations) if observations else iter(())


def _actions(turn: Turn) -> tuple[Action, ...]:
    return turn.decision if isinstance(turn.decision, tuple) else ()


def _log(turn: Turn) -> str:
    """The text that stands in the prompts that follow."""
    actions = _actions(turn)
    text = actions[0].log if actions and actions[0].called is None else turn.text
    return text.strip() or turn.text.strip()


def _observations_in(following: Entry, log: str) -> list[str]:
    """What the model was told of its turn `log`: in messages of their own, or in the text of one."""
    messages = prompt_of(following)
    for place in reversed(range(len(messages))):
        role, text = messages[place]
        if role == "assistant" and text.strip().startswith(log):
            return [_without_label(text) for _, text in messages[place + 1 :]]
        start = text.rfind(log) if log else -1
        if start >= 0:
            after = text[start + len(log) :].lstrip().rpartition("\nThought:")[0]
            return [_without_label(after)] if after.startswith(_OBSERVATION) else []
    return []


def _without_label(text: str) -> str:
    return text.removeprefix(_OBSERVATION).removesuffix(CLOSING_NOTE)
