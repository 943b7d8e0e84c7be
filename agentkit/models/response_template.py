"""What a checkpoint's `response_template` says of tool calls (transformers' "chat response parsing").

It comes with a download: its patterns are taken apart for a text that they match, and none is ever run.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from agentkit.errors import described
from agentkit.react_json.marks import CALL_ID, LONGEST_MARK, CallSyntax, Pairs, Tags

_LONGEST = 50_000  # characters of a response_template
_LONGEST_PATTERN = 2_000
_NAME, _KEY, _VALUE = "\x00", "\x01", "\x02"  # stand for what a pattern captures


def declared_calls(template: object) -> CallSyntax | None:
    """The syntax of calls that a response_template describes, None where it describes none.

    Raises `ValueError` for one that is broken or that has calls of another kind; its text is a few words on why.
    """
    if not isinstance(template, Mapping):
        raise ValueError(f"expected an object, saw {described(template)}")
    try:
        size = len(json.dumps(template))
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError("is no JSON, or nested too deep") from error
    if size > _LONGEST:
        raise ValueError(f"has {size} characters, more than {_LONGEST}")
    fields = _object(template, "fields")
    return _syntax_of(_object(fields, "tool_calls")) if "tool_calls" in fields else None


def _syntax_of(field: Mapping[str, Any]) -> CallSyntax:
    transform = field.get("transform")
    function = transform.get("function", transform) if isinstance(transform, Mapping) else "{content}"
    place = _place(function, "name", "name")
    captured = not place.startswith("content.") and not field.get("transform_each")
    groups = {place: _NAME} if captured else {}
    opening, end = _anchor(field, "open", groups), _anchor(field, "close", {})
    begin, named, middle = opening.partition(_NAME)
    if not opening.strip():
        raise ValueError("does not say how calls begin")
    content, options = field.get("content", "text"), _object(field, "content_args", {})
    style: Tags | Pairs | None = None
    between = end + begin
    if content == "python-call-list":
        begin, middle, between, end, style = f"{begin}[", "(", "), ", f")]{end}", Pairs("=")
    elif content == "xml-inline" and named:
        style = _tags(options.get("tag_pattern"))
    elif content == "json" and named:
        if delimiters := options.get("string_delims"):
            style = Pairs(":", _first_text(delimiters))
            middle, end = middle + "{", "}" + end
            between = end + begin
    elif content == "json":
        is_list = field.get("transform_each") is True
        key, arguments = (_place(function, one, one).removeprefix("content.") for one in ("name", "arguments"))
        head = f'{{"{key}": "'
        begin, middle, end = begin + "[" * is_list + head, f'", "{arguments}": ', "}" + "]" * is_list + end
        between = f"}}, {head}" if is_list else end + begin
    else:
        raise ValueError(f"has calls that are read as {described(content)}")
    repeats = field.get("repeats") is True or between.strip(" ,") != (end + begin).strip(" ,")
    syntax = CallSyntax(begin, middle, between if repeats else None, end, style)
    if syntax.trigger and not (syntax.trigger[1:] and re.search(r"[^\w\s]", syntax.trigger)):
        raise ValueError(f"begins calls with {described(syntax.trigger)}, which any text may hold")
    return syntax


def _object(values: Mapping[str, Any], name: str, default: Any = None) -> Mapping[str, Any]:
    value = values.get(name, default)
    if not isinstance(value, Mapping):
        raise ValueError(f"expected an object as {name}, saw {described(value)}")
    return value


def _place(function: Any, part: str, default: str) -> str:
    """Where a call's name or arguments come from: `{PLACE}`."""
    place = function.get(part) if isinstance(function, Mapping) else f"{{content.{default}}}"
    if not isinstance(place, str) or not re.fullmatch(r"\{[\w.]{1,80}\}", place):
        raise ValueError(f"does not say where a call's {part} stands")
    return place[1:-1]


def _first_text(delimiters: Any) -> str:
    while isinstance(delimiters, list) and delimiters:
        delimiters = delimiters[0]
    if not isinstance(delimiters, str) or not delimiters.strip():
        raise ValueError("has string_delims that are no texts")
    return _short(delimiters)


def _short(text: str) -> str:
    if len(text) > LONGEST_MARK:
        raise ValueError(f"has marks of more than {LONGEST_MARK} characters")
    return text


def _tags(pattern: Any) -> Tags:
    text = _text_of(pattern, {"key": _KEY, "value": _VALUE})
    opening, _, rest = text.partition(_KEY)
    middle, value, closing = rest.partition(_VALUE)
    if not (value and opening.strip() and middle.strip() and closing.strip()):
        raise ValueError("has arguments in no tags")
    return Tags(opening, middle, closing)


def _anchor(field: Mapping[str, Any], kind: str, groups: Mapping[str, str]) -> str:
    """The text of what begins or ends a call."""
    if kind in field:
        return _first_text(field[kind])
    pattern = field.get(f"{kind}_pattern")
    return "" if pattern is None else _text_of(pattern, groups)


def _text_of(pattern: Any, groups: Mapping[str, str]) -> str:
    """A text that a regular expression matches, the shortest mostly, with what stands for its named groups."""
    if not isinstance(pattern, str) or len(pattern) > _LONGEST_PATTERN:
        raise ValueError(f"expected a pattern of at most {_LONGEST_PATTERN} characters, saw {described(pattern)[:60]}")
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = _parser.parse(pattern)
        names = {number: groups[name] for name, number in tree.state.groupdict.items() if name in groups}
        text = _sample(tree, names)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"has a pattern that cannot be read, {pattern[:60]!r}") from error
    return _short(text)


def _sample(tree: Iterable[tuple[Any, Any]], names: Mapping[int, str]) -> str:
    return "".join(_sampled(str(kind), value, names) for kind, value in tree)


def _sampled(kind: str, value: Any, names: Mapping[int, str]) -> str:
    if kind == "LITERAL":
        return chr(value)
    if kind == "IN":
        inner = [(str(each), which) for each, which in value]
        if ("CATEGORY", "CATEGORY_SPACE") in [(each, str(which)) for each, which in inner]:
            return " "
        return chr(inner[0][1]) if inner[0][0] == "LITERAL" else CALL_ID
    if kind in ("ANY", "NOT_LITERAL"):
        return CALL_ID
    if kind in ("MAX_REPEAT", "MIN_REPEAT", "POSSESSIVE_REPEAT"):
        least: int = value[0]
        text = _sample(value[2], names)
        return text * min(least, 1 if CALL_ID in text else 1 + LONGEST_MARK // max(1, len(text)))
    if kind == "SUBPATTERN":
        return names.get(value[0]) or _sample(value[-1], names)
    if kind == "ATOMIC_GROUP":
        return _sample(value, names)
    if kind == "BRANCH":
        return _sample(value[1][0], names)
    if kind in ("AT", "ASSERT", "ASSERT_NOT"):
        return ""
    raise ValueError(f"has a pattern with {kind.lower()}")
