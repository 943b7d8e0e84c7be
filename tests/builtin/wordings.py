"""Which template, if any, could have produced a question."""

from __future__ import annotations

import functools
import itertools
import re

from agentkit.models.builtin.arithmetic import CHOICE, SMALL_WORDS, TENS, wordings
from agentkit.models.builtin.names import load_templates
from agentkit.models.builtin.relations import relations

SPELLED = "|".join([*SMALL_WORDS, *TENS, "hundred", "and"])
NUMBER = rf"(?:\d[\d,.]*|(?:{SPELLED})(?:[ -](?:{SPELLED}))*)"
NAME = r"\S+(?: \S+){0,4}"
NUMBERS = {"a", "b", "c", "d", "s", "s2", "p", "f", "m", "big", "x", "v", "w"}


def expanded(form: str) -> list[str]:
    """The forms that <a;b> choices stand for, at most a few hundred."""
    parts = re.split(CHOICE, form)
    options = [part.split(";") if i % 2 else [part] for i, part in enumerate(parts)]
    return ["".join(choice) for choice in itertools.islice(itertools.product(*options), 300)]


def as_pattern(form: str) -> re.Pattern[str]:
    """A form as a regular expression, slots open, without its brackets and its last mark."""
    pieces = re.split(r"\{(\w+)\}", form.replace("[", "").replace("]", "").rstrip(".?!"))
    return re.compile(
        "".join((NUMBER if piece in NUMBERS else NAME) if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
        + r"\s?[.?!]?",
        re.I,
    )


@functools.cache
def patterns() -> tuple[re.Pattern[str], ...]:
    """Every wording of the templates that has at least one word of its own."""
    forms = set()
    for relation in relations():
        for form in relation.ask:
            for slot, text in relation.slots.items():
                form = form.replace(f"{{{slot}}}", text)
            forms.add(form)
    for group in ("apply", "plain", "story", "stories", "spelled"):
        forms |= {option for form, _ in wordings(group) for option in expanded(form)}
    forms |= {form for line in load_templates("talk")["scope"].strip().split("\n") for form in line.split("|")}
    return tuple(as_pattern(form) for form in forms if re.search(r"[a-z]{2}", re.sub(r"\{\w+\}", "", form)))


def produced(question: str) -> bool:
    """Whether some template gives this question with other names and numbers."""
    return any(pattern.fullmatch(question) for pattern in patterns())
