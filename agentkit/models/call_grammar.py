"""Grammars (llguidance Lark) that hold a reply to a JSON schema, or its tool calls to their tools'."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from agentkit.errors import ConfigurationError, short_repr
from agentkit.models.tool_calls import ToolCallText
from agentkit.react_json.marks import CALL_ID, CALL_NAME, MARKUP, TABLE, CallSyntax, Pairs, Tags, loose
from agentkit.react_json.schema_rules import ArgumentRules, bounded, in_grammar, json_rule

Tool = Mapping[str, Any]


def tool_grammar(
    tools: Sequence[Tool],
    tool_choice: str | Mapping[str, Any] | bool | None,
    *,
    syntax: CallSyntax,
    special: Mapping[str, int],
    parallel: bool | None = None,
) -> str | None:
    """A grammar for replies with calls: free text, calls that fit their tool's schema, or both; as `tool_choice` says.

    "auto" or None: text, then calls if any; "any" or "required": one call, or more where `parallel` asks for them; a
    tool's name: one call of it. `special` are the tokens of the vocabulary that no text can spell, with their ids.
    Where `parallel` is False there is one call at most.
    """
    mode, name = _read_choice(tool_choice)
    if not tools or mode == "none":
        return None
    chosen = [tool["function"] for tool in tools if name in (None, tool["function"]["name"])]
    if not chosen:
        names = ", ".join(tool["function"]["name"] for tool in tools)
        raise ConfigurationError(f"expected tool_choice auto, any, none or one of {names}; saw {tool_choice!r}")
    write = _Symbols(special)
    rules = [line for number, function in enumerate(chosen) for line in _call(number, function, syntax, write)]
    rules.append(f"call: {' | '.join(f'call_{number}' for number in range(len(chosen)))}")

    def call_behind(text: str) -> str:
        """The symbols for a call behind `text`, which may name it, too."""
        if CALL_NAME not in text:
            return f"{write(text)} call"
        each = (f"{write(text, name=one['name'])} call_{number}" for number, one in enumerate(chosen))
        return f"({' | '.join(each)})"

    many = syntax.between and name is None and (parallel is True or (parallel is None and mode == "auto"))
    following = f"({call_behind(syntax.between or '')})* " if many else ""
    following += write(syntax.closing)
    if mode == "auto":
        rules += _text_then(syntax, write, call_behind, following)
    else:
        rules.append(f"start: {_message(syntax, write)[1]} {call_behind(syntax.opening)} {following}")
    return "\n".join(["%llguidance {}", *rules, ""])


def _read_choice(choice: Any) -> tuple[str, str | None]:
    """The mode that a tool choice asks for, and the one tool."""
    if isinstance(choice, Mapping):
        named = choice.get("function", choice)
        if isinstance(named, Mapping) and isinstance(named.get("name"), str):
            return "any", named["name"]
        choice = choice.get("type", choice)
    if choice is None or choice is False or choice == "auto":
        return "auto", None
    if choice is True or choice in ("any", "required"):
        return "any", None
    if not isinstance(choice, str):
        raise ConfigurationError(f"expected tool_choice auto, any, none or a tool's name, saw {short_repr(choice)}")
    return ("none", None) if choice == "none" else ("any", choice)


def _text_then(syntax: CallSyntax, write: _Symbols, call_behind: Callable[[str], str], following: str) -> list[str]:
    """Rules for text that cannot open a call, alone or followed by calls."""
    trigger = syntax.trigger
    mark = in_grammar(loose(trigger)).replace(r"\w", "[a-zA-Z0-9_]")  # of all scripts: too much for llguidance
    text = rf"TEXT: {TEXT} & ~/(?s:.*)(?i:{mark})(?s:.*)/"
    if not trigger:
        begin = loose(syntax.opening.strip())
        if isinstance(syntax.arguments, Pairs):
            begin += rf"\s*[\w.:\/-]{{1,128}}\s*{loose(syntax.middle)}"
        bare = rf"\s*(`{{3,}}\w*\s+)?{in_grammar(begin)}"
        return [f"start: TEXT | {call_behind(syntax.opening)} {following}", rf"TEXT: {TEXT} & ~/(?i:{bare})(?s:.*)/"]
    joint, begun = _message(syntax, write)
    openings = dict.fromkeys([syntax.opening, syntax.opening.lstrip()])
    if trigger in write.special:
        calls = " | ".join(f"{call_behind(opening)} {following}" for opening in openings)
        return [f"start: TEXT? | ({f'TEXT ({joint})? | {begun}' if joint else 'TEXT?'}) ({calls})", text]
    before, _, after = syntax.opening.lstrip().partition(trigger)
    aside = f" | (TEXT {joint} | {begun}) {call_behind(syntax.opening)} {following}" if joint else ""
    return [
        f"start: TEXT | opened {call_behind(after)} {following}{aside}",
        text,
        rf"opened[lazy]: /(?s:.*){in_grammar(re.escape(before + trigger))}/",
    ]


def _message(syntax: CallSyntax, write: _Symbols) -> tuple[str, str]:
    """Where calls are messages: the symbols for what ends one of text and begins the next, and for the latter alone,
    which may stand behind a thought; else nothing."""
    start = "<|start|>assistant"
    for opening, closing in TABLE.thinking.items():
        tokens = {closing, *MARKUP.findall(opening)}
        is_like_calls = tokens & {*MARKUP.findall(syntax.opening + syntax.middle)}
        if opening.startswith(start) and tokens <= write.special.keys() and is_like_calls:
            return write(closing + start), f"({write(start)})?"
    return "", ""


def _call(number: int, function: Mapping[str, Any], syntax: CallSyntax, write: _Symbols) -> Iterator[str]:
    """The rules for a call of one tool, from its name to the end of its arguments."""
    name, parameters = function["name"], {"type": "object", "properties": {}, **(function.get("parameters") or {})}
    keys = () if syntax.arguments is None else tuple(parameters["properties"] or ())
    _check_names(syntax, name, keys)
    yield f"call_{number}: {write.name(name, syntax)} {write(syntax.middle)} arguments_{number}"
    marks = _marks(syntax)  # whether they are tokens or not: who reads the reply sees text
    if syntax.arguments is None:
        yield f"arguments_{number}: {json_rule(bounded(parameters), without=marks)}"
    else:
        yield from ArgumentRules(f"arguments_{number}", parameters, syntax, write, marks).lines()


@lru_cache(maxsize=32)
def _marks(syntax: CallSyntax) -> tuple[str, ...]:
    """What a reader takes for the end of an argument, or of a call, wherever it stands."""
    style = syntax.arguments
    texts = [syntax.closing, syntax.between or ""]
    if not isinstance(style, Tags):  # JSON and Python have quotes, so that only what ends a call is ever looked for
        texts = [mark[0] for text in texts if (mark := MARKUP.search(text))]
    else:
        texts += [style.opening, style.middle, style.closing, syntax.opening]
    found = [match[0] for text in texts for match in re.finditer(rf"{MARKUP.pattern}|<[\w:｜]+(?:=| name=)", text)]
    return tuple(dict.fromkeys([*found, style.quote] if isinstance(style, Pairs) and not style.is_python else found))


@lru_cache(maxsize=4096)
def _check_names(syntax: CallSyntax, name: str, keys: tuple[str, ...]) -> None:
    """Raise `ConfigurationError` for names that cannot be read in the syntax."""
    if _is_read(syntax, name, keys) or not _is_read(syntax, "tool", ("key",) * bool(keys)):
        return
    wrong = next((key for key in keys if not _is_read(syntax, "tool", (key,))), None)
    what = f"the tool {short_repr(name)}" if wrong is None else f"{short_repr(wrong)}, which the tool {name} takes"
    raise ConfigurationError(f'No call in the syntax of this model can name {what}; rename it, or set constrain="off"')


def _is_read(syntax: CallSyntax, name: str, keys: Sequence[str]) -> bool:
    properties = {key: {"type": "string"} for key in keys}
    tool = {"function": {"name": name, "parameters": {"type": "object", "properties": properties}}}
    reader = ToolCallText(syntax, tools=[tool])
    written = syntax.write((_in_json(name) if syntax.is_object else name, dict.fromkeys(keys, "x")))
    pieces = [*reader.feed(written)[1], *reader.flush()[1]]
    try:
        arguments = json.loads("".join(piece.arguments for piece in pieces))
    except ValueError:
        return False
    return [piece.name for piece in pieces if piece.name] == [name] and arguments == dict.fromkeys(keys, "x")


def _in_json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)[1:-1]


TEXT = "/(?s:.*)/"


class _Symbols:
    """Writes a syntax's own text as symbols of a grammar: strings, special tokens by their ids, free ids."""

    def __init__(self, special: Mapping[str, int]) -> None:
        self.special = special
        names = sorted([*special, CALL_ID, CALL_NAME], key=len, reverse=True)
        self._pieces = re.compile("(" + "|".join(map(re.escape, names)) + ")")

    def __call__(self, text: str, *, name: str = "") -> str:
        pieces = self._pieces.split(text)
        return (
            " ".join(
                self._symbol(piece, before, name) for before, piece in zip(["", *pieces], pieces, strict=False) if piece
            )
            or '""'
        )

    def _symbol(self, piece: str, before: str, name: str) -> str:
        if piece == CALL_ID:
            return "/[0-9]{1,3}/" if before.endswith(":") else "/[a-zA-Z0-9]{9}/"  # Kimi counts calls
        text = name if piece == CALL_NAME else piece
        return f"<[{self.special[piece]}]>" if piece in self.special else json.dumps(text)

    def split(self, text: str) -> tuple[str, str, str]:
        """A text in front of its first token, that token, and what follows."""
        found = next((piece for piece in self._pieces.finditer(text) if piece[0] in self.special), None)
        return (text[: found.start()], found[0], text[found.end() :]) if found else (text, "", "")

    def name(self, name: str, syntax: CallSyntax) -> str:
        """The symbol for a tool's name, which is never a token."""
        return json.dumps(_in_json(name) if syntax.is_object else name)


def format_grammar(wanted: Mapping[str, Any]) -> str | None:
    """The grammar for a `response_format`: any object for JSON mode, else the schema; None for plain text."""
    if wanted["type"] == "text":
        return None
    if wanted["type"] == "json_object":
        schema: Mapping[str, Any] = {"type": "object"}
    elif wanted["type"] == "json_schema":
        schema = wanted["json_schema"]["schema"]
    else:
        raise ConfigurationError(f"expected a response_format json_schema, json_object or text, saw {wanted['type']!r}")
    return f"%llguidance {{}}\nstart: json\njson: {json_rule(bounded(schema))}\n"
