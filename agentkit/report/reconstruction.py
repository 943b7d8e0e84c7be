"""The events of a recording that holds none: of formats 1 and 2, of vcrpy's own, and of models that a script asked.

They are read out of what was asked and replied. Where that says nothing of it, nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentkit.cassette.format.entries import Entry
from agentkit.cassette.format.events import Item, RecordedEvent
from agentkit.cassette.format.file import Document
from agentkit.cassette.recording import is_asked_to_close
from agentkit.cassette.replaying import result_of
from agentkit.core.loop import CLOSING_NOTE, Turn
from agentkit.core.native_planner import read_arguments
from agentkit.core.planner import STOP, turn_of
from agentkit.errors import MalformedTurn
from agentkit.events import (
    Action,
    ActionChosen,
    Event,
    FinalAnswer,
    Finished,
    Observed,
    ParseError,
    RunStarted,
    RunSummary,
    Thought,
    Usage,
)
from agentkit.models.backend import Completion
from agentkit.react_json.grounding import ungrounded
from agentkit.report.exchange import completion_of, observed_of, place_of, prompt_of

_OBSERVATION = "Observation: "


def with_events(entries: Sequence[Item], document: Document, number: int) -> list[Item]:
    """The interactions of one run, each followed by the events that it seems to have led to."""
    own = [entry for entry in entries if isinstance(entry, Entry)]
    events = _Reconstruction(own, document, number)
    return [RecordedEvent(item, number) if not isinstance(item, Entry) else item for item in events.items()]


@dataclass(frozen=True, slots=True)
class _Reply:
    """A turn of the model: where it stands, and what it decided."""

    place: int
    entry: Entry
    turn: Turn

    @property
    def actions(self) -> tuple[Action, ...]:
        """What the model chose to do."""
        return self.turn.decision if isinstance(self.turn.decision, tuple) else ()

    @property
    def log(self) -> str:
        """The text that stands in the prompts that follow."""
        text = self.actions[0].log if self.actions else self.turn.text
        return text.strip() or self.turn.text.strip()


class _Reconstruction:
    def __init__(self, entries: Sequence[Entry], document: Document, number: int) -> None:
        self._entries = entries
        self._document = document
        self._number = number
        completions = [(place, completion_of(entry)) for place, entry in enumerate(entries)]
        self._replies = [
            _Reply(place, entries[place], _turn_of(entries[place], completion))
            for place, completion in completions
            if completion is not None and not self._is_broken(place)
        ]

    def _is_broken(self, place: int) -> bool:
        """Whether a reply is not whole. One that its reader closed is, at a stop string; not where a recording ends."""
        response, is_last = self._entries[place].response, place == len(self._entries) - 1
        return "error" in response or (is_last and not self._document.complete and response.get("closed") is True)

    def items(self) -> Iterator[Entry | Event]:
        """Interactions and events in their order."""
        start, answer = 0, None
        replies = self._replies
        for reply, following in zip(replies, [*replies[1:], None][: len(replies)], strict=True):
            end = len(self._entries) if following is None else following.place
            yield from self._entries[start : reply.place + 1]
            observations = _observations_in(following.entry, reply.log) if following is not None else []
            turn, answer = reply.turn, self._answer(reply, observations)
            if turn.thought or turn.thinking:
                yield Thought(turn.thought, turn.thinking)
            if isinstance(turn.decision, MalformedTurn) and answer is None and not is_asked_to_close(reply.entry):
                yield ParseError(turn.text, observations[0] if observations else str(turn.decision))
            yield from map(ActionChosen, reply.actions)
            after = [entry for entry in self._entries[reply.place + 1 : end] if not prompt_of(entry)]
            yield from after
            yield from _observed(reply.actions, after, observations)
            start = reply.place + 1 + len(after)
        yield from self._entries[start:]
        if (finished := self._finished(answer)) is not None:
            yield RunStarted({"input": self._question()})
            yield finished

    def _answer(self, reply: _Reply, observations: Sequence[str]) -> Any:
        """The answer that a turn gives; of a model that was asked for no turn at all, its text."""
        decision = reply.turn.decision
        if isinstance(decision, FinalAnswer):
            return decision.output
        is_an_agents = set(STOP) <= set(reply.entry.body.get("stop") or ())
        is_last = reply is self._replies[-1]
        is_talk = not observations and (
            not is_an_agents or (is_last and self._document.run is None and self._document.complete)
        )
        return reply.turn.text if isinstance(decision, MalformedTurn) and is_talk else None

    def _question(self) -> str:
        if self._document.run is not None:
            return str(self._document.run.inputs.get("input", ""))
        first = prompt_of(self._replies[0].entry) if self._replies else []
        return next((text for role, text in reversed(first) if role == "user"), "")

    def _finished(self, answer: Any) -> Finished | None:
        """How the run ended, as it was recorded; else with the answer its last turn gave."""
        ending = self._document.endings.get(self._number)
        if ending is None and answer is None:
            return None
        reason: Any = "answer" if ending is None else str(ending.get("stop_reason"))
        answered = reason in ("answer", "return_direct") or (answer is not None and reason != "not_grounded")
        log = self._replies[-1].turn.text if self._replies and answer is not None else ""
        summary = RunSummary(
            stop_reason=reason,
            usage=sum((reply.turn.usage for reply in self._replies), Usage()),
            seconds=self._document.seconds,
            invented_observations=sum(reply.turn.invented for reply in self._replies),
            ungrounded=ungrounded(str(answer), self._question(), self._observations()) if answer is not None else (),
        )
        return Finished(answer if ending is None else ending.get("output"), answered, summary, log=log)

    def _observations(self) -> list[str]:
        return [str(result_of(entry)) for entry in self._entries if entry.kind == "tool"]


# -- turns -------------------------------------------------------------------------------------------------------------


def _turn_of(entry: Entry, completion: Completion) -> Turn:
    """What a reply comes to: in a model's own calls where it was given tools, else in the dialect."""
    if not (isinstance(entry.body, Mapping) and entry.body.get("tools")):
        return turn_of(completion)
    text, usage = completion.text.strip(), completion.usage
    if completion.tool_calls and completion.finish_reason != "length":
        actions = tuple(Action(call.name, _arguments(call)) for call in completion.tool_calls)
        return Turn(actions, text, text, completion.thinking, usage=usage)
    answer = text.removeprefix("Final Answer:").strip()
    if answer and completion.finish_reason != "length":
        return Turn(FinalAnswer(answer, text), text, thinking=completion.thinking, usage=usage)
    return Turn(MalformedTurn("This turn was cut off, or empty."), text, thinking=completion.thinking, usage=usage)


def _arguments(call: Any) -> Any:
    try:
        return read_arguments(call, None)
    except MalformedTurn:
        return call.arguments


# -- observations ------------------------------------------------------------------------------------------------------


def _observed(actions: Sequence[Action], after: Sequence[Entry], observations: Sequence[str]) -> Iterator[Event]:
    """What came of each action: recorded as such, else as the prompt that follows has it."""
    results = [entry for entry in after if entry.kind == "tool"]
    for number, action in enumerate(actions):
        if (place := place_of(action, results)) is not None:
            yield observed_of(action, results.pop(place))
        elif number < len(observations):
            yield Observed(action, observations[number])
        else:
            return


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
