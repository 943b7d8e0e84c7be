"""The prompt: a text file of sections, rendered to chat messages.

    [system]
    You have these tools: {tools} … one of: {tool_names}
    [human]
    {input}
    [messages agent_scratchpad]

A file without section headings is one human message. Fields are f-string fields, as in LangChain: `{input}`, and `{{`
for a brace. With `[messages agent_scratchpad]` each step becomes two messages (prefix-stable: what the model has read
never changes); a text field `{agent_scratchpad}` puts all steps into the message it stands in.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

from agentkit import prompts
from agentkit.errors import ConfigurationError
from agentkit.react_json.hostile import without_markup
from agentkit.tool import Tool

SCRATCHPAD = "agent_scratchpad"
ROLES = ("system", "human", "ai")
DEFAULT_PROMPT = "react-json"
BUNDLED = {"hwchase17/react-json": "react-json-text"}
"""Prompts of the hub that ship with the package, by the names they have here."""
_HEADING = re.compile(r"^\[(system|human|ai|messages ([A-Za-z_]\w*))\][ \t]*$", re.MULTILINE)


class Message(TypedDict):
    """One chat message: `role` is "system", "user" or "assistant"."""

    role: str
    content: Any


_TO_CHAT = {"system": "system", "human": "user", "ai": "assistant"}


@dataclass(frozen=True, slots=True)
class Section:
    """A message template, or a place for a list of messages (`role` is "messages", `text` its name)."""

    role: str
    text: str


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
            sections.append(Section("messages", placeholder) if placeholder else Section(heading, body.strip()))
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
                "is missing; add it, or a line [messages agent_scratchpad]"
            )

    @property
    def fields(self) -> frozenset[str]:
        """Names of everything the prompt wants filled in."""
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
        return Section("messages", SCRATCHPAD) in self.sections

    def filled(self, **values: str) -> Prompt:
        """The prompt with some fields filled in for good."""
        sections = tuple(s if s.role == "messages" else Section(s.role, _fill(s.text, values)) for s in self.sections)
        return Prompt(sections, self.name)

    def render(self, values: Mapping[str, Any]) -> Iterator[Message]:
        """The messages; `values` holds every field, messages for a `[messages …]` section."""
        if missing := sorted(self.fields - values.keys()):
            given = ", ".join(sorted(map(str, values.keys() - {SCRATCHPAD}))) or "nothing"
            raise ConfigurationError(
                f"prompt {self.name}: expected a value for {', '.join(missing)}, saw {given}; pass it by that name"
            )
        for section in self.sections:
            if section.role == "messages":
                yield from as_messages(values[section.text])
            else:
                filling = values if section.role == "human" else _harmless(values)  # a model reads that as the user's
                yield Message(role=_TO_CHAT[section.role], content=section.text.format_map(filling))


def _harmless(values: Mapping[str, Any]) -> dict[str, Any]:
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


def as_messages(values: Iterable[Any]) -> Iterator[Message]:
    """Messages from chat dicts, (role, content) pairs or LangChain messages."""
    roles = {"human": "user", "ai": "assistant"}
    for value in values:
        if isinstance(value, Mapping):
            role, content = value["role"], value["content"]
        elif isinstance(value, tuple | list):
            role, content = value
        else:
            role, content = value.type, value.content
        yield Message(role=roles.get(str(role), str(role)), content=content)


def render_text_description(tools: Iterable[Tool]) -> str:
    """One line per tool: `name: description`, and the arguments where there are several."""
    return "\n".join(map(_description, tools))


def _description(tool: Tool) -> str:
    line = f"{tool.name}: {' '.join(tool.description.split())}"
    if tool.takes_one_string:
        return line
    return f"{line} Arguments: {json.dumps(tool.schema.get('properties', {}), ensure_ascii=False)}"


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
