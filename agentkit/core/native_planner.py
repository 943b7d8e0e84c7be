"""Plans a run's turns for a model that calls tools in its own syntax: tools as functions, calls back as actions.

An answer that is a value is a call, too: of a function that is offered beside the tools, whose parameters are its
schema. A `response_format` beside tools is what many servers refuse, or take for a reason to call none of them. Where
the model writes the answer as text, that is read; where it does not fit, a call is required of the next turn, as far as
the server takes that. A planner serves one run.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentkit.core.growing_answer import GrowingAnswer
from agentkit.core.history import History
from agentkit.core.loop import MALFORMED, ModelCall, Turn
from agentkit.core.model_view import turns_of
from agentkit.core.planner import BROKE, REFUSED, Estimates, ModelPlanner, Planned, WantedAnswer, status_of
from agentkit.errors import MalformedTurn, UnfitAnswer
from agentkit.events import Action, Called, FinalAnswer, Step, ToolInput
from agentkit.models.backend import ChatRequest, Completion, Message, NativeCall
from agentkit.models.chat import ChatModel
from agentkit.models.tool_calls import holds_unread_call
from agentkit.react_json.answer_type import AnswerType, Fit, rebuilt
from agentkit.react_json.lenient_json import BrokenJson, read_json
from agentkit.react_json.parser import parse_turn
from agentkit.react_json.prompt import ChatPrompt, Prompt
from agentkit.react_json.scratchpad import observation_text, with_pictures
from agentkit.react_json.turn import Turn as ParsedTurn
from agentkit.tool import Tool

PROMPT = Prompt.parse(
    """[system]
You answer questions with the help of tools. Call a tool whenever it can find out or calculate something that the answer needs; do not guess. Call several at once only where none needs what another gives. When you know the answer, write it without calling a tool: the answer to the question, and nothing else.
[messages chat_history?]
[human]
{input}
[messages agent_scratchpad]""",  # noqa: E501
    name="tools",
)
TYPED_PROMPT = Prompt.parse(
    """[system]
You answer questions with the help of tools. Call a tool whenever it can find out or calculate something that the answer needs; do not guess. Call several at once only where none needs what another gives.
[messages chat_history?]
[human]
{input}
[messages agent_scratchpad]""",  # noqa: E501
    name="tools",
)
FINAL_ANSWER = "final_answer"  # no tool can have this name
WRAPPER = "answer"  # the only argument, where an answer is no object
MADE_UP = 9  # the length of ids for calls read out of text: random, so that no recorded run would be the same again
LABEL = "Final Answer:"  # which models write out of habit
ONE_STRING = {"type": "object", "properties": {"input": {"type": "string"}}, "required": ["input"]}
_MAY_CALL = re.compile(r"[{<\[(]")
_LABELLED = re.compile(r"\s*(?:Thought|Action)\s*:")
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9_-]")


class NativePlanner(ModelPlanner):
    """Plans turns of native calls. What a model called comes back to it as it was: one message a turn, with ids."""

    def __init__(
        self,
        model: ChatModel,
        functions: Sequence[Function],
        prompt: ChatPrompt = PROMPT,
        *,
        stream: bool = False,
        estimates: Estimates | None = None,
        history: History | None = None,
        answer: WantedAnswer | None = None,
    ) -> None:
        super().__init__(model, prompt, stream=stream, estimates=estimates, history=history, answer=answer)
        self._final = None if answer is None else AnswerFunction(answer.type)
        self._functions = {function.name: function for function in functions}
        self._by_tool = {function.tool.name: function for function in functions}
        self._may_choose = True
        offered: list[Function | AnswerFunction] = [*functions, *([self._final] if self._final else [])]
        self._schemas = tuple(function.as_openai() for function in offered)
        self._names = [function.name for function in offered]

    # -- what the model is asked -----------------------------------------------------------------------------------

    def plan(self, call: ModelCall) -> Iterator[Planned]:
        try:
            yield from super().plan(call)
        except Exception as error:
            if not self._lets_go(error, call):
                raise
            yield from super().plan(call)

    async def aplan(self, call: ModelCall) -> AsyncIterator[Planned]:
        try:
            async for piece in super().aplan(call):
                yield piece
        except Exception as error:
            if not self._lets_go(error, call):
                raise
            async for piece in super().aplan(call):
                yield piece

    def _lets_go(self, error: Exception, call: ModelCall) -> bool:
        """Whether it may be the choice of a call which the server refused: it is asked without from here on."""
        has_choice = self._choice(call, closes=self._closes(call)) is not None
        chose = has_choice and not self._model.capabilities.in_process
        self._may_choose = self._may_choose and not (chose and status_of(error) in REFUSED + BROKE)
        return chose and not self._may_choose

    def _choice(self, call: ModelCall, *, closes: bool) -> str | None:
        """What a turn may call: in one that closes the run only what gives an answer, where that is a call."""
        if closes and self._final is None:
            return "none" if self._may_choose else None
        return "required" if self._must_call(call) else None

    def _must_call(self, call: ModelCall) -> bool:
        """Whether a turn is to be a call: any, where a grammar holds that; else one behind a misfit, and the last."""
        if self._final is None:
            return False
        is_told = bool(call.steps) and call.steps[-1].action.tool == MALFORMED
        is_last_chance = is_told or self._closes(call)
        return self._model.capabilities.in_process or (is_last_chance and self._may_choose)

    def _request(self, call: ModelCall) -> ChatRequest:
        closes = self._closes(call)
        return ChatRequest(
            messages=self._asked(self._conversation(call)),
            tools=self._schemas[-1:] if closes and self._final else self._schemas,
            tool_choice=self._choice(call, closes=closes),
            holds_answer=self._final is not None,
            token_budget=call.max_new_tokens,
            stream=self._stream,
        )

    def _growing(self) -> GrowingAnswer | None:
        return None if self._final is None else GrowingAnswer(call=FINAL_ANSWER, wrapper=self._final.wrapper)

    def _written(self, steps: Sequence[Step], first: int) -> Iterator[Message]:
        for number, turn in turns_of(steps, first):
            yield from self._turn_messages(turn, number)

    def _turn_messages(self, turn: Sequence[Step], first: int) -> Iterator[Message]:
        action, observation = turn[0]
        if action.tool == MALFORMED:
            if action.log:
                yield {"role": "assistant", "content": action.log}
            yield {"role": "user", "content": str(observation)}
            return
        calls = [self._call(step.action, number) for number, step in enumerate(turn, first)]
        # in a run that goes on with another model, a step may hold a thought that its server would not take
        thought = action.called.thinking if action.called and self._model.capabilities.in_process else ""
        yield {
            "role": "assistant",
            "content": action.called.text if action.called else "",
            **({"reasoning_content": thought} if thought else {}),
            "tool_calls": [call.as_openai() for call in calls],
        }
        for call, step in zip(calls, turn, strict=True):
            yield {"role": "tool", "content": observation_text(*step), "tool_call_id": call.id, "name": call.name}
        if self._model.capabilities.images:  # which most servers take in a user's message alone
            content = with_pictures("What the tools gave holds:", [step.observation for step in turn])
            if not isinstance(content, str):
                yield {"role": "user", "content": content}

    def _call(self, action: Action, number: int) -> NativeCall:
        """The call that an action came from; made up for an action from elsewhere."""
        function = self._by_tool.get(action.tool)
        given: ToolInput = action.tool_input
        parameters = function.parameters.get("properties", {}) if function else {}
        only = next(iter(parameters)) if len(parameters) == 1 else "input"
        arguments = given if isinstance(given, dict) else {only: given}
        return NativeCall(
            action.called.id if action.called else _id(number, 0),
            function.name if function else action.tool,
            json.dumps(arguments),  # as clients write it, which is what recorded requests hold
            action.called.provider_fields if action.called else {},
        )

    # -- what it says ----------------------------------------------------------------------------------------------

    def _turn(self, completion: Completion, call: ModelCall) -> Turn:
        text, thinking, usage = completion.text.strip(), completion.thinking, completion.usage
        try:
            if completion.is_cut_off:  # clients mend what is cut off: half a call would look whole
                raise MalformedTurn(_broken_off(completion.finish_reason))
            is_unread = not text.startswith(LABEL) and holds_unread_call(text, self._names)
            answered = self._answered(completion, self._final, is_unread) if self._final else None
            if answered is not None:
                return answered
            if completion.tool_calls and not is_unread:
                first = self._place(call)
                shown = thinking if self._model.capabilities.in_process else ""  # by templates; not all servers take it
                actions = self._actions(completion.tool_calls, text, turn=first, thinking=shown)
                return Turn(actions, text, text, thinking, usage=usage)
            if not completion.tool_calls and (turn := self._in_dialect(text)) is not None:
                if isinstance(turn.decision, FinalAnswer):
                    return Turn(turn.decision, text, turn.thought, thinking, usage=usage)
                written = replace(self._call(turn.decision, 0), id="")
                actions = self._actions([written], turn.thought, turn=self._place(call))
                return Turn(actions, text, turn.thought, thinking, usage=usage)
            if is_unread:
                raise MalformedTurn("Your tool call could not be read; nothing was called. Write it again, whole.")
            final = _answer(text)
            if self._final is not None:
                final = self._final.final(final)
            return Turn(final, text, thinking=thinking, usage=usage)
        except MalformedTurn as error:
            calls = [f"{one.name}({one.arguments})" for one in completion.tool_calls]
            return Turn(error, "\n".join(filter(None, [text, *calls])), thinking=thinking, usage=usage)

    def _place(self, call: ModelCall) -> int:
        """The number of the next step in the whole conversation: no id of a call stands in it twice."""
        return self._history.steps + call.first_step + len(call.steps)

    def _answered(self, completion: Completion, final: AnswerFunction, is_unread: bool) -> Turn | None:
        """The turn that gives the answer: by a call of its function alone, or by text that is nothing else."""
        given = [call for call in completion.tool_calls if call.name == FINAL_ANSWER]
        if not given:
            is_text = bool(completion.text.strip()) and not completion.tool_calls and not is_unread
            return final.turn(completion) if is_text else None
        if len({call.arguments for call in given}) > 1 or len(given) < len(completion.tool_calls):
            raise MalformedTurn(
                f"{FINAL_ANSWER} stood beside other calls; nothing was called. Call tools first, and {FINAL_ANSWER} "
                "alone when you know what they give."
            )
        try:
            value = _value(given[0].arguments.strip())
        except BrokenJson as broken:
            raise MalformedTurn(f"Invalid call of {FINAL_ANSWER}: its arguments' JSON {broken}. {CALL_AGAIN}") from None
        answer = final.fit_of(value)
        written = json.dumps(answer.value, ensure_ascii=False)
        text = "\n".join(filter(None, [completion.text.strip(), f"{FINAL_ANSWER}({written})"]))
        thought = completion.text.strip()
        thinking, usage = completion.thinking, completion.usage
        decision = FinalAnswer(answer.value, written, made=answer.made)
        return Turn(decision, text, thought, thinking, usage=usage, is_call=True)

    def _in_dialect(self, text: str) -> ParsedTurn | None:
        """What a reply without calls is as the dialect reads it: a call of one of these tools, or a labelled answer.

        In a fence behind words a call is an example, which an answer may hold.
        """
        labelled = _LABELLED.match(text) is not None
        if not labelled and not _MAY_CALL.search(text):
            return None
        try:
            turn = parse_turn(text, {name: function.parameters for name, function in self._functions.items()})
        except MalformedTurn:
            return None
        if isinstance(turn.decision, FinalAnswer):
            if self._final is not None:
                return replace(turn, decision=self._final.final(turn.decision))
            return turn if labelled else None
        is_a_tools = turn.decision.tool in self._functions or turn.decision.tool in self._by_tool
        is_example = bool(turn.thought) and "```" in text and not labelled
        return turn if is_a_tools and not is_example else None

    def _actions(self, calls: Sequence[NativeCall], text: str, *, turn: int, thinking: str = "") -> tuple[Action, ...]:
        """All calls or none: one that cannot be read may be what the others were for."""
        if not all(call.name for call in calls):
            raise MalformedTurn("Your tool call came in pieces that do not fit; nothing was called. Call again.")
        ids = [call.id for call in calls]
        if len(set(ids)) < len(ids) or any(len(id_) in (0, MADE_UP) for id_ in ids):
            ids = [_id(turn, place) for place in range(len(calls))]
        called = [Called(id_, turn, text, thinking, one.provider_fields) for id_, one in zip(ids, calls, strict=True)]
        return tuple(self._action(call, how) for call, how in zip(calls, called, strict=True))

    def _action(self, call: NativeCall, called: Called) -> Action:
        function = self._functions.get(call.name)
        arguments = read_arguments(call, function)
        tool, tool_input = (function.tool.name, function.input_of(arguments)) if function else (call.name, arguments)
        return Action(tool, tool_input, in_dialect(called.text, tool, tool_input), called)


def _broken_off(reason: str) -> str:
    if reason == "length":
        return "Your turn was cut off at the token limit; nothing was called. Be more brief."
    return f"Your turn was broken off before it was whole ({reason}); nothing was called. Put it otherwise."


def _answer(text: str) -> FinalAnswer:
    if not (answer := text.removeprefix(LABEL).strip()):
        raise MalformedTurn("You said nothing. Call a tool, or write the answer.")
    return FinalAnswer(answer, text)


def in_dialect(text: str, tool: str, tool_input: ToolInput) -> str:
    """The call as a turn of ReAct-JSON: for people who read the log, and for a run that goes on in that mode."""
    thought = f"Thought: {text}\n" if text else ""
    call = json.dumps({"action": tool, "action_input": tool_input}, ensure_ascii=False)
    return f"{thought}Action:\n```json\n{call}\n```"


def _id(step: int, place: int) -> str:
    """Nine letters and digits, which is what the strictest chat template (Mistral's) takes."""
    return f"c{step:05d}{place:03d}"


# -- tools as functions, and what a model wrote as their input ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Function:
    """A tool by the `name` that servers take."""

    name: str
    tool: Tool

    @property
    def parameters(self) -> Mapping[str, Any]:
        """The schema of the arguments, which are always an object."""
        return ONE_STRING if self.tool.takes_one_string else _listed(self.tool.schema)

    def as_openai(self) -> dict[str, Any]:
        """OpenAI's function schema."""
        about = {"name": self.name, "description": self.tool.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": about}

    def input_of(self, arguments: ToolInput) -> ToolInput:
        """The tool's input: the string itself where it takes one."""
        if self.tool.takes_one_string and isinstance(arguments, dict) and len(arguments) == 1:
            (value,) = arguments.values()
            if isinstance(value, str | int | float) and not isinstance(value, bool):
                return str(value)
        return arguments


CALL_AGAIN = f"Call {FINAL_ANSWER} again, with arguments that fit its schema."


@dataclass(frozen=True, slots=True)
class AnswerFunction:
    """The function that gives an answer of a type. Its schema is what a grammar can be made of, for any model."""

    type: AnswerType
    name: str = FINAL_ANSWER

    @property
    def wrapper(self) -> str:
        """The argument that holds the answer; "" where the arguments are the answer."""
        return "" if self.type.schema.get("type") == "object" and "properties" in self.type.schema else WRAPPER

    def as_openai(self) -> dict[str, Any]:
        """OpenAI's function schema."""
        parameters = wrapped(self.type.offered) if self.wrapper else self.type.offered
        about = "Gives your final answer. Call it alone, when you know the answer."
        return {"type": "function", "function": {"name": self.name, "description": about, "parameters": parameters}}

    def fit_of(self, arguments: Any) -> Fit:
        """The answer that stands in the arguments; raises `MalformedTurn` where it does not fit."""
        if self.wrapper and isinstance(arguments, Mapping) and arguments.keys() == {self.wrapper}:
            arguments = arguments[self.wrapper]
        try:
            return self.type.fit_of(arguments, again=CALL_AGAIN)
        except UnfitAnswer:
            nothing = self.type.exactly("null") if self.wrapper and not arguments else None
            if nothing is None:
                raise
            return nothing

    def final(self, answer: FinalAnswer) -> FinalAnswer:
        """The answer with the value that its text holds; raises `MalformedTurn`."""
        return self.type.final(answer, again=CALL_AGAIN)

    def turn(self, completion: Completion) -> Turn | None:
        """The turn of a text that is the answer as JSON, whole, and nothing else."""
        text = completion.text.strip().removeprefix(LABEL).strip()
        if (fit := self.type.exactly(text)) is None:
            return None
        final = FinalAnswer(fit.value, text, made=fit.made)
        return Turn(final, completion.text, thinking=completion.thinking, usage=completion.usage)


def wrapped(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object whose only property, the wrapper, fits a schema, which may refer to itself."""
    place = f"#/properties/{WRAPPER}"

    def moved(part: Any) -> Any:
        if isinstance(part, Mapping) and isinstance(reference := part.get("$ref"), str):
            part = {**part, "$ref": f"{place}{reference[1:]}"}
        return rebuilt(part, moved)

    return {"type": "object", "properties": {WRAPPER: moved(schema)}, "required": [WRAPPER]}


def _listed(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema with the list of properties that servers ask for, also where there are none."""
    return schema if "properties" in schema else {**schema, "properties": {}}


def functions_of(tools: Iterable[Tool]) -> tuple[Function, ...]:
    """The tools as functions. No two have the same name."""
    functions: dict[str, Function] = {}
    for tool in tools:
        name = plain = _NOT_IN_A_NAME.sub("_", tool.name)[:60] or "tool"
        while name in functions:
            name = f"{plain}_{len(functions)}"
        functions[name] = Function(name, tool)
    return tuple(functions.values())


def read_arguments(call: NativeCall, function: Function | None) -> ToolInput:
    """The arguments of a call; raises `MalformedTurn` for what has no single reading as an object or a string."""
    text = call.arguments.strip()
    try:
        value = _value(text)
        if isinstance(value, str) and value.lstrip().startswith("{"):
            value = _value(value.strip())  # an object written as the text of one
    except BrokenJson as broken:
        raise _malformed(call, f"JSON {broken}", function) from None
    if value is None:
        return {}
    if isinstance(value, str) and not value.strip():  # a placeholder of arguments that never came
        raise _malformed(call, "JSON is an empty text", function)
    if not isinstance(value, dict | str):
        raise _malformed(call, "JSON is no object", function)
    return value


def _value(text: str) -> Any:
    if not text:
        return None
    value, end = read_json(text, 0)
    if text[end:].strip():
        raise BrokenJson("goes on behind its end", end)
    return value


def _malformed(call: NativeCall, reason: str, function: Function | None) -> MalformedTurn:
    schema = f"; they must fit {json.dumps(function.parameters, ensure_ascii=False)}" if function is not None else ""
    return MalformedTurn(
        f"Invalid call of {call.name}: its arguments' {reason}. Nothing was called. Call again, with "
        f"arguments that are one JSON object{schema}"
    )
