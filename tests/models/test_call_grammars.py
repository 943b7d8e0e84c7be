"""Calls held to their tools' schemas, in every syntax of the table: what a grammar allows is read, fits its schema, and
is what a peer reads. Sampled from the grammars themselves, and by models of random weights.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random
from typing import Any

import jsonschema
import pytest
from transformers.utils.chat_parsing import parse_response

from agentkit.errors import ConfigurationError
from agentkit.models import ChatHuggingFace, HuggingFacePipeline
from agentkit.models.backend import ChatRequest
from agentkit.models.call_grammar import tool_grammar
from agentkit.models.chat import prepared
from agentkit.react_json.marks import HERMES, MARKUP, TABLE, CallSyntax, Pairs, Tags

from .conftest import build_llama, build_tokenizer, read_reply

TURNS = 100
Calls = list[tuple[str, Any]]


def text(**limits: Any) -> dict[str, Any]:
    return {"type": "string", "maxLength": 12, **limits}


def an_object(required: str = "", /, **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": required.split()}


def any_of(*schemas: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [*schemas]}


INTEGER, BOOLEAN, NULL, NUMBER = ({"type": kind} for kind in ("integer", "boolean", "null", "number"))
DIGIT = {"type": "integer", "minimum": 0, "maximum": 9}
SEAT = any_of({"type": "string", "pattern": "^[A-F][1-9]$"}, NULL)
TREE = an_object("value", value=any_of(BOOLEAN, INTEGER, NULL), kids={"type": "array", "items": {"$ref": "#/$defs/T"}})
TREE["properties"]["kids"]["maxItems"] = 2
TAGGED = [an_object("k v", k={"const": "a"}, v=INTEGER), an_object("k", k={"const": "b"}, w=BOOLEAN)]
PASSENGER = an_object("name", name=text(), seat=SEAT, **{"class": DIGIT})
SCHEMAS: dict[str, dict[str, Any]] = {  # those that a peer can type, first
    "plain": an_object("q n", q=text(), n=INTEGER, x=NUMBER, on=BOOLEAN, nothing=NULL),
    "nullable": an_object(
        "q n t",
        q=any_of(text(), NULL),
        n=any_of({"type": "integer", "minimum": 3, "maximum": 17}, NULL),
        t=text(type=["string", "null"]),
    ),
    "nested": {
        **an_object(
            "passengers at deep",
            passengers={"type": "array", "minItems": 1, "maxItems": 2, "items": {"$ref": "#/$defs/P"}},
            flags={"type": "object", "additionalProperties": BOOLEAN, "maxProperties": 1},
            at={"type": "array", "prefixItems": [{**NUMBER, "minimum": -90, "maximum": 90}, text()], "minItems": 2}
            | {"maxItems": 2},
            deep=an_object("a", a=an_object("b", b={"type": "array", "items": any_of(BOOLEAN, NULL), "maxItems": 3})),
        ),
        "$defs": {"P": PASSENGER},
    },
    "strings": an_object(
        "flight part date least",
        flight={"type": "string", "pattern": "^[A-Z]{2}[0-9]{3}$"},
        part=text(pattern="a|^b"),
        date={"type": "string", "format": "date"},
        least=text(minLength=3),
        **{name: {"type": "string", "format": name} for name in ("date-time", "uuid", "ipv4", "email", "time")},
        path=text(format="path"),
    ),
    "union": an_object(
        "a b c d",
        a=any_of(text(), INTEGER),
        b=any_of({"type": "string", "pattern": "^x.?$"}, INTEGER, {"type": "array", "items": INTEGER, "maxItems": 2}),
        c={"oneOf": TAGGED, "discriminator": {"propertyName": "k"}},
        d=any_of(text(), BOOLEAN, an_object(z=NULL)),
    ),
    "none": {"type": "object"},
    "left out": an_object(a=text(), b=text(), c=INTEGER),
    "keywords": an_object("type from", **dict.fromkeys(("type", "properties", "required", "from", "enum"), DIGIT)),
    "enum": {
        **an_object("kind said colour", kind={"enum": ["city", 3, None, True]}, colour={"$ref": "#/$defs/Colour"}),
        "$defs": {"Colour": {"title": "class", "enum": ["red", "grün", "b/ue"], "type": "string"}},
    },
    "recursive": {**an_object("tree", tree={"$ref": "#/$defs/T"}), "$defs": {"T": TREE}},
    "parts": {
        **an_object("x y", x={"allOf": [{"$ref": "#/definitions/B"}], "default": 1}),
        "definitions": {"B": {"type": "integer", "minimum": 1, "maximum": 9}},
    },
    "names of scripts": an_object("größe 日本", größe=DIGIT, 日本=text(), parameter=text()),
    "anything": an_object("w", v={}, w={"type": "array", "maxItems": 2}),
}
SCHEMAS["enum"]["properties"]["said"] = {"const": "a \"b\" 'c' \n <d> \\"}
SCHEMAS["parts"]["properties"]["y"] = {"allOf": [an_object("i", i=INTEGER), {"properties": {"j": BOOLEAN}}]}
TYPED = ("plain", "nullable", "nested", "strings", "union", "none", "left out", "keywords")


def a_tool(name: str, schema: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


def read(syntax: CallSyntax, tools: Sequence[dict[str, Any]], reply: str) -> tuple[str, Calls]:
    """The text and the calls of a reply."""
    _, said, calls = read_reply([reply], syntax, tools)
    return said, [(name, json.loads(given)) for name, given in calls]


def sampled(grammar: str, draw: Random, *, longest: int = 1500) -> str:
    """A text that a grammar allows, byte by byte; "" where it grows too long."""
    import numpy
    from llguidance import LLMatcher, LLTokenizer

    tokenizer = LLTokenizer("byte")
    matcher, written = LLMatcher(tokenizer, grammar, log_level=0), bytearray()
    bits = numpy.zeros((tokenizer.vocab_size + 31) // 32, dtype=numpy.int32)
    while not matcher.is_stopped():
        assert not matcher.is_error(), matcher.get_error()
        matcher.unsafe_compute_mask_ptr(bits.ctypes.data, bits.nbytes)
        allowed = numpy.nonzero(numpy.unpackbits(bits.view(numpy.uint8), bitorder="little"))[0].tolist()
        if tokenizer.eos_token in allowed and (len(allowed) == 1 or draw.random() < 0.5):
            break
        letters = [token for token in allowed if 32 <= token < 127]
        ends = [token for token in letters if chr(token) in "}])\",<'" and len(letters) < 90]
        if ends and (draw.random() < 0.4 or len(written) > longest // 3):
            letters = ends
        choices = (
            letters if letters and len(allowed) > 3 and draw.random() < 0.9 else [one for one in allowed if one < 256]
        )
        written.append(draw.choice(choices))
        matcher.consume_token(written[-1])
        if len(written) > longest:
            return ""
    assert not matcher.is_error(), matcher.get_error()
    return written.decode()


def samples(syntax: CallSyntax, schema: Any, draw: Random, count: int = 1, **asked: Any) -> Iterator[str]:
    """Replies that the grammar of calls of "get" allows, but for those that grow too long."""
    grammar = tool_grammar([a_tool("get", schema)], "any", syntax=syntax, special={}, **asked)
    assert grammar is not None
    return filter(None, (sampled(grammar, draw) for _ in range(count)))


def check(syntax: CallSyntax, schema: Any, reply: str) -> Calls:
    """The calls of a reply that must be nothing but those of "get"."""
    said, calls = read(syntax, [a_tool("get", schema)], reply)
    assert said.strip() == "", reply
    assert calls, reply
    for name, given in calls:
        assert name == "get", reply
        jsonschema.Draft202012Validator(schema).validate(given)
    return calls


IDS = [f"{number} {syntax.opening.strip()}{syntax.middle.strip()}" for number, syntax in enumerate(TABLE.calls)]
every_syntax = pytest.mark.parametrize("syntax", TABLE.calls, ids=IDS)


@every_syntax
def test_what_a_grammar_allows_is_a_call_that_fits(syntax: CallSyntax) -> None:
    draw = Random(IDS.index(next(each for each, row in zip(IDS, TABLE.calls, strict=True) if row is syntax)))
    for schema in draw.sample([*SCHEMAS.values()], 4):
        for reply in samples(syntax, schema, draw):
            assert len(check(syntax, schema, reply)) == 1


@pytest.mark.slow
@every_syntax
def test_hundreds_of_calls_fit(syntax: CallSyntax) -> None:
    draw = Random(0)
    for schema in SCHEMAS.values():
        for reply in samples(syntax, schema, draw, 20):
            assert len(check(syntax, schema, reply)) == 1


@every_syntax
def test_required_calls_are_several_where_that_is_asked_for(syntax: CallSyntax) -> None:
    draw, schema = Random(1), an_object("n", n=DIGIT)
    counts = set()
    for parallel in (True, None, False):
        grammar = tool_grammar([a_tool("get", schema)], "required", syntax=syntax, special={}, parallel=parallel)
        assert grammar is not None
        counts |= {(parallel, min(2, len(check(syntax, schema, sampled(grammar, draw))))) for _ in range(12)}
    assert counts - {(True, 1)} == {(None, 1), (False, 1)} | ({(True, 2)} if syntax.between else set())


# What peers read: transformers' own parser with the template of a checkpoint, and the documented rules of servers.


def by_template(**calls: Any) -> Callable[[str, Any], Calls]:
    """The reader of transformers, told how a model writes calls."""
    shape = {"type": "function", "function": {"name": "{name}", "arguments": "{content}"}}
    field = {"repeats": True, "transform": shape, **calls}
    template = {"start_anchor": "ASSISTANT", "fields": {"tool_calls": field, "content": {"content": "text"}}}

    def peer(reply: str, tools: Any) -> Calls:
        message = parse_response(reply, template, prefix="ASSISTANT", tools=tools)
        found = message["tool_calls"]
        found = found[0] if isinstance(found[0], list) else found
        return [(call["function"]["name"], call["function"]["arguments"]) for call in found]

    return peer


def in_tags(pattern: str) -> dict[str, Any]:
    as_it_is = {"name": "text", "args": {"strip": False}}
    return {"content": "xml-inline", "content_args": {"tag_pattern": pattern, "value_parser": as_it_is}}


def by_pattern(pattern: str) -> Callable[[str, Any], Calls]:
    """A server's rule: a pattern that finds names and JSON arguments."""
    return lambda reply, _: [
        (found["name"], json.loads(found["arguments"])) for found in re.finditer(pattern, reply, re.DOTALL)
    ]


def by_python(pattern: str) -> Callable[[str, Any], Calls]:
    """What Python itself reads: `ast` (the rule for Llama 4, LFM2 and Olmo 3)."""

    def peer(reply: str, _: Any) -> Calls:
        found = re.search(pattern, reply, re.DOTALL)
        assert found is not None
        values: list[Any] = [statement.value for statement in ast.parse(found[1].strip()).body]  # type: ignore
        return [
            (ast.unparse(call.func), {one.arg: ast.literal_eval(one.value) for one in call.keywords})
            for value in values
            for call in getattr(value, "elts", [value])
        ]

    return peer


def as_it_is(reply: str, _: Any) -> Calls:
    """What LFM 2.5's template means: an argument between apostrophes has no escapes, all others are Python's."""
    calls = re.split(
        r"(?<=\)), (?=get\()", reply.removeprefix("<|tool_call_start|>[").removesuffix("]<|tool_call_end|>")
    )
    given = [re.finditer(r"([\w-]+)=(?:'(.*?)'|(.*?))(?=, [\w-]+=|\)\Z)", call, re.DOTALL) for call in calls]
    return [
        ("get", {one[1]: ast.literal_eval(one[3]) if one[3] else one[2] for one in arguments}) for arguments in given
    ]


def objects_in(reply: str, _: Any) -> Calls:
    """JSON objects with a name and arguments, or the name as the key, wherever they stand."""
    calls: Calls = []
    at = reply.find("{")
    while at >= 0:
        value, end = json.JSONDecoder().raw_decode(reply, at)
        name = value.get("name", value.get("tool_name"))
        given = value.get("arguments", value.get("parameters", value.get("args")))
        calls.append((name, given) if name is not None else next(iter(value.items())))
        at = reply.find("{", end)
    return calls


def row(*beginning: str) -> CallSyntax:
    """The syntax of the table that begins so."""
    return next(each for each in TABLE.calls if (each.opening + "NAME" + each.middle).startswith(beginning))


GEMMA = {"content": "json", "content_args": {"string_delims": [['<|"|>'] * 2], "unquoted_keys": True}}
PEERS: dict[str, tuple[CallSyntax, Callable[[str, Any], Calls]]] = {
    "hermes": (
        HERMES,
        by_pattern(r'<tool_call>\s*\{"name": "(?P<name>[^"]*)", "arguments": (?P<arguments>.*?)\}\s*</tool_call>'),
    ),
    "hermes by its template": (
        HERMES,
        by_template(
            open="<tool_call>",
            close_pattern=r"</tool_call>\s*",
            content="json",
            transform={"type": "function", "function": "{content}"},
        ),
    ),
    "llama": (row('{"name": "NAME", "parameters"'), objects_in),
    "jamba": (row("<tool_calls>["), objects_in),
    "apertus": (row("<|tools_prefix|>"), objects_in),
    "command": (row("<|START_ACTION|>"), objects_in),
    "phi": (row("functools["), objects_in),
    "mistral": (
        row("[TOOL_CALLS]NAME[ARGS]"),
        by_pattern(r"\[TOOL_CALLS\](?P<name>\w+)\[ARGS\](?P<arguments>\{.*?\})(?=\[TOOL_CALLS\]|\Z)"),
    ),
    "kimi": (
        row("<|tool_calls_section_begin|>"),
        by_pattern(
            r"<\|tool_call_begin\|>functions\.(?P<name>[\w.]+):\d+\s*<\|tool_call_argument_begin\|>"
            r"(?P<arguments>.*?)<\|tool_call_end\|>"
        ),
    ),
    "deepseek": (
        row("<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function"),
        by_pattern(r"function<｜tool▁sep｜>(?P<name>.*?)\n```json\n(?P<arguments>.*?)\n```<｜tool▁call▁end｜>"),
    ),
    "harmony": (
        row("<|channel|>commentary to="),
        by_pattern(r"to=functions\.(?P<name>\S+) <\|constrain\|>json<\|message\|>(?P<arguments>.*?)<\|call\|>"),
    ),
    "qwen coder": (
        row("<tool_call>\n<function="),
        by_template(
            open_pattern=r"<tool_call>\s*<function=(?P<name>[^\n>]+)>",
            close_pattern=r"</tool_call>\s*",
            **in_tags(r"<parameter=(?P<key>[^>\n]+)>\n(?P<value>.*?)\n</parameter>"),
        ),
    ),
    "glm": (
        row("<tool_call>NAME\n"),
        by_template(
            open_pattern=r"<tool_call>(?P<name>\S+)\n?",
            close_pattern=r"</tool_call>\s*",
            **in_tags(r"<arg_key>(?P<key>[^<]+)</arg_key>\s*\n<arg_value>(?P<value>.*?)</arg_value>"),
        ),
    ),
    "minimax": (
        row("<minimax:tool_call>"),
        by_template(
            open_pattern=r'(?:<minimax:tool_call>\s*)?<invoke name="(?P<name>[^"]+)">',
            close_pattern=r"</invoke>\s*(?:</minimax:tool_call>)?",
            **in_tags(r'<parameter name="(?P<key>[^"]+)">(?P<value>.*?)</parameter>'),
        ),
    ),
    "gemma": (
        row("<|tool_call>call:"),
        by_template(open_pattern=r"<\|tool_call>call:(?P<name>\w+)", close_pattern=r"<tool_call\|>\s*", **GEMMA),
    ),
    "lfm": (
        row("<|tool_call_start|>[NAME("),
        by_template(
            open="<|tool_call_start|>",
            close="<|tool_call_end|>",
            content="python-call-list",
            transform={"type": "function", "function": {"name": "{name}", "arguments": "{arguments}"}},
            transform_each=True,
        ),
    ),
    "lfm in quotes": (
        replace(row("<|tool_call_start|>[NAME("), arguments=Pairs("=", "'")),
        by_python(r"<\|tool_call_start\|>(.*)<\|tool_call_end\|>"),
    ),
    "lfm 2.5": (replace(row("<|tool_call_start|>[NAME("), arguments=Pairs("=", "'", is_bare=True)), as_it_is),
    "llama 4": (row("<|python_start|>[NAME("), by_python(r"<\|python_start\|>(.*)<\|python_end\|>")),
    "llama 3.2": (row("[NAME("), by_python(r"(.*)")),
    "olmo": (row("<function_calls>\nNAME("), by_python(r"<function_calls>\n(.*)\n</function_calls>")),
}
IN_PYTHON = ("lfm in quotes", "llama 4", "llama 3.2", "olmo")
NAMES_ONLY = (*IN_PYTHON, "lfm", "lfm 2.5", "gemma")  # whose peers read no key with a hyphen
every_peer = pytest.mark.parametrize("peer", PEERS)


def check_with(peer: str, schema: Any, reply: str) -> None:
    """What is read of a reply fits the schema, and is what the peer reads."""
    syntax, reader = PEERS[peer]
    assert reader(reply, [a_tool("get", schema)]) == check(syntax, schema, reply), reply


def schemas_for(peer: str) -> list[dict[str, Any]]:
    """All of them, but where a peer tells types by the schema: those that it can; Python reads no `from=`; keys are
    names where a peer reads nothing else."""
    in_text, is_python = isinstance(PEERS[peer][0].arguments, Tags), peer in IN_PYTHON
    schemas = [schema for name, schema in SCHEMAS.items() if not in_text or name in TYPED]
    schemas = [schema for schema in schemas if not (is_python and schema is SCHEMAS["keywords"])]
    return [*map(with_names, schemas)] if peer in NAMES_ONLY else schemas


def with_names(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema itself where all keys are names of ASCII letters."""

    def name(key: str) -> str:
        return re.sub(r"\W", "_", key, flags=re.ASCII)

    properties = {name(key): value for key, value in schema.get("properties", {}).items()}
    if properties.keys() == schema.get("properties", {}).keys():
        return schema
    return {**schema, "properties": properties, "required": [*map(name, schema["required"])]}


@every_peer
def test_a_peer_reads_the_same(peer: str) -> None:
    draw = Random(peer)
    for schema in draw.sample(schemas_for(peer), 5):
        for reply in samples(PEERS[peer][0], schema, draw, parallel=True):
            check_with(peer, schema, reply)


@pytest.mark.slow
@every_peer
def test_a_peer_reads_hundreds_of_calls_the_same(peer: str) -> None:
    draw = Random(f"{peer} again")
    for schema in schemas_for(peer):
        for reply in samples(PEERS[peer][0], schema, draw, 25, parallel=True):
            check_with(peer, schema, reply)


# A model of random weights, in whose vocabulary the marks are tokens: some special, as in most vocabularies, some not


def model_of(syntax: CallSyntax, *, special: bool) -> ChatHuggingFace:
    tokenizer, style = build_tokenizer(), syntax.arguments
    texts = [syntax.opening, syntax.middle, syntax.between or "", syntax.closing]
    texts += [style.opening, style.middle, style.closing] if isinstance(style, Tags) else []
    texts += [style.quote] if isinstance(style, Pairs) and not style.is_python else []
    tokens = sorted({mark for each in texts for mark in MARKUP.findall(each)})
    if special:
        tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    else:
        tokenizer.add_tokens(tokens)
    options = {"max_new_tokens": 500, "do_sample": True, "temperature": 1.0}
    model = build_llama(tokenizer, max_position_embeddings=4096)  # room for the tools and a whole reply
    return ChatHuggingFace(llm=HuggingFacePipeline(model=model, tokenizer=tokenizer, pipeline_kwargs=options))


def reply_of(model: ChatHuggingFace, syntax: CallSyntax, tools: Any, choice: Any, seed: int) -> str:
    """A reply as the model writes it."""
    request = ChatRequest(
        messages=[{"role": "user", "content": "hello"}], tools=tools, tool_choice=choice, options={"seed": seed}
    )
    asked = prepared(request, replace(model.llm.capabilities, call_syntax=syntax))
    return "".join(chunk.text for chunk in model.llm.generate_chat(asked)).removesuffix("<|im_end|>")


@pytest.mark.slow
@every_peer
@pytest.mark.parametrize("special", [True, False])
def test_a_random_model_only_ever_makes_calls_that_fit(peer: str, special: bool) -> None:
    """0 of 100 turns are malformed, name an unknown tool, break a schema, or are read otherwise by a peer."""
    syntax = PEERS[peer][0]
    model = model_of(syntax, special=special)
    typed = [SCHEMAS[name] for name in TYPED if name != "strings"]  # an address by email can be as long as a reply
    schemas = [schema for schema in schemas_for(peer) if schema in typed]

    def turn(seed: int) -> None:
        schema = schemas[seed % len(schemas)]
        check_with(peer, schema, reply_of(model, syntax, [a_tool("get", schema)], "any", seed))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(turn, range(TURNS // 2)))


@pytest.mark.slow
@every_peer
def test_left_to_it_a_random_model_says_something_or_makes_calls_that_fit(peer: str) -> None:
    syntax = PEERS[peer][0]
    model, schema = model_of(syntax, special=True), SCHEMAS["plain"]
    for seed in range(12):
        said, calls = read(
            syntax, [a_tool("get", schema)], reply_of(model, syntax, [a_tool("get", schema)], None, seed)
        )
        assert said or calls
        for name, given in calls:
            assert name == "get"
            jsonschema.Draft202012Validator(schema).validate(given)


MARKS_IN_STRINGS = [
    *((peer, PEERS[peer][0].closing.strip()) for peer in PEERS if MARKUP.search(PEERS[peer][0].closing)),
    *((peer, "</parameter>") for peer in ("qwen coder", "minimax")),
    *(("glm", mark) for mark in ("</arg_value>", "<arg_key>")),
    ("gemma", '<|"|>'),
]


@pytest.mark.parametrize(("peer", "mark"), MARKS_IN_STRINGS)
def test_no_string_holds_the_mark_that_ends_it(peer: str, mark: str) -> None:
    from llguidance import LLMatcher, LLTokenizer

    syntax, tokenizer = PEERS[peer][0], LLTokenizer("byte")
    grammar = tool_grammar(
        [a_tool("get", an_object("q n", q={"type": "string"}, n=DIGIT))], "any", syntax=syntax, special={}
    )
    for value, allowed in ((f"a {mark} b", False), ("a < b > c </d> [e] <|f|>", True)):
        matcher, written = LLMatcher(tokenizer, grammar, log_level=0), syntax.write(("get", {"q": value, "n": 3}))
        tokens = tokenizer.tokenize_str(written.replace(":call00000", ":0"))
        assert (matcher.try_consume_tokens(tokens) == len(tokens)) is allowed


# What is asked for


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        *(("auto", None), (None, None), (False, None), ({"type": "auto"}, None)),
        *(("any", 2), ("required", 2), (True, 2), ({"type": "any"}, 2)),
        *(("now", 1), ({"type": "function", "function": {"name": "now"}}, 1), ({"type": "tool", "name": "now"}, 1)),
        *(("none", 0), ({"type": "none"}, 0)),
    ],
)
def test_a_tool_choice_in_every_spelling(choice: Any, calls: int | None) -> None:
    tools = [a_tool("get", an_object(q=DIGIT)), a_tool("now", {})]
    grammar = tool_grammar(tools, choice, syntax=HERMES, special={}, parallel=False)
    if not calls:
        assert (grammar is None) is (calls == 0)
        return
    assert grammar is not None
    replies = [check_any(tools, sampled(grammar, Random(seed))) for seed in range(12)]
    assert {*replies} == ({"get", "now"} if calls == 2 else {"now"})


def check_any(tools: Any, reply: str) -> str:
    said, calls = read(HERMES, tools, reply)
    assert said == ""
    assert len(calls) == 1
    return calls[0][0]


@pytest.mark.parametrize("choice", ["later", "", 5, ["get"], {"name": "later"}, {"type": "allowed_tools"}])
def test_a_tool_choice_that_is_none_is_one_line(choice: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"\Aexpected tool_choice auto, any, none or .*\Z"):
        tool_grammar([a_tool("get", an_object())], choice, syntax=HERMES, special={})


ODD_NAMES = ['na"me', "a\nb", "x y", "</tool_call>", '<|"|>', "f(", "a{b", "it's", "größe", "a/b", "日本", "x" * 200]


def made_or_refused(syntax: CallSyntax, tool: Any) -> str | None:
    """The grammar for a tool; None where it is refused in one line."""
    try:
        return tool_grammar([tool], "any", syntax=syntax, special={})
    except ConfigurationError as error:
        return None if "\n" not in str(error) else "not one line"


@every_syntax
def test_an_odd_name_is_read_again_or_refused_in_one_line(syntax: CallSyntax) -> None:
    for name in ODD_NAMES:
        for tool in (a_tool(name, an_object("q", q=DIGIT)), a_tool("get", an_object(name, **{name: DIGIT}))):
            tool["function"]["parameters"]["required"] = [*tool["function"]["parameters"]["properties"]]
            grammar = made_or_refused(syntax, tool)
            if grammar is None:
                continue
            (call,) = read(syntax, [tool], sampled(grammar, Random(0)))[1]
            assert call[0] == tool["function"]["name"]
            assert [*call[1]] == [*tool["function"]["parameters"]["properties"]]


def test_a_name_or_key_or_value_never_becomes_a_token() -> None:
    schema = an_object(q={"enum": ["<|x|>"]}, **{"<|x|>": DIGIT})
    grammar = tool_grammar([a_tool("<|x|>", schema)], "any", syntax=HERMES, special={"<|x|>": 7})
    assert grammar is not None
    assert "<[7]>" not in grammar


DEEP: Any = DIGIT
for _ in range(40):
    DEEP = an_object("a", a=DEEP)
WIDE = an_object(**{f"field{number}": INTEGER for number in range(5000)})
DOUBLING: dict[str, Any] = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": DIGIT}
STYLES = ["hermes", "qwen coder", "gemma", "lfm"]


@pytest.mark.parametrize("peer", STYLES)
def test_a_schema_of_forty_levels_and_two_hundred_tools(peer: str) -> None:
    tools = [a_tool(f"tool{number}", DEEP if not number else SCHEMAS["plain"]) for number in range(200)]
    syntax = PEERS[peer][0]
    for choice in ("tool0", "any"):
        grammar = tool_grammar(tools, choice, syntax=syntax, special={})
        assert grammar is not None
        (call,) = read(syntax, tools, sampled(grammar, Random(3), longest=4000))[1]
        assert call[0] == choice or choice == "any"


@pytest.mark.parametrize("peer", STYLES)
@pytest.mark.parametrize(
    ("schema", "what"),
    [
        (WIDE, "500 parts in one place"),
        ({**an_object("a", a={"$ref": "#/$defs/X"}), "$defs": {}}, "does not define"),
        (an_object("a", a={"$ref": "https://example.org/schema"}), "outside its schema"),
    ],
)
def test_a_schema_that_cannot_be_held_to_is_refused_in_one_line(peer: str, schema: Any, what: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"\ANo grammar can hold .*{what}.*\Z"):
        tool_grammar([a_tool("get", schema)], "any", syntax=PEERS[peer][0], special={})


@pytest.mark.parametrize("peer", STYLES[1:])
@pytest.mark.parametrize(
    ("schema", "what"),
    [
        ({"type": "array", "items": text(), "uniqueItems": True}, "uniqueItems"),
        (any_of({"not": text()}, DIGIT), "not"),
        ({"oneOf": [text(), text(minLength=2)]}, "oneOf where two may fit"),
        ({"type": "string", "pattern": "a(?=b)", "enum": []}, "which nothing fits"),
        (text(pattern="(^a|b)c"), "anchor inside"),
        ({"$ref": "#/$defs/d0"}, "500 alternatives"),
        ({"$ref": "#/$defs/loop"}, "which is itself"),
    ],
)
def test_a_keyword_that_cannot_be_held_to_is_refused_in_one_line(peer: str, schema: Any, what: str) -> None:
    if "anchor" in what and peer == "lfm":
        pytest.skip("strings in quotes are llguidance's")
    wanted = {**an_object("a", a=schema), "$defs": {**DOUBLING, "loop": {"$ref": "#/$defs/loop"}}}
    with pytest.raises(ConfigurationError, match=rf"\ANo grammar can hold .*{what}.*\Z"):
        tool_grammar([a_tool("get", wanted)], "any", syntax=PEERS[peer][0], special={})
