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
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from inspect import isroutine
from typing import Any

from agentkit.errors import AgentkitError, ConfigurationError, UnfitAnswer, described, in_one_line, short_repr
from agentkit.events import FinalAnswer, Finished
from agentkit.react_json.grounding import leaves
from agentkit.react_json.hostile import defused
from agentkit.react_json.lenient_json import BrokenJson, read_json, read_value
from agentkit.react_json.python_types import NOT_HELD, adapter_of, grammar_schema_of, schema_of
from agentkit.react_json.schema_rules import FORMATS, LARGEST, UNHELD, are_apart, bounded, referred
from agentkit.react_json.schema_validator import (
    LONGEST_PROBLEM,
    EndlessCheck,
    SchemaValidator,
    dialect,
    error_in_words,
    is_python,
    matcher,
    path,
    reason,
)
from agentkit.react_json.turn import Turn

__all__ = ["AnswerType", "Fit", "Held", "rebuilt"]

WHAT = "output_type"
MOST_CHARACTERS = 100_000  # of a schema as JSON: it stands in the prompt
MOST_PARTS = 2_000
MOST_IN_PLACE = 20_000  # parts to which one value is held
MOST_STEPS = 200_000  # to find out whether a value may fit
AGAIN = "Write Final Answer: again, and behind it JSON that fits the schema, whole, and nothing else."
MOST_STARTS = 8  # of JSON among words
_WRAPPERS = ("final_answer", "answer", "output", "result")  # keys in which models put an answer that has none
_MAPS = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies")
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
_BESIDE_REFERENCES = frozenset(("$ref", "$defs", "definitions", "title", "description", "default"))
_OWN_FORMATS = {
    "base64": "^([A-Za-z0-9+/]{4}){0,99}([A-Za-z0-9+/]{4}|[A-Za-z0-9+/][AQgw]==)$",
    "base64url": "^([A-Za-z0-9_-]{4}){0,99}([A-Za-z0-9_-]{4}|[A-Za-z0-9_-][AQgw]==)$",
}
_REMARKS_OF_PYDANTIC = ("password", "binary", "path", *(f"uuid{version}" for version in range(1, 9)))
_DRAFT_7 = "http://json-schema.org/draft-07/schema#"
_UNSAID = frozenset(("title", "$schema", "$id", "$anchor", "$comment", "examples"))  # to a model
_BEYOND_GRAMMARS = re.compile(r"(?<!\\)(?:\\\\)*(?:\(\?(?:[=!>(P]|<[=!])|\\[1-9bBAZzGkp])|[*+?}]\+")
_LABEL = re.compile(r"^[ \t#*_]*Final Answer[*_]*:[*_]*", re.MULTILINE)
_NO_THOUGHT = re.compile(r"[{`\[<◁]|^[ \t]*(?:Action|Observation)", re.MULTILINE)  # what is for the parser of turns
_BLOCK = re.compile(r"^[ \t]*`{3,}[^\n`]*\n(.*?)^[ \t]*`{3,}", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Held:
    """A schema as far as a grammar can hold a value to it; `not_held` says what it leaves to be checked afterwards."""

    schema: Any
    not_held: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Fit:
    """A value that fits, as plain JSON; `made` holds the object that was made of it, if it is of a Python type."""

    value: Any
    made: tuple[Any, ...] = ()


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
        adapter, name = adapter_of(wanted, what), getattr(wanted, "__name__", str(wanted))
        return cls(_checked(schema_of(adapter, name, what), what), adapter, wanted)

    # -- what the model is told --------------------------------------------------------------------------------------

    @cached_property
    def shown(self) -> str:
        """The schema for a model to read: on one line, without what says nothing of the shape."""
        return json.dumps(_without(self.schema, _UNSAID), ensure_ascii=False)

    @cached_property
    def offered(self) -> Any:
        """The schema for a function that gives the answer: what any grammar can be made of, that of a call too."""
        return _without(self._held_with(keys=False).schema, _UNSAID)

    @cached_property
    def given_words(self) -> str:
        """The words and numbers that the schema itself has for an answer: one that is of them needs no other source."""
        parts = [part for part in _parts(self.schema, WHAT) if isinstance(part, Mapping)]
        words: list[Any] = [value for part in parts for value in _constants(part)]
        words += [[*part.get("properties", ()), *part.get("required", ())] for part in parts]
        return "\n".join(text for value in words for text in leaves(value))

    # -- what a grammar can hold -------------------------------------------------------------------------------------

    @cached_property
    def held(self) -> Held:
        """What any grammar can be made of, as far as that can be told without one."""
        return self._held_with(keys=True)

    def _held_with(self, *, keys: bool) -> Held:
        """What grammars hold; with the `keys` of a dict that are numbers, which not every syntax of calls can write."""
        missing: dict[str, None] = {}
        schema = self.schema if self.adapter is None else _checked(grammar_schema_of(self.adapter, keys=keys), WHAT)
        return Held(_holdable(schema, schema, missing), tuple(missing))

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

    def final(self, answer: FinalAnswer, *, again: str = AGAIN) -> FinalAnswer:
        """The answer with the value that its text means, and its object; raises `MalformedTurn`."""
        fit = self.fit(answer.output, again=again)
        return replace(answer, output=fit.value, made=fit.made)

    def read(self, text: str) -> Any:
        """The value that a text means; raises `MalformedTurn`."""
        return self.fit(text).value

    def fit(self, text: str, *, again: str = AGAIN) -> Fit:
        """The value that a text means, leniently in its form; raises `MalformedTurn` that says what does not fit.

        JSON among words is the answer only where no other there fits.
        """
        problems: list[str] = []
        for readings in (_whole(text), _among_words(text)):
            fits: dict[str, Fit] = {}
            for value in readings:
                fit = self._first_fit(value, problems)
                if fit is not None:
                    fits[json.dumps(fit.value, sort_keys=True)] = fit
            if len(fits) > 1:
                seen = " and ".join(defused(short_repr(fit.value)) for fit in [*fits.values()][:2])
                raise _unfit(f"several values in it do, {seen}; which one is meant?", again)
            if fits:
                return next(iter(fits.values()))
        if isinstance(as_text := self._judged(text), Fit):
            return as_text
        raise _unfit(problems[0] if problems else _no_json(text), again)

    def turn(self, text: str) -> Turn | None:
        """The turn of a text that ends in its answer, as JSON that fits: that may look like a call, and is none."""
        label = _LABEL.search(text)
        if label is None:
            return None
        thought = text[: label.start()].strip().removeprefix("Thought:")
        if _NO_THOUGHT.search(thought):
            return None
        if (fit := self.exactly(text[label.end() :])) is None:
            return None
        return Turn(FinalAnswer(fit.value, text.rstrip(), made=fit.made), thought.strip())

    def exactly(self, text: str) -> Fit | None:
        """The value of a text that is JSON, whole, and fits; None for any other."""
        fits = (self._judged(value) for value in _whole(text))
        return next((fit for fit in fits if isinstance(fit, Fit)), None)

    def fit_of(self, value: Any, *, again: str = AGAIN) -> Fit:
        """A value that came as one, and fits; raises `MalformedTurn`."""
        problems: list[str] = []
        if (fit := self._first_fit(value, problems)) is not None:
            return fit
        raise _unfit(problems[0], again)

    def object_of(self, answer: FinalAnswer | Finished) -> Any:
        """The object that was made of an answer when it was read, or is now; of a JSON schema, a copy of the value."""
        if answer.made:
            return answer.made[0]
        return json.loads(json.dumps(answer.output)) if self.adapter is None else self.made_of(answer.output)

    def made_of(self, value: Any) -> Any:
        """The object that a value which fits stands for: for a JSON schema, the value itself."""
        if self.adapter is None:
            return value
        made = self.adapter.validate_json(json.dumps(value))
        return list(made) if type(made).__name__ == "ValidatorIterator" else made

    def _first_fit(self, value: Any, problems: list[str]) -> Fit | None:
        for meant in self._meant(value):
            if isinstance(fit := self._judged(meant), Fit):
                return fit
            problems.append(fit)
        return None

    def _judged(self, value: Any) -> Fit | str:
        """The value where it fits, or what does not. Validators of a Python type run here, and only here.

        Whatever exception a validator raises is what it says of the value.
        """
        if (problem := self._validator.problem(value)) is not None:
            return problem
        if self.adapter is None:
            return Fit(value)
        try:
            return Fit(value, (self.made_of(value),))
        except RecursionError:
            return "it is nested too deeply"
        except AgentkitError:  # of something that is used wrongly within
            raise
        except Exception as error:
            return error_in_words(error)

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
                one
                for error in self._validator.errors(value)
                for one in (error, *(error.context or ()))
                if one.validator == "type" and isinstance(one.instance, str) and _is_scalar(one.validator_value)
            ]
        except (RecursionError, EndlessCheck):
            return value
        made = json.loads(json.dumps(value)) if wrong else value
        for error in wrong:
            try:
                scalar = json.loads(error.instance.strip(), parse_constant=_no_number)
            except (ValueError, RecursionError):
                continue
            if isinstance(scalar, str | list | dict) or (isinstance(scalar, float) and not math.isfinite(scalar)):
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
    def _validator(self) -> SchemaValidator:
        # pydantic checks formats itself; no $id is one to fetch from, or to look for others in
        return SchemaValidator(_without(self.schema, frozenset(("$id",))), has_formats=self.adapter is None)


def _unfit(problem: str, again: str) -> UnfitAnswer:
    return UnfitAnswer(f"Invalid format: the final answer does not fit its schema: {problem}. {again}")


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
    list(_parts(schema, what))  # which are not too many
    _check_syntax(schema, what)
    schema = _in_todays_terms(schema)
    parts = list(_parts(schema, what))
    places = {id(part) for part in parts}
    for part in parts:
        _check_part(part, schema, what, places)
    if not _Satisfiable(schema, parts).takes_a_value:
        raise _nothing_fits(what)
    _check_size_in_place(schema, parts, what)
    return schema


def _in_todays_terms(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """The schema as it is read today: draft 4's exclusive bounds as numbers, no neighbours of a draft-7 `$ref`."""
    from jsonschema import Draft4Validator, Draft6Validator, Draft7Validator

    known = dialect(schema)
    if known not in (Draft4Validator, Draft6Validator, Draft7Validator):
        return schema

    def changed(part: Any) -> Any:
        if not isinstance(part, Mapping):
            return part
        made = dict(part)
        if "$ref" in made:
            made = {name: value for name, value in made.items() if name in _BESIDE_REFERENCES}
        for bound, limit in (("exclusiveMinimum", "minimum"), ("exclusiveMaximum", "maximum")):
            if isinstance(made.get(bound), bool) and made.pop(bound) and limit in made:
                made[bound] = made.pop(limit)
        return rebuilt(made, changed)

    return {**changed(schema), "$schema": _DRAFT_7}


def _check_size_in_place(root: Mapping[str, Any], parts: Sequence[Any], what: str) -> None:
    """Raise `ConfigurationError` for parts that hold one value to themselves again, or to too many others."""
    sizes: dict[int, int] = {}
    open_parts: set[int] = set()
    for first in parts:
        stack = [(first, False)]
        while stack:
            part, is_done = stack.pop()
            if isinstance(part, bool) or not isinstance(part, Mapping) or id(part) in sizes:
                continue
            inner = _in_place_of(part, root)
            if is_done:
                open_parts.discard(id(part))
                sizes[id(part)] = 1 + sum(sizes.get(id(one), 1) for one in inner)
                if sizes[id(part)] > MOST_IN_PLACE:
                    raise ConfigurationError(
                        f"{what}: the JSON schema holds one value to more than {MOST_IN_PLACE:,} parts where its $refs "
                        "are followed; make it smaller"
                    )
                continue
            if id(part) in open_parts:
                continue
            open_parts.add(id(part))
            if any(id(one) in open_parts for one in inner):
                raise ConfigurationError(
                    f"{what}: a $ref of the JSON schema leads back to its own place, where no value is ever checked to "
                    "the end; let it stand in a property or an item"
                )
            stack.append((part, True))
            stack += [(one, False) for one in inner]


def _in_place_of(part: Mapping[str, Any], root: Mapping[str, Any]) -> list[Any]:
    """The schemas to which the same value is held."""
    inner = [one for name in _LISTS if name != "prefixItems" for one in part.get(name, ())]
    inner += [part[name] for name in ("not", "if", "then", "else") if name in part]
    inner += [one for name in ("dependentSchemas", "dependencies") for one in part.get(name, {}).values()]
    return [*inner, referred(root, part["$ref"])] if "$ref" in part else inner


def _nothing_fits(what: str) -> ConfigurationError:
    return ConfigurationError(f"{what}: no value can fit this JSON schema; look for what contradicts itself")


def _check_syntax(schema: Mapping[str, Any], what: str) -> None:
    from jsonschema import Draft3Validator
    from jsonschema.exceptions import SchemaError

    if (known := dialect(schema)) is Draft3Validator:
        raise ConfigurationError(f"{what}: JSON Schema of draft 3 is not supported; write it as of draft 2020-12")
    try:
        known.check_schema(schema)
    except SchemaError as error:
        raise ConfigurationError(
            f"{what}: expected a JSON schema, saw {path(error.absolute_path)}: {reason(error)}"
        ) from None
    except RecursionError:
        raise ConfigurationError(f"{what}: the JSON schema is nested too deeply; make it flatter") from None
    except OverflowError as error:
        raise ConfigurationError(f"{what}: expected a JSON schema, saw a pattern in which {error}; mend it") from None


def _check_part(part: Any, root: Mapping[str, Any], what: str, places: Container[int]) -> None:
    if not isinstance(part, Mapping):
        return
    if unread := next((name for name in _NOT_READ if name in part), None):
        raise ConfigurationError(f"{what}: {unread} is not supported; take $ref and $defs")
    if "$ref" in part:
        reference = part["$ref"]
        if not isinstance(reference, str):
            raise ConfigurationError(f"{what}: expected $ref to be an address, saw {short_repr(reference)}")
        if not (reference == "#" or reference.startswith("#/")):
            raise ConfigurationError(
                f"{what}: $ref {short_repr(reference)} is outside this JSON schema, and nothing is fetched; "
                "put it under $defs"
            )
        try:
            target = referred(root, reference)
        except ConfigurationError:
            target = None
        if not isinstance(target, bool) and id(target) not in places:
            raise ConfigurationError(f"{what}: $ref {short_repr(reference)} leads nowhere; define it under $defs")
    if part is not root and "$id" in part and _has("$ref", part, what):
        raise ConfigurationError(f"{what}: an $id inside, with a $ref behind it, is not supported; leave out the $id")
    if "unevaluatedProperties" in part and _has("patternProperties", root, what):
        raise ConfigurationError(
            f"{what}: unevaluatedProperties beside patternProperties is not supported; take additionalProperties"
        )
    for pattern in (*([part["pattern"]] if "pattern" in part else ()), *part.get("patternProperties", ())):
        if matcher(pattern) is None:
            raise ConfigurationError(
                f"{what}: {short_repr(pattern)} has look-around or a reference inside, or is too large, and could take "
                "without end; write the pattern without it"
                if is_python(pattern)
                else f"{what}: {short_repr(pattern)} is no regular expression; mend the pattern"
            )


def _has(name: str, schema: Any, what: str) -> bool:
    return any(isinstance(part, Mapping) and name in part for part in _parts(schema, what))


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
    if NOT_HELD in made:
        missing[made.pop(NOT_HELD)] = None
    if (kind := made.get("format", "uri")) in _OWN_FORMATS:
        del made["format"]
        made["pattern"] = _OWN_FORMATS[kind]
    elif kind not in FORMATS and kind not in _REMARKS_OF_PYDANTIC:
        missing[f"the format {short_repr(kind)}"] = None
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


def _is_scalar(kinds: Any) -> bool:
    kinds = [kinds] if isinstance(kinds, str) else kinds
    return bool({"integer", "number", "boolean", "null"} & {*kinds})


def _no_number(literal: str) -> Any:
    raise ValueError(literal)


# -- JSON in a text ----------------------------------------------------------------------------------------------------


def _among_words(text: str) -> Iterator[Any]:
    """The values that stand in a text, those in fences first."""
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
    text = _without_fence(text.strip())
    if not text:
        return
    try:
        value, end = read_json(text, 0) if text[0] in "{[" else read_value(text, 0)
    except BrokenJson:
        yield from _with_keys_twice(text)
        return
    if not text[end:].strip():
        yield value


def _without_fence(text: str) -> str:
    """What stands between a fence's first line and its last, in linear time; the text itself where it is no fence."""
    mark = text[:1]
    head, newline, rest = text.partition("\n")
    if mark not in ("`", "~") or not mark or not head.startswith(mark * 3) or not newline:
        return text
    inner = rest.rstrip(mark)
    return inner.strip() if len(rest) - len(inner) >= 3 else text


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
