"""A run that outgrows its model's context, and models that read so little: one in this process, one behind HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

from agentkit.events import Usage
from agentkit.models import builtin
from agentkit.models.backend import DROPPED_TO_FIT, Capabilities, ChatRequest, Chunk, Completion, NativeCall
from agentkit.models.local.encoding import first_that_fits
from agentkit.models.scripted import ScriptedBackend, ScriptedReply
from agentkit.react_json.summary import INSTRUCTION
from agentkit.tool import Tool
from tests.doubles.models import action, final
from tests.doubles.server import Play, Request, error, reply

CONTEXT = 4096
QUESTION = "Which of the towns has the most people?"
FILLER = "The harbour is old, the church stands on a hill, and ships from the north call there in summer. " * 6


@cache
def tokenizer() -> Any:
    """That of the built-in model."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(Path(builtin.__file__).parent / "model" / "tokenizer.json"))


def count(messages: Sequence[Any], tools: Sequence[Any] = ()) -> int:
    """The tokens of a prompt."""
    texts = [f"{one['role']}\n{one['content']}{one.get('tool_calls') or ''}" for one in messages]
    return len(tokenizer().encode("\n".join([*texts, json.dumps([*tools]) if tools else ""])).ids)


def people(town: int) -> int:
    """Of a town; the first has the most."""
    return 90_000 - 1_001 * town


def look(town: str) -> str:
    return f"Town {town} has {people(int(town))} people. {FILLER}"


LOOK = Tool(name="look", description="Tells how many people live in a town. Input is its number.", run=look)


@dataclass
class Traveller:
    """Looks at each of the towns, `at_once` in a turn where it calls natively, then answers; sums up when asked.

    `notes` makes a summary of the request for it.
    """

    towns: int = 60
    at_once: int = 1
    native: bool = False
    notes: Callable[[Any], ScriptedReply] = field(default=lambda request: f"Town 1 has {people(1)} people.")
    seen: int = 0

    def __call__(self, request: Any) -> ScriptedReply:
        if is_for_notes(request.messages):
            return self.notes(request)
        if self.seen >= self.towns:
            answer = f"Town 1, with {people(1)} people"
            return answer if self.native else final(answer)
        numbers = [str(self.seen + place + 1) for place in range(self.at_once)]
        self.seen += len(numbers)
        if not self.native:
            return action("look", numbers[0], f"I look at town {numbers[0]}.")
        calls = (NativeCall(f"call_{one:0>4}", "look", json.dumps({"input": one})) for one in numbers)
        return Completion("", Usage(20, 10), "tool_calls", tool_calls=tuple(calls))


def is_for_notes(messages: Sequence[Any]) -> bool:
    """Whether a request asks for notes."""
    return INSTRUCTION in str(messages[-1]["content"])


@dataclass
class ShortSighted(ScriptedBackend):
    """Reads `context` tokens of the built-in model's tokenizer, and drops what does not fit as models here do."""

    context: int = CONTEXT
    sizes: list[int] = field(default_factory=list)
    prompts: list[list[Any]] = field(default_factory=list)

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        def encode(messages: list[Any]) -> tuple[str, range]:
            return "", range(count(messages, request.tools))

        longest = request.options.get("max_new_tokens", 512)
        shortens = {"context": self.context, "longest": longest, "more": "more", "shortens": request.shortens}
        _, ids, fitted = first_that_fits(request.messages, encode, **shortens)
        self.sizes.append(len(ids))
        self.prompts.append(fitted.messages)
        if fitted.dropped:
            yield Chunk(metadata={DROPPED_TO_FIT: fitted.dropped})
        for chunk in super().generate_chat(request):
            yield chunk if chunk.usage is None else replace(chunk, usage=Usage(len(ids), chunk.usage.completion_tokens))


def short_sighted(traveller: Traveller, context: int = CONTEXT) -> ShortSighted:
    """In this process, with or without native calls."""
    can = Capabilities(in_process=True, over_http=False, tools=traveller.native)
    return ShortSighted(traveller, capabilities=can, context=context)


def short_sighted_server(traveller: Traveller, context: int = CONTEXT) -> Callable[[Request], Play]:
    """What a server answers that refuses longer prompts."""

    def choose(asked: Request) -> Play:
        size = count(asked.body["messages"], asked.body.get("tools") or ())
        if size > context:
            return error(400, f"request ({size} tokens) exceeds the available context size ({context} tokens)")
        came = traveller(ChatRequest(messages=asked.body["messages"]))
        if isinstance(came, BaseException):
            return error(500, str(came))
        whole = came if isinstance(came, Completion) else Completion(came)
        return reply(replace(whole, usage=Usage(size, 20)))

    return choose
