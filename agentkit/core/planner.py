"""Plans a run's turns in the ReAct-JSON dialect: renders the prompt, asks the model, parses its text.

A planner serves one run.
"""

from __future__ import annotations

import json
import logging
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agentkit.core.growing_answer import GrowingAnswer
from agentkit.core.history import History
from agentkit.core.loop import ModelCall, Turn
from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import Action, FinalAnswer, ModeFound, PartialAnswer, Step, Usage
from agentkit.models.backend import ChatRequest, Completion, Message, ToolCallPiece
from agentkit.models.chat import ChatModel, estimated_usage
from agentkit.react_json.answer_type import AnswerType
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.prompt import HISTORY, SCRATCHPAD, ChatPrompt, with_answer_format
from agentkit.react_json.scratchpad import (
    OWN_WORDS,
    format_log_to_str,
    harmless_steps,
    observation_text,
    summary_text,
    with_pictures,
)
from agentkit.react_json.turn import Schemas
from agentkit.react_json.turn import Turn as ParsedTurn
from agentkit.react_json.turn_object import LABEL, turn_in
from agentkit.recorder import active
from agentkit.toolbox.calling import in_daemon_thread

logger = logging.getLogger("agentkit")

STOP = ("\nObservation",)
REFUSED = (400, 404, 405, 415, 422, 501)  # what servers answer to a request with a field that they cannot take
BROKE = (500,)  # what some answer instead; it may have been chance
CLOSES = (
    "closing turns only answer"  # by what name a cassette remembers that they are held to it; before, they were not
)
_INVENTED = re.compile(r"\nObservation\S*\s+\S")  # a stop string that a server left in its place is none


class Grammar(Protocol):
    """From the question and the steps so far, observations as text, to the grammar (llguidance Lark) of the next turn.

    One that `closes` the run has no action in it.
    """

    def __call__(self, question: str, steps: Sequence[Step], *, closes: bool = False) -> str: ...


Planned = str | ModeFound | PartialAnswer | Turn
"""A piece of the model's text, how it calls tools, its answer so far, or its turn."""


class Planner(Protocol):
    """Plans the next turn: pieces of it as they arrive (or none), then one `Turn`."""

    def plan(self, call: ModelCall) -> Iterator[Planned]: ...

    def aplan(self, call: ModelCall) -> AsyncIterator[Planned]: ...


@dataclass(frozen=True, slots=True)
class WantedAnswer:
    """An answer that is a value of this `type`; `note` is what the model is told of its form beside the prompt."""

    type: AnswerType
    note: str = ""


class Estimates:
    """Says once that a budget of tokens is held to an estimate, where a model does not say what it used."""

    def __init__(self) -> None:
        self._said = False

    def checked(self, stated: Usage, estimated: Usage, model_id: str) -> Usage:
        """The usage to count, which is what was `stated` where that is complete."""
        if estimated != stated and not self._said:
            self._said = True
            logger.warning(
                "%s does not say how many tokens it used; max_tokens is held to an estimate from the text", model_id
            )
        return estimated


class ModelPlanner(ABC):
    """Asks a model for each turn of a conversation: a prompt, and what the steps so far are in it.

    How a step is written, a request made and a completion read is a subclass's.
    """

    def __init__(
        self,
        model: ChatModel,
        prompt: ChatPrompt,
        *,
        stream: bool = False,
        estimates: Estimates | None = None,
        history: History | None = None,
        answer: WantedAnswer | None = None,
    ) -> None:
        self._answer = answer
        self._model = model
        self._prompt = prompt
        self._stream = stream
        self._history = history or History()
        self._earlier: list[Message] | None = None
        self._estimates = estimates or Estimates()
        self._around: Callable[[Sequence[Message]], list[Message]] | None = None
        self._seen: Sequence[Step] | None = None
        self._read = 0
        self._log: list[Message] = []

    def plan(self, call: ModelCall) -> Iterator[Planned]:
        request, growing = self._made(call), self._growing()
        for piece in self._model.complete(request):
            yield from self._planned(piece, request, call, growing)

    async def aplan(self, call: ModelCall) -> AsyncIterator[Planned]:
        request, growing = self._made(call), self._growing()
        async for piece in self._model.acomplete(request):
            for planned in self._planned(piece, request, call, growing):
                yield planned

    def _made(self, call: ModelCall) -> ChatRequest:
        request = self._request(call)
        return request if call.shortens else replace(request, shortens=False)

    def _planned(
        self,
        piece: str | ToolCallPiece | Completion,
        request: ChatRequest,
        call: ModelCall,
        growing: GrowingAnswer | None,
    ) -> Iterator[Planned]:
        if isinstance(piece, Completion):
            turn = self._turn(self._counted(piece, request), call)
            yield replace(turn, dropped=piece.dropped) if piece.dropped else turn
            return
        if isinstance(piece, str):
            yield piece
        if growing is not None:
            yield from growing.feed(piece)

    def _closes(self, call: ModelCall) -> bool:
        """Whether the turn is held to a final answer."""
        recorder = active() if call.closing else None
        if recorder is None:
            return call.closing
        return recorder.remembered(CLOSES, lambda: True, default=False) is True

    def _growing(self) -> GrowingAnswer | None:
        """What reads the answer out of a turn as it arrives, where it is a value."""
        return GrowingAnswer() if self._answer is not None else None

    def _asked(self, messages: Sequence[Message]) -> Sequence[Message]:
        """The messages with what the model is told of the answer's form."""
        return with_answer_format(messages, self._answer.note) if self._answer and self._answer.note else messages

    def _counted(self, completion: Completion, request: ChatRequest) -> Completion:
        """The completion with the tokens it used, where a budget needs them."""
        if request.token_budget is None:
            return completion
        usage = self._estimates.checked(completion.usage, estimated_usage(request, completion), self._model.model_id)
        return replace(completion, usage=usage)

    def _conversation(self, call: ModelCall) -> list[Message]:
        """The messages; the loop's own list of steps only grows, and by whole turns, so what was made is kept."""
        if self._around is None:
            self._around = self._prompt.around(self._values(call))
        if call.steps is not self._seen:
            self._seen, self._read, self._log = call.steps, 0, []
            if call.summary:
                self._log.append({"role": "user", "content": summary_text(call.summary, call.first_step)})
        self._log += self._written(call.steps[self._read :], call.first_step + self._read)
        self._read = len(call.steps)
        return self._around(self._log)

    def _values(self, call: ModelCall) -> Mapping[str, Any]:
        """What the prompt is filled with; raises `ConfigurationError` where it has no place for earlier turns."""
        if not self._history:
            return call.inputs
        if HISTORY not in self._prompt.fields:
            raise ConfigurationError(
                f"prompt {self._prompt.name}: no place for the earlier turns of a session; add a line "
                f"[messages {HISTORY}?]"
            )
        if self._earlier is None:
            self._earlier = [*self._earlier_messages(call.inputs)]
        return {**call.inputs, HISTORY: [*(call.inputs.get(HISTORY) or ()), *self._earlier]}

    def _earlier_messages(self, inputs: Mapping[str, Any]) -> Iterator[Message]:
        """The earlier turns that the model is told of."""
        history, place = self._history, 0
        for number, exchange in enumerate(history.exchanges):
            if number >= history.told_from:
                steps = exchange.steps if number >= history.shown_from else ()
                yield from self._told({**inputs, "input": exchange.question}, steps, place)
                yield {"role": "assistant", "content": exchange.log or exchange.answer}
            place += len(exchange.steps)

    def _told(self, values: Mapping[str, Any], steps: Sequence[Step], first: int) -> Iterable[Message]:
        """An earlier question with its steps, as it stood in its own run: behind the place of what came before."""
        behind = {"role": "user", "content": "\0"}
        messages = [*self._filled({**values, HISTORY: [behind]}, steps, first)]
        return messages[next(at for at, one in enumerate(messages, 1) if one["content"] == behind["content"]) :]

    def _filled(self, values: Mapping[str, Any], steps: Sequence[Step], first: int) -> Iterable[Message]:
        """The prompt with steps."""
        return self._prompt.around(values)([*self._written(steps, first)])

    @abstractmethod
    def _written(self, steps: Sequence[Step], first: int) -> Iterable[Message]:
        """The messages of steps; `first` is the number in the run of the first."""

    @abstractmethod
    def _request(self, call: ModelCall) -> ChatRequest: ...

    @abstractmethod
    def _turn(self, completion: Completion, call: ModelCall) -> Turn: ...


class TurnSchema(Protocol):
    """The JSON schema of a run's turns, and what is known of whether the model's server keeps one."""

    @property
    def schema(self) -> Mapping[str, Any]: ...

    @property
    def closing(self) -> Mapping[str, Any]:
        """The same without actions, of a turn that closes the run."""
        ...

    def may_be_kept(self) -> bool:
        """Whether turns are asked for by it: unless it is known that the server keeps none. May block."""
        ...

    def learn(self, is_kept: bool, *, is_sure: bool = True) -> None:
        """A reply showed it, or a refusal; unless it `is_sure`, that may have been chance."""
        ...


class ReactJsonPlanner(ModelPlanner):
    """Plans turns in the ReAct-JSON dialect. `prompt` has its tool fields filled in; `tools` are their schemas.

    `schema` is for a model that takes no grammar: its server is asked to hold turns to it, from the first one on. One
    that ignores it answers in the dialect, and is not asked again in this run, nor is one that refuses it.
    """

    def __init__(
        self,
        model: ChatModel,
        prompt: ChatPrompt,
        *,
        tools: Schemas | None = None,
        grammar: Grammar | None = None,
        schema: TurnSchema | None = None,
        stream: bool = False,
        estimates: Estimates | None = None,
        names: Mapping[str, str] = {},
        history: History | None = None,
        answer: WantedAnswer | None = None,
    ) -> None:
        super().__init__(model, prompt, stream=stream, estimates=estimates, history=history, answer=answer)
        self._tools = tools
        self._names = names
        self._grammar = grammar
        self._schema = schema
        self._is_held: bool | None = None if schema else False  # to the schema

    def plan(self, call: ModelCall) -> Iterator[Planned]:
        if self._is_held is None and self._schema is not None:
            self._is_held = self._schema.may_be_kept()
        yield from super().plan(call)

    async def aplan(self, call: ModelCall) -> AsyncIterator[Planned]:
        if self._is_held is None and self._schema is not None:
            import asyncio

            self._is_held = await asyncio.wrap_future(in_daemon_thread(self._schema.may_be_kept))
        async for piece in super().aplan(call):
            yield piece

    def _learn(self, completion: Completion) -> None:
        """Whether the server keeps the schema, as far as the reply says."""
        is_kept = _keeps_schema(completion)
        if self._schema is None or not self._is_held or is_kept is None:
            return
        self._is_held = is_kept
        is_chance = completion.schema_use == "failed" or completion.turn is not None  # it may have been cut off
        self._schema.learn(is_kept, is_sure=is_kept or not is_chance)

    def _request(self, call: ModelCall) -> ChatRequest:
        grammar, closes = None, self._closes(call)
        if self._grammar is not None:
            steps = [step._replace(observation=observation_text(*step)) for step in _with_summary(call)]
            grammar = self._grammar(str(call.inputs.get("input", "")), steps, closes=closes)
        schema = self._schema if self._is_held else None
        return ChatRequest(
            messages=self._asked(self._messages(call)),
            stop=STOP,
            grammar=grammar,
            turn_schema=None if schema is None else schema.closing if closes else schema.schema,
            holds_answer=self._answer is not None,
            token_budget=call.max_new_tokens,
            stream=self._stream,
        )

    def _messages(self, call: ModelCall) -> list[Message]:
        if self._prompt.keeps_messages:
            return self._conversation(call)
        return [*self._filled(self._values(call), _with_summary(call), call.first_step)]

    def _filled(self, values: Mapping[str, Any], steps: Sequence[Step], first: int) -> Iterable[Message]:
        if self._prompt.keeps_messages:
            return super()._filled(values, steps, first)
        return self._prompt.render({**values, SCRATCHPAD: format_log_to_str(harmless_steps(steps))})

    def _written(self, steps: Sequence[Step], first: int) -> Iterator[Message]:
        for action, observation in steps:
            yield {"role": "assistant", "content": action.log}
            text = f"Observation: {observation_text(action, observation)}"
            shown = [observation] if self._model.capabilities.images else []
            yield {"role": "user", "content": with_pictures(text, shown)}

    def _turn(self, completion: Completion, call: ModelCall) -> Turn:
        has_label = bool(call.steps) and not self._prompt.keeps_messages
        wanted = self._answer.type if self._answer is not None else None
        turn = turn_of(completion, self._tools, label="" if has_label else LABEL, answer=wanted)
        can = self._model.capabilities
        decision = turn.decision
        self._learn(completion)
        if isinstance(decision, FinalAnswer) and wanted is None and decision.output in can.refusals:
            return replace(turn, decision=replace(decision, declines=True))
        if self._names and isinstance(decision, tuple):
            called = tuple(replace(action, tool=self._names.get(action.tool, action.tool)) for action in decision)
            return replace(turn, decision=called)
        return turn


def _with_summary(call: ModelCall) -> Sequence[Step]:
    """The steps, before them what stands in the place of those that are no longer shown."""
    if not call.summary:
        return call.steps
    return [
        Step(Action(OWN_WORDS, "", "I look at my notes."), summary_text(call.summary, call.first_step)),
        *call.steps,
    ]


def _keeps_schema(completion: Completion) -> bool | None:
    """Whether a reply was held to the schema; None where none was sent, or its end would have told."""
    if completion.schema_use != "asked":
        return False if completion.schema_use else None
    if isinstance(completion.turn, Mapping):
        return True
    is_cut_off = completion.is_cut_off
    return None if is_cut_off and (completion.thinking or completion.turn is not None) else False


def _cut_off(completion: Completion) -> str:
    usage = completion.usage
    if completion.finish_reason != "length":
        return f"broken off ({completion.finish_reason})"
    return f"cut off at {usage.completion_tokens} tokens" if usage.completion_tokens else "cut off at the token limit"


def turn_of(
    completion: Completion, tools: Schemas | None = None, *, label: str = LABEL, answer: AnswerType | None = None
) -> Turn:
    """Parse a completion; what is wrong with it is part of the turn, for the loop to deal with.

    The text of a turn that came as an object begins with `label`. A final answer is read as an `answer` of that type.
    """
    text, thinking, usage = completion.text, completion.thinking, completion.usage
    parsed: ParsedTurn | None = None
    behind_stop = len(_INVENTED.findall(completion.cut_off))
    is_cut_off = completion.is_cut_off
    try:
        if isinstance(completion.turn, Mapping):
            parsed = turn_in(completion.turn, tools, label=label, is_typed=answer is not None)
            text = parsed.decision.log if parsed else json.dumps(completion.turn, ensure_ascii=False)
        elif completion.turn is not None:
            text = completion.turn
        is_whole = parsed is not None  # an object that is complete was not cut off
        typed = answer.turn(text) if answer is not None and parsed is None else None
        parsed = parsed or typed or parse_turn(text, tools)
    except MalformedTurn as error:
        told = MalformedTurn(f"{error} The turn was {_cut_off(completion)}: write less.") if is_cut_off else error
        return Turn(told, error.text or text, thinking=thinking, invented=error.invented + behind_stop, usage=usage)
    if not isinstance(parsed.decision, FinalAnswer):
        return Turn((parsed.decision,), text, parsed.thought, thinking, parsed.invented + behind_stop, usage)
    if is_cut_off and not is_whole and not completion.cut_off and parsed.decision.log == text.rstrip():
        told = MalformedTurn(f"Invalid format: the answer was {_cut_off(completion)}. Answer more briefly.")
        return Turn(told, text, thinking=thinking, invented=behind_stop, usage=usage)
    if answer is not None and typed is None:
        try:
            final = answer.final(parsed.decision)
        except MalformedTurn as error:
            return Turn(error, text, parsed.thought, thinking, parsed.invented + behind_stop, usage)
        return Turn(final, text, parsed.thought, thinking, parsed.invented + behind_stop, usage)
    return Turn(parsed.decision, text, parsed.thought, thinking, parsed.invented + behind_stop, usage)


def status_of(error: BaseException | None) -> int | None:
    """The HTTP status behind an error, whichever library raised it."""
    while error is not None:
        for holder in (error, getattr(error, "response", None)):
            for name in ("status", "status_code"):
                if isinstance(status := getattr(holder, name, None), int):
                    return status
        error = error.__cause__ or error.__context__
    return None
