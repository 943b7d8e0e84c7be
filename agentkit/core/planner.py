"""Plans a run's turns in the ReAct-JSON dialect: renders the prompt, asks the model, parses its text.

A planner serves one run.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Protocol

from agentkit.core.loop import ModelCall, Turn
from agentkit.errors import MalformedTurn
from agentkit.events import FinalAnswer, ModeFound, Step
from agentkit.models.backend import ChatRequest, Completion, Message
from agentkit.models.chat import ChatModel
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.prompt import SCRATCHPAD, Prompt
from agentkit.react_json.scratchpad import format_log_to_str, observation_text
from agentkit.react_json.turn import Schemas

STOP = ("\nObservation",)
_INVENTED = re.compile(r"\nObservation\S*\s+\S")  # a stop string that a server left in its place is none

Grammar = Callable[[str, Sequence[str]], str]
"""From the question and the observations so far to the grammar (llguidance Lark) the next turn is held to."""


class Planner(Protocol):
    """Plans the next turn: pieces of text as they arrive (or none), or how the model calls tools, then one `Turn`."""

    def plan(self, call: ModelCall) -> Iterator[str | ModeFound | Turn]: ...

    def aplan(self, call: ModelCall) -> AsyncIterator[str | ModeFound | Turn]: ...


class ModelPlanner(ABC):
    """Asks a model for each turn of a conversation: a prompt, and what the steps so far are in it.

    How a step is written, a request made and a completion read is a subclass's.
    """

    def __init__(self, model: ChatModel, prompt: Prompt, *, stream: bool = False) -> None:
        self._model = model
        self._prompt = prompt
        self._stream = stream
        self._frame: tuple[list[Message], list[Message]] | None = None
        self._seen: Sequence[Step] | None = None
        self._read = 0
        self._log: list[Message] = []

    def plan(self, call: ModelCall) -> Iterator[str | Turn]:
        for piece in self._model.complete(self._request(call)):
            yield piece if isinstance(piece, str) else self._turn(piece, call)

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Turn]:
        async for piece in self._model.acomplete(self._request(call)):
            yield piece if isinstance(piece, str) else self._turn(piece, call)

    def _conversation(self, call: ModelCall) -> list[Message]:
        """The messages; the loop's own list of steps only grows, and by whole turns, so what was made is kept."""
        if self._frame is None:
            self._frame = frame(self._prompt, call.inputs)
        if call.steps is not self._seen:
            self._seen, self._read, self._log = call.steps, 0, []
        self._log += self._written([*enumerate(call.steps[self._read :], call.first_step + self._read)])
        self._read = len(call.steps)
        head, tail = self._frame
        return [*head, *self._log, *tail]

    @abstractmethod
    def _written(self, steps: Sequence[tuple[int, Step]]) -> Iterable[Message]:
        """The messages of steps, each with its number in the run."""

    @abstractmethod
    def _request(self, call: ModelCall) -> ChatRequest: ...

    @abstractmethod
    def _turn(self, completion: Completion, call: ModelCall) -> Turn: ...


class ReactJsonPlanner(ModelPlanner):
    """Plans turns in the ReAct-JSON dialect. `prompt` has its tool fields filled in; `tools` are their schemas."""

    def __init__(
        self,
        model: ChatModel,
        prompt: Prompt,
        *,
        tools: Schemas | None = None,
        grammar: Grammar | None = None,
        stream: bool = False,
    ) -> None:
        super().__init__(model, prompt, stream=stream)
        self._tools = tools
        self._grammar = grammar

    def _request(self, call: ModelCall) -> ChatRequest:
        grammar = None
        if self._grammar is not None:
            grammar = self._grammar(str(call.inputs.get("input", "")), [observation_text(*step) for step in call.steps])
        return ChatRequest(
            messages=self._messages(call),
            stop=STOP,
            grammar=grammar,
            token_budget=call.max_new_tokens,
            stream=self._stream,
        )

    def _messages(self, call: ModelCall) -> list[Message]:
        if self._prompt.keeps_messages:
            return self._conversation(call)
        values = {**call.inputs, SCRATCHPAD: format_log_to_str(call.steps)}
        return [{**message} for message in self._prompt.render(values)]

    def _written(self, steps: Sequence[tuple[int, Step]]) -> Iterator[Message]:
        for _, (action, observation) in steps:
            yield {"role": "assistant", "content": action.log}
            yield {"role": "user", "content": f"Observation: {observation_text(action, observation)}"}

    def _turn(self, completion: Completion, call: ModelCall) -> Turn:
        return turn_of(completion, self._tools)


def frame(prompt: Prompt, inputs: Mapping[str, object]) -> tuple[list[Message], list[Message]]:
    """The messages before and after the steps, which are the same at every turn."""
    marker: Message = {"role": SCRATCHPAD, "content": ""}
    messages: list[Message] = [{**message} for message in prompt.render({**inputs, SCRATCHPAD: [marker]})]
    place = messages.index(marker)
    return messages[:place], messages[place + 1 :]


def turn_of(completion: Completion, tools: Schemas | None = None) -> Turn:
    """Parse a completion; what is wrong with it is part of the turn, for the loop to deal with."""
    text, thinking, usage = completion.text, completion.thinking, completion.usage
    behind_stop = len(_INVENTED.findall(completion.cut_off))
    try:
        parsed = parse_turn(text, tools)
        if isinstance(parsed.decision, FinalAnswer) and completion.finish_reason == "length":
            raise MalformedTurn("Invalid format: the answer was cut off at the token limit. Answer more briefly.")
    except MalformedTurn as error:
        return Turn(error, text, thinking=thinking, invented=error.invented + behind_stop, usage=usage)
    decided = parsed.decision if isinstance(parsed.decision, FinalAnswer) else (parsed.decision,)
    return Turn(decided, text, parsed.thought, thinking, parsed.invented + behind_stop, usage)
