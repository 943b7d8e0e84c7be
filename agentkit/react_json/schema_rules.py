"""Grammar rules (Lark, for llguidance) that hold a value to a JSON schema: as JSON, and as call syntaxes write it.

llguidance itself makes the rules of JSON. What other syntaxes write differently is expanded here: text without quotes,
Python's words, keys without quotes; the leaves are JSON again. What a grammar cannot hold is refused in one line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import lru_cache
from itertools import chain
from typing import Any, Protocol
from urllib.parse import unquote

from agentkit.errors import ConfigurationError, short_repr
from agentkit.react_json.marks import CallSyntax, Pairs, Tags

__all__ = ["ArgumentRules", "are_apart", "bounded", "in_grammar", "json_rule"]

ON_ONE_LINE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "json_allowed_escapes": 'nrt\\"u',  # \b and \f may be meant as the beginning of \beta and \frac
}
DEEPEST, MOST_PARTS = 200, 500  # of a schema: llguidance, which recurses, ends the process at more
LARGEST = 1e15  # of the numbers that a schema does not limit
FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
"""Those that llguidance holds strings to; any other, as JSON Schema has it, is a remark."""
REMARKS = frozenset(
    ("title", "description", "default", "examples", "$schema", "$id", "$anchor", "$comment", "$defs", "definitions")
)
UNHELD = frozenset(
    (
        *("not", "if", "then", "else", "contains", "minContains", "maxContains", "uniqueItems", "dependentRequired"),
        *("dependentSchemas", "dependencies", "propertyNames", "unevaluatedProperties", "unevaluatedItems"),
    )
)
FREE = r"[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]"
"""A character of free text."""

_TYPES: Mapping[type, str] = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    type(None): "null",
    list: "array",
    tuple: "array",
    dict: "object",
}
_OF_NUMBERS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_HINTS = {
    "object": ("properties", "additionalProperties", "patternProperties", "required", "minProperties", "maxProperties"),
    "array": ("items", "prefixItems", "minItems", "maxItems"),
    "string": ("pattern", "minLength", "maxLength", "format"),
    "number": _OF_NUMBERS,
    "integer": _OF_NUMBERS,
}
"""Keywords of each type, which say of what type a value is whose schema does not: the first that has one of them."""
_OF_ANY_TYPE = frozenset(chain.from_iterable(_HINTS.values()))
_EVERY_TYPE = ("string", "number", "boolean", "null", "array", "object")


def bounded(schema: Any) -> Any:
    """The schema as it is; raises `ConfigurationError` for one that no grammar can be made of."""
    level = [schema]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for part in level:
            within = list(part.values() if isinstance(part, Mapping) else part)
            parts = [each for each in within if isinstance(each, Mapping | list | tuple)]
            required = part.get("required") if isinstance(part, Mapping) else None
            if max(len(parts), len(required) if isinstance(required, list | tuple) else 0) > MOST_PARTS:
                raise _too_much(f"more than {MOST_PARTS} parts in one place")
            inner += parts
        if not inner:
            return schema
        level = inner
    raise _too_much(f"more than {DEEPEST} levels")


def _too_much(of_what: str) -> ConfigurationError:
    return ConfigurationError(
        f"No grammar can hold a reply to a JSON schema of {of_what}; make it smaller, or turn grammars off with "
        'constrain="off"'
    )


def _unheld(what: str) -> ConfigurationError:
    return ConfigurationError(
        f"No grammar can hold a value to {what}; leave it out of the JSON schema, or turn grammars off with "
        'constrain="off"'
    )


# -- as JSON -----------------------------------------------------------------------------------------------------------


def json_rule(schema: Any, *, root: Any = None, without: tuple[str, ...] = ()) -> str:
    """A schema as the right side of a grammar rule: on one line as `json.dumps` writes it, no unknown properties.

    References are to `root`, or else to the schema itself. `without` are marks that no string may hold.
    """
    standalone = _Standalone(schema if root is None else root, without)
    return f"%json {json.dumps({'x-guidance': ON_ONE_LINE, **standalone.made_of(schema)})}"


class _Standalone:
    """Makes schemas that stand by themselves, of parts of `root`, and closes what they leave open.

    Objects that list their properties have no others; numbers have a limit, without which digits and exponents reach
    what JSON readers refuse; strings, those of values of any type too, hold no mark of `without`.
    """

    def __init__(self, root: Any, without: tuple[str, ...]) -> None:
        self._root = root
        self._string = {"pattern": not_holding(without)} if without else {}
        first = "".join({re.escape(mark[0]) for mark in without})
        self._any_key = f"^[^{first}\\x00]{{1,60}}$"
        self._names: dict[tuple[str, bool], str] = {}
        self._waiting: list[tuple[str, Any, bool]] = []

    def made_of(self, schema: Any) -> dict[str, Any]:
        made = self._closed(schema)
        definitions: dict[str, Any] = {}
        while self._waiting:
            name, part, is_part = self._waiting.pop()
            definitions[name] = self._closed(part, is_part=is_part)
        made = {"allOf": [made]} if isinstance(made, bool) else made
        return {**made, "$defs": definitions} if definitions else made

    def _named(self, reference: str, part: Any, *, is_part: bool = False) -> dict[str, Any]:
        key = (reference, is_part)
        if key not in self._names:
            self._names[key] = f"d{len(self._names)}"
            self._waiting.append((self._names[key], part, is_part))
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _closed(self, schema: Any, *, is_part: bool = False) -> Any:
        """The schema, closed; `is_part`: it says only some of an object's properties."""
        if not isinstance(schema, Mapping):
            return self._named("", {"type": [*_EVERY_TYPE]}) if schema is True else schema
        parts = ("properties" in schema) + ("$ref" in schema) + len(schema.get("allOf", ()))
        is_part = is_part or (parts > 1 and bool({"$ref", "allOf"} & schema.keys()))
        made = {key: self._part(key, value, is_part) for key, value in schema.items() if key not in REMARKS}
        if not made:
            return self._named("", {"type": [*_EVERY_TYPE]})
        if made.get("format", "uri") not in FORMATS:
            del made["format"]
        kinds = _types_of(made)
        if not kinds:
            return made
        made["type"] = kinds[0] if len(kinds) == 1 else kinds
        if "number" in kinds:
            _narrow(made)
            made |= {} if "exclusiveMinimum" in made else {"minimum": max(made.get("minimum", -LARGEST), -LARGEST)}
            made |= {} if "exclusiveMaximum" in made else {"maximum": min(made.get("maximum", LARGEST), LARGEST)}
        if "enum" in made or "const" in made:
            return made
        if "string" in kinds and self._string and "format" not in made:
            made["allOf"] = [*made.get("allOf", ()), self._string]
        if "array" in kinds and not {"items", "prefixItems"} & made.keys():
            made["items"] = self._closed(True)
        if "object" in kinds and not (is_part and "properties" in made):
            self._close_object(made)
        return made

    def _close_object(self, made: dict[str, Any]) -> None:
        listed, others = "properties" in made, made.get("additionalProperties")
        if listed and others is not False and "patternProperties" not in made:
            unlisted = [name for name in made.get("required", ()) if name not in made["properties"]]
            made["properties"] |= {name: self._closed(True) if others is None else others for name in unlisted}
        if others is None:
            made["additionalProperties"] = others = False if listed else self._closed(True)
        if others is not False and not listed and not {"patternProperties", "required"} & made.keys():
            made["patternProperties"] = {self._any_key: others}
            made["additionalProperties"] = False

    def _part(self, key: str, value: Any, is_part: bool) -> Any:
        if key == "$ref":
            return self._named(value, referred(self._root, value), is_part=is_part)["$ref"]
        if key in ("properties", "patternProperties") and isinstance(value, Mapping):
            return {name: self._closed(each) for name, each in value.items()}
        if key in ("anyOf", "allOf", "oneOf") and isinstance(value, list | tuple):
            return [self._closed(each, is_part=is_part) for each in value]
        if key == "prefixItems" and isinstance(value, list | tuple):
            return [self._closed(each) for each in value]
        if key == "items" and isinstance(value, list):  # as drafts before 2020-12 have it
            return [self._closed(each) for each in value]
        if key in ("items", "additionalItems", "additionalProperties") and value is not False:
            return self._closed(value)
        return value


def _narrow(made: dict[str, Any]) -> None:
    """Bounds that are inclusive instead of exclusive ones at both sides, which grammars of numbers do not hold."""
    low, high = (made.get(one, made.get(other)) for one, other in (_LOW, _HIGH))
    if low is None or high is None or not {_LOW[0], _HIGH[0]} & made.keys() or not low < high:
        return
    step = Decimal(1).scaleb((Decimal(repr(high)) - Decimal(repr(low))).adjusted() - 6)
    for (exclusive, inclusive), sign in ((_LOW, 1), (_HIGH, -1)):
        if exclusive in made:
            bound = float(Decimal(repr(made.pop(exclusive))) + sign * step)
            made[inclusive] = _joined(inclusive, bound, made.get(inclusive, bound))


_LOW, _HIGH = ("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")


def _types_of(schema: Mapping[str, Any]) -> list[str]:
    """The types that a schema names, or of which its keywords speak."""
    named = schema.get("type")
    if named is not None:
        return [named] if isinstance(named, str) else list(named)
    if {"$ref", "anyOf", "oneOf", "allOf", "enum", "const"} & schema.keys():
        return []
    return next(([kind] for kind, keys in _HINTS.items() if schema.keys() & {*keys}), [])


def referred(root: Any, reference: Any) -> Any:
    """What a reference inside a schema stands for."""
    place = root
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        raise _unheld(f"$ref {short_repr(reference)}, which is outside its schema")
    for step in unquote(reference[1:]).split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        known = isinstance(place, Mapping) and step in place
        if not known and not (isinstance(place, list) and step.isdigit() and int(step) < len(place)):
            raise _unheld(f"$ref {short_repr(reference)}, which its schema does not define")
        place = place[step] if known else place[int(step)]
    return place


@lru_cache(maxsize=32)
def not_holding(marks: tuple[str, ...]) -> str:
    """A regular expression, without a complement, for text that holds none of `marks`.

    Where the letter that begins a mark stands in it again, what comes before is left out of texts already.
    """
    firsts = {mark[0] for mark in marks}
    tree: dict[str, Any] = {}
    for mark in marks:
        length = next((at for at, letter in enumerate(mark) if at and letter in firsts), len(mark))
        node = tree
        for letter in mark[:length]:
            node = node.setdefault(letter, {})
        node[""] = {}
    other = f"[^{_letters(firsts)}]*"
    segments = []
    for first, node in sorted(tree.items()):
        if "" not in node:
            segments += [re.escape(first) + _beginning(node), re.escape(first) + _departure(node, firsts) + other]
    return f"^{other}({'|'.join(segments)})*$"


def _letters(letters: Iterable[str]) -> str:
    return "".join(map(re.escape, sorted(letters)))


def _beginning(node: Mapping[str, Any]) -> str:
    """What may follow where a text ends inside a mark."""
    inner = "|".join(re.escape(letter) + _beginning(each) for letter, each in sorted(node.items()) if "" not in each)
    return f"({inner})?" if inner else ""


def _departure(node: Mapping[str, Any], firsts: set[str]) -> str:
    """What may follow where a text turns out to be no mark."""
    inner = [re.escape(letter) + _departure(each, firsts) for letter, each in sorted(node.items()) if "" not in each]
    return f"({'|'.join([*inner, f'[^{_letters({*node, *firsts})}]'])})"


# -- as a call syntax writes it ----------------------------------------------------------------------------------------


class Write(Protocol):
    """Writes a syntax's own text as symbols of a grammar, its tokens by their ids."""

    def __call__(self, text: str) -> str: ...

    def split(self, text: str) -> tuple[str, str, str]:
        """A text in front of its first token, that token, and what follows."""
        ...


class ArgumentRules:
    """The rules for the arguments of one tool in a syntax that does not write them as a JSON object.

    They come in the order of the schema, optional ones may be left out. `marks` are those of the syntax that a text
    could spell: no string holds one where nothing can escape it.
    """

    def __init__(self, name: str, schema: Mapping[str, Any], syntax: CallSyntax, write: Write, marks: tuple[str, ...]):
        assert syntax.arguments is not None
        self._root = bounded(schema)
        self._style: Tags | Pairs = syntax.arguments
        self._write = write
        self._marks = marks
        self._name = name
        self._lines: list[str] = []
        self._known: dict[str, str] = {}
        self._waiting: list[tuple[str, Any, bool]] = []

    def lines(self) -> Iterator[str]:
        """The rules, the first of which has the name that was given."""
        objects = [each for each in self._flat(self._root) if each.get("type", "object") == "object"]
        bodies = [self._object(each, is_argument=True) for each in objects]
        yield f"{self._name}: {self._any_of(bodies, self._root)}"
        while self._waiting:
            name, schema, is_argument = self._waiting.pop()
            in_tags = isinstance(self._style, Tags)
            body = self._in_tags(name, schema) if in_tags else self._value(name, schema, is_argument=is_argument)
            self._lines.append(f"{name}: {body}")
        yield from self._lines

    def _rule(self, schema: Any, *, is_argument: bool = False) -> str:
        """The name of the rule for a value; one for all that refer to the same schema, which may hold itself."""
        schema = {} if schema is True else schema
        plain = isinstance(schema, Mapping) and not schema.keys() - REMARKS - {"$ref"}
        key = f"{is_argument} {schema.get('$ref', '')}" if plain else ""
        if key not in self._known:
            name = f"{self._name}_{len(self._known)}"
            self._known[key or name] = name
            self._waiting.append((name, schema, is_argument))
            return name
        return self._known[key]

    def _terminal(self, name: str, body: str) -> str:
        name = f"{name.upper()}_{len(self._lines)}"
        self._lines.append(f"{name}: {body}")
        return name

    def _any_of(self, bodies: Sequence[str], schema: Any) -> str:
        if not bodies:
            raise _unheld(f"{short_repr(schema)}, which nothing fits")
        return " | ".join(dict.fromkeys(bodies))

    # -- values

    def _value(self, name: str, schema: Any, *, is_argument: bool) -> str:
        bodies: list[str] = []
        for each in self._flat(schema):
            if "enum" in each:
                texts = (self._constant(value, is_argument=is_argument) for value in each["enum"])
                bodies += [text for text in texts if text]
                continue
            for kind in [each["type"]] if "type" in each else _EVERY_TYPE:
                bodies.append(self._of_type(kind, name, each, is_argument=is_argument))
        return self._any_of(bodies, schema)

    def _of_type(self, kind: str, name: str, schema: Mapping[str, Any], *, is_argument: bool) -> str:
        if kind == "string":
            return self._string(name, schema, is_argument=is_argument)
        if kind == "array":
            return self._array(schema)
        if kind == "object":
            return f'"{{" ({self._object(schema)}) "}}"'
        if kind == "boolean":
            return f"({json.dumps(self._word(True))} | {json.dumps(self._word(False))})"
        if kind == "null":
            return json.dumps(self._word(None))
        return json_rule(schema) if schema.keys() & {*_OF_NUMBERS} else f"({' | '.join(_WORDS[kind])})"

    @property
    def _is_python(self) -> bool:
        return isinstance(self._style, Pairs) and self._style.is_python

    def _word(self, value: Any) -> str:
        return repr(value) if self._is_python else json.dumps(value)

    def _constant(self, value: Any, *, is_argument: bool = False) -> str:
        """The symbols for one value; "" where the syntax cannot write it."""
        if isinstance(value, Mapping):
            pairs = [(self._key(str(key)), self._constant(each)) for key, each in value.items()]
            inner = f" {json.dumps(self._separator)} ".join(f"{key} {each}" for key, each in pairs)
            return f'"{{" {inner} "}}"' if all(each for _, each in pairs) else ""
        if isinstance(value, list | tuple):
            items = [self._constant(each) for each in value]
            return f'"[" {f" {json.dumps(self._separator)} ".join(items)} "]"' if all(items) else ""
        if not isinstance(value, str):
            return json.dumps(self._word(value))
        assert isinstance(self._style, Pairs)
        if not self._is_python:
            quote = self._write(self._style.quote)
            return f"{quote} {json.dumps(value)} {quote}" if self._can_stand(value) else ""
        if is_argument and self._style.is_bare and re.fullmatch(_bare(self._style.quote), value):
            return json.dumps(f"{self._style.quote}{value}{self._style.quote}")
        if is_argument and self._style.quote == "'" and not self._style.is_bare:
            return json.dumps("'" + re.sub(r"['\\]", r"\\\g<0>", value).translate(_ESCAPES) + "'")
        return json.dumps(json.dumps(value, ensure_ascii=False))

    def _can_stand(self, text: str) -> bool:
        return not any(mark.lower() in text.lower() for mark in self._marks) and not re.search(r"[\x00-\x08]", text)

    def _string(self, name: str, schema: Mapping[str, Any], *, is_argument: bool) -> str:
        assert isinstance(self._style, Pairs)
        quote = self._style.quote
        if not self._is_python:
            return f"{self._write(quote)} {self._up_to(name, _regex_of_text(schema), quote)}"
        if is_argument and self._style.is_bare:
            texts = f"{_regex_of_text(schema)} & /{_bare(quote)}/"
            return f"{json.dumps(quote)} {self._up_to(name, texts, quote)}"
        if is_argument and quote == "'" and not {"pattern", "format"} & schema.keys():
            text = rf"/'([^'\\\x00-\x1f\x7f]|\\['\\nrt]){_times(schema, 'Length')}'/"
            return self._terminal(name, text + self._without_marks)
        patterns = [{"pattern": each} for each in schema.get("pattern", ())]
        rest = {key: value for key, value in schema.items() if key != "pattern"}
        return json_rule({**rest, "type": "string", "allOf": patterns}, without=self._marks)

    def _up_to(self, name: str, text: str, end: str) -> str:
        """The symbols for a text, as a terminal's body, and what ends it: in one terminal, as far as text can."""
        before, token, after = self._write.split(end)
        ending = f" {json.dumps(before)}" if before else ""
        symbol = self._terminal(name, f"({text}{self._without_marks}){ending}")
        return f"{symbol} {self._write(token + after)}" if token else symbol

    @property
    def _without_marks(self) -> str:
        spelled = "|".join(f"(?i:{regex_of(mark)})" for mark in self._marks)
        return f" & ~/(?s:.*)({spelled})(?s:.*)/" if spelled else ""

    # -- lists and objects

    @property
    def _separator(self) -> str:
        return self._style.separator if isinstance(self._style, Pairs) else ""

    def _array(self, schema: Mapping[str, Any]) -> str:
        first = schema.get("prefixItems", ())
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if len(first) > MOST_PARTS:
            raise _too_much(f"more than {MOST_PARTS} parts in one place")
        comma = json.dumps(self._separator)
        others = schema.get("items", True)
        body = ""
        if others is not False and (most is None or most > len(first)):
            low, high = max(0, least - len(first)), None if most is None else most - len(first)
            rule = self._rule(others)
            if first:
                body = _repeated(f"{comma} {rule}", low, high)
            else:
                body = f"{rule} {_repeated(f'{comma} {rule}', low - 1, None if high is None else high - 1)}"
                body = body if low else f"({body})?"
        elif least > len(first):
            raise _unheld(f"{least} items of a list that has {len(first)}")
        for number in reversed(range(len(first) if most is None else min(most, len(first)))):
            body = f"{f'{comma} ' if number else ''}{self._rule(first[number])} {body}"
            body = f"({body})?" if number >= least else body
        return f'"[" {body} "]"'

    def _object(self, schema: Mapping[str, Any], *, is_argument: bool = False) -> str:
        """The symbols for the properties of an object, or the arguments of a call."""
        required = {*schema.get("required", ())}
        listed = dict(schema.get("properties", {}))
        others = schema.get("additionalProperties", not listed and not is_argument)
        patterns = schema.get("patternProperties", {})
        if patterns:
            raise _unheld("patternProperties in the syntax of this model's calls")
        listed |= {key: others for key in schema.get("required", ()) if key not in listed and others is not False}
        if missing := required - listed.keys():
            raise _unheld(f"a required {short_repr(min(missing))} that is no property")
        items = [(self._pair(key, each, is_argument), key in required) for key, each in listed.items()]
        extra = "" if others is False else self._extra(others, [*listed], is_argument)
        low, high = schema.get("minProperties", 0), schema.get("maxProperties")
        if items and not (low <= len(required) and (high is None or (high >= len(items) and not extra))):
            raise _unheld("a number of properties")
        return self._sequence(items, extra, (low, high) if not items else (0, None))

    def _pair(self, key: str, schema: Any, is_argument: bool) -> str:
        if isinstance(self._style, Tags):
            head = f"{self._write(self._style.opening)} {json.dumps(key)} {self._write(self._style.middle)}"
        else:
            head = f"{json.dumps(key)} {self._write(self._style.equals)}" if is_argument else self._key(key)
        return f"{head} {self._rule(schema, is_argument=is_argument)}"

    def _key(self, key: str) -> str:
        """The key of an object inside an argument."""
        if self._is_python:
            return json.dumps(json.dumps(key, ensure_ascii=False) + ": ")
        assert isinstance(self._style, Pairs)
        if re.fullmatch(r"[A-Za-z_]\w*", key, re.ASCII):
            return json.dumps(f"{key}:")
        quote = self._write(self._style.quote)
        return f'{quote} {json.dumps(key)} {quote} ":"'

    def _extra(self, schema: Any, listed: Sequence[str], is_argument: bool) -> str:
        """The symbols for a property that is not `listed`."""
        quote = '"' if self._is_python and not is_argument else ""
        name = r"[A-Za-z_][0-9A-Za-z_]{0,60}" if not quote else r"[^\"\\\x00-\x1f\x7f]{1,60}"
        others = f" & ~/{quote}({'|'.join(map(regex_of, listed))}){quote}/" if listed else ""
        key = self._terminal(f"{self._name}_key", f"/{quote}{name}{quote}/{others}")
        value = self._rule(schema, is_argument=is_argument)
        if isinstance(self._style, Tags):
            return f"{self._write(self._style.opening)} {key} {self._write(self._style.middle)} {value}"
        return f"{key} {self._write(self._style.equals if is_argument else ': ' if quote else ':')} {value}"

    def _sequence(self, items: Sequence[tuple[str, bool]], extra: str, count: tuple[int, int | None]) -> str:
        """A rule for `items` in order, of which those that are required must stand, then any number of `extra`.

        `NAME_rest_N` is what may follow once something stands, from item N on; `NAME_all_N` where nothing does.
        """
        name = f"{self._name}_{len(self._lines)}"
        comma = f"{json.dumps(self._separator)} " if self._separator else ""
        low, high = count
        last = f"{extra} {_repeated(comma + extra, low - 1, None if high is None else high - 1)}" if extra else ""
        nothing = [] if low else ['""']
        self._lines.append(f"{name}_rest_{len(items)}: {f'({comma}{extra})*' if extra else chr(34) * 2}")
        self._lines.append(
            f"{name}_all_{len(items)}: {' | '.join([*nothing, *([last] if last and high != 0 else [])])}"
        )
        for place, (item, required) in enumerate(items):
            for kind, before in (("rest", comma), ("all", "")):
                skipped = "" if required else f" | {name}_{kind}_{place + 1}"
                self._lines.append(f"{name}_{kind}_{place}: {before}{item} {name}_rest_{place + 1}{skipped}")
        return f"{name}_all_0"

    # -- text and JSON in tags

    def _in_tags(self, name: str, schema: Any) -> str:
        """A value in tags: a string as it is, anything else as JSON. What reads as JSON of a type that is allowed is of
        that type, so that a string beside other types may not read as one of them."""
        assert isinstance(self._style, Tags)
        alternatives = self._flat(schema)
        is_text = any(_may_be_text(each) for each in alternatives)
        end = self._style.closing
        if alternatives and not is_text:
            rule = json_rule({"anyOf": alternatives}, root=self._root, without=self._marks)
            return f"{rule} {self._write(end)}"
        texts, words, containers, kinds = list[str](), list[str](), list[Any](), set[str]()
        for each in alternatives:
            for value in each.get("enum", ()):
                if not isinstance(value, str):
                    words.append(json.dumps(self._style.word(value)))
                    kinds.add(_TYPES[type(value)])
                elif self._can_stand(value):
                    texts.append(json.dumps(value))
            kind = each.get("type", "")
            if "enum" in each:
                continue
            if kind in ("", "string"):
                texts.append(self._shaped(_regex_of_text(each)))
            elif kind in ("object", "array"):
                containers.append(each)
                kinds.add(kind)
            else:
                kinds.add(kind)
                words += self._words_in_tags(kind) if not each.keys() - {"type"} else []
        looks = [_LOOKS[kind] for kind in sorted(kinds)]
        apart = f" & ~/{'|'.join(looks)}/" if looks else ""
        body = f"({' | '.join(texts)}){apart}" if texts else ""
        symbols = (
            [self._up_to(name, " | ".join([f"({body})", *words] if body else words), end)] if texts or words else []
        )
        if containers:
            rule = json_rule({"anyOf": containers}, root=self._root, without=self._marks)
            symbols.append(f"{rule} {self._write(end)}")
        return self._any_of(symbols, schema)

    def _words_in_tags(self, kind: str) -> Sequence[str]:
        """What a value of a type that is no text, beside a text, is written as."""
        assert isinstance(self._style, Tags)
        if kind in _WORDS:
            return _WORDS[kind]
        return [json.dumps(self._style.word(value)) for value in ((True, False) if kind == "boolean" else (None,))]

    def _shaped(self, text: str) -> str:
        """The text without the line ends that readers take for the tags' own."""
        assert isinstance(self._style, Tags)
        bare = r"[^\x00-\x08\x0a-\x1f\x7f]"
        first = FREE if self._style.middle.endswith("\n") else bare
        last = r"[^\x00-\x08\x0b-\x1f\x7f]" if self._style.closing.startswith("\n") else bare
        both = bare if bare in (first, last) else last
        shape = f"/({both}|{first}{FREE}*{last})?/"
        return shape if text == _ANY_TEXT else f"{text} & {shape}"

    # -- schemas

    def _flat(self, schema: Any, trail: tuple[str, ...] = ()) -> list[dict[str, Any]]:
        """The alternatives of a schema: each of one type, or of none, or an enumeration; none refers to anything."""
        if schema is False:
            return []
        if schema is True:
            return [{}]
        if unheld := UNHELD & schema.keys():
            raise _unheld(min(unheld))
        groups = [self._typed(schema)]
        if (reference := schema.get("$ref")) is not None:
            if reference in trail:
                raise _unheld(f"$ref {short_repr(reference)}, which is itself")
            groups.append(self._flat(referred(self._root, reference), (*trail, reference)))
        groups += [self._flat(each, trail) for each in schema.get("allOf", ())]
        for key in ("anyOf", "oneOf"):
            if key in schema:
                groups.append([one for each in schema[key] for one in self._flat(each, trail)])
                if key == "oneOf" and not _are_apart(groups[-1]):
                    raise _unheld("oneOf where two may fit")
        flat = groups[0]
        for group in groups[1:]:
            flat = [both for one in flat for other in group if (both := _both(one, other)) is not None]
            if len(flat) > MOST_PARTS:
                raise _too_much(f"more than {MOST_PARTS} alternatives")
        return flat

    def _typed(self, schema: Mapping[str, Any]) -> list[dict[str, Any]]:
        made = {key: value for key, value in schema.items() if key not in {*REMARKS, "$ref", "allOf", "anyOf", "oneOf"}}
        kinds = _types_of(schema)
        if made.get("format", "uri") not in FORMATS:
            del made["format"]
        if "pattern" in made:
            made["pattern"] = (made["pattern"],)
        if "const" in made:
            made["enum"] = [made.pop("const")]
        if "enum" in made:
            fits = [value for value in made["enum"] if not kinds or _fits(value, kinds)]
            return [{"enum": fits}] if fits else []
        made.pop("type", None)
        if unknown := [kind for kind in kinds if kind not in (*_EVERY_TYPE, "integer")]:
            raise _unheld(f"type {short_repr(unknown[0])}")
        if not kinds:
            return [{key: made[key] for key in made if key in _OF_ANY_TYPE}]
        return [{"type": kind, **{key: made[key] for key in made if key in _HINTS.get(kind, ())}} for kind in kinds]


def _bare(quote: str) -> str:
    """A regular expression for text between quotes that has no escapes: none of the quotes in it could end it."""
    other = rf"[^{quote}\\\x00-\x08\x0b-\x1f\x7f]"
    return rf"({other}|{quote} ?[^{quote}\\,) \x00-\x1f\x7f])*{quote}?"


_ANY_TEXT = f"/{FREE}*/"
_ESCAPES = str.maketrans({"\n": r"\n", "\r": r"\r", "\t": r"\t"})
_LOOKS = {  # of a text that is read as a value of another type
    "null": r"\s*(?i:null|none)\s*",
    "boolean": r"\s*(?i:true|false)\s*",
    "integer": r"\s*-?[0-9][0-9.eE+-]*\s*",
    "number": r"\s*-?[0-9][0-9.eE+-]*\s*",
    "array": r"\s*[\[{](?s:.*)",
    "object": r"\s*[\[{](?s:.*)",
}
_WORDS = {  # as templates spell them
    "integer": ["/0|-?[1-9][0-9]{0,14}/"],
    "number": [r"/(0|-?[1-9][0-9]{0,14})(\.([0-9]{0,14}[1-9]|0))?|-0\.([0-9]{0,14}[1-9]|0)/"],
}
_DATE = (
    "([0-9]{4}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8])))"
)
_TIME = r"(([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9]))"
_LABEL = "[0-9A-Za-z]([0-9A-Za-z-]{0,61}[0-9A-Za-z])?"
_BYTE = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IN_URI = r"([0-9A-Za-z._~\/@:!$&'()*+,;=-]|%[0-9A-F]{2})*"
_FORMATS_OF_TEXT = {  # llguidance's are those of strings in quotes
    "date": _DATE,
    "time": _TIME,
    "date-time": f"{_DATE}T{_TIME}",
    "duration": "P([0-9]{1,4}W|[0-9]{1,4}D(T[0-9]{1,4}H)?|T[0-9]{1,4}(H([0-9]{1,4}M)?|M([0-9]{1,4}S)?|S))",
    "email": rf"[0-9A-Za-z_+-]{{1,30}}(\.[0-9A-Za-z_+-]{{1,30}}){{0,3}}@{_LABEL}(\.{_LABEL}){{1,3}}",
    "hostname": rf"{_LABEL}(\.{_LABEL}){{0,3}}",
    "ipv4": rf"({_BYTE}\.){{3}}{_BYTE}",
    "ipv6": "([0-9a-f]{1,4}:){7}[0-9a-f]{1,4}|([0-9a-f]{1,4}:){1,6}:[0-9a-f]{1,4}|::([0-9a-f]{1,4})?",
    "uuid": "[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}",
    "uri": rf"[a-z][0-9a-z+.-]{{0,20}}:(\/\/{_LABEL}(\.{_LABEL}){{0,3}}\/)?{_IN_URI}(\?{_IN_URI})?(#{_IN_URI})?",
}


def _may_be_text(schema: Mapping[str, Any]) -> bool:
    if "enum" in schema:
        return any(isinstance(value, str) for value in schema["enum"])
    return bool(schema.get("type", "string") == "string")


def _regex_of_text(schema: Mapping[str, Any]) -> str:
    """The body of a terminal for a string as it is."""
    parts = [f"/{_found(pattern)}/" for pattern in schema.get("pattern", ())]
    if "format" in schema:
        parts.append(f"/{_FORMATS_OF_TEXT[schema['format']]}/")
    if "minLength" in schema or "maxLength" in schema:
        parts.append(f"/{FREE}{_times(schema, 'Length')}/")
    elif "format" not in schema:
        parts.append(_ANY_TEXT)
    return " & ".join(parts)


def _times(schema: Mapping[str, Any], what: str) -> str:
    low, high = schema.get(f"min{what}", 0), schema.get(f"max{what}")
    if high is not None and high < low:
        raise _unheld(f"min{what} {low} with max{what} {high}")
    return _counted(low, high)


def _repeated(symbols: str, low: int, high: int | None) -> str:
    return "" if high is not None and high <= 0 else f"({symbols}){_counted(max(0, low), high)}"


def _counted(low: int, high: int | None) -> str:
    return "*" if not low and high is None else f"{{{low},{'' if high is None else high}}}"


def in_grammar(pattern: str) -> str:
    """A regular expression as it stands between slashes."""
    bare = {"/": r"\/", "\n": r"\n", "\\\n": r"\n"}
    return re.sub(r"\\[\s\S]|/|\n", lambda match: bare.get(match[0], match[0]), pattern)


def regex_of(text: str) -> str:
    """A regular expression of a grammar for a text to the letter."""
    return in_grammar(re.escape(text))


def operators(pattern: str, at: int = 0) -> Iterator[tuple[int, str]]:
    """The letters of a pattern that are neither escaped nor within a class, each with its place."""
    in_class = False
    while at < len(pattern):
        letter = pattern[at]
        if letter == "\\":
            at += 1
        elif in_class:
            in_class = letter != "]"
        elif letter == "[":
            in_class = True
            at += pattern[at + 1 : at + 2] == "^"
            at += pattern[at + 1 : at + 2] == "]"  # which is one of its letters there
        else:
            yield at, letter
        at += 1


def _found(pattern: str) -> str:
    """A regular expression for the texts in which `pattern` is found; anchors stand only at the ends of alternatives.

    Classes are those of ASCII, as JSON Schema has them, which are inside those of every reader.
    """
    branches, start, depth = list[str](), 0, 0
    for at, letter in operators(pattern):
        if letter in "()":
            depth += 1 if letter == "(" else -1
        elif letter == "|" and not depth:
            branches.append(pattern[start:at])
            start = at + 1
    found = []
    for branch in [*branches, pattern[start:]]:
        inner = branch.removeprefix("^")
        ends = re.search(r"(?<!\\)(?:\\\\)*\$\Z", inner) is not None
        inner = inner[:-1] if ends else inner
        if re.search(r"(?<![\\\[])[$^]|\\[bBAZz]", inner):
            raise _unheld(f"the pattern {short_repr(pattern)}, which has an anchor inside,")
        found.append(("" if branch.startswith("^") else "(?s:.*)") + f"(?:{inner})" + ("" if ends else "(?s:.*)"))
    text = "|".join(found).replace("\n", r"\n")
    text = re.sub(r"\\(.)|(/)", _grammatical, text, flags=re.DOTALL)
    return f"(?:{text})"


def _grammatical(match: re.Match[str]) -> str:
    classes = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]"}
    classes |= {"s": r"[ \t\n\r\f\v]", "S": r"[^ \t\n\r\f\v]", "/": r"\/"}
    return r"\/" if match[2] else classes.get(match[1], match[0])


def _fits(value: Any, kinds: Sequence[str]) -> bool:
    kind = _TYPES.get(type(value), "")
    return kind in kinds or (kind == "integer" and "number" in kinds)


def _both(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any] | None:
    """The schema of what fits two alternatives; None where nothing does."""
    kinds = {each["type"] for each in (one, other) if "type" in each}
    kind = "integer" if kinds == {"integer", "number"} else next(iter(kinds), None)
    if len(kinds) > 1 and kind != "integer":
        return None
    if "enum" in one or "enum" in other:
        first, second = (one, other) if "enum" in one else (other, one)
        values = [value for value in first["enum"] if kind is None or _fits(value, [kind])]
        values = [value for value in values if value in second["enum"]] if "enum" in second else values
        return {"enum": values} if values else None
    both = {**one, **other} | ({"type": kind} if kind else {})
    for key in one.keys() & other.keys() - {"type"}:
        both[key] = _joined(key, one[key], other[key])
    for first in (one, other):
        if first.get("additionalProperties") is False and "properties" in both:
            known = first.get("properties", {})
            both["properties"] = {name: each for name, each in both["properties"].items() if name in known}
    return both


def _joined(key: str, one: Any, other: Any) -> Any:
    """The value of a keyword that two schemas have."""
    if one == other:
        return one
    if key in ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"):
        return max(one, other)
    if key in ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"):
        return min(one, other)
    if key == "properties":
        shared = {name: {"allOf": [one[name], other[name]]} for name in one.keys() & other.keys()}
        return {**one, **other, **shared}
    if key in ("required", "pattern"):
        return type(one)(dict.fromkeys([*one, *other]))
    if key in ("items", "additionalProperties"):
        return {"allOf": [one, other]} if one is not False and other is not False else False
    raise _unheld(f"two of {key}")


def _are_apart(schemas: Sequence[Mapping[str, Any]]) -> bool:
    """Whether no value fits two of the alternatives, as far as can be told."""
    return all(_is_apart(one, other) for at, one in enumerate(schemas) for other in schemas[:at])


def _is_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return _both(one, other) is None or _are_tagged(one, other)


def are_apart(schemas: Sequence[Any], root: Any) -> bool:
    """Whether no value fits two of these parts of `root`: they are of other types, or have a property that tells."""
    known = [_in_place(each, root) for each in schemas]
    kinds = [{"number" if kind == "integer" else kind for kind in _types_of(each)} for each in known]
    return all(
        bool(kinds[at] and kinds[before] and not kinds[at] & kinds[before]) or _are_tagged(known[at], known[before])
        for at in range(len(known))
        for before in range(at)
    )


def _in_place(schema: Any, root: Any) -> Mapping[str, Any]:
    """What a schema refers to, where it does nothing else."""
    for _ in range(MOST_PARTS):
        if not isinstance(schema, Mapping):
            return {}
        if "$ref" not in schema:
            break
        schema = referred(root, schema["$ref"])
    return schema if isinstance(schema, Mapping) else {}


def _are_tagged(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether both require a property that has not one value for both."""
    shared = {*one.get("required", ())} & {*other.get("required", ())}
    tags = [[each.get("properties", {}).get(key) for each in (one, other)] for key in shared]
    return any(
        all(isinstance(each, Mapping) and {"const", "enum"} & each.keys() for each in pair)
        and not {*map(json.dumps, _values(pair[0]))} & {*map(json.dumps, _values(pair[1]))}
        for pair in tags
    )


def _values(schema: Mapping[str, Any]) -> Sequence[Any]:
    return [schema["const"]] if "const" in schema else schema["enum"]
