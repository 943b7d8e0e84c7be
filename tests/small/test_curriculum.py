"""The conversations that `small` learns from: deterministic, as the product sends them, every word from somewhere."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from langchain_core.language_models import FakeListChatModel

from agentkit import AgentExecutor
from agentkit.events import Action, FinalAnswer
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.grounding import ungrounded
from agentkit.react_json.parser import parse_turn
from agentkit.tool import misfit
from small_model.curriculum import Kit, companions, dialogues
from small_model.dialogue import Dialogue
from small_model.errands import errand, read_kind, skinned
from small_model.evaluate import answer_case
from small_model.imagined import imagined
from small_model.quiz import counts, load_questions, run_all

from .wordings import could_be_generated

QUESTIONS = Path(__file__).parent / "questions.jsonl"
PLAIN = QUESTIONS.with_name("plain.jsonl")
FIXED = ("talk", "fact", "scope", "foreign", "unread", "missing")  # kinds whose answers are no tool's words


@pytest.fixture(scope="module")
def sample() -> list[Dialogue]:
    return list(itertools.islice(dialogues(21), 250))


def test_the_same_seed_gives_the_same_conversations() -> None:
    first, again, other = ([each.segments() for each in itertools.islice(dialogues(seed), 25)] for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_every_turn_is_read_as_what_it_means(sample: list[Dialogue]) -> None:
    for each in sample:
        schemas = {tool.name: tool.schema for tool in each.tools}
        turns = [step for step in each.steps if step.learned]
        for step in turns:
            decision = parse_turn(step.turn, schemas).decision
            assert isinstance(decision, Action)
            assert (decision.tool, decision.tool_input) == (step.tool, step.tool_input)
        decision = parse_turn(each.last_turn, schemas).decision
        assert isinstance(decision, FinalAnswer)
        assert decision.output == each.answer


def test_native_calls_are_read_as_what_they_mean(sample: list[Dialogue]) -> None:
    for each in sample:
        native = replace(each, form="native", steps=tuple(step for step in each.steps if step.learned and not step.raw))
        written = [message["content"] for message, learned in native.messages() if learned]
        names = {re.sub(r"[^A-Za-z0-9_-]", "_", tool.name): tool for tool in each.tools}
        for step, text in zip(native.steps, written[:-1], strict=True):
            decision = parse_turn(text, {name: tool.schema for name, tool in names.items()}).decision
            assert isinstance(decision, Action)
            assert names[decision.tool].name == step.tool
            given = decision.tool_input
            assert step.tool_input in (given, next(iter(given.values())) if isinstance(given, dict) and given else None)


def test_every_call_fits_its_tools_schema(sample: list[Dialogue]) -> None:
    for each in sample:
        tools = {tool.name: tool for tool in each.tools}
        assert len(tools) == len(each.tools)
        for step in each.steps:
            if step.learned:
                assert isinstance(step.tool_input, str) == tools[step.tool].takes_one_string
                assert misfit(step.tool_input, tools[step.tool].schema) is None


def _seen(each: Dialogue, count: int | None = None) -> str:
    past = [text for pair in each.history for text in pair]
    return "\n".join([*past, each.question, *(step.observation for step in each.steps[:count])])


def test_every_answer_stands_in_what_was_seen(sample: list[Dialogue]) -> None:
    for each in sample:
        if each.kind not in FIXED:
            assert not ungrounded(each.answer, each.question, [_seen(each)]), (each.question, each.answer)


def test_every_word_of_a_query_and_every_argument_was_seen(sample: list[Dialogue]) -> None:
    for each in sample:
        for place, step in enumerate(each.steps):
            if not step.learned or each.kind == "compare":  # "how many people larger" asks for the population
                continue
            seen = _seen(each, place).casefold()
            for text in _texts(step.tool_input):
                words = re.findall(r"[^\W\d_]{4,}", text.casefold())
                loose = [word for word in words if word not in seen and word not in ("sqrt",)]
                assert len(loose) <= _chosen(each, step.tool), (each.question, text, loose)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _texts(part)


def _chosen(each: Dialogue, name: str) -> int:
    """How many words a schema may give: values to choose from."""
    (tool,) = (tool for tool in each.tools if tool.name == name)
    return json.dumps(dict(tool.schema)).count('"enum"')


def test_numbers_of_an_expression_were_seen_or_are_small(sample: list[Dialogue]) -> None:
    for each in sample:
        if each.kind in ("calculator", "compare", "follow") or any(step.raw for step in each.steps):
            continue
        for place, step in enumerate(each.steps):
            (expression, *_) = [*_texts(step.tool_input), ""]
            if not step.thought.casefold().startswith(("i need to calc", "last i need to calc")) or not step.learned:
                continue
            seen = re.sub(r"(?<=\d)[, '](?=\d{3})", "", _seen(each, place))
            for number in re.findall(r"\d{3,}(?:\.\d+)?", expression):
                assert number in seen or number in ("100", "365", "1000"), (each.question, expression)


@pytest.mark.slow
def test_the_messages_are_those_the_product_sends() -> None:
    """A generated conversation, run through the product's own loop with a scripted model and scripted tools."""
    tried = 0
    for each in itertools.islice(dialogues(22), 120):
        if each.form != "react" or any(step.raw or not step.learned for step in each.steps):
            continue
        seen = [step.observation for step in each.steps]
        pending = iter(seen)
        tools = [replace(tool, run=lambda _: next(pending)) for tool in each.tools]  # noqa: B023
        model = ScriptedBackend([*(step.turn for step in each.steps), each.last_turn])
        history = [message for pair in each.history for message in zip(("user", "assistant"), pair, strict=True)]
        executor = AgentExecutor.from_model(model, tools, must_be_grounded=False, max_repeats=9, mode="react-json")
        assert executor.invoke({"input": each.question, "chat_history": history})["output"] == each.answer
        sent = [(message["role"], message["content"]) for message in model.requests[-1].messages]
        assert sent == [(message["role"], message["content"]) for message, _ in each.messages()][:-1]
        tried += 1
    assert tried > 60


@pytest.mark.slow
def test_the_kinds_have_their_weight() -> None:
    kinds = Counter(each.kind for each in itertools.islice(dialogues(23), 1500))
    steps = Counter(len(each.steps) for each in itertools.islice(dialogues(23), 1500))
    assert kinds["two"] + kinds["three"] + kinds["four"] + kinds["compare"] > 500
    assert steps[4] > 30
    assert all(kinds[kind] for kind in (*FIXED, "typed", "follow", "search", "calculator"))


def test_tools_have_any_name_and_number() -> None:
    names, sizes = set[str](), set[int]()
    for seed in range(200):
        kit = Kit(Random(seed))
        names |= {kit.search.tool.name, kit.calculator.tool.name}
    for each in itertools.islice(dialogues(24), 150):
        sizes.add(len(each.tools))
    assert len(names) > 80
    assert {1, 2, 3, 4} <= sizes


def test_companions_have_the_same_tools_and_begin_alike() -> None:
    random, kinds = Random(5), Counter[str]()
    for _ in range(25):
        made = companions(random, 4)
        kinds.update(each.kind for each in made)
        assert all(each.tools == made[0].tools for each in made)
        starts = {each.segments()[1][0] for each in made if each.form == made[0].form}
        assert len(starts) == 1
    assert len(kinds) > 6
    assert kinds.total() > 90


def test_a_flag_is_true_where_the_question_names_it() -> None:
    spoken = 0
    for seed in range(400):
        random = Random(seed)
        kind = read_kind(imagined(random))
        flags = [argument.key for argument in kind.arguments if argument.type == "boolean"]
        skin = skinned(random, kind)
        made = errand(random, skin)
        for flag in flags:
            assert made.arguments[skin.names[flag]] is (f" {flag} " in made.question), made
            spoken += f" {flag} " in made.question
    assert spoken > 10


# -- the questions by hand ---------------------------------------------------------------------------------------------


def test_there_are_300_questions_half_held_back() -> None:
    cases = load_questions(QUESTIONS)
    kinds = Counter(case["kind"] for case in cases)
    assert len(cases) == 300
    assert {"calculator", "search", "two", "three", "typed", "refusal"} == set(kinds)
    assert sum(bool(case.get("held_back")) for case in cases) in (149, 150)
    assert len({case["question"] for case in cases}) == 300


@pytest.mark.slow
def test_no_question_is_worded_as_a_template_unless_it_says_so() -> None:
    cases = load_questions(QUESTIONS)
    for case in cases:
        assert could_be_generated(case["question"]) == (case.get("wording") == "everyday"), case["question"]
    assert sum("wording" in case for case in cases) < 45


def test_no_question_is_generated(sample: list[Dialogue]) -> None:
    assert not {case["question"] for case in load_questions(QUESTIONS)} & {each.question for each in sample}


def test_a_question_without_tools_is_plain_chat() -> None:
    paris, berlin = (FakeListChatModel(responses=[f"It is {city}, of course."]) for city in ("Paris", "Berlin"))
    cases = load_questions(PLAIN)
    assert sum(bool(case.get("held_back")) for case in cases) * 2 == len(cases)
    assert all(case["tools"] == [] for case in cases)
    assert [answer_case(model, cases[0]).right for model in (paris, berlin)] == [True, False]


def _turns(case: dict[str, Any]) -> list[str]:
    """What a model that is right would say: every scripted result asked for, then the answer."""
    answers = case["answer"] if isinstance(case["answer"], list) else [case["answer"]]
    if case.get("refuses"):
        return ["Thought: I have no tool for this\nFinal Answer: I cannot do that: none of my tools can."]
    first = lambda value: value["any"][0] if isinstance(value, dict) else value  # noqa: E731
    calls: list[tuple[str, Any]] = [
        (name, {key: first(value) for key, value in arguments.items()}) for name, arguments in case.get("calls", ())
    ]
    turns = [json.dumps({"action": name, "action_input": given}) for name, given in calls]
    last = f"Final Answer: {', '.join(str(each) for each in answers if each is not None) or 'Done.'}"
    return [*(f"Thought: first\nAction:\n```json\n{turn}\n```" for turn in turns), f"Thought: I know\n{last}"]


def test_right_turns_are_counted_as_right_and_others_are_not() -> None:
    cases = load_questions(QUESTIONS)
    turns = [iter(_turns(case)) for case in cases]
    by_question = {case["question"]: turn for case, turn in zip(cases, turns, strict=True)}

    def complete(prompts: list[str]) -> list[str]:
        return [
            next(by_question[next(q for q in by_question if f"user\n{q}<|im_end|>" in prompt)]) for prompt in prompts
        ]

    found = counts(run_all(cases, complete))
    assert all(right == total for right, total in found["right"].values())
    assert found["malformed"] == found["unanswered"] == 0
    wrong = counts(run_all(cases, lambda prompts: ["Thought: x\nFinal Answer: Mumble"] * len(prompts)))
    assert not any(right for right, _ in wrong["right"].values())
    broken = counts(run_all(cases[:5], lambda prompts: ["mumble"] * len(prompts)))
    assert broken["malformed"] == 35
