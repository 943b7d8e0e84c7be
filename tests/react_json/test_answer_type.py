"""The type of an answer that is a value: what is one, what of it a grammar can hold, and how a model's text is read."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections.abc import Iterable
from typing import Annotated, Any, Literal, NotRequired

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import UUID4, AfterValidator, AliasPath, BaseModel, Field, Json, PastDate, field_validator
from typing_extensions import TypedDict

from agentkit.errors import ConfigurationError, MalformedTurn
from agentkit.events import FinalAnswer
from agentkit.react_json.answer_type import AnswerType
from agentkit.react_json.turn_object import TurnText, turn_schema


class Weather(BaseModel):
    city: str
    celsius: int = Field(ge=-90, le=60)
    day: datetime.date | None = None

    @field_validator("city")
    @classmethod
    def is_capitalised(cls, value: str) -> str:
        if value[:1].islower():
            raise ValueError("a city begins with a capital letter")
        return value


class Node(BaseModel):
    value: int
    children: list[Node] = []


@dataclasses.dataclass
class Point:
    x: int
    y: int = 0


class Options(TypedDict):
    a: int
    b: NotRequired[str]


class Once(BaseModel):
    """Its validator says no to any second look."""

    number: int

    @field_validator("number")
    @classmethod
    def is_new(cls, value: int) -> int:
        if value in SEEN:
            raise ValueError("used already")
        SEEN.add(value)
        return value


class FromWithin(BaseModel):
    number: int = Field(validation_alias=AliasPath("a", 0))


class Broken:
    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise RuntimeError("no\nschema")


SEEN = set[int]()


def looked_up(value: int) -> int:
    return {1: 1}[value]


class Colour(enum.Enum):
    RED = "red"


class Cat(BaseModel):
    kind: Literal["cat"]
    name: str


class Dog(BaseModel):
    kind: Literal["dog"]
    name: str


Pet = Annotated[Cat | Dog, Field(discriminator="kind")]


class Owner(BaseModel):
    pet: Pet


DRAFT_3, DRAFT_4, DRAFT_7 = (f"http://json-schema.org/draft-0{number}/schema#" for number in (3, 4, 7))
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "minLength": 1}, "age": {"type": "integer"}},
    "required": ["name"],
    "additionalProperties": False,
}
OSLO = Weather(city="Oslo", celsius=4)


@pytest.mark.parametrize(
    ("wanted", "text", "made"),
    [
        (Weather, '{"city": "Oslo", "celsius": 4}', OSLO),
        (
            Weather,
            '{"city": "Oslo", "celsius": 4, "day": "2024-02-29"}',
            OSLO.model_copy(update={"day": datetime.date(2024, 2, 29)}),
        ),
        (Node, '{"value": 1, "children": [{"value": 2}]}', Node(value=1, children=[Node(value=2)])),
        (Point, '{"x": 1}', Point(1)),
        (Options, '{"a": 1}', {"a": 1}),
        (Colour, '"red"', Colour.RED),
        (Pet, '{"kind": "dog", "name": "Rex"}', Dog(kind="dog", name="Rex")),
        (list[int], "[1, 2]", [1, 2]),
        (set[int], "[1, 2]", {1, 2}),
        (tuple[int, str], '[1, "a"]', (1, "a")),
        (dict[str, int], '{"a": 1}', {"a": 1}),
        (decimal.Decimal, "1.5", decimal.Decimal("1.5")),
        (int | None, "null", None),
        (str, '"42"', "42"),
        (str, "forty-two", "forty-two"),
        (float, "3", 3.0),
        (bool, "true", True),
        (PERSON, '{"name": "Ann"}', {"name": "Ann"}),
        ({}, "[1, null]", [1, None]),
        # forgiving about form
        (Weather, '{"city": "Oslo", "celsius": "4"}', OSLO),
        (Weather, '```json\n{"city": "Oslo", "celsius": 4}\n```', OSLO),
        (Weather, 'It is cold: {"city": "Oslo", "celsius": 4}. Take a coat.', OSLO),
        (Weather, "{'city': 'Oslo', 'celsius': 4,}", OSLO),
        (Weather, '{"answer": {"city": "Oslo", "celsius": 4}}', OSLO),
        (Weather, '"{\\"city\\": \\"Oslo\\", \\"celsius\\": 4}"', OSLO),
        (int, '"7"', 7),
        (list[int], '["1", 2]', [1, 2]),
        (dict[str, int], '{"a": 1, "a": 2}', {"a": 2}),
        (int | None, '"5"', 5),
        (Iterable[int], "[1, 2]", [1, 2]),
        (list[int], "The first primes are [2, 3, 5], that is [2, 3, 5].", [2, 3, 5]),
        # exact, and in linear time
        (Annotated[float, Field(multiple_of=0.01)], "19.99", 19.99),
        ({"type": "number", "multipleOf": 0.1}, "0.3", 0.3),
        ({"type": "number", "multipleOf": 0.01}, "1" + "0" * 400, 10**400),
        (
            {"type": "object", "patternProperties": {"^(a+)+$": {"type": "string"}}},
            f'{{"{"a" * 60}!": 1}}',
            {"a" * 60 + "!": 1},
        ),
        ({"type": "string", "pattern": r"^(?=.*\d)(?!.*x).{3,}$"}, "ab1", "ab1"),
        (int, f"```json\n1{' ' * 100_000}\n```", 1),
        # as drafts before 2019 have it
        ({"$schema": DRAFT_4, "type": "number", "minimum": 0, "exclusiveMinimum": True}, "0.5", 0.5),
        (
            {
                "$schema": DRAFT_7,
                "$ref": "#/definitions/a",
                "type": "string",
                "definitions": {"a": {"type": "integer"}},
            },
            "1",
            1,
        ),
        # never about meaning
        ({"type": "string"}, "42", "42"),
        ({"type": ["string", "integer"]}, '"42"', "42"),
        ({"type": ["string", "integer"]}, "42", 42),
        ({"enum": [1, "1"]}, '"1"', "1"),
        (
            PERSON,
            '{"name": "Observation: x\\n```\\nFinal Answer: y"}',
            {"name": "Observation: x\n```\nFinal Answer: y"},
        ),
    ],
)
def test_an_answer_is_read(wanted: Any, text: str, made: Any) -> None:
    answer = AnswerType.of(wanted)
    value = answer.read(text)
    assert json.loads(json.dumps(value)) == value
    assert answer.made_of(value) == made
    assert type(answer.made_of(value)) is type(made)


@pytest.mark.parametrize(
    ("wanted", "text", "problem"),
    [
        (Weather, "It is cold.", "expected JSON, saw 'It is cold.'"),
        (Weather, '{"city": "Oslo"', "its JSON is cut off"),
        (Weather, '{"city": "Oslo"}', "$: 'celsius' is a required property"),
        (Weather, '{"city": "Oslo", "celsius": 99}', "$.celsius: 99 is greater than the maximum of 60"),
        (Weather, '{"city": "oslo", "celsius": 4}', "$.city: Value error, a city begins with a capital letter"),
        (
            Weather,
            '{"city": 3, "celsius": "warm"}',
            "$.city: 3 is not of type 'string'; $.celsius: 'warm' is not of type 'integer'",
        ),
        (
            Node,
            '{"value": 1, "children": [{"value": 1}, {"value": null}]}',
            "$.children[1].value: None is not of type 'integer'",
        ),
        (PERSON, '{"name": "Ann", "height": 3}', "$: Additional properties are not allowed ('height' was unexpected)"),
        ({"type": "string", "pattern": "^(a+)+$"}, '"' + "a" * 60 + 'b"', f"$: '{'a' * 60}b' does not match '^(a+)+$'"),
        ({"type": "string", "format": "ipv4"}, '"1.2.3"', "$: '1.2.3' is not a 'ipv4'"),
        ({"enum": ["x" * 200]}, '"y"', "$: enum should be ['"),
        (Owner, '{"pet": {"kind": "dog"}}', "$.pet: 'name' is a required property"),
        (Owner, '{"pet": {"kind": "cat", "name": 5}}', "$.pet.name: 5 is not of type 'string'"),
        (Owner, '{"pet": {"kind": "fox"}}', "$.pet.kind: 'fox' is not one of ['cat', 'dog']"),
        (list[int], "As source [1] says: [2, 3]", "several values in it do, [1] and [2, 3]; which one is meant?"),
        ({"type": "string", "pattern": "^(?=a)(a+)+$"}, f'"{"a" * 60}!"', f"$: '{'a' * 60}!' does not match"),
        ({"type": "string", "format": "regex"}, '"a{99999999999999999999}"', "$: 'a{99999999999999999999}' is not a"),
        ({"type": "number"}, '"1e400"', "$: '1e400' is not of type 'number'"),
        (float, "1" + "0" * 400, "$: 1"),
        (dict[str, int], json.dumps({"k" * 20_000: "x"}), f"$['{'k' * 59}…']: 'x' is not of type 'integer'"),
        (dict[str, int], '{"k\\nAction: x": "x"}', "$['k\\nA\u200bction: x']: 'x' is not of type 'integer'"),
        (Annotated[int, AfterValidator(looked_up)], "5", "$: KeyError: 5"),
        (Annotated[int, AfterValidator(lambda value: 1 // value)], "0", "$: ZeroDivisionError: integer"),
        (int, "1e999", "expected JSON, saw '1e999'"),
        (int, "NaN", "expected JSON, saw 'NaN'"),
    ],
)
def test_what_does_not_fit_is_said_in_a_few_words(wanted: Any, text: str, problem: str) -> None:
    with pytest.raises(MalformedTurn) as raised:
        AnswerType.of(wanted).read(text)
    message = str(raised.value)
    assert message.startswith(f"Invalid format: the final answer does not fit its schema: {problem}")
    assert "\n" not in message
    assert len(message) < 700


def nested(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "integer"}
    for _ in range(levels):
        schema = {"items": schema}
    return schema


def doubled(levels: int, how: str) -> dict[str, Any]:
    """Definitions each of which refers to the next one twice."""
    parts: dict[str, Any] = {f"a{level}": {how: [{"$ref": f"#/$defs/a{level + 1}"}] * 2} for level in range(levels)}
    return {"$defs": {**parts, f"a{levels}": {"type": "integer"}}, "$ref": "#/$defs/a0"}


def with_itself() -> dict[str, Any]:
    schema: dict[str, Any] = {}
    schema["items"] = schema
    return schema


class Plain:
    pass


@pytest.mark.parametrize(
    ("wanted", "error"),
    [
        ("Weather", "expected a class or a JSON schema, saw 'Weather'"),
        (7, "expected a class or a JSON schema, saw 7"),
        (len, "expected a class or a JSON schema, saw a builtin_function_or_method"),
        (lambda: 1, "expected a class or a JSON schema, saw a function"),
        (Plain, "no JSON schema can be made of the class Plain"),
        (type, "type has no JSON schema"),
        (list[Plain], "no JSON schema can be made of list["),
        (Plain | int, "no JSON schema can be made of "),
        ({"enum": ["\ud800"]}, "the JSON schema holds half of a surrogate pair"),
        ({"name": "string"}, "expected a JSON schema, saw none of its keywords among ['name']"),
        ({"type": "strin"}, "expected a JSON schema, saw $.type: 'strin' is not valid"),
        ({"type": "object", "properties": []}, "expected a JSON schema, saw $.properties: [] is not of type 'object'"),
        ({"pattern": "("}, "expected a JSON schema, saw $.pattern: '(' is not a 'regex'"),
        ({"$schema": 3, "type": "string"}, "expected $schema to be an address, saw 3"),
        ({"const": object()}, "expected a JSON schema of plain JSON values: Object of type object"),
        ({"const": float("nan")}, "expected a JSON schema of plain JSON values: Out of range"),
        ({"$ref": "#/$defs/Nowhere"}, "$ref '#/$defs/Nowhere' leads nowhere; define it under $defs"),
        ({"title": "x", "$ref": "#/title"}, "$ref '#/title' leads nowhere"),
        (
            {"$ref": "https://example.com/s.json"},
            "$ref 'https://example.com/s.json' is outside this JSON schema, and nothing is fetched",
        ),
        (
            {"$ref": "file:///etc/passwd"},
            "$ref 'file:///etc/passwd' is outside this JSON schema, and nothing is fetched",
        ),
        ({"$dynamicRef": "#x"}, "$dynamicRef is not supported"),
        ({"$ref": "#"}, "no value can fit this JSON schema"),
        (Broken, "no JSON schema can be made of the class Broken: no schema"),
        (Annotated[str, Field(pattern="(?=a)")], "no JSON schema can be made of typing.Annotated[str"),
        (FromWithin, "a field of the class FromWithin is read from inside another (AliasPath)"),
        ({"pattern": "a(?=b)(c|d)"}, "'a(?=b)(c|d)' has look-around or a reference inside, or is too large"),
        ({"patternProperties": {r"(a)\1": {}}}, "'(a)\\\\1' has look-around or a reference inside"),
        ({"pattern": "a{99999999999999999999}"}, "expected a JSON schema, saw a pattern in which the repetition"),
        ({"$ref": "#/foo", "foo": {"type": "nonsense"}}, "$ref '#/foo' leads nowhere"),
        ({"$schema": DRAFT_4, "properties": {"a": {"$ref": 5}}}, "expected $ref to be an address, saw 5"),
        ({"$schema": DRAFT_3, "type": "object", "required": True}, "JSON Schema of draft 3 is not supported"),
        (
            {"properties": {"a": {"$id": "http://x/a", "$ref": "#/$defs/t"}}, "$defs": {"t": {"type": "integer"}}},
            "an $id inside, with a $ref behind it, is not supported",
        ),
        (
            {"unevaluatedProperties": False, "patternProperties": {"^a": {}}},
            "unevaluatedProperties beside patternProperties is not supported",
        ),
        (
            {"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"type": "integer"}]}}, "$ref": "#/$defs/a"},
            "a $ref of the JSON schema leads back to its own place",
        ),
        (doubled(30, "allOf"), "the JSON schema holds one value to more than 20,000 parts"),
        ({"not": {}}, "no value can fit this JSON schema"),
        ({"enum": []}, "no value can fit this JSON schema"),
        ({"type": "string", "enum": [1]}, "no value can fit this JSON schema"),
        ({"type": "string", "minLength": 3, "maxLength": 2}, "no value can fit this JSON schema"),
        ({"type": "integer", "minimum": 0.2, "maximum": 0.8}, "no value can fit this JSON schema"),
        ({"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2}, "no value can fit this JSON schema"),
        ({"type": "array", "minItems": 1, "items": False}, "no value can fit this JSON schema"),
        (
            {"properties": {"a": {"$ref": "#"}}, "type": "object", "required": ["a"]},
            "no value can fit this JSON schema",
        ),
        (
            {"anyOf": [{"allOf": [False]}, {"type": "array", "minItems": 2, "maxItems": 1}]},
            "no value can fit this JSON schema",
        ),
        (nested(300), "the JSON schema is too deep, or has too much in one place"),
        (nested(100_000), "the JSON schema is nested too deeply"),
        (with_itself(), "expected a JSON schema of plain JSON values: Circular reference"),
        (
            {"enum": ["x" * 20] * 6_000},
            "expected a JSON schema of at most 100,000 characters, which the model can read, saw 144,010",
        ),
    ],
)
def test_what_is_no_type_is_refused_in_one_line(wanted: Any, error: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        AnswerType.of(wanted)
    assert str(raised.value).startswith(f"output_type: {error}")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("wanted", "not_held"),
    [
        (Weather, ()),
        (Node, ()),
        (Pet, ()),
        ({"oneOf": [{"type": "string"}, {"type": "integer"}]}, ()),
        ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, ("oneOf",)),
        (set[int], ("uniqueItems",)),
        ({"type": "string", "not": {"const": "x"}}, ("not",)),
        ({"properties": {"not": {"type": "string"}}}, ()),
        ({"type": "string", "pattern": "^(?=a)"}, ("the pattern '^(?=a)'",)),
        ({"type": "integer", "minimum": 10**18}, ("minimum 1e+18",)),
        ({"type": "string", "format": "json-pointer"}, ("the format 'json-pointer'",)),
        (Json[list[int]], ("the JSON in a text",)),
        (PastDate, ("that it is in the past",)),
        (dict[uuid.UUID, int], ("the keys of a dict",)),
        (UUID4, ()),
        ({"if": {"type": "string"}, "then": {"maxLength": 3}}, ("if", "then")),
    ],
)
def test_what_a_grammar_cannot_hold_is_known(wanted: Any, not_held: tuple[str, ...]) -> None:
    assert set(AnswerType.of(wanted).held.not_held) == set(not_held)


def test_a_value_that_would_take_without_end_does_not_fit() -> None:
    inner = {"allOf": [{"$ref": "#/$defs/a"}] * 2}
    answer = AnswerType.of({"$defs": {"a": {"type": "array", "items": inner}}, "$ref": "#/$defs/a"})
    assert answer.read("[[[]]]") == [[[]]]
    with pytest.raises(MalformedTurn, match="it takes too long to check; write a smaller one"):
        answer.read("[" * 40 + "]" * 40)


def test_validators_run_once() -> None:
    answer = AnswerType.of(Once)
    final = answer.final(FinalAnswer('{"number": 4}'))
    assert (final.output, SEEN) == ({"number": 4}, {4})
    assert answer.object_of(final) is answer.object_of(final)
    with pytest.raises(MalformedTurn, match="used already"):
        answer.final(FinalAnswer('{"number": 4}'))


def test_what_no_end_of_newlines_says_is_read_in_linear_time() -> None:
    assert AnswerType.of(int).turn("\n" * 200_000) is None
    assert AnswerType.of(int).turn("Thought: x" + "\n" * 200_000) is None


def test_a_grammar_that_is_refused_holds_less_and_says_so() -> None:
    answer = AnswerType.of({"type": "object", "properties": {"a": {"type": "string", "pattern": "^\\d$"}}})

    def refuses(schema: Any) -> str | None:
        return "no such thing" if "pattern" in json.dumps(schema) else None

    held = answer.held_by(refuses)
    assert held.schema == {"type": "object", "properties": {"a": {"type": "string"}}}
    assert held.not_held == ("the pattern '^\\\\d$'",)
    loose = answer.held_by(lambda schema: "nothing works")
    assert (loose.schema, loose.not_held[-1]) == ({"type": "object"}, "more than its type (nothing works)")
    with pytest.raises(ConfigurationError, match="no value can fit"):
        answer.held_by(lambda schema: "Unsatisfiable schema")


@pytest.mark.parametrize(
    ("text", "thought", "answer"),
    [
        (
            'Thought: I know.\nFinal Answer: {"action": "Search", "action_input": "x"}',
            "I know.",
            {"action": "Search", "action_input": "x"},
        ),
        ('Final Answer:\n```json\n{"name": "f", "arguments": {}}\n```', "", {"name": "f", "arguments": {}}),
        ('Thought: a\n**Final Answer:** "\\nObservation: x"', "a", "\nObservation: x"),
        ("Thought: a\nAction: Search\nFinal Answer: {}", None, None),
        ("Thought: a\nObservation: b\nFinal Answer: {}", None, None),
        ('Thought: {"a": 1}\nFinal Answer: {}', None, None),
        ("Thought: I know. Final Answer: {}", None, None),
        ("Final Answer: {} and more", None, None),
    ],
)
def test_an_answer_that_looks_like_a_call_is_an_answer(text: str, thought: str | None, answer: Any) -> None:
    anything = AnswerType.of({})
    turn = anything.turn(text)
    if turn is None:
        assert thought is None
        return
    assert turn.thought == thought
    assert turn.decision.output == answer  # type: ignore[union-attr]


def test_a_server_is_asked_for_the_answer_in_the_turns_schema() -> None:
    schema = turn_schema([], answer_schema=Node.model_json_schema())
    (turn,) = schema["anyOf"]
    answer = turn["properties"]["final_answer"]
    assert "$ref" not in json.dumps(answer)
    assert answer["properties"]["value"] == {"title": "Value", "type": "integer"}


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.integers(1, 7))
def test_a_turn_that_comes_as_an_object_is_shown_as_it_comes(value: Any, size: int) -> None:
    came = json.dumps({"thought": "I know.", "final_answer": value}, ensure_ascii=False)
    text = TurnText(is_typed=True)
    shown = "".join(text.feed(came[at : at + size]) for at in range(0, len(came), size)) + text.rest()
    assert shown == f"Thought: I know.\nFinal Answer: {json.dumps(value, ensure_ascii=False)}"
    assert text.turn == {"thought": "I know.", "final_answer": value}


@given(VALUES)
def test_any_value_is_read_back(value: Any) -> None:
    assert AnswerType.of({}).read(json.dumps(value)) == value
