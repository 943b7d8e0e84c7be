"""Prompts between the two worlds: agentkit's text files and LangChain's templates; and what they are filled with."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core import tools as langchain_tools
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, SystemMessage
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.prompts.chat import (
    AIMessagePromptTemplate,
    HumanMessagePromptTemplate,
    SystemMessagePromptTemplate,
)

from agentkit.errors import ConfigurationError, in_one_line
from agentkit.langchain.messages import MessageDict, as_langchain_message, as_langchain_messages, content_of
from agentkit.langchain.tools import as_langchain, listed
from agentkit.react_json.prompt import HISTORY, SCRATCHPAD, ChatPrompt, Prompt, Section, check_values, harmless

_ROLES: dict[type, str] = {
    SystemMessagePromptTemplate: "system",
    HumanMessagePromptTemplate: "human",
    AIMessagePromptTemplate: "ai",
    SystemMessage: "system",
    HumanMessage: "human",
    AIMessage: "ai",
}


@dataclass(frozen=True, kw_only=True)
class TemplatePrompt:
    """Any of LangChain's templates as a planner's prompt: LangChain renders it, at every turn as in its chains.

    `given` are values for some of its variables, which a run's inputs may replace.
    """

    template: BasePromptTemplate[Any]
    given: Mapping[str, str] = field(default_factory=dict)
    name: str = "template"

    def __post_init__(self) -> None:
        if SCRATCHPAD not in self.fields:
            raise ConfigurationError(
                f"prompt {self.name}: expected the field {{{SCRATCHPAD}}}, where the steps go, saw "
                f"{', '.join(sorted(self.fields)) or 'none'}; add it, or MessagesPlaceholder({SCRATCHPAD!r})"
            )

    @property
    def fields(self) -> frozenset[str]:
        return frozenset([*self.template.input_variables, *self.template.optional_variables])

    @property
    def keeps_messages(self) -> bool:
        return _has_place_for_steps(self.template)

    def filled(self, **values: str) -> TemplatePrompt:
        own = self.template.partial_variables
        return replace(self, given={**self.given, **{name: values[name] for name in values if name not in own}})

    def render(self, values: Mapping[str, Any]) -> Iterator[MessageDict]:
        check_values(self.name, set(self.template.input_variables) - self.given.keys(), values)
        try:
            messages = self._messages(values)
        except (ValueError, KeyError, NotImplementedError) as error:
            raise ConfigurationError(f"prompt {self.name}: {in_one_line(error, 300)}; change the value") from error
        return map(MessageDict, messages)

    def around(self, values: Mapping[str, Any]) -> Callable[[Sequence[Any]], list[Any]]:
        return lambda steps: [*self.render({**values, SCRATCHPAD: [*map(as_langchain_message, steps)]})]

    def _messages(self, values: Mapping[str, Any]) -> list[BaseMessage]:
        template = self.template
        render = getattr(type(template), "format_messages", None)
        if not isinstance(template, ChatPromptTemplate) or render is not ChatPromptTemplate.format_messages:
            return template.format_prompt(**{**self.given, **values}).to_messages()
        partial = {name: one() if callable(one) else one for name, one in template.partial_variables.items()}
        own, quiet = {**partial, **self.given, **values}, {**partial, **self.given, **harmless(values)}
        messages: list[BaseMessage] = []
        for part in template.messages:
            if isinstance(part, BaseMessage):
                messages.append(part)
            elif isinstance(part, MessagesPlaceholder):
                name = part.variable_name
                messages += part.format_messages(**{name: as_langchain_messages(own.get(name), name)})
            else:
                messages += part.format_messages(**(own if isinstance(part, HumanMessagePromptTemplate) else quiet))
        return messages


def _has_place_for_steps(template: Any) -> bool:
    if isinstance(template, MessagesPlaceholder):
        return template.variable_name == SCRATCHPAD
    return any(map(_has_place_for_steps, getattr(template, "messages", ())))


def from_template(template: BasePromptTemplate[Any]) -> Prompt | None:
    """A template of plain f-string messages as a `Prompt`, which a file can hold; `None` for anything richer."""
    if isinstance(template, PromptTemplate):
        human = HumanMessagePromptTemplate(prompt=template)
        template = ChatPromptTemplate([human], partial_variables=dict(template.partial_variables))
    if not isinstance(template, ChatPromptTemplate) or template.output_parser is not None:
        return None
    sections: list[Section] = []
    for part in template.messages:
        role = _ROLES.get(type(part))
        if isinstance(part, MessagesPlaceholder) and part.n_messages is None:
            sections.append(Section("messages", part.variable_name, part.optional))
        elif role and (text := _plain_text(part)) is not None:
            sections.append(Section(role, text))
        elif role and isinstance(part, SystemMessage | HumanMessage | AIMessage) and isinstance(part.content, str):
            sections.append(Section(role, part.content.replace("{", "{{").replace("}", "}}")))
        else:
            return None
    optional = template.optional_variables  # LangChain gives their places no messages
    given = {name: one for name, one in template.partial_variables.items() if one or name not in optional}
    if not all(isinstance(value, str) for value in given.values()):
        return None
    prompt = Prompt(tuple(sections), "template").filled(**given)
    prompt.check()
    return prompt


def _plain_text(part: Any) -> str | None:
    """The text of a message template that is one f-string."""
    template = getattr(part, "prompt", None)
    if isinstance(template, PromptTemplate) and template.template_format == "f-string":
        return template.template
    return None


def as_template(prompt: Prompt) -> ChatPromptTemplate:
    """A `Prompt` as LangChain's template."""
    return ChatPromptTemplate.from_messages(
        [
            MessagesPlaceholder(section.text, optional=section.optional)
            if section.role == "messages"
            else (section.role, section.text)
            for section in prompt.sections
        ]
    )


def render_text_description(tools: Any) -> str:
    """One line per tool, ours, LangChain's or a function, as LangChain has it: `name(arguments) -> type - description`.

    What an agent of ours tells a model of its tools is `agentkit.react_json.prompt.describe_tools`.
    """
    return langchain_tools.render_text_description([as_langchain(tool) for tool in listed(tools)])


# -- what a run is asked -----------------------------------------------------------------------------------------------


def asked(prompt: ChatPrompt, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A run's inputs with its question as "input", and with chat dicts where the prompt has a place for messages."""
    values = _with_question(prompt, inputs)
    if isinstance(prompt, Prompt):  # LangChain's templates convert messages themselves
        for section in prompt.sections:
            if section.role == "messages" and section.text in values and section.text != SCRATCHPAD:
                messages = as_langchain_messages(values[section.text], section.text)
                values[section.text] = [*map(MessageDict, messages)]
    return values


def _with_question(prompt: ChatPrompt, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Where messages are what was asked, the last one is the question, and those before it are history."""
    name = "input" if "input" in inputs else "messages"
    given = inputs.get(name)
    if given is None or (name == "input" and not _are_messages(given)):
        return dict(inputs)
    messages = as_langchain_messages(given, name)
    if not messages or messages[-1].type != "human":
        last = f"one of type {messages[-1].type}" if messages else "none"
        raise ConfigurationError(f"{name}: expected a human message at the end, the question, saw {last}; add it")
    *earlier, question = messages
    values = {**inputs, "input": content_of(question)}
    if "messages" in prompt.fields:
        return values
    history = [*as_langchain_messages(inputs.get(HISTORY), HISTORY), *earlier]
    if history and HISTORY not in prompt.fields:
        raise ConfigurationError(
            f"prompt {prompt.name}: no place for the messages before the question; "
            f"add a line [messages {HISTORY}?], or MessagesPlaceholder({HISTORY!r}, optional=True)"
        )
    return {**values, HISTORY: history} if history else values


def _are_messages(given: Any) -> bool:
    if isinstance(given, list | tuple):
        return bool(given) and all(isinstance(one, BaseMessage) for one in given)
    return isinstance(given, BaseMessage)
