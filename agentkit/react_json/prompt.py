"""The prompt: a text file of sections, rendered to chat messages.

    [system]
    You have these tools: {tools} … one of: {tool_names}
    [human]
    {input}
    [messages agent_scratchpad]

A file without section headings is one human message. Fields are f-string fields, as in LangChain: `{input}`, and `{{`
for a brace. With `[messages agent_scratchpad]` each step becomes two messages (prefix-stable: what the model has read
never changes); a text field `{agent_scratchpad}` puts all steps into the message it stands in. `[messages NAME?]` is
left out where there are none. In the place of `[messages example_runs?]` come worked runs made from the tools. In that
of `{answer_format}` stands what form an answer has that is a value; without such a place, behind the system message.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self, TypedDict

from agentkit import prompts
from agentkit.errors import ConfigurationError, described
from agentkit.react_json.hostile import without_markup
from agentkit.tool import Tool, takes_nothing

SCRATCHPAD = "agent_scratchpad"
HISTORY = "chat_history"
EXAMPLES = "example_runs"
ANSWER_FORMAT = "answer_format"
ROLES = ("system", "human", "ai")
DEFAULT_PROMPT = "react-json"
WITH_EXAMPLES = "react-json-examples"
"""The prompt for small models."""
AUTO = "auto"
"""Names the prompt that fits the model, by what its backend declares."""
BUNDLED = {"hwchase17/react-json": "react-json-text"}
"""Prompts of the hub that ship with the package, by the names they have here."""
_HEADING = re.compile(r"^\[(system|human|ai|messages ([A-Za-z_]\w*\??))\][ \t]*$", re.MULTILINE)


class Message(TypedDict):
    """One chat message: `role` is "system", "user" or "assistant"."""

    role: str
    content: Any


Made = Callable[[Mapping[str, Any]], Iterable[Any]]
_TO_CHAT = {"system": "system", "human": "user", "ai": "assistant"}
_FROM_CHAT = {chat: role for role, chat in _TO_CHAT.items()}


@dataclass(frozen=True, slots=True)
class Section:
    """A message template, or a place for a list of messages (`role` is "messages", `text` its name).

    `made` makes the messages of such a place from the other values.
    """

    role: str
    text: str
    optional: bool = False
    made: Made | None = None

    @classmethod
    def messages(cls, name: str) -> Section:
        """A place for messages by its name, which ends in "?" where there may be none."""
        return cls("messages", name.removesuffix("?"), name.endswith("?"))


class ChatPrompt(Protocol):
    """What a planner needs of a prompt."""

    @property
    def name(self) -> str: ...

    @property
    def fields(self) -> frozenset[str]:
        """Names of everything the prompt has a place for."""

    @property
    def keeps_messages(self) -> bool:
        """Whether steps are messages of their own (else: text in a message)."""

    def filled(self, **values: Any) -> Self:
        """The prompt with some fields filled in for good, those that it has: texts, or messages in their places."""

    def render(self, values: Mapping[str, Any]) -> Iterable[Any]:
        """The messages; `values` holds every field. Raises `ConfigurationError` for one that is missing."""

    def around(self, values: Mapping[str, Any]) -> Callable[[Sequence[Any]], list[Any]]:
        """Where steps are messages: what puts them in their place."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt; `name` is where it came from."""

    sections: tuple[Section, ...]
    name: str = "prompt"

    @classmethod
    def parse(cls, text: str, *, name: str = "prompt") -> Prompt:
        """Read the file format above; raises `ConfigurationError` for a field no run can fill."""
        parts = _HEADING.split(text)
        sections = [Section("human", parts[0].strip())] if parts[0].strip() else []
        for heading, placeholder, body in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            sections.append(Section.messages(placeholder) if placeholder else Section(heading, body.strip()))
        prompt = cls(tuple(sections), name)
        prompt.check()
        return prompt

    def check(self) -> None:
        """Raise unless the question and the scratchpad have a place."""
        try:
            fields = self.fields
        except ValueError as error:
            raise ConfigurationError(
                f"prompt {self.name}: expected f-string fields such as {{input}}, saw a stray brace ({error}); "
                "write {{ and }} for literal braces"
            ) from None
        if missing := [f"{{{field}}}" for field in ("input", SCRATCHPAD) if field not in fields]:
            raise ConfigurationError(
                f"prompt {self.name}: expected the fields {{input}} and {{agent_scratchpad}}, {' and '.join(missing)} "
                f"{'are' if len(missing) > 1 else 'is'} missing; write them in braces, "
                "or a line [messages agent_scratchpad]"
            )

    @property
    def fields(self) -> frozenset[str]:
        """Names of everything the prompt has a place for."""
        names: set[str] = set()
        for section in self.sections:
            if section.role == "messages":
                names.add(section.text)
            else:
                names.update(name for _, name, _, _ in string.Formatter().parse(section.text) if name)
        return frozenset(names)

    @property
    def keeps_messages(self) -> bool:
        """Whether steps are messages of their own (else: text in a message)."""
        return any(section.role == "messages" and section.text == SCRATCHPAD for section in self.sections)

    def filled(self, **values: Any) -> Prompt:
        """The prompt with some fields filled in for good: texts, or messages in their places, or what makes those."""
        sections: list[Section] = []
        for section in self.sections:
            if section.role != "messages":
                sections.append(Section(section.role, _fill(section.text, values)))
            elif callable(made := values.get(section.text)):
                sections.append(replace(section, optional=True, made=made))
            elif section.text in values:
                messages = as_messages(values[section.text], section.text)
                sections += [Section(_FROM_CHAT[each["role"]], _escape(each["content"])) for each in messages]
            else:
                sections.append(section)
        return Prompt(tuple(sections), self.name)

    def render(self, values: Mapping[str, Any]) -> Iterator[Message]:
        """The messages; `values` holds every field, messages for a `[messages …]` section."""
        check_values(self.name, self.fields - {s.text for s in self.sections if s.optional}, values)
        for section in self.sections:
            if section.role == "messages":
                messages = section.made(values) if section.made else values.get(section.text, ())
                yield from as_messages(messages, section.text)
            elif section.role == "human":
                yield Message(role="user", content=_content(section.text, values))
            else:  # a model reads that as the user's
                yield Message(role=_TO_CHAT[section.role], content=section.text.format_map(harmless(values)))

    def around(self, values: Mapping[str, Any]) -> Callable[[Sequence[Message]], list[Message]]:
        """Puts the messages of steps between those that are the same at every turn."""
        marker = Message(role=SCRATCHPAD, content="")
        messages = list(self.render({**values, SCRATCHPAD: [marker]}))
        place = next(at for at, message in enumerate(messages) if message["role"] == SCRATCHPAD)
        return lambda steps: [*messages[:place], *steps, *messages[place + 1 :]]


def check_values(name: str, fields: Iterable[str], values: Mapping[str, Any]) -> None:
    """Raise `ConfigurationError` where a field has no value."""
    if missing := sorted(set(fields) - values.keys()):
        given = ", ".join(sorted(map(str, values.keys() - {SCRATCHPAD}))) or "nothing"
        raise ConfigurationError(
            f"prompt {name}: expected a value for {', '.join(missing)}, saw {given}; pass it by that name"
        )


def _content(text: str, values: Mapping[str, Any]) -> Any:
    """A human message: a field alone may hold parts, images among them, instead of text."""
    alone = values.get(text[1:-1]) if text[:1] == "{" and text[-1:] == "}" else None
    return alone if isinstance(alone, list) and alone else text.format_map(values)


def harmless(values: Mapping[str, Any]) -> dict[str, Any]:
    """What fills a system message, without markup; the scratchpad holds what the model itself wrote."""
    return {
        name: without_markup(value) if isinstance(value, str) and name != SCRATCHPAD else value
        for name, value in values.items()
    }


def _fill(text: str, values: Mapping[str, str]) -> str:
    """`text` with the fields of `values` filled in, all others and escaped braces left as they are."""
    out: list[str] = []
    for literal, field, spec, conversion in string.Formatter().parse(text):
        out.append(_escape(literal))
        if field is None:
            continue
        if field in values:
            out.append(_escape(values[field]))
        else:
            out.append("{" + field + (f"!{conversion}" if conversion else "") + (f":{spec}" if spec else "") + "}")
    return "".join(out)


def _escape(text: str) -> str:
    return text.replace("{", "{{").replace("}", "}}")


def as_messages(values: Any, name: str = "messages") -> Iterator[Message]:
    """Messages from chat dicts, (role, content) pairs, and texts, which are the user's."""
    if isinstance(values, str | Mapping) or not isinstance(values, Iterable):
        values = [values] if values else []
    roles = {"human": "user", "ai": "assistant"}
    for value in values:
        match value:
            case {"role": str(role)} | {"type": str(role)}:
                more = {key: item for key, item in value.items() if key not in ("role", "type")}
            case [str(role), content]:
                more = {"content": content}
            case str(text):
                role, more = "user", {"content": text}
            case _:
                raise ConfigurationError(
                    f"{name}: expected messages, as dicts of role and content or (role, content), saw "
                    f"{described(value)}"
                )
        yield Message(**{"content": "", **more, "role": roles.get(role, role)})


def describe_tools(tools: Iterable[Tool]) -> str:
    """One line per tool: `name: description`, and what it takes where that is not just a string."""
    return "\n".join(map(_description, tools))


def _description(tool: Tool) -> str:
    line = f"{tool.name}: {' '.join(tool.description.split())}"
    if takes_nothing(tool.schema):
        return f"{line} It takes no action_input."
    schema = tool.input_schema
    if schema.get("type") == "string":
        more = {key: value for key, value in schema.items() if key not in ("type", "title", "default")}
        text = more["description"] if [*more] == ["description"] else json.dumps(more, ensure_ascii=False)
        return f"{line} action_input: {' '.join(str(text).split())}" if more else line
    return f"{line} Arguments: {json.dumps(tool.schema.get('properties', {}), ensure_ascii=False)}"


def with_answer_format(messages: Sequence[Any], text: str) -> list[Any]:
    """The messages with what is said of the answer's form: in a system message, or before the first question."""
    messages = list(messages)
    for role, before in (("system", False), ("user", True)):
        for place, message in enumerate(messages):
            if message["role"] == role:
                messages[place] = {**message, "content": _joined(message["content"], text, before=before)}
                return messages
    return [Message(role="system", content=text), *messages]


def _joined(content: Any, text: str, *, before: bool) -> Any:
    if isinstance(content, list):
        part = {"type": "text", "text": text}
        return [part, *content] if before else [*content, part]
    return f"{text}\n\n{content}" if before else f"{content}\n\n{text}"


def read_prompt(name: str, *, pull: Callable[[str], Prompt] | None = None) -> Prompt:
    """A prompt by name (`react-json`), file (`./my.txt`) or `hub:OWNER/NAME`, which `pull` gets from LangSmith's hub.

    `hub:hwchase17/react-json` is answered with our wording and without the network.
    """
    if name.startswith("hub:"):
        owner_repo = name.removeprefix("hub:")
        name = BUNDLED.get(owner_repo, name)
        if name.startswith("hub:"):
            if pull is None:
                raise ConfigurationError(f"prompt {name} is not bundled; name a file, or one of {', '.join(BUNDLED)}")
            return pull(owner_repo)
    if name in prompts.names():
        return Prompt.parse(prompts.text(name), name=name)
    path = Path(name)
    if not path.is_file():
        raise ConfigurationError(
            f"unknown prompt {name!r}: expected one of {', '.join(prompts.names())}, a file, or hub:OWNER/NAME"
        )
    try:
        return Prompt.parse(path.read_text(encoding="utf-8"), name=name)
    except UnicodeDecodeError:
        raise ConfigurationError(f"prompt {name}: expected UTF-8 text, saw other bytes; save it as UTF-8") from None
