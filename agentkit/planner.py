"""Plans a run's turns: renders the prompt, asks the model, parses its text. One planner per run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from agentkit.errors import MalformedTurn
from agentkit.events import Step, Usage
from agentkit.loop import ModelCall, Reply
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.prompt import SCRATCHPAD, Message, Prompt
from agentkit.react_json.scratchpad import format_log_to_str
from agentkit.react_json.turn import FinalAnswer

STOP = ("\nObservation",)

Grammar = Callable[[str, Sequence[str]], str]
"""From the question and the observations so far to the grammar (llguidance Lark) the next turn is held to."""


@dataclass(frozen=True, slots=True)
class TurnRequest:
    """What the model is asked: `messages` are in the model's own type (see `TurnModel.message`).

    `tools` are OpenAI function schemas, for a model that calls tools in its own syntax.
    """

    messages: Sequence[Any]
    stop: tuple[str, ...] = STOP
    grammar: str | None = None
    tools: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class NativeCall:
    """A tool call in the model's own syntax; `arguments` is the JSON text it wrote."""

    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Completion:
    """What the model said. `finish_reason` is "stop", or "length" when it was cut off at its token limit."""

    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    thinking: str = ""
    tool_calls: tuple[NativeCall, ...] = ()


class TurnModel(Protocol):
    """A chat model as the planner sees it: pieces of text as they arrive (or none), then the `Completion`."""

    def message(self, role: str, content: Any) -> Any: ...

    def complete(self, request: TurnRequest) -> Iterator[str | Completion]: ...

    def acomplete(self, request: TurnRequest) -> AsyncIterator[str | Completion]: ...


class ReactJsonPlanner:
    """Plans turns in the ReAct-JSON dialect. `prompt` has its tool fields filled in."""

    def __init__(self, model: TurnModel, prompt: Prompt, *, grammar: Grammar | None = None) -> None:
        self._model = model
        self._prompt = prompt
        self._grammar = grammar
        self._head: list[Any] | None = None
        self._tail: list[Any] = []
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
            grammar = self._grammar(str(call.inputs.get("input", "")), [str(step.observation) for step in call.steps])
        return TurnRequest(self._messages(call), grammar=grammar)

    def _messages(self, call: ModelCall) -> list[Any]:
        if not self._prompt.keeps_messages:
            values = {**call.inputs, SCRATCHPAD: format_log_to_str(call.steps)}
            return [self._own(message) for message in self._prompt.render(values)]
        if self._head is None:
            self._render_frame(call.inputs)
        assert self._head is not None
        return [*self._head, *self._step_messages(call.steps), *self._tail]

    def _render_frame(self, inputs: dict[str, Any]) -> None:
        """The messages before and after the steps, which are the same at every turn."""
        marker = Message(role=SCRATCHPAD, content="")
        frame = list(self._prompt.render({**inputs, SCRATCHPAD: [marker]}))
        place = frame.index(marker)
        self._head = [self._own(message) for message in frame[:place]]
        self._tail = [self._own(message) for message in frame[place + 1 :]]

    def _step_messages(self, steps: Sequence[Step]) -> list[Any]:
        """Two messages a step; the loop's own list only grows, so what was made for it is kept."""
        if steps is not self._seen:
            self._seen, self._log = steps, []
        for action, observation in steps[len(self._log) // 2 :]:
            self._log.append(self._model.message("assistant", action.log))
            self._log.append(self._model.message("user", f"Observation: {observation}"))
        return self._log

    def _own(self, message: Message) -> Any:
        return self._model.message(message["role"], message["content"])


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
