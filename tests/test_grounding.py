"""Answers and what in them stands nowhere."""

from __future__ import annotations

import time
from typing import Any

import pytest

from agentkit import AgentExecutor
from agentkit.errors import ToolError
from agentkit.models.scripted import ScriptedBackend
from agentkit.react_json.grounding import confirming, ungrounded

AGE = "Who is Leo's girlfriend? What is her age raised to the 0.43 power?"
POWER = "Answer: 3.991298452658078"


@pytest.mark.parametrize(
    ("answer", "question", "observations", "strange"),
    [
        ("3.991298452658078", AGE, [POWER], ()),
        ("about 3.99", AGE, [POWER], ()),
        ("It is 4.0.", AGE, [POWER], ()),
        ("It is 4.", AGE, [POWER], ()),
        ("3.98", AGE, [POWER], ("3.98",)),
        ("42", "What is it?", [], ("42",)),
        ("0.43", AGE, [], ()),
        (".43", AGE, [], ()),
        ("1234", "q", ["There are 1,234 of them."], ()),
        ("1,234", "q", ["Answer: 1234"], ()),
        ("1,200", "q", ["Answer: 1234"], ("1,200",)),
        ("1,230", "q", ["Answer: 1234"], ()),
        ("12,345,678", "q", ["population 12345678"], ()),
        ("12.3 million", "q", ["population 12.34 million"], ()),
        ("-5", "q", ["Answer: -5"], ()),
        ("5", "How much less?", ["Answer: -5"], ()),
        ("3", "q", ["They have three children."], ()),
        ("2024-01-02", "q", ["It was opened on 2 January 2024."], ()),
        ("2024-03-02", "q", ["It was opened on 2 January 2024."], ("03",)),
        ("On January 2, 2024", "q", ["opened: 2024-01-02"], ()),
        ("In March 2024", "q", ["opened: 2024-01-02"], ("March",)),
        ("2024-01-02T17:00:00Z", "q", ["2 January 2024, 17:00"], ()),
        ("1e+20", "q", ["Answer: 1e+20"], ()),
        ("2000", "q", ["Answer: 1999.6"], ()),
        ("10", "q", ["Answer: 9.96"], ()),
        ("0", "q", ["Answer: 0"], ()),
        ("0", "q", ["Answer: 12"], ("0",)),
        ("Jane Austen", "Who wrote it?", ["a novel by Jane Austen"], ()),
        ("JANE AUSTEN", "Who wrote it?", ["a novel by Jane Austen"], ()),
        ("Jane Austen", "Who wrote it?", ["a novel by jane austen"], ()),
        ("Emily Bronte", "Who wrote it?", ["a novel by Jane Austen"], ("Emily Bronte",)),
        ("The author is Emily Bronte.", "Who wrote it?", ["Jane Austen"], ("Emily Bronte",)),
        ("Jane Bronte", "Who wrote it?", ["Jane Austen"], ("Bronte",)),
        ("Paris", "What is the capital?", [], ("Paris",)),
        ("Leo's girlfriend is Vittoria Ceretti.", AGE, ["Vittoria Ceretti, 25"], ()),
        ("Unfortunately that is unknown.", "q", [], ()),
        ("I can only calculate and look things up.", "Hello", [], ()),
        ("I could not find the answer.", "q", ["No good search result found"], ()),
        ("It was Monday. Nobody came.", "q", [], ("Monday",)),
        ("She was born in Łódź in 1951.", "q", ["born 1951 in Łódź, Poland"], ()),
        ("Jean-Luc Picard", "q", ["Captain Jean-Luc Picard"], ()),
        ("O’Neill", "q", ["by Eugene O'Neill"], ()),
        ("NASA did.", "Who did?", [], ("NASA",)),
        ("Rome, 1951 and Rome", "q", [], ("Rome", "1951")),
        ("", "q", [], ()),
    ],
)
def test_what_stands_nowhere(answer: str, question: str, observations: list[str], strange: tuple[str, ...]) -> None:
    assert ungrounded(answer, question, observations) == strange


@pytest.mark.slow
def test_long_texts_take_linear_time() -> None:
    """A megabyte of digits, commas and capitals is read in one pass (a quadratic one would take hours)."""
    hostile = "1,234,567 A'b-C " * 60_000 + "9" * 100_000
    begun = time.process_time()
    ungrounded("X" * 100_000 + " 1" * 10_000, hostile, [hostile])
    assert time.process_time() - begun < 60


@pytest.mark.parametrize(
    ("question", "calculation", "confirms"),
    [
        ("What is 25 raised to the 0.43 power?", "25^0.43", True),
        ("What is 12:30 minus 10:45?", "12.30-10.45", False),
        ("What is 3,5 * 2?", "3.5*2", True),
        ("What is 1 000 000 / 4?", "1000000/4", True),
        ("What is 1 000 000 / 4?", "10000000/4", False),
        ("What is 1,234 times 2?", "1234*2", True),
        ("What is 20 % of 50?", "0.2*50", True),
        ("What is 17% of 340?", "17/100*340", True),
        ("What is 17% of 340?", "0.17*340", True),
        ("What is the sum of 12 100 and 3?", "12100+3", True),
        ("What is half of 90?", "90/2", True),
        ("How many minutes are in 7 hours?", "7*60", True),
        ("What is seventeen plus four?", "17+4", True),
        ("What is his age squared?", "41^2", False),
        ("How long is 26 miles in km?", "26*1.60934", False),
        ("How many are left of 80?", {"expression": "80 - 31"}, False),
        ("How many are left of 80?", {"a": "80", "b": "31"}, True),
        ("How old is Ann?", "Ann age", True),
        ("What is 9 to the 9?", "pow(9, 9)", True),
    ],
)
def test_a_calculation_with_a_number_from_nowhere_confirms_nothing(
    question: str, calculation: object, confirms: bool
) -> None:
    assert confirming(question, [(calculation, "Answer: 7")]) == ["Answer: 7"] * confirms


def test_a_number_of_an_observation_stands_somewhere() -> None:
    steps = [
        ("Ann's age", "Ann is 41."),
        ("41^2", "Answer: 1681"),
        ("1681-1", "Answer: 1680"),
        ("1680+33", "Answer: 1713"),
    ]
    assert confirming("What is Ann's age squared, less 1?", steps) == ["Ann is 41.", "Answer: 1681", "Answer: 1680"]


def test_an_answer_calculated_from_nowhere_is_marked() -> None:
    turns = [
        'Thought: I calculate.\nAction:\n```json\n{"action": "calculator", "action_input": "12.30-10.45"}\n```',
        "Thought: I now know the final answer\nFinal Answer: 1.85",
    ]
    executor = AgentExecutor.from_model(ScriptedBackend(turns), ["calculator"], return_run=True)
    assert executor.invoke({"input": "What is 12:30 minus 10:45?"})["run"]["ungrounded"] == ("1.85",)


SUN = "Who wrote Faust? Is the moon bigger than the sun?"


def after_a_look(query: str, answer: str, **options: Any) -> Any:
    """The run of a model that looks this up and answers; only the moon is found."""

    def look_up(query: str) -> str:
        """Looks facts up."""
        if query == "moon":
            return "The moon is smaller."
        raise ToolError("Error: the web could not be reached")

    turns = [
        f'Thought: I look.\nAction:\n```json\n{{"action": "look_up", "action_input": "{query}"}}\n```',
        f"Thought: I now know the final answer\nFinal Answer: {answer}",
    ]
    executor = AgentExecutor.from_model(ScriptedBackend(turns), [look_up], return_run=True, **options)
    return executor.invoke({"input": SUN})["run"]


@pytest.mark.parametrize("answer", ["Faust", "It is about the moon.", "yes"])
def test_an_answer_after_nothing_but_errors_is_confirmed_by_none(answer: str) -> None:
    assert after_a_look("Faust", answer)["ungrounded"] == (answer,)
    assert after_a_look("moon", answer)["ungrounded"] == ()
    assert after_a_look("Faust", answer, must_be_grounded=True)["stop_reason"] == "not_grounded"


@pytest.mark.parametrize(
    "answer",
    ["I could not find it.", "Sorry, the web is down.", "It couldn't be reached, so I don’t know.", "The tool failed."],
)
def test_an_answer_that_says_that_there_is_none_is_no_claim(answer: str) -> None:
    run = after_a_look("Faust", answer, must_be_grounded=True)
    assert (run["stop_reason"], run["ungrounded"]) == ("answer", ())


def test_a_tool_that_did_not_run_makes_nothing_doubtful() -> None:
    run = after_a_look("moon", "ok, I did not look", approve=lambda *_: False)
    assert (run["tools_executed"], run["ungrounded"]) == (0, ())
