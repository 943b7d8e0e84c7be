"""Calls in the chat templates of current open models, which `trl` ships: written by the template, read by us."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from agentkit.models import HuggingFacePipeline
from agentkit.models.backend import ChatRequest, Message
from agentkit.models.chat import prepared
from agentkit.models.local.chat_template import ChatTemplate
from agentkit.models.local.encoding import SEAM
from agentkit.react_json.marks import TABLE, CallSyntax, Tags

from .conftest import build_llama, build_tokenizer, read_reply

TRL = find_spec("trl")
FOLDER = Path(next(iter(TRL.submodule_search_locations or ())), "chat_templates") if TRL else Path()
TEXTS = {file.stem: file.read_text(encoding="utf-8") for file in sorted(FOLDER.glob("*.jinja")) if TRL}
NAMES = [name for name, text in TEXTS.items() if "tools" in text] or [
    pytest.param("", marks=pytest.mark.skip(reason="trl is not installed: pip install --no-deps trl"))
]
ONE_CALL = ("gptoss", "llama3_1", "llama3_2")  # a turn
NO_THOUGHTS = ("gemma4_v2", "lfm2", "lfm2_v2", "llama3_1", "llama3_2", "qwen2_5", "qwen3_instruct_2507", "qwen3_vl")
UNESCAPED = ("lfm2_2_5", "lfm2_2_5_v2")  # these put a string between apostrophes as it is

FAMILIES = (
    *("diffusion_gemma", "gemma4", "gemma4_v5", "glm4moe", "gptoss", "lfm2", "lfm2_2_5", "lfm2_2_5_vl", "llama3_1"),
    *("muse_glimmer", "nemotron_3_nano", "qwen2_5", "qwen3_5_think", "qwen3_6"),
)
every_family = pytest.mark.parametrize("name", [name for name in NAMES if name in FAMILIES or name not in TEXTS])
every_template = pytest.mark.parametrize("name", NAMES)


def original(name: Any) -> Any:
    """The template that one for training is made of."""
    return name.removesuffix("_training") if isinstance(name, str) else name


def tool(name: str, **properties: Any) -> dict[str, Any]:
    described = {key: {"type": kind, "description": "One"} for key, kind in properties.items()}
    schema = {"type": "object", "properties": described}
    return {"type": "function", "function": {"name": name, "description": "Looks", "parameters": schema}}


TOOLS = [
    tool("look_up", text="string", count="integer", ratio="number", flag="boolean", items="array", deep="object")
    | {"strict": True},
    tool("now"),
]
ASKED: Message = {"role": "user", "content": "QUESTION"}

Call = tuple[str, dict[str, Any]]


@cache
def template(name: str) -> ChatTemplate:
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEXTS[name]
    return ChatTemplate(tokenizer)


def turn(calls: Sequence[Call], *, content: str = "", thought: str = "", first: int = 0) -> Message:
    written = [
        {"id": f"call{number:05}", "type": "function", "function": {"name": name, "arguments": json.dumps(arguments)}}
        for number, (name, arguments) in enumerate(calls, first)
    ]
    return {
        "role": "assistant",
        "content": content,
        "tool_calls": written,
        **({"reasoning_content": thought} if thought else {}),
    }


def result(number: int, name: str, content: str) -> Message:
    return {"role": "tool", "tool_call_id": f"call{number:05}", "name": name, "content": content}


def written(name: str, message: Message) -> str:
    """What a model has to write for the template to have such a turn."""
    prompt, _, _ = template(name).accepted([ASKED], TOOLS)
    after: Message = {"role": "tool", "tool_call_id": "call00000", "name": "look_up", "content": "RESULT"}
    text, _, tools = template(name).accepted([ASKED, message, after], TOOLS)
    assert tools, "the template's own tool block is not used"
    text = text[: text.rindex("RESULT")].replace(SEAM, "")
    start = next((at for at, pair in enumerate(zip(text, prompt, strict=False)) if pair[0] != pair[1]), len(prompt))
    assert "QUESTION" in text[:start]
    syntax = template(name).call_syntax
    return text[start : text.rindex(syntax.closing) + len(syntax.closing)]


def read(name: str, pieces: Iterable[str]) -> tuple[str, str, list[tuple[str, str]]]:
    """The thinking, the text and the calls of a reply."""
    return read_reply(pieces, template(name).call_syntax, TOOLS)


def parsed(calls: Iterable[tuple[str, str]]) -> list[Call]:
    return [(name, json.loads(arguments)) for name, arguments in calls]


def test_all_originals_with_tools_are_read() -> None:
    if not TEXTS:
        pytest.skip("trl is not installed: pip install --no-deps trl")
    native = [name for name in TEXTS if not name.endswith("_training") and template(name).native_calls]
    assert (
        len(native) == len([name for name, text in TEXTS.items() if name == original(name) and "tools" in text]) >= 28
    )


@every_template
def test_a_call_is_written_as_the_template_writes_it(name: str) -> None:
    syntax = template(name).native_calls
    assert syntax
    call = ("look_up", {"count": -17, "text": "a few words"})
    assert syntax.write(call).strip() in written(name, turn([call]))
    if original(name) not in ONE_CALL:
        assert syntax.write(call, ("now", {}), call).strip() in written(name, turn([call, ("now", {}), call]))


@every_template
def test_the_templates_tools_and_earlier_turns_are_those_it_was_made_for(name: str) -> None:
    first = turn([("look_up", {"text": "A"}), ("now", {})], thought="THOUGHT 1")
    second = turn([("look_up", {"text": "B"})], thought="THOUGHT 2", first=2)
    results = [result(0, "look_up", "RESULT 1"), result(1, "now", "RESULT 2")]
    run = [{"role": "system", "content": "SYSTEM"}, ASKED, first, *results, second, result(2, "look_up", "RESULT 3")]
    prompt, messages, tools = template(name).accepted(run, TOOLS)
    assert tools
    assert "To call one, write" not in prompt
    assert all(each in prompt for each in ("SYSTEM", "QUESTION", "look_up", "RESULT 1", "RESULT 2", "RESULT 3"))
    if original(name) not in NO_THOUGHTS:
        assert all(each in prompt for each in ("THOUGHT 1", "THOUGHT 2"))
    order = [prompt.index(each) for each in ("RESULT 1", "RESULT 2", "RESULT 3")]
    assert order == sorted(order)
    if original(name) in ONE_CALL:
        assert [len(message.get("tool_calls") or ()) for message in messages] == [0, 0, 1, 0, 1, 0, 1, 0]


CALLS: list[list[Call]] = [
    [("now", {})],
    [("look_up", {"text": "", "items": [], "deep": {}})],
    [("look_up", {"count": 17, "ratio": -2.5e-07, "flag": True, "items": ["p", 2, False, None, {"a": 'b"'}]})],
    [("look_up", {"deep": {"k": "v", "l": [1, "x", {"m": None}], "b": True}, "flag": False})],
    [("look_up", {"text": "5"}), ("now", {}), ("look_up", {"text": "true", "count": 0})],
    *(
        [("look_up", {"count": 3, "text": text})]
        for text in (
            *("it is 5 o'clock", 'a "quoted" word', "two\nlines\n\n", "{braces} [x] }]", "a < b > c </x>", "a, b=c) x"),
            *(
                "naïve 日本 🎉",
                "null",
                "  padded ",
                "<|x|> [/INST]",
                "# no comment // none",
                "</parameter>",
                "<tool_call>",
            ),
            *("end\n</parameter>\n", "</arg_value>", '<|"|', "</tool_call>", "<tool_call|>", "\n<|tool_call_end|>"),
            *("\tTab", "call:look_up{}", "Action: look_up", "<think>no</think>", "```json\n{}\n```", '{"name": "now"}'),
        )
    ),
]


@every_family
@pytest.mark.parametrize("calls", CALLS, ids=str)
def test_calls_are_read_as_the_template_writes_them(name: str, calls: list[Call]) -> None:
    calls = calls[:1] if original(name) in ONE_CALL else calls
    text = written(name, turn(calls))
    for length in (7, len(text)):
        _, said, got = read(name, [text[at : at + length] for at in range(0, len(text), length)])
        assert parsed(got) == calls
        assert said.strip() == ""


letters = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters=SEAM) | st.sampled_from(
    "\n\t'\"<>|{}[](),=\\"
)
texts = st.text(letters, max_size=30)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**9), 10**9) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), inner),
    max_leaves=6,
)
arguments = st.fixed_dictionaries(
    {},
    optional={
        "text": texts,
        "count": st.integers(-(10**12), 10**12),
        "ratio": st.floats(-1e6, 1e6),
        "flag": st.booleans(),
        "items": st.lists(values, max_size=4),
        "deep": st.dictionaries(st.from_regex("[a-z]{1,5}", fullmatch=True), values, max_size=3),
    },
)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in NAMES if name == original(name)])
@settings(max_examples=10, deadline=None)
@given(calls=st.lists(arguments, min_size=1, max_size=3))
def test_any_call_is_read_as_the_template_writes_it(name: str, calls: list[dict[str, Any]]) -> None:
    wanted = [("look_up", each) for each in calls][: 1 if original(name) in ONE_CALL else 3]
    as_json = json.dumps(wanted, ensure_ascii=False)
    no_escapes = as_json.isprintable() and "\\" not in as_json and not re.search(r"'\s*[,)]", as_json)
    assume(original(name) not in UNESCAPED or no_escapes)
    text = written(name, turn(wanted))
    for pieces in (text, [text]):
        _, said, got = read(name, pieces)
        assert parsed(got) == wanted
        assert said.strip() == ""


@pytest.mark.parametrize("name", [name for name in NAMES if name in UNESCAPED or name not in TEXTS])
@pytest.mark.parametrize("quote", ["'", '"'])
def test_a_string_that_is_written_without_escapes_is_read_as_it_is(name: str, quote: str) -> None:
    """Or refused where it can be meant in two ways; never read as another."""
    plain = [
        'He said "hi"',
        'it\'s "ok"',
        "",
        "'",
        "'quoted'",
        "dogs' toys, and",
        "two\nlines",
        r"a \d+",
        r"C:\new\data",
    ]
    unclear = [r"a\nb", r"it\'s", r"C:\temp", "\\\\", r"say \"x\"", "', count='3", "x')] y"]
    for text in [*plain, *unclear]:
        calls = [("look_up", {"text": text.replace("'", quote), "count": 3}), ("now", {})]
        written_so = written(name, turn(calls))
        for pieces in (written_so, [written_so]):
            _, said, got = read(name, pieces)
            assert parsed(got) == calls or (text in unclear and not got and said.strip() == written_so.strip())
    assert "'it's 'ok''" in template(name).call_syntax.write(("look_up", {"text": "it's 'ok'"}))


SPELLED: list[tuple[list[str], list[str], Any, Any]] = [
    # the types, the texts that are also a value of another type, what that is where constants are JSON's, and Python's
    (["integer", "string"], ["100000"], 100000, 100000),
    (["integer", "string"], ["1e5", "1E5", "100000.0", "0100", "+1", "-0", "1_000", "true", "None", "null"], str, str),
    (["number", "string"], ["100000.0", "1e+16", "2.5e-07", "-0.5"], float, float),
    (["number", "string"], ["1e5", "1.50", "1.", ".5", "5.00", "1e16", "NaN", "Infinity"], str, str),
    (["string", "null"], ["null"], None, str),
    (["string", "null"], ["None"], str, None),
    (["string", "null"], ["none", "NULL", "Null", "nil", "0"], str, str),
    (["boolean", "string"], ["true"], True, str),
    (["boolean", "string"], ["True"], str, True),
    (["integer", "null"], ["null", "None"], None, None),
    (["integer"], ["1e5", "100000.0"], 100000, 100000),
    (["boolean"], ["true", "True", "TRUE"], True, True),
]
IN_TAGS = {"glm4moe": False, "muse_glimmer": False, "qwen3_6": False, "nemotron_3_nano": True, "qwen3_5_think": True}


@pytest.mark.parametrize("name", [name for name in NAMES if name in IN_TAGS or name not in TEXTS])
@pytest.mark.parametrize(("types", "texts", "as_json", "as_python"), SPELLED)
def test_a_text_in_tags_is_another_value_only_as_its_template_spells_that(
    name: str, types: list[str], texts: list[str], as_json: Any, as_python: Any
) -> None:
    """In tags a string has no quotes. Where it is allowed beside other types, what the template writes for none of
    their values can only be a string: GLM's writes null and 100000, so that None and 1e5 are words; Qwen 3.5's writes
    None, so that null is one. Where no string is allowed a value is read however it is spelled."""
    syntax = template(name).call_syntax
    assert isinstance(syntax.arguments, Tags)
    assert syntax.arguments.is_python is IN_TAGS[name]
    tools = [tool("look_up", value=types)]
    wanted = as_python if IN_TAGS[name] else as_json
    for text in texts:
        ((_, arguments),) = read_reply([syntax.write(("look_up", {"value": text}))], syntax, tools)[2]
        value = json.loads(arguments)["value"]
        expected = text if wanted is str else float(text) if wanted is float else wanted
        assert (value, type(value)) == (expected, type(expected))
    for one in (None, True, False, 7, -2.5, 1e16, 2.5e-07, 100000.0, "a word"):
        call = ("look_up", {"value": one})
        written_so = written_of(name, call)
        assert syntax.write(call).strip() in written_so
        tools = [tool("look_up", value=["string", "number", "boolean", "null"])]
        assert parsed(read_reply([syntax.write(call)], syntax, tools)[2]) == [call]


def written_of(name: str, call: Call) -> str:
    text, _, _ = template(name).accepted([ASKED, turn([call]), result(0, call[0], "RESULT")], TOOLS)
    return text.replace(SEAM, "")


@every_family
@pytest.mark.parametrize("text", ["<|im_end|>", "a <", "<|", "it's <s>", r"a \ufdd0 b", "\\", "\\<|im_end|>"])
def test_what_was_called_with_is_in_the_prompt_as_it_was(name: str, text: str) -> None:
    """Marks in it, which are cut in two so that they stay text, are whole where people read them, also where a template
    has Python spell a list."""
    arguments = {"text": "x", "items": [text, 1, {text: text}]}
    message = turn([("look_up", arguments)])
    with_plain_text = turn([("look_up", {"text": "x", "items": ["TEXT", 1, {"TEXT": "TEXT"}]})])
    run = [message, result(0, "look_up", "RESULT")]
    prompt = template(name).prompt_text([ASKED, *run], TOOLS)
    plain = template(name).prompt_text([ASKED, with_plain_text, run[1]], TOOLS)
    spelled = {spell(text) for spell in (repr, json.dumps)}
    wanted = {plain.replace("'TEXT'", each).replace('"TEXT"', each) for each in spelled} | {plain.replace("TEXT", text)}
    assert prompt in wanted


@every_template
def test_thoughts_come_before_calls_and_are_no_part_of_them(name: str) -> None:
    if original(name) in NO_THOUGHTS:
        pytest.skip("the template has no thoughts")
    call = ("look_up", {"text": "A"})
    prompt, _, _ = template(name).accepted([ASKED], TOOLS)
    if prompt.rstrip().endswith("</think>"):
        pytest.skip("the prompt has ended the thoughts")
    begun = next((tag for tag in TABLE.thinking if prompt.rstrip().endswith(tag)), "")  # the reply goes on with it
    text = begun + written(name, turn([call], thought="I wonder: <tool_call>"))
    for pieces in (text, [text]):
        thinking, said, got = read(name, pieces)
        assert "I wonder" in thinking
        assert (said.strip(), parsed(got)) == ("", [call])


@every_family
def test_a_call_that_is_cut_off_is_none(name: str) -> None:
    """At no place does a part of a turn hold a call that the whole turn does not make."""
    calls: list[Call] = [("look_up", {"count": 123, "text": "some words"}), ("now", {})]
    calls = calls[:1] if original(name) in ONE_CALL else calls
    text = written(name, turn(calls))
    for length in range(len(text)):
        for number, (called, arguments) in enumerate(read(name, [text[:length]])[2]):
            assert called == calls[number][0]
            try:
                given = json.loads(arguments)
            except ValueError:
                continue  # an invalid call, which runs nothing
            assert given == calls[number][1]


def outputs(name: str) -> list[str]:
    """Short replies of many kinds: plain text, thoughts, one call and two, text around them, marks inside strings, and
    what is cut off."""
    thought = "" if original(name) in NO_THOUGHTS else "I wonder"
    made = turn([("look_up", {"text": "a b", "count": 3}), ("now", {})][: 1 if original(name) in ONE_CALL else 2])
    calls, thinking = written(name, made), written(name, {**made, "reasoning_content": thought} if thought else made)
    marks = {"text": "</tool_call> <|tool_call_end|> 'x' \"y\" {z}]) </parameter> <|call|>"}
    texts = [
        calls,
        thinking,
        f"Let me see.\n{calls}",
        f"{calls} Done.",
        calls[: len(calls) * 2 // 3],
        f"{calls}<|im_end|>",
    ]
    texts += [written(name, turn([("look_up", marks)])), calls.replace("look_up", "other_tool"), thinking[:40]]
    return [*texts, "The answer is `<tool_call>` and [x] {y}: 4.", 'It is 5 < 6 and {"a": [1]}.', '[4] is "it"']


@pytest.mark.slow
@every_family
def test_a_reply_is_read_the_same_wherever_its_pieces_are_cut(name: str) -> None:
    for text in outputs(name):
        thinking, said, got = read(name, [text])
        if "</think>" in text.partition("<think>")[0]:
            continue  # a thought that the prompt has opened comes before that is known
        for pieces in [text, *((text[:at], text[at:]) for at in range(1, len(text)))]:
            again = read(name, pieces)
            assert (again[0].strip(), again[1].strip(), values_of(again[2])) == (
                thinking.strip(),
                said.strip(),
                values_of(got),
            )


def values_of(calls: list[tuple[str, str]]) -> list[tuple[str, Any]]:
    """Calls with what their arguments say; text of those that are cut off."""
    values: list[tuple[str, Any]] = []
    for name, arguments in calls:
        try:
            values.append((name, json.loads(arguments)))
        except ValueError:
            values.append((name, arguments))
    return values


@every_family
@pytest.mark.parametrize("behind", ["", " and more"])
def test_a_value_that_holds_the_end_of_its_call_is_never_cut_there(name: str, behind: str) -> None:
    """Where such a value has no escapes the call has two readings: nothing is run."""
    end = template(name).call_syntax.write(("look_up", {"text": "a few"})).split("a few")[1]
    call = ("look_up", {"text": f"a few{end}{behind}"})
    text = template(name).call_syntax.write(call)
    for pieces in (text, [text]):
        for called, arguments in read(name, pieces)[2]:
            try:
                assert (called, json.loads(arguments)) == call
            except ValueError:
                continue  # an invalid call, which runs nothing


def closed_within(syntax: CallSyntax) -> str:
    """A call whose first value holds, as it is, what ends a list or string; its last is a number."""
    call = syntax.write(("look_up", {"text": "f(TEXT, see docs", "count": 3}))
    quote = "'" if "'f(" in call else '"'
    return call.replace("TEXT", f"{quote}x{quote}{syntax.closing}")


PYTHON = [name for name in NAMES if name in ("lfm2", *UNESCAPED, "lfm2_2_5_vl") or name not in TEXTS]


@pytest.mark.parametrize("name", PYTHON)
@pytest.mark.parametrize("last", ["3", "-2.5", "True", "None", "['a']", '{"a": "b"}'])
def test_a_list_of_calls_that_goes_on_behind_its_end_is_refused_whatever_its_last_argument_is(
    name: str, last: str
) -> None:
    """Read up to the first end it would be a call with half a text, and without the arguments behind it."""
    text = closed_within(template(name).call_syntax).replace("count=3", f"count={last}")
    for pieces in (text, [text]):
        for _, arguments in read(name, pieces)[2]:
            with pytest.raises(ValueError):
                json.loads(arguments)


@pytest.mark.parametrize("name", PYTHON)
@pytest.mark.parametrize("behind", [" Done: it is 'x', as f(count=3) says.", " (see [1])", ""])
def test_text_behind_a_list_of_calls_makes_it_no_other(name: str, behind: str) -> None:
    text = written(name, turn([("look_up", {"text": "x", "count": 3})])) + behind
    for pieces in (text, [text]):
        _, said, calls = read(name, pieces)
        assert (said.strip(), parsed(calls)) == (behind.strip(), [("look_up", {"text": "x", "count": 3})])


@every_family
@pytest.mark.parametrize("before", ["", "Let me do it.\n"])
def test_a_reply_that_is_cut_off_is_read_the_same_in_pieces_and_as_a_whole(name: str, before: str) -> None:
    calls: list[Call] = [("look_up", {"text": "a few", "count": 3}), ("now", {}), ("look_up", {"text": "b"})]
    text = before + template(name).call_syntax.write(*calls[: 1 if original(name) in ONE_CALL else 3])
    for end in range(1, len(text) + 1):
        whole = read(name, [text[:end]])
        for length in (1, 3):
            _, said, got = read(name, [text[at : min(end, at + length)] for at in range(0, end, length)])
            assert (said, got) == whole[1:]


@every_family
def test_a_call_that_the_end_of_a_reply_cuts_is_no_text(name: str) -> None:
    """Where its name has come it is a call that nothing can run: nobody is shown its marks."""
    syntax = template(name).call_syntax
    if not syntax.tokens:
        pytest.skip("the syntax has no token that ends a call")
    whole: Call = ("now", {})
    calls = [whole, ("look_up", {"text": "a few"})][1 if original(name) in ONE_CALL else 0 :]
    text = "Let me do it.\n" + syntax.write(*calls)
    for end in (text.index("a few"), text.index("a few") + 5):
        _, said, got = read(name, [text[:end]])
        assert said.strip() == "Let me do it."
        together = "now" in text and syntax.closing not in text[:end]  # they share the tokens that end them
        assert [called for called, _ in got] == [called for called, _ in calls][: 1 if together else 2]
        *before, (_, arguments) = got
        assert parsed(before) == calls[: len(before)]
        with pytest.raises(ValueError):
            json.loads(arguments)


CHANNELS = {
    "gptoss": ("<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>", "<|return|>"),
    "muse_glimmer": ("<|start|>", "<|message|>", "<|eom|>", "<|eot|>"),
}


def steered(model: Any, tokens: Sequence[int]) -> Any:
    """Make a model prefer these tokens in turn."""
    computed: list[int] = []

    def prefer(_module: Any, _inputs: Any, given: Any, output: Any) -> None:
        computed.append(given["input_ids"].shape[1])  # forced tokens come together
        output.logits[..., tokens[min(sum(computed[1:]), len(tokens) - 1)]] = 1e4

    return model.register_forward_hook(prefer, with_kwargs=True)


@pytest.mark.parametrize(
    ("name", "begun", "thought"),
    [
        ("gptoss", "<|channel|>analysis<|message|>hm<|end|><|start|>assistant", "hm"),
        ("gptoss", "to=user<|message|>", ""),
        ("gptoss", " to=self<|message|>", ""),
        ("muse_glimmer", " to=self<|message|>hm<|eom|><|start|>assistant", "hm"),
        ("muse_glimmer", "to=self<|message|>hm<|eom|><|start|>assistant", "hm"),
        ("muse_glimmer", "<|channel|>analysis<|message|>", ""),
    ],
)
def test_a_model_held_to_calls_is_offered_its_own_channels_and_no_others(name: str, begun: str, thought: str) -> None:
    if name not in TEXTS:
        pytest.skip("trl is not installed: pip install --no-deps trl")
    tokenizer = build_tokenizer()
    tokenizer.add_tokens([*CHANNELS[name]])
    tokenizer.chat_template = TEXTS[name]
    llm = HuggingFacePipeline(model=build_llama(tokenizer, max_position_embeddings=4096), tokenizer=tokenizer)
    call = llm.capabilities.call_syntax.write(("now", {}))
    steered(llm.model, [*tokenizer(begun + call, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id])
    options = {"max_new_tokens": 200, "do_sample": False}
    request = ChatRequest(messages=[ASKED], tools=[tool("now")], tool_choice="any", options=options)
    reply = "".join(chunk.text for chunk in llm.generate_chat(prepared(request, llm.capabilities)))
    assert reply.startswith(begun) is bool(thought)
    if thought:
        thinking, said, calls = read_reply([reply], llm.capabilities.call_syntax, [tool("now")])
        assert (thinking, said.strip(), parsed(calls)) == (thought, "", [("now", {})])


WRITES_ANOTHER_BEGINNING = ("diffusion_gemma",)  # of a turn than that which it has prompted for


@pytest.mark.slow
@every_family
def test_what_was_computed_of_a_run_is_computed_once(name: str) -> None:
    """The next prompt holds the very tokens of the turns before it."""
    if name in WRITES_ANOTHER_BEGINNING:
        pytest.skip("the template writes another turn than it has prompted for")
    tokenizer = build_tokenizer()
    tokenizer.chat_template = TEXTS[name]
    llm = HuggingFacePipeline(model=build_llama(tokenizer, max_position_embeddings=4096), tokenizer=tokenizer)
    thought = "" if name in NO_THOUGHTS else "I wonder"
    wanted: list[int] = []

    def prefer(_module: Any, _inputs: Any, output: Any) -> None:
        output.logits[..., wanted.pop(0)] = 1e4

    llm.model.register_forward_hook(prefer)
    messages: list[Message] = [ASKED]
    for number, text in enumerate(("Hello world", "B", "C")):
        reply = written(name, turn([("look_up", {"text": text, "count": 3})], thought=thought, first=number))
        wanted[:] = [*tokenizer(reply, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        computed = sum(len(entry.ids) for entry in llm.local.prefixes.entries)
        request = ChatRequest(messages=messages, tools=TOOLS, options={"max_new_tokens": 300, "do_sample": False})
        chunks = [*llm.generate_chat(request)]
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.cached_tokens == computed
        thinking, said, calls = read(name, ["".join(chunk.text for chunk in chunks)])
        made = turn(parsed(calls), content=said, thought=thinking, first=number)
        messages += [made, result(number, "look_up", "RESULT")]
