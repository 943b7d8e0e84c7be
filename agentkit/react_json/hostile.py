"""Makes a tool's text harmless to a prompt and to a model that repeats it: nothing in it begins a label, a fence, a
chat template's token or an action. Harmless text is not changed by a byte.

What is broken gets a zero-width space, which people do not see and models read over; `agentkit.react_json.turn` takes
no key that has one. Text is searched in plain letters: what looks like "Final Answer" is broken, however it is spelled,
and so is what a tokenizer that normalizes would read as a token.
This is mitigation: what a tool may do is enforced where tools run.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache, cached_property, lru_cache
from typing import Any

from agentkit.errors import ConfigurationError
from agentkit.react_json.calls import CallReader
from agentkit.react_json.marks import (
    ANSWER_KEYS,
    ARGUMENTS_KEYS,
    BREAK,
    INPUT_KEYS,
    NAME_KEYS,
    TABLE,
    WEAK_LABELS,
    Marks,
)
from agentkit.tool import Tool

__all__ = ["Defuser", "as_own_turn", "check_offered", "defused", "without_markup"]

# Overrides of the writing direction, and the invisible letters that spell out instructions (Unicode "tags").
_HIDDEN = re.compile("[\u202a-\u202e\u2066-\u2069\U000e0000-\U000e007f]")
_RUN = r"(?<![ \t>|])[ \t]*[>|]"  # from its beginning: each place in it that began one would make the time quadratic
_LINE = (
    rf"(?:^|[\r\v\f\x85\u2028\u2029.!?。)]|{_RUN}|\\n|<br ?/?>)[ \t>|]*"
    r"(?:#{1,6} *|[-•*] +|\d{1,2}[.)] *)?[*_]{0,3}"
)
_QUOTE = "[\"'\u2018-\u201d]?"
_LOOK_ALIKES = {
    **dict(zip("АВЕЅКМНОРСТХІЈԚԜ", "ABESKMHOPCTXIJQW", strict=True)),  # Cyrillic
    **dict(zip("авеѕкмонрстхіјԛԝѵԁһ", "abeskmonpctxijqwvdh", strict=True)),
    **dict(zip("ΑΒΕΖΗΙΚΜΝΟΡΤΥΧαενοικρτυ", "ABEZHIKMNOPTYXaevoikptu", strict=True)),  # Greek
    **dict(zip("ıɑɩɡɴ", "iaign", strict=True)),
    **dict.fromkeys("\u01c0\u2223\u23ae\u2502\u2503\u2758\ufe31\ufe33", "|"),  # upright bars
}
_UNSEEN = ("Mn", "Me", "Cf", "Cc", "Cs", "Cn")  # categories
_BLANKS = "\t\n\v\f\r\x1c\x1d\x1e\x1f\x85"  # control characters that part words, or lines
_PLAIN = re.compile("[\t-\r\x1c-~]*")
_PIECE = re.compile(r"\\u([0-9a-f]{4})|.", re.DOTALL | re.IGNORECASE)
_LETTERS = str.maketrans(_LOOK_ALIKES)


class Defuser:
    """Breaks the marks of one table."""

    def __init__(self, table: Marks = TABLE) -> None:
        self._table = table
        labels = "|".join(names for kind, names in table.labels.items() if kind not in WEAK_LABELS)
        final = table.labels["final"]
        broken_keys = _keys((*INPUT_KEYS[:1], *ANSWER_KEYS))
        self._breaks = _compiled(  # each break goes behind the group "head"
            rf"(?P<head>{_LINE}(?=(?:{labels})(?: ?\d{{1,3}})? ?[*_]{{0,3}}[ \t]*:)\w)",
            rf"(?P<head>^ {{0,3}}(?:#{{1,6}} *|\*\*)(?=(?:{final}) ?(?:\*\*)? *\r?$)\w)",  # a heading needs no colon
            r"(?P<head>``(?=`)|~~(?=~))",
            rf"(?P<head>(?={table.markup}).)",
            rf"(?P<head>(?:^|[\r\v\f\x85\u2028\u2029]|{_RUN}|\\n)[ \t>|]*(?={CallReader.python_list})\[)",
            rf"(?P<head>{_QUOTE}(?:{broken_keys}))(?={_QUOTE}\s*:)",
            rf"(?P<head>\{{\s*{_QUOTE}action)(?={_QUOTE}\s*:\s*{_QUOTE}[^\"{{}}]*{_QUOTE}\s*,?\s*\}})",
        )
        self._markup = _compiled(rf"(?P<head>(?={table.markup}).)")
        self._input_keys = _compiled(rf"(?P<head>{_QUOTE}(?:{_keys((*INPUT_KEYS, *ARGUMENTS_KEYS))}))(?={_QUOTE}\s*:)")
        self._name_key = re.compile(rf"{_QUOTE}(?:{_keys(NAME_KEYS)}){_QUOTE}\s*:", re.IGNORECASE)

    def __call__(self, text: str) -> str:
        """The text as a model may see it. Linear in its length."""
        text = _HIDDEN.sub("", text)
        letters, places = _in_plain_letters(text)
        patterns = self._breaks + self._input_keys if self._name_key.search(letters) else self._breaks
        return _broken(text, letters, places, patterns)

    def without_markup(self, text: str) -> str:
        """The text with just the tags and tokens broken. Linear in its length."""
        return _broken(text, *_in_plain_letters(text), self._markup)

    def as_own_turn(self, text: str) -> str:
        """A model's own turn with just what it never writes broken: all markup but that of calls. Linear, too."""
        return _broken(text, *_in_plain_letters(text), self._foreign)

    @cached_property
    def _foreign(self) -> list[re.Pattern[str]]:
        return _compiled(rf"(?P<head>(?!{self._table.of_own_turns})(?={self._table.markup}).)")


def _broken(text: str, letters: str, places: range | list[int], patterns: Sequence[re.Pattern[str]]) -> str:
    """The text with a break in front of what follows each head, unless one stands there."""
    ends = {match.end("head") for pattern in patterns for match in pattern.finditer(letters)}
    breaks = sorted({places[end] for end in ends if BREAK not in text[places[end - 1] + 1 : places[end]]})
    if not breaks:
        return text
    return BREAK.join(text[start:end] for start, end in zip([0, *breaks], [*breaks, len(text)], strict=True))


@lru_cache(maxsize=64)
def defused(text: str) -> str:
    """The text as a model may see it."""
    return _defuser()(text)


@lru_cache(maxsize=64)
def without_markup(text: str, table: Marks = TABLE) -> str:
    """The text with every tag and token of the table of marks broken after its first character."""
    return _defuser(table).without_markup(text)


def as_own_turn(text: str) -> str:
    """A model's own turn, as a history has it, without tokens that only a template writes."""
    return _defuser().as_own_turn(text)


def check_offered(tools: Iterable[Tool]) -> None:
    """Raise `ConfigurationError` for a name that a model is to repeat and that holds a tag or token of the table."""
    for tool in tools:
        if without_markup(tool.name) != tool.name:
            raise ConfigurationError(
                f"No tool can be named {tool.name!r}, which holds a mark of chat templates; rename it, or leave it out"
            )
        if strange := next((name for name in _repeated(tool.schema) if without_markup(name) != name), None):
            raise ConfigurationError(
                f"The schema of the tool {tool.name} has {strange!r}, a mark of chat templates, as a name or a value; "
                "rename it, or leave the tool out"
            )


def _repeated(schema: Any) -> Iterator[str]:
    """What a model that fills in a schema writes as it stands there: names of fields, and values to choose from."""
    if isinstance(schema, list | tuple):
        for part in schema:
            yield from _repeated(part)
    if not isinstance(schema, Mapping):
        return
    for name, part in schema.items():
        yield str(name)
        if name in ("enum", "const"):
            values = part if isinstance(part, list | tuple) else [part]
            yield from (value for value in values if isinstance(value, str))
        yield from _repeated(part)


@cache
def _defuser(table: Marks = TABLE) -> Defuser:
    return Defuser(table)


def _keys(keys: tuple[str, ...]) -> str:
    """A regular expression for keys, however their words are joined; "args" goes for "tool args", too."""
    return "|".join(rf"(?:(?:tool|function)[ _-]?)?{key.replace(' ', '[ _-]?')}" for key in keys)


def _compiled(*patterns: str) -> list[re.Pattern[str]]:
    plain = ("".join(map(_letter, pattern)) for pattern in patterns)
    return [re.compile(pattern, re.IGNORECASE | re.MULTILINE) for pattern in plain]


def _in_plain_letters(text: str) -> tuple[str, range | list[int]]:
    """The text in plain letters without what is invisible, and where each of its characters stands in `text`.

    An escape of JSON is the letter that it stands for: a key may be spelled with it.
    """
    if _PLAIN.fullmatch(text) and "\\u" not in text:
        return text, range(len(text) + 1)
    letters: list[str] = []
    places: list[int] = []
    for piece in _PIECE.finditer(text):
        letter = _letter(chr(int(piece[1], 16)) if piece[1] else piece[0])
        letters.append(letter)
        places += [piece.start()] * len(letter)
    return "".join(letters), [*places, len(text)]


def _letter(character: str) -> str:
    return character if " " <= character <= "~" else _plain_letter(character)


@lru_cache(maxsize=4096)
def _plain_letter(character: str) -> str:
    """ASCII for a form of it (full-width, bold, accented) and for what looks like it; nothing for what is invisible."""
    if character in _BLANKS:
        return character
    decomposed = unicodedata.normalize("NFKD", character.translate(_LETTERS))
    visible = "".join(part for part in decomposed if unicodedata.category(part) not in _UNSEEN)
    return unicodedata.normalize("NFC", visible).translate(_LETTERS)
