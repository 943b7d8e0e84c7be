"""Reads tool calls that models write in a syntax of their own: all those of the table, in any mixture of their tokens.

One reader serves both modes. What has no single reading is refused with a reason; nothing is run for its sake.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from agentkit.events import Action, FinalAnswer
from agentkit.react_json.lenient_json import BrokenJson, read_json, read_value
from agentkit.react_json.marks import (
    MARKUP,
    NAME,
    TABLE,
    CallSyntax,
    Marks,
    Pairs,
    Tags,
    alternation,
    literals,
    loose,
    pieces_of,
)
from agentkit.react_json.turn import NotADecision, Schemas, decisions_in, named_action

__all__ = ["CallReader", "OpenArgument", "behind", "is_place", "is_token", "reader_of"]

_NAME_SPACE = re.compile(r"<(?:\w{1,16}(?:(:)|\Z)|\|\w{1,16}(?:(\|)|\Z))")
_BLANK = re.compile(r"\s*")
_BRACKET = re.compile(r"\s*\)")
_AMBIGUOUS = re.compile(r"[\b\f]|(?<!\\)(?:\\\\)*\\[bf]")  # a path written raw has \b, but no \u0008
_BEHIND_VALUE = re.compile(r"\s*(?:,\s*(?:[^\W\d]|\$)[\w$-]*\s*=(?!=)|,?\s*\)\s*(?:[\],]|\Z))")
_STRING = re.compile(r"=\s*['\"]")
_LIST_GOES_ON = r"['\"]\s*(?:,\s*(?:[^\W\d]|\$)[\w$-]*\s*=(?!=)|\)\s*\])"
_ITEM = re.compile(rf"\s*,?\s*{NAME}\s*\(")
_END = re.compile(rf"(?:{MARKUP.pattern})(?:\w+(?:{MARKUP.pattern}))?")
_KEY = r"(?P<key>[^<>\"\s=]{1,128})"
_SENTENCE_END = re.compile(r"[.!?。！？…][ \t]*\Z")
_TOKEN_PLACE = re.compile(r"[\w.!?。！？…:：,;)\]*%][ \t]*\Z")
_ENDS_IN_TOKEN = re.compile(r"<[|｜][^<>]{1,60}>[ \t]*\Z")
_TOKEN = re.compile(r"<(?:[|｜]|start_)|\[(?:[A-Z]|unused)|\w*\s*to=")
_AROUND = rf"(?:{MARKUP.pattern}|[^\w{{}}(]){{0,60}}"
_NAMED = re.compile(rf"{_AROUND}{NAME}{_AROUND}(?=[{{(])")
_NO_MORE = re.compile(rf"(?:{MARKUP.pattern}|[^\w{{}}(])*\Z")
_LONGEST_TAG = 300  # characters
_LONGEST_WORDS = 240  # of a beginning in words, with the name
_CDATA = re.compile(r"\s*<!\[CDATA\[(?P<text>.*?)\]\]>\s*", re.DOTALL)
_TYPED = re.compile(r"[\[{]|-?\d+(?:\.\d+)?\Z|(?:true|false|null|none)\Z", re.IGNORECASE)
_IS_STRING = re.compile(r'string="(true|false)"')
_SPELLED_NUMBER = re.compile(
    r"(?!-0\Z)-?(?:0|[1-9]\d*)(?:\.(?:\d*[1-9]|0))?|-?[1-9](?:\.\d*[1-9])?e(?:\+[1-9]\d+|-\d\d+)", re.ASCII
)
_KINDS: Mapping[type, str] = {int: "integer", float: "number", bool: "boolean", dict: "object", list: "array"}


@dataclass(frozen=True, slots=True)
class _Head:
    """What stands in front of a call's arguments: `prefix` NAME `middle`.

    `after`: the token that must have come before, where the prefix is no token. `ends`: what follows arguments in tags;
    `rest`: what more may follow arguments.
    """

    syntax: CallSyntax
    pattern: re.Pattern[str]
    after: re.Pattern[str] | None
    ends: re.Pattern[str]
    rest: re.Pattern[str]
    parameter: re.Pattern[str] | None = None
    value_end: re.Pattern[str] | None = None


class CallReader:
    """Reads the calls of one table of marks.

    `opening` is a regular expression for what begins calls where a line begins, `words` for what of it is no markup,
    `closing` for the tokens that end them;
    `python_list` for the beginning of a list of calls as Python writes them, without any token.
    """

    python_list = rf"\[\s*{NAME.replace('?P<name>', '?:')}\(\s*(?:[^\W\d]\w*\s*=(?!=)|\)\s*[\],])"

    def __init__(self, table: Marks = TABLE) -> None:
        self.table = table
        tokens, prefixes = set[str](), set[str]()
        words = [syntax.words for syntax in table.calls if syntax.words and syntax.is_object]
        for syntax in table.calls:
            at = 0
            for match in MARKUP.finditer(syntax.opening):
                if match[0] in syntax.tokens:
                    if word := syntax.opening[at : match.start()].strip():
                        words.append(rf"{loose(word)}\s*{loose(match[0])}")
                    tokens.add(match[0])
                    at = match.end()
            if (syntax.prefix and not (syntax.tokens or syntax.words)) or syntax.prefix.startswith(("<", "[")):
                prefixes.add(syntax.prefix)
        self.openings = {*tokens, *prefixes}
        worded = [syntax for syntax in table.calls if syntax.words]
        self.words = "|".join(dict.fromkeys(syntax.words for syntax in worded)) or "(?!)"
        self.opening = f"{alternation(self.openings)}|{self.words}"
        closings = {each for syntax in table.calls for each in _closings(syntax)} - tokens
        closings = {each for each in closings if not any(prefix.startswith(each) for prefix in prefixes)}
        self.closing = alternation(closings)
        units = sorted({*map(_with_slash, {*tokens, *closings})}, key=lambda unit: (-len(unit), unit))
        tags = "|".join(unit[1:] for unit in units if unit.startswith("<"))  # in one branch: they are many
        others = [r"\s+", r"`{3,}(?:\w+(?=\s))?", ";", *(unit for unit in units if not unit.startswith("<")), *words]
        self._skip = re.compile("(?:" + "|".join([*others, f"<(?:{tags})"]) + ")*", re.IGNORECASE)
        self._heads = [_head(syntax) for syntax in table.calls if not syntax.is_object]
        self._search = re.compile(self.opening, re.IGNORECASE)
        ends = {_unnamed(head.parameter): head.value_end for head in self._heads if head.parameter and head.value_end}
        styles = [each.arguments for each in table.calls if isinstance(each.arguments, Pairs)]
        quotes = {style.quote for style in styles if not style.is_python}
        ends |= {loose(quote): re.compile(loose(quote)) for quote in quotes}
        self._ends_without_escapes = [*ends.values()]
        self._list_goes_on = re.compile(rf"{_LIST_GOES_ON}|\)\s*\]\s*(?:{self.closing})", re.IGNORECASE)
        if any(style.is_python for style in styles):
            ends[r"[(,]\s*\w{1,80}\s*=\s*'"] = re.compile(r"(?<!\\)'(?=\s*[,)])")
        self.text_ends = [*ends.values()]
        """What ends an argument that is written as text, by the group of `text_beginning` that begins it."""
        self.text_beginning = re.compile("|".join(f"({beginning})" for beginning in ends), re.IGNORECASE)
        spelled = {_spelled(opening) for opening in self.openings}
        self._beginnings = sorted(spelled | {re.sub(r"<\w+:", "<", opening) for opening in spelled})
        self._longest = max(map(len, self._beginnings)) + 20
        self._first_letters = {opening[0] for opening in self.openings}
        prefixes = {syntax.prefix for syntax in worded}
        self._words = [(prefix[0], re.compile(_unfinished(prefix), re.IGNORECASE)) for prefix in prefixes]
        self._end = re.compile(rf"(?:{literals(table.turn_ends)}|<\|[a-z_]+\|>)\s*\Z", re.IGNORECASE)
        self._python_list = re.compile(self.python_list)

    def search(self, text: str, at: int = 0, end: int = sys.maxsize) -> re.Match[str] | None:
        """The first token from `at` to `end` that may begin calls."""
        return self._search.search(text, at, end)

    def unfinished(self, text: str) -> int:
        """The length of the end of `text` that may be the beginning of such a token."""
        held = 0
        for at in range(max(0, len(text) - self._longest), len(text)):
            if text[at] in self._first_letters:
                tail = _spelled(text[at:])
                tag = _NAME_SPACE.match(tail)
                inner = f"<{tail[tag.end() :]}" if tag else tail
                if (tag and not tag.lastindex) or any(each.startswith((tail, inner)) for each in self._beginnings):
                    held = len(text) - at
                    break
        for letter, pattern in self._words:
            at = text.rfind(letter, max(0, len(text) - _LONGEST_WORDS))
            while at >= 0:
                if (match := pattern.match(text, at)) is not None:
                    held = max(held, len(text) - match.start())
                at = text.rfind(letter, max(0, len(text) - _LONGEST_WORDS), at)
        return held

    def without_end(self, text: str) -> str:
        """`text` without the tokens that end a turn."""
        while (end := self._end.search(text, max(0, len(text.rstrip()) - 40))) is not None:
            text = text[: end.start()]
        return text

    def behind_tokens(self, text: str, at: int) -> int:
        """Behind the blanks and the tokens that begin at `at`: what stands there decides whether there are calls."""
        return behind(self._skip, text, at)

    def is_python_list(self, text: str, at: int) -> bool:
        """Whether a list of calls as Python writes them seems to begin at `at`."""
        return self._python_list.match(text, at) is not None

    def read(self, text: str, at: int, schemas: Schemas | None = None) -> tuple[list[Action], int]:
        """All calls from `at` on and where they end; raises `NotADecision` or `BrokenJson`.

        Arguments in tags get the types of `schemas`; without any, those that may be no strings are refused.
        """
        calls: list[Action | FinalAnswer] = []
        ready: set[int] = set()
        end = self._behind_tokens(text, at, ready)
        stop = end
        while True:
            try:
                one = self._one(text, end, ready, schemas) or _named(text, end, schemas)
            except (NotADecision, BrokenJson):
                if not calls:
                    raise
                end = stop  # what follows is looked at by itself
                break
            if one is None:
                break
            calls += one[0]
            stop = one[1]
            end = self._behind_tokens(text, stop, ready)
        if not calls:
            raise NotADecision("is a tool call in a format of its own", meant=True)
        if self._is_cut_short(text, at, stop):
            raise NotADecision("is a tool call with a value that holds its end: it has two readings", meant=True)
        if any(isinstance(call, FinalAnswer) for call in calls):
            raise NotADecision("is a final answer written as a tool call", meant=True)
        return [call for call in calls if isinstance(call, Action)], end

    def _is_cut_short(self, text: str, start: int, stop: int) -> bool:
        """Whether what ends a value of such calls, or a list that holds a string, stands behind them, too, in front of
        any others."""
        is_list = self.is_python_list(text, self.behind_tokens(text, start))
        around = [*((ends, ends) for ends in self._ends_without_escapes), *([(_STRING, self._list_goes_on)] * is_list)]
        for within, behind_them in around:
            if within.search(text, start, stop) and (end := behind_them.search(text, stop)):
                between = (text, stop, end.start())
                return self.search(*between) is None and self._python_list.search(*between) is None
        return False

    def read_reply(self, text: str, schemas: Schemas | None = None) -> list[Action]:
        """The calls of a reply that is nothing but calls, as JSON or Python without any token; raises as `read`.

        So is one of a known tool's name and its arguments, whatever markup stands around them.
        """
        at, calls = self._behind_tokens(text, 0, set()), list[Action]()
        while not _NO_MORE.match(text, at):
            one = self._one(text, at, set(), schemas) or _named(text, at, schemas)
            if one is None or not all(isinstance(call, Action) for call in one[0]):
                raise NotADecision("is no tool call", meant=False)
            if text.startswith("{", at) or _is_list_of_objects(text, at):
                value = read_json(text, at)[0]
                if not all(map(_is_call, value if isinstance(value, list) else [value])):
                    raise NotADecision("is no tool call", meant=False)
            calls += [call for call in one[0] if isinstance(call, Action)]
            at = self._behind_tokens(text, one[1], set())
        return calls

    def _behind_tokens(self, text: str, at: int, ready: set[int]) -> int:
        end = behind(self._skip, text, at)
        for number, head in enumerate(self._heads):
            if head.after is not None and number not in ready and head.after.search(text, at, end):
                ready.add(number)
        return end

    def _one(
        self, text: str, at: int, ready: set[int], schemas: Schemas | None
    ) -> tuple[list[Action | FinalAnswer], int] | None:
        """The call or list of calls at `at`; none when nothing there looks like one."""
        for number, head in enumerate(self._heads):
            if (head.after is None or number in ready) and (match := head.pattern.match(text, at)):
                if isinstance(head.syntax.arguments, Pairs):
                    calls, end = _read_pairs(head.syntax, head.syntax.arguments, text, match, schemas)
                elif isinstance(head.syntax.arguments, Tags):
                    calls, end = _read_tags(head, text, match, schemas)
                else:
                    value, end = read_json(text, match.end())
                    calls = [named_action(match["name"], value, schemas)]
                return calls, behind(head.rest, text, end)
        if text.startswith(("{", "["), at):
            value, end = read_json(text, at)
            return decisions_in(value, schemas, native=True), end
        return None


class OpenArgument:
    """Follows a call as it comes; `is_open` while it stops inside an argument that is written as text, not as JSON."""

    def __init__(self, reader: CallReader) -> None:
        self._reader = reader
        self._end: re.Pattern[str] | None = None
        self._rest = ""

    @property
    def is_open(self) -> bool:
        """Whether any mark that follows is data."""
        return self._end is not None

    def follow(self, text: str) -> None:
        """Take in more of the call."""
        self._rest += text
        at = 0
        while match := (self._end or self._reader.text_beginning).search(self._rest, at):
            at = match.end()
            self._end = self._reader.text_ends[(match.lastindex or 1) - 1] if self._end is None else None
        self._rest = self._rest[max(at, len(self._rest) - _LONGEST_TAG) :]


def is_token(opening: str) -> bool:
    """Whether what begins a call is a token, which no prose has; a tag may be written about."""
    return _TOKEN.match(opening) is not None


def is_place(line: str, opening: str) -> bool:
    """Whether a call may begin behind `line`, the text in front of it on its line: behind a sentence, or nothing; a
    token behind any word."""
    if not line.strip() or _ENDS_IN_TOKEN.search(line):
        return True
    return (_TOKEN_PLACE if is_token(opening) else _SENTENCE_END).search(line) is not None and line.lstrip()[0] != ">"


@lru_cache(maxsize=16)
def reader_of(table: Marks = TABLE) -> CallReader:
    """The reader of a table of marks, made once."""
    return CallReader(table)


def behind(pattern: re.Pattern[str], text: str, at: int) -> int:
    """Where `pattern` ends when it begins at `at`; `at` when it does not."""
    match = pattern.match(text, at)
    return match.end() if match else at


# -- what the table says of a syntax -----------------------------------------------------------------------------------


def _spelled(text: str) -> str:
    """A token, or the beginning of one, in the spelling in which tokens are compared."""
    return re.sub(r"\s+", "", text).lower().replace("｜", "|").replace("▁", "_")


def _unnamed(pattern: re.Pattern[str]) -> str:
    return re.sub(r"\(\?P<\w+>", "(?:", pattern.pattern)


def _closings(syntax: CallSyntax) -> list[str]:
    texts = (syntax.between or "", syntax.closing)
    return [match[0] for text in texts for match in MARKUP.finditer(text)]


def _with_slash(token: str) -> str:
    """A pattern for a tag or token and its closing twin."""
    plain = token.replace("</", "<", 1).replace("[/", "[", 1)
    first = re.escape(plain[0])
    return f"{first}/?{loose(plain).removeprefix(first)}"


def _head(syntax: CallSyntax) -> _Head:
    style = syntax.arguments
    closing = _END.search(syntax.closing)
    ends = re.compile(r"\s*" + (loose(closing[0]) if closing else r"\Z"), re.IGNORECASE)
    begin, parameter, value_end = "", None, None
    if isinstance(style, Tags):
        opening = loose(style.opening.lstrip())
        begin = rf"\s*(?={opening}|{ends.pattern})"
        middle = style.middle.rstrip()
        attributes = r'"(?P<attributes>[^<>]{0,80}?)' + loose(middle[1:]) if middle.startswith('"') else loose(middle)
        parameter = re.compile(rf"\s*{opening}{_KEY}{attributes}", re.IGNORECASE)
        value_end = re.compile(rf"{loose(style.closing.strip())}(?=\s*(?:{opening}|{ends.pattern}))", re.IGNORECASE)
    pattern = re.compile(syntax.head + begin, re.IGNORECASE)
    after = re.compile(loose(syntax.tokens[-1])) if syntax.tokens and not syntax.prefix.startswith("<") else None
    rest = syntax.closing.lstrip()[1:] if isinstance(style, Pairs) else syntax.closing if style is None else ""
    more = "".join(rf"(?:\s*{loose(piece)})?" for piece in pieces_of(rest) if piece.strip())
    return _Head(syntax, pattern, after, ends, re.compile(more), parameter, value_end)


def _unfinished(prefix: str) -> str:
    """A pattern for a text that may be the beginning of a call that begins with words."""
    prefix = prefix.removesuffix("functions.")  # which may be left out
    begun = "".join(f"(?:{loose(letter)}" for letter in prefix) + r"(?:\s*[\w.:/-]{0,128}(?:[^\w{}(][^{}(]{0,80})?)?"
    return begun + ")?" * (len(prefix) - 1) + r")\Z"


# -- arguments ---------------------------------------------------------------------------------------------------------


def _read_pairs(
    syntax: CallSyntax, style: Pairs, text: str, match: re.Match[str], schemas: Schemas | None
) -> tuple[list[Action | FinalAnswer], int]:
    """A call with arguments as pairs, or a list of them."""
    calls: list[Action | FinalAnswer] = []
    listed = syntax.opening.rstrip().endswith("[")
    while True:
        arguments, end = _pairs(text, match.end(), style, syntax.closing.lstrip()[0], listed=listed)
        calls.append(named_action(match["name"], arguments, schemas))
        if not listed:
            return calls, end
        following = _ITEM.match(text, end)
        if following is None:
            break
        match = following
    end = behind(_BLANK, text, end)
    if not text.startswith("]", end):
        raise NotADecision("is a list of tool calls that is not complete", meant=True)
    closing = _closings(syntax)
    if closing and text[end + 1 : text.find(closing[-1], end)].strip() and closing[-1] in text[end:]:
        raise NotADecision("is a list of tool calls with more behind its end", meant=True)
    return calls, end + 1


def _pairs(text: str, at: int, style: Pairs, closing: str, *, listed: bool = False) -> tuple[dict[str, Any], int]:
    key = re.compile(rf"\s*(?P<key>(?:[^\W\d]|\$)[\w$-]*)\s*{re.escape(style.equals)}\s*")
    quote = "" if style.is_python else style.quote
    arguments: dict[str, Any] = {}
    while not text.startswith(closing, at := behind(_BLANK, text, at)):
        if arguments:
            at = at + 1 if text.startswith(",", at) else at
            if text.startswith(closing, at := behind(_BLANK, text, at)):
                break
        match = key.match(text, at)
        if match is None:
            raise NotADecision("has arguments without their names, or is cut off", meant=True)
        if match["key"] in arguments:
            raise NotADecision(f"gives {match['key']} twice", meant=True)
        value, at = (_argument_in_quotes(text, match.end(), style) if listed else None) or read_value(
            text, match.end(), quote=quote
        )
        if (
            style.is_python
            and not style.is_bare
            and isinstance(value, str)
            and _AMBIGUOUS.search(text, match.end(), at)
        ):
            raise NotADecision("has a backslash that may be meant in two ways; double it", meant=True)
        arguments[match["key"]] = value
    return arguments, at + len(closing)


def _argument_in_quotes(text: str, at: int, style: Pairs) -> tuple[str, int] | None:
    """A string in whose text its own quotes stand without a backslash, and where it ends: in front of another argument,
    or of the call's end. None for any other value, and for strings with backslashes where those are escapes.

    Where templates write strings as they are, models may still have escapes in mind: what differs is refused.
    """
    quote = text[at : at + 1]
    if quote not in ("'", '"'):
        return None
    is_bare = style.is_bare and quote == style.quote
    backslash = text.find("\\", at)
    first = end = text.find(quote, at + 1)
    while end >= 0 and (is_bare or not at < backslash < end):
        if _BEHIND_VALUE.match(text, end + 1):
            break
        end = text.find(quote, end + 1)
    else:
        return None
    found = text[at + 1 : end], end + 1
    if not at < backslash < end:
        return found if is_bare or end > first else None
    with suppress(BrokenJson):
        if read_value(text, at) != found:
            raise NotADecision("has a backslash that may be meant in two ways; write the text without it", meant=True)
    return found


def _read_tags(
    head: _Head, text: str, match: re.Match[str], schemas: Schemas | None
) -> tuple[list[Action | FinalAnswer], int]:
    """A call with arguments in tags."""
    style = head.syntax.arguments
    assert isinstance(style, Tags)
    assert head.parameter is not None
    assert head.value_end is not None
    schema = None if schemas is None else schemas.get(match["name"], {})
    arguments: dict[str, Any] = {}
    at = match.end()
    while parameter := head.parameter.match(text, at):
        cdata = _CDATA.match(text, parameter.end())
        value_end = head.value_end.search(text, cdata.end() if cdata else parameter.end())
        if value_end is None:
            raise NotADecision("is a tool call in tags that is not complete", meant=True)
        key = parameter["key"]
        if key in arguments:
            raise NotADecision(f"gives {key} twice", meant=True)
        value = cdata["text"] if cdata else _within_lines(text[parameter.end() : value_end.start()], style)
        said = _IS_STRING.search(parameter.groupdict().get("attributes") or "")
        arguments[key] = _argument(key, value, schema, style, is_string=said and said[1] == "true")
        at = value_end.end()
    closing = head.ends.match(text, at)
    if closing is None:
        raise NotADecision("is a tool call in tags that is not complete", meant=True)
    return [named_action(match["name"], arguments, schemas)], closing.end()


def _within_lines(value: str, style: Tags) -> str:
    """The value without the line ends that the syntax has on both sides of it."""
    line_end = "\r\n" if value.startswith("\r\n") else "\n"
    if style.closing.startswith("\n"):
        value = value.removesuffix(line_end)
    return value.removeprefix(line_end) if style.middle.endswith("\n") else value


def _argument(
    key: str, value: str, schema: Mapping[str, Any] | None, style: Tags, *, is_string: bool | None = None
) -> Any:
    """A value in the type that the tool's schema says; `is_string` is what its tag says."""
    if schema is None and is_string is None:
        if _TYPED.match(value.strip()):
            raise NotADecision("has arguments in tags, whose types cannot be told", meant=True)
        return value
    properties = (schema or {}).get("properties") or {}
    typed = properties[key] if key in properties else (schema or {}).get("additionalProperties", "")
    kinds = _kinds(typed, schema or {}) if isinstance(typed, Mapping) else set[str]()
    if is_string and (not kinds or "string" in kinds):
        return value
    if is_string is False and kinds != {"string"}:
        kinds = kinds - {"string"} if "string" in kinds else _ALL
    return _typed(value, kinds, style)


_ALL = {*_KINDS.values(), "null"}


def _kinds(schema: Any, root: Mapping[str, Any], depth: int = 0) -> set[str]:
    """The types that a schema allows."""
    if not isinstance(schema, Mapping) or depth > 8:
        return {"string"}
    if isinstance(reference := schema.get("$ref"), str):
        place: Any = root
        for step in reference.removeprefix("#/").split("/"):
            place = place.get(step) if isinstance(place, Mapping) else None
        return _kinds(place, root, depth + 1)
    if schemas := schema.get("anyOf") or schema.get("oneOf"):
        return {kind for each in schemas for kind in _kinds(each, root, depth + 1)}
    if schemas := schema.get("allOf"):
        return set.intersection(*(_kinds(each, root, depth + 1) for each in schemas))
    if isinstance(kind := schema.get("type"), str):
        return {kind}
    if isinstance(kind, list):
        return set(kind)
    if values := [*schema.get("enum", ()), *([schema["const"]] if "const" in schema else ())]:
        return {_kind(value) for value in values}
    return {"object"} if "properties" in schema else {*_ALL, "string"}


def _kind(value: Any) -> str:
    return "string" if isinstance(value, str) else "null" if value is None else _KINDS[type(value)]


def _typed(text: str, kinds: set[str], style: Tags) -> Any:
    """The value of a text in one of `kinds`; the text itself where it is of none of them.

    Where it may be a string, too, it is another value only if it is spelled as templates spell that.
    """
    bare = text.strip()
    if not kinds or kinds == {"string"} or ("string" in kinds and not _is_spelled(bare, style)):
        return text
    if "null" in kinds and bare.lower() in ("null", "none"):
        return None
    try:
        value, end = read_value(bare.lower() if bare.lower() in ("true", "false") else bare, 0)
    except BrokenJson:
        return text
    if end < len(bare) or isinstance(value, str):
        return text
    kind = _kind(value)
    if kind in kinds or (kind == "integer" and "number" in kinds):
        return value
    if kind == "number" and "integer" in kinds and "string" not in kinds and value == int(value):
        return int(value)
    return text


def _is_spelled(bare: str, style: Tags) -> bool:
    """Whether a template writes a value that is no string in this way: 1e5 is no number of its own, 100000.0 is."""
    if bare.lower() in ("true", "false", "null", "none"):
        in_python = (bare in ("True", "False", "None"), bare in ("true", "false", "null"))
        return any(in_python) if style.is_python is None else in_python[not style.is_python]
    return bare.startswith(("{", "[")) or _SPELLED_NUMBER.fullmatch(bare) is not None


def _named(text: str, at: int, schemas: Schemas | None) -> tuple[list[Action | FinalAnswer], int] | None:
    """A call of one of the tools that are known, by its name and an object or pairs."""
    match = _NAMED.match(text, at)
    if match is None or match["name"] not in (schemas or ()):
        return None
    in_brackets = text[match.end()] == "("
    at = behind(_BLANK, text, match.end() + in_brackets)
    if text.startswith("{", at):
        arguments, end = read_json(text, at)
        end = behind(_BRACKET, text, end) if in_brackets else end
    else:
        arguments, end = _pairs(text, at, Pairs("="), ")")
    return [named_action(match["name"], arguments, schemas)], end


def _is_list_of_objects(text: str, at: int) -> bool:
    return text.startswith("[", at) and text.startswith("{", behind(_BLANK, text, at + 1))


def _is_call(value: Any) -> bool:
    """Whether a JSON value that stands alone is a call: an answer in JSON may have a name, too."""
    return (
        isinstance(value, dict) and isinstance(value.get("name"), str) and bool({"arguments", "parameters"} & {*value})
    )
