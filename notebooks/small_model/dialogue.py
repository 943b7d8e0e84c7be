"""One conversation of an agent with any tools, in the forms in which the product sends it to a chat model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from agentkit.core.native_planner import PROMPT as NATIVE_PROMPT
from agentkit.core.native_planner import Function, functions_of
from agentkit.models.tool_calls import instructions
from agentkit.react_json.hostile import defused
from agentkit.react_json.marks import HERMES
from agentkit.react_json.prompt import Message, Prompt, describe_tools, read_prompt
from agentkit.react_json.scratchpad import format_log_to_str
from agentkit.tool import STRING, Tool

Form = Literal["react", "text", "native", "plain"]
Segment = tuple[str, bool]
KNOW = "I now know the final answer"


@dataclass(frozen=True)
class Step:
    """One action with its observation; `raw` is a whole turn that went wrong, which nobody shall learn.

    `observation` is as the tool gives it; `own_words` says that it is the loop's.
    """

    thought: str
    tool: str
    tool_input: str | dict[str, Any]
    observation: str
    raw: str = ""
    own_words: bool = False
    learned: bool = True

    @property
    def turn(self) -> str:
        """The model's turn in the dialect."""
        if self.raw:
            return self.raw
        call = json.dumps({"action": self.tool, "action_input": self.tool_input}, ensure_ascii=False)
        return f"Thought: {self.thought}\nAction:\n```json\n{call}\n```"

    @property
    def seen(self) -> str:
        """The observation as the model sees it."""
        return self.observation if self.own_words else defused(self.observation)


@dataclass(frozen=True)
class Dialogue:
    """A question with what an agent did about it. `history` are earlier questions and answers."""

    kind: str
    question: str
    tools: tuple[Tool, ...]
    steps: tuple[Step, ...]
    answer: str
    thought: str = KNOW
    history: tuple[tuple[str, str], ...] = ()
    form: Form = "react"
    system: str = ""

    @property
    def last_turn(self) -> str:
        """The turn that answers, in the dialect."""
        return f"Thought: {self.thought}\nFinal Answer: {self.answer}"

    def messages(self) -> list[tuple[Message, bool]]:
        """The chat messages up to the last turn, each with whether the model learns to write it."""
        return list(_WRITERS[self.form](self))

    def segments(self) -> list[Segment]:
        """The whole text in ChatML, in pieces (text, whether the model learns to write it)."""
        pieces: list[Segment] = []
        for message, learned in self.messages():
            pieces += [(f"<|im_start|>{message['role']}\n", False), (message["content"], learned)]
            pieces += [("<|im_end|>", learned), ("\n", False)]
        return pieces


def _past(dialogue: Dialogue) -> list[Message]:
    pairs = [(("user", question), ("assistant", answer)) for question, answer in dialogue.history]
    return [Message(role=role, content=content) for pair in pairs for role, content in pair]


def _asked(dialogue: Dialogue, prompt: Prompt, scratchpad: object) -> Iterator[tuple[Message, bool]]:
    """All that stands before the model's first turn."""
    values = {"input": dialogue.question, "agent_scratchpad": scratchpad, "chat_history": _past(dialogue)}
    for message in prompt.render(values):
        yield message, False


@cache
def _prompt(name: str) -> Prompt:
    return read_prompt(name)


def _filled(name: str, tools: tuple[Tool, ...]) -> Prompt:
    names = ", ".join(tool.name for tool in tools)
    return _prompt(name).filled(tools=describe_tools(tools), tool_names=names)


def _react(dialogue: Dialogue) -> Iterator[tuple[Message, bool]]:
    """The default prompt: each step is a message of the model and one with the observation."""
    yield from _asked(dialogue, _filled("react-json", dialogue.tools), [])
    for step in dialogue.steps:
        yield Message(role="assistant", content=step.turn), step.learned
        yield Message(role="user", content=f"Observation: {step.seen}"), False
    yield Message(role="assistant", content=dialogue.last_turn), True


def _text(dialogue: Dialogue) -> Iterator[tuple[Message, bool]]:
    """The prompt with all steps in the user's message; only the last turn is learned."""
    log = format_log_to_str([(_Logged(step.turn, step.tool), step.seen) for step in dialogue.steps])
    yield from _asked(dialogue, _filled("react-json-text", dialogue.tools), log)
    begun = "Thought: " if dialogue.steps else ""
    yield Message(role="assistant", content=dialogue.last_turn.removeprefix(begun)), True


@dataclass(frozen=True)
class _Logged:
    log: str
    tool: str


def _native(dialogue: Dialogue) -> Iterator[tuple[Message, bool]]:
    """Tools as functions for a template that knows none: told in the system message, called in tags."""
    functions = functions_of(dialogue.tools)
    told = instructions([function.as_openai() for function in functions])
    (system, _), *asked = _asked(dialogue, NATIVE_PROMPT, [])
    yield Message(role="system", content=f"{system['content']}\n\n{told}"), False
    yield from asked
    by_tool = {function.tool.name: function for function in functions}
    for step in dialogue.steps:
        call = HERMES.write((by_tool[step.tool].name, _arguments(by_tool[step.tool], step.tool_input)))
        yield Message(role="assistant", content=f"{step.thought}\n{call}"), step.learned
        yield Message(role="user", content=f"Observation: {step.seen}"), False
    yield Message(role="assistant", content=dialogue.answer), True


def _arguments(function: Function, tool_input: str | dict[str, Any]) -> dict[str, Any]:
    if isinstance(tool_input, dict):
        return tool_input
    (name,) = function.parameters["properties"]
    return {name: tool_input}


def _plain(dialogue: Dialogue) -> Iterator[tuple[Message, bool]]:
    """Chat without tools; without a system message the model's template adds its own."""
    yield Message(role="system", content=dialogue.system or DEFAULT_SYSTEM), False
    yield from ((message, False) for message in _past(dialogue))
    yield Message(role="user", content=dialogue.question), False
    yield Message(role="assistant", content=dialogue.answer), True


def prompt_sha256() -> str:
    """Of what the product sends in one conversation now: an adapter that learned another hardly writes a turn."""
    schema = {
        "type": "object",
        "properties": {"town": {"type": "string", "description": "Name"}, "days": {"type": "integer", "default": 1}},
        "required": ["town"],
    }
    tools = [
        Tool(name=name, description=about, run=str, schema=given)
        for name, about, given in (("Search", "Looks up.", STRING), ("forecast", "Weather.", schema))
    ]
    steps = (Step("I look it up", "Search", "x", "y"), Step("I ask", "forecast", {"town": "Rome", "days": 2}, "z"))
    told = Dialogue("", "What?", tuple(tools), steps, "z", history=(("Hi", "Hello"),))
    return hashlib.sha256("".join(text for text, _ in told.segments()).encode()).hexdigest()


DEFAULT_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
_WRITERS = {"react": _react, "text": _text, "native": _native, "plain": _plain}
