"""Writes plain values as YAML that a person can review.

Text of several lines stands in literal blocks; where a line ends in a space, which editors strip, in a quoted scalar
with one line of text per line. Mappings keep their order. Any YAML 1.1 loader reads back the same values.
"""

from __future__ import annotations

import base64
import math
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

FLOW_WIDTH = 100
SHORT = 40
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_-]*\Z")
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9 _./,;()'!?+*=%$&<>\"|@-]|:(?=[^ ]))*(?<![ :])\Z")
_RESERVED = frozenset(("y", "n", "yes", "no", "on", "off", "true", "false", "null"))
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_UNPRINTABLE = re.compile(
    r"""[\\"\n\t\r]|[^\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"""
)
_BLOCK = re.compile(r"(?!\s)(?:[^\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff])*\Z")
_TRAILING_SPACE = re.compile(r"[^\S\n](?=\n|\Z)")


@dataclass(frozen=True, slots=True)
class Anchored:
    """A value with a name, for an `Alias` to stand for further down."""

    name: str
    value: Any


@dataclass(frozen=True, slots=True)
class Alias:
    """The value anchored under this name."""

    name: str


def to_yaml(document: Mapping[str, Any]) -> str:
    """A document of mappings with text keys, sequences, text, numbers, booleans, `None` and bytes."""
    return "\n".join(_mapping(document, 0)) + "\n"


def _mapping(value: Mapping[str, Any], indent: int) -> Iterator[str]:
    for key, item in value.items():
        head, below = _node(item, indent, within="mapping")
        yield " " * indent + _one_line(key) + ":" + head
        yield from below


def _sequence(value: Sequence[Any], indent: int) -> Iterator[str]:
    for item in value:
        head, below = _node(item, indent, within="sequence")
        lines = list(below)
        if not head and lines:
            yield " " * indent + "- " + lines.pop(0)[indent + 2 :]
        else:
            yield " " * indent + "-" + head
        yield from lines


def _node(value: Any, indent: int, *, within: str) -> tuple[str, Iterator[str]]:
    """What follows on the line of the key or dash, and the lines below it."""
    if isinstance(value, Alias):
        return f" *{value.name}", iter(())
    if isinstance(value, Anchored):
        head, below = _node(value.value, indent, within=within)
        return f" &{value.name}{head}", below
    if (flow := _flow(value)) is not None:
        return f" {flow}", iter(())
    if isinstance(value, Mapping):
        return "", _mapping(value, indent + 2)
    if isinstance(value, list | tuple):
        return "", _sequence(value, indent if within == "mapping" else indent + 2)
    if isinstance(value, bytes):
        lines = textwrap.wrap(base64.b64encode(value).decode(), FLOW_WIDTH)
        return " !!binary |", (" " * (indent + 2) + line for line in lines)
    return _text(value, indent + 2)


def _flow(value: Any) -> str | None:
    """A number, an empty or a short simple collection on one line."""
    if isinstance(value, str | bytes):
        return None
    if not isinstance(value, Mapping | list | tuple):
        return _number(value)
    if not value:
        return "{}" if isinstance(value, Mapping) else "[]"
    if isinstance(value, Mapping):
        simple = [f"*{item.name}" if isinstance(item, Alias) else _simple(item) for item in value.values()]
        line = "{" + ", ".join(f"{key}: {text}" for key, text in zip(value, simple, strict=True)) + "}"
        return line if all(simple) and all(map(_is_word, value)) and len(line) <= FLOW_WIDTH else None
    items = [_simple(item) for item in value]
    numbers = all(isinstance(item, int) for item in value)
    line = "[" + ", ".join(items) + "]"
    return line if all(items) and (numbers or len(line) <= FLOW_WIDTH) else None


def _simple(value: Any) -> str:
    """A scalar that needs no quotes anywhere; "" for all else."""
    if isinstance(value, str):
        return value if _is_word(value) else ""
    return _number(value) if value is None or isinstance(value, int | float) else ""


def _is_word(text: str) -> bool:
    return bool(_WORD.match(text)) and text.casefold() not in _RESERVED


def _number(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, float):
        raise TypeError(f"expected plain values for YAML, saw {type(value).__name__}")
    if not math.isfinite(value):
        return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"
    text = repr(value)
    return text if "." in text else text.replace("e", ".0e")  # YAML 1.1 sees no float in 1e+20


def _text(text: str, indent: int) -> tuple[str, Iterator[str]]:
    if "\n" not in text.rstrip("\n") or not _BLOCK.match(text) or _TRAILING_SPACE.search(text):
        return _quoted_lines(text, indent)
    stripped = text.rstrip("\n")
    ends = len(text) - len(stripped)
    chomping = "-" if ends == 0 else "" if ends == 1 else "+"
    lines = stripped.split("\n") + [""] * max(0, ends - 1)
    return f" |{chomping}", (" " * indent + line if line else "" for line in lines)


def _quoted_lines(text: str, indent: int) -> tuple[str, Iterator[str]]:
    """One line of text per line, each but the last with its break escaped."""
    if "\n" not in text[:-1] or len(text) <= SHORT:
        return " " + _one_line(text), iter(())
    first, *rest = re.findall(r"[^\n]*\n|[^\n]+\Z", text)
    lines = [_escaped(first) + "\\"]
    lines += [" " * indent + ("\\" if line[0] == " " else "") + _escaped(line) + "\\" for line in rest]
    lines[-1] = lines[-1].removesuffix("\\") + '"'
    return ' "' + lines[0], iter(lines[1:])


def _one_line(text: str) -> str:
    if _PLAIN.match(text) and text.casefold() not in _RESERVED:
        return text
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return _UNPRINTABLE.sub(lambda match: _ESCAPES.get(match[0]) or _code(ord(match[0])), text)


def _code(point: int) -> str:
    return f"\\x{point:02x}" if point < 0x100 else f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"
