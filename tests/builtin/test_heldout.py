"""The held-out set: worded by hand, apart from the templates but for a marked share of everyday wordings."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from agentkit import chat_model
from small_model.evaluate import evaluate, table
from small_model.quiz import is_right

from .wordings import produced

FLOORS = {"calculator": 0.75, "search": 0.55, "two": 0.55, "three": 0.5, "recovery": 0.6, "scope": 0.6}


@pytest.mark.slow
def test_only_marked_cases_are_worded_as_a_template(heldout: list[dict[str, Any]]) -> None:
    for case in heldout:
        assert produced(case["question"]) == (case.get("wording") == "everyday"), case["question"]


def test_every_kind_has_enough_cases_without_an_everyday_wording(heldout: list[dict[str, Any]]) -> None:
    counts = Counter(case["kind"] for case in heldout if "wording" not in case)
    assert counts["calculator"] >= 50
    assert counts["search"] >= 40
    assert counts["two"] + counts["three"] >= 50


@pytest.mark.parametrize(
    ("answer", "expected", "right"),
    [
        ("Jane Austen", "jane austen", True),
        ("It was Jane  Austen.", "Jane Austen", True),
        ("Austen", "Jane Austen", False),
        ("3.99", 3.991298452658078, True),
        ("Vittoria Ceretti, 3.9913", 3.991298452658078, True),
        ("1,234", 1234, True),
        ("12", 13, False),
        ("17, 2.57", 17, False),
        ("2,940", "94", False),
        ("19.", "19", True),
        ("an oboist", "oboe", False),
        ("", 0, False),
    ],
)
def test_what_is_right(answer: str, expected: str | float, right: bool) -> None:
    assert is_right(answer, expected) is right


@pytest.mark.slow
def test_the_live_loop_answers_a_fixed_sample(heldout: list[dict[str, Any]]) -> None:
    """Every sixth case through the real executor; the floors leave room for other machines' arithmetic."""
    outcomes = list(evaluate(chat_model("builtin"), heldout[::6]))
    for kind, (right, count) in table(outcomes).items():
        assert right >= FLOORS[kind] * count - 1, kind
    assert not any(outcome.ungrounded for outcome in outcomes)
