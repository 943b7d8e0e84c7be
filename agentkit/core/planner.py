"""Plans a run's turns: renders the prompt, asks the model, parses its text. One planner per run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentkit.core.loop import ModelCall, Reply
from agentkit.errors import MalformedTurn
from agentkit.events import FinalAnswer, Step
from agentkit.models.backend import Completion, NativeCall
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.prompt import SCRATCHPAD, Message, Prompt
from agentkit.react_json.scratchpad import format_log_to_str, shown

STOP = ("\nObservation",)

Grammar = Callable[[str, Sequence[str]], str]
"""From the question and the observations so far to the grammar (llguidance Lark) the next turn is held to."""


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What the model is asked: `messages` are in the model's own type (see `TurnModel.message`).

    `tools` are OpenAI function schemas, for a model that calls tools in its own syntax. `max_new_tokens` is what a
    budget leaves: it may shorten the reply, never lengthen it.
    """

    messages: Sequence[Any]
    stop: tuple[str, ...] = STOP
    grammar: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()
    max_new_tokens: int | None = None


class TurnModel(Protocol):
    """A chat model as the planner sees it: pieces of text as they arrive (or none), then the `Completion`.

    `message` makes a message of the model's own type: of role "assistant" with the tools it called, if any, and of
    role "tool" with the id and name of the call whose result it is.
    """

    def message(
        self, role: str, content: Any, *, calls: Sequence[NativeCall] = (), result_of: NativeCall | None = None
    ) -> Any: ...

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]: ...

    def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]: ...


class ReactJsonPlanner:
    """Plans turns in the ReAct-JSON dialect. `prompt` has its tool fields filled in."""

    def __init__(self, model: TurnModel, prompt: Prompt, *, grammar: Grammar | None = None) -> None:
        self._model = model
        self._prompt = prompt
        self._grammar = grammar
        self._frame: tuple[list[Any], list[Any]] | None = None
        self._seen: Sequence[Step] | None = None
        self._log: list[Any] = []

    def plan(self, call: ModelCall) -> Iterator[str | Reply]:
        for piece in self._model.complete(self._request(call)):
            yield piece if isinstance(piece, str) else read_completion(piece)

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Reply]:
        async for piece in self._model.acomplete(self._request(call)):
            yield piece if isinstance(piece, str) else read_completion(piece)

    def _request(self, call: ModelCall) -> TurnRequest:
        grammar = None
        if self._grammar is not None:
            grammar = self._grammar(str(call.inputs.get("input", "")), [shown(*step) for step in call.steps])
        return TurnRequest(self._messages(call), grammar=grammar, max_new_tokens=call.max_new_tokens)

    def _messages(self, call: ModelCall) -> list[Any]:
        if not self._prompt.keeps_messages:
            values = {**call.inputs, SCRATCHPAD: format_log_to_str(call.steps)}
            return [self._model.message(**message) for message in self._prompt.render(values)]
        if self._frame is None:
            self._frame = frame(self._prompt, call.inputs, self._model)
        head, tail = self._frame
        return [*head, *self._step_messages(call.steps), *tail]

    def _step_messages(self, steps: Sequence[Step]) -> list[Any]:
        """Two messages a step; the loop's own list only grows, so what was made for it is kept."""
        if steps is not self._seen:
            self._seen, self._log = steps, []
        for action, observation in steps[len(self._log) // 2 :]:
            self._log.append(self._model.message("assistant", action.log))
            self._log.append(self._model.message("user", f"Observation: {shown(action, observation)}"))
        return self._log


def frame(prompt: Prompt, inputs: Mapping[str, Any], model: TurnModel) -> tuple[list[Any], list[Any]]:
    """The messages before and after the steps, which are the same at every turn."""
    marker = Message(role=SCRATCHPAD, content="")
    messages = list(prompt.render({**inputs, SCRATCHPAD: [marker]}))
    place = messages.index(marker)
    head, tail = messages[:place], messages[place + 1 :]
    return [model.message(**message) for message in head], [model.message(**message) for message in tail]


def read_completion(completion: Completion) -> Reply:
    """Parse a completion; what is wrong with it is part of the reply, for the loop to deal with."""
    try:
        turn = parse_turn(completion.text)
        if isinstance(turn.decision, FinalAnswer) and completion.finish_reason == "length":
            raise MalformedTurn("Invalid format: the answer was cut off at the token limit. Answer more briefly.")
    except MalformedTurn as error:
        return Reply(error, completion.text, thinking=completion.thinking, usage=completion.usage)
    decided = turn.decision if isinstance(turn.decision, FinalAnswer) else (turn.decision,)
    return Reply(decided, completion.text, turn.thought, completion.thinking, turn.invented, completion.usage)
