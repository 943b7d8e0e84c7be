"""What a chat model asks of the thing that computes: one request in, pieces of one reply out.

`agentkit.models.chat` drives a backend; the models in this process and those behind HTTP are two kinds. Stop strings,
thinking and tool-call syntax are handled once, there, whatever the backend did with them.

    class Echo:                                          # the smallest backend
        model_id = "echo"

        def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
            yield Chunk(text=request.messages[-1]["content"])
            yield Chunk(finish_reason="stop", usage=Usage(prompt_tokens=3, completion_tokens=3))

        async def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
            for chunk in self.generate_chat(request):
                yield chunk

What more it can do it declares as `capabilities`; without, it takes messages, stop strings and options, and a cassette
records its replies.

A backend sends each option it understands and ignores none silently: one it cannot honour is a ConfigurationError.
Closing the iterator cancels the reply. Failures are ModelError or ConfigurationError.

A backend over HTTP may have to ask again when a reply breaks off. With `stream=False` it shows nothing before the reply
is whole; else what it has shown stays, and a repeated reply that does not begin with it is a ReplyChanged.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast, runtime_checkable

from agentkit.errors import ConfigurationError, described
from agentkit.events import Usage
from agentkit.models.finish_reasons import is_cut_off

if TYPE_CHECKING:
    from agentkit.events import Step
    from agentkit.react_json.marks import CallSyntax
    from agentkit.tool import Tool

__all__ = [
    "Capabilities",
    "ChatBackend",
    "ChatRequest",
    "Chunk",
    "Closing",
    "Completion",
    "InProcess",
    "NativeCall",
    "SchemaUse",
    "TokenLogprob",
    "ToolCallPiece",
    "TurnGrammar",
    "Usage",
    "as_backend",
    "capabilities_of",
]

Message = dict[str, Any]
"""OpenAI's chat message: `role`, `content`, and where there are any `tool_calls`, `tool_call_id` and `name`.

A call may hold `provider_fields`, which only a backend over HTTP is given; they are for the server that sent them.
"""

Constrain = Literal["actions", "copy", "off"]
"""Which grammar an agent asks for: well-formed actions on existing tools; inputs and answers that copy, too; none."""


ENDED_AT_LIMIT = "ended_at_limit"  # in the last chunk's metadata: what a grammar holds was ended for the model there
SCHEMA_USE = "turn_schema"  # in the last chunk's metadata
SchemaUse = Literal["", "asked", "refused", "failed"]
"""Whether a server was `asked` to keep a turn's schema, or `refused` it, or `failed` at it, which may have been chance;
after both the reply was asked for without. "" where none was sent."""


DROPPED_TO_FIT = "dropped_to_fit"  # in a chunk's metadata
"""What was left out of a prompt so that it fits: "observations", "messages", "characters", with how many."""


class TurnGrammar(Protocol):
    """Makes the grammar (llguidance Lark) of an agent's next turn.

    `steps` are the actions so far, each with the text of its observation; `thought_open` says that the prompt already
    wrote "Thought:"; `acts` that an answer in this turn would come from nowhere, so that it is to be an action;
    `closes` that no action of it would run, so that it is to be an answer (asked of a grammar that takes it). An answer
    is JSON that fits the `answer_schema`, where there is one.
    """

    def __call__(
        self,
        tools: Sequence[Tool],
        question: str,
        steps: Sequence[Step],
        *,
        thought_open: bool,
        acts: bool = False,
        answer_schema: Any = None,
    ) -> str: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do beyond answering, and how a cassette records it.

    - `in_process`: computes in this process. A deadline is then held between two chunks, and replies that are asked for
      at the same time are computed together.
    - `over_http`: its replies come through an HTTP library that a cassette records, so the turn itself is not recorded.
      `None`: only where a cassette sees a chat completion come; other HTTP does not stand for a turn.
    - `grammar`: takes `ChatRequest.grammar`; `refuses` says why it does not take one, if so. `turn_grammars` are those
      that an agent's turns can be held to, by name; `constrain` names the one that is asked for.
    - `tools`: takes `ChatRequest.tools`; `images`: takes pictures in messages, so that it is shown those of tools.
    - `call_syntax`: how the model writes calls in its own text (`None`: known syntaxes are read); `special_tokens` are
      those tokens of its vocabulary that no text can spell, with their ids.
    - `prompt`: the name of the prompt that the model does best with, unless a user names one.
    - `max_new_tokens`: the length of a reply unless a request says another one; `None`: not known.
    - `context_tokens`: how many tokens prompt and reply may have together; `None`: not known.
    - `role_of`: what the grammar "copy" uses a tool as, which is what a model under it calls the tool; "" for one that
      it does not use. `refusals` are the final answers that the model gives where it has none.
    - `identity`: what the model is, for what is learnt about it: an address and a name, without keys. Where an address
      alone leaves it open, `served` asks for the name; it may block, and "" is for one that is not said.
    - `alternatives`: the backends behind it, in the order in which they are asked, where there are several.
    """

    in_process: bool = False
    over_http: bool | None = None
    grammar: bool = False
    refuses: Callable[[str], str | None] | None = None
    turn_grammars: Mapping[str, TurnGrammar] = field(default_factory=dict)
    constrain: Constrain = "off"
    tools: bool = False
    images: bool = False
    call_syntax: CallSyntax | None = None
    special_tokens: Mapping[str, int] = field(default_factory=dict)
    prompt: str = "react-json"
    max_new_tokens: int | None = None
    context_tokens: int | None = None
    role_of: Callable[[Tool], str] | None = None
    refusals: frozenset[str] = frozenset()
    identity: str = ""
    served: Callable[[], str] | None = None
    alternatives: tuple[ChatBackend, ...] = ()

    @property
    def best_prompt(self) -> str:
        """The name of the prompt that an agent asks the model with; one that copies would copy an example, too."""
        return "react-json" if self.constrain == "copy" else self.prompt


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One turn to generate.

    `messages` are OpenAI-style dicts: `role` (system, user, assistant, tool), `content` (str, or a list of parts with
    `type` text, image, audio, video), `tool_calls` and `tool_call_id` where there are any. `tools` are OpenAI function
    schemas. `response_format` is `{"type": "json_object"}` or `{"type": "json_schema", "json_schema": {...}}`.
    `grammar` is an llguidance Lark text the whole reply must match; servers know none and are not sent it. What they
    may hold an agent's turn to is `turn_schema` (see `agentkit.react_json.turn_object`), where they keep a
    `response_format`; where they do not, the turn is asked for all the same, and the last chunk's metadata say so
    (`SCHEMA_USE`). `holds_answer` says that the answer of an agent's turn is a value. `stream` says whether somebody
    reads along: without, the reply may come as one chunk. `top_logprobs` is None for none, 0 for the chosen tokens
    only. A prompt that leaves too little room for a reply loses its old observations, unless `shortens` is False:
    then that is a `PromptTooLong`. `options` are generation parameters by their GenerationConfig names
    (`max_new_tokens`); `token_budget` is what
    a run's budget leaves for this reply, which it may shorten and never lengthen.
    """

    messages: Sequence[Message]
    stop: Sequence[str] = ()
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: str | Mapping[str, Any] | None = None
    response_format: Mapping[str, Any] | None = None
    turn_schema: Mapping[str, Any] | None = None
    holds_answer: bool = False
    grammar: str | None = None
    top_logprobs: int | None = None
    stream: bool = True
    shortens: bool = True
    token_budget: int | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def holds_values(self) -> bool:
        """Whether its reply is read as calls or as a value, of which a part would pass for the whole."""
        return bool(self.tools or self.response_format or self.holds_answer)


@dataclass(frozen=True, slots=True)
class TokenLogprob:
    """A chosen token, its log probability, and the likeliest tokens at its place."""

    token: str
    logprob: float
    top: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCallPiece:
    """A tool call as a server streams it: pieces of one `index` add up; the first has `id` and `name`.

    `provider_fields` are what else its server wants back with it, for nobody else to read.
    """

    index: int = 0
    id: str | None = None
    name: str | None = None
    arguments: str = ""
    provider_fields: Mapping[str, Any] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A piece of a reply.

    `text` may hold `<think>` tags and overrun a stop string: the chat model separates and cuts. `thinking` is reasoning
    that came apart from the text already. `usage` is the total so far; the last one seen counts, and where a stop comes
    before any, tokens are counted approximately. `finish_reason` is set once, on the last chunk: "stop" or "tool_calls"
    of a reply that is whole; of any other, such as "length", no call is run. `metadata` is merged into
    `response_metadata`; a `model_name` in it is that of the model which answered.
    """

    text: str = ""
    thinking: str = ""
    tool_calls: tuple[ToolCallPiece, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    usage: Usage | None = None
    finish_reason: str | None = None
    metadata: Mapping[str, Any] | None = None

    @property
    def holds_something(self) -> bool:
        """Whether there is anything in it for a reader: text, thinking, calls, logprobs or metadata."""
        return bool(self.text or self.thinking or self.tool_calls or self.logprobs or self.metadata)


@dataclass(frozen=True, slots=True)
class NativeCall:
    """A tool call in the model's own syntax; `arguments` is the JSON text it wrote.

    One without a `name` came in a way that cannot be read: it must not run. `provider_fields` are what else its server
    wants back with it.
    """

    id: str
    name: str
    arguments: str
    provider_fields: Mapping[str, Any] = field(default_factory=dict, hash=False)

    def as_openai(self) -> dict[str, Any]:
        """The call as it stands in a `Message`."""
        function = {"name": self.name, "arguments": self.arguments}
        fields = {"provider_fields": self.provider_fields} if self.provider_fields else {}
        return {"id": self.id, "type": "function", "function": function, **fields}


@dataclass(frozen=True, slots=True)
class Completion:
    """A reply to its end. `finish_reason` is "stop" or "tool_calls" of a whole one, "length" of one that was cut off at
    its token limit, or the server's word where it broke it off.

    `cut_off` is what came of it from the first stop string on, where the backend went past it. `turn` is an
    agent's turn that came as an object, of which `text` is what was shown of it in the dialect meanwhile; or what came,
    where that began like one and is none. `schema_use` is what came of the request's `turn_schema`, `dropped` what was
    left out of the prompt (see `DROPPED_TO_FIT`).
    """

    text: str
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = "stop"
    thinking: str = ""
    tool_calls: tuple[NativeCall, ...] = ()
    cut_off: str = ""
    turn: Mapping[str, Any] | str | None = field(default=None, hash=False)
    schema_use: SchemaUse = ""
    dropped: Mapping[str, int] = field(default_factory=dict, hash=False)

    @property
    def is_cut_off(self) -> bool:
        """Whether the reply may not be whole: no call in it is run."""
        return is_cut_off(self.finish_reason)


@runtime_checkable
class ChatBackend(Protocol):
    """Computes replies to chat requests. `capabilities: Capabilities` may stand beside `model_id`."""

    @property
    def model_id(self) -> str:
        """The model's name, its folder, or its server's address."""
        ...

    def generate_chat(self, request: ChatRequest) -> Iterator[Chunk]:
        """The reply to one request, piece by piece."""
        ...

    def agenerate_chat(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """The same, asynchronously."""
        ...


class Closing(ABC):
    """A backend that holds what it can let go of: memory, a process, connections."""

    @abstractmethod
    def close(self) -> None:
        """Let go of it."""


class InProcess(Closing):
    """A backend whose model computes in this process, or in one of its own beside it."""

    @abstractmethod
    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt that the model sees for these messages, for people to read."""

    @abstractmethod
    def forget(self) -> None:
        """Let go of what was computed of earlier prompts."""


PROTOCOL = ("model_id", "generate_chat", "agenerate_chat")


def capabilities_of(backend: ChatBackend) -> Capabilities:
    """What a backend declares; of one that declares nothing, the least."""
    declared = getattr(backend, "capabilities", None) or Capabilities()
    if not isinstance(declared, Capabilities):
        raise ConfigurationError(
            f"expected {type(backend).__name__}.capabilities to be Capabilities, saw {described(declared)}"
        )
    return declared


def as_backend(value: Any) -> ChatBackend:
    """A backend, held to its protocol; raises `ConfigurationError` that says what it lacks."""
    name = value.__name__ if isinstance(value, type) else type(value).__name__
    if isinstance(value, type):
        raise ConfigurationError(f"expected a backend, saw {described(value)}; make one: {name}(…)")
    if missing := [one for one in PROTOCOL if not hasattr(value, one)]:
        raise ConfigurationError(
            f"{name} is no backend, it has no {' and no '.join(missing)}; a ChatBackend has {', '.join(PROTOCOL)}"
        )
    if not isinstance(value.model_id, str):
        raise ConfigurationError(f"expected {name}.model_id to be text, saw {described(value.model_id)}")
    capabilities_of(value)
    return cast("ChatBackend", value)
