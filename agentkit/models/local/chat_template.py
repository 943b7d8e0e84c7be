"""Renders messages with a model's own chat template; special tokens inside what people and tools wrote stay text.

A strict template takes no system role or no tools, and user and assistant in turns only: it gets the same in words.
"""

from __future__ import annotations

import copy
import hashlib
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache, partial
from typing import Any

from agentkit.errors import ConfigurationError, in_one_line
from agentkit.models.backend import Message
from agentkit.models.call_syntax import TemplateCalls, learned_calls
from agentkit.models.local.bounds import check_template, in_bounds, parsed, too_deep
from agentkit.models.local.encoding import SEAM, of_characters
from agentkit.models.messages import alternating, content_parts, joined_content, without_system
from agentkit.models.response_template import declared_calls
from agentkit.models.tool_calls import instructions
from agentkit.react_json.marks import BREAK, CALL_ID, HERMES, LABELS, CallSyntax, literals

_LOG = logging.getLogger("agentkit")
_LABEL = re.compile(rf"(?:{'|'.join(LABELS.values())}):")
PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ message.role | capitalize }}: {{ message.content }}\n\n{% endfor %}"
    "{% if add_generation_prompt %}Assistant: {% endif %}"
)
"""For base models that come without a template."""
FORMS: Sequence[Mapping[str, bool]] = (
    {},
    {"arguments_as_text": True},
    {"short_ids": True},
    {"counted_ids": True},
)
"""How calls are given to a template: as they are; with arguments it can join to text (DeepSeek's); with ids of the nine
letters and digits that some insist on (Mistral's), or of a name and a number (Kimi's)."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
"""The names by which templates read what a turn of theirs thought."""
_ESCAPED_SEAM = SEAM.encode("ascii", "backslashreplace").decode()
"""A seam as templates write it that have Python or JSON spell a list; in what people wrote this has a seam inside."""
_PRINTABLE = "\N{REPLACEMENT CHARACTER}"  # which is spelled as it is
_ASKED: Message = {"role": "user", "content": "Zasked"}
_ANSWERED: Message = {"role": "assistant", "content": "Zanswered"}
_CALL = {"id": CALL_ID, "type": "function", "function": {"name": "echo", "arguments": "{}"}}
OF_A_CONVERSATION = frozenset(
    "add_generation_prompt continue_final_message messages namespace raise_exception strftime_now tojson tools".split()
)
"""What a template reads that is no option of a user's."""


class ChatTemplate:
    """The template of one tokenizer, or of a processor where the model takes images, sound or video; or another."""

    def __init__(self, processor: Any, *, template: str | None = None) -> None:
        self.processor = processor
        self._tokenizer = tokenizer = getattr(processor, "tokenizer", processor)
        self._writer = processor if getattr(processor, "chat_template", None) else tokenizer
        own = getattr(self._writer, "chat_template", None)
        self._template = template or (None if own else PLAIN_TEMPLATE)
        own = "\n".join(own.values()) if isinstance(own, dict) else own
        self.source = str(template or own or PLAIN_TEMPLATE)
        check_template(self.source)
        self._problem = ""  # why it is not run again
        self._variables: Mapping[str, Any] = {}
        self._markup = Markup(tokenizer, str(template or own or ""))
        self.special = {str(token): number for number, token in added_tokens(tokenizer).items() if no_text(token)}
        self._forms = FORMS
        self._in_parts = self._wants_parts()
        if template:  # one that is given is tried at once
            variables_of(template)
            self.render([{"role": "user", "content": "hello"}])

    @property
    def is_own(self) -> bool:
        """Whether it is the model's, or was given for it."""
        return self._template is not PLAIN_TEMPLATE

    def told(self, variables: Mapping[str, Any]) -> ChatTemplate:
        """This template, told these variables with every prompt; refuses one that it does not read."""
        if not variables:
            return self
        read = variables_of(self.source) - OF_A_CONVERSATION
        for name in variables:
            if name not in read:
                others = f"It reads {', '.join(sorted(read))}." if read else "It reads none."
                raise ConfigurationError(f"The chat template reads no {name} of chat_template_kwargs. {others}")
        told = copy.copy(self)
        told._variables = {**self._variables, **variables}
        return told

    @cached_property
    def shown(self) -> str:
        """What it shows of marks: its source, and an answer that it writes: there parts of a mark come together."""
        with suppress(*refusals()):
            return f"{self.source}{self._write([_ASKED, _ANSWERED], ())}"
        return self.source

    @property
    def native_calls(self) -> CallSyntax | None:
        """The syntax it writes tool calls in, if it shows tools and that can be read."""
        return self._calls.syntax if self._calls and self._calls.shows_tools else None

    @cached_property
    def _calls(self) -> TemplateCalls | None:
        """What it says of calls, given in the first form in which they can be read; that is the form from then on."""
        tokens = {str(token) for token in added_tokens(self._tokenizer).values()}
        declared, problem = None, ""
        try:
            template = getattr(self._tokenizer, "response_template", None)
            declared = None if template is None else declared_calls(template)
        except ValueError as error:
            problem = str(error)
        found: list[tuple[TemplateCalls, Mapping[str, bool]]] = []
        for form in FORMS:
            render = partial(self._write, forms=(form,))
            with suppress(*refusals()):
                calls = learned_calls(render, self._markup.pattern, tokens=tokens, declared=declared)
                found += [(calls, form)] if calls else []
                if calls and calls.is_exact:
                    break
        calls, chosen = max(found, key=lambda one: (one[0].is_exact, one[0].writes_them), default=(None, FORMS[0]))
        if declared and not calls:  # it takes no tools
            calls = TemplateCalls(declared, shows_tools=False, writes_them=False)
        self._forms = (chosen, *(form for form in FORMS if form != chosen))
        if problem:
            instead = "what its chat template writes" if calls else "the known syntaxes"
            _LOG.warning("The model's response_template is not used (%s); calls are read by %s.", problem, instead)
        return calls

    @property
    def call_syntax(self) -> CallSyntax:
        """The syntax the model is to call tools in."""
        return self._calls.syntax if self._calls else HERMES

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
        refusal: Exception | None = None
        for attempt, native in self._attempts(guarded, tools):
            try:
                text = self.text(attempt, native or ())
            except ConfigurationError:  # which is why it is not run at all
                raise
            except refusals() as error:
                refusal = error
                continue
            if native is None or _shows_tools(text, attempt, native):
                return text, attempt, native or ()
        raise ConfigurationError(
            "expected messages the model's chat template accepts, it refused: "
            f"{in_one_line(refusal, 300) or type(refusal).__name__}"
        ) from refusal

    def _attempts(
        self, messages: list[Message], tools: Sequence[Mapping[str, Any]]
    ) -> Iterator[tuple[list[Message], Sequence[Mapping[str, Any]] | None]]:
        """The messages and tools as the template may take them; then the messages with all that in words."""
        if not tools or self.native_calls:
            yield from ((written, tools) for written in self._as_written(messages))
        told = _with_system(messages, instructions(tools, self.call_syntax)) if tools else messages
        syntax = self.call_syntax if any(message.get("tool_calls") for message in messages) else HERMES
        yield _alternating(told, syntax), None
        yield _alternating(without_system(told), syntax), None

    def _as_written(self, messages: list[Message]) -> list[list[Message]]:
        """The messages as the template writes a run's earlier turns: with their thoughts, if it takes them.

        Calls are one a turn where it takes no more, and written out where it drops them.
        """
        if any(message.get("tool_calls") for message in messages) and (syntax := self.native_calls):
            if syntax.between is None:
                messages = _one_call_a_turn(messages)
            if not (self._calls and self._calls.writes_them):
                messages = [_called_in_text(each, syntax) if each.get("tool_calls") else each for each in messages]
        plain = [{name: part for name, part in message.items() if name not in THOUGHTS} for message in messages]
        return [messages, plain] if plain != messages else [messages]

    def text(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> str:
        """The template's text for just these messages; raises what templates raise."""
        written: str = self._write(messages, tools, **_ending(messages))
        return written.replace(_ESCAPED_SEAM, SEAM)

    def tensors(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """A processor's inputs for messages with images, sound or video.

        It encodes the whole prompt at once: a character does here what separate encoding does for text.
        """
        wedge = self._markup.wedge
        if _ESCAPED_SEAM in self._write(messages, tools, **_ending(messages)):
            wedge = _PRINTABLE
        messages, tools = each_text([messages, tools], lambda text: text.replace(SEAM, wedge), keys=True)
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
            messages.insert(1, {"role": "assistant", "content": "", "tool_calls": [_CALL]})
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
        forms: Sequence[Mapping[str, bool]] = (),
        **options: Any,
    ) -> Any:
        """What the template makes of the messages, in the first form that it takes."""
        forms = forms or self._forms
        writer, template = self._writer, self._template
        if tokenize and writer is not self.processor:
            writer, template = self.processor, template or writer.chat_template
        options = {**self._variables, **options}
        form = dict(forms[0])
        numbered = _with_counted_ids(messages) if form.pop("counted_ids", False) else messages
        read = [_in_form(self._without_blanks(message), in_parts=self._in_parts, **form) for message in numbered]
        given = {**options, "chat_template": template, "tools": list(tools) or None, "tokenize": tokenize}
        if self._problem:
            raise ConfigurationError(self._problem)
        try:
            with in_bounds():
                return writer.apply_chat_template(read, **given)
        except ConfigurationError as error:
            self._problem = str(error)
            raise
        except SyntaxError as error:  # of the program that is made of it
            self._problem = str(problem := too_deep())
            raise problem from error
        except refusals():
            if not forms[1:] or not any(message.get("tool_calls") for message in messages):
                raise
        return self._write(messages, tools, tokenize=tokenize, forms=forms[1:], **options)

    def _without_blanks(self, message: Message) -> Message:
        """A turn of calls without those blanks around its thought, and behind its text, that the template adds: written
        twice they would be another prompt than the model has seen, and computed."""
        if message.get("tool_calls"):
            for name in (THOUGHTS[0], "content"):
                if isinstance(text := message.get(name), str) and text != text.strip():
                    before, after = self._own_blanks[name]
                    message = {**message, name: text.removeprefix(before).removesuffix(after)}
        return message

    @cached_property
    def _own_blanks(self) -> Mapping[str, tuple[str, str]]:
        """What it writes itself on both sides of a thought, and behind a text, of a turn of calls."""
        result = {"role": "tool", "tool_call_id": CALL_ID, "name": "echo", "content": "Zresult"}
        blanks = dict.fromkeys((THOUGHTS[0], "content"), ("", ""))
        for name in blanks:
            turn = {"role": "assistant", "content": "", "tool_calls": [_CALL], name: "Zpart"}
            with suppress(*refusals()):
                if found := re.search(r"(\s*)Zpart(\s*)", self._write([_ASKED, turn, result], ())):
                    blanks[name] = (found[1] if name in THOUGHTS else "", found[2])
        return blanks

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
        self._letters = {ord(token): _PRINTABLE for token in tokens if len(token) == 1}
        self._tokens = sorted((token for token in tokens if len(token) > 1), key=lambda token: (-len(token), token))
        self.pattern = re.compile(literals(self._tokens)) if self._tokens else None
        self._cut_in_two = re.compile(literals([*self._tokens, _ESCAPED_SEAM]))
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
        text = of_characters(text.replace(SEAM, "")).translate(self._letters)
        pieces, start, at = [], 0, 0
        while found := self._cut_in_two.search(text, at):
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
            return _PRINTABLE
        middle = len(text) // 2
        return SEAM.join((self._unread(text[:middle]), self._unread(text[middle:])))

    @cached_property
    def wedge(self) -> str:
        """What stands in the place of a seam where the whole prompt is encoded at once."""
        cut = [f"{token[0]}{BREAK}{token[1:]}" for token in self._tokens]
        return BREAK if all(self._unread(text) == text for text in cut) else _PRINTABLE


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


def no_text(token: Any) -> bool:
    """Whether a grammar takes an added token for one that no text spells: llguidance's rule."""
    return bool(token.special or (str(token).startswith("<") and str(token).endswith(">")))


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


def _in_form(
    message: Message,
    *,
    in_parts: bool,
    short_ids: bool = False,
    arguments_as_text: bool = False,
) -> Message:
    """A message as a template reads it: calls with their arguments as a value, where the wire has text."""

    def as_read(call: Mapping[str, Any]) -> dict[str, Any]:
        function, id_ = call["function"], call["id"]
        arguments = function["arguments"] if arguments_as_text else json.loads(function["arguments"])
        return {**call, "id": _short_id(id_) if short_ids else id_, "function": {**function, "arguments": arguments}}

    message = dict(message)
    if thought := message.get(THOUGHTS[0]):
        message |= dict.fromkeys(THOUGHTS, thought)
    if message.get("tool_calls"):
        message["tool_calls"] = [as_read(call) for call in message["tool_calls"]]
    if short_ids and message.get("tool_call_id"):
        message["tool_call_id"] = _short_id(message["tool_call_id"])
    if in_parts and isinstance(message.get("content"), str):
        message["content"] = content_parts(message["content"])
    return message


def _short_id(number: str) -> str:
    """An id in nine letters and digits: what Mistral's template insists on."""
    return number if re.fullmatch("[a-zA-Z0-9]{9}", number) else hashlib.sha256(number.encode()).hexdigest()[:9]


def _with_counted_ids(messages: Sequence[Message]) -> list[Message]:
    """The messages with ids that say a call's name and its number in the conversation."""
    ids: dict[str, str] = {}
    numbered = []
    for message in messages:
        message = dict(message)
        if message.get("tool_calls"):
            calls = []
            for call in message["tool_calls"]:
                id_ = f"functions.{call['function']['name']}:{len(ids)}"
                ids[call["id"] if call["id"] not in ids else id_] = id_
                calls.append({**call, "id": id_})
            message["tool_calls"] = calls
        if message.get("tool_call_id") in ids:
            message["tool_call_id"] = ids[message["tool_call_id"]]
        numbered.append(message)
    return numbered


def _one_call_a_turn(messages: Sequence[Message]) -> list[Message]:
    """The messages with each turn of several calls as several turns, each followed by what its call gave."""
    single: list[Message] = []
    waiting: list[Message] = []  # turns whose results have not come
    for message in messages:
        if message["role"] == "tool" and waiting:
            at = next((at for at, turn in enumerate(waiting) if _gave(turn, message)), 0)
            single += [waiting.pop(at), message]
            continue
        single += waiting
        waiting = []
        calls = message.get("tool_calls") or ()
        if len(calls) < 2:
            single.append(message)
            continue
        waiting = [{"role": message["role"], "content": "", "tool_calls": [call]} for call in calls]
        waiting[0] = {**message, "tool_calls": calls[:1]}
    return single + waiting


def _gave(turn: Message, result: Message) -> bool:
    return bool(turn["tool_calls"][0]["id"] == result.get("tool_call_id"))


def refusals() -> tuple[type[Exception], ...]:
    """What a template raises for messages it does not take (`raise_exception`, or an operation on a missing field), or
    where it is wrong itself."""
    from jinja2 import TemplateError

    in_python = (ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, TypeError, ValueError)
    return (TemplateError, *in_python)


def variables_of(template: str) -> frozenset[str]:
    """What a template reads beside what it sets itself; raises `ConfigurationError` for one that is none."""
    from jinja2 import TemplateError, meta

    try:
        return frozenset(meta.find_undeclared_variables(parsed(template)))
    except (TemplateError, RecursionError) as error:
        raise ConfigurationError(f"The chat template is no Jinja template: {in_one_line(error, 300)}") from error


def _with_system(messages: Sequence[Message], text: str) -> list[Message]:
    """`text` added to the system message."""
    if messages and messages[0]["role"] == "system":
        return [{**messages[0], "content": joined_content(messages[0]["content"], text)}, *messages[1:]]
    return [{"role": "system", "content": text}, *messages]


def _alternating(messages: Sequence[Message], syntax: CallSyntax) -> list[Message]:
    """Calls as text, their results as the user's observations, and neighbours of one role joined."""
    return alternating([_in_words(message, syntax) for message in messages])


def _in_words(message: Message, syntax: CallSyntax) -> Message:
    content = message.get("content") or ""
    if message["role"] == "tool":
        observed = f"Observation: {content}" if isinstance(content, str) else joined_content("Observation:", content)
        return {"role": "user", "content": observed}
    if not message.get("tool_calls"):
        return message
    return _called_in_text(message, syntax)


def _called_in_text(message: Message, syntax: CallSyntax) -> Message:
    """An assistant's message with its calls at the end of its text."""
    functions = [call["function"] for call in message["tool_calls"]]
    calls = syntax.write(*((function["name"], json.loads(function["arguments"])) for function in functions))
    content = message.get("content") or ""
    if not isinstance(content, str):
        return {"role": "assistant", "content": joined_content(content, calls)}
    line_end = "" if not content or content.endswith("\n") else "\n"
    return {"role": "assistant", "content": f"{content}{line_end}{calls}"}
