"""Plans a run's turns for a model that calls tools in its own syntax. One planner per run."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator, Sequence
from itertools import groupby
from typing import Any

from agentkit.core.loop import MALFORMED, ModelCall, Reply
from agentkit.core.native_functions import Function, read_arguments
from agentkit.core.planner import TurnModel, TurnRequest, frame
from agentkit.errors import MalformedTurn
from agentkit.events import Action, Called, FinalAnswer, Step, ToolInput
from agentkit.models.backend import Completion, NativeCall
from agentkit.react_json.prompt import Prompt
from agentkit.react_json.scratchpad import shown

PROMPT = Prompt.parse(
    """[system]
You answer questions with the help of tools. Call a tool whenever it can find out or calculate something that the answer needs; do not guess. Call several at once only where none needs what another gives. When you know the answer, write it without calling a tool: the answer to the question, and nothing else.
[human]
{input}
[messages agent_scratchpad]""",  # noqa: E501
    name="tools",
)
MADE_UP = 9  # the length of ids for calls read out of text: random, so that no recorded run would be the same again
LABEL = "Final Answer:"  # which models write out of habit


class NativePlanner:
    """Plans turns of native calls. What a model called comes back to it as it was: one message a turn, with ids."""

    def __init__(self, model: TurnModel, functions: Sequence[Function], prompt: Prompt = PROMPT) -> None:
        self._model = model
        self._prompt = prompt
        self._functions = {function.name: function for function in functions}
        self._by_tool = {function.tool: function for function in functions}
        self._schemas = tuple(function.as_openai() for function in functions)
        self._frame: tuple[list[Any], list[Any]] | None = None
        self._seen: Sequence[Step] | None = None
        self._read = 0
        self._log: list[Any] = []

    def plan(self, call: ModelCall) -> Iterator[str | Reply]:
        for piece in self._model.complete(self._request(call)):
            yield piece if isinstance(piece, str) else self._reply(piece, call)

    async def aplan(self, call: ModelCall) -> AsyncIterator[str | Reply]:
        async for piece in self._model.acomplete(self._request(call)):
            yield piece if isinstance(piece, str) else self._reply(piece, call)

    # -- what the model is asked -----------------------------------------------------------------------------------

    def _request(self, call: ModelCall) -> TurnRequest:
        if self._frame is None:
            self._frame = frame(self._prompt, call.inputs, self._model)
        head, tail = self._frame
        messages = [*head, *self._step_messages(call), *tail]
        return TurnRequest(messages, stop=(), tools=self._schemas, max_new_tokens=call.max_new_tokens)

    def _step_messages(self, call: ModelCall) -> list[Any]:
        """The steps' messages; the loop's own list only grows, and by whole turns, so what was made is kept."""
        if call.steps is not self._seen:
            self._seen, self._read, self._log = call.steps, 0, []
        new = [(number, call.steps[number]) for number in range(self._read, len(call.steps))]
        for _, turn in groupby(new, key=lambda one: one[1].action.called.turn if one[1].action.called else -1 - one[0]):
            self._log += self._turn_messages([(call.first_step + number, step) for number, step in turn])
        self._read = len(call.steps)
        return self._log

    def _turn_messages(self, turn: list[tuple[int, Step]]) -> Iterator[Any]:
        action, observation = turn[0][1]
        if action.tool == MALFORMED:
            if action.log:
                yield self._model.message("assistant", action.log)
            yield self._model.message("user", str(observation))
            return
        calls = [self._call(step.action, number) for number, step in turn]
        yield self._model.message("assistant", action.called.text if action.called else "", calls=calls)
        for call, (_, step) in zip(calls, turn, strict=True):
            yield self._model.message("tool", shown(*step), result_of=call)

    def _call(self, action: Action, number: int) -> NativeCall:
        """The call that an action came from; made up for an action from elsewhere."""
        function = self._by_tool.get(action.tool)
        given: ToolInput = action.tool_input
        arguments = given if isinstance(given, dict) else {"input": given}
        return NativeCall(
            action.called.id if action.called else _id(number, 0),
            function.name if function else action.tool,
            json.dumps(arguments, ensure_ascii=False),
        )

    # -- what it says ----------------------------------------------------------------------------------------------

    def _reply(self, completion: Completion, call: ModelCall) -> Reply:
        text, thinking, usage = completion.text.strip(), completion.thinking, completion.usage
        try:
            if completion.finish_reason == "length":  # clients mend what is cut off: half a call would look whole
                raise MalformedTurn("Your turn was cut off at the token limit; nothing was called. Be more brief.")
            if completion.tool_calls:
                actions = self._actions(completion.tool_calls, text, turn=call.first_step + len(call.steps))
                return Reply(actions, text, text, thinking, usage=usage)
            return Reply(_answer(text), text, thinking=thinking, usage=usage)
        except MalformedTurn as error:
            calls = [f"{one.name}({one.arguments})" for one in completion.tool_calls]
            return Reply(error, "\n".join(filter(None, [text, *calls])), thinking=thinking, usage=usage)

    def _actions(self, calls: Sequence[NativeCall], text: str, *, turn: int) -> tuple[Action, ...]:
        """All calls or none: one that cannot be read may be what the others were for."""
        ids = [call.id for call in calls]
        if len(set(ids)) < len(ids) or any(len(id_) in (0, MADE_UP) for id_ in ids):
            ids = [_id(turn, place) for place in range(len(calls))]
        return tuple(self._action(call, Called(id_, turn, text)) for call, id_ in zip(calls, ids, strict=True))

    def _action(self, call: NativeCall, called: Called) -> Action:
        function = self._functions.get(call.name)
        arguments = read_arguments(call, function)
        tool, tool_input = (function.tool, function.input_of(arguments)) if function else (call.name, arguments)
        return Action(tool, tool_input, _in_dialect(called.text, tool, tool_input), called)


def _answer(text: str) -> FinalAnswer:
    if not (answer := text.removeprefix(LABEL).strip()):
        raise MalformedTurn("You said nothing. Call a tool, or write the answer.")
    return FinalAnswer(answer, text)


def _in_dialect(text: str, tool: str, tool_input: ToolInput) -> str:
    """The call as a turn of ReAct-JSON: for people who read the log, and for a run that goes on in that mode."""
    thought = f"Thought: {text}\n" if text else ""
    call = json.dumps({"action": tool, "action_input": tool_input}, ensure_ascii=False)
    return f"{thought}Action:\n```json\n{call}\n```"


def _id(step: int, place: int) -> str:
    """Nine letters and digits, which is what the strictest chat template (Mistral's) takes."""
    return f"c{step:05d}{place:03d}"
