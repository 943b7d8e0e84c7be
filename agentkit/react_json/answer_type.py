"""An answer that is a value: its JSON schema, what of that a grammar can hold, and the reader of what models write.

    answer = AnswerType.of(Weather)            # a class, a dataclass, a TypedDict, any annotation, or a JSON schema
    answer.read('{"city": "Oslo", "celsius": 4}')       # plain JSON values; raises MalformedTurn
    answer.made_of({"city": "Oslo", "celsius": 4})      # a Weather

Schemas may be a stranger's: nothing is fetched, and what is done with one takes a bounded time.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from inspect import isroutine
from itertools import islice
from typing import Any

from agentkit.errors import ConfigurationError, MalformedTurn, UnfitAnswer, described, in_one_line, short_repr
from agentkit.events import FinalAnswer
from agentkit.react_json.grounding import leaves
from agentkit.react_json.lenient_json import BrokenJson, read_json, read_value
from agentkit.react_json.schema_rules import LARGEST, UNHELD, are_apart, bounded, referred
from agentkit.react_json.turn import Turn

__all__ = ["AnswerType", "Held", "rebuilt"]

WHAT = "output_type"
MOST_CHARACTERS = 100_000  # of a schema as JSON: it stands in the prompt
MOST_PARTS = 2_000
MOST_STEPS = 200_000  # to find out whether a value may fit
AGAIN = "Write Final Answer: again, and behind it JSON that fits the schema, whole, and nothing else."
MOST_ERRORS = 100  # that are looked for in a value
MOST_PROBLEMS = 3  # that a model is told of at a time
LONGEST_PROBLEM = 160
MOST_STARTS = 8  # of JSON among words
_WRAPPERS = ("final_answer", "answer", "output", "result")  # keys in which models put an answer that has none
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
_LISTS = ("anyOf", "allOf", "oneOf", "prefixItems")
_SINGLE = (
    *("items", "additionalProperties", "additionalItems", "contains", "propertyNames", "not", "if", "then", "else"),
    *("unevaluatedItems", "unevaluatedProperties"),
)
_KEYWORDS = frozenset(
    (
        *(*_MAPS, *_LISTS, *_SINGLE, "type", "enum", "const", "$ref", "required", "pattern", "format", "multipleOf"),
        *("minLength", "maxLength", "minItems", "maxItems", "uniqueItems", "minProperties", "maxProperties"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "dependentRequired", "dependencies"),
        *("title", "description", "$schema", "default", "$dynamicRef", "$recursiveRef"),
    )
)
_NOT_READ = ("$dynamicRef", "$recursiveRef", "$dynamicAnchor", "$recursiveAnchor")
_UNSAID = frozenset(("title", "$schema", "$id", "$anchor", "$comment", "examples"))  # to a model
_BEYOND_GRAMMARS = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:[=!>(P]|<[=!])|\\[1-9bBAZzGkp])|[*+?}]\+")
_LABELLED = re.compile(  # only words before it: what else may stand there is for the parser of turns
    r"\A\s*(?:Thought:)?(?P<thought>(?:(?!^[ \t]*(?:Action|Observation))[^{`\[<◁])*?)^[ \t#*_]*Final Answer[*_]*:[*_]*",
    re.MULTILINE,
)
_FENCED = re.compile(r"\A\s*(?:`{3,}|~{3,})[^\n]*\n(.*?)\n?[ \t]*(?:`{3,}|~{3,})\s*\Z", re.DOTALL)
_BLOCK = re.compile(r"^[ \t]*`{3,}[^\n`]*\n(.*?)^[ \t]*`{3,}", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """A schema as far as a grammar can hold a value to it; `not_held` says what it leaves to be checked afterwards."""

    schema: Any
    not_held: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class AnswerType:
    """What an answer is, as it was `wanted`. `schema` is plain JSON; `adapter` makes objects of a Python type."""

    schema: Mapping[str, Any]
    adapter: Any = None
    wanted: Any = None

    @classmethod
    def of(cls, wanted: Any, *, what: str = WHAT) -> AnswerType:
        """The type that is `wanted`; raises `ConfigurationError` that names `what`, in one line."""
        if isinstance(wanted, cls):
            return wanted
        if isinstance(wanted, Mapping):
            return cls(_checked(wanted, what), wanted=wanted)
        if wanted is None or isinstance(wanted, str | bytes | int | float | list | tuple) or isroutine(wanted):
            raise ConfigurationError(f"{what}: expected a class or a JSON schema, saw {described(wanted)}")
        adapter, name = _adapter(wanted, what), getattr(wanted, "__name__", str(wanted))
        return cls(_checked(_schema_of(adapter, name, what), what), adapter, wanted)

    # -- what the model is told --------------------------------------------------------------------------------------

    @cached_property
    def shown(self) -> str:
        """The schema for a model to read: on one line, without what says nothing of the shape."""
        return json.dumps(_without(self.schema, _UNSAID), ensure_ascii=False)

    @cached_property
    def offered(self) -> Any:
        """The schema for a function that gives the answer: what any grammar can be made of."""
        return _without(self.held.schema, _UNSAID)

    @cached_property
    def given_words(self) -> str:
        """The texts and numbers that the schema itself has for an answer: one that is of them needs no other source."""
        words = [value for part in _parts(self.schema, WHAT) for value in _constants(part)]
        return "\n".join(text for value in words for text in leaves(value))

    # -- what a grammar can hold -------------------------------------------------------------------------------------

    @cached_property
    def held(self) -> Held:
        """What any grammar can be made of, as far as that can be told without one."""
        missing: dict[str, None] = {}
        return Held(_holdable(self.schema, self.schema, missing), tuple(missing))

    def held_by(self, problem: Callable[[Any], str | None]) -> Held:
        """What of the schema a grammar holds, of which `problem` says why it cannot be made of a schema, if it cannot.

        Raises `ConfigurationError` where no value fits.
        """
        held = self.held
        reason = problem(held.schema)
        if reason is None:
            return held
        missing = dict.fromkeys(held.not_held)
        without = _without_patterns(held.schema, missing, lambda part: problem(part) is not None)
        if (reason := problem(without)) is None:
            return Held(without, tuple(missing))
        if "nsatisfiable" in reason:
            raise _nothing_fits(WHAT)
        kind = self.schema.get("type")
        loose = {"type": kind} if isinstance(kind, str) and kind != "null" else {}
        reason = re.split(r"\n *\d+ \|", reason)[0].rpartition("JSON schema: ")[2]  # without the grammar's own lines
        return Held(loose, (*missing, f"more than its type ({in_one_line(reason, LONGEST_PROBLEM)})"))

    # -- what the model wrote ----------------------------------------------------------------------------------------

    def read(self, text: str, *, again: str = AGAIN) -> Any:
        """The value that a text means, leniently in its form; raises `MalformedTurn` that says what does not fit."""
        problems: list[str] = []
        for value in _readings(text):
            for meant in self._meant(value):
                if (problem := self.problem(meant)) is None:
                    return meant
                problems.append(problem)
        if self.problem(text) is None:
            return text
        problem = problems[0] if problems else _no_json(text)
        raise UnfitAnswer(f"Invalid format: the final answer does not fit its schema: {problem}. {again}")

    def turn(self, text: str) -> Turn | None:
        """The turn of a text that ends in its answer, as JSON that fits: that may look like a call, and is none."""
        label = _LABELLED.match(text)
        if label is None:
            return None
        try:
            self.exactly(text[label.end() :])
        except MalformedTurn:
            return None
        return Turn(FinalAnswer(text[label.end() :].strip(), text.rstrip()), label["thought"].strip())

    def exactly(self, text: str) -> Any:
        """The value of a text that is JSON, whole, and fits; raises `MalformedTurn` for any other."""
        for value in _whole(text):
            if self.problem(value) is None:
                return value
        raise UnfitAnswer(f"Invalid format: no final answer that fits its schema. {AGAIN}")

    def fitted(self, value: Any, *, again: str = AGAIN) -> Any:
        """A value that came as one, and fits; raises `MalformedTurn`."""
        problem = None
        for meant in self._meant(value):
            if (why := self.problem(meant)) is None:
                return meant
            problem = problem or why
        raise UnfitAnswer(f"Invalid format: the final answer does not fit its schema: {problem}. {again}")

    def problem(self, value: Any) -> str | None:
        """Where a value does not fit and why, in a few words; None for one that does."""
        try:
            first = islice(self._validator.iter_errors(value), MOST_ERRORS)
            errors = sorted(first, key=lambda error: len(error.absolute_path))
            if errors:
                return "; ".join(dict.fromkeys(map(_said, errors[:MOST_PROBLEMS])))
            if self.adapter is not None:
                self.made_of(value)
        except RecursionError:
            return "it is nested too deeply"
        except ValueError as error:
            return _said_by_pydantic(error)
        return None

    def made_of(self, value: Any) -> Any:
        """The object that a value which fits stands for: for a JSON schema, the value itself."""
        if self.adapter is None:
            return value
        return self.adapter.validate_json(json.dumps(value))

    def _meant(self, value: Any) -> Iterator[Any]:
        """What a value may mean, the likeliest first: itself, with numbers that came as texts, what it wraps."""
        yield value
        if (mended := self._mended(value)) is not value:
            yield mended
        if isinstance(value, Mapping) and len(value) == 1:
            ((name, inner),) = value.items()
            if name in _WRAPPERS:
                yield from self._meant(inner)
        elif isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            yield from _whole(value)

    def _mended(self, value: Any) -> Any:
        """The value with texts that are numbers or words of JSON as those, where no text may stand."""
        try:
            wrong = [
                error
                for error in islice(self._validator.iter_errors(value), MOST_ERRORS)
                if error.validator == "type" and isinstance(error.instance, str) and _is_scalar(error.validator_value)
            ]
        except RecursionError:
            return value
        made = json.loads(json.dumps(value)) if wrong else value
        for error in wrong:
            try:
                scalar = json.loads(error.instance.strip(), parse_constant=_no_number)
            except (ValueError, RecursionError):
                continue
            if isinstance(scalar, str | list | dict):
                continue
            if not error.absolute_path:
                return scalar
            *path, last = error.absolute_path
            place = made
            for step in path:
                place = place[step]
            place[last] = scalar
        return made

    @cached_property
    def _validator(self) -> Any:
        from referencing import Registry

        known = _in_linear_time(_dialect(self.schema))
        checker = known.FORMAT_CHECKER if self.adapter is None else None  # pydantic checks its own
        return known(self.schema, format_checker=checker, registry=Registry())


# -- Python types ------------------------------------------------------------------------------------------------------


def _adapter(wanted: Any, what: str) -> Any:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    try:
        return TypeAdapter(wanted)
    except (PydanticUserError, NameError, TypeError, RecursionError) as error:
        raise ConfigurationError(f"{what}: no JSON schema can be made of {_named(wanted)}: {_first(error)}") from None


def _schema_of(adapter: Any, name: str, what: str) -> Any:
    from pydantic.errors import PydanticUserError

    try:
        return adapter.json_schema()
    except (PydanticUserError, RecursionError) as error:
        raise ConfigurationError(f"{what}: {name} has no JSON schema: {_first(error)}") from None


def _named(wanted: Any) -> str:
    return short_repr(wanted) if hasattr(wanted, "__args__") else described(wanted)


def _first(error: BaseException) -> str:
    """The first sentence of what pydantic says, who goes on with advice for its own users."""
    return in_one_line(re.split(r"\.\s|\n\n", str(error))[0], 200)


def _said_by_pydantic(error: ValueError) -> str:
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return in_one_line(error, LONGEST_PROBLEM)
    found = errors(include_url=False, include_input=False, include_context=False)[:MOST_PROBLEMS]
    return "; ".join(f"{_path(one['loc'])}: {in_one_line(one['msg'], LONGEST_PROBLEM)}" for one in found)


# -- checking a schema -------------------------------------------------------------------------------------------------


def _checked(wanted: Mapping[str, Any], what: str) -> Mapping[str, Any]:
    """The schema as plain JSON of its own; raises `ConfigurationError` for what is none, or takes no value."""
    try:
        text = json.dumps(wanted, allow_nan=False)
        json.dumps(wanted, ensure_ascii=False).encode()
    except RecursionError:
        raise ConfigurationError(f"{what}: the JSON schema is nested too deeply; make it flatter") from None
    except UnicodeEncodeError:
        raise ConfigurationError(f"{what}: the JSON schema holds half of a surrogate pair; leave it out") from None
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"{what}: expected a JSON schema of plain JSON values: {in_one_line(error)}") from None
    if len(text) > MOST_CHARACTERS:
        raise ConfigurationError(
            f"{what}: expected a JSON schema of at most {MOST_CHARACTERS:,} characters, which the model can read, saw "
            f"{len(text):,}; make it smaller"
        )
    schema: Mapping[str, Any] = json.loads(text)
    if not isinstance(schema.get("$schema", ""), str):
        raise ConfigurationError(f"{what}: expected $schema to be an address, saw {short_repr(schema['$schema'])}")
    try:
        bounded(schema)
    except ConfigurationError:
        raise ConfigurationError(
            f"{what}: the JSON schema is too deep, or has too much in one place; make it flatter and smaller"
        ) from None
    if schema and not schema.keys() & _KEYWORDS:
        raise ConfigurationError(
            f"{what}: expected a JSON schema, saw none of its keywords among {short_repr([*schema])}; "
            'an object is {"type": "object", "properties": {…}}'
        )
    parts = list(_parts(schema, what))
    _check_syntax(schema, what)
    for part in parts:
        _check_part(part, schema, what)
    if not _Satisfiable(schema, parts).takes_a_value:
        raise _nothing_fits(what)
    return schema


def _nothing_fits(what: str) -> ConfigurationError:
    return ConfigurationError(f"{what}: no value can fit this JSON schema; look for what contradicts itself")


def _dialect(schema: Mapping[str, Any]) -> Any:
    from jsonschema import Draft202012Validator, validators

    return validators.validator_for(schema, default=Draft202012Validator)


def _check_syntax(schema: Mapping[str, Any], what: str) -> None:
    from jsonschema.exceptions import SchemaError

    try:
        _dialect(schema).check_schema(schema)
    except SchemaError as error:
        raise ConfigurationError(
            f"{what}: expected a JSON schema, saw {_path(error.absolute_path)}: {_reason(error)}"
        ) from None
    except RecursionError:
        raise ConfigurationError(f"{what}: the JSON schema is nested too deeply; make it flatter") from None


def _check_part(part: Any, root: Mapping[str, Any], what: str) -> None:
    if not isinstance(part, Mapping):
        return
    if unread := next((name for name in _NOT_READ if name in part), None):
        raise ConfigurationError(f"{what}: {unread} is not supported; take $ref and $defs")
    if "$ref" in part:
        reference = part["$ref"]
        if not (reference == "#" or reference.startswith("#/")):
            raise ConfigurationError(
                f"{what}: $ref {short_repr(reference)} is outside this JSON schema, and nothing is fetched; "
                "put it under $defs"
            )
        try:
            target = referred(root, reference)
        except ConfigurationError:
            target = None
        if not isinstance(target, Mapping | bool):
            raise ConfigurationError(f"{what}: $ref {short_repr(reference)} leads nowhere; define it under $defs")
    keys = part.get("patternProperties", ())
    for pattern in (*([part["pattern"]] if "pattern" in part else ()), *keys):
        if _matcher(pattern) is None or (pattern in keys and not _is_python(pattern)):
            raise ConfigurationError(f"{what}: {short_repr(pattern)} is no regular expression; mend the pattern")


def _parts(schema: Any, what: str) -> Iterator[Any]:
    """The schema and every schema in it, those of definitions too."""
    level, count = [schema], 0
    while level:
        inner: list[Any] = []
        for part in level:
            count += 1
            if count > MOST_PARTS:
                raise ConfigurationError(
                    f"{what}: expected a JSON schema of at most {MOST_PARTS:,} parts; make it smaller"
                )
            yield part
            if isinstance(part, Mapping):
                inner += _inside(part)
        level = inner


def _inside(part: Mapping[str, Any]) -> Iterator[Any]:
    for name in _MAPS:
        if isinstance(part.get(name), Mapping):
            yield from part[name].values()
    for name in _LISTS:
        if isinstance(part.get(name), list):
            yield from part[name]
    for name in _SINGLE:
        if name in part:
            yield from part[name] if isinstance(part[name], list) else [part[name]]


def rebuilt(part: Any, change: Callable[[Any], Any]) -> Any:
    """A schema with each of the schemas right inside it changed."""
    if not isinstance(part, Mapping):
        return part
    made = dict(part)
    for name in _MAPS:
        if isinstance(made.get(name), Mapping):
            made[name] = {key: change(each) for key, each in made[name].items()}
    for name in _LISTS:
        if isinstance(made.get(name), list):
            made[name] = [change(each) for each in made[name]]
    for name in _SINGLE:
        if name in made:
            made[name] = [change(each) for each in made[name]] if isinstance(made[name], list) else change(made[name])
    return made


def _constants(part: Any) -> Iterator[Any]:
    if isinstance(part, Mapping):
        yield from part.get("enum", ())
        if "const" in part:
            yield part["const"]


class _Satisfiable:
    """Tells whether a value may fit a schema; where it cannot tell, one may. A type that needs itself has none."""

    def __init__(self, root: Mapping[str, Any], parts: Sequence[Any]) -> None:
        references = {part["$ref"] for part in parts if isinstance(part, Mapping) and "$ref" in part}
        self._root = root
        self._targets = {one: referred(root, one) for one in references}
        self._known = dict.fromkeys(references, False)  # until the opposite is found
        self._steps = 0

    @property
    def takes_a_value(self) -> bool:
        before: dict[str, bool] | None = None
        while before != self._known:
            before = dict(self._known)
            for reference, target in self._targets.items():
                self._known[reference] = self._known[reference] or self._takes(target)
        return self._takes(self._root)

    def _takes(self, part: Any) -> bool:
        self._steps += 1
        if isinstance(part, bool) or self._steps > MOST_STEPS:
            return part is not False
        if part.get("not") in ({}, True) or any(not self._takes(one) for one in part.get("allOf", ())):
            return False
        if "$ref" in part and not self._known[part["$ref"]]:
            return False
        for name in ("anyOf", "oneOf"):
            if name in part and not any(self._takes(one) for one in part[name]):
                return False
        kinds = part.get("type")
        kinds = [kinds] if isinstance(kinds, str) else kinds
        if "enum" in part or "const" in part:
            values = [*_constants(part)]
            return any(kinds is None or any(_is_of(value, kind) for kind in kinds) for value in values)
        return kinds is None or any(self._takes_of(kind, part) for kind in kinds)

    def _takes_of(self, kind: str, part: Mapping[str, Any]) -> bool:
        if kind in ("number", "integer"):
            low = max(part.get("minimum", -math.inf), part.get("exclusiveMinimum", -math.inf))
            high = min(part.get("maximum", math.inf), part.get("exclusiveMaximum", math.inf))
            is_open = low in (part.get("exclusiveMinimum"),) or high in (part.get("exclusiveMaximum"),)
            if kind == "integer" and math.isfinite(low) and math.isfinite(high):
                first = math.floor(low) + 1 if low == part.get("exclusiveMinimum") else math.ceil(low)
                last = math.ceil(high) - 1 if high == part.get("exclusiveMaximum") else math.floor(high)
                return bool(first <= last)
            return bool(low < high or (low == high and not is_open))
        if kind == "string":
            return bool(part.get("minLength", 0) <= part.get("maxLength", math.inf))
        if kind == "array":
            return self._takes_list(part)
        return kind != "object" or self._takes_object(part)

    def _takes_list(self, part: Mapping[str, Any]) -> bool:
        first = part.get("prefixItems", [])
        least = min(part.get("minItems", 0), MOST_CHARACTERS)
        if least > part.get("maxItems", math.inf):
            return False
        others = part.get("items", True)
        others = True if isinstance(others, list) else others
        return all(self._takes(one) for one in first[: int(least)]) and (least <= len(first) or self._takes(others))

    def _takes_object(self, part: Mapping[str, Any]) -> bool:
        required, listed = part.get("required", []), part.get("properties", {})
        if max(len({*required}), part.get("minProperties", 0)) > part.get("maxProperties", math.inf):
            return False
        others = True if part.get("patternProperties") else part.get("additionalProperties", True)
        return all(self._takes(listed.get(name, others)) for name in required)


_OF_TYPE: Mapping[str, tuple[type, ...]] = {
    "string": (str,),
    "number": (int, float),
    "integer": (int, float),
    "array": (list,),
    "object": (dict,),
    "null": (type(None),),
}


def _is_of(value: Any, kind: str) -> bool:
    if kind == "boolean" or isinstance(value, bool):
        return kind == "boolean" and isinstance(value, bool)
    is_one = isinstance(value, _OF_TYPE.get(kind, (object,)))
    return is_one and not (kind == "integer" and isinstance(value, float) and not value.is_integer())


# -- what grammars hold ------------------------------------------------------------------------------------------------


def _holdable(part: Any, root: Mapping[str, Any], missing: dict[str, None]) -> Any:
    """A schema without what no grammar can hold, which is `missing` from it."""
    if not isinstance(part, Mapping):
        return part
    made = {name: value for name, value in part.items() if name not in UNHELD}
    missing |= dict.fromkeys(name for name in part if name in UNHELD and name not in ("minContains", "maxContains"))
    if "pattern" in made and _BEYOND_GRAMMARS.search(made["pattern"]):
        missing[f"the pattern {short_repr(made.pop('pattern'))}"] = None
    if any(map(_BEYOND_GRAMMARS.search, made.get("patternProperties", ()))):
        del made["patternProperties"]
        missing["patternProperties"] = None
    for name in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        if name in made and abs(made[name]) > LARGEST:
            missing[f"{name} {made.pop(name):g}"] = None
    if "oneOf" in made:
        alternatives = made.pop("oneOf")
        if not are_apart(alternatives, root):
            missing["oneOf"] = None
        made = (
            {**made, "allOf": [*made.get("allOf", ()), {"anyOf": alternatives}]}
            if "anyOf" in made
            else {**made, "anyOf": alternatives}
        )
    return rebuilt(made, lambda inner: _holdable(inner, root, missing))


def _without_patterns(part: Any, missing: dict[str, None], is_refused: Callable[[Any], bool]) -> Any:
    """A schema without the patterns that a grammar refuses."""
    if not isinstance(part, Mapping):
        return part
    made = dict(part)
    if "pattern" in made and is_refused({"type": "string", "pattern": made["pattern"]}):
        missing[f"the pattern {short_repr(made.pop('pattern'))}"] = None
    return rebuilt(made, lambda inner: _without_patterns(inner, missing, is_refused))


def _without(part: Any, names: frozenset[str]) -> Any:
    """A schema without these keywords."""
    if not isinstance(part, Mapping):
        return part
    made = {name: value for name, value in part.items() if name not in names}
    return rebuilt(made, lambda inner: _without(inner, names))


# -- what a value does not fit -----------------------------------------------------------------------------------------


def _matcher(pattern: str) -> Callable[[str], Any] | None:
    """Finds a pattern in a text, in linear time where it can; None for what is no regular expression."""
    from pydantic_core import SchemaError, SchemaValidator, core_schema

    try:
        linear = SchemaValidator(core_schema.str_schema(pattern=pattern, strict=True))
        return linear.isinstance_python
    except SchemaError:
        pass
    return re.compile(pattern).search if _is_python(pattern) else None


def _is_python(pattern: str) -> bool:
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


def _in_linear_time(known: Any) -> Any:
    """A validator whose patterns and comparisons of items take no more than that, as far as they can."""
    from jsonschema import validators
    from jsonschema.exceptions import ValidationError

    matchers: dict[str, Any] = {}

    def pattern(_: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str):
            if wanted not in matchers:
                matchers[wanted] = _matcher(wanted)
            if not matchers[wanted](value):
                yield ValidationError(f"{short_repr(value)} does not match {wanted!r}")

    def unique(_: Any, wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list):
            seen = {json.dumps(_plain_numbers(item), sort_keys=True) for item in value}
            if len(seen) < len(value):
                yield ValidationError(f"{short_repr(value)} has non-unique elements")

    return validators.extend(known, {"pattern": pattern, "uniqueItems": unique})  # type: ignore[no-untyped-call]


def _plain_numbers(value: Any) -> Any:
    """A value in which 1.0 is 1, as JSON Schema compares them."""
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _said(error: Any) -> str:
    from jsonschema.exceptions import best_match

    inner: Any = best_match([error])  # type: ignore[no-untyped-call]
    return f"{_path(inner.absolute_path)}: {_reason(inner)}"


def _reason(error: Any) -> str:
    message: str = error.message
    if len(message) <= LONGEST_PROBLEM:
        return in_one_line(message)
    return f"{error.validator} should be {short_repr(error.validator_value)}, saw {short_repr(error.instance)}"


def _path(steps: Sequence[Any]) -> str:
    return "$" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)


def _is_scalar(kinds: Any) -> bool:
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return bool({"integer", "number", "boolean", "null"} & {*kinds})


def _no_number(literal: str) -> Any:
    raise ValueError(literal)


# -- JSON in a text ----------------------------------------------------------------------------------------------------


def _readings(text: str) -> Iterator[Any]:
    """The values that a text may mean, the likeliest first."""
    yield from _whole(text)
    for block in _BLOCK.findall(text)[:MOST_STARTS]:
        yield from _whole(block)
    starts = [match.start() for match in re.finditer(r"[{\[]", text[:MOST_CHARACTERS])]
    end = 0
    for start in starts[:MOST_STARTS]:
        if start >= end:
            try:
                value, end = read_json(text, start)
            except BrokenJson:
                continue
            yield value


def _whole(text: str) -> Iterator[Any]:
    """The value that a text is, in a fence or without one."""
    fenced = _FENCED.match(text)
    text = (fenced[1] if fenced else text).strip()
    if not text:
        return
    try:
        value, end = read_json(text, 0) if text[0] in "{[" else read_value(text, 0)
    except BrokenJson:
        yield from _with_keys_twice(text)
        return
    if not text[end:].strip():
        yield value


def _with_keys_twice(text: str) -> Iterator[Any]:
    """The value of JSON in which a key stands twice, which no grammar forbids: the last counts, as for most readers."""
    try:
        value = json.loads(text, parse_constant=_no_number)
        json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return
    yield value


def _no_json(text: str) -> str:
    """Why no value was found in a text."""
    start = next((match.start() for match in re.finditer(r"[{\[]", text)), None)
    if start is None:
        return f"expected JSON, saw {short_repr(text)}"
    try:
        read_json(text, start)
    except BrokenJson as broken:
        return f"its JSON {broken}"
    return f"expected JSON, saw {short_repr(text)}"
