"""Two recorded runs beside each other: what they were started with, where they part, and the words that changed."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any

from agentkit.report.story import Story, StoryRun, StoryStep
from agentkit.report.wording import ending, input_text
from agentkit.secrets import Secrets

CONTEXT_WORDS = 12
MOST_WORDS = 3_000  # comparing takes the product of both lengths
_WORD = re.compile(r"\s+|\w+|[^\w\s]")

Words = tuple[tuple[bool, str], ...]
"""Stretches of a text, each with whether it changed."""
Texts = tuple[str, str, str]
"""A field's label, and what it holds in both runs."""


@dataclass(frozen=True, slots=True)
class Row:
    """One field of both runs."""

    label: str
    first: Words
    second: Words


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The fields that differ; `parted` is the step from which the runs go their own ways."""

    settings: tuple[Row, ...]
    parted: int | None
    steps: tuple[Row, ...]
    endings: tuple[Row, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs but times, dates and counts of tokens."""
        return not (self.settings or self.steps or self.endings)


def compare(first: Story, second: Story, environment: Mapping[str, str] | None = None) -> Comparison:
    """Compare two cassettes, run by run. Secrets are compared and not shown: two that differ are a difference."""
    secrets = Secrets(os.environ if environment is None else environment)
    steps: list[Texts] = []
    endings: list[Texts] = []
    parted = None
    for number, (one, other) in enumerate(zip_longest(first.runs, second.runs), 1):
        label = f"run {number}, " if max(len(first.runs), len(second.runs)) > 1 else ""
        texts, place = _steps(one, other, label)
        parted = parted or place
        steps += texts
        endings += _changed(_ends(one), _ends(other), label)

    def rows(texts: Iterable[Texts]) -> tuple[Row, ...]:
        return tuple(Row(secrets.scrub_text(label), *changed_words(one, other, secrets)) for label, one, other in texts)

    settings = _changed(_settings(first), _settings(second), "")
    return Comparison(settings=rows(settings), parted=parted, steps=rows(steps), endings=rows(endings))


def _settings(story: Story) -> dict[str, str]:
    if story.spec is None:
        return {"question": "; ".join(run.question for run in story.runs), "model": story.model}
    found = {"question": story.spec.inputs.get("input", "")}
    found |= {**asdict(story.spec.settings), "prompt_text": story.spec.prompt_text}
    return {name: _as_text(value) for name, value in found.items()}


def _as_text(value: Any) -> str:
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    return "" if value in (None, {}) else input_text(value)


def _ends(run: StoryRun | None) -> dict[str, str]:
    if run is None:
        return {}
    return {"answer": input_text(run.output) if run.answered else "", "ended by": ending(run)}


def _steps(first: StoryRun | None, second: StoryRun | None, label: str) -> tuple[list[Texts], int | None]:
    """What differs from the step on where the runs part, and its number."""
    texts: list[Texts] = []
    parted = None
    pairs = zip_longest(first.steps if first else (), second.steps if second else ())
    for number, (one, other) in enumerate(pairs, 1):
        found = _changed(_fields(one), _fields(other), f"{label}step {number}: ")
        if not texts and (prompt := _prompt(one, other)):
            found = [*_changed(*prompt, f"{label}step {number}: "), *found]
        if found:
            parted = parted or number
            texts += found
    return texts, parted


def _fields(step: StoryStep | None) -> dict[str, str]:
    if step is None:
        return {}
    fields = {"thinking": step.thinking, "thought": step.thought}
    if step.rejection is not None:
        fields |= {"not understood": step.text, "told": step.rejection}
    elif step.came_to_nothing:
        fields |= {"wrote": step.text}
    for number, call in enumerate(step.calls, 1):
        which = f" {number}" if len(step.calls) > 1 else ""
        fields[f"action{which}"] = f"{call.tool}({input_text(call.tool_input)})"
        fields[f"observation{which}"] = "" if call.observation is None else input_text(call.observation)
    return fields


def _prompt(first: StoryStep | None, second: StoryStep | None) -> tuple[dict[str, str], dict[str, str]] | None:
    """What the model was asked, where that is the first thing to differ."""
    if first is None or second is None or not first.prompt or not second.prompt or first.prompt == second.prompt:
        return None  # a kept step asked nobody
    return _messages(first), _messages(second)


def _messages(step: StoryStep) -> dict[str, str]:
    found: dict[str, str] = {}
    for role, text in step.prompt:
        number = 1 + sum(name.startswith(f"prompt ({role}") for name in found)
        found[f"prompt ({role})" if number == 1 else f"prompt ({role} {number})"] = text
    return found


def _changed(first: dict[str, str], second: dict[str, str], prefix: str) -> list[Texts]:
    names = [*first, *(name for name in second if name not in first)]
    pairs = ((name, first.get(name, ""), second.get(name, "")) for name in names)
    return [(prefix + name, one, other) for name, one, other in pairs if one != other]


def changed_words(first: str, second: str, secrets: Secrets) -> tuple[Words, Words]:
    """Both texts in stretches that changed and the words around them, without their secrets."""
    (one, first_shown), (other, second_shown) = _words(first, secrets), _words(second, secrets)
    if not one or not other:
        return _whole(first_shown), _whole(second_shown)
    before = _shared(one, other)
    after = _shared(one[before:][::-1], other[before:][::-1])
    blocks = _blocks(one[before : len(one) - after], other[before : len(other) - after])
    left, right = [], []
    if before:
        left.append((False, _context(first_shown[:before], True, False)))
        right.append(left[0])
    for kind, *places in blocks:
        start, end, from_, to = (before + place for place in places)
        if kind == "equal":
            left.append((False, _context(first_shown[start:end], False, False)))
            right.append((False, _context(second_shown[from_:to], False, False)))
        else:
            left.append((True, "".join(first_shown[start:end])))
            right.append((True, "".join(second_shown[from_:to])))
    if after:
        left.append((False, _context(first_shown[-after:], False, True)))
        right.append(left[-1])
    return tuple(_parts(left)), tuple(_parts(right))


def _words(text: str, secrets: Secrets) -> tuple[list[str], list[str]]:
    """A text's words, and what is shown of each; a secret is one word, which is the same or another as a whole."""
    words: list[str] = []
    shown: list[str] = []
    pieces = _WORD.findall(text)
    for piece, clean in zip(pieces, secrets.scrub_pieces(pieces), strict=True):
        if clean:
            words.append(piece)
            shown.append(clean)
        else:
            words[-1] += piece
    return words, shown


def _shared(first: Sequence[str], second: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = zip(first, second, strict=False)
    return next((place for place, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def _blocks(first: Sequence[str], second: Sequence[str]) -> Sequence[tuple[str, int, int, int, int]]:
    if max(len(first), len(second)) > MOST_WORDS:
        return [("replace", 0, len(first), 0, len(second))]
    return difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes()


def _parts(parts: Sequence[tuple[bool, str]]) -> Iterator[tuple[bool, str]]:
    return ((changed, text) for changed, text in parts if text)


def _whole(words: Sequence[str]) -> Words:
    return ((True, "".join(words)),) if words else ()


def _context(words: Sequence[str], first: bool, last: bool) -> str:
    """Unchanged words, less those that are far from a change."""
    kept = CONTEXT_WORDS * 2  # a word and a space
    if len(words) <= kept * 2:
        return "".join(words)
    start = "" if first else "".join(words[:kept]) + " "
    end = "" if last else " " + "".join(words[-kept:])
    return f"{start}…{end}"
