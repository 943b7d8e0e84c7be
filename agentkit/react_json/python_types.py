"""The JSON schemas of Python types, as pydantic makes them: for a model to read, and for a grammar to hold."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from agentkit.errors import ConfigurationError, described, in_one_line, short_repr

__all__ = ["NOT_HELD", "adapter_of", "grammar_schema_of", "schema_of"]

NOT_HELD = "x-not-held"
"""A keyword that says what of a type its JSON schema has not, for `grammar_schema_of` alone."""
_YEAR = "([0-9]{3}[1-9]|[0-9]{2}[1-9]0|[0-9][1-9]00|[1-9]000)"
_DATE = (
    f"{_YEAR}-((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|1[0-9]|2[0-8]))"
)
_TIME = r"([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6})?"
_ZONE = "(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])"
_DURATION = "P([0-9]{1,4}D(T[0-9]{1,4}[HMS])?|T[0-9]{1,4}[HMS])"
_NAME = "[a-z]([0-9a-z-]{0,30}[0-9a-z])?"
_HEX = "[0-9a-f]"


def adapter_of(wanted: Any, what: str) -> Any:
    """What makes objects of a type; raises `ConfigurationError` for one of which no JSON value can be an object."""
    from pydantic import TypeAdapter

    try:
        adapter: Any = TypeAdapter(wanted)
        core = adapter.core_schema
    except Exception as error:  # also of a class that makes its own schema
        raise ConfigurationError(f"{what}: no JSON schema can be made of {_named(wanted)}: {_first(error)}") from None
    if _reads_from_within(core):
        raise ConfigurationError(
            f"{what}: a field of {_named(wanted)} is read from inside another (AliasPath), which no JSON schema says; "
            "give it an alias of one name"
        )
    return adapter


def schema_of(adapter: Any, name: str, what: str) -> Any:
    """The JSON schema of what is validated; raises `ConfigurationError`."""
    try:
        return adapter.json_schema()
    except Exception as error:
        raise ConfigurationError(f"{what}: {name} has no JSON schema: {_first(error)}") from None


def grammar_schema_of(adapter: Any, *, keys: bool = True) -> Any:
    """The JSON schema of which every value is one that pydantic takes, as far as a schema can say that.

    Without `keys`, those of a dict are any texts where they should be numbers.
    """
    return adapter.json_schema(schema_generator=_narrow_generator(keys))


@cache
def _narrow_generator(keys: bool) -> Any:
    from pydantic.json_schema import GenerateJsonSchema

    def text(pattern: str) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{pattern}$"}

    class Narrow(GenerateJsonSchema):
        """Says with a pattern what pydantic says with a format, or not at all."""

        def _of_time(self, schema: Any, pattern: str) -> dict[str, Any]:
            now = schema.get("now_op")
            bounds = [name for name in ("le", "lt", "ge", "gt") if name in schema]
            remark = f"that it is in the {now}" if now else f"the bounds of a {schema['type']}" if bounds else ""
            return {**text(pattern), **({NOT_HELD: remark} if remark else {})}

        def date_schema(self, schema: Any) -> dict[str, Any]:
            return self._of_time(schema, _DATE)

        def time_schema(self, schema: Any) -> dict[str, Any]:
            return self._of_time(schema, _TIME)

        def datetime_schema(self, schema: Any) -> dict[str, Any]:
            return self._of_time(schema, f"{_DATE}T{_TIME}{'' if schema.get('tz_constraint') == 'naive' else _ZONE}")

        def timedelta_schema(self, schema: Any) -> dict[str, Any]:
            return self._of_time(schema, _DURATION)

        def uuid_schema(self, schema: Any) -> dict[str, Any]:
            version = schema.get("version") or 4
            return text(f"{_HEX}{{8}}-{_HEX}{{4}}-{version}{_HEX}{{3}}-[89ab]{_HEX}{{3}}-{_HEX}{{12}}")

        def url_schema(self, schema: Any) -> dict[str, Any]:
            schemes = "|".join(map(re.escape, schema.get("allowed_schemes") or ["https", "http"]))
            made = text(rf"({schemes})://{_NAME}(\.{_NAME}){{1,2}}(/[0-9A-Za-z._~-]{{0,40}}){{0,4}}")
            return {**made, **({"maxLength": schema["max_length"]} if "max_length" in schema else {})}

        def decimal_schema(self, schema: Any) -> dict[str, Any]:
            names = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
            made: dict[str, Any] = {"type": "number"}
            made |= {names[name]: float(schema[name]) for name in names if name in schema}
            digits, places = schema.get("max_digits"), schema.get("decimal_places")
            step = schema.get("multiple_of", None if places is None else 10.0**-places)
            made |= {} if step is None else {"multipleOf": float(step)}
            if digits is not None:
                made[NOT_HELD] = "the digits of a Decimal"
            return made

        def dict_schema(self, schema: Any) -> dict[str, Any]:
            made = super().dict_schema(schema)
            kind = schema.get("keys_schema", {}).get("type", "any")
            if kind == "int" and keys:
                values = made.pop("additionalProperties", True)
                made |= {"patternProperties": {"^(0|-?[1-9][0-9]{0,14})$": values}, "additionalProperties": False}
            elif kind not in ("str", "any"):
                made[NOT_HELD] = "the keys of a dict"
            return made

        def json_schema(self, schema: Any) -> dict[str, Any]:
            return {**super().json_schema(schema), NOT_HELD: "the JSON in a text"}

        def multi_host_url_schema(self, schema: Any) -> dict[str, Any]:
            return {**super().multi_host_url_schema(schema), NOT_HELD: "an address of several hosts"}

    return Narrow


def _reads_from_within(core: Any) -> bool:
    """Whether pydantic reads a field only from a place inside another one."""
    paths = []
    for part in _parts(core):
        if part.get("validate_by_name") or part.get("populate_by_name"):
            return False
        alias = part.get("validation_alias")
        if isinstance(alias, list) and alias:
            choices = alias if isinstance(alias[0], list) else [alias]
            paths.append(all(len(one) > 1 for one in choices))
    return any(paths)


def _parts(core: Any) -> Iterator[Mapping[str, Any]]:
    waiting, known = [core], set[int]()
    while waiting:
        part = waiting.pop()
        if id(part) in known or not isinstance(part, dict | list | tuple):
            continue
        known.add(id(part))
        if isinstance(part, dict):
            yield part
        waiting += part.values() if isinstance(part, dict) else part


def _named(wanted: Any) -> str:
    return short_repr(wanted) if hasattr(wanted, "__args__") else described(wanted)


def _first(error: BaseException) -> str:
    """The first sentence of what pydantic says, who goes on with advice for its own users."""
    return in_one_line(re.split(r"\.\s|\n\n", str(error))[0], 200)
