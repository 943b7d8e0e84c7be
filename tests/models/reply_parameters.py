"""Parameters of a reply that say something about each other, given with the model and with a call, and what they mean.

Both kinds of models in this process are held to the same table.
"""

from __future__ import annotations

from typing import Any

GREEDY, DRAWN = "greedy", "drawn"

NARROWING = [
    ("top_p", 1.0),
    ("top_p", 0.9),
    ("top_k", 0),
    ("top_k", 50),
    ("min_p", 0),
    ("min_p", 0.1),
    ("typical_p", 1),
]

OUTCOMES: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({}, {}, GREEDY),
    ({}, {"temperature": 0}, GREEDY),
    ({"temperature": 0}, {}, GREEDY),
    ({}, {"do_sample": False}, GREEDY),
    ({}, {"temperature": 0, "top_p": 0.9}, GREEDY),
    ({}, {"do_sample": False, "top_k": 7, "temperature": 1.0}, GREEDY),
    ({}, {"do_sample": True, "temperature": 0}, GREEDY),  # as bind(do_sample=True).bind(temperature=0) gives them
    ({}, {"temperature": 2.0}, DRAWN),
    ({}, {"temperature": 2, "repetition_penalty": 1, "top_p": 1}, DRAWN),
    ({}, {"do_sample": True}, DRAWN),
    ({}, {"do_sample": True, "temperature": 2.0, "top_p": 0.99}, DRAWN),
    # what only narrows a draw makes none
    *(({}, {name: value}, GREEDY) for name, value in NARROWING),
    *(({name: value}, {}, GREEDY) for name, value in NARROWING),
    # what is said last counts
    ({"do_sample": True}, {"temperature": 0}, GREEDY),
    ({"do_sample": True, "temperature": 2.0}, {"temperature": 0}, GREEDY),
    ({"temperature": 2.0}, {"do_sample": False}, GREEDY),
    ({"temperature": 0}, {"do_sample": True}, DRAWN),
    ({"do_sample": False}, {"temperature": 2.0}, DRAWN),
    ({"top_p": 0.99}, {"temperature": 2.0}, DRAWN),
]
"""With the model, with the call, and how tokens are chosen."""

REFUSED: list[tuple[dict[str, Any], str]] = [
    (
        {"do_sample": False, "temperature": 0.8},
        "do_sample=False draws no tokens, and temperature=0.8 says otherwise; leave one of them out",
    ),
]
"""What contradicts itself, with the model or with the call."""
