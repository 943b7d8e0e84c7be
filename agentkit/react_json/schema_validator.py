"""Values held to a JSON schema in a bounded time, and what does not fit in a few words.

jsonschema does the work. What it does with Python's `re`, in floating point, or without end is done otherwise here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from fractions import Fraction
from itertools import islice
from typing import Any

from agentkit.errors import in_one_line, short_repr
from agentkit.react_json.hostile import defused
from agentkit.react_json.schema_rules import operators

__all__ = ["EndlessCheck", "SchemaValidator", "dialect", "error_in_words", "is_python", "matcher", "path", "reason"]

MOST_ERRORS = 100  # that are looked for in a value
MOST_PROBLEMS = 3  # that a model is told of at a time
LONGEST_PROBLEM = 160
LONGEST_KEY = 60
MOST_STEPS = 200_000  # keywords that are looked at for one value
LARGEST = int(sys.float_info.max)
STEPS_OF_A_CHARACTER = 50  # more, for each that the value has as JSON
_steps_left: ContextVar[list[int]] = ContextVar("_steps_left")


class EndlessCheck(Exception):
    """A value would take too many steps to check."""


class SchemaValidator:
    """Holds values to a schema that was checked; `has_formats`: to its formats, too."""

    def __init__(self, schema: Mapping[str, Any], *, has_formats: bool) -> None:
        from referencing import Registry

        known = _in_linear_time(dialect(schema))
        checker = known.FORMAT_CHECKER if has_formats else None
        self._validator = known(schema, format_checker=checker, registry=Registry())

    def errors(self, value: Any) -> list[Any]:
        """jsonschema's errors, the outermost first; raises `EndlessCheck`, and `RecursionError` for one too deep."""
        most = MOST_STEPS + STEPS_OF_A_CHARACTER * len(json.dumps(value))
        token = _steps_left.set([most])
        try:
            first = list(islice(self._validator.iter_errors(value), MOST_ERRORS))
        finally:
            _steps_left.reset(token)
        return sorted(first, key=lambda error: len(error.absolute_path))

    def problem(self, value: Any) -> str | None:
        """Where a value does not fit and why, in one line; None for one that does."""
        try:
            errors = self.errors(value)
        except RecursionError:
            return "it is nested too deeply"
        except EndlessCheck:
            return "it takes too long to check; write a smaller one"
        return "; ".join(dict.fromkeys(_said(error) for error in errors[:MOST_PROBLEMS])) or None


def dialect(schema: Mapping[str, Any]) -> Any:
    """jsonschema's class for a schema."""
    from jsonschema import Draft202012Validator, validators

    return validators.validator_for(schema, default=Draft202012Validator)


# -- patterns ----------------------------------------------------------------------------------------------------------


def matcher(pattern: str) -> Callable[[str], bool] | None:
    """Finds a pattern in a text, in linear time; None for one that cannot be found so.

    Look-ahead at the very beginning (`^(?=.*\\d)(?!.*x).{8,}$`) is a pattern of its own for each.
    """
    if (found := _linear(pattern)) is not None:
        return found
    conditions = [(_linear(one), is_wanted) for one, is_wanted in _conditions(pattern)]
    checks = [(found, is_wanted) for found, is_wanted in conditions if found is not None]
    if not checks or len(checks) < len(conditions):
        return None
    return lambda text: all(found(text) is is_wanted for found, is_wanted in checks)


def _linear(pattern: str) -> Callable[[str], bool] | None:
    from pydantic_core import SchemaError
    from pydantic_core import SchemaValidator as Validator
    from pydantic_core.core_schema import str_schema

    try:
        return Validator(str_schema(pattern=pattern, strict=True)).isinstance_python
    except SchemaError:
        return None


def _conditions(pattern: str) -> Iterator[tuple[str, bool]]:
    """The patterns that a text has to hold (or not) to match one with look-ahead behind its `^`; none for any other."""
    at = 1
    if not pattern.startswith(("^(?=", "^(?!")) or _closing(pattern, 0)[1]:
        return
    while pattern.startswith(("(?=", "(?!"), at):
        end, _ = _closing(pattern, at + 3)
        yield f"^(?:{pattern[at + 3 : end]})", pattern[at + 2] == "="
        at = end + 1
    yield f"^{pattern[at:]}", True


def _closing(pattern: str, at: int) -> tuple[int, bool]:
    """Where the group ends that `at` is inside of, and whether it has alternatives."""
    depth, has_alternatives = 0, False
    for place, letter in operators(pattern, at):
        if letter == ")" and not depth:
            return place, has_alternatives
        depth += (letter == "(") - (letter == ")")
        has_alternatives |= letter == "|" and not depth
    return len(pattern), has_alternatives


def is_python(pattern: str) -> bool:
    """Whether Python has such regular expressions."""
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError):
        return False
    return True


# -- keywords ----------------------------------------------------------------------------------------------------------


def _in_linear_time(known: Any) -> Any:
    """jsonschema's class with keywords that count their steps, and take no more than linear time each."""
    from jsonschema import validators
    from jsonschema.exceptions import ValidationError

    matchers: dict[str, Any] = {}

    def matches(wanted: str, text: str) -> bool:
        if wanted not in matchers:
            matchers[wanted] = matcher(wanted)
        return bool(matchers[wanted](text))

    def pattern(_: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, str) and not matches(wanted, value):
            yield ValidationError(f"{short_repr(value)} does not match {wanted!r}")

    def pattern_properties(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        if isinstance(value, dict):
            _count(len(wanted) * len(value))
            for one, inner in wanted.items():
                for key, item in value.items():
                    if matches(one, key):
                        yield from validator.descend(item, inner, path=key, schema_path=one)

    def additional(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        if not isinstance(value, dict):
            return
        listed, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
        _count(len(patterns) * len(value))
        others = [key for key in value if key not in listed and not any(matches(one, key) for one in patterns)]
        if wanted is False and others:
            names = ", ".join(repr(key) for key in sorted(others))
            if patterns:
                does = "does" if len(others) == 1 else "do"
                known_ones = ", ".join(map(repr, sorted(patterns)))
                yield ValidationError(f"{names} {does} not match any of the regexes: {known_ones}")
            else:
                were = "was" if len(others) == 1 else "were"
                yield ValidationError(f"Additional properties are not allowed ({names} {were} unexpected)")
        elif wanted is not False:
            for key in others:
                yield from validator.descend(value[key], wanted, path=key)

    def unique(_: Any, wanted: bool, value: Any, schema: Any) -> Iterator[Any]:
        if wanted and isinstance(value, list):
            seen = {json.dumps(_plain_numbers(item), sort_keys=True) for item in value}
            if len(seen) < len(value):
                yield ValidationError(f"{short_repr(value)} has non-unique elements")

    def multiple(_: Any, wanted: float, value: Any, schema: Any) -> Iterator[Any]:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and (_as_written(value) / _as_written(wanted)).denominator != 1:
            yield ValidationError(f"{value!r} is not a multiple of {wanted}")

    def type_(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        yield from known.VALIDATORS["type"](validator, wanted, value, schema) or ()
        if validator.format_checker is None and wanted == "number" and isinstance(value, int) and abs(value) > LARGEST:
            yield ValidationError(f"{short_repr(value)} is too large a number")  # which pydantic makes infinite

    def format_(validator: Any, wanted: str, value: Any, schema: Any) -> Iterator[Any]:
        if validator.format_checker is None:
            return
        try:
            validator.format_checker.check(value, wanted)
        except Exception:  # those who check formats let through what the parsers under them raise
            yield ValidationError(f"{short_repr(value)} is not a {wanted!r}")

    own = {
        "pattern": pattern,
        "patternProperties": pattern_properties,
        "additionalProperties": additional,
        "uniqueItems": unique,
        "multipleOf": multiple,
        "format": format_,
        "type": type_,
    }
    keywords = {**known.VALIDATORS, **{name: one for name, one in own.items() if name in known.VALIDATORS}}
    counted = {name: _counted(one) for name, one in keywords.items()}
    return validators.extend(known, counted)  # type: ignore[no-untyped-call]


def _counted(keyword: Any) -> Any:
    def counting(validator: Any, wanted: Any, value: Any, schema: Any) -> Iterator[Any]:
        _count(1)
        yield from keyword(validator, wanted, value, schema) or ()

    return counting


def _count(steps: int) -> None:
    left = _steps_left.get()
    left[0] -= steps
    if left[0] < 0:
        raise EndlessCheck


def _as_written(number: float) -> Fraction:
    """A number as its digits say, so that 19.99 is a multiple of 0.01."""
    return Fraction(number if isinstance(number, int) else repr(number))


def _plain_numbers(value: Any) -> Any:
    """A value in which 1.0 is 1, as JSON Schema compares them."""
    if isinstance(value, dict):
        return {key: _plain_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


# -- in words ----------------------------------------------------------------------------------------------------------


def _said(error: Any) -> str:
    inner = _telling(error)
    return defused(f"{path(inner.absolute_path)}: {reason(inner)}")


def _telling(error: Any) -> Any:
    """The error that says most: of alternatives, that of the one which the value's own tag or type picks."""
    from jsonschema.exceptions import best_match, relevance

    while error.context:
        branches: dict[Any, list[Any]] = {}
        for inner in error.context:
            branches.setdefault(inner.relative_schema_path[0], []).append(inner)
        picked = [errors for errors in branches.values() if not any(map(_tells_apart, errors))]
        if len(picked) != 1:
            tags = [next(filter(_is_tag, errors), None) for errors in branches.values()]
            return _of_tags(tags) or best_match([error])  # type: ignore[no-untyped-call]
        error = min(picked[0], key=relevance)
    return error


def _tells_apart(error: Any) -> bool:
    return _is_tag(error) or (error.validator == "type" and not error.relative_path)


def _is_tag(error: Any) -> bool:
    return error.validator in ("const", "enum") and len(error.relative_path) == 1


def _of_tags(errors: Sequence[Any]) -> Any:
    """One error for a tag that no alternative has; None where they have several."""
    if None in errors or len({tuple(error.absolute_path) for error in errors}) != 1:
        return None
    known = [
        value for one in errors for value in (one.validator_value if one.validator == "enum" else [one.validator_value])
    ]
    first = errors[0]
    first.message = f"{short_repr(first.instance)} is not one of {known!r}"
    first.validator, first.validator_value = "enum", known
    return first


def reason(error: Any) -> str:
    """What one of jsonschema's errors says, cut where it is long."""
    message: str = error.message
    if len(message) <= LONGEST_PROBLEM:
        return in_one_line(message)
    if error.validator == "additionalProperties":
        return in_one_line(message, LONGEST_PROBLEM)
    return f"{error.validator} should be {short_repr(error.validator_value)}, saw {short_repr(error.instance)}"


def path(steps: Sequence[Any]) -> str:
    """A place in a value: `$.city[0]`; a key that is no plain word stands in quotes."""
    line = "$" + "".join(map(_step, steps))
    return line if len(line) <= LONGEST_PROBLEM else f"{line[: LONGEST_PROBLEM - 1]}…"


def _step(step: Any) -> str:
    if isinstance(step, int):
        return f"[{step}]"
    key = str(step)
    if re.fullmatch(r"[\w$-]+", key) and len(key) <= LONGEST_KEY:
        return f".{key}"
    return f"[{short_repr(key if len(key) <= LONGEST_KEY else key[: LONGEST_KEY - 1] + '…')}]"


def error_in_words(error: Exception) -> str:
    """What pydantic, or what it called, says of a value, in one line."""
    errors = getattr(error, "errors", None)
    if not isinstance(error, ValueError):
        return defused(in_one_line(f"$: {type(error).__name__}: {in_one_line(error)}", LONGEST_PROBLEM))
    if not callable(errors):
        return defused(in_one_line(error, LONGEST_PROBLEM))
    found = errors(include_url=False, include_input=False, include_context=False)[:MOST_PROBLEMS]
    return defused("; ".join(f"{path(one['loc'])}: {in_one_line(one['msg'], LONGEST_PROBLEM)}" for one in found))
