"""How a model writes tool calls: learned from its own chat template, by letting that write some."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from agentkit.models.backend import Message
from agentkit.models.tool_calls import ToolCallText
from agentkit.react_json.marks import CALL_ID, CALL_NAME, LONGEST_MARK, MARKUP, TABLE, CallSyntax, Pairs, Tags

_NAME = "probe"
_NUMBER, _TEXT = 1717, "Zvalue"
_WITH_QUOTES = "Z\"a\" 'b' \\c"
_LONGEST_TURN = 5 * LONGEST_MARK  # characters of calls that a template writes: a download's text may be made for that
_KEYS = ("zfirst", "zlast")
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": "Probes",
        "parameters": {
            "type": "object",
            "properties": {
                _KEYS[0]: {"type": ["string", "integer"], "description": "A text"},
                _KEYS[1]: {"type": "integer", "description": "A number"},
            },
        },
    },
}
_ASKED: Message = {"role": "user", "content": "hello"}
_ANSWERED: Message = {"role": "assistant", "content": "Zq"}


class Render(Protocol):
    """A chat template: its text for messages and tools, or what templates raise."""

    def __call__(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], **options: Any) -> str: ...


@dataclass(frozen=True, slots=True)
class TemplateCalls:
    """What a template says of calls: their syntax, whether it shows tools, whether it writes calls of earlier turns
    itself, and just so but for white space."""

    syntax: CallSyntax
    shows_tools: bool = True
    writes_them: bool = True
    is_exact: bool = False


def learned_calls(
    render: Render,
    markup: re.Pattern[str] | None,
    *,
    tokens: Collection[str] = (),
    declared: CallSyntax | None = None,
) -> TemplateCalls | None:
    """How a template has calls written, by what it writes itself; `render` may raise what templates raise.

    That is taken apart, or found in the table of marks. Where it writes none it is the row of the table whose tokens
    are among the tokenizer's `tokens`, or stand beside those that it puts around results. What is `declared` to be the
    syntax goes before all that differs from it in more than white space. None where nothing is known of the calls.
    `markup` are the tokens that are not to be cut in two.
    """
    if _NAME not in render([_ASKED], [_TOOL]):
        return TemplateCalls(declared, shows_tools=False, writes_them=False) if declared else None
    writing = _Writing(render, markup)
    if _NAME not in (none := writing.calls({})):
        if CALL_ID in none:  # it takes an id for the name
            return None
        row = declared or _row_of_tokens(tokens, render([_ASKED, _calling({}), _result()], [_TOOL]))
        return TemplateCalls(row, writes_them=False) if row else None
    written = next((syntax for syntax in _candidates(writing) if _reads(syntax, writing)), None)
    if declared and not (written and _begin_alike(declared, written)):
        written = declared
    if written is None:
        return None
    arguments = _arguments(_TEXT, _NUMBER)
    is_exact = "".join(written.write((_NAME, arguments)).split()) in "".join(writing.calls(arguments).split())
    return TemplateCalls(written, is_exact=is_exact)


def _begin_alike(one: CallSyntax, other: CallSyntax) -> bool:
    first, second = ("".join(each.opening.split()) for each in (one, other))
    return first.endswith(second) or second.endswith(first)


def _candidates(writing: _Writing) -> Iterator[CallSyntax]:
    """What the calls may be written in, the likeliest first."""
    if (taken_apart := _taken_apart(writing)) is not None:
        yield taken_apart
    text = writing.calls(_arguments(_TEXT, _NUMBER))
    yield from (row for row in TABLE.calls if row.trigger and row.trigger in text)


def _reads(syntax: CallSyntax, writing: _Writing) -> bool:
    """Whether a call that the template writes is read in this syntax as what it is."""
    arguments = _arguments(_TEXT, _NUMBER)
    reader = ToolCallText(syntax, tools=[_TOOL])
    calls = [*reader.feed(writing.calls(arguments))[1], *reader.flush()[1]]
    names = {call.name for call in calls if call.name}
    try:
        return names == {_NAME} and json.loads("".join(call.arguments for call in calls)) == arguments
    except ValueError:
        return False


class _Writing:
    """A template's calls, each text without what a turn without calls has, too."""

    def __init__(self, render: Render, markup: re.Pattern[str] | None) -> None:
        self._render = render
        self._markup = re.compile("|".join(each.pattern for each in (markup, MARKUP) if each))
        self._answered = render([_ASKED, _ANSWERED], [_TOOL])
        self._prompt = render([_ASKED], [_TOOL], add_generation_prompt=True)

    def calls(self, *arguments: Mapping[str, Any]) -> str:
        """The text of a turn of calls with these arguments, as much of it as is looked at."""
        text = self._render([_ASKED, _calling(*arguments)], [_TOOL])
        text = re.sub(rf"({_NAME}:)\d", rf"\g<1>{CALL_ID}", text)
        start = _shared(text, self._answered)
        end = len(text) - _shared(text[start:][::-1], self._answered[start:][::-1])
        for token in self._markup.finditer(text):
            if token.start() < start < token.end():
                start = token.start()
            if token.start() < end < token.end():
                end = token.start() if end == start else token.end()
        begun = len(self._prompt)
        if text.startswith(self._prompt) and begun < start and not re.search(r"[<\[\n]", text[begun:start]):
            start = begun  # the model writes whom it addresses
        return _without_thought(text[start:end])[:_LONGEST_TURN]


def _without_thought(text: str) -> str:
    for opening, closing in TABLE.thinking.items():
        if text.lstrip().startswith(opening) and closing in text:
            return text.partition(closing)[2].lstrip()
    return text


def _taken_apart(writing: _Writing) -> CallSyntax | None:
    """The syntax as the parts of what the template writes; None where it cannot be taken apart."""
    first, last = _KEYS
    number = writing.calls({last: _NUMBER})
    json_call = re.fullmatch(rf'(.*){_NAME}(.*?)\{{\s*"{last}"\s*:\s*{_NUMBER}\s*\}}(.*)', number, re.DOTALL)
    call = json_call or re.fullmatch(rf"(.*){_NAME}(.*?){last}(.*?){_NUMBER}(.*)", number, re.DOTALL)
    if call is None or max(map(len, call.groups())) > LONGEST_MARK:
        return None
    opening, before, *_, after = call.groups()
    arguments: Tags | Pairs | None = None
    middle, closing = before, after
    if json_call is None:
        text = re.fullmatch(
            rf"{re.escape(opening + _NAME + before)}{last}(.*?){_TEXT}(.*)", writing.calls({last: _TEXT}), re.DOTALL
        )
        both = re.fullmatch(
            rf"{re.escape(opening + _NAME + before)}{first}.*?{_TEXT}(.*?){last}.*",
            writing.calls(_arguments(_TEXT, _NUMBER)),
            re.DOTALL,
        )
        if text is None or both is None:
            return None
        quote = text[1].removeprefix(call[3])
        if text[1] != call[3] and text[2] == quote + after and re.fullmatch(r"\s*[=:]\s*", call[3]):
            is_bare = quote in ('"', "'") and f"{quote}{_WITH_QUOTES}{quote}" in writing.calls({last: _WITH_QUOTES})
            arguments = Pairs(call[3], quote, is_bare)
        elif text[1] == call[3] and text[2] == after:
            tag = _ending_shared(before, both[1])
            end = both[1].removesuffix(tag)
            if not tag or not end.strip() or not after.startswith(end.rstrip()):
                return None
            middle, closing = before.removesuffix(tag), after[len(end) :] if after.startswith(end) else ""
            arguments = Tags(tag, call[3], end, _is_python(writing, call[3]))
        else:
            return None
    if not (opening + middle).strip() or _NAME in closing:
        return None
    between = _between(writing, opening, closing)
    syntax = CallSyntax(_named_elsewhere(opening), middle, between, closing, arguments)
    row = next((row for row in TABLE.calls if _ends_turns_too(row, syntax)), None)
    return replace(row, arguments=arguments) if row else syntax


def _ends_turns_too(row: CallSyntax, syntax: CallSyntax) -> bool:
    """Whether a syntax is a row of the table, but for what ends the turn behind it, and how constants are spelled."""
    known = row.arguments
    if isinstance(known, Tags) and isinstance(syntax.arguments, Tags):
        known = replace(known, is_python=syntax.arguments.is_python)
    same = replace(syntax, closing=row.closing) == replace(row, arguments=known)
    return same and syntax.closing.startswith(row.closing or "\0")


def _is_python(writing: _Writing, middle: str) -> bool | None:
    """Whether constants in tags are spelled as in Python; None where a template writes none."""
    try:
        text = writing.calls({_KEYS[1]: None})
    except Exception:  # templates refuse what they were not written for in many ways
        return None
    spelled = re.search(rf"{_KEYS[1]}{re.escape(middle)}(None|null)(?!\w)", text)
    return spelled and spelled[1] == "None"


def _between(writing: _Writing, opening: str, closing: str) -> str | None:
    """What stands between two calls; None where the template takes one call a turn, or drops all others."""
    arguments = {_KEYS[1]: _NUMBER}
    first = writing.calls(arguments).removesuffix(closing)
    try:
        both = writing.calls(arguments, arguments)
    except Exception:  # templates refuse what they were not written for in many ways: this one takes one call a turn
        return None
    second = first[len(opening) :] + closing
    if not both.startswith(first) or not both.endswith(second) or len(both) < len(first + second):
        return None
    return _named_elsewhere(both[len(first) : -len(second)])


def _named_elsewhere(text: str) -> str:
    return text.replace(_NAME, CALL_NAME)


def _ending_shared(before_first: str, between: str) -> str:
    """What stands in front of each key, from where a tag begins."""
    end = before_first[len(before_first) - _shared(before_first[::-1], between[::-1]) :]
    start = re.search(r"[<\[]", end)
    return end[start.start() :] if start else ""


def _row_of_tokens(tokens: Collection[str], text: str) -> CallSyntax | None:
    """The row of the table whose tokens a tokenizer has; else the one whose tokens' like for results are in `text`."""
    rows = [row for row in TABLE.calls[::-1] if row.tokens]  # those that models write today are the last
    own = (row for row in rows if all(token in tokens for token in row.tokens) and "call" in row.tokens[0])
    beside = (row for row in rows if "call" in row.tokens[0] and row.tokens[0].replace("call", "response") in text)
    return next(own, None) or next(beside, None)


def _arguments(text: str, number: int) -> dict[str, Any]:
    return dict(zip(_KEYS, (text, number), strict=True))


def _calling(*arguments: Mapping[str, Any]) -> Message:
    calls = [
        {"id": CALL_ID, "type": "function", "function": {"name": _NAME, "arguments": json.dumps(each)}}
        for each in arguments
    ]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _result() -> Message:
    return {"role": "tool", "content": "Zresult", "tool_call_id": CALL_ID, "name": _NAME}


def _shared(first: str, second: str) -> int:
    """How many letters two texts have in common from their beginning."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))
