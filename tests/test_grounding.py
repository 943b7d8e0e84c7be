"""Answers and what in them stands nowhere."""

from __future__ import annotations

import time

import pytest

from agentkit.react_json.grounding import ungrounded

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
