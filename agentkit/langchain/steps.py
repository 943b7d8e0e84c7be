"""A run's inputs, steps and errors, as LangChain's users give and get them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.agents import AgentAction, AgentActionMessageLog
from langchain_core.exceptions import OutputParserException
from langchain_core.load import Serializable
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage

from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import Action, Called, Step
from agentkit.langchain.messages import PROVIDER_FIELDS

Steps = list[tuple[AgentAction, Any]]
Trim = Callable[[Steps], Steps]
ToText = Callable[[Steps], str]
HandleErrors = bool | str | Callable[[OutputParserException], str]


class Extended:
    """A class of LangChain's with more to it. To LangChain's loader, which knows no other, it is the one it extends."""

    @classmethod
    def lc_id(cls) -> list[str]:
        """That class's name."""
        return next(base.lc_id() for base in cls.__bases__ if issubclass(base, Serializable))


class CalledAction(Extended, AgentActionMessageLog):
    """An action that the model called in its own syntax; `turn` is the step at which its message began."""

    tool_call_id: str
    turn: int


def as_agent_action(action: Action) -> AgentAction:
    """Our action as LangChain's: the very one that an agent of LangChain's decided on."""
    if isinstance(action.origin, AgentAction):
        return action.origin
    called = action.called
    if called is None:
        return AgentAction(tool=action.tool, tool_input=action.tool_input, log=action.log)
    arguments = action.tool_input if isinstance(action.tool_input, dict) else {"input": action.tool_input}
    message = AIMessage(
        called.text,
        tool_calls=[{"name": action.tool, "args": arguments, "id": called.id}],
        additional_kwargs={
            **({"reasoning_content": called.thinking} if called.thinking else {}),
            **({PROVIDER_FIELDS: {called.id: called.provider_fields}} if called.provider_fields else {}),
        },
    )
    return CalledAction(
        tool=action.tool,
        tool_input=action.tool_input,
        log=action.log,
        message_log=[message],
        tool_call_id=called.id,
        turn=called.turn,
    )


def as_action(action: AgentAction) -> Action:
    """LangChain's action as ours."""
    called = None
    if isinstance(action, CalledAction):
        message = action.message_log[0]
        thinking = str(message.additional_kwargs.get("reasoning_content", ""))
        fields = (message.additional_kwargs.get(PROVIDER_FIELDS) or {}).get(action.tool_call_id) or {}
        called = Called(action.tool_call_id, action.turn, str(message.text), thinking, fields)
    return Action(action.tool, action.tool_input, action.log, called, action)


def as_langchain_steps(steps: Sequence[Step]) -> Steps:
    """The steps as `intermediate_steps`."""
    return [(as_agent_action(action), observation) for action, observation in steps]


def as_steps(steps: Sequence[tuple[AgentAction, Any]]) -> list[Step]:
    """`intermediate_steps` as ours."""
    return [Step(as_action(action), observation) for action, observation in steps]


def format_log_to_messages(
    intermediate_steps: Sequence[tuple[Any, Any]], template_tool_response: str = "{observation}"
) -> list[BaseMessage]:
    """Steps as an AI message (the model's text) and a human message (the observation) each, as LangChain has them."""
    messages: list[BaseMessage] = []
    for action, observation in intermediate_steps:
        messages.append(AIMessage(content=action.log))
        messages.append(HumanMessage(content=template_tool_response.format(observation=observation)))
    return messages


def observation_message(action: AgentAction, observation: Any) -> BaseMessage:
    """An observation as the message that `stream` gives of it."""
    if isinstance(action, CalledAction):
        return ToolMessage(str(observation), tool_call_id=action.tool_call_id, name=action.tool)
    return HumanMessage(str(observation))


def as_inputs(given: Any) -> dict[str, Any]:
    """What a run was given: a bare question is its input, and so are messages alone."""
    if isinstance(given, str):
        given = {"input": given}
    if isinstance(given, BaseMessage | list | tuple):
        given = {"messages": given}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f'expected {{"input": "question"}} or a question, saw {type(given).__name__}')
    return dict(given)


def trimmer(trim: Trim) -> Callable[[Sequence[Step]], Sequence[Step]]:
    """What a function leaves of the steps, given and taken as LangChain's."""
    return lambda steps: as_steps(trim(as_langchain_steps(steps)))


def summing_up(function: ToText) -> Callable[[Sequence[Step]], str]:
    """What a function makes of the oldest steps, given as LangChain's."""
    return lambda steps: function(as_langchain_steps(steps))


def recovery(handle: HandleErrors) -> Callable[[MalformedTurn], str] | None:
    """What `handle_parsing_errors` asks for: what the model is told, none to raise."""
    if callable(handle):
        return lambda error: handle(as_output_parser_exception(error))
    if isinstance(handle, str):
        return lambda error: handle
    return str if handle else None


def as_output_parser_exception(error: MalformedTurn) -> OutputParserException:
    """A turn that could not be parsed as what LangChain's users catch, a ValueError."""
    if isinstance(error.__cause__, OutputParserException):
        return error.__cause__
    return OutputParserException(str(error), observation=str(error), llm_output=error.text, send_to_llm=True)


def as_langchain_error(error: BaseException) -> BaseException:
    """What LangChain's users catch: `OutputParserException`, a ValueError, for a turn that could not be parsed."""
    return as_output_parser_exception(error) if isinstance(error, MalformedTurn) else error
