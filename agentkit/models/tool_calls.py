"""Tool calls in a model's own text, read as they are written; and the words for models that were told of no tools."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Literal

from agentkit.events import Action
from agentkit.models.backend import ToolCallPiece
from agentkit.models.text_so_far import CLOSED_QUOTES, FENCE, WORD, TextSoFar
from agentkit.react_json.calls import CallReader, behind, reader_of
from agentkit.react_json.lenient_json import BrokenJson
from agentkit.react_json.marks import (
    CALL_NAME,
    HERMES,
    MARKUP,
    NAME,
    TABLE,
    CallSyntax,
    Marks,
    alternation,
    loose,
    pieces_of,
)
from agentkit.react_json.turn import NotADecision

LONGEST_HEAD = 600  # characters up to a call's arguments: what has more is read when the reply ends
_FENCE_ALONE = re.compile(r"\s{0,20}`{3,20}[\w+-]{0,40}\s{0,20}\Z")
_BARE = re.compile(r"\s*(?:`{3,}[\w+-]*\s+)?[{\[]")
_TEMPLATE_TOKEN = r"<[|｜][^<>\n]{1,60}>"
_ENDS_IN_MARKUP = re.compile(rf"(?:{MARKUP.pattern})\s*\Z")
MOST_READ_AT_ONCE = 32  # times that calls are read before the reply ends, each at the price of those before them
MOST_FAILURES = 100  # tokens that open no call, before the rest of a reply is text


def instructions(tools: Sequence[Mapping[str, Any]], syntax: CallSyntax = HERMES) -> str:
    """What a model whose template knows no tools is told."""
    schemas = "\n".join(json.dumps(tool["function"], ensure_ascii=False) for tool in tools)
    call = f"{syntax.opening}TOOL{syntax.middle}{{...}}{syntax.closing}"
    if syntax.arguments is not None:
        call = syntax.write(("TOOL", {"ARGUMENT": "VALUE"}))
    return f"You may call these tools, given as JSON schemas:\n{schemas}\nTo call one, write\n{call}"


class ToolCallText:
    """Keeps the text of a reply apart from its calls, however the pieces are cut.

    A call with JSON arguments is passed on as it comes, its name first, where it can be nothing else: in the model's
    own syntax, or where it begins the reply. One with other arguments in the model's own syntax is passed on when the
    token has come that ends it. All others are held until the end and read then; one that the end of the reply has cut
    is passed on as it is written, which nothing runs. As in the dialect, calls count that begin or end what the model
    says; between words, in quotes or in a fence they are quoted.
    """

    def __init__(
        self, syntax: CallSyntax = HERMES, *, tools: Sequence[Mapping[str, Any]] = (), table: Marks = TABLE
    ) -> None:
        self._syntax = syntax
        self._schemas = {tool["function"]["name"]: tool["function"].get("parameters") or {} for tool in tools}
        self._reader, self._streams = _readers(syntax, table)
        self._stream = self._streams[0]
        self._state: Literal["text", "opening", "arguments", "after", "whole", "late"] = "text"
        self._held: list[str] = []
        self._from_opening: list[str] = []
        self._text = TextSoFar()
        self._early = False
        self._arguments = _JsonObject()
        self._tail = ""
        self._read_to = 0  # of what is held, tokens that may end a call
        self._reads = 0
        self._passed_on = 0  # of what is held, calls that were whole
        self._count = 0

    def feed(self, text: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """The text that certainly belongs to no call, and the pieces of calls that are complete."""
        self._held.append(text)
        if self._state != "text":
            self._from_opening.append(text)
        if self._state == "late" or not text:
            return "", ()
        if self._state == "whole":
            return "", self._whole_calls(text)
        held, released = "".join(self._held), ""
        if self._state == "text":
            released, held = self._released(held)
        pieces: list[ToolCallPiece] = []
        while (step := self._piece(held)) is not None:
            piece, held = step
            if pieces and pieces[-1].index == piece.index:
                pieces[-1] = replace(pieces[-1], arguments=pieces[-1].arguments + piece.arguments)
            else:
                pieces.append(piece)
        self._held = [held]
        return released, (*pieces, *self._whole_calls(held))

    def flush(self) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """The text that was no call after all, and the calls that were not passed on yet."""
        held, self._held = "".join(self._held), []
        if self._state in ("text", "arguments"):
            return held, ()
        if self._passed_on and self._read(held) is None:  # so that none of them is run
            rest = f",{held[self._passed_on :]}"  # which no arguments can begin or go on with
            return "", tuple(ToolCallPiece(index=index, arguments=rest) for index in range(self._count))
        if self._count:
            return self._behind_calls(held[behind(self._stream.closing, held, self._passed_on) :])
        if not self._text.has_words and _BARE.match(held):
            try:
                return "", self._pieces(self._reader.read_reply(self._reader.without_end(held), self._schemas))
            except (NotADecision, BrokenJson):
                pass
        text, calls = self._calls_in(held)
        if cut := self._cut_call(held, calls, text):
            return "", cut
        return text, self._pieces(calls)

    def _behind_calls(self, rest: str) -> tuple[str, tuple[ToolCallPiece, ...]]:
        """What follows the calls that were passed on: nothing, mostly; text; or calls that begin in another order.

        Those, and what stands in a call behind its arguments, are told only by reading the calls as a whole.
        """
        if not (rest := self._reader.without_end(rest).strip()):
            return "", ()
        text, calls = self._calls_in("".join(self._from_opening))
        if len(calls) < self._count:
            text, calls = self._calls_in(rest)
        else:
            calls = calls[self._count :]
        if cut := self._cut_call(rest, calls, text):
            return "", cut
        return self._reader.without_end(text).strip(), self._pieces(calls)

    # -- as it comes

    def _released(self, held: str) -> tuple[str, str]:
        """What cannot be part of a call, and the rest."""
        begun = self._reader.search(held)
        if begun is None and not self._text.has_words and _FENCE_ALONE.match(held):
            return "", held
        bare = not self._text.has_words and _BARE.match(held)  # nothing but JSON, or Python
        cut = 0 if bare else begun.start() if begun else len(held) - self._reader.unfinished(held)
        released = held[:cut]
        if released.isspace() and not self._text.has_words:  # templates put blanks in front of calls
            if not begun:
                return "", held
            released = ""
        self._text.add(held[:cut])
        if bare or begun:
            self._state = "opening"
            self._from_opening.append(held[cut:])
            begins = self._syntax.opening.lstrip().partition(CALL_NAME)[0]
            own = bool(self._syntax.trigger) and held.startswith((self._syntax.trigger, begins), cut)
            alone = not self._text.has_words and self._text.is_place("")
            self._early = (own and self._text.is_open_line) or alone
        return released, held[cut:]

    def _piece(self, held: str) -> tuple[ToolCallPiece, str] | None:
        """The next piece of a call in what is held, and the rest; None until it is complete."""
        if self._state in ("opening", "after"):
            begun = self._begun(held)
            if begun is None:
                if self._early and self._stream.whole.match(held):
                    self._state = "whole"
                elif len(held) > LONGEST_HEAD or not self._early:
                    self._state = "late"
                return None
            self._state, self._arguments = "arguments", _JsonObject()
            self._count += 1
            return ToolCallPiece(index=self._count - 1, id=_new_id(), name=begun["name"]), held[begun.end() :]
        if self._state != "arguments" or not held:
            return None
        length = self._arguments.read(held)
        if self._arguments.complete:
            self._state = "after"
        return ToolCallPiece(index=self._count - 1, arguments=held[:length]), held[length:]

    def _whole_calls(self, text: str) -> tuple[ToolCallPiece, ...]:
        """The calls that `text`, the end of what is held, completes, where calls are passed on when they are whole.

        They are read at each token that may end one, as if nothing stood behind it: what is passed on does not depend
        on how the reply is cut into pieces.
        """
        if self._state != "whole":
            return ()
        end, text = self._stream.end, self._tail + text
        self._tail = text[1 - len(end) :]
        if end not in text:
            return ()
        held, pieces = "".join(self._held), list[ToolCallPiece]()
        while (at := held.find(end, self._read_to)) >= 0:
            if self._reads > MOST_READ_AT_ONCE:
                self._state = "late"
                break
            self._read_to, self._reads = at + len(end), self._reads + 1
            if (read := self._read(held[: self._read_to])) is not None:
                calls, self._passed_on = read
                pieces += self._pieces(calls[self._count :])
                self._count = max(self._count, len(calls))
        return tuple(pieces)

    def _read(self, held: str) -> tuple[Sequence[Action], int] | None:
        """The calls that what is held begins with, and where they end; None where they cannot be read."""
        try:
            return self._reader.read(held, 0, self._schemas)
        except (NotADecision, BrokenJson):
            return None

    def _begun(self, held: str) -> re.Match[str] | None:
        """The beginning of a call whose arguments can be passed on as they come."""
        if self._state == "after":
            return self._stream.following.match(held)
        for stream in self._streams if self._early else ():
            if begun := stream.first.match(held):
                self._stream = stream
                return begun
        return None

    # -- at the end

    def _cut_call(self, rest: str, calls: Sequence[Action], text: str) -> tuple[ToolCallPiece, ...]:
        """The call in the model's own syntax that `rest` begins with, where the reply ends in it: all that is written
        stands for its arguments, which nothing reads as any.

        `calls` and `text` are what was read in the rest: what is whole but for its closing token is a call, and is none
        where that token has begun.
        """
        own, left = self._streams[0], text.strip()
        begun = own.cut.match(rest) if self._early and not (calls and not own.end.startswith(left or " ")) else None
        if begun is None or own.end in rest[begun.end() :]:
            return ()
        name = next(filter(None, begun.groups()))
        return (ToolCallPiece(index=self._count, id=_new_id(), name=name, arguments=rest.strip()),)

    def _calls_in(self, held: str) -> tuple[str, list[Action]]:
        """The text of what is held, and the calls in it that count."""
        texts: list[str] = []
        calls: list[Action] = []
        at = kept = failures = 0
        while failures < MOST_FAILURES and (begun := self._reader.search(held, at)) is not None:
            try:
                actions, end = self._reader.read(held, begun.start(), self._schemas)
            except (NotADecision, BrokenJson):
                failures, at = failures + 1, max(begun.end(), self._reader.behind_tokens(held, begun.start()))
                continue
            at = end
            if self._counts(held, begun, end):
                texts.append(held[kept : begun.start()])
                calls += actions
                kept = end
        if not calls:
            return held, []
        texts.append(self._reader.without_end(held[kept:]).strip())
        text = "".join(texts)
        return ("" if _FENCE_ALONE.match(text) else text), calls

    def _counts(self, held: str, begun: re.Match[str], end: int) -> bool:
        """Whether calls from `begun` to `end` are made, not quoted."""
        before = replace(self._text)
        before.add(held[: begun.start()])
        following = self._reader.search(held, end)
        after = self._reader.without_end(held[end : following.start() if following else len(held)])
        if before.in_fence and before.has_words and FENCE.search(held, begun.start()):
            return False
        if before.quotes and after[:1] and after[0] in CLOSED_QUOTES:
            return False
        if not before.is_place(begun[0]):
            return False
        return not (before.has_words and WORD.search(after))

    def _pieces(self, calls: Sequence[Action]) -> tuple[ToolCallPiece, ...]:
        return tuple(
            ToolCallPiece(
                index=index, id=_new_id(), name=call.tool, arguments=json.dumps(call.tool_input, ensure_ascii=False)
            )
            for index, call in enumerate(calls, self._count)
        )


def holds_unread_call(text: str, tools: Collection[str] = ()) -> bool:
    """Whether a reply without calls holds one that could not be read, or a template's token and a tool's name: it is no
    answer.

    What is quoted, in backticks or a fence or between words, may be part of one.
    """
    reader, before, at = reader_of(), TextSoFar(), 0
    for _ in range(MOST_FAILURES):
        begun = reader.search(text, at)
        before.add(text[at : begun.start() if begun else None])
        if begun is None:
            break
        if not before.quotes and not before.in_backticks and _is_meant(reader, text, begun, before, tools):
            return True
        before.add(begun[0])
        at = begun.end()
    names = "|".join(map(re.escape, tools)) or "(?!)"
    token = re.search(
        rf"{_TEMPLATE_TOKEN}\s*(?:functions\.)?(?:{names})\b|\A\s*{_TEMPLATE_TOKEN}[\s\S]*?(?:{names})", text
    )
    return token is not None and "`" not in text[: token.start()]


def _is_meant(reader: CallReader, text: str, begun: re.Match[str], before: TextSoFar, tools: Collection[str]) -> bool:
    """Whether what begins like calls, and was not taken for any, is one that is damaged or at a strange place."""
    try:
        calls, end = reader.read(text, begun.start())
    except (NotADecision, BrokenJson):
        names_tool = any(name in text for name in tools) and _ENDS_IN_MARKUP.search(text) is not None
        return not before.in_fence and (before.is_place(begun[0]) or names_tool)
    if WORD.search(reader.without_end(text[end:])):
        return False
    return not before.in_fence or any(call.tool in tools for call in calls)


class _JsonObject:
    """Finds the end of a JSON object that comes in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._escaped = False
        self._in_string = False
        self.complete = False

    def read(self, text: str, start: int = 0) -> int:
        """Where in `text` it ends: at most at the end of the text."""
        for position in range(start, len(text)):
            letter = text[position]
            if self._in_string:
                self._in_string = self._escaped or letter != '"'
                self._escaped = letter == "\\" and not self._escaped
            elif letter == '"':
                self._in_string = True
            elif letter in "{[":
                self._depth += 1
            elif letter in "}]":
                self._depth -= 1
                if self._depth == 0:
                    self.complete = True
                    return position + 1
        return len(text)


@dataclass(frozen=True, slots=True)
class _Stream:
    """How calls whose arguments are JSON begin, go on and end: all of it has come before anything is passed on.

    Of others it is how the first one begins, and the token at whose end a call is `whole`. `cut` is what tells that a
    reply ended in a call, with its name.
    """

    first: re.Pattern[str]
    following: re.Pattern[str]
    closing: re.Pattern[str]
    whole: re.Pattern[str]
    cut: re.Pattern[str]
    end: str = ""


@lru_cache(maxsize=64)
def _readers(syntax: CallSyntax, table: Marks) -> tuple[CallReader, tuple[_Stream, ...]]:
    """The reader that knows the model's own syntax besides the table's, and the syntaxes that can be passed on."""
    if syntax not in table.calls:
        table = replace(table, calls=(syntax, *table.calls))
    others = (each for each in table.calls if each.trigger and each != syntax)
    return reader_of(table), tuple(
        _stream(each) for each in (syntax, *others) if each.arguments is None or each == syntax
    )


def _stream(syntax: CallSyntax) -> _Stream:
    nothing = re.compile("(?!)")
    ends = MARKUP.findall(syntax.closing)[-1:]
    cut = _cut(syntax) if ends else nothing
    if syntax.arguments is not None:
        whole = re.compile(rf"\s*{loose(syntax.opening)}") if ends else nothing
        return _Stream(nothing, nothing, nothing, whole, cut, *ends)
    call = rf"{NAME}{loose(syntax.middle)}(?=\{{\s*[\"}}])"
    following = rf"\s*{loose(syntax.between)}{call}" if syntax.between else "(?!)"
    closing = "".join(rf"\s*(?:{loose(piece)})?" for piece in pieces_of(syntax.closing))
    first = rf"\s*{loose(syntax.opening)}{call}"
    return _Stream(re.compile(first), re.compile(following), re.compile(closing), nothing, cut, *ends)


def _cut(syntax: CallSyntax) -> re.Pattern[str]:
    """What a call begins with, up to where its name is whole: as the first of a turn, and behind another."""
    name = NAME.replace("?P<name>", "")
    middle = next((piece for piece in pieces_of(syntax.middle) if piece.strip()), "")
    begun = rf"{loose(syntax.opening)}{name}\s*{loose(middle) if middle else r'(?=[<{])'}"
    before, is_named, after = syntax.opening.partition(CALL_NAME)
    if is_named and (token := MARKUP.match(after)):
        begun = rf"(?:{begun}|{loose(before)}{name}{loose(token[0])})"
    around = syntax.between or ""
    around = around.removesuffix(syntax.opening) if around.endswith(syntax.opening) else syntax.closing
    pieces = {piece for piece in pieces_of(around) if piece.strip()}
    return re.compile(rf"(?:\s*(?:{alternation(pieces)}))*\s*{begun}" if pieces else rf"\s*{begun}")


def _new_id() -> str:
    return uuid.uuid4().hex[:9]  # the form Mistral's template insists on
