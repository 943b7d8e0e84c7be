"""Prompts between the two worlds: agentkit's text files and LangChain's chat templates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.prompts import BasePromptTemplate, ChatPromptTemplate, MessagesPlaceholder, PromptTemplate
from langchain_core.prompts.chat import (
    AIMessagePromptTemplate,
    HumanMessagePromptTemplate,
    SystemMessagePromptTemplate,
)

from agentkit.langchain.tools import from_langchain
from agentkit.react_json.prompt import Prompt, Section
from agentkit.react_json.prompt import render_text_description as describe
from agentkit.tool import Tool

_ROLES: dict[type, str] = {
    SystemMessagePromptTemplate: "system",
    HumanMessagePromptTemplate: "human",
    AIMessagePromptTemplate: "ai",
    SystemMessage: "system",
    HumanMessage: "human",
    AIMessage: "ai",
}


def from_template(template: BasePromptTemplate[Any]) -> Prompt | None:
    """A template of plain f-string messages as a `Prompt`; `None` for anything richer."""
    if isinstance(template, PromptTemplate):
        human = HumanMessagePromptTemplate(prompt=template)
        template = ChatPromptTemplate([human], partial_variables=dict(template.partial_variables))
    if not isinstance(template, ChatPromptTemplate) or template.output_parser is not None:
        return None
    sections: list[Section] = []
    for part in template.messages:
        role = _ROLES.get(type(part))
        if isinstance(part, MessagesPlaceholder) and not part.optional and part.n_messages is None:
            sections.append(Section("messages", part.variable_name))
        elif role and (text := _plain_text(part)) is not None:
            sections.append(Section(role, text))
        elif role and isinstance(part, SystemMessage | HumanMessage | AIMessage) and isinstance(part.content, str):
            sections.append(Section(role, part.content.replace("{", "{{").replace("}", "}}")))
        else:
            return None
    if not all(isinstance(value, str) for value in template.partial_variables.values()):
        return None
    prompt = Prompt(tuple(sections), "template").filled(**template.partial_variables)
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
            MessagesPlaceholder(section.text) if section.role == "messages" else (section.role, section.text)
            for section in prompt.sections
        ]
    )


def render_text_description(tools: Iterable[Any]) -> str:
    """One line per tool, ours or LangChain's: `name: description`, and the arguments where there are several."""
    return describe(tool if isinstance(tool, Tool) else from_langchain(tool) for tool in tools)
