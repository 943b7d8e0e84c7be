"""Grammars of turns: whatever is sampled under them parses, and the copying form copies."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.models.builtin.copying import (
    NOT_FOUND,
    OUT_OF_REACH,
    answers,
    copying_grammar,
    expressions,
    numbers,
    queries,
    query_words,
    spans,
    written_numbers,
)  # fmt: skip
from agentkit.react_json.grammar import react_json_grammar
from agentkit.react_json.scratchpad import CLOSING_NOTE

from .conftest import TOOLS

RICH = (
    *TOOLS,
    ("book", {"type": "object", "properties": {"seats": {"type": "integer"}}, "required": ["seats"]}),
)
AUSTEN = "Who is the author of Pride and Prejudice?"
RESULTS = """1. Pride and Prejudice - Wikipedia
   https://en.wikipedia.org/wiki/Pride_and_Prejudice
   Pride and Prejudice is a novel by English author Jane Austen, published in 1813."""


def action(tool: str, tool_input: Any, thought: str = "I need to look up it") -> str:
    call = json.dumps({"action": tool, "action_input": tool_input}, ensure_ascii=False)
    return f"Thought: {thought}\nAction:\n```json\n{call}\n```"


def look_up(query: str) -> str:
    return action("Search", query, f"I need to look up {query}")


def calculate(expression: str) -> str:
    return action("Calculator", expression, f"I need to calculate {expression}")


def known(answer: str) -> str:
    return f"Thought: I now know the final answer\nFinal Answer: {answer}"


def copying(question: str, *observations: str) -> str:
    return copying_grammar(TOOLS, question, observations, thought_open=False)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (action("Search", "anything at all"), True),
        (action("Calculator", "25^0.43", "line one\nline two"), True),
        (action("book", {"seats": 2}), True),
        (action("book", {"seats": "two"}), False),
        (action("book", "two"), False),
        (action("Fly", "home"), False),
        (known("Jane Austen\nand nobody else"), True),
        ("Thought: x\nObservation: made up", False),
        (known("x\nObservation: made up"), False),
        (action("Search", "x").replace(": ", ":"), False),
        (action("Search", "x") + "\n" + action("Search", "y"), False),
        ("Thought: " + "la " * 5000, False),
    ],
)
def test_the_general_form(accepts: Callable[[str, str], bool], text: str, allowed: bool) -> None:
    assert accepts(react_json_grammar(RICH), text) is allowed


def test_a_thought_that_stands_open_in_the_prompt(accepts: Callable[[str, str], bool]) -> None:
    for make in (react_json_grammar, copying_grammar):
        grammar = make(TOOLS, AUSTEN, [], thought_open=True)
        turn = look_up("author of Pride and Prejudice").removeprefix("Thought:")
        assert accepts(grammar, turn)
        assert accepts(grammar, turn.removeprefix(" "))


@pytest.mark.parametrize(
    ("text", "sources", "allowed"),
    [
        (look_up("author of Pride and Prejudice"), [AUSTEN], True),
        (look_up("Jane Austen author"), [AUSTEN], False),
        (look_up("Jane Austen author"), [AUSTEN, RESULTS], True),
        (look_up("age"), [AUSTEN], False),
        (look_up("Ann Lee age"), ["Who is older, Ann Lee or Bo Ek?"], True),
        (calculate("25^0.43"), ["What is 25 raised to the 0.43 power?"], True),
        (calculate("26^0.43"), ["What is 25 raised to the 0.43 power?"], False),
        (calculate("sqrt(1200)/3"), ["the root of 1,200, by three"], True),
        (calculate("2*(3+4)^2"), ["2*(3+4)^2"], True),
        (calculate("12*" * 40 + "12"), ["12"], False),
        (known("Jane Austen"), [AUSTEN, RESULTS], True),
        (known("Jane Austen, 1813"), ["Who wrote it and when?", RESULTS], True),
        (known("1813"), [AUSTEN, RESULTS], False),
        (known("Emily Bronte"), [AUSTEN, RESULTS], False),
        (known("Prejudice"), [AUSTEN, RESULTS], False),
        (known("Jane Austen"), [AUSTEN], False),
        (known("Mexico City"), ["capital of Mexico?", "Mexico City is it."], True),
        (known("3.991298452658078"), ["q", "Answer: 3.991298452658078"], True),
        (known("3.9912984526"), ["q", "Answer: 3.991298452658078"], False),
        (known("No good"), ["q", "No good search result found"], False),
        (known("invalid"), ["q", "Error: invalid expression"], False),
        (f"Thought: I cannot do that with my tools\nFinal Answer: {OUT_OF_REACH}", ["Hello"], True),
        (f"Thought: The search gave no answer\nFinal Answer: {NOT_FOUND}", ["q", "No good search result found"], True),
        (f"Thought: The search gave no answer\nFinal Answer: {NOT_FOUND}", ["q"], False),
        (look_up("cats"), ["cats?", *["No good search result found"] * 3], False),
    ],
)
def test_the_copying_form(accepts: Callable[[str, str], bool], text: str, sources: list[str], allowed: bool) -> None:
    assert accepts(copying(*sources), text) is allowed


@pytest.mark.parametrize(
    "source", ["", " ", "\n", '"', "\\", "/", "a/b\\c", "[x](y)", "{}", "×÷√", "e\u0301", "a-b&c~d#e", "$1.50"]
)
def test_any_text_makes_a_valid_grammar(matcher: Callable[[str], Any], source: str) -> None:
    matcher(copying(source, source))
    matcher(copying(source))


@pytest.mark.parametrize("seed", range(6))
def test_whatever_is_sampled_copies(matcher: Callable[[str], Any], tokenizer: Any, seed: int) -> None:
    """A blind model under the grammar ends every turn, and its turn is well formed and copied."""
    rng = random.Random(seed)
    sources = ["What is 12% of the height of Mount Osk in metres?", "Mount Osk is 3,412 m high.", "Answer: 409.44"][
        : 1 + seed % 3
    ]
    held = matcher(copying(*sources))
    written: list[int] = []
    while not held.is_stopped() and len(written) < 3000:
        mask = held.compute_bitmask()
        allowed = [i for i in range(len(tokenizer)) if mask[i // 8] >> (i % 8) & 1]
        token = rng.choice(allowed)
        held.consume_token(token)
        if token != tokenizer.eos_token_id:
            written.append(token)
    assert held.is_stopped()
    text = tokenizer.decode(written)
    match = re.fullmatch(r"Thought: .*\nAction:\n```json\n(.*)\n```", text)
    if match:
        call = json.loads(match[1])
        assert call["action"] in ("Search", "Calculator")
        assert isinstance(call["action_input"], str)
    else:
        assert re.fullmatch(r"Thought: .*\nFinal Answer: .+", text)


def test_written_numbers() -> None:
    assert {"1200", "0.43", "25", "12", "312", "45000"} <= {
        *written_numbers("1,200, 0.43, twenty-five, a dozen, three hundred and twelve, forty-five thousand")
    }


@pytest.mark.parametrize(
    ("question", "expression"),
    [
        ("What is 2+2?", "2+2"),
        ("\U0001f642\U0001f642 ما هو 2+2؟", "2+2"),
        ("Сколько будет 12 × 3?", "12*3"),
        ("What is\x1b[31m 2+2\x07?", "2+2"),
        ("\x1b]0;99\x07What is 3*3?", "3*3"),
        ("Hey, 53x75!", "53*75"),
        ("What is 1e3 * 2?", "1e3*2"),
        ("1,200 ÷ (4 - 1) =", "1200/(4-1)"),
        ("What is 2+2 squared?", "2^2+2"),
        ("What is 2 plus 2?", "2+2"),
        ("three plus four", "3+4"),
        ("the square root of 16", "sqrt(16)"),
        ("What is \N{RIGHT SINGLE QUOTATION MARK}5 + 3\N{RIGHT SINGLE QUOTATION MARK}?", "5+3"),
    ],
)
def test_what_is_to_be_calculated(accepts: Callable[[str, str], bool], question: str, expression: str) -> None:
    assert accepts(copying(question), calculate(expression))


@pytest.mark.parametrize("question", ["What is 2+2?", "ما هو 2+2؟", "What is\x1b[31m 2+2?", "So, 2+2"])
def test_a_calculation_that_is_typed_is_the_one_that_is_made(
    accepts: Callable[[str, str], bool], question: str
) -> None:
    assert not any(accepts(copying(question), calculate(other)) for other in ("2", "2*2", "2+2+2", "31"))
    assert not accepts(copying(question, "Answer: 4"), calculate("2+2"))
    assert accepts(copying(question, "Answer: 4"), known("4"))


@pytest.mark.parametrize(
    "question",
    [
        *("", "x", "x" * 900, "hello", "שלום", "7", "12", "$$$$", "<b>5</b>", "foo 12 bar 7 baz", "1234567890123"),
        *("ما هو ٢+٢؟", "What is ٢+٢?", "2加2等于多少?", "What is ½ + ½?", "What is 2 ➕ 2?", "¿Cuánto es 2 más 2?"),
        *("What is 5 apples?", "5 plus", "Write a poem of 3 lines", "Tell me a number between 1 and 10"),
        *("\x1b[1;31mhello\x1b[0m", "Calculate 3,5 * 2", "What is 1 000 000 / 4?", "What is 2024-05-01?", "0x10 + 1"),
        *("' OR 1=1 --", "2+2i", "5 + 3kg"),
    ],
)
def test_no_number_comes_from_nowhere(accepts: Callable[[str, str], bool], question: str) -> None:
    """Of what the model was not trained for it says that it cannot do it."""
    assert expressions(question, []) == ""
    assert accepts(copying(question), f"Thought: I cannot do that with my tools\nFinal Answer: {OUT_OF_REACH}")


@pytest.mark.parametrize("text", [" " * 20_000, "1" * 20_000, "," * 20_000, "1 " * 10_000, "1-" * 10_000, "(" * 20_000])
def test_a_long_question_is_read_in_time(text: str) -> None:
    started_s = time.process_time()
    expressions(f"What is {text}?", [])
    assert time.process_time() - started_s < 2


def test_query_words() -> None:
    assert query_words('Who is "J. Doe" (Leo\'s friend)?') == [
        "",
        "Who",
        "is",
        "",
        "J.",
        "Doe",
        "",
        "",
        "Leo's",
        "friend",
        "",
    ]


def test_expressions_match_what_they_should() -> None:
    assert re.fullmatch(queries("the wife of Leo's son", []), "wife of Leo")
    assert re.fullmatch(numbers(["1,200"]), "1200")
    assert not re.fullmatch(numbers(["1,200"]), "1201")
    assert re.fullmatch(spans("born 12 March 1823 in Hull. Dead."), "12 March 1823")
    assert not re.fullmatch(spans("born 12 March 1823 in Hull. Dead."), "Hull. Dead")
    assert answers("q", []) == ""


def test_the_note_of_a_closing_turn_is_no_answer(accepts: Callable[[str, str], bool]) -> None:
    grammar = copying("What is 12 times 12?", f"Answer: 144{CLOSING_NOTE}")
    assert accepts(grammar, known("144"))
    assert not accepts(grammar, known(f"144{CLOSING_NOTE}"))
    assert not accepts(grammar, known("No more actions are possible"))
