"""Grammars of turns: whatever is sampled under them parses, and the copying form copies."""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Callable
from typing import Any

import pytest

from agentkit.events import Action, Step
from agentkit.models.builtin.copying import (
    NOT_FOUND,
    OUT_OF_REACH,
    UNREADABLE,
    answers,
    copying_grammar,
    expressions,
    queries,
    query_words,
    spans,
)  # fmt: skip
from agentkit.models.builtin.reading import is_readable, question_numbers, role_of, text_numbers
from agentkit.models.local.backend import actions_grammar
from agentkit.react_json.grammar import react_json_grammar
from agentkit.react_json.scratchpad import CLOSING_NOTE
from agentkit.tool import Tool

from .conftest import TOOLS, steps_of

RICH = (
    *((tool.name, tool.schema) for tool in TOOLS),
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
    return copying_grammar(TOOLS, question, steps_of(*observations), thought_open=False)


def after(question: str, expression: str, result: str) -> str:
    """The grammar of the turn after one calculation."""
    return copying_grammar(TOOLS, question, [Step(Action("Calculator", expression), result)], thought_open=False)


@pytest.mark.parametrize(
    ("text", "allowed"),
    [
        (action("Search", "anything at all"), True),
        (action("Calculator", "25^0.43", "line one\nline two"), False),
        (action("Calculator", ""), False),
        (action("Calculator", " "), False),
        (known("a < b, [1, 2] and {3}"), True),
        (known("one\n\n- two\n- three"), True),
        (known("one\nAction films"), True),
        (known("one\nAction: two"), False),
        (known("one\n**Final Answer:** two"), False),
        (known("one\n- Aktion : two"), False),
        (known("Thought: one"), False),
        (known("one\n```python\ntwo"), False),
        (known("one <tool_call>"), False),
        (known("one\nfunctools[two"), False),
        (action("Search", "x", "I think <tool_call>"), False),
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


def test_an_answer_has_no_more_lines_than_it_may(accepts: Callable[[str, str], bool]) -> None:
    lines = [known("\n".join(["Jane Austen"] * count)) for count in range(1, 4)]
    for most in (1, 2):
        grammar = react_json_grammar(RICH, answer_lines=most)
        assert [accepts(grammar, text) for text in lines] == [count <= most for count in range(1, 4)]


def test_a_thought_that_stands_open_in_the_prompt(accepts: Callable[[str, str], bool]) -> None:
    for grammar in (
        react_json_grammar(RICH, thought_open=True),
        copying_grammar(TOOLS, AUSTEN, [], thought_open=True),
    ):
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
        (known("3.991298452658078"), ["Who is it?", "Answer: 3.991298452658078"], True),
        (known("3.9912984526"), ["Who is it?", "Answer: 3.991298452658078"], False),
        (known("No good"), ["Who is it?", "No good search result found"], False),
        (known("invalid"), ["Who is it?", "Error: invalid expression"], False),
        (f"Thought: I cannot do that with my tools\nFinal Answer: {OUT_OF_REACH}", ["Hello"], True),
        (
            f"Thought: The search gave no answer\nFinal Answer: {NOT_FOUND}",
            ["Who is it?", "No good search result found"],
            True,
        ),
        (f"Thought: The search gave no answer\nFinal Answer: {NOT_FOUND}", ["Who is it?"], False),
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


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1,200, 0.43, $5, (12%) and -3.", ["1200", "0.43", "5", "12", "-3"]),
        ("twenty-five, a dozen, three hundred and twelve, forty-five thousand", ["25", "12", "312", "45000"]),
        ("3 million and 1.5 billion people", ["3000000", "1500000000"]),
        ("2 to the 3rd power is 1e3", ["2", "3", "1000"]),
        *(
            (text, [])
            for text in (
                *(
                    "3,5",
                    "1 000 000",
                    "1\xa0000",
                    "1.234,56",
                    "12:30",
                    "2024-05-01",
                    "10–20",
                    "555-1234",
                    "v2.3",
                    "5kg",
                    "½",
                ),
                *(
                    "0x1F",
                    "007",
                    "B2B",
                    "x900",
                    "1'000",
                    "1_000",
                    "٣",
                    "１２",
                    "1\u200b000",
                    "3;4",
                    "#5",
                    "~5",
                    "5²",
                    "1/2/3",
                ),
                *("the 16th", "in the 1990s", "192.168.0.1", "+49 30 1234567", "5'10"),
            )
        ),
    ],
)
def test_a_number_is_read_whole_or_not_at_all(text: str, numbers: list[str]) -> None:
    assert [f"{float(one):g}" for one in text_numbers(text)] == [f"{float(one):g}" for one in numbers]


@pytest.mark.parametrize(
    ("question", "numbers"),
    [
        ("What is 12 times 7?", ["12", "7"]),
        ("What is 10-20?", ["10", "20"]),
        ("Add 5, 6 and seven", ["5", "6", "7"]),
        ("22.3 ** 4 = ?", ["22.3", "4"]),
        *(
            (question, None)
            for question in (
                *("Read pages 10-20", "Call 555-1234", "What is 12/03/2024?", "Days from 3 May to 9 May?", "5! + 3"),
                *("What is |3-10|?", "12 % 5", "17 mod 5", "7 choose 2", "5 kg plus 300 g", "3 hours plus 20 minutes"),
                *("What is 12 - 05 - 2024 plus 1?", "1 2 3 plus 4", "3. 5 * 2", "2(3+4)", "12\n34 plus 5"),
            )
        ),
    ],
)
def test_a_question_with_a_number_that_is_none_has_none(question: str, numbers: list[str] | None) -> None:
    if numbers is None:
        assert expressions(question, []) == ""
    else:
        assert question_numbers(question) == numbers


@pytest.mark.parametrize(
    ("observation", "whole", "part"),
    [
        ("It has 1 000 000 inhabitants.", "1 000 000", "000"),
        ("It opened at 12:30 sharp.", "12:30", "12"),
        ("It costs 1.234,56 in all.", "1.234,56", "56"),
        ("It was 35 million then.", "35 million", "35"),
        ("She lived 1775–1817 there.", "1775–1817", "1817"),
        ("Its name is x900 there.", "x900", "900"),
        ("It fell by -3 degrees.", "-3", "3"),
        ("It has twenty five rooms.", "twenty five", "five"),
    ],
)
def test_a_number_is_copied_whole_or_not_at_all(
    accepts: Callable[[str, str], bool], observation: str, whole: str, part: str
) -> None:
    grammar = copying("What is known of Osterland?", observation)
    assert accepts(grammar, known(whole))
    assert not accepts(grammar, known(part))
    assert not accepts(grammar, look_up(part))


@pytest.mark.parametrize(
    ("question", "expression", "result", "answered"),
    [
        ("Add 5, 6 and 7", "5+6+7", "Answer: 18", True),
        ("Add 5, 6 and 7", "5+6", "Answer: 11", False),
        ("What is 12 times 7 in 1999?", "12*7", "Answer: 84", False),
    ],
)
def test_an_answer_takes_all_numbers_of_the_question(
    accepts: Callable[[str, str], bool], question: str, expression: str, result: str, answered: bool
) -> None:
    assert accepts(after(question, expression, result), known(result.removeprefix("Answer: "))) is answered


@pytest.mark.parametrize(
    ("question", "right", "wrong"),
    [
        ("What is 12 divided by 4?", "12/4", "4/12"),
        ("Subtract 5 from 12", "12-5", "5-12"),
        ("What is the difference between 387 and 912?", "912-387", "387-912"),
        ("What is the product of 3 and 4?", "3*4", "3+4"),
        ("what is fifteen times six", "15*6", "15*15"),
        ("What is -3 times 4?", "-3*4", "3*4"),
        ("79×(460**3)", "79*(460^3)", "79*(460*3)"),
        ("Solve (6-sqrt(264))^2 · 3", "(6-sqrt(264))^2*3", "(6-264)^2*3"),
        ("What is 2xexp(3)?", "2*exp(3)", "2*3"),
        ("If I have 3 apples and eat 1, how many are left?", "3-1", "3*1"),
        ("What is 20% off 50?", "50*(1-20/100)", "20/50*50"),
        ("What is log 100?", "log(100)", "100/100"),
        ("How many seconds are in 3 hours?", "3*3600", "3*60"),
        ("What remains when 100 is divided by 7?", "100 mod 7", "100/7"),
        ("If 30 sweets are shared among 4 children, how many are left over?", "30 mod 4", "30-4"),
        ("How often does 7 go into 91?", "91/7", "7/91"),
        ("24 euros for 6 pens. How much is that apiece?", "24/6", "24*6"),
        ("6 pens at 4 euros apiece. How much is that?", "6*4", "6+4"),
        ("The price of 60 euros rises by 5. How much is it?", "60+5", "60-5"),
    ],
)
def test_the_operation_is_the_one_that_is_asked_for(
    accepts: Callable[[str, str], bool], question: str, right: str, wrong: str
) -> None:
    assert accepts(copying(question), calculate(right))
    assert not accepts(copying(question), calculate(wrong))


@pytest.mark.parametrize(
    "question",
    [
        *("Who is Łukasz Fabiański's wife?", "What is the population of São Paulo?", "Where was Müller born?"),
        *("Who wrote Cien años de soledad?", "add 3 and 4", "2+2", "three plus four", "capital of Norway", "53x75!"),
        *(
            "Quick question: (85 × 1 × 12) - 10",
            "Try to find Zoe's age.",
            "I am looking for Kern's author.",
            "80² =",
        ),
    ],
)
def test_plain_english_is_read(question: str) -> None:
    assert is_readable(question)


@pytest.mark.parametrize(
    "question",
    [
        *(
            "",
            " ",
            "?!",
            "🙂",
            "What is 2+2 🙂",
            "x" * 900,
            "what is " * 200,
            "\x1b[31m2+2",
            "ما هو 2+2؟",
            "Сколько будет 2+2?",
        ),
        *("Wie viel ist 12 mal 3?", "Was ist die Hauptstadt von Norwegen?", "Quelle est la capitale de la France?"),
        *("Cuanto es 12 mas 3", "Vad är 12 plus 3?", "Mikä on Norjan pääkaupunki?", "SGVsbG8gd29ybGQgMTIgKyA3"),
        *("Whаt is 12 plus 3?", "qwe rty 12 uio 7", "１２＋３", "1\u200b2 + 3"),
    ],
)
def test_anything_else_is_not(question: str) -> None:
    assert not is_readable(question)


ONE_TEXT = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
LIMITED = {"type": "object", "properties": {"q": {"type": "string"}, "limit": {"type": "integer"}}, "required": ["q"]}
TWO_TEXTS = {"type": "object", "properties": {key: {"type": "string"} for key in "ab"}, "required": ["a", "b"]}


@pytest.mark.parametrize(
    ("name", "description", "schema", "role"),
    [
        ("search", "", ONE_TEXT, "Search"),
        ("web", "Search the web.", LIMITED, "Search"),
        ("look_up", "Find facts.", ONE_TEXT, "Search"),
        ("DuckDuckGoSearchRun", "", ONE_TEXT, "Search"),
        ("wikipedia-api", "", ONE_TEXT, "Search"),
        ("facts", "Answers questions.", ONE_TEXT, "Search"),
        ("calc", "", ONE_TEXT, "Calculator"),
        ("evaluate", "Evaluate a formula.", ONE_TEXT, "Calculator"),
        ("llm-math", "", ONE_TEXT, "Calculator"),
        ("do_it", "Does arithmetic.", ONE_TEXT, "Calculator"),
        ("weather", "Weather of a city, from the web.", ONE_TEXT, ""),
        ("send_email", "Send an e-mail.", ONE_TEXT, ""),
        ("search_flights", "Search flights.", ONE_TEXT, ""),
        ("calculate_tax", "Calculates taxes.", ONE_TEXT, ""),
        ("evaluate", "Evaluate a model.", ONE_TEXT, ""),
        ("python_repl", "Evaluates expressions.", ONE_TEXT, ""),
        ("search", "", TWO_TEXTS, ""),
        ("search", "", {"type": "object", "properties": {"n": {"type": "integer"}}}, ""),
    ],
)
def test_the_role_of_a_tool(name: str, description: str, schema: dict[str, Any], role: str) -> None:
    assert role_of(Tool(name=name, description=description, schema=schema, run=str)) == role


@pytest.mark.parametrize(
    ("question", "expression"),
    [
        ("What is 2+2?", "2+2"),
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


@pytest.mark.parametrize(
    "question",
    [
        *("Which is bigger, 9.11 or 9.9?", "A train travels 60 km in 2 hours. How fast is it?", "What is $5 + €3?"),
        *("What is sin 30 degrees?", "What is the larger of 5 and 9?"),
    ],
)
def test_without_a_word_for_an_operation_nothing_is_calculated(question: str) -> None:
    assert expressions(question, []) == ""


@pytest.mark.parametrize(
    ("expression", "answered"), [("6650-6400", True), ("6650-6650", False), ("6400-6400", False), ("6650-330", False)]
)
def test_an_answer_takes_what_both_searches_found(
    accepts: Callable[[str, str], bool], expression: str, answered: bool
) -> None:
    taken = [
        (Action("Search", "Nile length"), "The Nile is 6,650 km long."),
        (Action("Search", "Amazon length"), "The Amazon is 6,400 km long."),
        (Action("Calculator", expression), "Answer: 250"),
    ]
    question = "How much longer is the Nile than the Amazon?"
    grammar = copying_grammar(TOOLS, question, [Step(*step) for step in taken], thought_open=False)
    assert accepts(grammar, known("250")) is answered


@pytest.mark.parametrize(
    ("question", "observation", "asked", "beside"),
    [
        (
            "What is the capital of Norland?",
            "Its capital is Brevik and its largest city is Osterham.",
            "Brevik",
            "Osterham",
        ),
        (
            "What is the area of Ost?",
            "Ost is a town. Population: 42,150. Area: 88 square km.",
            "88 square km",
            "42,150",
        ),
        ("When was the Ost Bridge opened?", "Work began in 1921 and it was opened in 1926.", "1926", "1921"),
        ("How tall is Mount Ost?", "First climbed: 1901; height: 3,412 metres", "3,412 metres", "1901"),
        (
            "How high is the tallest tower?",
            "The tallest tower is Ost. It is 212 metres high. Cost: 90 euros.",
            "212",
            "90",
        ),
    ],
)
def test_of_labelled_values_the_one_that_is_asked_for_is_taken(
    accepts: Callable[[str, str], bool], question: str, observation: str, asked: str, beside: str
) -> None:
    assert accepts(copying(question, observation), known(asked))
    assert not accepts(copying(question, observation), known(beside))


def test_a_calculation_takes_the_value_that_is_asked_for(accepts: Callable[[str, str], bool]) -> None:
    grammar = copying("What is twice the length of the Ost Tunnel?", "Ost Tunnel. Length: 2.8 km. Opened: 1898.")
    assert accepts(grammar, calculate("2*2.8"))
    assert not accepts(grammar, calculate("2*1898"))


@pytest.mark.parametrize(
    ("question", "expression", "answered"),
    [
        ("What is 502 more than a tenth of sixty?", "60/10+502", True),
        ("What is 502 more than a tenth of sixty?", "60+502", False),
        ("What is three fifths of 20?", "3/20", False),
        ("What is twice the sum of 7 and 8?", "7+8", False),
        ("What is 20 percent more than 50?", "50+20", False),
        ("What is 20 percent more than 50?", "50*(1+20/100)", True),
        ("What is 20 percent of 50?", "20%*50", True),
    ],
)
def test_an_answer_needs_the_calculation_that_words_ask_for(
    accepts: Callable[[str, str], bool], question: str, expression: str, answered: bool
) -> None:
    assert accepts(after(question, expression, "Answer: 9"), known("9")) is answered


@pytest.mark.parametrize(
    ("question", "observation", "found"),
    [
        ("How many years after 1898 did the Ost Bridge open?", "Opened: 1926.", "1926"),
        ("How much longer is the Ost than the West?", "The Ost is 300 km long.", "300"),
        ("What is a third of the height of Mount Ost?", "Height: 3,412 metres.", "3,412"),
    ],
)
def test_what_was_found_is_no_answer_where_something_is_to_be_calculated(
    accepts: Callable[[str, str], bool], question: str, observation: str, found: str
) -> None:
    looked_up = [Step(Action("Search", question), observation)]
    assert not accepts(copying_grammar(TOOLS, question, looked_up, thought_open=False), known(found))


@pytest.mark.parametrize(
    ("question", "declined"),
    [
        ("Send an email to Peter with the result of 5 + 5.", True),
        ("Calculate 5 + 5 and email it to Peter", True),
        ("Could you book a table for 5 plus 2 people?", True),
        ("What is 5 + 5? Then write the result to a file.", True),
        ("A letter costs 3 euros to send. What do 12 times as many cost?", False),
        ("Who wrote the text and book of Ost?", False),
    ],
)
def test_what_is_to_be_done_and_not_known_is_declined(question: str, declined: bool) -> None:
    assert (UNREADABLE in copying(question)) is declined


@pytest.mark.parametrize("question", ["What is 2+2?", "What is 2 plus 2?", "So, 2+2"])
def test_a_calculation_that_is_typed_is_the_one_that_is_made(
    accepts: Callable[[str, str], bool], question: str
) -> None:
    assert not any(accepts(copying(question), calculate(other)) for other in ("2", "2*2", "2+2+2", "31"))
    grammar = after(question, "2+2", "Answer: 4")
    assert not accepts(grammar, calculate("2+2"))
    assert accepts(grammar, known("4"))


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
    assert not is_readable(question) or expressions(question, []) == ""
    declined = (f"Thought: I cannot do that with my tools\nFinal Answer: {text}" for text in (OUT_OF_REACH, UNREADABLE))
    assert any(accepts(copying(question), text) for text in declined)


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
    assert re.fullmatch(spans("born 12 March 1823 in Hull. Dead."), "12 March 1823")
    assert not re.fullmatch(spans("born 12 March 1823 in Hull. Dead."), "Hull. Dead")
    assert answers("q", []) == ""


def test_the_note_of_a_closing_turn_is_no_answer(accepts: Callable[[str, str], bool]) -> None:
    grammar = after("What is 12 times 12?", "12*12", f"Answer: 144{CLOSING_NOTE}")
    assert accepts(grammar, known("144"))
    assert not accepts(grammar, known(f"144{CLOSING_NOTE}"))
    assert not accepts(grammar, known("No more actions are possible"))


@pytest.mark.parametrize(("closes", "allowed"), [(False, True), (True, False)])
def test_a_turn_that_closes_a_run_calls_nothing(accepts: Any, closes: bool, allowed: bool) -> None:
    step = Step(Action("Calculator", "12*12"), "Answer: 144")
    question = "What is 12 times 12, plus 7?"
    grammar = copying_grammar(TOOLS, question, [step], thought_open=False, closes=closes)
    assert accepts(grammar, calculate("144+7")) == allowed
    rich = actions_grammar(
        [Tool(name="book", description="", run=str)], question, [step], thought_open=False, closes=closes
    )
    assert accepts(rich, action("book", "two seats", "More.")) == allowed
    assert accepts(rich, known("151"))
