"""Plans a run's turns in the ReAct-JSON dialect: renders the prompt, asks the model, parses its text.

A planner serves one run.
"""

from __future__ import annotations

import logging
import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from agentkit.core.loop import ModelCall, Turn
from agentkit.errors import MalformedTurn
from agentkit.events import FinalAnswer, ModeFound, Step, Usage
from agentkit.models.backend import ChatRequest, Completion, Message
from agentkit.models.chat import ChatModel, estimated_usage
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.prompt import SCRATCHPAD, ChatPrompt
from agentkit.react_json.scratchpad import format_log_to_str, harmless_steps, observation_text, with_pictures
from agentkit.react_json.turn import Schemas
from agentkit.recorder import active

logger = logging.getLogger("agentkit")

STOP = ("\nObservation",)
HELD = "turns held to a schema"  # by what name a cassette remembers it; runs recorded before that were not
REFUSED = (400, 404, 405, 415, 422, 501)  # what servers answer to a request with a field that they cannot take
_INVENTED = re.compile(r"\nObservation\S*\s+\S")  # a stop string that a server left in its place is none

Grammar = Callable[[str, Sequence[Step]], str]
"""From the question and the steps so far, observations as text, to the grammar (llguidance Lark) of the next turn."""


class Planner(Protocol):
    """Plans the next turn: pieces of text as they arrive (or none), or how the model calls tools, then one `Turn`."""

    def plan(self, call: ModelCall) -> Iterator[str | ModeFound | Turn]: ...

    def aplan(self, call: ModelCall) -> AsyncIterator[str | ModeFound | Turn]: ...


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
        self, model: ChatModel, prompt: ChatPrompt, *, stream: bool = False, estimates: Estimates | None = None
    ) -> None:
        self._model = model
        self._prompt = prompt
        self._stream = stream
        self._estimates = estimates or Estimates()
        self._around: Callable[[Sequence[Message]], list[Message]] | None = None
        self._seen: Sequence[Step] | None = None
        self._read = 0
        self._log: list[Message] = []

    def plan(self, call: ModelCall) -> Iterator[str | Turn]:
        request = self._request(call)
        for piece in self._model.complete(request):
            yield piece if isinstance(piece, str) else self._turn(self._counted(piece, request), call)

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Turn]:
        request = self._request(call)
        async for piece in self._model.acomplete(request):
            yield piece if isinstance(piece, str) else self._turn(self._counted(piece, request), call)

    def _counted(self, completion: Completion, request: ChatRequest) -> Completion:
        """The completion with the tokens it used, where a budget needs them."""
        if request.token_budget is None:
            return completion
        usage = self._estimates.checked(completion.usage, estimated_usage(request, completion), self._model.model_id)
        return replace(completion, usage=usage)

    def _conversation(self, call: ModelCall) -> list[Message]:
        """The messages; the loop's own list of steps only grows, and by whole turns, so what was made is kept."""
        if self._around is None:
            self._around = self._prompt.around(call.inputs)
        if call.steps is not self._seen:
            self._seen, self._read, self._log = call.steps, 0, []
        self._log += self._written(call.steps[self._read :], call.first_step + self._read)
        self._read = len(call.steps)
        return self._around(self._log)

    @abstractmethod
    def _written(self, steps: Sequence[Step], first: int) -> Iterable[Message]:
        """The messages of steps; `first` is the number in the run of the first."""

    @abstractmethod
    def _request(self, call: ModelCall) -> ChatRequest: ...

    @abstractmethod
    def _turn(self, completion: Completion, call: ModelCall) -> Turn: ...


class ReactJsonPlanner(ModelPlanner):
    """Plans turns in the ReAct-JSON dialect. `prompt` has its tool fields filled in; `tools` are their schemas.

    `schema` is that of a turn, for a model that takes no grammar: a malformed turn is asked for again, held to it by
    the model's server, and so are the turns behind it, as long as the server keeps the schema.
    """

    def __init__(
        self,
        model: ChatModel,
        prompt: ChatPrompt,
        *,
        tools: Schemas | None = None,
        grammar: Grammar | None = None,
        schema: Mapping[str, Any] | None = None,
        stream: bool = False,
        estimates: Estimates | None = None,
        names: Mapping[str, str] = {},
    ) -> None:
        super().__init__(model, prompt, stream=stream, estimates=estimates)
        self._tools = tools
        self._names = names
        self._grammar = grammar
        self._schema = schema
        self._is_held = False  # to the schema

    def plan(self, call: ModelCall) -> Iterator[str | Turn]:
        was_held, malformed = self._is_held, None
        try:
            for piece in super().plan(call):
                if isinstance(piece, Turn) and self._is_held and not was_held:
                    malformed = piece
                else:
                    yield piece
            if malformed is not None:
                for piece in super().plan(call):
                    yield _instead_of(malformed, piece)
        except Exception as error:
            if not self._lets_go(error):
                raise
            if malformed is not None:
                yield malformed
            else:
                yield from super().plan(call)

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Turn]:
        was_held, malformed = self._is_held, None
        try:
            async for piece in super().aplan(call):
                if isinstance(piece, Turn) and self._is_held and not was_held:
                    malformed = piece
                else:
                    yield piece
            if malformed is not None:
                async for piece in super().aplan(call):
                    yield _instead_of(malformed, piece)
        except Exception as error:
            if not self._lets_go(error):
                raise
            if malformed is not None:
                yield malformed
            else:
                async for piece in super().aplan(call):
                    yield piece

    def _lets_go(self, error: Exception) -> bool:
        """Whether the schema is what was refused, so that turns are asked for without it."""
        was_held = self._is_held and status_of(error) in REFUSED
        if was_held:
            self._schema, self._is_held = None, False
        return was_held

    def _request(self, call: ModelCall) -> ChatRequest:
        grammar = None
        if self._grammar is not None:
            steps = [step._replace(observation=observation_text(*step)) for step in call.steps]
            grammar = self._grammar(str(call.inputs.get("input", "")), steps)
        return ChatRequest(
            messages=self._messages(call),
            stop=STOP,
            grammar=grammar,
            response_format=_as_format(self._schema) if self._is_held and self._schema is not None else None,
            token_budget=call.max_new_tokens,
            stream=self._stream,
        )

    def _messages(self, call: ModelCall) -> list[Message]:
        if self._prompt.keeps_messages:
            return self._conversation(call)
        values = {**call.inputs, SCRATCHPAD: format_log_to_str(harmless_steps(call.steps))}
        return [*self._prompt.render(values)]

    def _written(self, steps: Sequence[Step], first: int) -> Iterator[Message]:
        for action, observation in steps:
            yield {"role": "assistant", "content": action.log}
            text = f"Observation: {observation_text(action, observation)}"
            shown = [observation] if self._model.capabilities.images else []
            yield {"role": "user", "content": with_pictures(text, shown)}

    def _turn(self, completion: Completion, call: ModelCall) -> Turn:
        turn, can = turn_of(completion, self._tools), self._model.capabilities
        decision = turn.decision
        self._hold(completion, is_malformed=isinstance(decision, MalformedTurn))
        if isinstance(decision, FinalAnswer) and decision.output in can.refusals:
            return replace(turn, decision=replace(decision, declines=True))
        if self._names and isinstance(decision, tuple):
            called = tuple(replace(action, tool=self._names.get(action.tool, action.tool)) for action in decision)
            return replace(turn, decision=called)
        return turn

    def _hold(self, completion: Completion, *, is_malformed: bool) -> None:
        """Hold turns to the schema from a malformed one on, until one shows that the server does not keep it."""
        if self._schema is None or completion.finish_reason == "length":
            return
        if self._is_held:
            if not completion.text.lstrip().startswith("{"):
                self._schema, self._is_held = None, False
        elif is_malformed and (completion.text or completion.thinking):
            recorder = active()
            self._is_held = recorder is None or bool(recorder.remembered(HELD, lambda: True, default=False))


def _instead_of(malformed: Turn, piece: str | Turn) -> str | Turn:
    """A piece of the turn that stands for a malformed one, with what both used."""
    return piece if isinstance(piece, str) else replace(piece, usage=malformed.usage + piece.usage)


def _as_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "turn", "schema": schema}}


def _cut_off(usage: Usage) -> str:
    return f"cut off at {usage.completion_tokens} tokens" if usage.completion_tokens else "cut off at the token limit"


def turn_of(completion: Completion, tools: Schemas | None = None) -> Turn:
    """Parse a completion; what is wrong with it is part of the turn, for the loop to deal with."""
    text, thinking, usage = completion.text, completion.thinking, completion.usage
    behind_stop = len(_INVENTED.findall(completion.cut_off))
    is_cut_off = completion.finish_reason == "length"
    try:
        parsed = parse_turn(text, tools)
    except MalformedTurn as error:
        told = MalformedTurn(f"{error} The turn was {_cut_off(usage)}: write less.") if is_cut_off else error
        return Turn(told, text, thinking=thinking, invented=error.invented + behind_stop, usage=usage)
    if not isinstance(parsed.decision, FinalAnswer):
        return Turn((parsed.decision,), text, parsed.thought, thinking, parsed.invented + behind_stop, usage)
    if is_cut_off and not completion.cut_off and parsed.decision.log == text.rstrip():
        told = MalformedTurn(f"Invalid format: the answer was {_cut_off(usage)}. Answer more briefly.")
        return Turn(told, text, thinking=thinking, invented=behind_stop, usage=usage)
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
