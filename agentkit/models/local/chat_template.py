"""Renders messages with a model's own chat template; special tokens inside what people and tools wrote stay text.

A strict template takes no system role or no tools, and user and assistant in turns only: it gets the same in words.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache, reduce
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.models.backend import Message
from agentkit.models.call_syntax import learned_syntax
from agentkit.models.local.encoding import SEAM
from agentkit.models.tool_calls import instructions
from agentkit.react_json.marks import BREAK, CALL_ID, HERMES, LABELS, CallSyntax

_LABEL = re.compile(rf"(?:{'|'.join(LABELS.values())}):")
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)
"""For base models that come without a template."""
FORMS: Sequence[Mapping[str, bool]] = ({}, {"arguments_as_text": True}, {"short_ids": True})
"""How calls are given to a template: as they are; with arguments it can join to text (DeepSeek's); with ids of the nine
letters and digits that some insist on (Mistral's)."""


class ChatTemplate:
    """The template of one tokenizer, or of a processor where the model takes images, sound or video."""

    def __init__(self, processor: Any) -> None:
        self.processor = processor
        tokenizer = getattr(processor, "tokenizer", processor)
        self._writer = processor if getattr(processor, "chat_template", None) else tokenizer
        self._template = None if getattr(self._writer, "chat_template", None) else PLAIN_TEMPLATE
        self._markup = Markup(tokenizer, str(getattr(self._writer, "chat_template", "")))
        self.special = {str(token): number for number, token in added_tokens(tokenizer).items() if token.special}
        self._in_parts = self._wants_parts()

    @property
    def is_own(self) -> bool:
        """Whether the model brought it."""
        return self._template is None

    @cached_property
    def native_calls(self) -> CallSyntax | None:
        """The syntax it writes tool calls in, if it shows tools and that can be read."""
        try:
            return learned_syntax(self._write, self._markup.pattern)
        except refusals():
            return None

    @property
    def call_syntax(self) -> CallSyntax:
        """The syntax the model is to call tools in."""
        return self.native_calls or HERMES

    def prompt_text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt for people to read."""
        return self.render(messages, tools=tools).replace(SEAM, "")

    def render(self, messages: Sequence[Message], *, tools: Sequence[Mapping[str, Any]] = ()) -> str:
        """The prompt text, up to where the assistant's turn begins (or goes on, if the last message is its own)."""
        return self.accepted(messages, tools)[0]

    def accepted(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]
    ) -> tuple[str, Sequence[Message], Sequence[Mapping[str, Any]]]:
        """The prompt text, with the messages and tools it was made of.

        A template that refuses a role, or drops tools and their results without a word, gets them in words it takes.
        """
        guarded = [self._markup.guarded(message) for message in messages]
        tools = each_text(tools, self._markup.broken, keys=True)
        instructed = _with_system(guarded, instructions(tools)) if tools else guarded
        as_they_are = [(guarded, tools)] if not tools or self.native_calls else []
        in_words = [(_alternating(instructed), ()), (_alternating(_without_system(instructed)), ())]
        refusal: Exception | None = None
        for attempt, native in (*as_they_are, *in_words):
            try:
                text = self.text(attempt, native)
            except refusals() as error:
                refusal = error
                continue
            if attempt is not guarded or _shows_tools(text, attempt, native):
                return text, attempt, native
        raise ConfigurationError(
            f"expected messages the model's chat template accepts, it refused: {' '.join(str(refusal).split())[:300]}"
        ) from refusal

    def text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
        """The template's text for just these messages; raises what templates raise."""
        written: str = self._write(messages, tools, **_ending(messages))
        return written

    def tensors(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A processor's inputs for messages with images, sound or video.

        It encodes the whole prompt at once: a character does here what separate encoding does for text.
        """
        messages, tools = each_text([messages, tools], lambda text: text.replace(SEAM, self._markup.wedge), keys=True)
        return dict(
            self._write(messages, tools, tokenize=True, return_dict=True, return_tensors="pt", **_ending(messages))
        )

    def takes_role(self, role: str) -> bool:
        """Whether the model's own template writes a message of this role into the prompt."""
        probe = "takes this role"
        messages: list[Message] = [{"role": "user", "content": "hello"}, {"role": role, "content": probe}]
        if role == "system":
            messages.reverse()
        if role == "tool":
            call = {"id": CALL_ID, "type": "function", "function": {"name": "echo", "arguments": "{}"}}
            messages.insert(1, {"role": "assistant", "content": "", "tool_calls": [call]})
            messages[2] |= {"tool_call_id": CALL_ID, "name": "echo"}
        try:
            text = self.text(messages, ())
        except refusals():
            return False
        return probe in text and (role != "tool" or "echo" in text)

    def _write(
        self,
        messages: Sequence[Message],
        tools: Sequence[Mapping[str, Any]],
        *,
        tokenize: bool = False,
        forms: Sequence[Mapping[str, bool]] = FORMS,
        **options: Any,
    ) -> Any:
        """What the template makes of the messages, in the first form that it takes."""
        writer, template = self._writer, self._template
        if tokenize and writer is not self.processor:
            writer, template = self.processor, writer.chat_template
        read = [_in_form(message, in_parts=self._in_parts, **forms[0]) for message in messages]
        given = {**options, "chat_template": template, "tools": list(tools) or None, "tokenize": tokenize}
        try:
            return writer.apply_chat_template(read, **given)
        except refusals():
            if not forms[1:] or not any(message.get("tool_calls") for message in messages):
                raise
        return self._write(messages, tools, tokenize=tokenize, forms=forms[1:], **options)

    def _wants_parts(self) -> bool:
        """Whether the template reads contents as lists of parts only."""
        if self._writer is not self.processor or not hasattr(self.processor, "tokenizer"):
            return False
        self._in_parts = False
        message: Message = {"role": "user", "content": "plain text"}
        try:
            return "plain text" not in self._write([message], ())
        except refusals():
            return True


class Markup:
    """What only a template may write, by its own tokenizer: the special tokens, and of the other added ones those that
    look like markup or stand in the template (not runs of spaces, labels of the dialect, which are the loop's own, nor
    words that a tokenizer keeps whole)."""

    def __init__(self, tokenizer: Any, template: str) -> None:
        added = added_tokens(tokenizer)
        special = {str(token) for token in added.values() if token.special} | set(tokenizer.all_special_tokens)
        others = {str(token) for token in added.values()} - special
        tokens = special | {token for token in others if re.search(r"[<\[|\]]", token) or token in template}
        tokens = {token for token in tokens if token.strip(" \t\r\n") and not _LABEL.fullmatch(token)}
        self._tokenizer = tokenizer
        self._letters = {ord(token): "\N{REPLACEMENT CHARACTER}" for token in tokens if len(token) == 1}
        self._tokens = sorted((token for token in tokens if len(token) > 1), key=lambda token: (-len(token), token))
        self.pattern = re.compile("|".join(map(re.escape, self._tokens))) if self._tokens else None
        unknown = {getattr(tokenizer, "unk_token", None)}  # any text may hold what a tokenizer does not know
        self._ids = {tokenizer.convert_tokens_to_ids(token) for token in tokens - unknown}
        self._begins = {token[:length] for token in self._tokens for length in range(1, len(token))}
        self._ends = {token[-length:] for token in self._tokens for length in range(1, len(token))}
        self.broken = lru_cache(maxsize=256)(self._broken)

    def guarded(self, message: Message) -> Message:
        """A message in which nothing that anybody wrote becomes a token of markup."""
        guarded = {name: part if name == "role" else each_text(part, self.broken) for name, part in message.items()}
        if message.get("tool_calls"):
            guarded["tool_calls"] = [self._guarded_call(call) for call in message["tool_calls"]]
        return guarded

    def _guarded_call(self, call: Mapping[str, Any]) -> Any:
        """In arguments a token can be spelled with JSON's escapes, too, which templates read."""
        function = call["function"]
        try:
            arguments = json.loads(function["arguments"])
        except (ValueError, TypeError, RecursionError):
            return each_text(call, self.broken)
        text, broken = function["arguments"], each_text(arguments, self.broken, keys=True)
        if broken != arguments:
            text = json.dumps(broken, ensure_ascii=False)
        others = each_text({name: part for name, part in function.items() if name != "arguments"}, self.broken)
        return {**each_text({**call, "function": None}, self.broken), "function": {**others, "arguments": text}}

    def _broken(self, text: str) -> str:
        """The text with a seam inside everything that the tokenizer would read as markup, also together with what a
        template writes around it."""
        text = text.replace(SEAM, "").translate(self._letters)
        pieces, start, at = [], 0, 0
        while self.pattern and (found := self.pattern.search(text, at)):
            at = found.start() + 1
            pieces.append(text[start:at])
            start = at
        text = SEAM.join(map(self._unread, [*pieces, text[start:]]))
        before = SEAM if any(text.startswith(end) for end in self._ends) else ""
        after = SEAM if any(text.endswith(begin) for begin in self._begins) else ""
        return f"{before}{text}{after}"

    def _unread(self, text: str) -> str:
        """The text in pieces in which a tokenizer that normalizes (full-width letters, capitals) finds no markup."""
        if not text or self._ids.isdisjoint(self._tokenizer(text, add_special_tokens=False)["input_ids"]):
            return text
        if len(text) == 1:
            return "\N{REPLACEMENT CHARACTER}"
        middle = len(text) // 2
        return SEAM.join((self._unread(text[:middle]), self._unread(text[middle:])))

    @cached_property
    def wedge(self) -> str:
        """What stands in the place of a seam where the whole prompt is encoded at once."""
        cut = [f"{token[0]}{BREAK}{token[1:]}" for token in self._tokens]
        return BREAK if all(self._unread(text) == text for text in cut) else "\N{REPLACEMENT CHARACTER}"


def each_text(value: Any, change: Callable[[str], str], *, keys: bool = False) -> Any:
    """A JSON value with every text in it changed, names of fields only with `keys`."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(name) if keys else name: each_text(part, change, keys=keys) for name, part in value.items()}
    return [each_text(part, change, keys=keys) for part in value] if isinstance(value, list | tuple) else value


def added_tokens(tokenizer: Any) -> Mapping[int, Any]:
    """The tokens beyond the trained vocabulary, by id."""
    return getattr(tokenizer, "added_tokens_decoder", {})


def _shows_tools(text: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the tools, the calls and their results are all in the prompt."""
    wanted = [tool["function"]["name"] for tool in tools]
    for message in messages:
        wanted += [call["function"]["name"] for call in message.get("tool_calls") or ()]
        if message["role"] == "tool" and isinstance(message["content"], str):
            wanted.append(message["content"].strip())
    return all(each in text or json.dumps(each, ensure_ascii=False)[1:-1] in text for each in wanted)


def _ending(messages: Sequence[Message]) -> dict[str, Any]:
    """Whether the assistant's turn is to begin or, being the last message, to go on."""
    continues = bool(messages) and messages[-1]["role"] == "assistant" and not messages[-1].get("tool_calls")
    return {"add_generation_prompt": not continues, "continue_final_message": continues}


def _in_form(message: Message, *, in_parts: bool, short_ids: bool = False, arguments_as_text: bool = False) -> Message:
    """A message as a template reads it: calls with their arguments as a value, where the wire has text."""

    def as_read(call: Mapping[str, Any]) -> dict[str, Any]:
        function, id_ = call["function"], call["id"]
        arguments = function["arguments"] if arguments_as_text else json.loads(function["arguments"])
        return {**call, "id": _short_id(id_) if short_ids else id_, "function": {**function, "arguments": arguments}}

    message = dict(message)
    if message.get("tool_calls"):
        message["tool_calls"] = [as_read(call) for call in message["tool_calls"]]
    if short_ids and message.get("tool_call_id"):
        message["tool_call_id"] = _short_id(message["tool_call_id"])
    if in_parts and isinstance(message.get("content"), str):
        message["content"] = _parts(message["content"])
    return message


def _short_id(number: str) -> str:
    """An id in nine letters and digits: what Mistral's template insists on."""
    return number if re.fullmatch("[a-zA-Z0-9]{9}", number) else hashlib.sha256(number.encode()).hexdigest()[:9]


def refusals() -> tuple[type[Exception], ...]:
    """What a template raises for messages it does not take (`raise_exception`, or an operation on a missing field)."""
    from jinja2 import TemplateError

    return (TemplateError, ValueError, TypeError)


def _with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """`text` added to the system message."""
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": _joined(messages[0]["content"], text)}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The system message's text at the head of the first user message."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system:
        return rest
    content = reduce(_joined, system)
    if rest and rest[0]["role"] == "user":
        return [{**rest[0], "content": _joined(content, rest[0]["content"])}, *rest[1:]]
    return [{"role": "user", "content": content}, *rest]


def _alternating(messages: Sequence[Message]) -> list[Message]:
    """Calls as text, their results as the user's observations, and neighbours of one role joined."""
    joined: list[Message] = []
    for message in map(_in_words, messages):
        if joined and joined[-1]["role"] == message["role"]:
            joined[-1] = {**joined[-1], "content": _joined(joined[-1]["content"], message["content"])}
        else:
            joined.append(message)
    return joined


def _joined(first: Any, second: Any) -> Any:
    """Two contents as one: texts with an empty line between, or the parts of both."""
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    return [*_parts(first), *_parts(second)]


def _parts(content: Any) -> list[Any]:
    return [{"type": "text", "text": content}] if isinstance(content, str) else list(content)


def _in_words(message: Message) -> Message:
    content = message.get("content") or ""
    if message["role"] == "tool":
        observed = f"Observation: {content}" if isinstance(content, str) else _joined("Observation:", content)
        return {"role": "user", "content": observed}
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    calls = HERMES.write(*((function["name"], json.loads(function["arguments"])) for function in functions))
    if not isinstance(content, str):
        return {"role": "assistant", "content": _joined(content, calls)}
    return {"role": "assistant", "content": f"{content}\n{calls}" if content else calls}
