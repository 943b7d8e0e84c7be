"""Which template, if any, could have produced a question."""

from __future__ import annotations

import functools
import itertools
import re

from agentkit.number_words import SMALL, TENS
from small_model.arithmetic import CHOICE, wordings
from small_model.names import load_templates
from small_model.relations import relations

SPELLED = "|".join([*SMALL, *TENS, "hundred", "and"])
NUMBER = rf"(?:\d[\d,.]*|(?:{SPELLED})(?:[ -](?:{SPELLED}))*)"
NAME = r"\S+(?: \S+){0,4}"
NUMBERS = {"a", "b", "c", "d", "s", "s2", "p", "f", "m", "big", "x", "v", "w"}


def expanded(form: str) -> list[str]:
    """The forms that <a;b> choices stand for, at most a few hundred."""
    parts = re.split(CHOICE, form)
    options = [part.split(";") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.islice(itertools.product(*options), 300)]


@functools.cache
def as_pattern(form: str) -> re.Pattern[str]:
    """A form as a regular expression, slots open, without its brackets and its last mark."""
    pieces = re.split(r"\{(\w+)\}", form.replace("[", "").replace("]", "").rstrip(".?!"))
    return re.compile(
        "".join((NUMBER if piece in NUMBERS else NAME) if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
        + r"\s?[.?!]?",
        re.I,
    )


@functools.cache
def worded_forms() -> tuple[tuple[str, str], ...]:
    """Every wording of the templates with a word of its own, after the longest text between its slots."""
    forms = set()
    for relation in relations():
        for form in relation.ask:
            for slot, text in relation.slots.items():
                form = form.replace(f"{{{slot}}}", text)
            forms.add(form)
    for group in ("apply", "plain", "story", "stories", "spelled"):
        forms |= {option for form, _ in wordings(group) for option in expanded(form)}
    forms |= {form for line in load_templates("talk")["scope"].strip().split("\n") for form in line.split("|")}
    worded = [form for form in forms if re.search(r"[a-z]{2}", re.sub(r"\{\w+\}", "", form))]
    return tuple((longest_text(form), form) for form in worded)


def longest_text(form: str) -> str:
    """What stands in every question of the form, in lower case: what lacks it need not be matched."""
    return max(re.split(r"\{\w+\}|[\[\].?!]", form), key=len).lower()


def produced(question: str) -> bool:
    """Whether some template gives this question with other names and numbers."""
    lower = question.lower()
    return any(text in lower and as_pattern(form).fullmatch(question) for text, form in worded_forms())
